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
pub fn read<T: DeserializeOwned>(from: impl BufRead) -> Result<Vec<T>, JsonlError> {
    records(from).collect()
}

/// Records one after the other, as [`read`] reads them; the first error is the last entry.
pub fn records<T: DeserializeOwned>(
    mut from: impl BufRead,
) -> impl Iterator<Item = Result<T, JsonlError>> {
    let mut text = String::new();
    let mut line = 0;
    let mut next = move || {
        loop {
            text.clear();
            line += 1;
            match from.read_line(&mut text) {
                Ok(0) => return None,
                Ok(_) if text.trim().is_empty() => {}
                Ok(_) => {
                    // Some editors put a byte order mark before a file.
                    let bytes = match line {
                        1 => text.strip_prefix('\u{feff}').unwrap_or(&text),
                        _ => &text,
                    };
                    let record = serde_json::from_str(bytes);
                    return Some(record.map_err(|source| JsonlError::Parse { line, source }));
                }
                Err(source) => return Some(Err(JsonlError::Io { line, source })),
            }
        }
    };
    let mut failed = false;
    std::iter::from_fn(move || {
        let record = if failed { None } else { next() };
        failed = matches!(record, Some(Err(_)));
        record
    })
}

/// Writes one record and the end of its line.
///
/// # Errors
/// If the writer fails.
pub fn write<T: Serialize>(to: &mut impl Write, record: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *to, record)?;
    to.write_all(b"\n")
}
