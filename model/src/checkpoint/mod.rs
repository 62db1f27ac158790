//! Checkpoint folders as Hugging Face lays them out: `config.json`, weights in safetensors, and the
//! files of the tokenizer.
//!
//! A folder may come from strangers: headers, indices and links are checked before they are
//! followed. Reading gives exactly the weights that the config asks for or an error; writing gives
//! a whole folder or none. What the weights compute is [`crate::decoder`]'s.

use std::path::{Path, PathBuf};

use crate::config::ConfigError;
use crate::tokenizer::TokenizerError;

mod adapter;
mod adapter_folder;
mod check;
mod compare;
mod describe;
mod export;
mod files;
mod identity;
mod merge;
mod names;
mod read;
mod shards;
mod weights;
mod write;

pub use adapter::{AdapterError, AdapterFile, save_adapter};
pub use adapter_folder::{AdapterDescription, describe_adapter, is_adapter};
pub use check::{Damage, damages};
pub use compare::{Comparison, KeyDifference, Presence, TensorDifference, compare};
pub use describe::{Description, describe};
pub use export::{ExportSettings, export};
pub use identity::{hash, weights_hash};
pub use merge::merge;
pub use names::tensors;
pub use read::{load, record, verify};
pub use weights::{TensorInfo, TensorType, Weights};
pub use write::{SaveSettings, Saved, save, save_as, save_documented};

/// Why a checkpoint folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// There is no such folder.
    #[error("there is no checkpoint folder `{}`", path.display())]
    NoFolder {
        /// The folder looked for.
        path: PathBuf,
    },
    /// The folder has no weights.
    #[error(
        "`{}` has neither model.safetensors nor model.safetensors.index.json: weights in other \
         formats have to be converted to safetensors first",
        path.display()
    )]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("cannot read or write `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// `config.json` cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template cannot be used.
    #[error(transparent)]
    Chat(#[from] crate::chat::ChatError),
    /// An adapter cannot be used.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// A JSON file of the folder is broken.
    #[error("`{}`: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        problem: serde_json::Error,
    },
    /// A file that is a link out of the folder, or a name that leads out of it.
    #[error("`{name}` leads out of the checkpoint folder `{}`", folder.display())]
    Outside {
        /// The folder.
        folder: PathBuf,
        /// The name, as the index or the folder has it.
        name: String,
    },
    /// A file of weights that is not safetensors, or one that contradicts itself.
    #[error("`{}` is not a sound safetensors file: {problem}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        problem: safetensors::SafeTensorError,
    },
    /// A file of weights with two tensors of one name: which one was meant cannot be known.
    #[error("`{}` has two tensors `{name}`", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The tensors' name.
        name: String,
    },
    /// A header of unreasonable size.
    #[error("`{}` has a header of {bytes} bytes; more than {limit} are not read", path.display())]
    HeaderTooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes the file says its header has.
        bytes: u64,
        /// The most that is read.
        limit: u64,
    },
    /// The index and a file disagree about where a tensor is.
    #[error("the index and `{}` disagree about tensor `{name}`", path.display())]
    Index {
        /// The file of weights.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor that the config asks for is not there.
    #[error("tensor `{name}` is missing; config.json needs it with shape {shape:?}")]
    Missing {
        /// The tensor.
        name: String,
        /// Its shape by the config.
        shape: Vec<usize>,
    },
    /// A tensor that the config has no place for.
    #[error("tensor `{name}` with shape {shape:?} has no place in the model of config.json")]
    Unexpected {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor of another shape than the config says.
    #[error("tensor `{name}` has shape {found:?}, but config.json needs {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// Its shape by the config.
        expected: Vec<usize>,
    },
    /// A tensor whose numbers are of a kind that is not read.
    #[error("tensor `{name}` holds {found}: only F32, F16 and BF16 are read")]
    NumberType {
        /// The tensor.
        name: String,
        /// What it holds.
        found: String,
    },
    /// A weight that is not a number, or infinite.
    #[error("tensor `{name}` holds {value} at element {element}")]
    NotFinite {
        /// The tensor.
        name: String,
        /// Index of the element in row-major order.
        element: usize,
        /// Its value.
        value: f32,
    },
    /// The config says that output projection and embedding are one, but the file has two that
    /// differ: which one was meant cannot be known.
    #[error(
        "config.json says `tie_word_embeddings`, but `lm_head.weight` differs from \
         `model.embed_tokens.weight`: remove the wrong one of the two statements"
    )]
    NotTied,
    /// Weights that are not those the folder's lineage was written for.
    #[error(
        "the weights have hash {found}, but `{}` was written for {expected}: a file of weights is \
         damaged or was exchanged, so take the folder from where it came from once more, or remove \
         lineage.json if they were changed on purpose", path.display()
    )]
    Changed {
        /// `lineage.json`.
        path: PathBuf,
        /// What the weights have.
        found: String,
        /// What they should have.
        expected: String,
    },
    /// The folder to write is there already.
    #[error("`{}` is there already: remove it or choose another name", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The path to write to has no last part that could be a folder's name.
    #[error("`{}` does not name a folder", path.display())]
    NotAName {
        /// The path.
        path: PathBuf,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError {
    let path = path.to_owned();
    |source| CheckpointError::Io { path, source }
}
