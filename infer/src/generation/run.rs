//! A generation while it is run: what the engine says goes into the journal and to its group.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use protocol::{Completion, Finish, Group, PathKey, Request, Step, Trace, Vocab};

use super::{AtFailure, AtStop, Generation, GenerationError, GenerationProgress, Watch};
use crate::engine::{Engine, EngineError};
use crate::journal::{Journal, Said};

/// What a group wants that is led back to where it was.
#[derive(Default)]
struct Open {
    /// Living paths that have begun, with the number of tokens that they began with.
    prompts: BTreeMap<PathKey, usize>,
    /// Requests that were not answered.
    requests: BTreeMap<PathKey, Request>,
}

impl Open {
    fn note(&mut self, step: Step) {
        for request in step.requests {
            if request.keep == 0 {
                self.prompts.insert(request.key, request.append.len());
            }
            self.requests.insert(request.key, request);
        }
        for key in step.ended {
            self.prompts.remove(&key);
        }
    }
}

/// A generation while it is run.
pub(super) struct Run<'a> {
    pub(super) generation: &'a Generation<'a>,
    pub(super) of: usize,
    /// Units that have not begun in this process, the next one last.
    pub(super) left: Vec<usize>,
    pub(super) journal: Journal,
    pub(super) said: Said,
    pub(super) engine: &'a mut dyn Engine,
    pub(super) vocab: &'a dyn Vocab,
    pub(super) live: BTreeMap<u32, Group>,
    /// Paths that the engine holds.
    pub(super) asked: BTreeSet<PathKey>,
    /// Requests of each open group that will be answered.
    pub(super) under_way: BTreeMap<u32, usize>,
    /// Groups with a path that could not be served: the path, and why.
    pub(super) unserved: BTreeMap<u32, (u32, String)>,
    pub(super) sampled: u64,
    pub(super) stopping: bool,
}

impl Run<'_> {
    /// Tells of the groups that earlier processes have ended.
    pub(super) fn recall(&mut self, watch: &mut Watch<'_>) -> Result<(), GenerationError> {
        let (mut groups, of) = (0, self.of);
        let mut heard = ControlFlow::Continue(());
        self.journal.ended(&mut |trace| {
            groups += 1;
            let sampled = 0;
            heard = watch(
                GenerationProgress {
                    groups,
                    of,
                    sampled,
                },
                Some(&trace),
            );
            heard
        })?;
        self.stopping = heard.is_break();
        Ok(())
    }

    pub(super) fn go(&mut self, watch: &mut Watch<'_>) -> Result<(), GenerationError> {
        self.fill(watch)?;
        while let Some(completion) = self.engine.wait()? {
            let unit = completion.key.group;
            if let Some(under_way) = self.under_way.get_mut(&unit) {
                *under_way -= 1;
            }
            match &completion.finish {
                Finish::Cancelled => {
                    // Only what a stop has cancelled comes back so: the group is asked again later.
                    self.asked.remove(&completion.key);
                    self.stopping = true;
                }
                Finish::Failed(reason) if self.generation.at_failure == AtFailure::AskAgain => {
                    let failed = (completion.key.path, reason.clone());
                    self.unserved.entry(unit).or_insert(failed);
                }
                _ => self.hear(completion, watch)?,
            }
            self.set_aside(unit);
            self.tell(watch, None);
            self.fill(watch)?;
        }
        for key in std::mem::take(&mut self.asked) {
            self.engine.close(key);
        }
        match self.stopping || self.live.is_empty() {
            true => Ok(()),
            false => Err(EngineError::Stalled {
                open: self.live.len(),
            }
            .into()),
        }
    }

    /// Makes room for another group once all is heard of one with a path that could not be served.
    fn set_aside(&mut self, unit: u32) {
        if self.unserved.contains_key(&unit) && self.under_way.get(&unit) == Some(&0) {
            self.live.remove(&unit);
            self.under_way.remove(&unit);
            for key in self.asked.extract_if(.., |key| key.group == unit) {
                self.engine.close(key);
            }
        }
    }

    fn submit(&mut self, request: Request) {
        *self.under_way.entry(request.key.group).or_default() += 1;
        self.asked.insert(request.key);
        self.engine.submit(request);
    }

    /// Begins groups, or goes on with them, until so many are open.
    fn fill(&mut self, watch: &mut Watch<'_>) -> Result<(), GenerationError> {
        while !self.stopping && self.live.len() < self.generation.open.max(1) {
            let Some(unit) = self.left.pop() else { break };
            self.begin(unit)?;
            self.end_if_done(unit as u32, watch)?;
            self.tell(watch, None);
        }
        Ok(())
    }

    /// Begins a group, or leads it back to where it was.
    fn begin(&mut self, unit: usize) -> Result<(), GenerationError> {
        let (units, index) = (&self.generation.units, unit as u32);
        let mut group = units.group(unit, index, self.engine.positions(), self.vocab)?;
        let mut open = Open::default();
        open.note(group.start(self.vocab));
        for mut completion in self.said.remove(&unit).unwrap_or_default() {
            completion.key.group = index;
            if open.requests.remove(&completion.key).is_none() {
                let (problem, group) = units.place(unit);
                return Err(GenerationError::Foreign {
                    path: self.generation.journal_path(),
                    problem: problem.id.clone(),
                    group,
                });
            }
            open.note(group.accept(completion, self.vocab));
        }
        for (key, prompt) in open.prompts {
            let request = open.requests.remove(&key);
            // A path that waits for others goes on from all it has said.
            let held = request.as_ref().map_or(usize::MAX, |request| request.keep);
            if held > 0 {
                let spans = group.spans(key.path as usize).iter();
                let ids = spans.flat_map(|span| span.ids.iter().copied());
                self.engine.adopt(key, prompt, ids.take(held).collect());
            }
            self.asked.insert(key);
            if let Some(request) = request {
                self.submit(request);
            }
        }
        self.live.insert(index, group);
        Ok(())
    }

    /// Keeps a completion, and lets its group go on.
    fn hear(
        &mut self,
        completion: Completion,
        watch: &mut Watch<'_>,
    ) -> Result<(), GenerationError> {
        let unit = completion.key.group;
        let (problem, number) = self.generation.units.place(unit as usize);
        self.journal.say(&problem.id, number, &completion)?;
        self.sampled += completion.ids.len() as u64;
        let group = self.live.get_mut(&unit).expect("what was asked is open");
        let step = group.accept(completion, self.vocab);
        for key in step.ended {
            self.asked.remove(&key);
            self.engine.close(key);
        }
        if !self.stopping {
            for request in step.requests {
                self.submit(request);
            }
        }
        self.end_if_done(unit, watch)
    }

    fn end_if_done(&mut self, unit: u32, watch: &mut Watch<'_>) -> Result<(), GenerationError> {
        if !self.live.get(&unit).is_some_and(Group::is_done) {
            return Ok(());
        }
        self.under_way.remove(&unit);
        if let Some(group) = self.live.remove(&unit) {
            let trace = self.generation.units.trace(unit as usize, group);
            self.journal.end(unit as usize, &trace)?;
            self.tell(watch, Some(&trace));
        }
        Ok(())
    }

    /// Tells how far it is, and hears whether to stop.
    fn tell(&mut self, watch: &mut Watch<'_>, ended: Option<&Trace>) {
        let progress = GenerationProgress {
            groups: self.journal.count(),
            of: self.of,
            sampled: self.sampled,
        };
        if watch(progress, ended).is_break() && !self.stopping {
            self.stopping = true;
            if self.generation.at_stop == AtStop::Cancel {
                for key in std::mem::take(&mut self.asked) {
                    self.engine.close(key);
                }
            }
        }
    }
}
