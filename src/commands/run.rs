//! `leap run`: the whole road of a recipe.

use std::path::PathBuf;

use anyhow::Result;
use model::device::DeviceSpec;

use super::ExitStatus;
use crate::cli::RunArgs;
use crate::fault::Fault;
use crate::output::Output;
use crate::recipe::RunRecipe;
use crate::{interrupt, recipes, road};

pub(super) fn run(args: RunArgs, output: &mut Output) -> Result<ExitStatus> {
    let source = recipes::find(&args.recipe)?;
    if source.is_training() {
        let name = &source.name;
        return Err(Fault::new(
            format!("recipe `{name}` is a single fine-tuning"),
            format!("`leap train {name}` runs it"),
        )
        .into());
    }
    let recipe: RunRecipe = source.resolve(&args.overrides)?;
    recipe.check()?;
    let spec: DeviceSpec = args.device.parse()?;
    let out = args
        .out
        .unwrap_or_else(|| PathBuf::from("runs").join(&source.name));
    output.note(&describe(
        &recipe,
        &out.display().to_string(),
        &spec.to_string(),
    )?);
    if args.dry_run {
        return Ok(ExitStatus::Done);
    }
    interrupt::listen()?;
    road::run(&recipe, &out, &spec, args.overwrite, output)
}

fn describe(recipe: &RunRecipe, out: &str, device: &str) -> Result<String> {
    let hash = recipes::hash(recipe)?;
    let rows: Vec<&str> = recipe
        .eval
        .rows
        .iter()
        .map(|row| row.title.as_str())
        .collect();
    let protocol = &recipe.protocol;
    Ok(format!(
        "{}\nrecipe {}, seed {}, device {device}, output {out}\nrows: {} ({} groups of {} paths a \
         problem)",
        recipe.title,
        &hash[..12],
        recipe.seed,
        rows.join(", "),
        recipe.eval.groups,
        protocol.paths
    ))
}
