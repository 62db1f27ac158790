//! Votes over the answers of a group.

use serde::{Deserialize, Serialize};

use super::{Estimate, PathScore, Problems, estimate, group_scores};
use crate::grade::Grade;

/// The outcome of a vote.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Vote {
    /// The answers with the most votes, in the order in which they were first given; several
    /// after a tie, none if nobody answered.
    pub winners: Vec<String>,
    /// How many votes each winner has.
    pub votes: u64,
    /// How many paths voted.
    pub voters: u64,
    /// Chance that an answer drawn evenly from the winners is right; 0 without winners.
    pub score: f64,
}

/// The majority vote of `paths` over their canonical answers.
///
/// Paths without an answer do not vote. A tie is settled by drawing evenly among the tied
/// answers, and the score is the chance that the draw is right: nothing depends on the order of
/// paths, and an expectation has less noise than a draw.
pub fn majority<'a>(paths: impl IntoIterator<Item = &'a PathScore>) -> Vote {
    struct Tally<'a> {
        answer: &'a str,
        votes: u64,
        right: u64,
    }
    let mut tallies: Vec<Tally<'_>> = Vec::new();
    let mut voters = 0;
    for path in paths {
        let Some(answer) = path
            .answer
            .as_deref()
            .filter(|_| path.grade != Grade::NoAnswer)
        else {
            continue;
        };
        voters += 1;
        let right = u64::from(path.grade == Grade::Right);
        match tallies.iter_mut().find(|t| t.answer == answer) {
            Some(tally) => {
                tally.votes += 1;
                tally.right += right;
            }
            None => tallies.push(Tally {
                answer,
                votes: 1,
                right,
            }),
        }
    }
    let votes = tallies.iter().map(|t| t.votes).max().unwrap_or(0);
    let winners: Vec<&Tally<'_>> = tallies.iter().filter(|t| t.votes == votes).collect();
    // One answer has one verdict; a share would only differ from 0 and 1 if grades were mixed.
    let right: f64 = winners
        .iter()
        .map(|t| t.right as f64 / t.votes as f64)
        .sum();
    let score = if winners.is_empty() {
        0.0
    } else {
        right / winners.len() as f64
    };
    let winners = winners.iter().map(|t| t.answer.to_owned()).collect();
    Vote {
        winners,
        votes,
        voters,
        score,
    }
}

/// Cons@N: the majority vote inside each group, averaged over groups, then over problems.
///
/// Errors as in [`super::pass_at_1`]. A group in which nobody answered scores 0; groups without
/// paths are left out. `None` if nothing is left.
pub fn cons_at_n(problems: &Problems) -> Option<Estimate> {
    estimate(&group_scores(problems, |paths| {
        (!paths.is_empty()).then(|| majority(paths).score)
    }))
}

/// The majority vote among the shortest half of each group: long reasoning is more often lost
/// reasoning.
///
/// The paths *with an answer* are ordered by generated tokens and the shorter half of them
/// (rounded up) votes; a path as long as the longest that votes votes, too, so the result does
/// not depend on the order of paths. Averages and errors as in [`cons_at_n`].
///
/// Source: the rule of Zeng et al., "Revisiting the Test-Time Scaling of o1-like Models" (arXiv
/// 2502.12215), weighs answers by count over the logarithm of their length; Hassid et al.,
/// "Don't Overthink it" (arXiv 2505.17813, short-m@k), vote among the first m paths to finish.
/// This is the latter with m = half of the answers.
pub fn shortest_majority(problems: &Problems) -> Option<Estimate> {
    estimate(&group_scores(problems, |paths| {
        (!paths.is_empty()).then(|| majority(shorter_half(paths)).score)
    }))
}

fn shorter_half(paths: &[PathScore]) -> Vec<&PathScore> {
    let answered: Vec<&PathScore> = paths
        .iter()
        .filter(|p| p.answer.is_some() && p.grade != Grade::NoAnswer)
        .collect();
    let mut lengths: Vec<u64> = answered.iter().map(|p| p.tokens).collect();
    lengths.sort_unstable();
    let Some(limit) = lengths
        .get(lengths.len().div_ceil(2).saturating_sub(1))
        .copied()
    else {
        return Vec::new();
    };
    answered.into_iter().filter(|p| p.tokens <= limit).collect()
}
