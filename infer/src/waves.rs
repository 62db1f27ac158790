//! Runs groups on many problems in waves, and never loses a finished wave.
//!
//! A wave is a fixed number of groups that are solved together; which groups it holds is a
//! function of the settings alone. Finished waves are appended to a [`Journal`]; a run that was cut
//! off goes on behind the last whole wave, and runs the groups of the wave that was cut off again with
//! the others of their wave: the final file has the same bytes as that of an undisturbed run, also
//! where the numbers of an engine depend on what else is in its batch. Where they do not,
//! [`crate::generation`] loses less.

use std::ops::ControlFlow;
use std::path::Path;

use protocol::{Origin, Problem, PromptSet, Settings, Stream, Trace, Vocab};

use crate::engine::{Engine, EngineError};
use crate::journal::{self, Journal};
use crate::lines::LinesError;
use crate::solve::{Solved, solve};
use crate::units::{UnitError, Units};

/// Which groups to run, and where they come from.
pub struct Waves<'a> {
    /// The problems, in file order.
    pub problems: &'a [&'a Problem],
    /// Independent groups for each problem.
    pub groups: u32,
    /// Groups solved together.
    pub wave: usize,
    /// The sentences of the protocol.
    pub prompts: &'a PromptSet,
    /// Settings of the group with this number (over all problems).
    pub settings: &'a dyn Fn(usize) -> Settings,
    /// What the paths of the group with this number are made to begin with; mostly nothing.
    pub beginnings: &'a dyn Fn(usize) -> Vec<Vec<u32>>,
    /// The first so many paths of each group are planted: see [`protocol::Setup::planted`].
    pub planted: u32,
    /// Random stream of the stage; each problem and group derives its own by name.
    pub stream: Stream,
    /// What the traces say of their origin.
    pub origin: Origin,
    /// The finished file; its journal lies beside it.
    pub file: &'a Path,
    /// Binds the journal to one set of inputs and settings.
    pub key: &'a str,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaveProgress {
    /// Groups that are finished.
    pub groups: usize,
    /// Groups in all.
    pub of: usize,
    /// Tokens sampled by this process.
    pub sampled: u64,
}

/// Whether a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// The file is complete.
    Done,
    /// It was asked to stop; finished waves are kept.
    Stopped,
}

/// Why a run of waves failed.
#[derive(Debug, thiserror::Error)]
pub enum WaveError {
    /// What is finished cannot be kept.
    #[error(transparent)]
    Journal(#[from] LinesError),
    /// A group cannot be made on a problem.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// The engine is unusable.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Waves<'_> {
    /// Runs what is not finished yet; at the end the file has its final name.
    ///
    /// `watch` is called often, and can ask the run to stop.
    ///
    /// # Errors
    /// If a problem does not fit, the engine fails or a file cannot be written; finished waves
    /// are kept.
    pub fn run(
        &self,
        engine: &mut dyn Engine,
        vocab: &dyn Vocab,
        watch: &mut dyn FnMut(WaveProgress) -> ControlFlow<()>,
    ) -> Result<Ran, WaveError> {
        let units = self.units();
        let of = units.count();
        let (mut journal, mut done) = self.open_journal(&units)?;
        let mut sampled = 0;
        while done < of {
            let wave = done..of.min(done + self.wave);
            let mut groups = Vec::with_capacity(wave.len());
            for (index, unit) in wave.clone().enumerate() {
                groups.push(units.group(unit, index as u32, engine.positions(), vocab)?);
            }
            let before = sampled;
            let solved = solve(&mut groups, engine, vocab, &mut |progress| {
                sampled = before + progress.sampled;
                watch(WaveProgress {
                    groups: done + progress.groups,
                    of,
                    sampled,
                })
            })?;
            if solved == Solved::Stopped {
                return Ok(Ran::Stopped);
            }
            let traces: Vec<Trace> = wave
                .clone()
                .zip(groups)
                .map(|(unit, group)| units.trace(unit, group))
                .collect();
            journal.end_together(wave.clone().zip(&traces))?;
            done = wave.end;
            if watch(WaveProgress {
                groups: done,
                of,
                sampled,
            })
            .is_break()
                && done < of
            {
                return Ok(Ran::Stopped);
            }
        }
        journal.finish(self.file)?;
        Ok(Ran::Done)
    }

    fn units(&self) -> Units<'_> {
        Units {
            problems: self.problems,
            groups: self.groups,
            prompts: self.prompts,
            settings: self.settings,
            beginnings: self.beginnings,
            planted: self.planted,
            stream: self.stream.clone(),
            origin: self.origin.clone(),
        }
    }

    /// The journal, cut behind its last whole wave, and the number of groups it holds.
    fn open_journal(&self, units: &Units<'_>) -> Result<(Journal, usize), WaveError> {
        let path = journal::path(self.file, self.key);
        let (mut journal, _) = Journal::open(&path, &units.finder())?;
        let of = units.count();
        // Groups of a wave are written in their order, so those that are there are the first.
        let done = match journal.count() {
            all if all == of => of,
            some => some - some % self.wave,
        };
        journal.keep_first(done)?;
        Ok((journal, done))
    }
}
