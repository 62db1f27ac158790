//! Files of a checkpoint folder, with the errors of one.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{CheckpointError, io};
use crate::folder;

/// The path of a file in `folder`; None if it is not there.
///
/// # Errors
/// [`CheckpointError::Outside`] if the name or a link leads out of the folder.
pub(super) fn inside(folder: &Path, name: &str) -> Result<Option<PathBuf>, CheckpointError> {
    folder::find(folder, name).map_err(refused(folder, name))
}

/// Opens a regular file.
pub(super) fn open(path: &Path) -> Result<File, CheckpointError> {
    folder::open(path).map_err(io(path))
}

/// Reads a whole file of the folder that holds no weights, if it is there.
pub(super) fn read(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
    folder::read(folder, name, folder::VOCABULARY).map_err(refused(folder, name))
}

/// Reads a whole file with the matrices of an adapter, if it is there.
pub(super) fn read_adapter(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
    folder::read(folder, name, folder::ADAPTER).map_err(refused(folder, name))
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

fn refused(folder: &Path, name: &str) -> impl FnOnce(std::io::Error) -> CheckpointError {
    let (folder, name) = (folder.to_owned(), name.to_owned());
    move |error| match folder::is_outside(&error) {
        true => CheckpointError::Outside { folder, name },
        false => io(&folder.join(name))(error),
    }
}
