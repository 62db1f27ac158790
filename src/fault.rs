//! Errors with advice: what the user sees wrong first, and what to do last.

use std::fmt;
use std::io::{self, ErrorKind};

/// An error that carries a hint for the person who reads it.
#[derive(Debug)]
pub(crate) struct Fault {
    message: String,
    hint: String,
}

impl Fault {
    /// An error with `message` and a `hint`; neither ends with a full stop.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> &str {
        &self.hint
    }
}

/// What to do about a disk that takes nothing more, if that is the reason.
///
/// Half-done work is kept under names of its own, so the same command continues in all cases.
pub(crate) fn of_the_disk(error: &anyhow::Error) -> Option<&'static str> {
    let kinds = error.chain().filter_map(|cause| {
        let error = cause.downcast_ref::<io::Error>()?;
        Some(error.kind())
    });
    kinds.into_iter().find_map(|kind| match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            Some("make room, and run the same command again: it continues with what is kept")
        }
        ErrorKind::ReadOnlyFilesystem => {
            Some("the output must be where files can be written: --out names another place")
        }
        ErrorKind::PermissionDenied => {
            Some("look at owner and rights of the file and its folder, or name another --out")
        }
        ErrorKind::CrossesDevices => Some(
            "the output and what is being written beside it must lie on one file system: --out \
             names another place",
        ),
        _ => None,
    })
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
