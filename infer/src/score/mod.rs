//! From finished groups to scores: the only place where gold answers meet what paths wrote.
//!
//! Scoring needs no model and no engine, so stored groups can be graded again at any time. Its
//! result depends on the set of groups alone, not on their order or on how they were split.

mod compare;
mod numbers;
mod pool;
mod summary;
mod tally;

use std::collections::BTreeMap;

use protocol::{Problem, Settings, Trace};
use serde::{Deserialize, Serialize};

pub use self::compare::{CompareError, Comparison, compare};
pub use self::pool::pool;
pub use self::summary::{
    BlockFlips, ClaimScore, End, Ends, Exchange, Flip, GroupScore, PassAtK, PathScore,
    ProblemScore, Scores, Summary, Tokens,
};
use self::tally::{Shared, Tally};

/// What the caller knows about a row and the groups do not tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Short name, as tables show it: `LeaP-T`.
    pub name: String,
    /// What the row is, in words.
    pub title: String,
    /// The settings of the groups, if they are known; only shown, nothing is computed from them.
    pub settings: Option<Settings>,
}

/// Groups that cannot be scored together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// A group of a problem that is not in the problems.
    #[error("found group {group} of problem `{problem}`, which is not among the problems")]
    UnknownProblem {
        /// Id of the problem.
        problem: String,
        /// Number of the group.
        group: u32,
    },
    /// Two problems have the same id.
    #[error("two problems have the id `{0}`")]
    DoubledProblem(String),
    /// The same group was given twice.
    #[error("group {group} of problem `{problem}` is there twice")]
    DoubledGroup {
        /// Id of the problem.
        problem: String,
        /// Number of the group.
        group: u32,
    },
    /// A group that names what it does not hold.
    #[error("group {group} of problem `{problem}` is broken: {reason}")]
    Broken {
        /// Id of the problem.
        problem: String,
        /// Number of the group.
        group: u32,
        /// What is wrong with it.
        reason: String,
    },
    /// Groups differ in size.
    #[error("group {group} of problem `{problem}` has {paths} paths, others have {expected}")]
    Uneven {
        /// Id of the problem.
        problem: String,
        /// Number of the group.
        group: u32,
        /// Its paths.
        paths: usize,
        /// The paths of a group that came before.
        expected: usize,
    },
    /// Groups that are not of one evaluation.
    #[error("group {group} of problem `{problem}` has {what} `{found}`, others have `{expected}`")]
    Mixed {
        /// Id of the problem.
        problem: String,
        /// Number of the group.
        group: u32,
        /// What differs.
        what: &'static str,
        /// Its value in this group.
        found: String,
        /// Its value in a group that came before.
        expected: String,
    },
    /// A group written by another version.
    #[error(
        "group {group} of problem `{problem}` has version {found}, but this build reads {}",
        Trace::VERSION
    )]
    Version {
        /// Id of the problem.
        problem: String,
        /// Number of the group.
        group: u32,
        /// Its version.
        found: u32,
    },
    /// A group that was asked with its options in another order.
    #[error(
        "group {group} of problem `{problem}` was asked with other options, or in another order: \
         its letters mean something else than those of the problems"
    )]
    OtherOptions {
        /// Id of the problem.
        problem: String,
        /// Number of the group.
        group: u32,
    },
    /// There is nothing to score.
    #[error("there is no path to score")]
    Nothing,
}

/// Grades every path of `groups`, and sums up.
///
/// `problems` gives the gold answers and the order of the result. A problem without a group is
/// listed in [`Summary::missing`] and is left out of the scores.
///
/// # Errors
/// If the groups are not those of one evaluation of these problems; the error names the group.
pub fn score(
    row: &Row,
    problems: &[Problem],
    groups: impl Iterator<Item = Trace>,
) -> Result<Summary, ScoreError> {
    let mut places = BTreeMap::new();
    for (place, problem) in problems.iter().enumerate() {
        if places.insert(problem.id.as_str(), place).is_some() {
            return Err(ScoreError::DoubledProblem(problem.id.clone()));
        }
    }
    let mut shared: Option<Shared> = None;
    let mut tally = Tally::default();
    for trace in groups {
        let Some(&place) = places.get(trace.problem.as_str()) else {
            return Err(ScoreError::UnknownProblem {
                problem: trace.problem,
                group: trace.group,
            });
        };
        if trace.setup.question.choices != problems[place].question.choices {
            return Err(ScoreError::OtherOptions {
                problem: trace.problem,
                group: trace.group,
            });
        }
        shared
            .get_or_insert_with(|| Shared::of(&trace))
            .check(&trace)?;
        tally.add(&trace, place, &problems[place])?;
    }
    tally.finish(row, shared.ok_or(ScoreError::Nothing)?, problems)
}
