//! What a checkpoint folder holds, in few words.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::{CheckpointError, identity, read};
use crate::chat::ChatTemplate;
use crate::lineage::Record;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// What a checkpoint folder holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// The family: `qwen2`, `qwen3` or `llama`.
    pub architecture: &'static str,
    /// Weights; a tied output projection counts once.
    pub parameters: u64,
    /// Layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside the MLP.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub key_value_heads: usize,
    /// Size of a head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Longest text in tokens.
    pub positions: usize,
    /// Whether the output projection is the embedding.
    pub tied: bool,
    /// Tensors by number format.
    pub tensors: BTreeMap<&'static str, usize>,
    /// Bytes of the tensors.
    pub bytes: u64,
    /// Files of weights.
    pub files: usize,
    /// Hash of the tokenizer, if there is one.
    pub tokenizer: Option<String>,
    /// Ids the tokenizer makes, if there is one.
    pub tokenizer_vocab: Option<usize>,
    /// Whether there is a chat template.
    pub chat_template: bool,
    /// Identity of the weights (see [`super::weights_hash`]).
    pub weights_hash: String,
    /// Identity of the whole (see [`super::hash`]).
    pub hash: String,
    /// `lineage.json`, if there is one.
    pub lineage: Option<Record>,
}

/// Reads what a checkpoint folder holds. Every byte of the weights is read, for their hash.
///
/// # Errors
/// Those of [`super::load`], but values are not looked at: a NaN is no error here.
pub fn describe(dir: &Path) -> Result<Description, CheckpointError> {
    let (config, weights) = read::open(dir)?;
    let mut tensors = BTreeMap::new();
    let mut bytes = 0;
    for (_, info) in weights.tensors() {
        *tensors.entry(info.stored.name()).or_insert(0) += 1;
        bytes += (info.shape.iter().product::<usize>() * info.stored.bytes()) as u64;
    }
    let tokenizer = match Tokenizer::load(dir) {
        Ok(tokenizer) => Some(tokenizer),
        Err(TokenizerError::NotFound { .. }) => None,
        Err(problem) => return Err(problem.into()),
    };
    let weights_hash = identity::weights_hash(dir)?;
    Ok(Description {
        architecture: config.architecture.model_type(),
        parameters: config.parameter_count(),
        layers: config.num_hidden_layers,
        hidden: config.hidden_size,
        intermediate: config.intermediate_size,
        heads: config.num_attention_heads,
        key_value_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        vocab: config.vocab_size,
        positions: config.max_position_embeddings,
        tied: config.tie_word_embeddings,
        tensors,
        bytes,
        files: weights.file_count(),
        tokenizer: tokenizer.as_ref().map(|found| found.hash().to_owned()),
        tokenizer_vocab: tokenizer.as_ref().map(Tokenizer::vocab_size),
        chat_template: ChatTemplate::load(dir)?.is_some(),
        hash: identity::of_folder(dir, &weights_hash)?,
        weights_hash,
        lineage: read::record(dir)?,
    })
}
