//! One row out of the same row of several runs.

use std::collections::BTreeSet;

use super::summary::{BlockFlips, ProblemScore, Summary};
use super::{Row, numbers};

/// Puts the summaries of one row of several runs together, as if their problems were those of one
/// run: every problem of every run counts the same, and intervals are over all of them.
///
/// Each run has a label, which is put in front of the ids of its problems. What differs between the
/// runs by nature, the seed, the model and the recipe, is that of the first. `None` if there is
/// nothing to put together, or the methods differ.
pub fn pool(row: &Row, parts: &[(&str, &Summary)]) -> Option<Summary> {
    let (_, first) = parts.first()?;
    if parts.iter().any(|(_, part)| part.method != first.method) {
        return None;
    }
    let labelled = |(label, part): &(&str, &Summary)| -> Vec<ProblemScore> {
        let name = |problem: &ProblemScore| ProblemScore {
            id: format!("{label}/{}", problem.id),
            ..problem.clone()
        };
        part.by_problem.iter().map(name).collect()
    };
    let by_problem: Vec<ProblemScore> = parts.iter().flat_map(labelled).collect();
    let ids = |of: fn(&Summary) -> &Vec<String>| {
        let named = |(label, part): &(&str, &Summary)| -> Vec<String> {
            of(part).iter().map(|id| format!("{label}/{id}")).collect()
        };
        parts.iter().flat_map(named).collect::<Vec<String>>()
    };
    let devices: BTreeSet<&String> = parts.iter().flat_map(|(_, part)| &part.devices).collect();
    let flips: Vec<BlockFlips> = numbers::flips(&by_problem);
    let mut all = Summary {
        name: row.name.clone(),
        title: row.title.clone(),
        settings: row.settings.clone(),
        devices: devices.into_iter().cloned().collect(),
        problems: by_problem.len(),
        missing: ids(|part| &part.missing),
        incomplete: ids(|part| &part.incomplete),
        groups: parts.iter().map(|(_, part)| part.groups).max()?,
        scores: numbers::scores(&by_problem)?,
        flips,
        by_problem,
        ..(*first).clone()
    };
    for (_, part) in &parts[1..] {
        let (to, from) = (&mut all.tokens, &part.tokens);
        to.paths += from.paths;
        to.dropped += from.dropped;
        to.prefilled += from.prefilled;
        for (kind, count) in &from.by_kind {
            *to.by_kind.entry(*kind).or_default() += count;
        }
        all.ends.add(&part.ends);
        all.exchange.add(&part.exchange);
    }
    Some(all)
}
