//! The budget-matched baseline: as many independent paths as sample what working paths sample.
//!
//! Paths that exchange spend tokens on summaries, and a mixture of agents on whole layers. What
//! that buys has to be held against more independent paths, not against equally many.

use anyhow::Result;
use infer::score::Summary;
use protocol::{Method, Problem, Settings};

use super::Evaluation;
use super::recipe::{EvalRow, MATCHED};
use super::rows::{Place, Work};
use crate::road::Flow;

/// Name of the baseline of a row.
pub(super) fn name(row: &EvalRow) -> String {
    format!("{}{MATCHED}", row.name)
}

/// Runs the baseline of a row that was run.
pub(super) fn run(
    evaluation: &mut Evaluation<'_>,
    row: &EvalRow,
    problems: &[Problem],
    place: &mut Place<'_>,
    worked: &mut bool,
) -> Result<Flow> {
    let recipe = evaluation.recipe;
    let Some(independent) = recipe.independent(row) else {
        anyhow::bail!("row `{}` has no independent row", row.name);
    };
    // An independent row below this one has not been run yet.
    if !evaluation.done.contains(&independent.name) {
        let settings = recipe.settings(independent, Method::Cot)?;
        let words = format!("method {}", Method::Cot.name());
        let work = Work {
            name: &independent.name,
            title: (&independent.title, &words),
            settings,
            problems: problems.iter().collect(),
            groups: recipe.eval.groups,
            beginnings: Vec::new(),
            liars: 0,
            same_as: None,
        };
        if evaluation.groups(&work, place, worked)? == Flow::Stopped {
            return Ok(Flow::Stopped);
        }
    }
    let (alone, together) = (
        evaluation.summary(&independent.name)?,
        evaluation.summary(&row.name)?,
    );
    let paths = paths_of_same_budget(&alone, &together);
    let settings = Settings {
        paths,
        ..recipe.settings(independent, Method::Cot)?
    };
    let (title, words) = (
        match recipe
            .eval
            .rows
            .iter()
            .filter(|row| recipe.is_matched(row))
            .count()
        {
            1 => format!("{}, same tokens", independent.title),
            _ => format!("{}, tokens of {}", independent.title, row.title),
        },
        format!(
            "{paths} independent paths, which sample as many tokens as the {} paths of {}",
            together
                .settings
                .as_ref()
                .map_or(together.paths, Settings::all_paths),
            row.title
        ),
    );
    let work = Work {
        name: &name(row),
        title: (&title, &words),
        settings,
        problems: problems.iter().collect(),
        groups: recipe.eval.groups,
        beginnings: Vec::new(),
        // As many paths as in the independent row are the paths of the independent row.
        liars: 0,
        same_as: (paths == alone.paths).then_some(independent.name.as_str()),
    };
    evaluation.groups(&work, place, worked)
}

/// How many independent paths sample what a group that works together samples, at least one.
fn paths_of_same_budget(alone: &Summary, together: &Summary) -> usize {
    let groups = |row: &Summary| row.exchange.groups.max(1) as f64;
    let of_group = together.tokens.sampled() as f64 / groups(together);
    let of_path = alone.tokens.per_path(alone.tokens.sampled());
    match of_path > 0.0 {
        true => ((of_group / of_path).round() as usize).max(1),
        false => together.paths.max(1),
    }
}
