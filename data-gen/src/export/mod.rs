//! Samples in forms that trainers of others read.

pub mod card;
pub mod messages;
pub mod tokens;

use std::path::PathBuf;

/// Why samples cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A sample of another tokenizer than the first one.
    #[error("sample `{id}` was made with tokenizer {found}, but the export is of {expected}")]
    Tokenizer {
        /// The sample.
        id: String,
        /// Hash in the sample.
        found: String,
        /// Hash of the export.
        expected: String,
    },
    /// No token carries loss.
    #[error("no token of sample `{id}` carries loss")]
    Untrained {
        /// The sample.
        id: String,
    },
    /// An id that Parquet's INT32 does not hold.
    #[error("sample `{id}` holds token {token}, which no trainer has")]
    Token {
        /// The sample.
        id: String,
        /// The token.
        token: u32,
    },
    /// A prompt that the chat template does not make.
    #[error("the prompt of sample `{id}` is not what the chat template makes of a message")]
    Prompt {
        /// The sample.
        id: String,
    },
    /// The chat template refuses every message.
    #[error(transparent)]
    Template(#[from] protocol::TemplateError),
    /// A file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Parquet cannot be written.
    #[error("cannot write `{}` as Parquet", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: parquet::errors::ParquetError,
    },
}
