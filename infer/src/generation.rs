//! Runs groups on many problems, so many at a time, and loses nothing.
//!
//! As soon as a group ends, the next one begins: no group waits for the slowest of a wave. What
//! paths say is kept in a [`Journal`] as it comes; a run that was cut off, at any moment, goes on
//! with every group where it was. It ends with the same bytes as an undisturbed one on engines whose
//! numbers do not depend on the batch: the CPU, the simulated reasoner, and servers that heed seeds
//! and compute each text on its own.

mod error;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::num::ParseIntError;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use protocol::{Trace, Vocab};

pub use self::error::GenerationError;
use self::run::Run;
use crate::engine::Engine;
use crate::journal::{self, Journal, Said};
use crate::lines::LinesError;
use crate::units::{UnfitError, Units};
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
