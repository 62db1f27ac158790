//! What groups said and which have ended, in a file that is only appended to.
//!
//! A line is one completion of a group, or a whole group. Groups are plain data and do not depend on
//! the order of completions, so completions that are heard again lead an unfinished group back to
//! where it was: nothing that was sampled is sampled twice. A group that has ended is on the disk
//! before anything else is done. Damage is noticed: see [`CheckedLines`].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use protocol::{Completion, Finish, PathKey, Trace};
use serde::{Deserialize, Serialize};

use crate::lines::{CheckedLines, LinesError, Mark};

/// A file of completions and groups. See the module text.
#[derive(Debug)]
pub struct Journal {
    lines: CheckedLines,
    /// Where the groups that have ended stand, by unit, and where their lines end.
    ended: BTreeMap<usize, (Stretch, Mark)>,
    device: Option<String>,
}

/// A stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) from: u64,
    pub(crate) bytes: u64,
}

/// What groups that have not ended have said, by unit, in the order it was heard.
pub type Said = BTreeMap<usize, Vec<Completion>>;

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Entry<'a> {
    Device(&'a str),
    Said {
        problem: &'a str,
        group: u32,
        path: u32,
        ids: &'a [u32],
        finish: &'a Finish,
    },
}

/// What stands around a group in its object; between stands the line of the final file.
const ENDED: (&[u8], &[u8]) = (b"{\"ended\":", b"}");

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Device(String),
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
    #[serde(default)]
    pub(crate) device: String,
}

impl Journal {
    /// Opens the journal at `path`, or makes it; `unit` knows the unit of a problem's group.
    ///
    /// # Errors
    /// If it cannot be read, or a line is damaged or of a group that is unknown.
    pub fn open(
        path: &Path,
        unit: &dyn Fn(&str, u32) -> Option<usize>,
    ) -> Result<(Self, Said), LinesError> {
        let (mut said, mut ended) = (Said::new(), BTreeMap::new());
        let mut device = None;
        let known = |problem: &str, group: u32| {
            let unknown = || format!("group {group} of `{problem}` is not asked for");
            unit(problem, group).ok_or_else(unknown)
        };
        let lines = CheckedLines::open(path, &mut |object, end| {
            match serde_json::from_slice(object).map_err(|error| error.to_string())? {
                Line::Device(noted) => device = Some(noted),
                Line::Said {
                    problem,
                    group,
                    path,
                    ids,
                    finish,
                } => {
                    let unit = known(&problem, group)?;
                    if !ended.contains_key(&unit) {
                        let key = PathKey { group: 0, path };
                        let completion = Completion::new(key, ids, finish);
                        said.entry(unit).or_default().push(completion);
                    }
                }
                Line::Ended(head) => {
                    let unit = known(&head.problem, head.group)?;
                    said.remove(&unit);
                    let place = (stretch(object.len(), end), end);
                    ended.entry(unit).or_insert(place);
                    // Journals of earlier releases have no line of their own for it.
                    device.get_or_insert(head.origin.device);
                }
            }
            Ok(())
        })?;
        let journal = Self {
            lines,
            ended,
            device,
        };
        Ok((journal, said))
    }

    /// Where what it holds was computed, as traces say it; none if that is not known.
    pub fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// Notes where all that follows is computed.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note_device(&mut self, device: &str) -> Result<(), LinesError> {
        let entry = Entry::Device(device);
        self.lines.add(|line| serde_json::to_writer(line, &entry))?;
        self.device = Some(device.to_owned());
        Ok(())
    }

    /// Reads the groups that have ended, in the order of units, until `hear` has heard enough.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn ended(&self, hear: &mut dyn FnMut(Trace) -> ControlFlow<()>) -> Result<(), LinesError> {
        let mut read = || -> io::Result<()> {
            let mut from = BufReader::with_capacity(1 << 20, self.lines.file());
            let mut at = from.seek(SeekFrom::Start(0))?;
            for (stretch, _) in self.ended.values() {
                from.seek_relative(stretch.from as i64 - at as i64)?;
                let mut trace = vec![0; stretch.bytes as usize];
                from.read_exact(&mut trace)?;
                at = stretch.from + stretch.bytes;
                if hear(serde_json::from_slice(&trace)?).is_break() {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|source| LinesError::Io {
            path: self.lines.path().to_owned(),
            source,
        })
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
    ) -> Result<(), LinesError> {
        let entry = Entry::Said {
            problem,
            group,
            path: completion.key.path,
            ids: &completion.ids,
            finish: &completion.finish,
        };
        self.lines.add(|line| serde_json::to_writer(line, &entry))?;
        Ok(())
    }

    /// Keeps a group: when this returns, it is on the disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn end(&mut self, unit: usize, trace: &Trace) -> Result<(), LinesError> {
        self.end_together([(unit, trace)])
    }

    /// Keeps groups: when this returns, all of them are on the disk.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn end_together<'a>(
        &mut self,
        groups: impl IntoIterator<Item = (usize, &'a Trace)>,
    ) -> Result<(), LinesError> {
        for (unit, trace) in groups {
            let before = self.lines.end();
            let end = self.lines.add(|line| {
                line.extend_from_slice(ENDED.0);
                serde_json::to_writer(&mut *line, trace)?;
                line.extend_from_slice(ENDED.1);
                Ok(())
            })?;
            let object = (end.bytes - before.bytes) as usize - CheckedLines::OBJECT - 1;
            self.ended.insert(unit, (stretch(object, end), end));
        }
        self.lines.sync()
    }

    /// Forgets all that stands behind the first `units` groups, which have ended in their order.
    ///
    /// # Errors
    /// If the file cannot be cut.
    pub fn keep_first(&mut self, units: usize) -> Result<(), LinesError> {
        self.ended.retain(|unit, _| *unit < units);
        let last = self.ended.last_key_value();
        let mark = last.map_or_else(Mark::default, |(_, (_, mark))| *mark);
        self.lines.cut(mark)
    }

    /// Writes the groups that have ended, in the order of units, as the lines of `to`, which has its
    /// name when it is whole; then the journal is gone.
    ///
    /// # Errors
    /// If a file cannot be read or written; the journal is there then.
    pub fn finish(self, to: &Path) -> Result<(), LinesError> {
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        let temporary = to.with_file_name(format!(".{name}.tmp"));
        let write = || -> io::Result<()> {
            let mut from = BufReader::with_capacity(1 << 20, self.lines.file());
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
            fs::remove_file(self.lines.path())
        };
        write().map_err(|source| LinesError::Io {
            path: to.to_owned(),
            source,
        })
    }
}

/// Where the group stands in a line that ends at `end` and holds an object of so many bytes.
fn stretch(object: usize, end: Mark) -> Stretch {
    let bytes = (object - ENDED.0.len() - ENDED.1.len()) as u64;
    let after = ENDED.1.len() as u64 + 1;
    Stretch {
        from: end.bytes - after - bytes,
        bytes,
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
