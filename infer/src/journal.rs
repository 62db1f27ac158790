//! What groups said and which have ended, in a file that is only appended to.
//!
//! A line is one completion of a group, or a whole group. Groups are plain data and do not depend on
//! the order of completions, so completions that are heard again lead an unfinished group back to
//! where it was: nothing that was sampled is sampled twice. A group that has ended is on the disk
//! before anything else is done. The last line can be torn, by a kill or a full disk; it is cut off.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use protocol::{Completion, Finish, PathKey, Trace};
use serde::{Deserialize, Serialize};

/// A file of completions and groups. See the module text.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    /// Where the groups that have ended stand, by unit.
    ended: BTreeMap<usize, Stretch>,
    line: Vec<u8>,
}

/// A stretch of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) from: u64,
    pub(crate) bytes: u64,
}

/// What groups that have not ended have said, by unit, in the order it was heard.
pub type Said = BTreeMap<usize, Vec<Completion>>;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be read or written.
    #[error("cannot write `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line that is not the last one is damaged.
    #[error("line {line} of `{}` is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Entry<'a> {
    Said {
        problem: &'a str,
        group: u32,
        path: u32,
        ids: &'a [u32],
        finish: &'a Finish,
    },
}

/// How a line that holds a group begins and ends; between stands the line of the final file.
const ENDED: (&[u8], &[u8]) = (b"{\"ended\":", b"}\n");

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Said {
        problem: String,
        group: u32,
        path: u32,
        ids: Vec<u32>,
        finish: Finish,
    },
    Ended(Head),
}

/// The part of a trace by which it is known.
#[derive(Deserialize)]
pub(crate) struct Head {
    pub(crate) problem: String,
    pub(crate) group: u32,
    #[serde(default)]
    pub(crate) origin: HeadOrigin,
}

#[derive(Default, Deserialize)]
pub(crate) struct HeadOrigin {
    #[serde(default)]
    pub(crate) recipe: String,
}

impl Journal {
    /// Opens the journal at `path`, or makes it; `unit` knows the unit of a problem's group.
    ///
    /// # Errors
    /// If it cannot be read, or a line before the last is damaged or of a group that is unknown.
    pub fn open(
        path: &Path,
        unit: &dyn Fn(&str, u32) -> Option<usize>,
    ) -> Result<(Self, Said), JournalError> {
        let io = |source| JournalError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(io)?;
        let mut journal = Self {
            path: path.to_owned(),
            file,
            length: 0,
            ended: BTreeMap::new(),
            line: Vec::new(),
        };
        let said = journal.read(unit)?;
        journal.file.set_len(journal.length).map_err(io)?;
        Ok((journal, said))
    }

    fn read(&mut self, unit: &dyn Fn(&str, u32) -> Option<usize>) -> Result<Said, JournalError> {
        let mut said = Said::new();
        let mut lines = BufReader::with_capacity(1 << 20, &self.file);
        let mut line = Vec::new();
        let mut torn: Option<JournalError> = None;
        for number in 1.. {
            line.clear();
            let bytes = lines
                .read_until(b'\n', &mut line)
                .map_err(|source| JournalError::Io {
                    path: self.path.clone(),
                    source,
                })?;
            if bytes == 0 {
                break;
            }
            if let Some(error) = torn {
                return Err(error);
            }
            let damaged = |problem: String| JournalError::Damaged {
                path: self.path.clone(),
                line: number,
                problem,
            };
            let read = match serde_json::from_slice::<Line>(&line) {
                Ok(read) if line.ends_with(b"\n") => read,
                Ok(_) => {
                    torn = Some(damaged("it has no end".to_owned()));
                    continue;
                }
                Err(error) => {
                    torn = Some(damaged(error.to_string()));
                    continue;
                }
            };
            let known = |problem: &str, group: u32| {
                let unknown = || damaged(format!("group {group} of `{problem}` is not asked for"));
                unit(problem, group).ok_or_else(unknown)
            };
            match read {
                Line::Said {
                    problem,
                    group,
                    path,
                    ids,
                    finish,
                } => {
                    let unit = known(&problem, group)?;
                    if !self.ended.contains_key(&unit) {
                        let key = PathKey { group: 0, path };
                        let completion = Completion::new(key, ids, finish);
                        said.entry(unit).or_default().push(completion);
                    }
                }
                Line::Ended(head) => {
                    let unit = known(&head.problem, head.group)?;
                    said.remove(&unit);
                    self.ended.entry(unit).or_insert(Stretch {
                        from: self.length + ENDED.0.len() as u64,
                        bytes: (bytes - ENDED.0.len() - ENDED.1.len()) as u64,
                    });
                }
            }
            self.length += bytes as u64;
        }
        Ok(said)
    }

    /// Whether the group of a unit has ended.
    pub fn has(&self, unit: usize) -> bool {
        self.ended.contains_key(&unit)
    }

    /// Groups that have ended.
    pub fn count(&self) -> usize {
        self.ended.len()
    }

    /// Notes what a path of a group has said.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn say(
        &mut self,
        problem: &str,
        group: u32,
        completion: &Completion,
    ) -> Result<(), JournalError> {
        let entry = Entry::Said {
            problem,
            group,
            path: completion.key.path,
            ids: &completion.ids,
            finish: &completion.finish,
        };
        self.line.clear();
        let written = serde_json::to_writer(&mut self.line, &entry).map_err(io::Error::from);
        self.line.push(b'\n');
        self.append(written)
    }

    /// Keeps a group: when this returns, it is on the disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn end(&mut self, unit: usize, trace: &Trace) -> Result<(), JournalError> {
        self.line.clear();
        self.line.extend_from_slice(ENDED.0);
        let written = serde_json::to_writer(&mut self.line, trace).map_err(io::Error::from);
        self.line.extend_from_slice(ENDED.1);
        let from = self.length + ENDED.0.len() as u64;
        let bytes = (self.line.len() - ENDED.0.len() - ENDED.1.len()) as u64;
        self.append(written)?;
        self.file.sync_data().map_err(|source| self.io(source))?;
        self.ended.insert(unit, Stretch { from, bytes });
        Ok(())
    }

    fn append(&mut self, written: io::Result<()>) -> Result<(), JournalError> {
        // In one call: a process that is killed leaves whole lines, or one that is torn at the end.
        let written = written.and_then(|()| self.file.write_all(&self.line));
        written.map_err(|source| self.io(source))?;
        self.length += self.line.len() as u64;
        Ok(())
    }

    /// Writes the groups that have ended, in the order of units, as the lines of `to`, which has its
    /// name when it is whole; then the journal is gone.
    ///
    /// # Errors
    /// If a file cannot be read or written; the journal is there then.
    pub fn finish(self, to: &Path) -> Result<(), JournalError> {
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        let temporary = to.with_file_name(format!(".{name}.tmp"));
        let write = || -> io::Result<()> {
            let mut from = BufReader::with_capacity(1 << 20, &self.file);
            let mut lines = BufWriter::with_capacity(1 << 20, File::create(&temporary)?);
            let mut at = from.seek(SeekFrom::Start(0))?;
            for stretch in self.ended.values() {
                // Groups end nearly in order, so what comes next is mostly in the buffer.
                from.seek_relative(stretch.from as i64 - at as i64)?;
                io::copy(&mut (&mut from).take(stretch.bytes), &mut lines)?;
                lines.write_all(b"\n")?;
                at = stretch.from + stretch.bytes;
            }
            let file = lines.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_data()?;
            fs::rename(&temporary, to)?;
            fs::remove_file(&self.path)
        };
        write().map_err(|source| self.io(source))
    }

    fn io(&self, source: io::Error) -> JournalError {
        JournalError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

/// Whether `file` holds exactly the groups of these units, in this order, made under this key.
///
/// A run that was cut off between its last group and its ledger is told by this from one that has to
/// begin.
///
/// # Errors
/// If the file cannot be read.
pub fn is_whole<'a>(
    file: &Path,
    units: impl Iterator<Item = (&'a str, u32)>,
    key: &str,
) -> io::Result<bool> {
    let mut lines = match File::open(file) {
        Ok(file) => BufReader::with_capacity(1 << 20, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut line = Vec::new();
    for (problem, group) in units {
        line.clear();
        lines.read_until(b'\n', &mut line)?;
        let is_it = |head: Head| {
            head.problem == problem && head.group == group && head.origin.recipe == key
        };
        if !serde_json::from_slice(&line).is_ok_and(is_it) {
            return Ok(false);
        }
    }
    Ok(lines.fill_buf()?.is_empty())
}
