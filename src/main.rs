//! The `leap` command: parse, call, print.
#![recursion_limit = "256"]

mod cli;
mod commands;
mod fault;
mod interrupt;
mod ledger;
mod output;
mod presets;
mod recipe;
mod recipes;
mod road;
mod train_recipe;
mod training;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut output = Output::new(cli.quiet, cli.no_progress);
    match commands::run(cli.command, &mut output) {
        Ok(status) => status.into(),
        Err(error) => {
            output.error(&error);
            ExitCode::from(2)
        }
    }
}
