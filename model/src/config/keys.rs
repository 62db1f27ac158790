//! Which key of `config.json` means what, and which may be passed over.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Architecture, ConfigError, ModelConfig};

/// Keys that say nothing about what the decoder computes.
const HARMLESS: &[&str] = &[
    "architectures",
    "auto_map",
    "chunk_size_feed_forward",
    "decoder_start_token_id",
    "dtype",
    "early_stopping",
    "finetuning_task",
    "id2label",
    "is_decoder",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "max_window_layers",
    "model_type",
    "name_or_path",
    "pad_token_id",
    "prefix",
    "problem_type",
    "return_dict",
    "sep_token_id",
    "sliding_window",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// Sampling settings that old versions of transformers wrote into `config.json`. The engine takes
/// its sampling from the request.
const SAMPLING: &[&str] = &[
    "bad_words_ids",
    "diversity_penalty",
    "do_sample",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "repetition_penalty",
    "suppress_tokens",
    "begin_suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
];

/// The keys of an object, each taken out as it is read: what is left over at the end is unknown.
pub(super) struct Keys<'a>(&'a mut Map<String, Value>);

impl<'a> Keys<'a> {
    pub(super) fn new(object: &'a mut Map<String, Value>) -> Self {
        Self(object)
    }

    /// The value of `key`; null counts as absent, as it does for transformers.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key).filter(|value| !value.is_null())
    }

    pub(super) fn size(&mut self, key: &str) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Ok(Some(n)),
            None => Err(invalid(key, value, "a whole number of at least 1")),
        }
    }

    pub(super) fn number(&mut self, key: &str) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        value
            .as_f64()
            .map(Some)
            .ok_or_else(|| invalid(key, value, "a number"))
    }

    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        value
            .as_bool()
            .map(Some)
            .ok_or_else(|| invalid(key, value, "true or false"))
    }

    /// Passes `key` over if it is absent or `fine`.
    fn only(
        &mut self,
        key: &str,
        fine: &Value,
        supported: &'static str,
    ) -> Result<(), ConfigError> {
        match self.take(key) {
            Some(value) if !same(&value, fine) => Err(unsupported(key, value, supported)),
            _ => Ok(()),
        }
    }
}

/// Reads all keys of a `config.json`.
pub(super) fn config(keys: &mut Keys<'_>) -> Result<ModelConfig, ConfigError> {
    let architecture = architecture(keys)?;
    let llama = architecture == Architecture::Llama;
    settings_with_one_value(keys, architecture)?;

    let hidden_size = needed(keys.size("hidden_size")?, "hidden_size")?;
    let heads = needed(keys.size("num_attention_heads")?, "num_attention_heads")?;
    // Old Llama configs have no such key; the classes of Qwen2 and Qwen3 would fill in a number of
    // their own, which is more likely an accident than meant.
    let kv_heads = match keys.size("num_key_value_heads")? {
        None if llama => heads,
        found => needed(found, "num_key_value_heads")?,
    };
    let head_dim = match keys.size("head_dim")? {
        Some(size) => size,
        None if architecture == Architecture::Qwen3 => return Err(missing("head_dim")),
        None => shared_width(hidden_size, heads)?,
    };
    let layers = needed(keys.size("num_hidden_layers")?, "num_hidden_layers")?;
    no_sliding_window(keys, layers, llama)?;
    let (rope_theta, rope_scaling) = super::rope::rope(keys, llama)?;
    let config = ModelConfig {
        architecture,
        vocab_size: needed(keys.size("vocab_size")?, "vocab_size")?,
        hidden_size,
        intermediate_size: needed(keys.size("intermediate_size")?, "intermediate_size")?,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: kv_heads,
        head_dim,
        rms_norm_eps: needed(keys.number("rms_norm_eps")?, "rms_norm_eps")?,
        rope_theta,
        rope_scaling,
        max_position_embeddings: needed(
            keys.size("max_position_embeddings")?,
            "max_position_embeddings",
        )?,
        tie_word_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(false),
        attention_bias: architecture == Architecture::Qwen2,
        qk_norm: architecture == Architecture::Qwen3,
        bos_token_id: ids(keys, "bos_token_id")?.first().copied(),
        eos_token_id: ids(keys, "eos_token_id")?,
        initializer_range: keys.number("initializer_range")?.unwrap_or(0.02),
    };
    nothing_left(keys, "")?;
    Ok(config)
}

/// One id, a list of ids, or none.
pub(super) fn ids(keys: &mut Keys<'_>, key: &str) -> Result<Vec<u32>, ConfigError> {
    let Some(value) = keys.take(key) else {
        return Ok(Vec::new());
    };
    let id = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    let found = match &value {
        Value::Array(values) => values.iter().map(id).collect(),
        one => id(one).map(|id| vec![id]),
    };
    let mut ids = found.ok_or_else(|| invalid(key, value, "a token id or a list of them"))?;
    let mut seen = BTreeSet::new();
    ids.retain(|id| seen.insert(*id));
    Ok(ids)
}

fn architecture(keys: &Keys<'_>) -> Result<Architecture, ConfigError> {
    let kind = keys
        .0
        .get("model_type")
        .ok_or_else(|| missing("model_type"))?;
    let supported = "qwen2, qwen3 and llama are";
    let architecture = Architecture::ALL
        .into_iter()
        .find(|a| kind == a.model_type())
        .ok_or_else(|| unsupported("model_type", kind.clone(), supported))?;
    // The class decides about the head: a classifier or embedder has another one.
    match keys.0.get("architectures") {
        None | Some(Value::Null) => Ok(architecture),
        Some(classes) if *classes == json!([architecture.class()]) => Ok(architecture),
        Some(classes) => {
            let supported = "Qwen2ForCausalLM, Qwen3ForCausalLM and LlamaForCausalLM are, each \
                             with its own model_type";
            Err(unsupported("architectures", classes.clone(), supported))
        }
    }
}

fn settings_with_one_value(
    keys: &mut Keys<'_>,
    architecture: Architecture,
) -> Result<(), ConfigError> {
    keys.only("hidden_act", &json!("silu"), "only silu is")?;
    keys.only("attention_dropout", &json!(0), "only 0 is")?;
    keys.only("mlp_bias", &json!(false), "only false is")?;
    keys.only("partial_rotary_factor", &json!(1), "only 1 is")?;
    keys.only("pretraining_tp", &json!(1), "only 1 is")?;
    keys.only(
        "quantization_config",
        &Value::Null,
        "weights must be f32, f16 or bf16",
    )?;
    match architecture {
        // Qwen2 has biases on q, k and v whatever a config says: transformers has no key for it.
        Architecture::Qwen2 => keys.only(
            "attention_bias",
            &json!(true),
            "qwen2 has biases on q, k and v",
        ),
        // There the key puts a bias on o, too.
        _ => keys.only("attention_bias", &json!(false), "only false is"),
    }
}

fn no_sliding_window(keys: &mut Keys<'_>, layers: usize, llama: bool) -> Result<(), ConfigError> {
    const FULL: &str = "only full attention is";
    if let Some(types) = keys.take("layer_types") {
        let full = types.as_array().is_some_and(|types| {
            types.len() == layers && types.iter().all(|kind| kind == "full_attention")
        });
        if !full {
            let supported = "only `full_attention`, once for each layer, is";
            return Err(unsupported("layer_types", types, supported));
        }
    }
    let used = keys.flag("use_sliding_window")?.unwrap_or(false);
    // The window begins at layer `max_window_layers`: beyond the last layer it has no effect.
    let first = keys.0.get("max_window_layers").and_then(Value::as_u64);
    if used && first.is_none_or(|first| first < layers as u64) {
        return Err(unsupported("use_sliding_window", json!(true), FULL));
    }
    match keys.0.get("sliding_window") {
        // Qwen's classes read the size only where `use_sliding_window` is set. Llama has no window:
        // a config that gives one means another model.
        Some(size) if llama && !size.is_null() => {
            Err(unsupported("sliding_window", size.clone(), FULL))
        }
        _ => Ok(()),
    }
}

pub(super) fn nothing_left(keys: &Keys<'_>, outer: &str) -> Result<(), ConfigError> {
    let known = |key: &str| {
        // Keys that begin with an underscore are transformers' own notes.
        outer.is_empty()
            && (HARMLESS.contains(&key) || SAMPLING.contains(&key) || key.starts_with('_'))
    };
    let off = |value: &Value| {
        let empty = value.as_object().is_some_and(Map::is_empty)
            || value.as_array().is_some_and(Vec::is_empty);
        empty || value.is_null() || *value == json!(false)
    };
    match keys
        .0
        .iter()
        .find(|(key, value)| !known(key) && !off(value))
    {
        Some((key, value)) => {
            let supported = "this key is unknown and may change what the model computes; if it does \
                             not, remove it";
            Err(unsupported(
                &format!("{outer}{key}"),
                value.clone(),
                supported,
            ))
        }
        None => Ok(()),
    }
}

fn shared_width(hidden_size: usize, heads: usize) -> Result<usize, ConfigError> {
    match hidden_size.checked_rem(heads) {
        Some(0) => Ok(hidden_size / heads),
        _ => Err(ConfigError::Contradiction {
            first: "hidden_size",
            first_value: json!(hidden_size),
            second: "num_attention_heads",
            second_value: json!(heads),
            rule: "without `head_dim` the heads share the width evenly",
        }),
    }
}

/// Equality in which 0 and 0.0 are the same.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

pub(super) fn needed<T>(value: Option<T>, key: &str) -> Result<T, ConfigError> {
    value.ok_or_else(|| missing(key))
}

pub(super) fn missing(key: &str) -> ConfigError {
    ConfigError::Missing {
        key: key.to_owned(),
    }
}

pub(super) fn invalid(key: &str, value: Value, expected: &'static str) -> ConfigError {
    ConfigError::Invalid {
        key: key.to_owned(),
        value,
        expected,
    }
}

pub(super) fn unsupported(key: &str, value: Value, supported: &'static str) -> ConfigError {
    ConfigError::Unsupported {
        key: key.to_owned(),
        value,
        supported,
    }
}
