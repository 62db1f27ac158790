//! Files of samples, and what a file is that holds none.
//!
//! It knows what such files look like, and nothing of what is done with samples.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use protocol::Sample;
use protocol::jsonl::{self, JsonlError};
use serde_json::Value;

use crate::fault::Fault;

/// The samples of a file.
///
/// # Errors
/// If it cannot be read, or a line is no sample that this build knows; with what it is instead.
pub(crate) fn read(path: &Path) -> Result<Vec<Sample>> {
    records(path)?.collect()
}

/// Samples one after the other, as [`read`] reads them; the first error is the last entry.
///
/// # Errors
/// If the file cannot be opened.
pub(crate) fn records(path: &Path) -> Result<impl Iterator<Item = Result<Sample>>> {
    let name = || format!("cannot read the samples `{}`", path.display());
    let file = File::open(path).with_context(name)?;
    let of_file = path.to_owned();
    let records = jsonl::records(BufReader::new(file));
    Ok(records.map(move |record| record.map_err(|error| explained(&of_file, error))))
}

/// What a line is that is no sample.
fn explained(path: &Path, error: JsonlError) -> anyhow::Error {
    let name = path.display();
    let found = match &error {
        JsonlError::Parse { line, .. } => line_of(path, *line).map(|value| (*line, value)),
        JsonlError::Io { .. } => None,
    };
    let Some((line, found)) = found else {
        return anyhow::Error::new(error).context(format!("cannot read the samples `{name}`"));
    };
    let is_there = |key: &str| !found[key].is_null();
    let none = format!("`{name}` is no samples file: line {line}");
    let version = found["version"].as_u64();
    match version {
        _ if is_there("paths") && is_there("origin") => Fault::new(
            format!("{none} is a trace"),
            "`leap data-gen samples` makes samples of traces",
        )
        .into(),
        Some(version) if version != u64::from(Sample::VERSION) => Fault::new(
            format!(
                "`{name}`, line {line}: the sample has version {version}, but this build reads \
                 version {}",
                Sample::VERSION
            ),
            "a build that knows this version reads it; `leap data-gen samples` makes samples of the \
             traces once more",
        )
        .into(),
        _ if is_there("messages") || is_there("conversations") => Fault::new(
            format!("{none} is a conversation"),
            "only traces of this toolkit can be trained on, because they say which tokens are whose: \
             `leap data-gen traces` has a teacher write them, and `leap data-gen samples` makes \
             samples of them",
        )
        .into(),
        _ if !is_there("version") || !is_there("spans") => Fault::new(
            format!("{none} has no `version`, `id`, `problem`, `tokenizer` and `spans`"),
            "`leap data-gen samples` makes samples of traces; `leap schema sample` says what a line \
             holds",
        )
        .into(),
        _ => anyhow::Error::new(error).context(format!("cannot read the samples `{name}`")),
    }
}

/// A line of a file as JSON, if it is an object.
fn line_of(path: &Path, number: usize) -> Option<Value> {
    let file = BufReader::new(File::open(path).ok()?);
    let text = file.lines().nth(number.checked_sub(1)?)?.ok()?;
    serde_json::from_str(&text).ok().filter(Value::is_object)
}
