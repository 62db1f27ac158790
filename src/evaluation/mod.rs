//! `leap eval`: rows of groups on problems, continued where they were cut off, scored, reported.

pub(crate) mod engine;
pub(crate) mod folder;
pub(crate) mod forecast;
mod matched;
pub(crate) mod questions;
pub(crate) mod recipe;
pub(crate) mod require;
mod rows;
mod trap;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use infer::report;
use infer::score::Summary;
use model::config::ModelConfig;
use model::device::{Device, DeviceSpec};
use protocol::Problem;
use serde_json::json;

use self::folder::Folder;
use self::forecast::Forecast;
use self::recipe::{EvalEngine, EvalRecipe};
use self::require::Requirement;
use crate::cli::ServerArgs;
use crate::commands::ExitStatus;
use crate::fault::Fault;
use crate::output::Output;
use crate::results::Results;
use crate::road::{Flow, read_records, write_records};
use crate::{devices, ledger, recipes, results, road, servers};

/// The problems, as they were asked.
const PROBLEMS: &str = "problems.jsonl";

/// One evaluation in its folder.
struct Evaluation<'a> {
    recipe: &'a EvalRecipe,
    folder: Folder,
    device: Device,
    device_name: String,
    output: &'a mut Output,
    problems: Vec<Problem>,
    /// Rows that were run, in the order of the table, baselines behind their rows.
    done: Vec<String>,
    forecast_told: bool,
    servers: &'a ServerArgs,
}

/// What is asked of an evaluation besides its recipe.
pub(crate) struct Call<'a> {
    pub(crate) out: &'a Path,
    pub(crate) device: &'a DeviceSpec,
    pub(crate) overwrite: bool,
    pub(crate) requirements: &'a [Requirement],
    pub(crate) servers: &'a ServerArgs,
}

/// Runs a recipe, or what is left of it, and shows what it came to.
///
/// # Errors
/// If the folder belongs to another recipe or another process, or a step fails.
pub(crate) fn run<'a>(
    recipe: &'a EvalRecipe,
    call: &Call<'a>,
    output: &'a mut Output,
) -> Result<ExitStatus> {
    match work(recipe, call, output)? {
        Some(mut evaluation) => evaluation.conclude(call.requirements),
        None => Ok(ExitStatus::Interrupted),
    }
}

/// Runs a recipe, or what is left of it, and gives its rows; `None` if it was stopped.
///
/// # Errors
/// Those of [`run`].
pub(crate) fn rows<'a>(
    recipe: &'a EvalRecipe,
    call: &Call<'a>,
    output: &'a mut Output,
) -> Result<Option<Vec<(String, Summary)>>> {
    match work(recipe, call, output)? {
        Some(evaluation) => evaluation.summaries().map(Some),
        None => Ok(None),
    }
}

fn work<'a>(
    recipe: &'a EvalRecipe,
    call: &Call<'a>,
    output: &'a mut Output,
) -> Result<Option<Evaluation<'a>>> {
    check(recipe, call)?;
    if recipe.model.engine == EvalEngine::Remote {
        servers::are_named(call.servers)?;
    }
    let given = questions::file_hash(&recipe.problems)?;
    if recipe.problems.file.is_some() {
        // A mistake in the file leaves nothing behind.
        questions::load(&recipe.problems, recipe.seed, output)?;
    }
    let hash = recipes::hash(recipe)?;
    let device = devices::open(call.device, output)?;
    if call.overwrite {
        road::keep_inputs(recipe, call.out)?;
    }
    let mut folder = Folder::open(call.out, &hash, &call.device.to_string(), call.overwrite)?;
    let text = toml::to_string(recipe).context("cannot write the recipe as TOML")?;
    let header = format!(
        "# {}\n#\n#   leap eval recipe.toml --out DIR\n\n",
        recipe.title
    );
    ledger::write_whole(
        &folder.path.join("recipe.toml"),
        (header + &text).as_bytes(),
    )?;
    folder.event(
        "start",
        &json!({ "recipe": hash, "device": call.device.to_string() }),
    );
    let was_finished = folder.is_finished();
    if recipe.model.engine == EvalEngine::Local && !was_finished {
        devices::tell_format(
            recipe.model.dtype,
            call.device,
            &device,
            "model.dtype",
            output,
        );
    }
    let mut evaluation = Evaluation {
        recipe,
        folder,
        device,
        device_name: call.device.to_string(),
        output,
        problems: Vec::new(),
        done: Vec::new(),
        forecast_told: false,
        servers: call.servers,
    };
    let worked = match evaluation.walk(&given) {
        Ok(Some(worked)) => worked,
        Ok(None) => {
            evaluation.folder.event("stopped", &json!({}));
            evaluation
                .output
                .note("stopped; every finished group is kept");
            evaluation.output.hint("the same command continues it");
            return Ok(None);
        }
        Err(error) => {
            let text = format!("{error:#}");
            evaluation.folder.event("failed", &json!({ "error": text }));
            return Err(error);
        }
    };
    evaluation.folder.finish()?;
    if was_finished && !worked {
        let folder = evaluation.folder.path.display();
        evaluation
            .output
            .note(&format!("`{folder}` is finished: nothing to do"));
    }
    Ok(Some(evaluation))
}

/// Checks what can be checked before anything is opened.
fn check(recipe: &EvalRecipe, call: &Call<'_>) -> Result<()> {
    recipe.check()?;
    check_requirements(recipe, call.requirements)?;
    if recipe.model.engine != EvalEngine::Remote {
        servers::are_not_named(call.servers, "model")?;
    }
    for row in &recipe.eval.rows {
        let folder = recipe.checkpoint(row).context("a row names no model");
        match recipe.model.engine {
            EvalEngine::Simulated => {}
            EvalEngine::Local => drop(ModelConfig::read(&road::weights_folder(folder?)?)?),
            EvalEngine::Remote => drop(road::model_folder(folder?)?),
        }
    }
    Ok(())
}

/// Says what a recipe would do.
///
/// # Errors
/// If it cannot work, or its problems cannot be read.
pub(crate) fn describe(
    recipe: &EvalRecipe,
    call: &Call<'_>,
    output: &mut Output,
) -> Result<Vec<String>> {
    check(recipe, call)?;
    let hash = recipes::hash(recipe)?;
    let rows: Vec<&str> = recipe
        .eval
        .rows
        .iter()
        .map(|row| row.title.as_str())
        .collect();
    let mut lines = vec![
        recipe.title.clone(),
        format!(
            "recipe {}, seed {}, device {}, output {}",
            &hash[..12],
            recipe.seed,
            call.device,
            call.out.display()
        ),
        format!(
            "rows: {} ({} groups a problem)",
            rows.join(", "),
            recipe.eval.groups
        ),
    ];
    let local = recipe.problems.file.is_some() || recipe.problems.usual_place().is_none();
    let problems = match local && recipe.problems.hub.is_none() {
        true => {
            questions::load(&recipe.problems, recipe.seed, output)?.map(|problems| problems.len())
        }
        false => recipe
            .problems
            .benchmark
            .map(|benchmark| benchmark.problems()),
    };
    match problems {
        Some(problems) => {
            let forecast = Forecast::of(recipe, problems)?;
            lines.push(format!("{problems} problems: {}", forecast.words(None)));
        }
        None => lines.push("the problems are fetched when it starts".to_owned()),
    }
    Ok(lines)
}

fn check_requirements(recipe: &EvalRecipe, requirements: &[Requirement]) -> Result<()> {
    let names = recipe.row_names();
    for row in requirements.iter().filter_map(Requirement::row) {
        if !names.iter().any(|name| name == row) {
            return Err(Fault::new(
                format!("a requirement names row `{row}`, which the recipe does not have"),
                format!("its rows are {}", names.join(", ")),
            )
            .into());
        }
    }
    Ok(())
}

/// Where a row's groups lie.
fn groups_file(name: &str) -> String {
    format!("reports/{name}/groups.jsonl")
}

/// Where a row's scores lie.
fn summary_file(name: &str) -> String {
    format!("reports/{name}/summary.json")
}

impl Evaluation<'_> {
    /// Whether anything had to be done; `None` if it was asked to stop.
    fn walk(&mut self, given: &str) -> Result<Option<bool>> {
        let mut worked = false;
        if self.questions(given, &mut worked)? == Flow::Stopped
            || self.rows(&mut worked)? == Flow::Stopped
        {
            return Ok(None);
        }
        self.report(&mut worked)?;
        Ok(Some(worked))
    }

    fn questions(&mut self, given: &str, worked: &mut bool) -> Result<Flow> {
        let recipe = self.recipe;
        // A file is known by its content, wherever it lies.
        let mut asked = recipe.problems.clone();
        asked.file = None;
        let step = self
            .folder
            .begin("problems", &(recipe.seed, asked), &[given], &[PROBLEMS])?;
        if let Some(step) = step {
            *worked = true;
            let Some(problems) = questions::load(&recipe.problems, recipe.seed, self.output)?
            else {
                return Ok(Flow::Stopped);
            };
            write_records(&self.folder.path.join(PROBLEMS), &problems)?;
            self.folder.end(step)?;
        }
        self.problems = read_records(&self.folder.path.join(PROBLEMS))?;
        let benchmark = recipe.problems.benchmark.map(|benchmark| benchmark.name());
        let name = benchmark.map_or(String::new(), |name| format!(" of {name}"));
        let count = self.problems.len();
        self.output.step("Problems", &format!("{count}{name}"));
        Ok(Flow::Done)
    }

    /// The scores of a row that was run.
    fn summary(&self, name: &str) -> Result<Summary> {
        results::read_summary(&self.folder.path.join(summary_file(name)))
    }

    /// The scores of all rows that were run.
    fn summaries(&self) -> Result<Vec<(String, Summary)>> {
        let names = self.done.iter();
        names
            .map(|name| Ok((name.clone(), self.summary(name)?)))
            .collect()
    }

    fn report(&mut self, worked: &mut bool) -> Result<()> {
        let mut reads: Vec<String> = vec![PROBLEMS.to_owned()];
        reads.extend(self.done.iter().map(|name| summary_file(name)));
        reads.extend(self.done.iter().map(|name| groups_file(name)));
        let reads: Vec<&str> = reads.iter().map(String::as_str).collect();
        let makes = results::FILES;
        let title = (&self.recipe.title, &self.done);
        let Some(step) = self.folder.begin("report", &title, &reads, &makes)? else {
            return Ok(());
        };
        *worked = true;
        let report = Results::open(&self.folder.path)?.report(None)?;
        results::write_all(&self.folder.path, &report)?;
        self.folder.end(step)
    }

    fn conclude(&mut self, requirements: &[Requirement]) -> Result<ExitStatus> {
        let found = Results::open(&self.folder.path)?;
        self.output.data(&report::text(&found.report(None)?));
        for text in trap::tables(self.recipe, &self.folder.path)? {
            self.output.data(&format!("\n{text}"));
        }
        let page: PathBuf = self.folder.path.join("report.html");
        self.output.step("Report", &page.display().to_string());
        let rows = self.summaries()?;
        let mut status = ExitStatus::Done;
        for requirement in requirements {
            let asked: Vec<(String, Summary)> = match requirement.row() {
                Some(_) => rows.clone(),
                // Baselines are there to be beaten.
                None => rows
                    .iter()
                    .filter(|(name, _)| !name.ends_with(recipe::MATCHED))
                    .cloned()
                    .collect(),
            };
            for line in requirement.missed(&asked)? {
                self.output.note(&line);
                status = ExitStatus::AnswerIsNo;
            }
        }
        Ok(status)
    }
}
