//! Weights into a decoder, each checked against the config.

use std::path::Path;

use half::bf16;
use rayon::prelude::*;

use super::names::{EMBEDDING, HEAD, is_harmless, tensors};
use super::{CheckpointError, Weights, files, weights_hash};
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::device::{Device, Dtype};
use crate::lineage::Record;

/// Reads the decoder of a checkpoint folder onto `device`.
///
/// Beside the weights themselves, memory holds one tensor. With [`Dtype::Bf16`] the values are
/// rounded to bf16, which changes nothing in a bf16 checkpoint; on the CPU they are held as f32 all
/// the same.
///
/// # Errors
/// [`CheckpointError`]: a missing folder or file, a config that is not supported, a tensor that is
/// missing, left over, of another shape or not finite, or a file that is not sound.
pub fn load(
    dir: &Path,
    device: &Device,
    dtype: Dtype,
) -> Result<(ModelConfig, Decoder), CheckpointError> {
    let (config, weights) = open(dir)?;
    let decoder = Decoder::from_source(&config, device, |name, shape| {
        let mut values = weights
            .read(name)?
            .ok_or_else(|| CheckpointError::Missing {
                name: name.to_owned(),
                shape: shape.to_vec(),
            })?;
        if dtype == Dtype::Bf16 {
            values
                .par_iter_mut()
                .for_each(|value| *value = bf16::from_f32(*value).to_f32());
        }
        Ok::<_, CheckpointError>(values)
    })?;
    Ok((config, decoder))
}

/// Checks all that [`load`] checks without building a decoder, and the weights against the hash in
/// `lineage.json` if the folder has one. Returns the config and the lineage.
///
/// # Errors
/// Those of [`load`], and [`CheckpointError::Changed`].
pub fn verify(dir: &Path) -> Result<(ModelConfig, Option<Record>), CheckpointError> {
    let (config, weights) = open(dir)?;
    for (name, _) in tensors(&config) {
        weights.read(&name)?;
    }
    let Some(text) = files::read(dir, Record::FILE)? else {
        return Ok((config, None));
    };
    let record: Record =
        serde_json::from_slice(&text).map_err(|problem| CheckpointError::Json {
            path: dir.join(Record::FILE),
            problem,
        })?;
    let found = weights_hash(dir)?;
    if found != record.weights {
        return Err(CheckpointError::Changed {
            found,
            expected: record.weights,
        });
    }
    Ok((config, Some(record)))
}

/// Reads the config, finds the weights, and checks that they fit each other.
fn open(dir: &Path) -> Result<(ModelConfig, Weights), CheckpointError> {
    files::check_folder(dir)?;
    for name in ["config.json", "generation_config.json"] {
        files::inside(dir, name)?;
    }
    let config = ModelConfig::read(dir)?;
    let weights = Weights::open(dir)?;
    let expected = tensors(&config);
    for (name, shape) in &expected {
        match weights.info(name) {
            None => {
                return Err(CheckpointError::Missing {
                    name: name.clone(),
                    shape: shape.clone(),
                });
            }
            Some(info) if info.shape != *shape => {
                return Err(CheckpointError::Shape {
                    name: name.clone(),
                    found: info.shape.clone(),
                    expected: shape.clone(),
                });
            }
            Some(_) => {}
        }
    }
    let known: std::collections::BTreeSet<&str> =
        expected.iter().map(|(name, _)| name.as_str()).collect();
    for (name, info) in weights.tensors() {
        if known.contains(name) || is_harmless(name) {
            continue;
        }
        if name != HEAD {
            let (name, shape) = (name.to_owned(), info.shape.clone());
            return Err(CheckpointError::Unexpected { name, shape });
        }
        check_tied(&weights)?;
    }
    Ok((config, weights))
}

/// A tied model may store its head a second time, if it is the same to the last bit.
fn check_tied(weights: &Weights) -> Result<(), CheckpointError> {
    let same_form = weights.info(HEAD) == weights.info(EMBEDDING);
    let same = same_form
        && weights
            .with_bytes(HEAD, |head| {
                weights.with_bytes(EMBEDDING, |embedding| head == embedding)
            })?
            .transpose()?
            .flatten()
            .unwrap_or(false);
    if same {
        Ok(())
    } else {
        Err(CheckpointError::NotTied)
    }
}
