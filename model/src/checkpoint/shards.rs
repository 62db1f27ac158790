//! Weights as safetensors files, one tensor in memory at a time.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::{Metadata, TensorInfo as HeaderEntry};
use sha2::{Digest, Sha256};

use super::{CheckpointError, TensorInfo, TensorType, identity, io};

/// A tensor to be written.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
}

/// Divides the tensors, in their order, into files of at most `limit` bytes.
pub(super) fn shards(entries: &[Entry], stored: TensorType, limit: u64) -> Vec<&[Entry]> {
    let mut shards = Vec::new();
    let (mut first, mut room) = (0, limit);
    for (index, entry) in entries.iter().enumerate() {
        let bytes = stored_bytes(stored, &entry.shape);
        if bytes > room && index > first {
            shards.push(&entries[first..index]);
            (first, room) = (index, limit);
        }
        room = room.saturating_sub(bytes);
    }
    shards.push(&entries[first..]);
    shards
}

/// Writes one safetensors file, holding one tensor at a time: `values` gives it. Returns the bytes
/// of the file's tensors.
pub(super) fn write_shard(
    path: &Path,
    shard: &[Entry],
    stored: TensorType,
    values: &dyn Fn(&Entry) -> Result<Vec<f32>, CheckpointError>,
    lines: &mut Vec<String>,
) -> Result<u64, CheckpointError> {
    let mut entries = Vec::new();
    let mut end = 0;
    for tensor in shard {
        let (shape, start) = (tensor.shape.clone(), end);
        end += stored_bytes(stored, &shape) as usize;
        let dtype = match stored {
            TensorType::F32 => safetensors::Dtype::F32,
            TensorType::F16 => safetensors::Dtype::F16,
            TensorType::Bf16 => safetensors::Dtype::BF16,
        };
        let entry = HeaderEntry {
            dtype,
            shape,
            data_offsets: (start, end),
        };
        entries.push((tensor.name.clone(), entry));
    }
    let format = [("format".to_owned(), "pt".to_owned())];
    let header = Metadata::new(Some(format.into()), entries)
        .expect("offsets were laid out one after the other");
    let mut header = serde_json::to_vec(&header).expect("a header has a JSON form");
    // Readers may rely on tensors that begin at a multiple of 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(io(path))?);
    file.write_all(&(header.len() as u64).to_le_bytes())
        .map_err(io(path))?;
    file.write_all(&header).map_err(io(path))?;
    for tensor in shard {
        let bytes = bytes(&tensor.name, &values(tensor)?, stored)?;
        let info = TensorInfo {
            stored,
            shape: tensor.shape.clone(),
        };
        let sha256 = identity::hex(Sha256::new_with_prefix(&bytes));
        lines.push(identity::line(&tensor.name, &info, &sha256));
        file.write_all(&bytes).map_err(io(path))?;
    }
    let file = file
        .into_inner()
        .map_err(|error| io(path)(error.into_error()))?;
    file.sync_all().map_err(io(path))?;
    Ok(end as u64)
}

/// The bytes of a weight as they are stored.
fn bytes(name: &str, values: &[f32], stored: TensorType) -> Result<Vec<u8>, CheckpointError> {
    let bytes = match stored {
        TensorType::F32 => narrow(values, |value| (value.to_le_bytes(), value)),
        TensorType::F16 => narrow(values, |value| {
            let short = f16::from_f32(value);
            (short.to_le_bytes(), short.to_f32())
        }),
        TensorType::Bf16 => narrow(values, |value| {
            let short = bf16::from_f32(value);
            (short.to_le_bytes(), short.to_f32())
        }),
    };
    bytes.map_err(|(element, value)| CheckpointError::NotFinite {
        name: name.to_owned(),
        element,
        value,
    })
}

/// Values converted at a time.
const CHUNK: usize = 1 << 14;

/// All values as bytes, or the first one that is not finite and its index. `convert` also gives the
/// value that the bytes stand for: rounding to fewer bits can make an infinity of a large value.
fn narrow<const N: usize>(
    values: &[f32],
    convert: impl Fn(f32) -> ([u8; N], f32) + Sync,
) -> Result<Vec<u8>, (usize, f32)> {
    let mut bytes = vec![0_u8; values.len() * N];
    let (numbers, _) = bytes.as_chunks_mut::<N>();
    let parts = numbers
        .par_chunks_mut(CHUNK)
        .zip(values.par_chunks(CHUNK))
        .enumerate();
    let broken = parts.filter_map(|(part, (numbers, values))| {
        let mut finite = true;
        for (number, value) in numbers.iter_mut().zip(values) {
            let (converted, rounded) = convert(*value);
            *number = converted;
            finite &= rounded.is_finite();
        }
        let rounded = |value: &f32| convert(*value).1;
        let first = (!finite).then(|| values.iter().position(|v| !rounded(v).is_finite()))??;
        Some((part * CHUNK + first, rounded(&values[first])))
    });
    match broken.min_by_key(|(element, _)| *element) {
        Some(broken) => Err(broken),
        None => Ok(bytes),
    }
}

fn stored_bytes(stored: TensorType, shape: &[usize]) -> u64 {
    (shape.iter().product::<usize>() * stored.bytes()) as u64
}
