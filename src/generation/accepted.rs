//! How many paths of a generation would be trained on: the progress line's measure of a teacher.

use std::collections::BTreeMap;

use data_gen::filters::{Verdict, verdicts};
use protocol::{PathEnd, PathTrace, Problem, Trace};

/// Paths of the groups that have ended, and how many of them would be trained on.
pub(super) struct Accepted<'a> {
    problems: BTreeMap<&'a str, &'a Problem>,
    pub(super) accepted: usize,
    pub(super) paths: usize,
    /// Paths that could not be served, and have left their groups.
    pub(super) failed: usize,
}

impl<'a> Accepted<'a> {
    pub(super) fn of(problems: &'a [Problem]) -> Self {
        let by_id = problems
            .iter()
            .map(|problem| (problem.id.as_str(), problem));
        Self {
            problems: by_id.collect(),
            accepted: 0,
            paths: 0,
            failed: 0,
        }
    }

    pub(super) fn add(&mut self, trace: &Trace, max_tokens: usize) {
        let Some(problem) = self.problems.get(trace.problem.as_str()) else {
            return;
        };
        let verdicts = verdicts(trace, problem, max_tokens);
        self.paths += verdicts.len();
        let failed = |path: &&PathTrace| matches!(path.end, PathEnd::Failed(_));
        self.failed += trace.paths.iter().filter(failed).count();
        let kept = verdicts.iter().filter(|verdict| **verdict == Verdict::Kept);
        self.accepted += kept.count();
    }

    pub(super) fn words(&self) -> String {
        let words = format!("{} of {} paths accepted", self.accepted, self.paths);
        match self.failed {
            0 => words,
            failed => format!("{words}, {failed} failed"),
        }
    }
}
