//! Two checkpoint folders beside each other, tensor by tensor over maps of their files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use half::{bf16, f16};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::{CheckpointError, TensorInfo, TensorType, Weights, files};
use crate::chat::ChatTemplate;
use crate::config::ConfigError;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// How two checkpoint folders differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Keys of `config.json` whose values differ.
    pub config: Vec<KeyDifference>,
    /// Tensors that only the first has.
    pub only_in_a: Vec<String>,
    /// Tensors that only the second has.
    pub only_in_b: Vec<String>,
    /// Tensors of both that differ in shape, number format or a value.
    pub tensors: Vec<TensorDifference>,
    /// Tensors that are the same to the last bit.
    pub equal_tensors: usize,
    /// Largest distance of two values over all tensors of equal shape.
    pub max_abs: f64,
    /// Norm of the difference over all tensors of equal shape, as a share of the first's norm.
    pub relative: Option<f64>,
    /// The tokenizers, by what they do.
    pub tokenizer: Presence,
    /// The chat templates, by their text.
    pub chat_template: Presence,
}

/// A key of `config.json` that differs. A key that is not there is the same as null.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyDifference {
    /// The key.
    pub key: String,
    /// Its value in the first.
    pub a: Value,
    /// Its value in the second.
    pub b: Value,
}

/// A tensor of both that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorDifference {
    /// Its name.
    pub name: String,
    /// Number format in the first.
    pub stored_a: &'static str,
    /// Number format in the second.
    pub stored_b: &'static str,
    /// Shape in the first.
    pub shape_a: Vec<usize>,
    /// Shape in the second.
    pub shape_b: Vec<usize>,
    /// Largest distance of two values; None for different shapes.
    pub max_abs: Option<f64>,
    /// Norm of the difference as a share of the first's norm; None for different shapes, and if the
    /// first is all zeros and the second is not.
    pub relative: Option<f64>,
    /// Places where one value or both are not finite, and the two are not the same. They are in
    /// neither of the two numbers above.
    pub not_finite: usize,
}

/// A part that a folder may have or not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// Both have the same.
    Equal,
    /// Both have one, and they differ.
    Differs,
    /// Only the first has one.
    OnlyInA,
    /// Only the second has one.
    OnlyInB,
    /// Neither has one.
    Absent,
}

impl Comparison {
    /// Whether there is no difference at all.
    pub fn is_equal(&self) -> bool {
        let same = |part| matches!(part, Presence::Equal | Presence::Absent);
        self.config.is_empty()
            && self.only_in_a.is_empty()
            && self.only_in_b.is_empty()
            && self.tensors.is_empty()
            && same(self.tokenizer)
            && same(self.chat_template)
    }
}

/// Compares two checkpoint folders. Nothing of a tensor is copied but the few numbers at hand.
///
/// # Errors
/// A folder without config.json or weights, or with files that are broken. Whether config and
/// weights fit each other is not asked.
pub fn compare(a: &Path, b: &Path) -> Result<Comparison, CheckpointError> {
    let config = keys(&config(a)?, &config(b)?);
    let (left, right) = (Weights::open(a)?, Weights::open(b)?);
    let only = |one: &Weights, other: &Weights| {
        let names = one.tensors().map(|(name, _)| name);
        let missing = names.filter(|name| other.info(name).is_none());
        missing.map(str::to_owned).collect()
    };
    let mut comparison = Comparison {
        config,
        only_in_a: only(&left, &right),
        only_in_b: only(&right, &left),
        tensors: Vec::new(),
        equal_tensors: 0,
        max_abs: 0.0,
        relative: None,
        tokenizer: presence(tokenizer(a)?, tokenizer(b)?),
        chat_template: presence(template(a)?, template(b)?),
    };
    let mut total = Distance::default();
    for (name, info_a) in left.tensors() {
        let Some(info_b) = right.info(name) else {
            continue;
        };
        let found = match info_a.shape == info_b.shape {
            true => Some(distance(name, (&left, info_a), (&right, info_b))?),
            false => None,
        };
        if let Some(found) = &found {
            total.add(found);
        }
        if info_a == info_b && found.as_ref().is_some_and(|found| found.same) {
            comparison.equal_tensors += 1;
            continue;
        }
        comparison.tensors.push(TensorDifference {
            name: name.to_owned(),
            stored_a: info_a.stored.name(),
            stored_b: info_b.stored.name(),
            shape_a: info_a.shape.clone(),
            shape_b: info_b.shape.clone(),
            max_abs: found.as_ref().map(|found| found.max_abs),
            relative: found.as_ref().and_then(Distance::relative),
            not_finite: found.as_ref().map_or(0, |found| found.not_finite),
        });
    }
    comparison.max_abs = total.max_abs;
    comparison.relative = total.relative();
    Ok(comparison)
}

/// How far two tensors, or parts of them, are from each other.
#[derive(Clone, Debug)]
struct Distance {
    same: bool,
    max_abs: f64,
    squares: f64,
    squares_of_a: f64,
    not_finite: usize,
}

impl Default for Distance {
    fn default() -> Self {
        Self {
            same: true,
            max_abs: 0.0,
            squares: 0.0,
            squares_of_a: 0.0,
            not_finite: 0,
        }
    }
}

impl Distance {
    fn of(a: &[f32], b: &[f32]) -> Self {
        let mut distance = Self::default();
        for (a, b) in a.iter().zip(b) {
            let same = a.to_bits() == b.to_bits();
            distance.same &= same;
            if !a.is_finite() || !b.is_finite() {
                distance.not_finite += usize::from(!same);
                continue;
            }
            let (a, gap) = (f64::from(*a), f64::from(*a) - f64::from(*b));
            distance.max_abs = distance.max_abs.max(gap.abs());
            distance.squares += gap * gap;
            distance.squares_of_a += a * a;
        }
        distance
    }

    fn add(&mut self, other: &Self) {
        self.same &= other.same;
        self.max_abs = self.max_abs.max(other.max_abs);
        self.squares += other.squares;
        self.squares_of_a += other.squares_of_a;
        self.not_finite += other.not_finite;
    }

    fn relative(&self) -> Option<f64> {
        if self.squares == 0.0 {
            return Some(0.0);
        }
        (self.squares_of_a > 0.0).then(|| (self.squares / self.squares_of_a).sqrt())
    }
}

/// Numbers widened at a time: few enough to stay in a core's cache.
const CHUNK: usize = 1 << 14;

fn distance(
    name: &str,
    (left, info_a): (&Weights, &TensorInfo),
    (right, info_b): (&Weights, &TensorInfo),
) -> Result<Distance, CheckpointError> {
    let (stored_a, stored_b) = (info_a.stored, info_b.stored);
    let found = left.with_bytes(name, |a| {
        right.with_bytes(name, |b| {
            let chunks_a = a.par_chunks(CHUNK * stored_a.bytes());
            let chunks_b = b.par_chunks(CHUNK * stored_b.bytes());
            let parts: Vec<Distance> = chunks_a
                .zip(chunks_b)
                .map(|(a, b)| Distance::of(&widen(stored_a, a), &widen(stored_b, b)))
                .collect();
            // In order, so that the sums do not depend on the number of cores.
            let mut whole = Distance::default();
            for part in &parts {
                whole.add(part);
            }
            whole
        })
    })?;
    let found = found.transpose()?.flatten();
    Ok(found.expect("both have the tensor"))
}

fn widen(stored: TensorType, bytes: &[u8]) -> Vec<f32> {
    match stored {
        TensorType::F32 => each(bytes, f32::from_le_bytes),
        TensorType::F16 => each(bytes, |two| f16::from_le_bytes(two).to_f32()),
        TensorType::Bf16 => each(bytes, |two| bf16::from_le_bytes(two).to_f32()),
    }
}

fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|&one| value(one))
        .collect()
}

fn config(dir: &Path) -> Result<BTreeMap<String, Value>, CheckpointError> {
    files::check_folder(dir)?;
    let path = dir.join("config.json");
    match files::read(dir, "config.json")? {
        None => Err(ConfigError::NotFound { path }.into()),
        Some(text) => {
            serde_json::from_slice(&text).map_err(|problem| CheckpointError::Json { path, problem })
        }
    }
}

fn keys(a: &BTreeMap<String, Value>, b: &BTreeMap<String, Value>) -> Vec<KeyDifference> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let value = |config: &BTreeMap<String, Value>, key: &String| {
        config.get(key).cloned().unwrap_or(Value::Null)
    };
    names
        .into_iter()
        .map(|key| KeyDifference {
            key: key.clone(),
            a: value(a, key),
            b: value(b, key),
        })
        .filter(|difference| difference.a != difference.b)
        .collect()
}

fn presence(a: Option<String>, b: Option<String>) -> Presence {
    match (a, b) {
        (Some(a), Some(b)) if a == b => Presence::Equal,
        (Some(_), Some(_)) => Presence::Differs,
        (Some(_), None) => Presence::OnlyInA,
        (None, Some(_)) => Presence::OnlyInB,
        (None, None) => Presence::Absent,
    }
}

/// What tells one tokenizer from another: its hash, and the tokens that begin and end a text.
fn tokenizer(dir: &Path) -> Result<Option<String>, CheckpointError> {
    match Tokenizer::load(dir) {
        Ok(found) => Ok(Some(format!(
            "{} {:?} {:?} {}",
            found.hash(),
            found.bos(),
            found.eos(),
            found.adds_bos()
        ))),
        Err(TokenizerError::NotFound { .. }) => Ok(None),
        Err(problem) => Err(problem.into()),
    }
}

fn template(dir: &Path) -> Result<Option<String>, CheckpointError> {
    Ok(ChatTemplate::load(dir)?.map(|template| template.source().to_owned()))
}
