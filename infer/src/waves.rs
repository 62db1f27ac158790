//! Runs groups on many problems in waves, and never loses a finished wave.
//!
//! A wave is a fixed number of groups that are solved together; which groups it holds is a
//! function of the settings alone. Finished waves are appended to a part file; a run that was cut
//! off goes on behind the last whole wave, and runs the groups of the wave that was cut off again with
//! the others of their wave: the final file has the same bytes as that of an undisturbed run, also
//! where the numbers of an engine depend on what else is in its batch. Where they do not,
//! [`crate::generation`] loses less.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use protocol::{Origin, Problem, PromptSet, Settings, Stream, Trace, Vocab, jsonl};

use crate::engine::{Engine, EngineError};
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
    /// The finished file; its part file lies beside it.
    pub file: &'a Path,
    /// Binds the part file to one set of inputs and settings.
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
    /// A file could not be read or written.
    #[error("cannot write `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A group cannot be made on a problem.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// The engine is unusable.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Waves<'_> {
    /// Runs what is not finished yet; at the end the part file takes its final name.
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
        let (mut part, mut done) = self.open_part(of)?;
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
            let mut lines = BufWriter::new(&mut part);
            for (unit, group) in wave.clone().zip(groups) {
                let trace = units.trace(unit, group);
                jsonl::write(&mut lines, &trace).map_err(|source| self.io(source))?;
            }
            lines.flush().map_err(|source| self.io(source))?;
            drop(lines);
            part.sync_data().map_err(|source| self.io(source))?;
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
        fs::rename(self.part_path(), self.file).map_err(|source| self.io(source))?;
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

    fn part_path(&self) -> PathBuf {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let key = self.key.get(..12).unwrap_or(self.key);
        self.file.with_file_name(format!(".{name}.{key}.part"))
    }

    fn io(&self, source: io::Error) -> WaveError {
        WaveError::Io {
            path: self.part_path(),
            source,
        }
    }

    /// The part file, cut behind its last whole wave, and the number of groups it holds.
    fn open_part(&self, of: usize) -> Result<(File, usize), WaveError> {
        let path = self.part_path();
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|source| self.io(source))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| self.io(source))?;
        let (groups, bytes) = self
            .whole_waves(&file, of)
            .map_err(|source| self.io(source))?;
        file.set_len(bytes).map_err(|source| self.io(source))?;
        file.seek(io::SeekFrom::End(0))
            .map_err(|source| self.io(source))?;
        Ok((file, groups))
    }

    /// Groups and bytes of the whole waves at the start of the file.
    fn whole_waves(&self, file: &File, of: usize) -> io::Result<(usize, u64)> {
        let mut lines = BufReader::new(file);
        let (mut groups, mut bytes) = (0, 0);
        let mut whole = (0, 0);
        let mut line = Vec::new();
        loop {
            line.clear();
            bytes += lines.read_until(b'\n', &mut line)? as u64;
            // A line that was torn, by a kill or a full disk, ends what can be trusted.
            let trusted = line.ends_with(b"\n") && serde_json::from_slice::<Trace>(&line).is_ok();
            if !trusted {
                return Ok(whole);
            }
            groups += 1;
            if groups % self.wave == 0 || groups == of {
                whole = (groups, bytes);
            }
        }
    }
}
