//! Servers as the commands ask them: flags and environment in, an engine and advice out.

use std::time::Duration;

use anyhow::Result;
use infer::engine::EngineError;
use infer::generation::GenerationError;
use infer::remote::{Key, RemoteEngine, RemoteError, RemoteSettings};
use infer::units::UnfitError;
use protocol::Vocab;
use serde::{Deserialize, Serialize};

use crate::cli::ServerArgs;
use crate::fault::Fault;
use crate::interrupt;
use crate::output::{Output, count};

/// Holds the key that servers ask for.
const KEY: &str = "LEAP_API_KEY";

/// What servers serve; part of a recipe.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Served {
    /// Name of the model, as servers list it.
    pub(crate) model: String,
    /// The longest path in tokens.
    pub(crate) positions: usize,
}

/// Refuses a call without servers.
///
/// # Errors
/// With how to name one.
pub(crate) fn are_named(args: &ServerArgs) -> Result<()> {
    match args.servers.is_empty() {
        true => Err(advised(&RemoteError::NoServer)),
        false => Ok(()),
    }
}

/// Refuses servers for a recipe whose answers come from elsewhere: they would be passed over. `part` is
/// the table that names the engine.
///
/// # Errors
/// With the keys that make servers the engine.
pub(crate) fn are_not_named(args: &ServerArgs, part: &str) -> Result<()> {
    match args.servers.is_empty() {
        true => Ok(()),
        false => Err(Fault::new(
            format!("--server is given, but the recipe's `{part}.engine` is not \"remote\""),
            format!(
                "who answers is part of the recipe: {part}.engine=remote {part}.remote.model=NAME \
                 {part}.remote.positions=N, with the name as servers list it and the longest path in \
                 tokens; or leave --server out"
            ),
        )
        .into()),
    }
}

/// Asks servers what they can do, and tells it.
///
/// # Errors
/// If none can be used; with advice.
pub(crate) fn open<'v>(
    args: &ServerArgs,
    model: Option<&str>,
    positions: Option<usize>,
    vocab: &'v dyn Vocab,
    output: &mut Output,
) -> Result<RemoteEngine<'v>> {
    let key = std::env::var(KEY).ok().filter(|key| !key.is_empty());
    let settings = RemoteSettings {
        key: key.map(Key::new),
        model: model.map(str::to_owned),
        positions,
        in_flight: args.in_flight,
        tries: args.tries,
        answer: Duration::from_secs(args.timeout.max(1)),
        patience: Duration::from_secs(args.patience),
        stop: interrupt::asked,
        ..RemoteSettings::of(args.servers.clone())
    };
    let engine = RemoteEngine::open(settings, vocab).map_err(|error| advised(&error))?;
    let there = engine.servers();
    let up = there.iter().filter(|(_, up, _)| *up).count();
    let of = count(there.len(), "server");
    output.step(
        "Servers",
        &format!(
            "{up} of {of}: {}, {}",
            engine.model(),
            engine.able().words()
        ),
    );
    for (url, _, _) in there.iter().filter(|(_, up, _)| !up) {
        output.step("Waiting", &format!("for {url}"));
    }
    Ok(engine)
}

/// A failure of a generation, with advice where the servers are the reason.
pub(crate) fn explained(error: GenerationError) -> anyhow::Error {
    match &error {
        GenerationError::Engine(EngineError::Remote(remote)) => advised(remote),
        GenerationError::Unfit(unfit) => self::unfit(unfit),
        GenerationError::Elsewhere { .. } => Fault::new(
            error.to_string(),
            "groups that have begun go on where they began: take servers of that kind, or begin anew \
             with another --out",
        )
        .into(),
        GenerationError::Unserved { .. } => Fault::new(
            error.to_string(),
            "everything that was said is kept, and the same command asks again; with --drop-failed such \
             paths leave their groups, and the rest is finished",
        )
        .into(),
        _ => error.into(),
    }
}

/// Problems that do not fit, with what to do about them.
pub(crate) fn unfit(error: &UnfitError) -> anyhow::Error {
    Fault::new(
        error.to_string(),
        "nothing was asked. Take these problems out of the file, or give paths more room: `positions` \
         of a model behind servers, as many as they hold",
    )
    .into()
}

/// A failure of servers, with what to do about it.
pub(crate) fn advised(error: &RemoteError) -> anyhow::Error {
    let text = error.to_string();
    let hint = match error {
        RemoteError::NoServer => "name one: --server http://HOST:PORT",
        RemoteError::Url { .. } => "an address is such as http://10.0.0.1:8000",
        RemoteError::Unusable { .. } if text.contains("status 401") => {
            "the key that servers ask for is taken from LEAP_API_KEY"
        }
        RemoteError::Unusable { .. } => {
            "is the server running, and does it serve the model? `curl URL/v1/models` shows it"
        }
        RemoteError::Tokenizer { .. } => {
            "the folder with the tokenizer must be that of the model that is served"
        }
        RemoteError::Unlike { .. } => "servers of one call run the same program on the same model",
        RemoteError::Positions { .. } => {
            "start the server with a longer context (--max-model-len of vLLM), or ask for shorter \
             paths"
        }
        RemoteError::Sampling { .. } => "set it to 0, or take a server that heeds it",
        RemoteError::Lost { .. }
            if ["status 401", "status 403"]
                .iter()
                .any(|it| text.contains(it)) =>
        {
            "everything that was said is kept: the same command continues with a key that servers \
             take, in LEAP_API_KEY"
        }
        RemoteError::Lost { .. } => {
            "everything that was said is kept: the same command continues when a server is there"
        }
        RemoteError::Capped { .. } => {
            "let the server write as much as it is asked for, and hold texts as long as `positions` \
             says; or ask for less at a time (protocol.turn_tokens, summary_tokens, answer_tokens; \
             without exchange max_tokens)"
        }
        RemoteError::Setting { .. }
        | RemoteError::Authorities { .. }
        | RemoteError::Template(_)
        | RemoteError::Thread(_) => return anyhow::anyhow!(text),
    };
    Fault::new(text, hint).into()
}
