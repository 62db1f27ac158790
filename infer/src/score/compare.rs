//! Two rows on the same problems: what one gains over the other.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use protocol::grade::{AnswerKind, canonical};
use protocol::stats::{Interval, paired_bootstrap, paired_difference};
use serde::{Deserialize, Serialize};

use super::numbers::{RESAMPLES, draws};
use super::summary::Summary;

/// The difference of two rows, problem by problem.
///
/// Pairing takes away what both rows share, the difficulty of the problems, so a difference can be
/// clear though the intervals of the two rows overlap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Name of the row.
    pub row: String,
    /// Name of the row it is compared with.
    pub baseline: String,
    /// Problems both rows have groups of.
    pub problems: usize,
    /// Mean over problems of Pass@1 of the row minus Pass@1 of the baseline, from -1 to 1, with
    /// its 95% interval over problems.
    pub difference: Interval,
    /// The same mean with the percentile bootstrap over problems.
    pub bootstrap: Option<Interval>,
    /// Mean over problems of the vote's score of the row minus that of the baseline.
    pub vote: Interval,
    /// Problems with a higher Pass@1 than in the baseline.
    pub better: usize,
    /// Problems with the same.
    pub same: usize,
    /// Problems with a lower one.
    pub worse: usize,
}

/// Rows that cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// No problem is in both.
    #[error("rows `{row}` and `{baseline}` have no problem in common")]
    NothingShared {
        /// Name of the row.
        row: String,
        /// Name of the baseline.
        baseline: String,
    },
    /// A problem was graded against two answers.
    #[error(
        "problem `{problem}` has answer `{found}` in row `{row}`, but `{expected}` in `{baseline}`"
    )]
    OtherGold {
        /// Id of the problem.
        problem: String,
        /// Name of the row.
        row: String,
        /// Its answer.
        found: String,
        /// Name of the baseline.
        baseline: String,
        /// The baseline's answer.
        expected: String,
    },
}

/// Compares `row` with `baseline` over the problems that both have.
///
/// # Errors
/// If they share no problem, or a shared problem has two right answers.
pub fn compare(row: &Summary, baseline: &Summary) -> Result<Comparison, CompareError> {
    let theirs: BTreeMap<&str, _> = baseline
        .by_problem
        .iter()
        .map(|problem| (problem.id.as_str(), problem))
        .collect();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let (mut vote_before, mut vote_after) = (Vec::new(), Vec::new());
    for mine in &row.by_problem {
        let Some(other) = theirs.get(mine.id.as_str()) else {
            continue;
        };
        if !are_same(&mine.gold, &other.gold) {
            return Err(CompareError::OtherGold {
                problem: mine.id.clone(),
                row: row.name.clone(),
                found: mine.gold.clone(),
                baseline: baseline.name.clone(),
                expected: other.gold.clone(),
            });
        }
        before.push(other.pass_at_1());
        after.push(mine.pass_at_1());
        vote_before.push(other.vote());
        vote_after.push(mine.vote());
    }
    let differences = paired_difference(&before, &after);
    let votes = paired_difference(&vote_before, &vote_after);
    let Some((difference, vote)) = differences.zip(votes) else {
        let (row, baseline) = (row.name.clone(), baseline.name.clone());
        return Err(CompareError::NothingShared { row, baseline });
    };
    let pairs = || after.iter().zip(&before);
    let count = |wanted| pairs().filter(|(a, b)| a.total_cmp(b) == wanted).count();
    Ok(Comparison {
        row: row.name.clone(),
        baseline: baseline.name.clone(),
        problems: after.len(),
        difference,
        bootstrap: paired_bootstrap(&before, &after, RESAMPLES, &draws()),
        vote,
        better: count(Ordering::Greater),
        same: count(Ordering::Equal),
        worse: count(Ordering::Less),
    })
}

/// Whether two right answers are one that is written in two ways: `003` and `3`. Of what kind they are, a
/// summary does not say.
fn are_same(a: &str, b: &str) -> bool {
    let kinds = [AnswerKind::Integer, AnswerKind::Math];
    a == b
        || kinds
            .iter()
            .any(|kind| canonical(a, *kind) == canonical(b, *kind))
}
