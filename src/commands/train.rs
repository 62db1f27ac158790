//! `leap train`: one fine-tuning, its plan, or what it would do.

use std::path::PathBuf;

use anyhow::Result;
use model::device::DeviceSpec;
use train::Rehearsal;

use super::ExitStatus;
use crate::cli::TrainArgs;
use crate::output::Output;
use crate::train_recipe::TrainRecipe;
use crate::{interrupt, recipes, training};

pub(super) fn run(args: &TrainArgs, output: &mut Output) -> Result<ExitStatus> {
    let source = recipes::find(&args.recipe)?;
    source.is_for("train")?;
    let recipe: TrainRecipe = source.resolve(&args.overrides)?;
    recipe.check()?;
    if args.plan {
        let spec: DeviceSpec = args.device.parse()?;
        return training::plan(&recipe, args.on.as_deref(), &spec, args.json, output);
    }
    if args.order {
        return training::order(&recipe, output);
    }
    let spec: DeviceSpec = args.device.parse()?;
    let out = args.out.clone();
    let out = out.unwrap_or_else(|| PathBuf::from("runs").join(&source.name));
    output.note(&format!(
        "{}\nseed {}, {} weights, device {spec}, output {}",
        recipe.title,
        recipe.seed,
        recipe.model.dtype,
        out.display()
    ));
    if args.dry_run {
        training::describe(&recipe, &out, output)?;
        return Ok(ExitStatus::Done);
    }
    interrupt::listen()?;
    let rehearsal = match args.try_worst {
        true => Rehearsal::Worst,
        false => Rehearsal::None,
    };
    training::run(&recipe, &out, &spec, args.overwrite, rehearsal, output)
}
