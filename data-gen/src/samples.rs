//! From traces to a training set: keep, cap, mix.

use std::collections::BTreeMap;

use protocol::{NoPlainPrompt, Problem, Sample, Trace};
use serde::{Deserialize, Serialize};

use crate::filters::{Verdict, verdicts};

/// What a training set takes from its traces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Whether only right paths are kept; otherwise all that an engine finished.
    pub right_only: bool,
    /// Whether right paths are kept, too, of which a summary was cut at its limit instead of ended;
    /// against the paper's rule, for measuring what it is good for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut_summaries: bool,
    /// Most paths of one problem; the first ones in path order.
    pub per_problem: usize,
    /// Longest sample in tokens.
    pub max_tokens: usize,
}

/// What became of the paths of a set of traces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting {
    /// Paths by verdict.
    pub paths: BTreeMap<Verdict, usize>,
    /// Kept paths that were left out because their problem had enough.
    pub over_cap: usize,
    /// Samples written.
    pub samples: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Those of them that a path sampled itself.
    pub sampled_tokens: usize,
}

/// Why no samples can be made of a trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    /// It is on a problem that is not in the problems file.
    #[error("there is a trace of problem `{0}`, but no such problem")]
    UnknownProblem(String),
    /// It does not hold the prompt that samples begin with.
    #[error(transparent)]
    NoPlainPrompt(#[from] NoPlainPrompt),
}

impl Selection {
    /// Adds the samples of one trace, and counts what became of its paths.
    ///
    /// # Errors
    /// If the trace is of a problem that is not in `problems`, or of an earlier build that did not
    /// write down what samples begin with.
    pub fn take(
        &self,
        trace: &Trace,
        problems: &BTreeMap<&str, &Problem>,
        taken: &mut BTreeMap<String, usize>,
        account: &mut Accounting,
    ) -> Result<Vec<Sample>, TakeError> {
        let problem = problems
            .get(trace.problem.as_str())
            .ok_or_else(|| TakeError::UnknownProblem(trace.problem.clone()))?;
        let mut samples = Vec::new();
        for (path, verdict) in verdicts(trace, problem, self.max_tokens)
            .into_iter()
            .enumerate()
        {
            *account.paths.entry(verdict).or_default() += 1;
            let wrong = matches!(
                verdict,
                Verdict::Wrong | Verdict::NoAnswer | Verdict::CutAnswer
            );
            let kept =
                verdict == Verdict::Kept || (self.cut_summaries && verdict == Verdict::CutSummary);
            if !kept && (self.right_only || !wrong) {
                continue;
            }
            let count = taken.entry(trace.problem.clone()).or_default();
            if *count >= self.per_problem {
                account.over_cap += 1;
                continue;
            }
            *count += 1;
            let sample = Sample::of_path(trace, path)?;
            account.samples += 1;
            account.tokens += sample.len();
            account.sampled_tokens += sample.tokens(protocol::SpanKind::is_sampled);
            samples.push(sample);
        }
        Ok(samples)
    }
}

impl Accounting {
    /// Paths that were looked at.
    pub fn looked_at(&self) -> usize {
        self.paths.values().sum()
    }

    /// One line that says what was kept and why the rest was not.
    pub fn line(&self) -> String {
        let all = self.looked_at();
        let rejected: Vec<String> = self
            .paths
            .iter()
            .filter(|(verdict, _)| **verdict != Verdict::Kept)
            .map(|(verdict, count)| format!("{count} {}", verdict.name()))
            .collect();
        let kept = self.paths.get(&Verdict::Kept).copied().unwrap_or(0);
        let share = if all == 0 {
            0.0
        } else {
            100.0 * kept as f64 / all as f64
        };
        let rest = if rejected.is_empty() {
            String::new()
        } else {
            format!("; {}", rejected.join(", "))
        };
        format!("{kept} of {all} paths accepted ({share:.0}%){rest}")
    }
}
