//! One process at a time on one output: the second is refused by name.
//!
//! The lock is the operating system's and goes with the process; its file may stay behind.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::fault::Fault;

/// Name of the lock's file in a folder.
pub(crate) const FILE: &str = ".lock";

/// Held as long as it lives.
pub(crate) struct Lock {
    _file: File,
    /// What is removed at the end.
    removed: Option<PathBuf>,
}

impl Lock {
    /// Of a folder, which is made if it is not there.
    ///
    /// # Errors
    /// If another process works in it.
    pub(crate) fn folder(out: &Path) -> Result<Self> {
        let made = fs::create_dir_all(out);
        made.with_context(|| format!("cannot make the folder `{}`", out.display()))?;
        let busy = format!("another process is working in `{}`", out.display());
        Ok(Self {
            _file: taken(&out.join(FILE), &busy)?,
            removed: None,
        })
    }

    /// Of a file, or of a folder that gets its name when it is whole.
    ///
    /// # Errors
    /// If another process writes it.
    pub(crate) fn output(out: &Path) -> Result<Self> {
        if let Some(folder) = out.parent() {
            let made = fs::create_dir_all(folder);
            made.with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
        }
        let name = out.file_name().unwrap_or_default().to_string_lossy();
        let path = out.with_file_name(format!(".{name}.lock"));
        let busy = format!("another process is writing `{}`", out.display());
        Ok(Self {
            _file: taken(&path, &busy)?,
            removed: Some(path),
        })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still held, so that nobody takes what is removed here.
        if let Some(path) = &self.removed {
            let _ = fs::remove_file(path);
        }
    }
}

fn taken(path: &Path, busy: &str) -> Result<File> {
    loop {
        let file = File::create(path);
        let file = file.with_context(|| format!("cannot write `{}`", path.display()))?;
        match file.try_lock() {
            Ok(()) if is_still_there(&file, path) => return Ok(file),
            // The process that held it has removed it meanwhile.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let advice = "wait for it, or pass another --out";
                return Err(Fault::new(busy, advice).into());
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock `{}`", path.display()));
            }
        }
    }
}

#[cfg(unix)]
fn is_still_there(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_still_there(_: &File, _: &Path) -> bool {
    // What is open cannot be removed there.
    true
}
