//! Weights into a decoder, each checked against the config.

use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use half::bf16;
use rayon::prelude::*;

use super::names::{EMBEDDING, HEAD, is_harmless, tensors};
use super::{CheckpointError, TensorType, Weights, files, identity};
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::device::{Device, Dtype};
use crate::lineage::Record;
use crate::ops::is_cpu;
use crate::parameters::Values;

/// Reads the decoder of a checkpoint folder onto `device`.
///
/// Beside the weights themselves, memory holds two tensors, the one that goes to the device and the next, which is
/// read meanwhile. With [`Dtype::Bf16`] the values are rounded to bf16, which changes nothing in a bf16 checkpoint; on
/// the CPU they are held as f32 all the same.
///
/// # Errors
/// [`CheckpointError`]: a missing folder or file, a config that is not supported, a tensor that is
/// missing, left over, of another shape or not finite, a file that is not sound, or weights that
/// are not those the folder's `lineage.json` was written for.
pub fn load(
    dir: &Path,
    device: &Device,
    dtype: Dtype,
) -> Result<(ModelConfig, Decoder), CheckpointError> {
    let (config, weights) = open(dir)?;
    if let Some(record) = record(dir)? {
        check_unchanged(dir, &record, &identity::of_weights(&weights)?)?;
    }
    // The CPU computes in f32; values that bf16 can hold stay what they are there.
    let held = match is_cpu(device) {
        true => Dtype::F32,
        false => dtype,
    };
    let decoder = thread::scope(|scope| {
        let names = tensors(&config).into_iter().map(|(name, _)| name);
        let ahead = read_ahead(scope, &weights, (dtype, held), names.collect());
        Decoder::from_source(&config, device, held, |name, shape| {
            let (read, values) = ahead.recv().expect("all tensors of the config are read");
            assert_eq!(read, name, "tensors are read in the order of parameters");
            values?.ok_or_else(|| CheckpointError::Missing {
                name: name.to_owned(),
                shape: shape.to_vec(),
            })
        })
    })?;
    Ok((config, decoder))
}

/// A tensor's name and what reading it gave.
type Read = (String, Result<Option<Values>, CheckpointError>);

/// Reads tensors in order, by a thread of its own: the next one while the one before goes to the device. It ends
/// when nobody listens any more.
fn read_ahead<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    weights: &'scope Weights,
    formats: (Dtype, Dtype),
    names: Vec<String>,
) -> Receiver<Read> {
    // Nothing waits in it: the next one is in the hands of the thread.
    let (to, from) = sync_channel(0);
    scope.spawn(move || {
        for name in names {
            let values = values(weights, &name, formats);
            if to.send((name, values)).is_err() {
                return;
            }
        }
    });
    from
}

/// The values of a tensor, rounded to `dtype`, as a decoder that holds them in `held` takes them best.
fn values(
    weights: &Weights,
    name: &str,
    (dtype, held): (Dtype, Dtype),
) -> Result<Option<Values>, CheckpointError> {
    let stored = weights.info(name).map(|info| info.stored);
    if (stored, held) == (Some(TensorType::Bf16), Dtype::Bf16) {
        return Ok(weights.read_bf16(name)?.map(Values::Bf16));
    }
    let mut values = weights.read(name)?;
    // What goes to a device in bf16 is rounded on its way there.
    let rounds = (dtype, held) == (Dtype::Bf16, Dtype::F32) && stored != Some(TensorType::Bf16);
    if let Some(values) = values.as_mut().filter(|_| rounds) {
        values
            .par_iter_mut()
            .for_each(|value| *value = bf16::from_f32(*value).to_f32());
    }
    Ok(values.map(Values::F32))
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
    let record = record(dir)?;
    if let Some(record) = &record {
        check_unchanged(dir, record, &identity::of_weights(&weights)?)?;
    }
    Ok((config, record))
}

/// The folder's `lineage.json`, if it has one.
///
/// # Errors
/// A file that cannot be read, or is no lineage.
pub fn record(dir: &Path) -> Result<Option<Record>, CheckpointError> {
    let Some(text) = files::read(dir, Record::FILE)? else {
        return Ok(None);
    };
    let broken = |problem| CheckpointError::Json {
        path: dir.join(Record::FILE),
        problem,
    };
    serde_json::from_slice(&text).map(Some).map_err(broken)
}

/// Whether weights of this hash are those of the folder's record.
pub(super) fn check_unchanged(
    dir: &Path,
    record: &Record,
    found: &str,
) -> Result<(), CheckpointError> {
    match found == record.weights {
        true => Ok(()),
        false => Err(CheckpointError::Changed {
            path: dir.join(Record::FILE),
            found: found.to_owned(),
            expected: record.weights.clone(),
        }),
    }
}

/// Reads the config, finds the weights, and checks that they fit each other.
pub(super) fn open(dir: &Path) -> Result<(ModelConfig, Weights), CheckpointError> {
    files::check_folder(dir)?;
    for name in ["config.json", "generation_config.json"] {
        files::inside(dir, name)?;
    }
    let config = ModelConfig::read(dir)?;
    let weights = Weights::open(dir)?;
    match misfits(&config, &weights)?.into_iter().next() {
        Some(misfit) => Err(misfit),
        None => Ok((config, weights)),
    }
}

/// Every way in which the tensors are not those that the config asks for.
///
/// # Errors
/// A file that cannot be mapped.
pub(super) fn misfits(
    config: &ModelConfig,
    weights: &Weights,
) -> Result<Vec<CheckpointError>, CheckpointError> {
    let mut misfits = Vec::new();
    let expected = tensors(config);
    for (name, shape) in &expected {
        match weights.info(name) {
            None => misfits.push(CheckpointError::Missing {
                name: name.clone(),
                shape: shape.clone(),
            }),
            Some(info) if info.shape != *shape => misfits.push(CheckpointError::Shape {
                name: name.clone(),
                found: info.shape.clone(),
                expected: shape.clone(),
            }),
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
            misfits.push(CheckpointError::Unexpected { name, shape });
        } else if !is_tied(weights)? {
            misfits.push(CheckpointError::NotTied);
        }
    }
    Ok(misfits)
}

/// A tied model may store its head a second time, if it is the same to the last bit.
fn is_tied(weights: &Weights) -> Result<bool, CheckpointError> {
    let same_form = weights.info(HEAD) == weights.info(EMBEDDING);
    Ok(same_form
        && weights
            .with_bytes(HEAD, |head| {
                weights.with_bytes(EMBEDDING, |embedding| head == embedding)
            })?
            .transpose()?
            .flatten()
            .unwrap_or(false))
}
