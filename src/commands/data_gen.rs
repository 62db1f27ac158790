//! `leap data-gen`: training data, step by step.

mod merge;
mod traces;

use anyhow::Result;

use super::ExitStatus;
use crate::cli::DataGenCommand;
use crate::output::Output;

pub(super) fn run(command: DataGenCommand, output: &mut Output) -> Result<ExitStatus> {
    match command {
        DataGenCommand::Traces(args) => traces::run(args, output),
        DataGenCommand::Merge(args) => merge::run(&args, output),
    }
}
