//! Which checkpoint it is, whatever its files are called and however they are laid out.

use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{CheckpointError, TensorInfo, Weights, files};
use crate::chat::ChatTemplate;
use crate::config::ModelConfig;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// SHA-256 in hex of what a checkpoint folder's model does: weights, config, and tokenizer and chat
/// template if there are any. Shards, order in the file and other files make no difference.
///
/// # Errors
/// A file that is missing or cannot be read.
pub fn hash(dir: &Path) -> Result<String, CheckpointError> {
    files::check_folder(dir)?;
    of_folder(dir, &weights_hash(dir)?)
}

/// [`hash`] of a folder whose weights' hash is known.
pub(super) fn of_folder(dir: &Path, weights: &str) -> Result<String, CheckpointError> {
    let config = ModelConfig::read(dir)?;
    let mut hasher = Sha256::new();
    hasher.update(b"leap-t checkpoint 1\n");
    hasher.update(format!("weights {weights}\n"));
    hasher.update(format!(
        "config {}\n",
        crate::tokenizer::sorted_json(&config.to_json())
    ));
    match Tokenizer::load(dir) {
        Ok(tokenizer) => {
            let (bos, eos) = (tokenizer.bos(), tokenizer.eos());
            hasher.update(format!("tokenizer {} {bos:?} {eos:?}\n", tokenizer.hash()));
        }
        Err(TokenizerError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(template) = ChatTemplate::load(dir)? {
        hasher.update(format!("template {}\n", template.source()));
    }
    Ok(hex(hasher))
}

/// SHA-256 in hex of the tensors' names, shapes, number formats and bytes. Shards and order in the
/// file make no difference.
///
/// # Errors
/// Weights that cannot be read.
pub fn weights_hash(dir: &Path) -> Result<String, CheckpointError> {
    of_weights(&Weights::open(dir)?)
}

/// [`weights_hash`] of weights that were found.
pub(super) fn of_weights(weights: &Weights) -> Result<String, CheckpointError> {
    let tensors: Vec<(&str, &TensorInfo)> = weights.tensors().collect();
    let lines: Result<Vec<String>, CheckpointError> = tensors
        .into_par_iter()
        .map(|(name, info)| {
            let bytes = weights.with_bytes(name, |bytes| hex(Sha256::new_with_prefix(bytes)))?;
            Ok(line(name, info, &bytes.expect("the tensor is listed")))
        })
        .collect();
    Ok(of_lines(lines?))
}

/// What stands for one tensor in the hash of all.
pub(super) fn line(name: &str, info: &TensorInfo, sha256: &str) -> String {
    format!("{name} {} {:?} {sha256}\n", info.stored.name(), info.shape)
}

/// The hash of all tensors, from their lines in any order.
pub(super) fn of_lines(mut lines: Vec<String>) -> String {
    lines.sort_unstable();
    let mut hasher = Sha256::new();
    for line in lines {
        hasher.update(line);
    }
    hex(hasher)
}

/// The end of a hash, in hex.
pub(super) fn hex(hasher: Sha256) -> String {
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
