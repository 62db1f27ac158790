//! A base model and an adapter into one checkpoint, tensor by tensor, without a decoder.

use std::collections::BTreeMap;
use std::path::Path;

use super::adapter::{AdapterError, AdapterFile};
use super::export::config_in;
use super::shards::Entry;
use super::write::{COPIED, Saved, copy, whole, write_json, write_weights};
use super::{CheckpointError, ExportSettings, identity, read};
use crate::lineage::{Lineage, Merged, Record};
use crate::lora::{Linear, add_product, names};

/// Writes the model that `base` with the adapter of `adapter` is, as a checkpoint folder of its own.
///
/// Weights and products are added in f32 and rounded once, to the number format they are stored in.
/// Tokenizer and template are the adapter's if it has a tokenizer, else the base's. `out` is whole
/// or not there. Beside the adapter, memory holds one tensor.
///
/// # Errors
/// What cannot be read, an adapter of another model, and [`CheckpointError::Exists`].
pub fn merge(
    base: &Path,
    adapter: &Path,
    out: &Path,
    settings: ExportSettings,
) -> Result<Saved, CheckpointError> {
    let (config, weights) = read::open(base)?;
    if let Some(record) = read::record(base)? {
        read::check_unchanged(base, &record, &identity::of_weights(&weights)?)?;
    }
    let file = AdapterFile::read(adapter, &config)?;
    let record = read::record(adapter)?;
    let base_hash = identity::hash(base)?;
    let trained = record
        .as_ref()
        .map(|record| record.made_from.clone())
        .unwrap_or_default();
    if !trained.base.is_empty() && trained.base != base_hash {
        return Err(AdapterError::OtherBase {
            found: base_hash,
            expected: trained.base,
        }
        .into());
    }
    let mut adapted = BTreeMap::new();
    for layer in 0..config.num_hidden_layers {
        for which in Linear::ALL {
            let weight = format!("model.layers.{layer}.{}.weight", which.path());
            adapted.insert(weight, names(layer, which));
        }
    }
    whole(out, |folder| {
        let tokenizer = match adapter.join("tokenizer.json").is_file() {
            true => adapter,
            false => base,
        };
        for name in COPIED {
            let from = match name {
                "generation_config.json" if !adapter.join(name).is_file() => base,
                _ => tokenizer,
            };
            copy(from, name, folder)?;
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
            let mut values = weights.read(&entry.name)?.ok_or_else(missing)?;
            if let Some([a, b]) = adapted.get(&entry.name)
                && let (Some(a), Some(b)) = (file.matrices.get(a), file.matrices.get(b))
            {
                let lora = &file.settings;
                add_product(&mut values, a, b, lora.rank, lora.scale());
            }
            Ok(values)
        };
        let (stored, limit) = (settings.stored, settings.shard_bytes);
        let saved = write_weights(folder, &entries, stored, limit, &values)?;
        write_json(&folder.join("config.json"), &config_in(base, stored)?)?;
        let made_from = Lineage {
            base: base_hash.clone(),
            toolkit: Lineage::default().toolkit,
            merged: Some(Merged {
                base: base_hash.clone(),
                adapter: record.map(|record| record.weights).unwrap_or_default(),
                dtype: stored.name().to_lowercase(),
            }),
            ..trained.clone()
        };
        let record = Record::new(saved.sha256.clone(), made_from);
        let record = serde_json::to_value(record).expect("a record has a JSON form");
        write_json(&folder.join(Record::FILE), &record)?;
        Ok(saved)
    })
}
