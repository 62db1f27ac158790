//! The curves of a training: one line a step, and one a look at the held-out samples.
//!
//! Lines are appended as they come, and survive a kill like the training itself: those after the
//! state it goes on from are cut off, since they are made again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ledger;

/// Name of the finished file.
pub(super) const FILE: &str = "curves.jsonl";

/// A point of the curves; a value that is no number is text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "of", rename_all = "kebab-case")]
pub(super) enum Point {
    /// An optimizer step.
    Step {
        step: u64,
        loss: Value,
        grad_norm: Value,
        lr: f64,
        tokens: u64,
        trained_tokens: u64,
    },
    /// A look at the held-out samples.
    Look {
        step: u64,
        loss: Value,
        /// Loss by kind.
        kinds: BTreeMap<String, Value>,
    },
}

impl Point {
    fn step(&self) -> u64 {
        match self {
            Self::Step { step, .. } | Self::Look { step, .. } => *step,
        }
    }
}

/// The curves while they grow.
pub(super) struct Curves {
    path: PathBuf,
    file: File,
}

fn growing(out: &Path, key: &str) -> PathBuf {
    out.join(format!(".curves.{}.part", &key[..12]))
}

impl Curves {
    /// Opens those of the training with this key.
    pub(super) fn open(out: &Path, key: &str) -> Result<Self> {
        let path = growing(out, key);
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(Self { path, file })
    }

    /// Keeps what came of the first `steps` steps.
    pub(super) fn keep(&mut self, steps: u64) -> Result<()> {
        let text = fs::read_to_string(&self.path).context("cannot read the curves")?;
        let known = |line: &&str| {
            serde_json::from_str::<Point>(line).is_ok_and(|point| point.step() <= steps)
        };
        let kept: usize = text
            .split_inclusive('\n')
            .take_while(|line| line.ends_with('\n') && known(line))
            .map(str::len)
            .sum();
        self.file
            .set_len(kept as u64)
            .context("cannot cut the curves")
    }

    /// Adds a point.
    pub(super) fn add(&mut self, point: &Point) -> Result<()> {
        let mut line = serde_json::to_vec(point)?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .context("cannot write the curves")
    }
}

/// Writes the curves under their name; a look that was made twice counts once.
pub(super) fn finish(out: &Path, key: &str) -> Result<Vec<Point>> {
    let text = fs::read_to_string(growing(out, key)).context("cannot read the curves")?;
    let mut points: Vec<Point> = Vec::new();
    for line in text.lines() {
        let point: Point = serde_json::from_str(line).context("the curves are damaged")?;
        let same = |other: &Point| {
            let both_looks = matches!((other, &point), (Point::Look { .. }, Point::Look { .. }));
            both_looks && other.step() == point.step()
        };
        match points.iter().position(same) {
            Some(place) => points[place] = point,
            None => points.push(point),
        }
    }
    let mut bytes = Vec::new();
    for point in &points {
        serde_json::to_writer(&mut bytes, point)?;
        bytes.push(b'\n');
    }
    ledger::write_whole(&out.join(FILE), &bytes)?;
    Ok(points)
}

/// Removes what [`finish`] was made from, once the ledger holds what it made.
pub(super) fn clear(out: &Path, key: &str) -> Result<()> {
    let path = growing(out, key);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}
