//! Adapter folders as `peft` lays them out: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! What a config asks for and this decoder cannot do is an error that names the key: an adapter that
//! is read half does something nobody trained.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype as Stored, SafeTensors};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::shards::{Entry, write_shard};
use super::write::{COPIED, copy, whole, write_file, write_json};
use super::{CheckpointError, TensorInfo, TensorType, files, identity, read};
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::lineage::{Lineage, Record};
use crate::lora::{Linear, LoraSettings, names};

/// Name of the file that says how an adapter was made.
pub(super) const CONFIG: &str = "adapter_config.json";
/// Name of the file of its matrices.
pub(super) const TENSORS: &str = "adapter_model.safetensors";

/// Why an adapter folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// There is no adapter.
    #[error("`{}` holds no {CONFIG} and {TENSORS}: it is no adapter folder", path.display())]
    NotFound {
        /// The folder.
        path: PathBuf,
    },
    /// The config asks for what is not known here.
    #[error("`{}`: `{key}` is {found}, but {expected}", path.display())]
    Unsupported {
        /// The config.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it holds.
        found: String,
        /// What can be read.
        expected: &'static str,
    },
    /// A matrix that the config asks for is missing, or one that it does not ask for is there.
    #[error("`{}`: {problem}", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the tensor's name.
        problem: String,
    },
    /// It was trained on another model.
    #[error("the adapter was trained on checkpoint {expected}, but this is {found}")]
    OtherBase {
        /// Identity of the checkpoint given.
        found: String,
        /// Identity of the one it was trained on.
        expected: String,
    },
}

/// An adapter in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterFile {
    /// How it was made.
    pub settings: LoraSettings,
    /// The values of each matrix by its name in `peft`.
    pub matrices: BTreeMap<String, Vec<f32>>,
}

impl AdapterFile {
    /// Reads the adapter of a folder that fits a model of this shape.
    ///
    /// # Errors
    /// Files that are missing or broken, a config that asks for something else than plain LoRA, and
    /// matrices that are missing, left over or of another shape.
    pub fn read(dir: &Path, config: &ModelConfig) -> Result<Self, CheckpointError> {
        files::check_folder(dir)?;
        let settings = settings(dir)?;
        let bytes = files::read_adapter(dir, TENSORS)?.ok_or_else(|| not_found(dir))?;
        let path = dir.join(TENSORS);
        let tensors = parsed(&path, &bytes)?;
        let wrong = |problem: String| AdapterError::Tensors {
            path: path.clone(),
            problem,
        };
        let mut matrices = BTreeMap::new();
        for (name, shape) in shapes(config, &settings) {
            let view = tensors
                .tensor(&name)
                .map_err(|_| wrong(format!("`{name}` is missing")))?;
            if view.shape() != shape {
                let found = view.shape();
                return Err(
                    wrong(format!("`{name}` has shape {found:?}, but needs {shape:?}")).into(),
                );
            }
            let values = values(view.dtype(), view.data())
                .ok_or_else(|| wrong(format!("`{name}` holds {:?}", view.dtype())))?;
            if let Some(element) = values.iter().position(|value| !value.is_finite()) {
                let value = values[element];
                return Err(CheckpointError::NotFinite {
                    name,
                    element,
                    value,
                });
            }
            matrices.insert(name, values);
        }
        let mut names = tensors.names().into_iter();
        if let Some(name) = names.find(|name| !matrices.contains_key(*name)) {
            return Err(wrong(format!("`{name}` has no place in this model")).into());
        }
        if let Some(record) = read::record(dir)? {
            read::check_unchanged(dir, &record, &hash(&tensors))?;
        }
        Ok(Self { settings, matrices })
    }

    /// Puts the adapter beside the linear maps of a decoder, which freezes everything else.
    ///
    /// # Panics
    /// If the decoder has another shape than the adapter was read for.
    pub fn put_on(&self, decoder: Decoder) -> Decoder {
        let source = |name: &str, _: &[usize]| {
            Ok::<_, std::convert::Infallible>(self.matrices[name].clone())
        };
        match decoder.with_adapters(&self.settings, source) {
            Ok(decoder) => decoder,
            Err(never) => match never {},
        }
    }
}

/// The format of matrices that are read.
pub(super) fn stored(dtype: Stored) -> TensorType {
    match dtype {
        Stored::F16 => TensorType::F16,
        Stored::BF16 => TensorType::Bf16,
        // Others have been refused.
        _ => TensorType::F32,
    }
}

/// What [`save_adapter`] writes into the lineage for these matrices.
pub(super) fn hash(tensors: &SafeTensors<'_>) -> String {
    let line = |(name, view): (String, TensorView<'_>)| {
        let stored = stored(view.dtype());
        let shape = view.shape().to_vec();
        let bytes = identity::hex(Sha256::new_with_prefix(view.data()));
        identity::line(&name, &TensorInfo { stored, shape }, &bytes)
    };
    identity::of_lines(tensors.tensors().into_iter().map(line).collect())
}

/// Names and shapes of an adapter's matrices, layer by layer.
pub(super) fn shapes(config: &ModelConfig, settings: &LoraSettings) -> Vec<(String, Vec<usize>)> {
    let weights: BTreeMap<String, Vec<usize>> = super::tensors(config).into_iter().collect();
    let mut list = Vec::new();
    for layer in 0..config.num_hidden_layers {
        for which in Linear::ALL
            .into_iter()
            .filter(|which| settings.targets.contains(which))
        {
            let weight = &weights[&format!("model.layers.{layer}.{}.weight", which.path())];
            let [a, b] = names(layer, which);
            list.push((a, vec![settings.rank, weight[1]]));
            list.push((b, vec![weight[0], settings.rank]));
        }
    }
    list
}

pub(super) fn not_found(dir: &Path) -> CheckpointError {
    let path = dir.to_owned();
    AdapterError::NotFound { path }.into()
}

/// The base that `adapter_config.json` names, if it names one.
pub(super) fn base(dir: &Path) -> Result<Option<String>, CheckpointError> {
    let text = files::read(dir, CONFIG)?.ok_or_else(|| not_found(dir))?;
    let config: Value = serde_json::from_slice(&text).map_err(|problem| {
        let path = dir.join(CONFIG);
        CheckpointError::Json { path, problem }
    })?;
    let name = config["base_model_name_or_path"].as_str();
    Ok(name.filter(|name| !name.is_empty()).map(str::to_owned))
}

/// The matrices of a file, each of which has a name of its own.
pub(super) fn parsed<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, CheckpointError> {
    let path = || path.to_owned();
    let tensors = SafeTensors::deserialize(bytes).map_err(|problem| {
        let path = path();
        CheckpointError::Safetensors { path, problem }
    })?;
    match super::weights::twice(bytes) {
        None => Ok(tensors),
        Some(name) => Err(CheckpointError::Twice { path: path(), name }),
    }
}

/// Reads `adapter_config.json` strictly: what would change the result and is not known is refused.
pub(super) fn settings(dir: &Path) -> Result<LoraSettings, CheckpointError> {
    let text = files::read(dir, CONFIG)?.ok_or_else(|| not_found(dir))?;
    let path = dir.join(CONFIG);
    let broken = |problem| CheckpointError::Json {
        path: path.clone(),
        problem,
    };
    let config: Value = serde_json::from_slice(&text).map_err(broken)?;
    let refuse = |key: &'static str, expected: &'static str| AdapterError::Unsupported {
        path: path.clone(),
        key,
        found: config[key].to_string(),
        expected,
    };
    let plain = |key: &str| match &config[key] {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(table) => table.is_empty(),
        _ => false,
    };
    if config["peft_type"] != "LORA" {
        return Err(refuse("peft_type", "only \"LORA\" is read").into());
    }
    for key in [
        "fan_in_fan_out",
        "use_dora",
        "use_qalora",
        "use_bdlora",
        "lora_bias",
        "modules_to_save",
        "rank_pattern",
        "alpha_pattern",
        "layers_to_transform",
        "layer_replication",
        "target_parameters",
        "trainable_token_indices",
    ] {
        if !plain(key) {
            return Err(refuse(key, "only adapters without it are read").into());
        }
    }
    if !config["bias"].is_null() && config["bias"] != "none" {
        return Err(refuse("bias", "only \"none\" is read").into());
    }
    let rank = config["r"].as_u64().filter(|rank| *rank > 0);
    let rank = rank.ok_or_else(|| refuse("r", "must be a whole number above 0"))? as usize;
    let alpha = config["lora_alpha"].as_f64();
    let alpha = alpha.ok_or_else(|| refuse("lora_alpha", "must be a number"))?;
    // Rank-stabilised adapters divide by the root of the rank.
    let alpha = match config["use_rslora"].as_bool() {
        Some(true) => alpha * (rank as f64).sqrt(),
        _ => alpha,
    };
    let targets = config["target_modules"].as_array().and_then(|list| {
        list.iter()
            .map(|name| serde_json::from_value(name.clone()).ok())
            .collect::<Option<Vec<Linear>>>()
    });
    let expected = "must be a list of linear maps of a layer, such as [\"q_proj\"]";
    let mut targets = targets.ok_or_else(|| refuse("target_modules", expected))?;
    targets.sort_unstable();
    let settings = LoraSettings {
        rank,
        alpha,
        dropout: config["lora_dropout"].as_f64().unwrap_or(0.0),
        targets,
    };
    let unsound = |_| refuse("target_modules", "does not describe an adapter");
    settings.check().map_err(unsound)?;
    Ok(settings)
}

pub(super) fn values(stored: Stored, bytes: &[u8]) -> Option<Vec<f32>> {
    let pairs = || bytes.as_chunks::<2>().0.iter().copied();
    Some(match stored {
        Stored::F32 => {
            let words = bytes.as_chunks::<4>().0.iter();
            words.map(|word| f32::from_le_bytes(*word)).collect()
        }
        Stored::BF16 => pairs()
            .map(|pair| half::bf16::from_le_bytes(pair).to_f32())
            .collect(),
        Stored::F16 => pairs()
            .map(|pair| half::f16::from_le_bytes(pair).to_f32())
            .collect(),
        _ => return None,
    })
}

/// Writes the adapters of a decoder as a folder that `peft` loads, in f32: config, matrices,
/// lineage, `documents` by name, and the tokenizer's files of `files_from`. The folder is whole or
/// not there.
///
/// # Errors
/// Those of [`super::save`].
///
/// # Panics
/// If the decoder has no adapters.
pub fn save_adapter(
    dir: &Path,
    decoder: &Decoder,
    files_from: &Path,
    lineage: &Lineage,
    documents: &[(String, String)],
) -> Result<super::Saved, CheckpointError> {
    let settings = decoder.lora().expect("the decoder has adapters");
    whole(dir, |folder| {
        files::check_folder(files_from)?;
        for name in COPIED {
            copy(files_from, name, folder)?;
        }
        let parameters = decoder.adapter_parameters();
        let entries: Vec<Entry> = parameters
            .iter()
            .map(|parameter| Entry {
                name: parameter.name.clone(),
                shape: parameter.shape(),
            })
            .collect();
        let values = |entry: &Entry| {
            let found = parameters
                .iter()
                .find(|parameter| parameter.name == entry.name);
            let data = found.expect("it is listed").data();
            Ok(data
                .try_into_vec_as::<f32>()
                .expect("float data converts to f32"))
        };
        let mut lines = Vec::new();
        let path = folder.join(TENSORS);
        let bytes = write_shard(&path, &entries, TensorType::F32, &values, &mut lines)?;
        write_json(&folder.join(CONFIG), &config_of(settings))?;
        for (name, text) in documents {
            write_file(&folder.join(name), text.as_bytes())?;
        }
        let saved = super::Saved {
            sha256: identity::of_lines(lines),
            files: vec![TENSORS.to_owned()],
            bytes,
        };
        let record = Record::new(saved.sha256.clone(), lineage.clone());
        let record = serde_json::to_value(record).expect("a record has a JSON form");
        write_json(&folder.join(Record::FILE), &record)?;
        Ok(saved)
    })
}

/// `adapter_config.json`. The base's name is not in it: a path means nothing on another machine, and
/// `peft` is given the base model anyway.
fn config_of(settings: &LoraSettings) -> Value {
    let mut targets: Vec<&str> = settings.targets.iter().map(|which| which.name()).collect();
    targets.sort_unstable();
    json!({
        "base_model_name_or_path": null,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": number(settings.alpha),
        "lora_dropout": settings.dropout,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": settings.rank,
        "target_modules": targets,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": false,
    })
}

/// A whole number as one: `peft` writes alpha so.
fn number(value: f64) -> Value {
    match value.fract() == 0.0 && value.abs() < 1e15 {
        true => json!(value as i64),
        false => json!(value),
    }
}
