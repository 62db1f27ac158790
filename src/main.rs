//! The `leap` command: parse, call, print.
#![recursion_limit = "256"]

mod cli;
mod commands;
mod devices;
mod evaluation;
mod events;
mod fault;
mod generation;
mod growing;
mod interrupt;
mod ledger;
mod lock;
mod output;
mod presets;
mod recipe;
mod recipes;
mod results;
mod road;
mod sample_file;
mod sample_recipe;
mod servers;
mod study;
mod train_recipe;
mod training;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use infer::vocab::Unencodable;

use crate::cli::Cli;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut output = Output::new(cli.quiet, cli.no_progress);
    devices::mute_their_panics();
    let command = cli.command;
    let run = std::panic::AssertUnwindSafe(|| commands::run(command, &mut output));
    let result = match std::panic::catch_unwind(run) {
        Ok(result) => result,
        Err(panic) => match (devices::failure(&*panic), panic.downcast::<Unencodable>()) {
            (_, Ok(unencodable)) => Err(unencodable.into()),
            (Some(failure), _) => Err(failure.into()),
            // A bug of ours, which has been printed.
            (None, Err(panic)) => std::panic::resume_unwind(panic),
        },
    };
    let result = match output.unwritten() {
        None => result,
        Some(error) => result.and(Err(error).context("cannot write to stdout")),
    };
    match result {
        Ok(status) => status.into(),
        Err(error) => {
            output.error(&error);
            ExitCode::from(2)
        }
    }
}
