//! The shapes of models by name, so that a training can be planned before its model is there.

use crate::config::{Architecture, ModelConfig};

/// Names that [`named`] knows.
pub const NAMES: [&str; 4] = [
    "r1-distill-qwen-1.5b",
    "r1-distill-qwen-7b",
    "r1-distill-qwen-14b",
    "smollm2-135m",
];

/// The shape of a model that many start from. What training and memory depend on is that of the
/// published `config.json`; a checkpoint's own config is what it is run with.
pub fn named(name: &str) -> Option<ModelConfig> {
    let qwen = |vocabulary, width, inner, layers, heads, key_value, theta, eps| ModelConfig {
        architecture: Architecture::Qwen2,
        vocab_size: vocabulary,
        hidden_size: width,
        intermediate_size: inner,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: key_value,
        head_dim: 128,
        rms_norm_eps: eps,
        rope_theta: theta,
        rope_scaling: None,
        max_position_embeddings: 131_072,
        tie_word_embeddings: false,
        attention_bias: true,
        qk_norm: false,
        bos_token_id: Some(151_646),
        eos_token_id: vec![151_643],
        initializer_range: 0.02,
    };
    match name {
        "r1-distill-qwen-1.5b" => Some(qwen(151_936, 1536, 8960, 28, 12, 2, 1e4, 1e-6)),
        "r1-distill-qwen-7b" => Some(qwen(152_064, 3584, 18_944, 28, 28, 4, 1e4, 1e-6)),
        "r1-distill-qwen-14b" => Some(qwen(152_064, 5120, 13_824, 48, 40, 8, 1e6, 1e-5)),
        "smollm2-135m" => Some(ModelConfig {
            architecture: Architecture::Llama,
            head_dim: 64,
            max_position_embeddings: 8192,
            tie_word_embeddings: true,
            attention_bias: false,
            bos_token_id: Some(1),
            eos_token_id: vec![2],
            initializer_range: 1.0 / 24.0,
            ..qwen(49_152, 576, 1536, 30, 9, 3, 1e5, 1e-5)
        }),
        _ => None,
    }
}
