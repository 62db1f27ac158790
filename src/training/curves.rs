//! The curves of a training: one line a step, and one a look at the held-out samples.
//!
//! They grow as [`Growing`] lines.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::growing::{self, Growing};
use crate::{events, ledger, recipes, road};

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
    ledger::write_whole(&out.join(FILE), &lines(&points)?)?;
    Ok(points)
}

fn lines(points: &[Point]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for point in points {
        serde_json::to_writer(&mut bytes, point)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// The finished curves.
///
/// # Errors
/// If they cannot be read.
pub(super) fn read(out: &Path) -> Result<Vec<Point>> {
    road::read_records(&out.join(FILE))
}

/// Makes finished curves again that are gone or were changed, of what the events tell.
///
/// # Errors
/// If what comes of them has not this hash: then it is not what was written.
pub(super) fn restore(out: &Path, hash: &str) -> Result<()> {
    let told = fs::read_to_string(out.join(events::FILE)).unwrap_or_default();
    let mut points: BTreeMap<(u64, bool), Point> = BTreeMap::new();
    for point in told.lines().filter_map(told_point) {
        // After a kill, steps and looks are told again; in the file, a look stands behind its step.
        let is_look = matches!(point, Point::Look { .. });
        points.insert((point.step(), is_look), point);
    }
    let points: Vec<Point> = points.into_values().collect();
    let bytes = lines(&points)?;
    match recipes::hex(&Sha256::digest(&bytes)) == hash {
        true => ledger::write_whole(&out.join(FILE), &bytes),
        false => Err(super::lost(&out.join(FILE))),
    }
}

/// The point that an event tells, if it tells one.
fn told_point(line: &str) -> Option<Point> {
    let event: Value = serde_json::from_str(line).ok()?;
    let number = |value: &Value| match value {
        // How events write what is no number does not say which it was.
        Value::Null => None,
        value => Some(value.clone()),
    };
    let (step, loss) = (event["step"].as_u64()?, number(&event["loss"])?);
    match event["event"].as_str()? {
        "step" => Some(Point::Step {
            step,
            loss,
            grad_norm: number(&event["grad_norm"])?,
            lr: event["lr"].as_f64()?,
            tokens: event["tokens"].as_u64()?,
            trained_tokens: event["trained_tokens"].as_u64()?,
        }),
        "look" => {
            let kinds = event["kinds"].as_array()?.iter();
            let kind = |part: &Value| {
                let name = part["kind"].as_str()?.to_owned();
                Some((name, number(&part["loss"])?))
            };
            Some(Point::Look {
                step,
                loss,
                kinds: kinds.map(kind).collect::<Option<_>>()?,
            })
        }
        _ => None,
    }
}

/// Removes what [`finish`] was made from, once the ledger holds what it made.
pub(super) fn clear(out: &Path, key: &str) -> Result<()> {
    growing::remove(&Growing::path(out, FILE, key))
}
