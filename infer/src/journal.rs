//! What groups said and which have ended, in a file that is only appended to.
//!
//! A line is one completion of a group, or a whole group. Groups are plain data and do not depend on
//! the order of completions, so completions that are heard again lead an unfinished group back to
//! where it was: nothing that was sampled is sampled twice. A group that has ended is on the disk
//! before anything else is done.
//!
//! Each line begins with a check of itself and of all lines before it, so that a byte that changed, a
//! line that went missing and two that changed places are noticed. The last line can be torn, by a
//! kill or a full disk; it is cut off, and what it said is asked again. Anything else is an error.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use protocol::{Completion, Finish, PathKey, Trace};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A file of completions and groups. See the module text.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    /// The check of the last line.
    check: Check,
    /// Where the groups that have ended stand, by unit, with the checks of their lines.
    ended: BTreeMap<usize, (Stretch, Check)>,
    line: Vec<u8>,
}

/// A stretch of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) from: u64,
    pub(crate) bytes: u64,
}

/// What a line is held against: the first bytes of the SHA-256 of the check before it and its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Check([u8; 8]);

impl Check {
    fn with(self, content: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(self.0).chain_update(content);
        let digest = digest.finalize();
        Self(std::array::from_fn(|byte| digest[byte]))
    }

    /// How a line begins that has it; its content follows, without the brace that opens it.
    fn opening(self) -> [u8; OPENING] {
        let mut opening = *b"{\"sum\":\"0123456789abcdef\",";
        for (place, byte) in self.0.into_iter().enumerate() {
            let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or('0') as u8;
            opening[8 + 2 * place] = digit(byte >> 4);
            opening[9 + 2 * place] = digit(byte & 15);
        }
        opening
    }
}

/// Length of [`Check::opening`].
const OPENING: usize = 26;

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
    /// A line that is not the last one is damaged, or the last one belongs to other settings.
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

/// What stands around a group in its line, behind the opening; between stands the line of the final
/// file.
const ENDED: (&[u8], &[u8]) = (b"\"ended\":", b"}\n");

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
            check: Check::default(),
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
            let Some(check) = held(self.check, &line) else {
                torn = Some(damaged("it is not what was written".to_owned()));
                continue;
            };
            // The content is an object of its own with a brace in the place of the comma before it.
            line[OPENING - 1] = b'{';
            let read = serde_json::from_slice(&line[OPENING - 1..]);
            let read = read.map_err(|error| damaged(error.to_string()))?;
            self.check = check;
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
                    let stretch = stretch(self.length, bytes);
                    self.ended.entry(unit).or_insert((stretch, check));
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
        self.line.resize(OPENING - 1, 0);
        let written = serde_json::to_writer(&mut self.line, &entry).map_err(io::Error::from);
        self.line.push(b'\n');
        self.append(written)
    }

    /// Keeps a group: when this returns, it is on the disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn end(&mut self, unit: usize, trace: &Trace) -> Result<(), JournalError> {
        self.end_together([(unit, trace)])
    }

    /// Keeps groups: when this returns, all of them are on the disk.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn end_together<'a>(
        &mut self,
        groups: impl IntoIterator<Item = (usize, &'a Trace)>,
    ) -> Result<(), JournalError> {
        for (unit, trace) in groups {
            self.line.clear();
            self.line.resize(OPENING, 0);
            self.line.extend_from_slice(ENDED.0);
            let written = serde_json::to_writer(&mut self.line, trace).map_err(io::Error::from);
            self.line.extend_from_slice(ENDED.1);
            let from = self.length;
            self.append(written)?;
            let stretch = stretch(from, self.line.len());
            self.ended.insert(unit, (stretch, self.check));
        }
        self.file.sync_data().map_err(|source| self.io(source))
    }

    /// Forgets all that stands behind the first `units` groups, which have ended in their order.
    ///
    /// # Errors
    /// If the file cannot be cut.
    pub fn keep_first(&mut self, units: usize) -> Result<(), JournalError> {
        self.ended.retain(|unit, _| *unit < units);
        let last = self.ended.last_key_value().map(|(_, last)| *last);
        (self.length, self.check) = last.map_or_else(Default::default, |(last, check)| {
            (last.from + last.bytes + ENDED.1.len() as u64, check)
        });
        let cut = self.file.set_len(self.length);
        cut.map_err(|source| self.io(source))
    }

    fn append(&mut self, written: io::Result<()>) -> Result<(), JournalError> {
        let check = self.check.with(content(&self.line));
        self.line[..OPENING].copy_from_slice(&check.opening());
        // In one call: a process that is killed leaves whole lines, or one that is torn at the end.
        let written = written.and_then(|()| self.file.write_all(&self.line));
        written.map_err(|source| self.io(source))?;
        self.length += self.line.len() as u64;
        self.check = check;
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
            for (stretch, _) in self.ended.values() {
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

/// What a line's check is of: all behind its opening, without the end of the line.
fn content(line: &[u8]) -> &[u8] {
    &line[OPENING..line.len() - 1]
}

/// The check of a whole line that is what was written behind the line with the check `before`.
fn held(before: Check, line: &[u8]) -> Option<Check> {
    if line.len() <= OPENING || !line.ends_with(b"\n") {
        return None;
    }
    let check = before.with(content(line));
    line.starts_with(&check.opening()).then_some(check)
}

/// Where the group stands in a line of so many bytes that begins at `from`.
fn stretch(from: u64, bytes: usize) -> Stretch {
    let before = OPENING + ENDED.0.len();
    Stretch {
        from: from + before as u64,
        bytes: (bytes - before - ENDED.1.len()) as u64,
    }
}

/// Where the journal of `file` lies that belongs to the inputs and settings with this key.
pub fn path(file: &Path, key: &str) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let key = key.get(..12).unwrap_or(key);
    file.with_file_name(format!(".{name}.{key}.journal"))
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
