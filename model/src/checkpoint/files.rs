//! Files of a folder that may come from strangers.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::{CheckpointError, io};

/// The path of a file in `folder`; None if it is not there.
///
/// # Errors
/// [`CheckpointError::Outside`] if the name or a link leads out of the folder, with one exception:
/// the Hugging Face cache keeps the files of `snapshots/<revision>` as links into `blobs`.
pub(super) fn inside(folder: &Path, name: &str) -> Result<Option<PathBuf>, CheckpointError> {
    let outside = || CheckpointError::Outside {
        folder: folder.to_owned(),
        name: name.to_owned(),
    };
    let mut parts = Path::new(name).components();
    let plain = matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    );
    if !plain || name.contains(['/', '\\']) {
        return Err(outside());
    }
    let path = folder.join(name);
    let target = match path.canonicalize() {
        Ok(target) => target,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(&path)(error)),
    };
    let home = folder.canonicalize().map_err(io(folder))?;
    let cache = home.parent().filter(|parent| parent.ends_with("snapshots"));
    let blobs = cache
        .and_then(Path::parent)
        .map(|model| model.join("blobs"));
    if target.starts_with(&home) || blobs.is_some_and(|blobs| target.starts_with(blobs)) {
        Ok(Some(path))
    } else {
        Err(outside())
    }
}

/// Opens a regular file. Opening a pipe would wait for its other end.
pub(super) fn open(path: &Path) -> Result<File, CheckpointError> {
    let kind = std::fs::metadata(path).map_err(io(path))?;
    if !kind.is_file() {
        let problem = std::io::Error::other("not a regular file");
        return Err(io(path)(problem));
    }
    File::open(path).map_err(io(path))
}

/// Reads a whole small file of the folder, if it is there.
pub(super) fn read(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
    let Some(path) = inside(folder, name)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    open(&path)?.read_to_end(&mut bytes).map_err(io(&path))?;
    Ok(Some(bytes))
}

/// Fails if there is no such folder.
pub(super) fn check_folder(folder: &Path) -> Result<(), CheckpointError> {
    if folder.is_dir() {
        Ok(())
    } else {
        Err(CheckpointError::NoFolder {
            path: folder.to_owned(),
        })
    }
}
