//! `leap pull`: a model or a data set from the hub, checked.

use std::path::{Path, PathBuf};

use anyhow::Result;
use model::checkpoint::{self, Damage};
use model::hub::{self, Client, HubError, Kind, Plan, PullSettings, Repo, Revision};

use super::ExitStatus;
use super::hub::{Teller, fault};
use crate::cli::PullArgs;
use crate::interrupt;
use crate::output::{Output, count, size};

/// Names of files that were left out, before `and so many more`.
const NAMED: usize = 4;

pub(super) fn run(args: PullArgs, output: &mut Output) -> Result<ExitStatus> {
    let (kind, root) = match args.dataset {
        true => (Kind::Dataset, "datasets"),
        false => (Kind::Model, "checkpoints"),
    };
    let (repo, revision) = Repo::parse(&args.repo, kind).map_err(fault)?;
    let folder = args
        .to
        .unwrap_or_else(|| PathBuf::from(root).join(repo.short()));
    let settings = PullSettings {
        repo,
        revision: revision.unwrap_or_else(Revision::main),
        folder,
        include: args.include,
    };
    let client = Client::from_environment().map_err(fault)?;
    interrupt::listen()?;
    match pull(&client, &settings, output) {
        Ok(()) => {}
        Err(HubError::Stopped) => {
            output.note("stopped");
            output.hint("the same command continues");
            return Ok(ExitStatus::Interrupted);
        }
        Err(error) => return Err(fault(error)),
    }
    let folder = &settings.folder;
    let status = match kind {
        Kind::Model => verify(folder, output)?,
        Kind::Dataset => ExitStatus::Done,
    };
    output.data(&folder.display().to_string());
    Ok(status)
}

fn pull(client: &Client, settings: &PullSettings, output: &mut Output) -> Result<(), HubError> {
    let mut teller = Teller::new(output, "Checking");
    let plan = hub::plan(client, settings, &mut |event| teller.hear(event))?;
    announce(&plan, settings, output);
    let nothing = plan.nothing_to_do();
    let mut teller = Teller::new(output, "Pulling");
    let pulled = hub::pull(client, plan, &mut |event| teller.hear(event))?;
    if pulled.cached > 0 {
        let files = count(pulled.cached, "file");
        output.step(
            "Cached",
            &format!("{files} came from this machine's cache, and checked"),
        );
    }
    if nothing {
        let files = count(pulled.there, "file");
        output.note(&format!("nothing to do: {files} there, and checked"));
    }
    Ok(())
}

/// Says what will be done, and what not.
fn announce(plan: &Plan, settings: &PullSettings, output: &mut Output) {
    let commit = &plan.commit[..12];
    let folder = settings.folder.display();
    let mut text = format!(
        "{} at {commit} into `{folder}`: {}, {}",
        settings.repo,
        count(plan.fetch.len(), "file"),
        size(plan.bytes())
    );
    if !plan.there.is_empty() {
        text += &format!(" ({} there already)", plan.there.len());
    }
    output.step("Pulling", &text);
    if !plan.left_out.is_empty() {
        let bytes = plan.left_out.iter().map(|file| file.bytes).sum();
        let names = plan.left_out.iter().map(|file| file.name.clone());
        let text = listed(names.collect());
        output.step("Leaving out", &format!("{text} ({})", size(bytes)));
    }
    if !plan.outdated.is_empty() {
        let text = listed(plan.outdated.clone());
        output.step(
            "Removing",
            &format!("{text}, which this commit does not have"),
        );
    }
}

fn listed(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let text = names.join(", ");
    match more {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// Says whether a pulled folder is a checkpoint that can be used; parts of one are not looked at.
fn verify(folder: &Path, output: &mut Output) -> Result<ExitStatus> {
    let whole = folder.join("config.json").is_file()
        && ["model.safetensors", "model.safetensors.index.json"]
            .iter()
            .any(|name| folder.join(name).is_file());
    if !whole {
        output.step("Verified", "not: these files are no whole checkpoint");
        return Ok(ExitStatus::Done);
    }
    let damages = match checkpoint::damages(folder) {
        Ok(damages) => damages,
        Err(error) => {
            // The bytes are the hub's; that they are of another kind of model is no failed pull.
            output.step("Verified", &format!("no: {error}"));
            return Ok(ExitStatus::AnswerIsNo);
        }
    };
    for Damage { file, problem } in &damages {
        output.step("Damaged", &format!("{file}: {problem}"));
    }
    Ok(match damages.is_empty() {
        true => {
            output.step("Verified", "good");
            ExitStatus::Done
        }
        false => ExitStatus::AnswerIsNo,
    })
}
