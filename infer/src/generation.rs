//! Runs groups on many problems, so many at a time, and loses nothing.
//!
//! As soon as a group ends, the next one begins: no group waits for the slowest of a wave. What
//! paths say is kept in a [`Journal`] as it comes; a run that was cut off, at any moment, goes on
//! with every group where it was. It ends with the same bytes as an undisturbed one on engines whose
//! numbers do not depend on the batch: the CPU, the simulated reasoner, and servers that heed seeds
//! and compute each text on its own.

use std::collections::{BTreeMap, BTreeSet};
use std::num::ParseIntError;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use protocol::{Completion, Finish, Group, PathKey, Request, Step, Trace, Vocab};

use crate::engine::{Engine, EngineError};
use crate::journal::{self, Journal, Said};
use crate::lines::LinesError;
use crate::units::{UnfitError, UnitError, Units};
use crate::waves::Ran;

/// Which groups to run, and where they are kept.
pub struct Generation<'a> {
    /// The groups.
    pub units: Units<'a>,
    /// The part of them that this process runs.
    pub shard: Shard,
    /// Groups that are solved at a time, at least 1.
    pub open: usize,
    /// What becomes of requests under way when a stop is asked for.
    pub at_stop: AtStop,
    /// What becomes of a path that the engine could not serve.
    pub at_failure: AtFailure,
    /// The finished file; the journal lies beside it.
    pub file: &'a Path,
    /// Binds the journal to one set of inputs and settings; the traces' `origin.recipe`.
    pub key: &'a str,
}

/// What becomes of requests under way when a stop is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtStop {
    /// They are waited for, and kept. For engines that answer whether or not anybody waits.
    Drain,
    /// They are cancelled, and asked again by the process that goes on.
    Cancel,
}

/// What becomes of a path that the engine could not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtFailure {
    /// It has failed and leaves its group, for good. For engines that would fail again.
    Leave,
    /// Nothing of it is kept: its group waits, the others go on, and the process that goes on asks
    /// again.
    AskAgain,
}

/// Every `of`th problem, beginning with number `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which one, from 1.
    pub index: usize,
    /// Of how many.
    pub of: usize,
}

/// A text that names no shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no shard: write 2/8 for the second of eight")]
pub struct ShardError(String);

impl Shard {
    /// All problems.
    pub const WHOLE: Self = Self { index: 1, of: 1 };

    /// Whether it has the problem with this number, from 0.
    pub fn has(self, problem: usize) -> bool {
        problem % self.of == self.index - 1
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let numbers = || -> Result<Option<Self>, ParseIntError> {
            let Some((index, of)) = text.split_once('/') else {
                return Ok(None);
            };
            let (index, of) = (index.trim().parse()?, of.trim().parse()?);
            Ok((1..=of).contains(&index).then_some(Self { index, of }))
        };
        let found = numbers().ok().flatten();
        found.ok_or_else(|| ShardError(text.to_owned()))
    }
}

/// How far a generation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GenerationProgress {
    /// Groups that have ended, those of earlier processes included.
    pub groups: usize,
    /// Groups in all.
    pub of: usize,
    /// Tokens sampled by this process.
    pub sampled: u64,
}

/// Why a generation failed; what has been said is kept.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// What was said cannot be kept.
    #[error(transparent)]
    Journal(#[from] LinesError),
    /// A group cannot be made on a problem.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// There are problems on which no group can be made; nothing was asked.
    #[error(transparent)]
    Unfit(#[from] UnfitError),
    /// The engine is unusable.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What has been said was computed elsewhere; a trace has one origin.
    #[error("`{}` holds what was computed on `{was}`, and not on `{is}`", path.display())]
    Elsewhere {
        /// The journal.
        path: PathBuf,
        /// Where it was computed.
        was: String,
        /// Where it would be now.
        is: String,
    },
    /// All other groups have ended; the same run asks again.
    #[error(
        "{groups} of {of} groups wait for what could not be had. Path {path} of group {group} of \
         `{problem}`: {reason}"
    )]
    Unserved {
        /// Groups that wait.
        groups: usize,
        /// Groups in all.
        of: usize,
        /// Id of the first one's problem.
        problem: String,
        /// Which of its groups.
        group: u32,
        /// The path, from 0.
        path: u32,
        /// Why it could not be served.
        reason: String,
    },
    /// What the journal says a group has said, it was never asked.
    #[error(
        "`{}` does not belong to this run: group {group} of `{problem}` was never asked what it \
         answers there",
        path.display()
    )]
    Foreign {
        /// The journal.
        path: PathBuf,
        /// Id of the problem.
        problem: String,
        /// Which of its groups.
        group: u32,
    },
}

/// Hears how far it is after every completion, and of each group that ends, those that earlier
/// processes have ended before all others; says whether to stop.
pub type Watch<'a> = dyn FnMut(GenerationProgress, Option<&Trace>) -> ControlFlow<()> + 'a;

impl Generation<'_> {
    /// Runs what has not ended yet; at the end the file has its final name.
    ///
    /// # Errors
    /// If a problem does not fit, the engine fails or a file cannot be written.
    pub fn run(
        &self,
        engine: &mut dyn Engine,
        vocab: &dyn Vocab,
        watch: &mut Watch<'_>,
    ) -> Result<Ran, GenerationError> {
        if self.is_done()? {
            return Ok(Ran::Done);
        }
        let (mut journal, said) = self.open_journal()?;
        let device = &self.units.origin.device;
        match journal.device() {
            Some(was) if was != device => {
                return Err(GenerationError::Elsewhere {
                    path: self.journal_path(),
                    was: was.to_owned(),
                    is: device.clone(),
                });
            }
            Some(_) => {}
            None => journal.note_device(device)?,
        }
        let mut run = Run {
            of: self.chosen().count(),
            left: self.chosen().filter(|unit| !journal.has(*unit)).collect(),
            generation: self,
            journal,
            said,
            engine,
            vocab,
            live: BTreeMap::new(),
            asked: BTreeSet::new(),
            under_way: BTreeMap::new(),
            unserved: BTreeMap::new(),
            sampled: 0,
            stopping: false,
        };
        let left = run.left.iter().copied();
        self.units.check(left, run.engine.positions(), vocab)?;
        run.left.reverse();
        run.recall(watch)?;
        run.go(watch)?;
        if let (false, Some((unit, (path, reason)))) = (run.stopping, run.unserved.pop_first()) {
            let (problem, group) = self.units.place(unit as usize);
            return Err(GenerationError::Unserved {
                groups: run.unserved.len() + 1,
                of: run.of,
                problem: problem.id.clone(),
                group,
                path,
                reason,
            });
        }
        match run.left.is_empty() && run.live.is_empty() {
            true => {
                run.journal.finish(self.file)?;
                Ok(Ran::Done)
            }
            false => Ok(Ran::Stopped),
        }
    }

    /// Looks at all problems before anything is asked.
    ///
    /// # Errors
    /// Those that do not fit an engine of so many positions.
    pub fn check(&self, positions: usize, vocab: &dyn Vocab) -> Result<(), UnfitError> {
        self.units.check(self.chosen(), positions, vocab)
    }

    /// Whether an earlier process has finished the file.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn is_done(&self) -> Result<bool, GenerationError> {
        if self.journal_path().exists() {
            return Ok(false);
        }
        let units = self.chosen().map(|unit| {
            let (problem, group) = self.units.place(unit);
            (problem.id.as_str(), group)
        });
        journal::is_whole(self.file, units, self.key).map_err(|source| {
            let path = self.file.to_owned();
            LinesError::Io { path, source }.into()
        })
    }

    fn open_journal(&self) -> Result<(Journal, Said), GenerationError> {
        let (find, groups) = (self.units.finder(), self.units.groups as usize);
        let unit = |problem: &str, group: u32| {
            find(problem, group).filter(|unit| self.shard.has(unit / groups))
        };
        Ok(Journal::open(&self.journal_path(), &unit)?)
    }

    /// The units of this shard, in order.
    fn chosen(&self) -> impl Iterator<Item = usize> + '_ {
        let groups = self.units.groups as usize;
        (0..self.units.count()).filter(move |unit| self.shard.has(unit / groups))
    }

    fn journal_path(&self) -> PathBuf {
        journal::path(self.file, self.key)
    }
}

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
struct Run<'a> {
    generation: &'a Generation<'a>,
    of: usize,
    /// Units that have not begun in this process, the next one last.
    left: Vec<usize>,
    journal: Journal,
    said: Said,
    engine: &'a mut dyn Engine,
    vocab: &'a dyn Vocab,
    live: BTreeMap<u32, Group>,
    /// Paths that the engine holds.
    asked: BTreeSet<PathKey>,
    /// Requests of each open group that will be answered.
    under_way: BTreeMap<u32, usize>,
    /// Groups with a path that could not be served: the path, and why.
    unserved: BTreeMap<u32, (u32, String)>,
    sampled: u64,
    stopping: bool,
}

impl Run<'_> {
    /// Tells of the groups that earlier processes have ended.
    fn recall(&mut self, watch: &mut Watch<'_>) -> Result<(), GenerationError> {
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

    fn go(&mut self, watch: &mut Watch<'_>) -> Result<(), GenerationError> {
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
