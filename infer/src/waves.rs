//! Runs groups on many problems in waves, and never loses a finished wave.
//!
//! A wave is a fixed number of groups that are solved together; which groups it holds is a
//! function of the settings alone. Finished waves are appended to a part file; a run that was cut
//! off goes on behind the last whole wave. Of the wave that was cut off, the groups that had ended
//! are kept or repeated: see [`CutOff`].

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use protocol::{
    Group, Origin, Problem, PromptSet, Settings, Setup, SetupError, Stream, Trace, Vocab, jsonl,
};

use crate::engine::{Engine, EngineError};
use crate::solve::{Progress, Solved, solve_watched};

/// What becomes of the ended groups of a wave that was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutOff {
    /// They are run again with the others of their wave: the final file has the same bytes as that
    /// of an undisturbed run, also where the numbers of an engine depend on what else is in its
    /// batch.
    Repeat,
    /// They are kept, and written to disk the moment they end. On engines whose numbers do not
    /// depend on the batch (the CPU, the simulated reasoner) the bytes are the same, too.
    Keep,
}

/// Which groups to run, and where they come from.
pub struct Waves<'a> {
    /// The problems, in file order.
    pub problems: &'a [&'a Problem],
    /// Independent groups for each problem.
    pub groups: u32,
    /// Groups solved together.
    pub wave: usize,
    /// What becomes of a wave that is cut off.
    pub cut_off: CutOff,
    /// The sentences of the protocol.
    pub prompts: &'a PromptSet,
    /// Settings of the group with this number (over all problems).
    pub settings: &'a dyn Fn(usize) -> Settings,
    /// What the paths of the group with this number are made to begin with; mostly nothing.
    pub beginnings: &'a dyn Fn(usize) -> Vec<Vec<u32>>,
    /// The first so many paths of each group are planted: see [`Setup::planted`].
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
    #[error("no group can be made on problem `{problem}`")]
    Setup {
        /// Id of the problem.
        problem: String,
        /// Why.
        #[source]
        source: SetupError,
    },
    /// The engine is unusable.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// One wave while it is run.
struct Wave {
    units: Range<usize>,
    /// Groups that have ended, by unit.
    ended: BTreeMap<usize, Trace>,
    /// Where they are kept; none if a cut-off repeats the wave.
    file: Option<File>,
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
        let of = self.problems.len() * self.groups as usize;
        let (mut part, mut done) = self.open_part()?;
        let mut sampled = 0;
        while done < of {
            let units = done..of.min(done + self.wave);
            let mut wave = self.wave(units.clone())?;
            let before = sampled;
            let solved = self.solve(&mut wave, engine, vocab, &mut |groups, new| {
                sampled = before + new;
                watch(WaveProgress {
                    groups: done + groups,
                    of,
                    sampled,
                })
            })?;
            if solved == Solved::Stopped {
                return Ok(Ran::Stopped);
            }
            let mut lines = BufWriter::new(&mut part);
            for trace in wave.ended.values() {
                jsonl::write(&mut lines, trace).map_err(|source| self.io(source))?;
            }
            lines.flush().map_err(|source| self.io(source))?;
            drop(lines);
            part.sync_data().map_err(|source| self.io(source))?;
            self.forget_wave()?;
            done = units.end;
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

    /// The wave of these units, with what an earlier process has ended of it.
    fn wave(&self, units: Range<usize>) -> Result<Wave, WaveError> {
        let mut wave = Wave {
            units: units.clone(),
            ended: BTreeMap::new(),
            file: None,
        };
        if self.cut_off == CutOff::Repeat {
            return Ok(wave);
        }
        let path = self.wave_path();
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|source| self.io(source))?;
        let mut lines = BufReader::new(&file);
        let (mut line, mut whole) = (Vec::new(), 0);
        loop {
            line.clear();
            let bytes = lines.read_until(b'\n', &mut line);
            let bytes = bytes.map_err(|source| self.io(source))? as u64;
            // A line that was torn ends what can be trusted.
            let trace = line.ends_with(b"\n").then(|| serde_json::from_slice(&line));
            let Some(Ok(trace)) = trace else { break };
            whole += bytes;
            let trace: Trace = trace;
            let of_trace = |unit: &usize| {
                let (problem, number) = self.unit(*unit);
                problem.id == trace.problem && number == trace.group
            };
            if let Some(unit) = units.clone().find(of_trace) {
                wave.ended.insert(unit, trace);
            }
        }
        file.set_len(whole).map_err(|source| self.io(source))?;
        wave.file = Some(file);
        Ok(wave)
    }

    /// Solves what is not ended of a wave; `watch` hears of ended groups and sampled tokens.
    fn solve(
        &self,
        wave: &mut Wave,
        engine: &mut dyn Engine,
        vocab: &dyn Vocab,
        watch: &mut dyn FnMut(usize, u64) -> ControlFlow<()>,
    ) -> Result<Solved, WaveError> {
        let open = wave
            .units
            .clone()
            .filter(|unit| !wave.ended.contains_key(unit));
        let open: Vec<usize> = open.collect();
        let before = wave.ended.len();
        let mut groups = Vec::with_capacity(open.len());
        for (index, unit) in open.iter().enumerate() {
            groups.push(self.group(index, *unit, engine.positions(), vocab)?);
        }
        let mut failed = None;
        let mut seen = 0;
        let note = |groups: &[Group], wave: &mut Wave| -> io::Result<()> {
            for (group, unit) in groups
                .iter()
                .zip(&open)
                .filter(|(group, _)| group.is_done())
            {
                if wave.ended.contains_key(unit) {
                    continue;
                }
                let (problem, number) = self.unit(*unit);
                let id = problem.id.clone();
                let trace = group.clone().into_trace(id, number, self.origin.clone());
                if let Some(file) = &mut wave.file {
                    let mut line = Vec::new();
                    jsonl::write(&mut line, &trace)?;
                    file.write_all(&line)?;
                    file.sync_data()?;
                }
                wave.ended.insert(*unit, trace);
            }
            Ok(())
        };
        let mut watched = |groups: &[Group], progress: Progress| {
            if progress.groups > seen {
                seen = progress.groups;
                failed = note(groups, wave).err();
            }
            match failed {
                Some(_) => ControlFlow::Break(()),
                None => watch(before + progress.groups, progress.sampled),
            }
        };
        let solved = solve_watched(&mut groups, engine, vocab, &mut watched)?;
        // Groups that end at their start are never shown.
        let failed = match failed {
            None => note(&groups, wave).err(),
            failed => failed,
        };
        match failed {
            Some(source) => Err(self.io(source)),
            None => Ok(solved),
        }
    }

    fn forget_wave(&self) -> Result<(), WaveError> {
        match fs::remove_file(self.wave_path()) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(self.io(source)),
            _ => Ok(()),
        }
    }

    fn unit(&self, unit: usize) -> (&Problem, u32) {
        let groups = self.groups as usize;
        (self.problems[unit / groups], (unit % groups) as u32)
    }

    fn group(
        &self,
        index: usize,
        unit: usize,
        positions: usize,
        vocab: &dyn Vocab,
    ) -> Result<Group, WaveError> {
        let (problem, number) = self.unit(unit);
        let setup = Setup {
            question: problem.question.clone(),
            settings: (self.settings)(unit),
            prompts: self.prompts.clone(),
            stream: self.stream.named(&problem.id).indexed(number.into()),
            positions,
            beginnings: (self.beginnings)(unit),
            planted: self.planted,
        };
        Group::new(index as u32, setup, vocab).map_err(|source| WaveError::Setup {
            problem: problem.id.clone(),
            source,
        })
    }

    fn part_path(&self) -> PathBuf {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let key = self.key.get(..12).unwrap_or(self.key);
        self.file.with_file_name(format!(".{name}.{key}.part"))
    }

    /// Holds the ended groups of the wave that is under way.
    fn wave_path(&self) -> PathBuf {
        self.part_path().with_extension("wave")
    }

    fn io(&self, source: io::Error) -> WaveError {
        WaveError::Io {
            path: self.part_path(),
            source,
        }
    }

    /// The part file, cut behind its last whole wave, and the number of groups it holds.
    fn open_part(&self) -> Result<(File, usize), WaveError> {
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
        let of = self.problems.len() * self.groups as usize;
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
