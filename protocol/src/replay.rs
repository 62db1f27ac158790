//! Drives a recorded group again: the same completions must lead to the same requests and routes.

use std::collections::BTreeMap;

use crate::group::Group;
use crate::request::{Completion, Finish, PathKey, Request};
use crate::setup::SetupError;
use crate::trace::{PathEnd, Span, Trace};
use crate::vocab::Vocab;

/// Why a trace does not replay.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The trace is broken.
    #[error("{0}")]
    Broken(String),
    /// The ids are of another tokenizer.
    #[error("the trace was made with tokenizer {found}, but this one is {expected}")]
    Tokenizer {
        /// Hash in the trace.
        found: String,
        /// Hash of the tokenizer at hand.
        expected: String,
    },
    /// The group cannot be made.
    #[error("the group cannot be made")]
    Setup(#[from] SetupError),
    /// The engine of that time would have held something else.
    #[error("path {path}, request {number}: {problem}")]
    Request {
        /// The path.
        path: u32,
        /// Number of the path's request, from 1.
        number: usize,
        /// What differs.
        problem: String,
    },
    /// What came out differs.
    #[error("{place} differs: the trace has {recorded}, the replay {replayed}")]
    Differs {
        /// What differs.
        place: String,
        /// What the trace has.
        recorded: String,
        /// What the replay gives.
        replayed: String,
    },
}

/// What a replay has confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Requests that were made again.
    pub requests: usize,
    /// Routes that were chosen again.
    pub routes: usize,
}

impl Trace {
    /// Drives the recorded group again with its recorded completions, and compares every request,
    /// span, route and end with the record.
    ///
    /// # Errors
    /// The first difference, or why the group cannot be driven.
    pub fn replay(&self, vocab: &dyn Vocab) -> Result<Replayed, ReplayError> {
        self.check().map_err(ReplayError::Broken)?;
        if vocab.hash() != self.origin.tokenizer {
            return Err(ReplayError::Tokenizer {
                found: self.origin.tokenizer.clone(),
                expected: vocab.hash().to_string(),
            });
        }
        // Before the group is made: a damaged setup may name more paths than memory holds.
        let (recorded, asked) = (self.paths.len(), self.setup.settings.all_paths());
        check("the number of paths", &recorded, &asked)?;
        let mut group = Group::new(0, self.setup.clone(), vocab)?;
        let mut player = Player::of(self);
        let mut open = group.start(vocab).requests;
        let mut done = Replayed::default();
        while !open.is_empty() {
            let completion = player.answer(&open.remove(0))?;
            done.requests += 1;
            open.extend(group.accept(completion, vocab).requests);
        }
        let again = group.into_trace(self.problem.clone(), self.group, self.origin.clone());
        self.compare(&again)?;
        done.routes = self.blocks.iter().map(|block| block.routes.len()).sum();
        Ok(done)
    }

    fn compare(&self, again: &Self) -> Result<(), ReplayError> {
        for (index, (old, new)) in self.paths.iter().zip(&again.paths).enumerate() {
            let place = |what: &str| format!("{what} of path {index}");
            for (number, (old, new)) in old.spans.iter().zip(&new.spans).enumerate() {
                if old != new {
                    let place = place(&format!("span {number}"));
                    return Err(differs(place, brief(old), brief(new)));
                }
            }
            check(
                place("the number of spans"),
                &old.spans.len(),
                &new.spans.len(),
            )?;
            check(place("the end"), &old.end, &new.end)?;
            check(
                place("the hash of the requests"),
                &old.requests,
                &new.requests,
            )?;
            check(place("the rest of the record"), old, new)?;
        }
        for (old, new) in self.blocks.iter().zip(&again.blocks) {
            check(format!("block {}", old.index), old, new)?;
        }
        check(
            "the number of blocks",
            &self.blocks.len(),
            &again.blocks.len(),
        )?;
        check("`counted`", &self.counted, &again.counted)?;
        check("`think_open`", &self.think_open, &again.think_open)?;
        // Traces of earlier builds have none.
        if self.plain_prompt.is_some() {
            check("`plain_prompt`", &self.plain_prompt, &again.plain_prompt)?;
        }
        check("`method`", &self.method, &again.method)
    }
}

fn check<T: PartialEq + std::fmt::Debug>(
    place: impl Into<String>,
    recorded: &T,
    replayed: &T,
) -> Result<(), ReplayError> {
    match recorded == replayed {
        true => Ok(()),
        false => Err(differs(
            place,
            format!("{recorded:?}"),
            format!("{replayed:?}"),
        )),
    }
}

fn differs(place: impl Into<String>, recorded: String, replayed: String) -> ReplayError {
    ReplayError::Differs {
        place: place.into(),
        recorded,
        replayed,
    }
}

fn brief(span: &Span) -> String {
    let text: String = span.text.chars().take(60).collect();
    format!("{:?} of {} tokens {text:?}", span.kind, span.ids.len())
}

/// An engine that answers with what was recorded.
struct Player<'a> {
    trace: &'a Trace,
    /// For each path: what it holds, and how many of its spans are played.
    paths: BTreeMap<PathKey, (Vec<u32>, usize)>,
    asked: BTreeMap<PathKey, usize>,
}

impl<'a> Player<'a> {
    fn of(trace: &'a Trace) -> Self {
        Self {
            trace,
            paths: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    fn answer(&mut self, request: &Request) -> Result<Completion, ReplayError> {
        let (held, played) = self.paths.entry(request.key).or_default();
        let asked = self.asked.entry(request.key).or_default();
        *asked += 1;
        let fault = |problem: String| ReplayError::Request {
            path: request.key.path,
            number: *asked,
            problem,
        };
        if request.keep > held.len() {
            return Err(fault(format!(
                "it keeps {} tokens of {}",
                request.keep,
                held.len()
            )));
        }
        held.truncate(request.keep);
        held.extend(&request.append);
        let path = &self.trace.paths[request.key.path as usize];
        let next = path.spans[*played..]
            .iter()
            .position(|span| span.finish.is_some());
        let Some(next) = next else {
            return match &path.end {
                PathEnd::Failed(reason) => Ok(Completion::failed(request.key, reason.clone())),
                _ => Err(fault("no completion of it is recorded".into())),
            };
        };
        let span = &path.spans[*played + next];
        *played += next + 1;
        let ids: Vec<u32> = span.ids.iter().chain(&span.dropped).copied().collect();
        if ids.len() > request.max_tokens {
            return Err(fault(format!(
                "{} tokens are recorded, but it asks for at most {}",
                ids.len(),
                request.max_tokens
            )));
        }
        held.extend(&ids);
        let finish = span.finish.clone().unwrap_or(Finish::Length);
        Ok(Completion::new(request.key, ids, finish))
    }
}
