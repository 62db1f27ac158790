//! `leap eval`: the rows of a recipe on its problems.

use std::path::PathBuf;

use anyhow::Result;
use model::device::DeviceSpec;

use super::ExitStatus;
use crate::cli::EvalArgs;
use crate::evaluation::recipe::EvalRecipe;
use crate::evaluation::require::Requirement;
use crate::evaluation::{self, Call};
use crate::output::Output;
use crate::{interrupt, recipes};

pub(super) fn run(args: EvalArgs, output: &mut Output) -> Result<ExitStatus> {
    let source = recipes::find(&args.recipe)?;
    source.is_for("eval")?;
    let recipe: EvalRecipe = source.resolve(&args.overrides)?;
    let requirements: Vec<Requirement> = args
        .require
        .iter()
        .map(|text| Requirement::parse(text))
        .collect::<Result<_>>()?;
    let device: DeviceSpec = args.device.parse()?;
    let out = args
        .out
        .unwrap_or_else(|| PathBuf::from("runs").join(&source.name));
    let call = Call {
        out: &out,
        device: &device,
        overwrite: args.overwrite,
        requirements: &requirements,
        servers: &args.servers,
    };
    for line in evaluation::describe(&recipe, &call, output)? {
        output.note(&line);
    }
    if args.dry_run {
        return Ok(ExitStatus::Done);
    }
    interrupt::listen()?;
    evaluation::run(&recipe, &call, output)
}
