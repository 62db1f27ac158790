//! Asks a server what it can do, with a handful of short completions.

use std::time::Duration;

use protocol::{Sampling, Stop, Vocab};
use serde::Deserialize;

use super::able::{Able, Dialect, Extras, Prompts, Stops};
use super::failure::{Class, Failure};
use super::http::Caller;
use super::judge::is_spoken;
use super::wire::{self, Ask, Ended, Reply};
use super::{RemoteError, RemoteSettings};

/// Tokens of one question.
const TOKENS: usize = 12;
/// What is asked; a model has something to say to it.
const QUESTION: &str = "Count from one to twenty in words.";
/// How long an answer of a few tokens may take: a server may have to read its weights first.
const LONGEST: Duration = Duration::from_secs(120);

/// What is asked of a server that is to be known.
#[derive(Clone, Debug)]
pub(super) struct Kit {
    ids: Vec<u32>,
    text: String,
    /// The text without its first token, for servers that put one of their own there.
    rest: String,
    eos: Vec<u32>,
}

/// A server that answers, and what it can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) model: String,
    pub(super) able: Able,
    /// The longest text, where the server tells.
    pub(super) positions: Option<usize>,
    /// What it said to the question: ids, if it told them, and text.
    pub(super) said: (Option<Vec<u32>>, String),
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    #[serde(default)]
    owned_by: String,
    #[serde(default)]
    max_model_len: Option<usize>,
}

/// llama.cpp tells its longest text elsewhere.
#[derive(Deserialize)]
struct Props {
    default_generation_settings: PropsSettings,
}

#[derive(Deserialize)]
struct PropsSettings {
    n_ctx: usize,
}

impl Kit {
    /// # Errors
    /// If the chat template refuses a message.
    pub(super) fn new(vocab: &dyn Vocab) -> Result<Self, RemoteError> {
        let prompt = vocab.prompt(QUESTION).map_err(RemoteError::Template)?;
        Ok(Self {
            text: vocab.text(&prompt.ids),
            rest: vocab.text(prompt.ids.get(1..).unwrap_or_default()),
            ids: prompt.ids,
            eos: vocab.eos().to_vec(),
        })
    }

    fn ask(&self, able: &Able, sampling: Sampling, seed: u32, stop: Vec<String>) -> Ask {
        let text = match able.prompts {
            Prompts::Ids => None,
            Prompts::Text { adds_begin: true } => Some(self.rest.clone()),
            Prompts::Text { adds_begin: false } => Some(self.text.clone()),
        };
        Ask {
            ids: self.ids.clone(),
            text,
            sampling,
            stop: Stop {
                strings: stop,
                eos: self.eos.clone(),
            },
            max_tokens: TOKENS,
            seed,
        }
    }
}

/// Whether the ids that a server tells are those of this vocabulary.
pub(super) fn speaks(known: &Known, vocab: &dyn Vocab) -> bool {
    match &known.said {
        (Some(ids), text) => is_spoken(ids, text, vocab),
        (None, _) => true,
    }
}

/// Finds out which model a server serves, and what it can do.
pub(super) fn probe(base: &str, kit: &Kit, settings: &RemoteSettings) -> Result<Known, Failure> {
    ask(base, kit, settings).map_err(|failure| failure.told(settings.key.as_ref()))
}

fn ask(base: &str, kit: &Kit, settings: &RemoteSettings) -> Result<Known, Failure> {
    let longest = LONGEST.min(settings.answer);
    let mut caller = Caller::with_time(settings, longest)
        .map_err(|error| Failure::new(Class::Refused, error.to_string()))?;
    let (model, owner, mut positions) = model(base, settings, &mut caller)?;
    let dialect = match owner.as_str() {
        "vllm" => Dialect::Vllm,
        "sglang" => Dialect::Sglang,
        "llamacpp" => Dialect::LlamaCpp,
        _ => Dialect::OpenAi,
    };
    if dialect == Dialect::LlamaCpp {
        let props = caller.get(&format!("{base}/props"));
        let props = props.and_then(|answer| Ok(answer.good()?.to_vec())).ok();
        let props: Option<Props> = props.and_then(|body| serde_json::from_slice(&body).ok());
        positions = props.map(|props| props.default_generation_settings.n_ctx);
    }
    let mut probe = Probe {
        base,
        model: &model,
        kit,
        caller,
        body: Vec::new(),
    };
    let (mut able, first) = probe.first(dialect)?;
    probe.refine(&mut able, &first)?;
    Ok(Known {
        model,
        able,
        positions,
        said: (first.ids, first.text),
    })
}

/// Whether a server that was lost is there again, with this model.
pub(super) fn is_back(base: &str, model: &str, caller: &mut Caller) -> bool {
    let health = caller.get(&format!("{base}/health"));
    // Some servers have no such page.
    let healthy = health.is_ok_and(|answer| matches!(answer.status, 200..=299 | 404));
    healthy && models(base, caller).is_ok_and(|found| found.iter().any(|it| it.id == model))
}

fn models(base: &str, caller: &mut Caller) -> Result<Vec<Model>, Failure> {
    let answer = caller.get(&format!("{base}/v1/models"))?;
    let models: Models = serde_json::from_slice(answer.good()?).map_err(|error| {
        let text = format!("what it answers at /v1/models is no list of models: {error}");
        Failure::new(Class::Unreadable, text)
    })?;
    Ok(models.data)
}

/// The model that is asked: its name, whose server it is, and its longest text.
fn model(
    base: &str,
    settings: &RemoteSettings,
    caller: &mut Caller,
) -> Result<(String, String, Option<usize>), Failure> {
    let mut found = models(base, caller)?;
    let names: Vec<String> = found.iter().map(|model| model.id.clone()).collect();
    let names = names.join("`, `");
    let refused = |text: String| Err(Failure::new(Class::Refused, text));
    let place = match &settings.model {
        Some(name) => match found.iter().position(|model| model.id == *name) {
            Some(place) => place,
            None => return refused(format!("it serves `{names}`, and not `{name}`")),
        },
        None if found.len() == 1 => 0,
        None => return refused(format!("it serves `{names}`: one of them has to be named")),
    };
    let Model {
        id,
        owned_by,
        max_model_len,
    } = found.swap_remove(place);
    Ok((id, owned_by.to_lowercase(), max_model_len))
}

struct Probe<'a> {
    base: &'a str,
    model: &'a str,
    kit: &'a Kit,
    caller: Caller,
    body: Vec<u8>,
}

const WARM: Sampling = Sampling {
    temperature: 1.5,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
};

impl Probe<'_> {
    fn send(&mut self, ask: &Ask, able: &Able) -> Result<Reply, Failure> {
        wire::write(&mut self.body, ask, self.model, able);
        let url = format!("{}{}", self.base, able.dialect.path());
        let answer = self.caller.post(&url, &self.body)?;
        wire::read(answer.good()?, able.dialect)
    }

    /// The most that the server accepts, and what it answers to that.
    fn first(&mut self, dialect: Dialect) -> Result<(Able, Reply), Failure> {
        let text = Prompts::Text { adds_begin: false };
        let mut steps = vec![
            (dialect, Prompts::Ids, Extras::All),
            (dialect, Prompts::Ids, Extras::Ranks),
            (dialect, text, Extras::All),
            (dialect, text, Extras::Ranks),
            (dialect, text, Extras::None),
        ];
        if dialect == Dialect::LlamaCpp {
            steps.splice(1..2, [(Dialect::OpenAi, Prompts::Ids, Extras::All)]);
        }
        let mut refusal = None;
        for (dialect, prompts, extras) in steps {
            let mut able = Able {
                dialect,
                prompts,
                tells_ids: false,
                stops: Stops::Kept,
                extras,
                temperature: true,
                top_k: false,
                min_p: false,
                seed: false,
            };
            let ask = self.kit.ask(&able, Sampling::GREEDY, 1, Vec::new());
            match self.send(&ask, &able) {
                Ok(reply) => {
                    able.tells_ids = reply.ids.is_some();
                    able.prompts = self.counted(prompts, &reply)?;
                    return Ok((able, reply));
                }
                Err(failure) if matches!(failure.class, Class::Refused | Class::Denied) => {
                    refusal.get_or_insert(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(refusal.unwrap_or_else(|| Failure::new(Class::Refused, "nothing could be asked")))
    }

    /// Whether the server read as many tokens as it was sent.
    fn counted(&self, prompts: Prompts, reply: &Reply) -> Result<Prompts, Failure> {
        let sent = self.kit.ids.len();
        let Some(read) = reply.prompt_tokens else {
            return Ok(prompts);
        };
        match prompts {
            _ if read == sent => Ok(prompts),
            Prompts::Text { .. } if read == sent + 1 => Ok(Prompts::Text { adds_begin: true }),
            _ => Err(Failure::new(
                Class::WrongIds,
                format!(
                    "it counts {read} tokens in a prompt of {sent}: it reads text with another \
                     tokenizer"
                ),
            )),
        }
    }

    /// Finds out what no status tells: how stops come back, and which settings are heeded.
    fn refine(&mut self, able: &mut Able, greedy: &Reply) -> Result<(), Failure> {
        self.stops(able, greedy)?;
        if able.extras != Extras::None {
            // Where one token is left to choose from, warmth changes nothing.
            let one = Sampling { top_k: 1, ..WARM };
            able.top_k = self.is_greedy(able, one, greedy)?;
            let best = Sampling {
                min_p: 0.999,
                ..WARM
            };
            able.min_p = self.is_greedy(able, best, greedy)?;
        }
        let warm = self.say(able, WARM, 7)?;
        able.seed = warm == self.say(able, WARM, 7)?;
        able.temperature = warm != greedy.text || self.is_warm(able, greedy)?;
        Ok(())
    }

    /// Whether heat changes what it says. Not even a model that is sure of every word says the same at
    /// such a temperature; a server that takes none can not be found out.
    fn is_warm(&mut self, able: &Able, greedy: &Reply) -> Result<bool, Failure> {
        let hot = Sampling {
            temperature: 10.0,
            ..WARM
        };
        for seed in [8, 9] {
            match self.say(able, hot, seed) {
                Ok(text) if text == greedy.text => {}
                Ok(_) => return Ok(true),
                Err(failure) if failure.class == Class::Refused => return Ok(true),
                Err(failure) => return Err(failure),
            }
        }
        Ok(false)
    }

    /// Whether it says the same as without warmth. Asked twice, because where two tokens are equally
    /// good, what else is computed at the time can decide.
    fn is_greedy(
        &mut self,
        able: &Able,
        sampling: Sampling,
        greedy: &Reply,
    ) -> Result<bool, Failure> {
        Ok(self.say(able, sampling, 1)? == greedy.text
            || self.say(able, sampling, 2)? == greedy.text)
    }

    fn say(&mut self, able: &Able, sampling: Sampling, seed: u32) -> Result<String, Failure> {
        let ask = self.kit.ask(able, sampling, seed, Vec::new());
        Ok(self.send(&ask, able)?.text)
    }

    fn stops(&mut self, able: &mut Able, greedy: &Reply) -> Result<(), Failure> {
        // Some letters out of the middle of what it says by itself.
        let said: Vec<char> = greedy.text.chars().collect();
        let from = said.len() / 2;
        let stop: String = said.iter().skip(from).take(3).collect();
        if stop.trim().is_empty() {
            able.stops = match able.tells_ids {
                true => Stops::Kept,
                false => Stops::Ours,
            };
            return Ok(());
        }
        let ask = self.kit.ask(able, Sampling::GREEDY, 1, vec![stop.clone()]);
        let reply = self.send(&ask, able)?;
        let named = reply.ended == Ended::Stop(Some(stop.clone()));
        able.stops = match (reply.text.contains(&stop), named) {
            (true, _) => Stops::Kept,
            (false, true) => Stops::Named,
            // Ids can hold it where the text does not.
            (false, false) if self.ids_hold(&stop, &reply, able)? => Stops::Kept,
            (false, false) => Stops::Ours,
        };
        Ok(())
    }

    /// Whether the ids of an answer hold what its text does not: what the server shows of so many
    /// ids without a stop string says so.
    fn ids_hold(&mut self, stop: &str, reply: &Reply, able: &Able) -> Result<bool, Failure> {
        let Some(ids) = reply.ids.as_ref().filter(|ids| !ids.is_empty()) else {
            return Ok(false);
        };
        let mut ask = self.kit.ask(able, Sampling::GREEDY, 1, Vec::new());
        ask.max_tokens = ids.len();
        let again = self.send(&ask, able)?;
        Ok(again.ids.as_ref() == Some(ids) && again.text.contains(stop))
    }
}
