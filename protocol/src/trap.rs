//! The prefix dominance trap: how much does a bad beginning cost, and what do peers repair?
//!
//! From stored groups, responses with the wrong answer (or the right one) are chosen, one for each
//! problem; their first tokens are what new paths have to go on from. Source: paper, section 2.1,
//! where it is 10 problems, 15% of each response and 16 continuations.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::grade::{Grade, grade};
use crate::problem::Problem;
use crate::seed::Stream;
use crate::stats::{Interval, mean, mean_interval, paired_difference};
use crate::trace::{PathTrace, SpanKind, Trace};

/// Which responses paths are made to go on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Beginnings {
    /// Those with a wrong answer; one without an answer counts as wrong.
    #[default]
    Wrong,
    /// Those with the right one (paper, appendix B).
    Right,
}

/// How beginnings are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trap {
    /// Which responses.
    pub beginnings: Beginnings,
    /// Most problems, of those that have both right and wrong responses; drawn by lot.
    pub problems: usize,
    /// Share of a response's sampled tokens that is kept, above 0 and below 1.
    pub share: f64,
}

impl Default for Trap {
    fn default() -> Self {
        Self {
            beginnings: Beginnings::Wrong,
            problems: 10,
            share: 0.15,
        }
    }
}

/// What paths on one problem have to begin with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Beginning {
    /// Id of the problem.
    pub problem: String,
    /// Group and path of the response.
    pub from: (u32, u32),
    /// Its first thought tokens.
    pub ids: Vec<u32>,
    /// Share of the stored responses on this problem that are right.
    pub unconstrained: f64,
}

/// Why there is nothing to choose.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrapError {
    /// The share is out of range.
    #[error("`share` is {0}, but must be above 0 and below 1")]
    Share(f64),
    /// No problem qualifies.
    #[error(
        "none of the {looked_at} problems has both right and wrong responses that are long enough: \
         store more paths on each, or other problems"
    )]
    Nothing {
        /// Problems with stored groups.
        looked_at: usize,
    },
    /// A group of a problem that is not known.
    #[error("there is a group on problem `{0}`, but no such problem")]
    Unknown(String),
    /// A beginning that nothing went on from.
    #[error("no group goes on from the beginning on problem `{0}`")]
    NotRun(String),
    /// Responses that begin with somebody else's words.
    #[error(
        "the group on problem `{problem}` was made by method `{method}`: beginnings are taken from \
         groups without exchange (`cot`)"
    )]
    Exchange {
        /// The problem.
        problem: String,
        /// Its method.
        method: &'static str,
    },
}

impl Trap {
    /// Chooses one beginning for each of at most [`Trap::problems`] problems, in file order.
    ///
    /// # Errors
    /// If the share is out of range, a group does not fit, or no problem qualifies.
    pub fn choose(
        &self,
        traces: &[Trace],
        problems: &[Problem],
        lot: &Stream,
    ) -> Result<Vec<Beginning>, TrapError> {
        if !(self.share > 0.0 && self.share < 1.0) {
            return Err(TrapError::Share(self.share));
        }
        let known: BTreeMap<&str, usize> = (problems.iter().enumerate())
            .map(|(place, problem)| (problem.id.as_str(), place))
            .collect();
        let mut responses: BTreeMap<usize, Vec<Response<'_>>> = BTreeMap::new();
        for trace in traces {
            let unknown = || TrapError::Unknown(trace.problem.clone());
            let &place = known.get(trace.problem.as_str()).ok_or_else(unknown)?;
            if trace.method.exchanges() || trace.method == crate::Method::Moa {
                return Err(TrapError::Exchange {
                    problem: trace.problem.clone(),
                    method: trace.method.name(),
                });
            }
            let all = responses.entry(place).or_default();
            all.extend(Response::of(trace, &problems[place]));
        }
        let looked_at = responses.len();
        let mut chosen = Vec::new();
        for (place, responses) in responses {
            let problem = &problems[place];
            let lot = lot.named(&problem.id);
            chosen.extend(
                self.choose_one(problem, &responses, &lot)
                    .map(|it| (place, it)),
            );
        }
        lot.shuffle(&mut chosen);
        chosen.truncate(self.problems);
        chosen.sort_by_key(|(place, _)| *place);
        match chosen.is_empty() {
            true => Err(TrapError::Nothing { looked_at }),
            false => Ok(chosen.into_iter().map(|(_, beginning)| beginning).collect()),
        }
    }

    fn choose_one(
        &self,
        problem: &Problem,
        responses: &[Response<'_>],
        lot: &Stream,
    ) -> Option<Beginning> {
        let right = responses.iter().filter(|response| response.right).count();
        if right == 0 || right == responses.len() {
            return None;
        }
        let wanted = self.beginnings == Beginnings::Right;
        let mut candidates: Vec<(&Response<'_>, Vec<u32>)> = responses
            .iter()
            .filter(|response| response.right == wanted)
            .map(|response| (response, response.first(self.share)))
            .filter(|(_, ids)| !ids.is_empty())
            .collect();
        if candidates.is_empty() {
            return None;
        }
        let (response, ids) = candidates.swap_remove(lot.below(0, candidates.len()));
        Some(Beginning {
            problem: problem.id.clone(),
            from: response.from,
            ids,
            unconstrained: right as f64 / responses.len() as f64,
        })
    }
}

/// What the trap came to: scores from 0 to 1, each problem counting the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// Pass@1 of the stored responses on the chosen problems.
    pub unconstrained: Interval,
    /// Pass@1 of independent paths that go on from the beginnings.
    pub independent: Interval,
    /// Pass@1 of paths that go on from them and exchange.
    pub with_peers: Interval,
    /// `independent - unconstrained`, paired by problem: what the beginning does. The paper's gap
    /// of a bad beginning is this number without its sign.
    pub gap_independent: Interval,
    /// `with_peers - unconstrained`.
    pub gap_with_peers: Interval,
    /// `with_peers - independent`: what peers repair.
    pub repaired: Interval,
    /// The scores behind it, in file order.
    pub by_problem: Vec<Continued>,
}

/// The scores on one problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Continued {
    /// Id of the problem.
    pub problem: String,
    /// Share of the stored responses that are right.
    pub unconstrained: f64,
    /// Share of independent paths that are right.
    pub independent: f64,
    /// Share of exchanging paths that are right.
    pub with_peers: f64,
}

/// Scores what became of the beginnings.
///
/// # Errors
/// If there is no group on a beginning's problem.
pub fn outcome(
    beginnings: &[Beginning],
    problems: &[Problem],
    independent: &[Trace],
    with_peers: &[Trace],
) -> Result<Outcome, TrapError> {
    let score = |traces: &[Trace], id: &str| {
        let unknown = || TrapError::Unknown(id.to_string());
        let problem = problems.iter().find(|problem| problem.id == id);
        let problem = problem.ok_or_else(unknown)?;
        let groups = traces.iter().filter(|trace| trace.problem == id);
        let right: Vec<f64> = groups
            .flat_map(|trace| {
                let paths = trace.counted();
                paths.map(|path| f64::from(is_right(path, trace.think_open, problem)))
            })
            .collect();
        mean(&right).ok_or_else(|| TrapError::NotRun(id.to_string()))
    };
    let mut by_problem = Vec::with_capacity(beginnings.len());
    for beginning in beginnings {
        by_problem.push(Continued {
            problem: beginning.problem.clone(),
            unconstrained: beginning.unconstrained,
            independent: score(independent, &beginning.problem)?,
            with_peers: score(with_peers, &beginning.problem)?,
        });
    }
    let column = |of: fn(&Continued) -> f64| by_problem.iter().map(of).collect::<Vec<f64>>();
    let free = column(|scores| scores.unconstrained);
    let alone = column(|scores| scores.independent);
    let peers = column(|scores| scores.with_peers);
    let nothing = || TrapError::Nothing { looked_at: 0 };
    let interval = |scores: &[f64]| mean_interval(scores).ok_or_else(nothing);
    let difference = |a: &[f64], b: &[f64]| paired_difference(a, b).ok_or_else(nothing);
    Ok(Outcome {
        unconstrained: interval(&free)?,
        independent: interval(&alone)?,
        with_peers: interval(&peers)?,
        gap_independent: difference(&free, &alone)?,
        gap_with_peers: difference(&free, &peers)?,
        repaired: difference(&alone, &peers)?,
        by_problem,
    })
}

fn is_right(path: &PathTrace, think_open: bool, problem: &Problem) -> bool {
    let text = path.answer_text(think_open).unwrap_or_default();
    let graded = grade(problem.gold.as_str(), &text, problem.question.kind);
    graded.grade == Grade::Right
}

struct Response<'a> {
    from: (u32, u32),
    path: &'a PathTrace,
    right: bool,
}

impl<'a> Response<'a> {
    fn of(trace: &'a Trace, problem: &Problem) -> Vec<Self> {
        let paths = trace.paths.iter().enumerate();
        paths
            .map(|(index, path)| Self {
                from: (trace.group, index as u32),
                path,
                right: is_right(path, trace.think_open, problem),
            })
            .collect()
    }

    /// The first tokens of the response: a share of what it sampled, but at most half of its
    /// thought, so that the end of the thought is not among them.
    fn first(&self, share: f64) -> Vec<u32> {
        let spans = self.path.spans.iter();
        let thoughts = spans.filter(|span| span.kind == SpanKind::Thought);
        let mut ids: Vec<u32> = thoughts.flat_map(|span| &span.ids).copied().collect();
        let keep = (self.path.sampled() as f64 * share) as usize;
        ids.truncate(keep.min(ids.len() / 2));
        ids
    }
}
