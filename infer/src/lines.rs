//! A file of lines that grows while work is under way, and whose damage is noticed.
//!
//! Each line begins with a check of itself and of all lines before it, so that a byte that changed, a
//! line that went missing and two that changed places are found. The last line can be torn, by a kill
//! or a full disk; it is cut off, and what it said is lost. Anything else is an error that names the
//! line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A file of JSON objects, one a line. See the module text.
#[derive(Debug)]
pub struct CheckedLines {
    path: PathBuf,
    file: File,
    end: Mark,
    line: Vec<u8>,
}

/// A place between two lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Bytes before it.
    pub bytes: u64,
    check: Check,
}

/// Hears a whole line as an object, with the mark behind it, and says what is wrong with it.
pub type Hear<'a> = dyn FnMut(&[u8], Mark) -> Result<(), String> + 'a;

/// Why such a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    /// The file cannot be read or written.
    #[error("cannot write `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is damaged that no kill has torn, or it belongs to other work.
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

/// What a line is held against: the first bytes of the SHA-256 of the check before it and its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Check([u8; 8]);

/// How a line begins, with sixteen digits of its check.
const OPENING: &[u8; 26] = b"{\"sum\":\"0123456789abcdef\",";
const DIGITS: usize = 8;

impl Check {
    fn with(self, content: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(self.0).chain_update(content);
        let digest = digest.finalize();
        Self(std::array::from_fn(|byte| digest[byte]))
    }

    /// How a line begins that has it; its content follows, without the brace that opens it.
    fn opening(self) -> [u8; OPENING.len()] {
        let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
        let mut opening = *OPENING;
        for (place, byte) in self.0.into_iter().enumerate() {
            opening[DIGITS + 2 * place] = digit(byte >> 4);
            opening[DIGITS + 2 * place + 1] = digit(byte & 15);
        }
        opening
    }
}

impl CheckedLines {
    /// Where the object of a line begins in it: its brace stands there in the object, and a comma in
    /// the line.
    pub const OBJECT: usize = OPENING.len() - 1;

    /// Opens the file at `path`, or makes it; `hear` hears what is there.
    ///
    /// # Errors
    /// If it cannot be read, or a line before the last is damaged, or `hear` says so of any.
    pub fn open(path: &Path, hear: &mut Hear<'_>) -> Result<Self, LinesError> {
        let io = |source| LinesError::Io {
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
        let end = read(path, &file, hear)?;
        if file.metadata().map_err(io)?.len() != end.bytes {
            file.set_len(end.bytes).map_err(io)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            end,
            line: Vec::new(),
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, for reading.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The place behind the last line.
    pub fn end(&self) -> Mark {
        self.end
    }

    /// Adds a line; `write` writes an object. A process that is killed leaves it whole, torn, or not
    /// at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
    ) -> Result<Mark, LinesError> {
        self.line.clear();
        self.line.resize(Self::OBJECT, 0);
        let written = write(&mut self.line).map_err(io::Error::from);
        self.line.push(b'\n');
        let check = self.end.check.with(content(&self.line));
        self.line[..OPENING.len()].copy_from_slice(&check.opening());
        // In one call, so that lines of a process that is killed stand behind each other.
        let written = written.and_then(|()| self.file.write_all(&self.line));
        written.map_err(|source| self.io(source))?;
        let bytes = self.end.bytes + self.line.len() as u64;
        self.end = Mark { bytes, check };
        Ok(self.end)
    }

    /// When this returns, all lines are on the disk.
    ///
    /// # Errors
    /// If they do not get there.
    pub fn sync(&self) -> Result<(), LinesError> {
        self.file.sync_data().map_err(|source| self.io(source))
    }

    /// Forgets the lines behind a mark.
    ///
    /// # Errors
    /// If the file cannot be cut.
    pub fn cut(&mut self, mark: Mark) -> Result<(), LinesError> {
        if mark != self.end {
            let cut = self.file.set_len(mark.bytes);
            cut.map_err(|source| self.io(source))?;
            self.end = mark;
        }
        Ok(())
    }

    fn io(&self, source: io::Error) -> LinesError {
        LinesError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

/// The place behind the last whole line.
fn read(path: &Path, file: &File, hear: &mut Hear<'_>) -> Result<Mark, LinesError> {
    let mut lines = BufReader::with_capacity(1 << 20, file);
    let (mut line, mut end) = (Vec::new(), Mark::default());
    for number in 1.. {
        line.clear();
        let bytes = lines
            .read_until(b'\n', &mut line)
            .map_err(|source| LinesError::Io {
                path: path.to_owned(),
                source,
            })?;
        let damaged = |problem: String| LinesError::Damaged {
            path: path.to_owned(),
            line: number,
            problem,
        };
        if bytes == 0 {
            break;
        }
        let Some(check) = held(end.check, &line) else {
            let is_last = lines.fill_buf().is_ok_and(<[u8]>::is_empty);
            match is_last {
                true => break,
                false => return Err(damaged("it is not what was written".to_owned())),
            }
        };
        let bytes = end.bytes + bytes as u64;
        end = Mark { bytes, check };
        line[CheckedLines::OBJECT] = b'{';
        hear(&line[CheckedLines::OBJECT..line.len() - 1], end).map_err(damaged)?;
    }
    Ok(end)
}

/// What a line's check is of: all behind its opening, without the end of the line.
fn content(line: &[u8]) -> &[u8] {
    &line[OPENING.len().min(line.len() - 1)..line.len() - 1]
}

/// The check of a whole line that is what was written behind the line with the check `before`.
fn held(before: Check, line: &[u8]) -> Option<Check> {
    if line.len() <= OPENING.len() || !line.ends_with(b"\n") {
        return None;
    }
    let check = before.with(content(line));
    line.starts_with(&check.opening()).then_some(check)
}
