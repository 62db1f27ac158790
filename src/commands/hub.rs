//! What commands that ask a hub share: progress, advice for what it can answer, and tables of data
//! sets.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Result;
use model::hub::{self, Client, Event, HubError, Kind, PullSettings, Repo, Revision};

use crate::fault::Fault;
use crate::interrupt;
use crate::output::{Output, Progress, size};

/// Tells people what happens between here and a hub.
pub(crate) struct Teller<'a> {
    output: &'a mut Output,
    verb: &'static str,
    file: Option<(String, u64, Progress)>,
}

impl<'a> Teller<'a> {
    pub(crate) fn new(output: &'a mut Output, verb: &'static str) -> Self {
        Self {
            output,
            verb,
            file: None,
        }
    }

    /// Hears what happens, and says whether to go on.
    pub(crate) fn hear(&mut self, event: Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Bytes { name, done, of } => {
                let same = self.file.as_ref().is_some_and(|(known, ..)| known == name);
                if !same {
                    let progress = self.output.progress(self.verb, name);
                    self.file = Some((name.to_owned(), of, progress));
                }
                if let Some((_, _, progress)) = &mut self.file {
                    progress.show(done / 1_000, of.div_ceil(1_000), "kB", "");
                }
            }
            Event::Whole { name } => {
                if let Some((_, bytes, progress)) =
                    self.file.take().filter(|(known, ..)| known == name)
                {
                    progress.finish(&size(bytes));
                }
            }
            Event::Again { problem, after, .. } => {
                let seconds = after.as_secs_f64();
                let text = format!("warning: {problem}; tried again in {seconds:.1} s");
                self.output.note(&text);
            }
            Event::Waiting => {}
        }
        match interrupt::asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// The files with tables of the data set `name`, fetched where they are not there yet; `include` are
/// patterns, none for all. `None` if it was stopped.
///
/// # Errors
/// If the hub does not give them, or there is none.
pub(crate) fn tables(
    name: &str,
    include: Vec<String>,
    output: &mut Output,
) -> Result<Option<Vec<PathBuf>>> {
    let (repo, revision) = Repo::parse(name, Kind::Dataset).map_err(fault)?;
    let folder = PathBuf::from("datasets").join(repo.short());
    let settings = PullSettings {
        repo,
        revision: revision.unwrap_or_else(Revision::main),
        folder: folder.clone(),
        include,
    };
    let client = Client::from_environment().map_err(fault)?;
    let mut teller = Teller::new(output, "Checking");
    let pulled = hub::plan(&client, &settings, &mut |event| teller.hear(event)).and_then(|plan| {
        let names = plan.fetch.iter().map(|file| file.name.clone());
        let names: Vec<String> = names
            .chain(plan.there.iter().map(|f| f.name.clone()))
            .collect();
        hub::pull(&client, plan, &mut |event| teller.hear(event)).map(|_| names)
    });
    let mut names = match pulled {
        Ok(names) => names,
        Err(HubError::Stopped) => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    names.retain(|name| is_table(Path::new(name)));
    names.sort();
    if names.is_empty() {
        return Err(Fault::new(
            format!("`{name}` has no file that holds a table"),
            "`problems.files=PATTERN` (`--pattern` of `leap data-gen problems`) says which of its \
             files to take",
        )
        .into());
    }
    Ok(Some(
        names.into_iter().map(|name| folder.join(name)).collect(),
    ))
}

fn is_table(path: &Path) -> bool {
    let endings = ["jsonl", "json", "csv", "tsv", "parquet"];
    path.extension()
        .is_some_and(|ending| endings.iter().any(|known| ending == *known))
}

/// What to do about a hub's refusal, or a folder that stands in the way.
pub(crate) fn fault(error: HubError) -> anyhow::Error {
    let hint = match &error {
        HubError::Endpoint { .. } => {
            "HF_ENDPOINT is the hub's address, such as https://huggingface.co".to_owned()
        }
        HubError::Token { .. } => {
            "set HF_TOKEN to a token of the hub, or to nothing for none".to_owned()
        }
        HubError::PlainToken { .. } => {
            "use an https address in HF_ENDPOINT, or set HF_TOKEN to nothing".to_owned()
        }
        HubError::Offline => "unset HF_HUB_OFFLINE to use the network".to_owned(),
        HubError::Repo { .. } | HubError::Revision { .. } => {
            "a repository is OWNER/NAME, with @REVISION behind it if wanted".to_owned()
        }
        HubError::Pattern { .. } => {
            "`*` stands for any text, `?` for one character, `[ab]` for one of these".to_owned()
        }
        HubError::Unreachable { problem, .. } if problem.contains("certificate") => {
            "who the hub is cannot be told: if this network has an authority of its own, name its \
             PEM file in SSL_CERT_FILE"
                .to_owned()
        }
        HubError::Roots { .. } => {
            "SSL_CERT_FILE names a PEM file with certificates of authorities".to_owned()
        }
        HubError::Unreachable { .. } => "check the network, and HF_ENDPOINT if the hub is another \
             one; the same command continues"
            .to_owned(),
        HubError::Busy { status: 429, .. } => {
            "the hub counts requests: wait some minutes, or set HF_TOKEN; the same command continues"
                .to_owned()
        }
        HubError::Busy { .. } => "try again later; the same command continues".to_owned(),
        HubError::Unauthorized { token: true, .. } => {
            "check the name, and whether HF_TOKEN is valid and may read it".to_owned()
        }
        HubError::Unauthorized { token: false, .. } => {
            "check the name; if the repository is private or gated, set HF_TOKEN".to_owned()
        }
        HubError::Gated { page, .. } => format!(
            "open {page}, accept its terms, and set HF_TOKEN to a token of that account"
        ),
        HubError::Forbidden { .. } => {
            "the token in HF_TOKEN needs the right for this (write, for a push)".to_owned()
        }
        HubError::NoRepo { kind, .. } if *kind == "model" => {
            "check the name; for a data set add --dataset".to_owned()
        }
        HubError::NoRepo { .. } => "check the name; for a model leave --dataset out".to_owned(),
        HubError::NoRevision { .. } => {
            "a revision is a branch, a tag or a whole commit; without one it is main".to_owned()
        }
        HubError::Refused { .. } | HubError::Answer { .. } => {
            "this is not what a hub answers: check HF_ENDPOINT".to_owned()
        }
        HubError::Name { .. } => {
            "nothing was written; tell the repository's owner".to_owned()
        }
        HubError::Foreign { .. } => {
            "nothing is overwritten: move these files away, or choose another folder with --to"
                .to_owned()
        }
        HubError::OtherRepo { .. } => "choose another folder with --to".to_owned(),
        HubError::Locked { .. } => "wait until it is done".to_owned(),
        HubError::Record { .. } => {
            "remove pull.json: files that are the hub's are kept".to_owned()
        }
        HubError::NotPlain { .. } => "only plain files and folders are used: remove it".to_owned(),
        HubError::DiskFull { .. } => {
            "make room; the same command continues with what is there".to_owned()
        }
        HubError::WrongHash { .. } => "the file was deleted: the hub, or something on the way to \
             it, gives other content than it lists"
            .to_owned(),
        HubError::NoWeights { .. } => {
            "only safetensors are read; --include fetches other files all the same".to_owned()
        }
        HubError::NoMatch { .. } => "leave --include out to fetch what is needed".to_owned(),
        HubError::Empty { .. } => "hidden files are not pushed".to_owned(),
        HubError::NoToken { .. } => {
            "set HF_TOKEN to a token with the right to write".to_owned()
        }
        HubError::Public { .. } => {
            "leave --private out, or make it private on its page first".to_owned()
        }
        HubError::TooLarge { .. } => {
            "`leap checkpoint export --shard-size 5GB` writes smaller files".to_owned()
        }
        HubError::Upload { .. } => "the same command tries again".to_owned(),
        HubError::Moved { .. } => "the same command compares and tries again".to_owned(),
        HubError::Io { .. } | HubError::Stopped => return error.into(),
    };
    Fault::new(error.to_string(), hint).into()
}
