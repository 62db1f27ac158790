//! Files that another program has brought from the hub already.
//!
//! The Python library, and everything built on it, keeps what it downloads in one cache on a
//! machine. What lies there of the wanted commit need not be downloaded a second time; it is copied
//! and then checked like a download.

use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo as CacheRepo, RepoType};

use super::digest::{Digests, digests};
use super::error::io;
use super::{HubError, Kind, ListedHash, RemoteFile, Repo, Watch};

/// Copies a file of a commit from the machine's cache to `part`, if it is there with the listed
/// content; otherwise nothing is left of it.
///
/// # Errors
/// If `part` cannot be written, or the watcher wants no more.
pub(super) fn copy(
    repo: &Repo,
    commit: &str,
    file: &RemoteFile,
    part: &Path,
    watch: &mut Watch<'_>,
) -> Result<Option<Digests>, HubError> {
    // Without a hash nothing would tell a damaged file from a good one.
    if matches!(file.hash, ListedHash::None) {
        return Ok(None);
    }
    let Some(found) = place(repo, commit, &file.name) else {
        return Ok(None);
    };
    let fits = found
        .metadata()
        .is_ok_and(|found| found.is_file() && found.len() == file.bytes);
    if !fits || !digests(&found, watch)?.is(file.bytes, &file.hash) {
        return Ok(None);
    }
    std::fs::copy(&found, part).map_err(io(part))?;
    let copied = digests(part, watch)?;
    match copied.is(file.bytes, &file.hash) {
        true => Ok(Some(copied)),
        false => {
            std::fs::remove_file(part).map_err(io(part))?;
            Ok(None)
        }
    }
}

/// Where the cache would hold it.
fn place(repo: &Repo, commit: &str, name: &str) -> Option<PathBuf> {
    let kind = match repo.kind {
        Kind::Model => RepoType::Model,
        Kind::Dataset => RepoType::Dataset,
    };
    let folder = std::env::var_os("HF_HUB_CACHE").filter(|text| !text.is_empty());
    let cache = match folder {
        Some(folder) => Cache::new(folder.into()),
        // Without either there is no place to look, and the library would panic.
        None if std::env::var_os("HF_HOME").is_none() && std::env::home_dir().is_none() => {
            return None;
        }
        None => Cache::from_env(),
    };
    let cached = cache.repo(CacheRepo::new(repo.name().to_owned(), kind));
    let path = cached.pointer_path(commit).join(name);
    path.exists().then_some(path)
}
