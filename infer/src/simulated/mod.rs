//! A simulated reasoner as an engine: no weights, but it errs, sums up and reads its peers.
//!
//! Like any engine it sees only the ids of its requests. It reads the problem from the prompt and
//! solves it itself, so a changed gold answer changes nothing it writes. It is the teacher of the
//! miniature experiment, and a test double for what drives engines.

mod reasoner;
pub mod search;
pub mod sum;

use std::collections::{BTreeMap, VecDeque};

use protocol::{Completion, Finish, PathKey, Request, Vocab};
use serde::{Deserialize, Serialize};

use self::reasoner::{Draws, Habits};
use self::search::Search;
use self::sum::Sum;
use crate::engine::{Engine, EngineError};

/// How the simulated reasoner behaves; part of a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulation {
    /// Probability, per computed value, that a wrong one is written down: 0 to below 1.
    pub slip: f64,
    /// Whether a candidate that was tried is not tried again. Without memory a path is as lucky as
    /// its number of tries, and training cannot make it luckier.
    pub remembers: bool,
    /// How often a solution is checked before it is trusted.
    pub checks: usize,
    /// Longest path in tokens.
    pub positions: usize,
    /// Whether its summaries claim a wrong solution, whatever it found; all liars on a problem claim
    /// the same one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lies: bool,
}

/// The engine. See the module text.
pub struct SimulatedEngine<'a> {
    simulation: Simulation,
    vocab: &'a dyn Vocab,
    paths: BTreeMap<PathKey, Written>,
    queue: VecDeque<Request>,
    cancelled: VecDeque<PathKey>,
}

#[derive(Default)]
struct Written {
    prompt: usize,
    ids: Vec<u32>,
}

/// A problem it can read.
enum Task {
    Search(Search),
    Sum(Sum),
}

impl Task {
    fn find_in(prompt: &str) -> Option<Self> {
        Search::find_in(prompt)
            .map(Self::Search)
            .or_else(|| Sum::find_in(prompt).map(Self::Sum))
    }

    fn next(&self, written: &str, habits: Habits, draws: &mut Draws<'_>) -> (String, bool) {
        match self {
            Self::Search(search) => reasoner::next(search, written, habits, draws),
            Self::Sum(sum) => sum.next(written, habits, draws),
        }
    }
}

impl<'a> SimulatedEngine<'a> {
    /// An engine that writes in the ids of `vocab`.
    pub fn new(simulation: Simulation, vocab: &'a dyn Vocab) -> Self {
        Self {
            simulation,
            vocab,
            paths: BTreeMap::new(),
            queue: VecDeque::new(),
            cancelled: VecDeque::new(),
        }
    }

    /// The name that traces carry for this teacher.
    pub fn name(simulation: &Simulation) -> String {
        let Simulation {
            slip,
            remembers,
            checks,
            lies,
            ..
        } = simulation;
        let lies = if *lies { ", lies" } else { "" };
        let memory = if *remembers { "memory" } else { "no memory" };
        format!("simulated reasoner (slip {slip}, {memory}, {checks} checks{lies})")
    }

    fn complete(&mut self, request: Request) -> Completion {
        let path = self.paths.entry(request.key).or_default();
        path.ids.truncate(request.keep);
        path.ids.extend_from_slice(&request.append);
        if request.keep == 0 {
            path.prompt = request.append.len();
        }
        let key = request.key;
        if path.ids.len() + request.max_tokens > self.simulation.positions {
            let reason = format!(
                "{} tokens and {} more are over {} positions",
                path.ids.len(),
                request.max_tokens,
                self.simulation.positions
            );
            return Completion::failed(key, reason);
        }
        let prompt = self.vocab.text(&path.ids[..path.prompt]);
        let Some(problem) = Task::find_in(&prompt) else {
            let reason = "the simulated reasoner knows the families `search` and `sum` only";
            return Completion::failed(key, reason);
        };
        if self.simulation.lies && matches!(problem, Task::Sum(_)) {
            let reason = "the simulated reasoner lies on problems of the family `search` only";
            return Completion::failed(key, reason);
        }
        let written = self.vocab.text(&path.ids[path.prompt..]);
        let (ids, finish) = self.write(&problem, &written, path_len(&self.paths, key), &request);
        if let Some(path) = self.paths.get_mut(&key) {
            path.ids.extend_from_slice(&ids);
        }
        Completion::new(key, ids, finish)
    }

    fn write(
        &self,
        problem: &Task,
        written: &str,
        position: usize,
        request: &Request,
    ) -> (Vec<u32>, Finish) {
        let stream = request.stream.named("reasoner").indexed(position as u64);
        let mut draws = Draws {
            stream: &stream,
            next: 0,
        };
        let Simulation {
            slip,
            remembers,
            checks,
            lies,
            ..
        } = self.simulation;
        let habits = Habits {
            slip,
            remembers,
            checks,
            lies,
        };
        let mut text = written.to_string();
        loop {
            let (piece, ended) = problem.next(&text, habits, &mut draws);
            text.push_str(&piece);
            let new = &text[written.len()..];
            let stop = first_stop(new, &request.stop.strings);
            let kept = stop.map_or(new, |(_, end)| &new[..end]);
            let mut ids = self.vocab.encode(kept);
            if ids.len() >= request.max_tokens && (stop.is_none() || ids.len() > request.max_tokens)
            {
                ids.truncate(request.max_tokens);
                return (ids, Finish::Length);
            }
            if let Some((index, _)) = stop {
                return (ids, Finish::Stop(index));
            }
            if ended {
                ids.extend(request.stop.eos.first());
                return (ids, Finish::Eos);
            }
        }
    }
}

fn path_len(paths: &BTreeMap<PathKey, Written>, key: PathKey) -> usize {
    paths.get(&key).map_or(0, |path| path.ids.len())
}

/// The stop string that is completed first, and the byte behind it.
fn first_stop(text: &str, stops: &[String]) -> Option<(usize, usize)> {
    let ends = stops
        .iter()
        .enumerate()
        .filter_map(|(index, stop)| text.find(stop.as_str()).map(|at| (index, at + stop.len())));
    ends.min_by_key(|&(index, end)| (end, index))
}

impl Engine for SimulatedEngine<'_> {
    fn submit(&mut self, request: Request) {
        self.queue.push_back(request);
    }

    fn adopt(&mut self, key: PathKey, prompt: usize, ids: Vec<u32>) {
        self.paths.insert(key, Written { prompt, ids });
    }

    fn close(&mut self, key: PathKey) {
        self.paths.remove(&key);
        let queued = self.queue.len();
        self.queue.retain(|request| request.key != key);
        if self.queue.len() < queued {
            self.cancelled.push_back(key);
        }
    }

    fn wait(&mut self) -> Result<Option<Completion>, EngineError> {
        if let Some(key) = self.cancelled.pop_front() {
            return Ok(Some(Completion::new(key, Vec::new(), Finish::Cancelled)));
        }
        let request = self.queue.pop_front();
        Ok(request.map(|request| self.complete(request)))
    }

    fn positions(&self) -> usize {
        self.simulation.positions
    }
}
