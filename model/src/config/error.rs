//! Why a configuration cannot be used: key and value are always named.

use std::path::PathBuf;

use serde_json::Value;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The folder has no such file.
    #[error(
        "there is no `{}`: a checkpoint folder holds config.json, tokenizer.json and model.safetensors",
        path.display()
    )]
    NotFound {
        /// The file looked for.
        path: PathBuf,
    },
    /// The file is there, but could not be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Something is wrong inside a file.
    #[error("`{}`: {problem}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        problem: Box<ConfigError>,
    },
    /// Not JSON.
    #[error("not valid JSON: {problem}")]
    Syntax {
        /// What the parser said, with line and column.
        problem: serde_json::Error,
    },
    /// The file's outermost value is not an object.
    #[error("not a JSON object, but {found}")]
    NotAnObject {
        /// The value found.
        found: Value,
    },
    /// A key that must be there is not.
    #[error("key `{key}` is missing")]
    Missing {
        /// The key.
        key: String,
    },
    /// A value of the wrong kind or out of range.
    #[error("key `{key}` is {value}, but must be {expected}")]
    Invalid {
        /// The key.
        key: String,
        /// The value found.
        value: Value,
        /// What can stand there.
        expected: &'static str,
    },
    /// A model that this decoder does not compute.
    #[error("key `{key}` is {value}: not supported ({supported})")]
    Unsupported {
        /// The key.
        key: String,
        /// The value found.
        value: Value,
        /// What would be supported.
        supported: &'static str,
    },
    /// Two keys contradict each other.
    #[error("keys `{first}` = {first_value} and `{second}` = {second_value} contradict: {rule}")]
    Contradiction {
        /// One key.
        first: &'static str,
        /// Its value.
        first_value: Value,
        /// The other key.
        second: &'static str,
        /// Its value.
        second_value: Value,
        /// What must hold.
        rule: &'static str,
    },
}
