//! What a reader must know before the numbers are believed.

use protocol::grade::{Found, Grade};

use crate::score::{End, Summary};

/// One thing that may have bent a row's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What happened, in words.
    pub what: &'static str,
    /// How often it happened, at least 1.
    pub count: u64,
    /// How often it could have happened.
    pub of: u64,
}

/// Everything in `row` that deserves a look, the gravest first; empty for a row without blemish.
pub fn warnings(row: &Summary) -> Vec<Warning> {
    let paths = row.tokens.paths;
    let (ends, exchange) = (&row.ends, &row.exchange);
    let groups = || row.by_problem.iter().flat_map(|problem| &problem.groups);
    let unanswered = || {
        let paths = groups().flat_map(|group| &group.paths);
        paths.filter(|path| path.grade == Grade::NoAnswer && path.end != End::Failed)
    };
    let unread = unanswered()
        .filter(|path| path.found != Found::None)
        .count() as u64;
    let silent = unanswered()
        .filter(|path| path.found == Found::None)
        .count() as u64;
    let problems = (row.problems + row.missing.len()) as u64;
    let (missing, incomplete) = (row.missing.len() as u64, row.incomplete.len() as u64);
    let cases = [
        (
            "problems without a group, left out of the scores",
            missing,
            problems,
        ),
        (
            "problems with fewer groups than the others",
            incomplete,
            problems,
        ),
        (
            "paths that could not be served, counted as not answered",
            ends.failed,
            paths,
        ),
        (
            "paths that marked an answer which could not be read",
            unread,
            paths,
        ),
        ("paths that gave no answer", silent, paths),
        (
            "paths that used up their budget and had to answer",
            ends.forced,
            paths,
        ),
        (
            "paths that outgrew the model's positions and had to answer",
            ends.outgrown,
            paths,
        ),
        ("answers cut at their limit", ends.cut_answers, paths),
        (
            "summaries cut at their limit",
            exchange.cut_summaries,
            exchange.summaries,
        ),
        (
            "readings with no peer left to hear",
            exchange.without_peers,
            exchange.readings,
        ),
    ];
    let told = cases.into_iter().filter(|(_, count, _)| *count > 0);
    told.map(|(what, count, of)| Warning { what, count, of })
        .collect()
}
