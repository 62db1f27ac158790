//! What a model is: the numbers of a Hugging Face `config.json`, read strictly.
//!
//! A key that would change what the model computes, and that the decoder does not know, is an
//! error that names it: a model that runs with a silently dropped setting gives wrong text. This
//! module knows nothing of tensors.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value, json};

mod error;
mod keys;
mod rope;

pub use error::ConfigError;
use keys::Keys;

/// A decoder family this crate can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Qwen2 and Qwen2.5 (and R1-Distill-Qwen): biases on q, k and v.
    Qwen2,
    /// Qwen3: no biases, RMS norm on the heads of q and k.
    Qwen3,
    /// Llama 2 and 3, SmolLM2.
    Llama,
}

impl Architecture {
    /// `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Llama => "llama",
        }
    }

    /// The class named in `architectures` of `config.json`.
    pub fn class(self) -> &'static str {
        match self {
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Llama => "LlamaForCausalLM",
        }
    }

    const ALL: [Self; 3] = [Self::Qwen2, Self::Qwen3, Self::Llama];
}

/// Llama 3's change of the rotary frequencies (`rope_type: llama3`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3Scaling {
    /// By how much slow frequencies are divided.
    pub factor: f64,
    /// Turns within the original context below which a frequency is slow.
    pub low_freq_factor: f64,
    /// Turns within the original context above which a frequency stays.
    pub high_freq_factor: f64,
    /// The original context.
    pub original_max_position_embeddings: usize,
}

/// The shape of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key-value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Size of a head; even.
    pub head_dim: usize,
    /// Added to the mean square in RMS norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Llama 3's change of the rotary frequencies.
    pub rope_scaling: Option<Llama3Scaling>,
    /// Longest text the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the output projection is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether q, k and v have biases (Qwen2: yes; the others: no).
    pub attention_bias: bool,
    /// Whether the heads of q and k are normalised (Qwen3: yes; the others: no).
    pub qk_norm: bool,
    /// Begin-of-text id as the config says it. R1 distillates say a wrong one: prompts take theirs
    /// from the tokenizer.
    pub bos_token_id: Option<u32>,
    /// End-of-text ids, without duplicates.
    pub eos_token_id: Vec<u32>,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
}

impl ModelConfig {
    /// Reads `config.json` of a checkpoint folder, and the end-of-text ids of its
    /// `generation_config.json` if there is one.
    ///
    /// # Errors
    /// A missing or unreadable file, and all that [`ModelConfig::parse`] refuses.
    pub fn read(dir: &Path) -> Result<Self, ConfigError> {
        let path = dir.join("config.json");
        let text = read_text(dir, "config.json")?;
        let text = text.ok_or_else(|| ConfigError::NotFound { path: path.clone() })?;
        let mut config = Self::parse(&text).map_err(in_file(&path))?;
        let mut seen: BTreeSet<u32> = config.eos_token_id.iter().copied().collect();
        let more = Self::generation_eos(dir)?.into_iter();
        config
            .eos_token_id
            .extend(more.filter(|id| seen.insert(*id)));
        Ok(config)
    }

    /// The end-of-text ids that `generation_config.json` of a checkpoint folder names; none without
    /// that file.
    ///
    /// # Errors
    /// A file that cannot be read, and `eos_token_id` that is neither an id nor a list of ids.
    pub fn generation_eos(dir: &Path) -> Result<Vec<u32>, ConfigError> {
        let name = "generation_config.json";
        match read_text(dir, name)? {
            Some(text) => object(&text)
                .and_then(|mut object| keys::ids(&mut Keys::new(&mut object), "eos_token_id"))
                .map_err(in_file(&dir.join(name))),
            None => Ok(Vec::new()),
        }
    }

    /// Reads the text of a `config.json`, in the layout of transformers 4 or 5.
    ///
    /// # Errors
    /// [`ConfigError`], naming key and value: an unknown architecture, a missing or impossible
    /// number, a setting that the decoder does not compute, a key it does not know (unless its
    /// value is null or false).
    pub fn parse(json: &str) -> Result<Self, ConfigError> {
        let mut object = object(json)?;
        let config = keys::config(&mut Keys::new(&mut object))?;
        config.validate()?;
        Ok(config)
    }

    /// Checks the numbers against each other. [`ModelConfig::parse`] has done it; a config made by
    /// hand needs it.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] or [`ConfigError::Contradiction`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (key, value, most) in [
            ("vocab_size", self.vocab_size, SIZE_LIMIT),
            ("hidden_size", self.hidden_size, SIZE_LIMIT),
            ("intermediate_size", self.intermediate_size, SIZE_LIMIT),
            ("num_hidden_layers", self.num_hidden_layers, LAYER_LIMIT),
            ("num_attention_heads", self.num_attention_heads, SIZE_LIMIT),
            ("num_key_value_heads", self.num_key_value_heads, SIZE_LIMIT),
            ("head_dim", self.head_dim, SIZE_LIMIT),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                SIZE_LIMIT,
            ),
        ] {
            if value == 0 || value > most {
                return Err(invalid(
                    key,
                    value,
                    "a size of at least 1 that a model can have",
                ));
            }
        }
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return Err(ConfigError::Contradiction {
                first: "num_attention_heads",
                first_value: json!(self.num_attention_heads),
                second: "num_key_value_heads",
                second_value: json!(self.num_key_value_heads),
                rule: "each key-value head serves the same number of query heads",
            });
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(invalid(
                "head_dim",
                self.head_dim,
                "even, for the rotary pairs",
            ));
        }
        if self.num_attention_heads.saturating_mul(self.head_dim) > SIZE_LIMIT {
            return Err(invalid(
                "head_dim",
                self.head_dim,
                "a size that a model can have",
            ));
        }
        let bias = self.architecture == Architecture::Qwen2;
        if self.attention_bias != bias {
            let expected = if bias {
                "true for qwen2"
            } else {
                "false for this architecture"
            };
            return Err(invalid("attention_bias", self.attention_bias, expected));
        }
        let norm = self.architecture == Architecture::Qwen3;
        if self.qk_norm != norm {
            let expected = if norm {
                "true for qwen3"
            } else {
                "false for this architecture"
            };
            return Err(invalid("qk_norm", self.qk_norm, expected));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return Err(invalid(
                "rms_norm_eps",
                self.rms_norm_eps,
                "between 0 and 1",
            ));
        }
        if !(self.rope_theta > 1.0 && self.rope_theta.is_finite()) {
            return Err(invalid("rope_theta", self.rope_theta, "finite and above 1"));
        }
        if !(self.initializer_range > 0.0 && self.initializer_range.is_finite()) {
            return Err(invalid(
                "initializer_range",
                self.initializer_range,
                "finite and above 0",
            ));
        }
        if let Some(scaling) = &self.rope_scaling {
            scaling.validate()?;
        }
        let weights = self.weights();
        if weights > MOST_WEIGHTS {
            let layers = self.num_hidden_layers;
            return Err(invalid(
                "num_hidden_layers",
                layers,
                "layers of a size that all together a model can have (10^15 weights)",
            ));
        }
        Ok(())
    }

    /// The object of a `config.json` that transformers loads, without the number format of the
    /// weights (`torch_dtype`).
    pub fn to_json(&self) -> Value {
        let mut object = json!({
            "architectures": [self.architecture.class()],
            "model_type": self.architecture.model_type(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": self.rope_scaling.map(Llama3Scaling::to_json),
            "max_position_embeddings": self.max_position_embeddings,
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_dropout": 0.0,
            "initializer_range": self.initializer_range,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": match self.eos_token_id.as_slice() {
                [] => Value::Null,
                [id] => json!(id),
                ids => json!(ids),
            },
            "use_cache": true,
        });
        if self.architecture == Architecture::Qwen2 || self.architecture == Architecture::Qwen3 {
            object["use_sliding_window"] = json!(false);
        }
        // Qwen2's biases are part of the architecture: transformers has no key for them there.
        if self.architecture != Architecture::Qwen2 {
            object["attention_bias"] = json!(self.attention_bias);
        }
        object
    }

    /// Number of weights. A tied head counts once.
    pub fn parameter_count(&self) -> u64 {
        // A config that was not validated may describe more.
        u64::try_from(self.weights()).unwrap_or(u64::MAX)
    }

    fn weights(&self) -> u128 {
        let size = |n: usize| n as u128;
        let (d, vocab) = (size(self.hidden_size), size(self.vocab_size));
        let queries = size(self.num_attention_heads) * size(self.head_dim);
        let keys = size(self.num_key_value_heads) * size(self.head_dim);
        let mut layer = 2 * d * queries + 2 * d * keys; // q, o and k, v
        layer += 3 * d * size(self.intermediate_size) + 2 * d; // gate, up, down and two norms
        if self.attention_bias {
            layer += queries + 2 * keys;
        }
        if self.qk_norm {
            layer += 2 * size(self.head_dim);
        }
        let heads = if self.tie_word_embeddings { 1 } else { 2 };
        size(self.num_hidden_layers) * layer + heads * vocab * d + d
    }
}

impl Llama3Scaling {
    fn validate(&self) -> Result<(), ConfigError> {
        let Self {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            ..
        } = *self;
        if !(factor >= 1.0 && factor.is_finite()) {
            return Err(invalid(
                "rope_scaling.factor",
                factor,
                "finite and at least 1",
            ));
        }
        if !(low > 0.0 && high > low && high.is_finite()) {
            return Err(ConfigError::Contradiction {
                first: "rope_scaling.low_freq_factor",
                first_value: json!(low),
                second: "rope_scaling.high_freq_factor",
                second_value: json!(high),
                rule: "0 < low < high",
            });
        }
        let original = self.original_max_position_embeddings;
        if original == 0 || original > SIZE_LIMIT {
            let key = "rope_scaling.original_max_position_embeddings";
            return Err(invalid(key, original, "at least 1"));
        }
        Ok(())
    }

    fn to_json(self) -> Value {
        json!({
            "rope_type": "llama3",
            "factor": self.factor,
            "low_freq_factor": self.low_freq_factor,
            "high_freq_factor": self.high_freq_factor,
            "original_max_position_embeddings": self.original_max_position_embeddings,
        })
    }
}

/// No size of a model comes near; it keeps products of two sizes inside 64 bits.
const SIZE_LIMIT: usize = 1 << 31;
const LAYER_LIMIT: usize = 10_000;
/// What is counted of a model, bytes and operations, is some multiple of its weights and must fit
/// 64 bits.
const MOST_WEIGHTS: u128 = 1_000_000_000_000_000;

fn invalid(key: &str, value: impl Into<Value>, expected: &'static str) -> ConfigError {
    ConfigError::Invalid {
        key: key.to_owned(),
        value: value.into(),
        expected,
    }
}

fn in_file(path: &Path) -> impl FnOnce(ConfigError) -> ConfigError {
    let path = path.to_owned();
    |problem| ConfigError::InFile {
        path,
        problem: Box::new(problem),
    }
}

fn object(json: &str) -> Result<Map<String, Value>, ConfigError> {
    match serde_json::from_str(json) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(found) => Err(ConfigError::NotAnObject { found }),
        Err(problem) => Err(ConfigError::Syntax { problem }),
    }
}

fn read_text(dir: &Path, name: &str) -> Result<Option<String>, ConfigError> {
    crate::folder::read_text(dir, name).map_err(|source| ConfigError::Io {
        path: dir.join(name),
        source,
    })
}
