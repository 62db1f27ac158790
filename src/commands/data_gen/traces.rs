//! `leap data-gen traces`: groups of a teacher on problems.

use std::path::PathBuf;

use anyhow::Result;
use infer::generation::Shard;
use model::device::DeviceSpec;

use crate::cli::TracesArgs;
use crate::commands::ExitStatus;
use crate::generation::recipe::TracesRecipe;
use crate::generation::{self, Call};
use crate::output::Output;
use crate::{interrupt, recipes};

pub(super) fn run(args: TracesArgs, output: &mut Output) -> Result<ExitStatus> {
    let source = recipes::find(&args.recipe)?;
    source.is_for("data-gen traces")?;
    let recipe: TracesRecipe = source.resolve(&args.overrides)?;
    let device: DeviceSpec = args.device.parse()?;
    let shard = args.shard.unwrap_or(Shard::WHOLE);
    let name = match args.shard {
        Some(Shard { index, of }) => format!("{}-{index}-of-{of}", source.name),
        None => source.name,
    };
    let out = args.out.unwrap_or_else(|| PathBuf::from("runs").join(name));
    let call = Call {
        out: &out,
        shard,
        device: &device,
        overwrite: args.overwrite,
        servers: &args.servers,
    };
    for line in generation::describe(&recipe, &call, output)? {
        output.note(&line);
    }
    if args.dry_run {
        return Ok(ExitStatus::Done);
    }
    interrupt::listen()?;
    generation::run(&recipe, &call, output)
}
