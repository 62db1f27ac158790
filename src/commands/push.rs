//! `leap push`: a checkpoint or a data set to the hub, as one commit.

use anyhow::Result;
use model::checkpoint;
use model::hub::{self, Client, HubError, Kind, PushSettings, Pushed, Repo};

use super::hub::{Teller, fault};
use super::{ExitStatus, checkpoint as checkpoints};
use crate::cli::PushArgs;
use crate::fault::Fault;
use crate::interrupt;
use crate::output::{Output, count};

pub(super) fn run(args: PushArgs, output: &mut Output) -> Result<ExitStatus> {
    let kind = match args.dataset {
        true => Kind::Dataset,
        false => Kind::Model,
    };
    let (repo, revision) = Repo::parse(&args.repo, kind).map_err(fault)?;
    if revision.is_some() {
        return Err(Fault::new(
            format!("`{}` names a revision", args.repo),
            "a push goes to main: leave the @ and what is behind it out",
        )
        .into());
    }
    let client = Client::from_environment().map_err(fault)?;
    if kind == Kind::Model {
        check(&args, output)?;
    }
    interrupt::listen()?;
    let settings = PushSettings {
        repo,
        folder: args.folder,
        private: args.private,
        message: args.message,
    };
    let from = settings.folder.display();
    output.step("Pushing", &format!("`{from}` to {}", settings.repo));
    let mut teller = Teller::new(output, "Pushing");
    match hub::push(&client, &settings, &mut |event| teller.hear(event)) {
        Ok(pushed) => conclude(&pushed, output),
        Err(HubError::Stopped) => {
            output.note("stopped: nothing was committed");
            output.hint("the same command sends what the hub does not have yet");
            return Ok(ExitStatus::Interrupted);
        }
        Err(error) => return Err(fault(error)),
    }
    Ok(ExitStatus::Done)
}

/// Refuses a folder that others could not use.
fn check(args: &PushArgs, output: &mut Output) -> Result<()> {
    output.step("Verifying", &format!("`{}`", args.folder.display()));
    if checkpoint::is_adapter(&args.folder) {
        checkpoint::describe_adapter(&args.folder).map_err(checkpoints::fault)?;
        return Ok(());
    }
    let damages = checkpoint::damages(&args.folder).map_err(checkpoints::fault)?;
    match damages.first() {
        None => Ok(()),
        Some(first) => Err(Fault::new(
            format!(
                "`{}` is damaged and is not pushed: {}: {}",
                args.folder.display(),
                first.file,
                first.problem
            ),
            "`leap checkpoint verify DIR` names everything that is wrong",
        )
        .into()),
    }
}

fn conclude(pushed: &Pushed, output: &mut Output) {
    if pushed.created {
        output.step("Made", &pushed.page);
    }
    if !pushed.ignored.is_empty() {
        let names = pushed.ignored.join(", ");
        output.step("Leaving out", &format!("{names}, as the hub asks"));
    }
    match &pushed.commit {
        None => output.note("nothing to do: the hub has all of it"),
        Some(commit) => output.step(
            "Committed",
            &format!(
                "{} as {commit} ({} there already)",
                count(pushed.sent.len(), "file"),
                pushed.there
            ),
        ),
    }
    output.data(&pushed.page);
}
