//! `pull.json`: where a folder came from, and which bytes were pulled.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::io;
use super::{HubError, Kind, names};
use crate::folder;

/// The content of `pull.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullRecord {
    /// Version of this format: 1.
    pub version: u32,
    /// `owner/name`.
    pub repo: String,
    /// What the repository holds.
    pub kind: Kind,
    /// What was asked for: a branch, a tag or a commit.
    pub revision: String,
    /// The commit it stood for.
    pub commit: String,
    /// Whether all files that were asked for are there.
    pub complete: bool,
    /// The files that are there, by name.
    pub files: BTreeMap<String, PulledFile>,
}

/// A file that was pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PulledFile {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content in hex.
    pub sha256: String,
}

impl PullRecord {
    /// Name of the file in a pulled folder.
    pub const FILE: &'static str = "pull.json";

    /// Reads the record of a folder, if it has one.
    ///
    /// # Errors
    /// A file that cannot be read, is of another version, or names files outside of the folder.
    pub fn read(dir: &Path) -> Result<Option<Self>, HubError> {
        let path = dir.join(Self::FILE);
        let text = folder::read(dir, Self::FILE, folder::VOCABULARY).map_err(io(&path))?;
        let Some(text) = text else { return Ok(None) };
        let wrong = |problem: String| HubError::Record {
            path: path.clone(),
            problem,
        };
        let record: Self =
            serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if record.version != 1 {
            let version = record.version;
            return Err(wrong(format!("version {version} is not known here")));
        }
        for name in record.files.keys() {
            names::check(&record.repo, name)?;
        }
        Ok(Some(record))
    }

    /// Writes the record: whole or not at all.
    pub(super) fn write(&self, folder: &Path) -> Result<(), HubError> {
        let text = serde_json::to_string_pretty(self).expect("a record has a JSON form");
        let path = folder.join(Self::FILE);
        let temporary = folder.join(names::WORK).join(Self::FILE);
        let mut file = fs::File::create(&temporary).map_err(io(&temporary))?;
        file.write_all(format!("{text}\n").as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(io(&temporary))?;
        fs::rename(&temporary, &path).map_err(io(&path))
    }
}
