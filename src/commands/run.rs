//! `leap run`: the whole road of a recipe.

use std::path::PathBuf;

use anyhow::Result;
use model::device::DeviceSpec;

use super::ExitStatus;
use crate::cli::RunArgs;
use crate::output::Output;
use crate::recipe::RunRecipe;
use crate::recipes::Source;
use crate::study::recipe::StudyRecipe;
use crate::{interrupt, recipes, road, study};

pub(super) fn run(args: RunArgs, output: &mut Output) -> Result<ExitStatus> {
    let source = recipes::find(&args.recipe)?;
    if source.job().as_deref() == Some("study") {
        return study(&source, args, output);
    }
    source.is_for("run")?;
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

/// Several runs that differ in their seeds.
fn study(source: &Source, args: RunArgs, output: &mut Output) -> Result<ExitStatus> {
    let recipe = source.resolve::<StudyRecipe>(&args.overrides)?.whole()?;
    recipe.check()?;
    let spec: DeviceSpec = args.device.parse()?;
    let out = args
        .out
        .unwrap_or_else(|| PathBuf::from("runs").join(&source.name));
    let seeds: Vec<String> = recipe.seeds.iter().map(u64::to_string).collect();
    let rows: Vec<&str> = recipe
        .eval
        .rows
        .iter()
        .map(|row| row.title.as_str())
        .collect();
    output.note(&format!(
        "{}\nrecipe {}, seeds {}, device {spec}, output {}\nrows: {} ({} groups a problem)",
        recipe.title,
        &recipes::hash(&recipe)?[..12],
        seeds.join(", "),
        out.display(),
        rows.join(", "),
        recipe.eval.groups,
    ));
    if args.dry_run {
        return Ok(ExitStatus::Done);
    }
    interrupt::listen()?;
    study::run(&recipe, &out, &spec, args.overwrite, output)
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
