//! A study: the road of a recipe walked with several seeds, the same rows on the students of each,
//! and all of it put together.
//!
//! Every seed lies in a folder of its own, which is one of `leap run`, with the rows below it, which
//! are one of `leap eval`. The study's own files are made from their scores alone.

mod found;
pub(crate) mod recipe;

use std::path::Path;

use anyhow::{Context, Result};
use infer::report;
use infer::score::Summary;
use model::device::DeviceSpec;

use self::found::Found;
use self::recipe::{StudyRecipe, seed_folder, write_test_problems};
use crate::cli::ServerArgs;
use crate::commands::ExitStatus;
use crate::evaluation::{self, Call};
use crate::output::Output;
use crate::{ledger, recipes, road};

/// What the study came to, for programs.
const FILE: &str = "study.json";

/// Runs a study, or what is left of it.
///
/// # Errors
/// If the folder belongs to another recipe or another process, or a seed fails.
pub(crate) fn run(
    recipe: &StudyRecipe,
    out: &Path,
    spec: &DeviceSpec,
    overwrite: bool,
    output: &mut Output,
) -> Result<ExitStatus> {
    recipe.check()?;
    let hash = recipes::hash(recipe)?;
    if overwrite {
        road::keep_inputs(recipe, out)?;
    }
    let (mut ledger, _lock) = road::open_folder(out, &hash, &spec.to_string(), overwrite)?;
    let text = toml::to_string(recipe).context("cannot write the recipe as TOML")?;
    let header = format!(
        "# {}\n#\n#   leap run recipe.toml --out DIR\n\n",
        recipe.title
    );
    ledger::write_whole(&out.join("recipe.toml"), (header + &text).as_bytes())?;
    let mut seeds = Vec::new();
    for &seed in &recipe.seeds {
        match one(recipe, seed, out, spec, output)? {
            Ok(rows) => seeds.push((seed, rows)),
            Err(status) => return Ok(status),
        }
    }
    let found = Found::new(recipe, &seeds)?;
    let json = serde_json::to_string_pretty(&found)? + "\n";
    ledger::write_whole(&out.join(FILE), json.as_bytes())?;
    let report = found.report(recipe, &seeds, &spec.to_string(), &hash)?;
    // Verdicts of every path lie with the seeds; here they would be tens of megabytes.
    for (name, text) in [
        ("report.html", report::html(&report)),
        ("report.md", report::document(&report)),
    ] {
        ledger::write_whole(&out.join(name), text.as_bytes())?;
    }
    if !ledger.finished {
        ledger.finished = true;
        ledger.write(out)?;
    }
    output.data(&report::text(&report));
    for note in &report.notes {
        output.data(&format!("\n{note}"));
    }
    output.step("Report", &out.join("report.html").display().to_string());
    Ok(ExitStatus::Done)
}

/// The rows of one seed, or how it ended without them.
fn one(
    recipe: &StudyRecipe,
    seed: u64,
    out: &Path,
    spec: &DeviceSpec,
    output: &mut Output,
) -> Result<Result<Vec<(String, Summary)>, ExitStatus>> {
    output.step("Seed", &seed.to_string());
    let folder = seed_folder(out, seed);
    let road = recipe.road(seed)?;
    let status = road::run_part(&road, &folder, spec, false, output)
        .with_context(|| format!("seed {seed}"))?;
    if status != ExitStatus::Done {
        return Ok(Err(status));
    }
    let problems = write_test_problems(&folder)?;
    let rows = recipe.rows(seed, &folder, problems)?;
    let call = Call {
        out: &folder.join("rows"),
        device: spec,
        overwrite: false,
        requirements: &[],
        servers: &ServerArgs::NONE,
    };
    let rows = evaluation::rows(&rows, &call, output).with_context(|| format!("seed {seed}"))?;
    Ok(rows.ok_or(ExitStatus::Interrupted))
}
