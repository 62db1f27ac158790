//! Stage 8: the rows beside each other, as report.html and on the terminal.

use anyhow::Result;
use infer::report::{self, Example, Fact, LossPoint, Report, Training};
use infer::score::{self, Summary};
use infer::simulated::SimulatedEngine;
use protocol::Trace;

use super::eval::{groups_file, read_summary, summary_file};
use super::training::{Loss, losses_file};
use super::{Flow, Road, problems, read_records};
use crate::ledger;
use crate::recipe::{Row, RunRecipe, TeacherEngine, Trained};

/// The file this stage makes.
const FILE: &str = "report.html";

/// Points of a loss curve in the report; more cannot be told apart.
const MOST_POINTS: usize = 200;

pub(super) fn stage(road: &mut Road<'_>, worked: &mut bool) -> Result<Flow> {
    let recipe = road.recipe;
    let rows = &recipe.eval.rows;
    if rows.is_empty() {
        return Ok(Flow::Done);
    }
    let mut reads: Vec<String> = rows.iter().map(summary_file).collect();
    reads.extend(rows.iter().map(groups_file));
    reads.extend(trainings(recipe).into_iter().map(losses_file));
    reads.push(problems::FILE.to_string());
    let reads: Vec<&str> = reads.iter().map(String::as_str).collect();
    road.stage("report", recipe, &reads, &[FILE], worked, |road, _| {
        let report = collect(road)?;
        ledger::write_whole(&road.out.join(FILE), report::html(&report).as_bytes())?;
        Ok(Flow::Done)
    })
}

/// Prints the table, and says where the report lies.
pub(super) fn print(road: &mut Road<'_>) -> Result<()> {
    if road.recipe.eval.rows.is_empty() {
        let folder = road.out.join("checkpoints");
        road.output.data(&folder.display().to_string());
        return Ok(());
    }
    road.output.data(&report::text(&collect(road)?));
    let path = road.out.join(FILE);
    road.output.step("Report", &path.display().to_string());
    Ok(())
}

fn summaries(road: &Road<'_>) -> Result<Vec<Summary>> {
    road.recipe
        .eval
        .rows
        .iter()
        .map(|row| read_summary(road, row))
        .collect()
}

/// Checkpoints of the run that are trained.
fn trainings(recipe: &RunRecipe) -> Vec<&'static str> {
    let scratch = recipe.model.scratch.is_some().then_some(Trained::Base);
    let control = recipe.train.control.is_some().then_some(Trained::Control);
    scratch
        .into_iter()
        .chain(control)
        .chain([Trained::LeapT])
        .map(Trained::name)
        .collect()
}

fn collect(road: &Road<'_>) -> Result<Report> {
    let recipe = road.recipe;
    let rows = summaries(road)?;
    let mut comparisons = Vec::new();
    for (row, baseline) in pairs(&recipe.eval.rows) {
        comparisons.push(score::compare(&rows[row], &rows[baseline])?);
    }
    let mut examples = Vec::new();
    let test = problems::read(road)?.test;
    for (row, summary) in recipe.eval.rows.iter().zip(&rows) {
        if !row.method.exchanges() || row.checkpoint != Trained::LeapT {
            continue;
        }
        let Some((id, group)) = report::example_group(summary) else {
            continue;
        };
        let traces: Vec<Trace> = read_records(&road.out.join(groups_file(row)))?;
        let trace = traces
            .into_iter()
            .find(|trace| trace.problem == id && trace.group == group);
        let problem = test.iter().find(|problem| problem.id == id);
        if let (Some(trace), Some(problem)) = (trace, problem) {
            examples.extend(Example::new(summary, problem, trace));
        }
    }
    let curves = trainings(recipe)
        .into_iter()
        .map(|name| training(road, name));
    Ok(Report {
        title: recipe.title.clone(),
        facts: facts(road),
        rows,
        comparisons,
        examples,
        trainings: curves.collect::<Result<_>>()?,
        notes: notes(recipe),
    })
}

/// Which row is compared with which: all with the first, a LeaP-T row with the control and with
/// itself without exchange.
fn pairs(rows: &[Row]) -> Vec<(usize, usize)> {
    let mut pairs: Vec<(usize, usize)> = (1..rows.len()).map(|row| (row, 0)).collect();
    for (index, row) in rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.method.exchanges())
    {
        for (other, baseline) in rows.iter().enumerate().skip(1) {
            let control =
                row.checkpoint == Trained::LeapT && baseline.checkpoint == Trained::Control;
            let off = row.checkpoint == baseline.checkpoint && !baseline.method.exchanges();
            if control || off {
                pairs.push((index, other));
            }
        }
    }
    pairs
}

fn facts(road: &Road<'_>) -> Vec<Fact> {
    let recipe = road.recipe;
    let model = match &recipe.model.scratch {
        Some(scratch) => format!(
            "from scratch: {} layers, width {}, trained on plain reasoning only",
            scratch.layers, scratch.hidden_size
        ),
        None => format!("checkpoint {}", road.base_hash()),
    };
    let teacher = match (recipe.teacher.engine, &recipe.teacher.simulated) {
        (TeacherEngine::Simulated, Some(simulation)) => SimulatedEngine::name(simulation),
        (_, Some(simulation)) if recipe.teacher.fill_below > 0 => {
            format!(
                "the base model; where it falls short, {}",
                SimulatedEngine::name(simulation)
            )
        }
        _ => "the base model".to_string(),
    };
    let protocol = &recipe.protocol;
    vec![
        Fact::new("Base model", model),
        Fact::new("Teacher", teacher),
        Fact::new("Seed", recipe.seed.to_string()),
        Fact::new(
            "Device",
            format!("{} {}", road.device_name, recipe.model.dtype),
        ),
        Fact::new(
            "Exchange",
            format!(
                "{} paths, every {} tokens, {} peers ({:?} routing)",
                protocol.paths, protocol.turn_tokens, protocol.peers, protocol.router
            ),
        ),
    ]
}

fn notes(recipe: &RunRecipe) -> Vec<String> {
    let mut notes = Vec::new();
    if recipe.teacher.engine == TeacherEngine::Simulated {
        notes.push(
            "The teacher is simulated and the model is small: this shows a mechanism, and says \
             nothing about models of other sizes."
                .to_string(),
        );
    }
    notes
}

fn training(road: &Road<'_>, name: &str) -> Result<Training> {
    let losses: Vec<Loss> = read_records(&road.out.join(losses_file(name)))?;
    // Means of equal stretches: single steps of small batches are noise.
    let stretch = losses.len().div_ceil(MOST_POINTS).max(1);
    let point = |stretch: &[Loss]| {
        let step = stretch.last()?.step;
        // A loss that is no number has no place in a curve.
        let losses: Vec<f64> = stretch.iter().filter_map(|at| at.loss.as_f64()).collect();
        (!losses.is_empty()).then(|| LossPoint {
            step,
            loss: losses.iter().sum::<f64>() / losses.len() as f64,
        })
    };
    Ok(Training {
        name: name.to_string(),
        points: losses.chunks(stretch).filter_map(point).collect(),
    })
}
