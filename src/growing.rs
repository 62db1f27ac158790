//! What a training says of itself, line by line while it goes: losses, curves.
//!
//! Lines survive a kill like the training itself. Those behind the state that a training goes on from
//! are cut off, since they are made again; those before it must be there as they were written.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use infer::lines::{CheckedLines, LinesError, Mark};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::fault::Fault;

/// Lines of one training. See the module text.
pub(crate) struct Growing {
    lines: CheckedLines,
    held: Vec<Held>,
    /// Where the states of the same training lie.
    states: PathBuf,
}

/// A line that is in the file.
struct Held {
    step: u64,
    object: Vec<u8>,
    end: Mark,
}

#[derive(Deserialize)]
struct Head {
    step: u64,
}

impl Growing {
    /// Where the lines of `file` grow, in the folder `out`, for the training with this key.
    pub(crate) fn path(out: &Path, file: &str, key: &str) -> PathBuf {
        out.join(format!(".{file}.{}.part", &key[..12]))
    }

    /// Opens the lines at `path`, or makes them. The states of the training lie at `states`.
    ///
    /// # Errors
    /// If a line is not what was written.
    pub(crate) fn open(path: &Path, states: &Path) -> Result<Self> {
        let mut held = Vec::new();
        let mut hear = |object: &[u8], end| {
            let head: Head = serde_json::from_slice(object).map_err(|error| error.to_string())?;
            held.push(Held {
                step: head.step,
                object: object.to_vec(),
                end,
            });
            Ok(())
        };
        let lines = CheckedLines::open(path, &mut hear).map_err(|error| match error {
            LinesError::Damaged { .. } => damaged(&error.to_string(), path, states),
            LinesError::Io { .. } => error.into(),
        })?;
        Ok(Self {
            lines,
            held,
            states: states.to_owned(),
        })
    }

    /// Keeps what came of the first `steps` steps.
    ///
    /// # Errors
    /// If it is not all there, or the file cannot be cut.
    pub(crate) fn keep(&mut self, steps: u64) -> Result<()> {
        let kept = self.held.iter().take_while(|held| held.step <= steps);
        self.held.truncate(kept.count());
        let last = self.held.last();
        let (found, mark) = last.map_or_else(Default::default, |held| (held.step, held.end));
        if found < steps {
            let path = self.lines.path();
            let what = format!(
                "`{}` ends after step {found}, and {steps} steps are done",
                path.display()
            );
            return Err(damaged(&what, path, &self.states));
        }
        Ok(self.lines.cut(mark)?)
    }

    /// Adds what came of a step.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn add<T: Serialize>(&mut self, step: u64, point: &T) -> Result<()> {
        let object = serde_json::to_vec(point)?;
        let end = self.lines.add(|line| {
            line.extend_from_slice(&object);
            Ok(())
        })?;
        self.held.push(Held { step, object, end });
        Ok(())
    }

    /// When this returns, all lines are on the disk.
    ///
    /// # Errors
    /// If they do not get there.
    pub(crate) fn sync(&self) -> Result<()> {
        Ok(self.lines.sync()?)
    }

    /// The lines as objects.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &[u8]> {
        self.held.iter().map(|held| held.object.as_slice())
    }
}

/// A value of a line. JSON has no word for what is no number: there it is text, `"NaN"`.
pub(crate) fn number(value: f64) -> Value {
    match value.is_finite() {
        true => json!(value),
        false => json!(value.to_string()),
    }
}

/// Removes lines that have become a file.
///
/// # Errors
/// If they are there and cannot be removed.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

fn damaged(what: &str, lines: &Path, states: &Path) -> anyhow::Error {
    let (lines, states) = (lines.display(), states.display());
    Fault::new(
        what,
        format!("without `{lines}` and `{states}` the same command trains anew from step 0"),
    )
    .into()
}
