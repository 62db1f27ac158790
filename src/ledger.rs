//! What a run has done: each stage's key, and the hashes of what it made.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fault::Fault;
use crate::recipes::hex;

/// Name of the ledger in a run's folder.
pub(crate) const FILE: &str = "stages.json";

/// The ledger of one output folder.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ledger {
    /// Version of this format.
    pub(crate) version: u32,
    /// Hash of the resolved recipe.
    pub(crate) recipe: String,
    /// Device everything was computed on.
    pub(crate) device: String,
    /// Whether the last stage was done.
    pub(crate) finished: bool,
    /// The stages that are done.
    pub(crate) stages: BTreeMap<String, Done>,
}

/// A stage that is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Done {
    /// Hash of its settings and of what it read.
    pub(crate) key: String,
    /// What it made: path below the run's folder, and hash.
    pub(crate) made: BTreeMap<String, String>,
}

impl Ledger {
    /// The version this build reads and writes.
    pub(crate) const VERSION: u32 = 1;

    /// The one of a folder that was cleared: the next run takes it, of whatever recipe.
    pub(crate) fn nobodys() -> Self {
        Self {
            version: Self::VERSION,
            ..Self::default()
        }
    }

    /// Whether no run has taken the folder since it was cleared.
    pub(crate) fn is_nobodys(&self) -> bool {
        self.recipe.is_empty() && self.stages.is_empty()
    }

    /// The ledger of `folder`, if there is one.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read `{}`", path.display()));
            }
        };
        let ledger = serde_json::from_str(&text);
        let ledger = ledger.map_err(|error| {
            Fault::new(
                format!("`{}` is damaged: {error}", path.display()),
                "it says what is done and how it looked: put a copy of it back, or start anew with \
                 --overwrite",
            )
        })?;
        Ok(Some(ledger))
    }

    /// Writes the ledger so that it is whole at any moment.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        write_whole(&folder.join(FILE), text.as_bytes())
    }

    /// Hashes of what `stage` made, if it is done with this key and all of it is still there
    /// unchanged.
    pub(crate) fn valid(
        &self,
        folder: &Path,
        stage: &str,
        key: &str,
    ) -> Option<&BTreeMap<String, String>> {
        let done = self.stages.get(stage).filter(|done| done.key == key)?;
        done.changed(folder).next().is_none().then_some(&done.made)
    }
}

impl Done {
    /// What it made that is no longer there as it was, below `folder`.
    pub(crate) fn changed<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = &'a str> {
        let changed = |(path, hash): (&'a String, &String)| {
            let same = hash_of(&folder.join(path)).is_ok_and(|found| found == *hash);
            (!same).then_some(path.as_str())
        };
        self.made.iter().filter_map(changed)
    }
}

/// The key of a stage: its name, its settings, and the hashes of what it reads.
pub(crate) fn key<T: Serialize>(stage: &str, settings: &T, reads: &[&str]) -> Result<String> {
    let text = serde_json::to_vec(&(stage, env!("CARGO_PKG_VERSION"), settings, reads))?;
    Ok(hex(&Sha256::digest(text)))
}

/// SHA-256 of a file, or of a folder's file names and contents.
pub(crate) fn hash_of(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    if path.is_dir() {
        for (name, file) in files_below(path)? {
            hash.update(name.as_bytes());
            hash.update([0]);
            hash.update(hash_of(&file)?);
        }
        return Ok(hex(&hash.finalize()));
    }
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// All files below a folder, by their path in it.
pub(crate) fn files_below(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            let inner = files_below(&path)?;
            found.extend(
                inner
                    .into_iter()
                    .map(|(file, path)| (format!("{name}/{file}"), path)),
            );
        } else {
            found.push((name, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Checks a file that somebody names against the ledger of the run whose folder it lies in, if there
/// is one that lists it.
///
/// # Errors
/// If the ledger lists it with another content: it was damaged, or edited.
pub(crate) fn check_listed(path: &Path) -> Result<()> {
    match listing(path) {
        Some(_) => checked_hash(path).map(drop),
        None => Ok(()),
    }
}

/// The hash of a file that somebody names, checked as [`check_listed`] does.
///
/// # Errors
/// Those of [`check_listed`], and if it cannot be read.
pub(crate) fn checked_hash(path: &Path) -> Result<String> {
    let found = hash_of(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    match listing(path) {
        Some((folder, listed)) if listed != found => Err(Fault::new(
            format!(
                "`{}` is not what was written: it was damaged or edited",
                path.display()
            ),
            format!(
                "the command that made `{}` makes it again; a copy in another folder is taken as \
                 it is",
                folder.display()
            ),
        )
        .into()),
        _ => Ok(found),
    }
}

/// The run's folder whose ledger lists a file, and the hash that it lists; none also if the file is
/// not there, which whoever reads it says.
fn listing(path: &Path) -> Option<(PathBuf, String)> {
    let path = path.canonicalize().ok()?;
    path.ancestors().skip(1).take(DEEPEST).find_map(|folder| {
        let ledger = Ledger::read(folder).ok().flatten()?;
        let name = path.strip_prefix(folder).ok()?.to_string_lossy();
        let mut made = ledger.stages.values().map(|done| &done.made);
        let listed = made.find_map(|made| made.get(&*name))?;
        Some((folder.to_owned(), listed.clone()))
    })
}

/// Folders between a run's and its files, at most.
const DEEPEST: usize = 4;

/// What a file is called until it is whole.
fn temporary(name: &str) -> String {
    format!(".{name}.tmp")
}

/// Writes a file under a temporary name, syncs it and renames it.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(temporary(&name));
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write `{}`", path.display()))
}
