//! `leap completions`.

use anyhow::{Context, Result};
use clap::CommandFactory;

use super::ExitStatus;
use crate::cli::{Cli, CompletionsArgs};
use crate::output::Output;

pub(super) fn run(args: &CompletionsArgs, output: &mut Output) -> Result<ExitStatus> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "leap", &mut script);
    output.data(&String::from_utf8(script).context("the completion script is not UTF-8")?);
    Ok(ExitStatus::Done)
}
