//! Trap rows: the beginnings of wrong responses, gone on from alone and with peers.

use std::path::Path;

use anyhow::{Context, Result};
use protocol::trap::{Outcome, outcome};
use protocol::{Method, Problem, Settings, Stream, Trace};

use super::recipe::{EvalRecipe, EvalRow};
use super::rows::{Place, Work};
use super::{Evaluation, groups_file};
use crate::commands::trap::outcome_table;
use crate::ledger;
use crate::road::{Flow, read_records};

/// Name of the row that goes on alone.
pub(super) fn alone(row: &EvalRow) -> String {
    format!("{}-alone", row.name)
}

/// Name of the row that goes on with peers.
pub(super) fn peers(row: &EvalRow) -> String {
    format!("{}-peers", row.name)
}

/// Where the gaps of a trap row lie.
fn outcome_file(row: &EvalRow) -> String {
    format!("reports/{}/trap.json", row.name)
}

/// Runs both rows of a trap, and what comes of them.
pub(super) fn run(
    evaluation: &mut Evaluation<'_>,
    row: &EvalRow,
    place: &mut Place<'_>,
    worked: &mut bool,
) -> Result<Flow> {
    let recipe = evaluation.recipe;
    let trap = row.trap.as_ref().context("a trap row has a trap")?;
    let problems = evaluation.problems.clone();
    let folder = evaluation.folder.path.clone();
    let stored: Vec<Trace> = read_records(&folder.join(groups_file(&trap.from)))?;
    let lot = Stream::of_run(recipe.seed).named("trap").named("choose");
    let beginnings = trap.choice.choose(&stored, &problems, &lot)?;
    let chosen: Vec<&Problem> = beginnings
        .iter()
        .filter_map(|beginning| problems.iter().find(|p| p.id == beginning.problem))
        .collect();
    let rows = [
        (alone(row), format!("{}, alone", row.title), Method::Cot),
        (
            peers(row),
            format!("{}, with peers", row.title),
            trap.method,
        ),
    ];
    for (name, title, method) in &rows {
        let settings = Settings {
            method: *method,
            paths: trap.continuations,
            ..recipe.settings(row, trap.method)?
        };
        let words = format!(
            "{} goes on from the beginnings of `{}`",
            method.name(),
            trap.from
        );
        let work = Work {
            name,
            title: (title, &words),
            settings,
            problems: chosen.clone(),
            groups: 1,
            beginnings: beginnings.iter().map(|it| it.ids.clone()).collect(),
            liars: 0,
            same_as: None,
        };
        if evaluation.groups(&work, place, worked)? == Flow::Stopped {
            return Ok(Flow::Stopped);
        }
    }
    let (file, name) = (outcome_file(row), format!("trap {}", row.name));
    let reads = rows.each_ref().map(|(name, ..)| groups_file(name));
    let reads: Vec<&str> = reads.iter().map(String::as_str).collect();
    if let Some(step) = evaluation.folder.begin(&name, &trap, &reads, &[&file])? {
        *worked = true;
        let groups = |name: &str| read_records::<Trace>(&folder.join(groups_file(name)));
        let (without, with) = (groups(&alone(row))?, groups(&peers(row))?);
        let outcome = outcome(&beginnings, &problems, &without, &with)?;
        let text = serde_json::to_string_pretty(&outcome)? + "\n";
        ledger::write_whole(&folder.join(&file), text.as_bytes())?;
        evaluation.folder.end(step)?;
    }
    Ok(Flow::Done)
}

/// The gaps of every trap row as tables.
pub(super) fn tables(recipe: &EvalRecipe, folder: &Path) -> Result<Vec<String>> {
    let mut tables = Vec::new();
    for row in &recipe.eval.rows {
        let Some(trap) = &row.trap else { continue };
        let path = folder.join(outcome_file(row));
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        let outcome: Outcome = serde_json::from_str(&text)?;
        tables.push(format!(
            "{}\n{}",
            row.title,
            outcome_table(trap.method, &outcome)
        ));
    }
    Ok(tables)
}
