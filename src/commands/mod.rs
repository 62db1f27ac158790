//! One file per subcommand; each runs and says how it ended.

mod bench;
mod checkpoint;
mod completions;
mod data_gen;
mod doctor;
mod eval;
mod grade;
pub(crate) mod hub;
mod infer;
mod prompts;
mod pull;
mod push;
mod recipe;
mod report;
mod run;
mod runs;
mod schema;
mod score;
mod trace;
mod train;
pub(crate) mod trap;

use std::process::ExitCode;

use anyhow::Result;

pub(crate) use self::checkpoint::bytes;
use crate::cli::Command;
use crate::output::Output;

/// How a command ended; an error is exit code 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// It did what was asked.
    Done,
    /// It ran, and the answer is no.
    AnswerIsNo,
    /// It was stopped, and has saved where it is.
    Interrupted,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus::Done => Self::SUCCESS,
            ExitStatus::AnswerIsNo => Self::from(1),
            ExitStatus::Interrupted => Self::from(130),
        }
    }
}

/// Runs a command.
pub(crate) fn run(command: Command, output: &mut Output) -> Result<ExitStatus> {
    match command {
        Command::Run(args) => run::run(args, output),
        Command::DataGen(command) => data_gen::run(command, output),
        Command::Eval(args) => eval::run(args, output),
        Command::Report(args) => report::run(&args, output),
        Command::Score(args) => score::run(&args, output),
        Command::Grade(args) => grade::run(&args, output),
        Command::Infer(args) => infer::run(args, output),
        Command::Pull(args) => pull::run(args, output),
        Command::Push(args) => push::run(args, output),
        Command::Checkpoint(command) => checkpoint::run(command, output),
        Command::Recipe(command) => recipe::run(command, output),
        Command::Train(args) => train::run(&args, output),
        Command::Trap(args) => trap::run(&args, output),
        Command::Trace(command) => trace::run(command, output),
        Command::Prompts(command) => prompts::run(command, output),
        Command::Runs(args) => runs::run(&args, output),
        Command::Schema(args) => schema::run(&args, output),
        Command::Bench(command) => bench::run(&command, output),
        Command::Doctor(args) => doctor::run(&args, output),
        Command::Completions(args) => completions::run(&args, output),
    }
}
