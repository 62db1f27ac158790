//! Files of a folder that may come from strangers: regular files of a bounded size inside it.
//!
//! A link can lead to any file of the machine, a pipe waits for its other end for ever, and a file
//! with a hole in it takes no disk and all of the memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// Most bytes of the matrices of an adapter.
pub(crate) const ADAPTER: u64 = 16 << 30;
/// Most bytes of a tokenizer's vocabulary, or of a file that is copied; the largest vocabularies
/// take some forty megabytes.
pub(crate) const VOCABULARY: u64 = 512 << 20;
/// Most bytes of settings and templates.
pub(crate) const SMALL: u64 = 32 << 20;

/// A name or a link that leads out of the folder.
#[derive(Debug, thiserror::Error)]
#[error("it leads out of its folder")]
struct Outside;

/// Whether a file was refused because it is not in the folder.
pub(crate) fn is_outside(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Outside>())
}

/// The path of a file in `folder`; None if it is not there.
///
/// # Errors
/// A name or a link that leads out of the folder (see [`is_outside`]), with one exception: the
/// Hugging Face cache keeps the files of `snapshots/<revision>` as links into `blobs`.
pub(crate) fn find(folder: &Path, name: &str) -> io::Result<Option<PathBuf>> {
    let mut parts = Path::new(name).components();
    let plain = matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    );
    if !plain || name.contains(['/', '\\', '\0']) {
        return Err(io::Error::other(Outside));
    }
    let path = folder.join(name);
    let target = match path.canonicalize() {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let home = folder.canonicalize()?;
    let cache = home.parent().filter(|parent| parent.ends_with("snapshots"));
    let blobs = cache
        .and_then(Path::parent)
        .map(|model| model.join("blobs"));
    if target.starts_with(&home) || blobs.is_some_and(|blobs| target.starts_with(blobs)) {
        Ok(Some(path))
    } else {
        Err(io::Error::other(Outside))
    }
}

/// Opens a regular file.
///
/// # Errors
/// A folder, a pipe or a device in its place.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::open(path)
}

/// Reads a whole file of the folder, if it is there.
///
/// # Errors
/// Those of [`find`] and [`open`], and more than `most` bytes.
pub(crate) fn read(folder: &Path, name: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(path) = find(folder, name)? else {
        return Ok(None);
    };
    let (file, mut bytes) = (open(&path)?, Vec::new());
    let length = file.metadata()?.len();
    if length <= most {
        bytes.reserve_exact(usize::try_from(length).unwrap_or_default());
        file.take(most + 1).read_to_end(&mut bytes)?;
    }
    match length.max(bytes.len() as u64) {
        length if length > most => Err(io::Error::other(format!(
            "it has {length} bytes, and no more than {most} are read"
        ))),
        _ => Ok(Some(bytes)),
    }
}

/// As [`read`], as text.
///
/// # Errors
/// Those of [`read`], and bytes that are not UTF-8.
pub(crate) fn read_text(folder: &Path, name: &str) -> io::Result<Option<String>> {
    let Some(bytes) = read(folder, name, SMALL)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes);
    text.map(Some)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}
