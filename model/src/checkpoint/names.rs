//! Which tensors a checkpoint holds.

use crate::config::ModelConfig;

/// Name of the output projection's weight.
pub(super) const HEAD: &str = "lm_head.weight";
/// Name of the embedding.
pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";

/// Names and shapes of the tensors that `config` asks for, in the order of
/// [`Decoder::parameters`](crate::decoder::Decoder::parameters). A tied output projection is not among them.
pub fn tensors(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let (d, inner, dim) = (
        config.hidden_size,
        config.intermediate_size,
        config.head_dim,
    );
    let queries = config.num_attention_heads * dim;
    let keys = config.num_key_value_heads * dim;
    let mut list = vec![(EMBEDDING.to_owned(), vec![config.vocab_size, d])];
    for layer in 0..config.num_hidden_layers {
        let mut add = |name: &str, shape: &[usize]| {
            list.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
        };
        for (name, width) in [("q", queries), ("k", keys), ("v", keys)] {
            add(&format!("self_attn.{name}_proj.weight"), &[width, d]);
            if config.attention_bias {
                add(&format!("self_attn.{name}_proj.bias"), &[width]);
            }
        }
        add("self_attn.o_proj.weight", &[d, queries]);
        add("mlp.gate_proj.weight", &[inner, d]);
        add("mlp.up_proj.weight", &[inner, d]);
        add("mlp.down_proj.weight", &[d, inner]);
        if config.qk_norm {
            add("self_attn.q_norm.weight", &[dim]);
            add("self_attn.k_norm.weight", &[dim]);
        }
        add("input_layernorm.weight", &[d]);
        add("post_attention_layernorm.weight", &[d]);
    }
    list.push(("model.norm.weight".to_owned(), vec![d]));
    if !config.tie_word_embeddings {
        list.push((HEAD.to_owned(), vec![config.vocab_size, d]));
    }
    list
}

/// Whether a tensor says nothing that the config does not: old checkpoints store the rotary
/// frequencies, which are computed from `rope_theta`.
pub(super) fn is_harmless(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}
