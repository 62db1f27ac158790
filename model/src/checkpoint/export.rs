//! The same model in another number format, tensor by tensor, without a decoder.

use std::path::Path;

use serde_json::{Value, json};

use super::shards::Entry;
use super::write::{COPIED, Saved, copy, whole, write_json, write_weights};
use super::{CheckpointError, TensorType, files, identity, read};
use crate::lineage::{Exported, Lineage, Record};

/// How weights are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportSettings {
    /// Number format of the weights. Fewer bits round, to the nearest even.
    pub stored: TensorType,
    /// Most bytes of tensors in one file; a larger tensor gets a file of its own.
    pub shard_bytes: u64,
}

/// Writes the checkpoint of `dir` to `out` in another number format.
///
/// Of `config.json` only the number format changes; the files of tokenizer, chat template, licence
/// and model card are copied unchanged; the lineage is that of `dir`, and says what it was exported
/// from. `out` is whole or not there. Beside maps of the files, memory holds one tensor.
///
/// # Errors
/// All that [`super::verify`] refuses in `dir`, [`CheckpointError::Exists`] if `out` is there and
/// not empty, and [`CheckpointError::NotFinite`] if a value is too large for the number format.
pub fn export(dir: &Path, out: &Path, settings: ExportSettings) -> Result<Saved, CheckpointError> {
    let (config, weights) = read::open(dir)?;
    let record = read::record(dir)?;
    whole(out, |folder| {
        let from_weights = identity::weights_hash(dir)?;
        if let Some(record) = &record {
            read::check_unchanged(dir, record, &from_weights)?;
        }
        for name in COPIED {
            copy(dir, name, folder)?;
        }
        for name in documents(dir)? {
            copy(dir, &name, folder)?;
        }
        let entries: Vec<Entry> = super::tensors(&config)
            .into_iter()
            .map(|(name, shape)| Entry { name, shape })
            .collect();
        let values = |entry: &Entry| {
            let missing = || CheckpointError::Missing {
                name: entry.name.clone(),
                shape: entry.shape.clone(),
            };
            weights.read(&entry.name)?.ok_or_else(missing)
        };
        let (stored, limit) = (settings.stored, settings.shard_bytes);
        let saved = write_weights(folder, &entries, stored, limit, &values)?;
        write_json(&folder.join("config.json"), &config_in(dir, stored)?)?;
        let exported = Exported {
            from: identity::of_folder(dir, &from_weights)?,
            from_weights,
            dtype: stored.name().to_lowercase(),
        };
        let made_from = Lineage {
            toolkit: Lineage::default().toolkit,
            exported: Some(exported),
            ..record
                .as_ref()
                .map(|record| record.made_from.clone())
                .unwrap_or_default()
        };
        let record = Record::new(saved.sha256.clone(), made_from);
        let record = serde_json::to_value(record).expect("a record has a JSON form");
        write_json(&folder.join(Record::FILE), &record)?;
        Ok(saved)
    })
}

/// The folder's own `config.json` with another number format.
pub(super) fn config_in(dir: &Path, stored: TensorType) -> Result<Value, CheckpointError> {
    let path = dir.join("config.json");
    let text = files::read(dir, "config.json")?.unwrap_or_default();
    let broken = |problem| CheckpointError::Json { path, problem };
    let mut config: Value = serde_json::from_slice(&text).map_err(broken)?;
    let name = match stored {
        TensorType::F32 => "float32",
        TensorType::F16 => "float16",
        TensorType::Bf16 => "bfloat16",
    };
    // transformers 5 writes `dtype` and reads both; transformers 4 knows `torch_dtype` only.
    let newer = config.get("dtype").is_some();
    if newer {
        config["dtype"] = json!(name);
    }
    if !newer || config.get("torch_dtype").is_some() {
        config["torch_dtype"] = json!(name);
    }
    Ok(config)
}

/// Names of the files that say what the model is and what may be done with it.
fn documents(dir: &Path) -> Result<Vec<String>, CheckpointError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(super::io(dir))? {
        let entry = entry.map_err(super::io(dir))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let upper = name.to_uppercase();
        let wanted = ["LICENSE", "LICENCE", "NOTICE", "USE_POLICY"]
            .iter()
            .any(|start| upper.starts_with(start));
        if (wanted || name == "README.md") && entry.path().is_file() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
