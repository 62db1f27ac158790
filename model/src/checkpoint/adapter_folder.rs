//! What an adapter folder holds, without the model that it belongs to.
//!
//! How many layers it has and how wide they are is taken from its matrices; whether that is the shape
//! of a model is seen when it is merged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::adapter::{self, AdapterError, CONFIG, TENSORS};
use super::{CheckpointError, files, read};
use crate::lineage::Record;
use crate::lora::names;

/// What an adapter folder holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterDescription {
    /// Rank of its maps.
    pub rank: usize,
    /// Their product is multiplied by this over the rank.
    pub alpha: f64,
    /// Share of inputs that was dropped in training.
    pub dropout: f64,
    /// The linear maps of a layer that it adapts.
    pub targets: Vec<&'static str>,
    /// Layers.
    pub layers: usize,
    /// Elements of its matrices.
    pub parameters: u64,
    /// Matrices by number format.
    pub tensors: BTreeMap<&'static str, usize>,
    /// Bytes of the matrices.
    pub bytes: u64,
    /// Identity of the matrices.
    pub weights_hash: String,
    /// The base that its config names; `leap train` leaves that to the lineage.
    pub base: Option<String>,
    /// `lineage.json`, if there is one.
    pub lineage: Option<Record>,
}

/// Whether a folder holds an adapter and no model of its own.
pub fn is_adapter(dir: &Path) -> bool {
    dir.join(CONFIG).is_file() && !dir.join("config.json").exists()
}

/// Reads an adapter folder and checks all of it that can be checked without its base: the config, that
/// each layer has its matrices and no other is there, their shapes, values and hash.
///
/// # Errors
/// The first that is wrong.
pub fn describe_adapter(dir: &Path) -> Result<AdapterDescription, CheckpointError> {
    files::check_folder(dir)?;
    let settings = adapter::settings(dir)?;
    let bytes = files::read_adapter(dir, TENSORS)?.ok_or_else(|| adapter::not_found(dir))?;
    let path = dir.join(TENSORS);
    let tensors = adapter::parsed(&path, &bytes)?;
    let wrong = |problem: String| AdapterError::Tensors {
        path: path.clone(),
        problem,
    };
    if tensors.is_empty() {
        return Err(wrong("it holds no matrix".to_owned()).into());
    }
    let in_layer = 2 * settings.targets.len();
    // Rounded up: if one is missing, its layer is there nevertheless.
    let layers = tensors.len().div_ceil(in_layer);
    let pairs: Vec<[String; 2]> = (0..layers)
        .flat_map(|layer| {
            settings
                .targets
                .iter()
                .map(move |which| names(layer, *which))
        })
        .collect();
    let expected: BTreeSet<&str> = pairs.iter().flatten().map(String::as_str).collect();
    if let Some(name) = tensors
        .names()
        .into_iter()
        .find(|name| !expected.contains(name))
    {
        let problem = format!("`{name}` has no place in an adapter of {layers} layers");
        return Err(wrong(problem).into());
    }
    let mut formats = BTreeMap::new();
    let (mut parameters, mut held) = (0, 0);
    // Maps of one kind have the same size in all layers.
    let mut sizes: Vec<Option<[usize; 2]>> = vec![None; settings.targets.len()];
    for (at, pair) in pairs.iter().enumerate() {
        let mut size = [0; 2];
        for (side, name) in pair.iter().enumerate() {
            let view = tensors
                .tensor(name)
                .map_err(|_| wrong(format!("`{name}` is missing")))?;
            // A is [rank, inputs], B is [outputs, rank].
            size[side] = match (view.shape(), side) {
                ([rank, inputs], 0) if *rank == settings.rank => *inputs,
                ([outputs, rank], 1) if *rank == settings.rank => *outputs,
                (found, _) => {
                    let rank = settings.rank;
                    let problem = format!("`{name}` has shape {found:?}, but its rank is {rank}");
                    return Err(wrong(problem).into());
                }
            };
            let values = adapter::values(view.dtype(), view.data())
                .ok_or_else(|| wrong(format!("`{name}` holds {:?}", view.dtype())))?;
            if let Some(element) = values.iter().position(|value| !value.is_finite()) {
                return Err(CheckpointError::NotFinite {
                    name: name.clone(),
                    element,
                    value: values[element],
                });
            }
            let stored = adapter::stored(view.dtype());
            *formats.entry(stored.name()).or_insert(0) += 1;
            parameters += values.len() as u64;
            held += view.data().len() as u64;
        }
        let first = sizes[at % settings.targets.len()].get_or_insert(size);
        if *first != size {
            let [name, _] = pair;
            let problem = format!("`{name}` belongs to a map of {size:?}, but others to {first:?}");
            return Err(wrong(problem).into());
        }
    }
    let weights_hash = adapter::hash(&tensors);
    let lineage = read::record(dir)?;
    if let Some(record) = &lineage {
        read::check_unchanged(dir, record, &weights_hash)?;
    }
    Ok(AdapterDescription {
        rank: settings.rank,
        alpha: settings.alpha,
        dropout: settings.dropout,
        targets: settings.targets.iter().map(|which| which.name()).collect(),
        layers,
        parameters,
        tensors: formats,
        bytes: held,
        weights_hash,
        base: adapter::base(dir)?,
        lineage,
    })
}
