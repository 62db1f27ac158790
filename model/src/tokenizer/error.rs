//! Why a tokenizer could not be read, made or used.

use std::path::PathBuf;

/// Why a tokenizer could not be read, made or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The folder has no `tokenizer.json`.
    #[error(
        "there is no `{}`: copy tokenizer.json and tokenizer_config.json from the model the \
         checkpoint was made from",
        path.display()
    )]
    NotFound {
        /// The file looked for.
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
    /// Not JSON.
    #[error("`{}` is not valid JSON: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        problem: serde_json::Error,
    },
    /// JSON, but not a tokenizer.
    #[error("`{}` does not describe a tokenizer: {problem}", path.display())]
    Parser {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        problem: String,
    },
    /// A token named in `tokenizer_config.json` is not in the vocabulary.
    #[error("`{}`: `{key}` is `{token}`, which tokenizer.json does not have", path.display())]
    UnknownToken {
        /// `tokenizer_config.json`.
        path: PathBuf,
        /// The key that names it.
        key: String,
        /// The token.
        token: String,
    },
    /// The two files give one token two ids.
    #[error(
        "`{}`: token `{token}` has id {said} there, but {known:?} in tokenizer.json",
        path.display()
    )]
    Contradiction {
        /// `tokenizer_config.json`.
        path: PathBuf,
        /// The token.
        token: String,
        /// Its id in `tokenizer_config.json`.
        said: u32,
        /// Its id in `tokenizer.json`.
        known: Option<u32>,
    },
    /// The tokenizer makes ids that the model has no embedding for.
    #[error("the tokenizer has ids up to {largest}, but the model only {vocab_size} embeddings")]
    TooManyIds {
        /// The largest id.
        largest: usize,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// Encoding failed.
    #[error("cannot encode a text of {bytes} bytes: {problem}")]
    Encode {
        /// Length of the text.
        bytes: usize,
        /// What the encoder said.
        problem: String,
    },
    /// Training failed or its settings contradict each other.
    #[error("cannot train a tokenizer: {problem}")]
    Training {
        /// What is wrong.
        problem: String,
    },
}
