//! Records as lines of JSON, over any reader or writer.

use std::io::{self, BufRead, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A line that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JsonlError {
    /// The reader failed.
    #[error("cannot read line {line}")]
    Io {
        /// Number of the line, from 1.
        line: usize,
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// The line is not a record of this kind.
    #[error("line {line} is not a valid record: {source}")]
    Parse {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong, and in which column.
        #[source]
        source: serde_json::Error,
    },
}

/// Reads all records; blank lines are passed over.
///
/// # Errors
/// With the number of the first line that cannot be read.
pub fn read<T: DeserializeOwned>(mut from: impl BufRead) -> Result<Vec<T>, JsonlError> {
    let mut records = Vec::new();
    let mut text = String::new();
    for line in 1.. {
        text.clear();
        match from.read_line(&mut text) {
            Ok(0) => break,
            Ok(_) if text.trim().is_empty() => {}
            Ok(_) => match serde_json::from_str(&text) {
                Ok(record) => records.push(record),
                Err(source) => return Err(JsonlError::Parse { line, source }),
            },
            Err(source) => return Err(JsonlError::Io { line, source }),
        }
    }
    Ok(records)
}

/// Writes one record and the end of its line.
///
/// # Errors
/// If the writer fails.
pub fn write<T: Serialize>(to: &mut impl Write, record: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *to, record)?;
    to.write_all(b"\n")
}
