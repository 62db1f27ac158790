//! The first fault of a path, in a word: a summary of some filters.

use protocol::grade::Grade;
use protocol::{PathEnd, Problem, Trace};
use serde::{Deserialize, Serialize};

use super::answer;

/// Why a path is not trained on.
///
/// `wrong` and `cut_summary` are the paper's rule: "answer right, and every summary under its
/// limit" (section 4.1); the others refuse paths that a student should not imitate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is wrong with it.
    Kept,
    /// The engine could not serve it.
    Failed,
    /// Another path of its group went on alone.
    Released,
    /// No answer was found in its own words.
    NoAnswer,
    /// Its answer is wrong.
    Wrong,
    /// One of its summaries was cut at the limit.
    CutSummary,
    /// Its answer was cut at its limit instead of ended by the path.
    CutAnswer,
    /// It is longer than training allows.
    TooLong,
}

impl Verdict {
    /// The name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Failed => "failed",
            Self::Released => "released",
            Self::NoAnswer => "no answer",
            Self::Wrong => "wrong answer",
            Self::CutSummary => "summary cut at its limit",
            Self::CutAnswer => "answer cut at its limit",
            Self::TooLong => "longer than `max_tokens`",
        }
    }
}

/// The first fault of each path, in path order. `max_tokens` is the longest sample that is kept.
pub fn verdicts(trace: &Trace, problem: &Problem, max_tokens: usize) -> Vec<Verdict> {
    (0..trace.paths.len())
        .map(|path| verdict(trace, path, problem, max_tokens))
        .collect()
}

fn verdict(trace: &Trace, index: usize, problem: &Problem, max_tokens: usize) -> Verdict {
    let path = &trace.paths[index];
    match path.end {
        PathEnd::Failed(_) => return Verdict::Failed,
        PathEnd::Released => return Verdict::Released,
        _ => {}
    }
    match answer::graded(path, trace.think_open, problem).grade {
        Grade::NoAnswer => Verdict::NoAnswer,
        Grade::Wrong => Verdict::Wrong,
        Grade::Right if path.cut_summaries > 0 => Verdict::CutSummary,
        Grade::Right if !answer::ended(path).pass => Verdict::CutAnswer,
        Grade::Right if trace.trained_len(index) > max_tokens => Verdict::TooLong,
        Grade::Right => Verdict::Kept,
    }
}
