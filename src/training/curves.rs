//! The curves of a training: one line a step, and one a look at the held-out samples.
//!
//! They grow as [`Growing`] lines.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::growing::{self, Growing};
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
    pub(super) fn step(&self) -> u64 {
        match self {
            Self::Step { step, .. } | Self::Look { step, .. } => *step,
        }
    }
}

/// Opens those of the training with this key, whose states lie at `states`.
pub(super) fn open(out: &Path, states: &Path, key: &str) -> Result<Growing> {
    Growing::open(&Growing::path(out, FILE, key), states)
}

/// Writes the curves under their name; a look that was made twice counts once.
pub(super) fn finish(curves: &Growing, out: &Path) -> Result<Vec<Point>> {
    let mut points: Vec<Point> = Vec::new();
    for object in curves.objects() {
        let point: Point = serde_json::from_slice(object).context("the curves are damaged")?;
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
    growing::remove(&Growing::path(out, FILE, key))
}
