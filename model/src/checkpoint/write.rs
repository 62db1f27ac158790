//! A decoder into a folder: whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::export::config_in;
use super::shards::{Entry, shards, write_shard};
use super::weights::{INDEX, SINGLE};
use super::{CheckpointError, TensorType, files, identity, io};
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::device::Dtype;
use crate::lineage::{Lineage, Record};
use crate::parameters::Parameter;
use crate::tokenizer::sorted_json;

/// What is copied unchanged from the folder a model was made from.
pub(super) const COPIED: [&str; 10] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
];

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveSettings {
    /// Number format of the weights. bf16 halves the folder and rounds.
    pub dtype: Dtype,
    /// Most bytes of tensors in one file; a larger tensor gets a file of its own.
    pub shard_bytes: u64,
}

impl SaveSettings {
    /// Files of at most 5 GB.
    pub fn new(dtype: Dtype) -> Self {
        Self {
            dtype,
            shard_bytes: 5_000_000_000,
        }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Identity of the weights (see [`super::weights_hash`]).
    pub sha256: String,
    /// Names of the files of weights.
    pub files: Vec<String>,
    /// Bytes of the weights.
    pub bytes: u64,
}

/// Writes a checkpoint folder with f32 weights. See [`save_as`].
///
/// # Errors
/// Those of [`save_as`].
pub fn save(
    dir: &Path,
    config: &ModelConfig,
    decoder: &Decoder,
    files_from: &Path,
    lineage: &Lineage,
) -> Result<Saved, CheckpointError> {
    save_as(
        dir,
        config,
        decoder,
        files_from,
        lineage,
        SaveSettings::new(Dtype::F32),
    )
}

/// Writes a checkpoint folder that transformers loads: config, weights, lineage, and the tokenizer's
/// files of `files_from` (those that are there) unchanged.
///
/// Everything goes to a hidden folder beside `dir`, reaches the disk, and is renamed: `dir` is whole
/// or not there. Equal inputs give equal bytes.
///
/// # Errors
/// [`CheckpointError::Exists`] if `dir` is there and not empty, [`CheckpointError::NotFinite`] if
/// the decoder is broken, and what the disk says.
pub fn save_as(
    dir: &Path,
    config: &ModelConfig,
    decoder: &Decoder,
    files_from: &Path,
    lineage: &Lineage,
    settings: SaveSettings,
) -> Result<Saved, CheckpointError> {
    save_documented(dir, config, decoder, files_from, lineage, settings, &[])
}

/// [`save_as`] with texts beside the weights, such as a model card, by file name.
///
/// # Errors
/// Those of [`save_as`].
pub fn save_documented(
    dir: &Path,
    config: &ModelConfig,
    decoder: &Decoder,
    files_from: &Path,
    lineage: &Lineage,
    settings: SaveSettings,
    documents: &[(String, String)],
) -> Result<Saved, CheckpointError> {
    whole(dir, |folder| {
        for (name, text) in documents {
            write_file(&folder.join(name), text.as_bytes())?;
        }
        write(folder, config, decoder, files_from, lineage, settings)
    })
}

/// Lets `write` fill a hidden folder beside `dir`, makes it reach the disk, and renames it to `dir`.
pub(super) fn whole<T>(
    dir: &Path,
    write: impl FnOnce(&Path) -> Result<T, CheckpointError>,
) -> Result<T, CheckpointError> {
    refuse_existing(dir)?;
    let temporary = temporary(dir)?;
    if temporary.exists() {
        // Of a run that was killed: its content has no name yet, so nobody relies on it.
        fs::remove_dir_all(&temporary).map_err(io(&temporary))?;
    }
    fs::create_dir_all(&temporary).map_err(io(&temporary))?;
    let saved = match write(&temporary) {
        Ok(saved) => saved,
        Err(error) => {
            // The first error is what the caller has to know.
            let _ = fs::remove_dir_all(&temporary);
            return Err(error);
        }
    };
    sync_folder(&temporary)?;
    refuse_existing(dir)?;
    if dir.exists() {
        fs::remove_dir(dir).map_err(io(dir))?;
    }
    fs::rename(&temporary, dir).map_err(io(dir))?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_folder(parent.unwrap_or(Path::new(".")))?;
    Ok(saved)
}

fn write(
    folder: &Path,
    config: &ModelConfig,
    decoder: &Decoder,
    files_from: &Path,
    lineage: &Lineage,
    settings: SaveSettings,
) -> Result<Saved, CheckpointError> {
    files::check_folder(files_from)?;
    for name in COPIED {
        copy(files_from, name, folder)?;
    }
    let stored = match settings.dtype {
        Dtype::F32 => TensorType::F32,
        Dtype::Bf16 => TensorType::Bf16,
    };
    let parameters = decoder.parameters();
    let entries = parameters.iter().map(|parameter| Entry {
        name: parameter.name.clone(),
        shape: parameter.shape(),
    });
    let by_name: BTreeMap<&str, &Parameter> = parameters
        .iter()
        .map(|parameter| (parameter.name.as_str(), parameter))
        .collect();
    let values = |entry: &Entry| {
        let data = by_name[entry.name.as_str()].data();
        Ok(data
            .try_into_vec_as::<f32>()
            .expect("float data converts to f32"))
    };
    let entries: Vec<Entry> = entries.collect();
    let saved = write_weights(folder, &entries, stored, settings.shard_bytes, &values)?;
    // A trained model keeps the config of the one it came from, keys that only others read included.
    let object = match ModelConfig::read(files_from) {
        Ok(known) if known == *config => config_in(files_from, stored)?,
        _ => {
            let mut object = config.to_json();
            object["torch_dtype"] = json!(match settings.dtype {
                Dtype::F32 => "float32",
                Dtype::Bf16 => "bfloat16",
            });
            object
        }
    };
    write_json(&folder.join("config.json"), &object)?;
    let generation = folder.join("generation_config.json");
    if !generation.exists() {
        let ids = json!({
            "bos_token_id": config.bos_token_id,
            "eos_token_id": config.to_json()["eos_token_id"],
        });
        write_json(&generation, &ids)?;
    }
    let record = Record::new(saved.sha256.clone(), lineage.clone());
    let record = serde_json::to_value(record).expect("a record has a JSON form");
    write_json(&folder.join(Record::FILE), &record)?;
    Ok(saved)
}

/// Writes the tensors, one in memory at a time, and the index if they need several files.
pub(super) fn write_weights(
    folder: &Path,
    entries: &[Entry],
    stored: TensorType,
    shard_bytes: u64,
    values: &dyn Fn(&Entry) -> Result<Vec<f32>, CheckpointError>,
) -> Result<Saved, CheckpointError> {
    let shards = shards(entries, stored, shard_bytes);
    let (mut names, mut lines) = (Vec::new(), Vec::new());
    let (mut map, mut bytes) = (BTreeMap::new(), 0);
    for (index, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => SINGLE.to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
        };
        bytes += write_shard(&folder.join(&name), shard, stored, values, &mut lines)?;
        map.extend(shard.iter().map(|entry| (entry.name.clone(), name.clone())));
        names.push(name);
    }
    if shards.len() > 1 {
        let index = json!({"metadata": {"total_size": bytes}, "weight_map": map});
        write_json(&folder.join(INDEX), &index)?;
    }
    Ok(Saved {
        sha256: identity::of_lines(lines),
        files: names,
        bytes,
    })
}

/// Copies a file of the folder unchanged, if it is there.
pub(super) fn copy(from: &Path, name: &str, to: &Path) -> Result<(), CheckpointError> {
    match files::read(from, name)? {
        Some(bytes) => write_file(&to.join(name), &bytes),
        None => Ok(()),
    }
}

pub(super) fn write_json(path: &Path, value: &Value) -> Result<(), CheckpointError> {
    write_file(path, format!("{}\n", sorted_json(value)).as_bytes())
}

pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let mut file = File::create(path).map_err(io(path))?;
    file.write_all(bytes).map_err(io(path))?;
    file.sync_all().map_err(io(path))
}

fn refuse_existing(dir: &Path) -> Result<(), CheckpointError> {
    let exists = || CheckpointError::Exists {
        path: dir.to_owned(),
    };
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(exists()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(_) if dir.exists() => Err(exists()),
        Err(error) => Err(io(dir)(error)),
    }
}

/// A hidden name beside `dir`: renaming works within one file system only.
fn temporary(dir: &Path) -> Result<PathBuf, CheckpointError> {
    match dir.file_name() {
        Some(name) => Ok(dir.with_file_name(format!(".{}.partial", name.to_string_lossy()))),
        None => Err(CheckpointError::NotAName {
            path: dir.to_owned(),
        }),
    }
}

/// Makes the names in a folder reach the disk.
fn sync_folder(folder: &Path) -> Result<(), CheckpointError> {
    if cfg!(unix) {
        File::open(folder)
            .and_then(|file| file.sync_all())
            .map_err(io(folder))?;
    }
    Ok(())
}
