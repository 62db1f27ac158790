//! Errors with advice: what the user sees wrong first, and what to do last.

use std::fmt;
use std::io::{self, ErrorKind};

use data_gen::import::ImportError;
use data_gen::problems::{self, ProblemsError};
use data_gen::samples::TakeError;
use data_gen::training_set::SetError;
use infer::generation::GenerationError;
use infer::lines::LinesError;
use infer::waves::WaveError;
use protocol::NoPlainPrompt;

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

/// What to do about a file of half-done work that is damaged, if that is the reason.
pub(crate) fn of_a_damaged_file(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let lines = cause.downcast_ref::<LinesError>();
        let of_waves = || match cause.downcast_ref()? {
            WaveError::Journal(lines) => Some(lines),
            _ => None,
        };
        let of_a_generation = || match cause.downcast_ref()? {
            GenerationError::Journal(lines) => Some(lines),
            _ => None,
        };
        match lines.or_else(of_waves).or_else(of_a_generation)? {
            LinesError::Damaged { path, .. } => Some(format!(
                "nothing was changed. What it holds cannot be trusted: delete `{}`, and the same \
                 command does that work again; files under their final names are kept",
                path.display()
            )),
            LinesError::Io { .. } => None,
        }
    })
}

/// What to do about a problem whose answer cannot be graded, if that is the reason.
pub(crate) fn of_a_problem(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        let problems = match cause.downcast_ref() {
            Some(ImportError::Problems(problems)) => Some(problems),
            _ => cause.downcast_ref(),
        };
        match problems? {
            ProblemsError::Fault {
                fault: problems::Fault::Answer { wanted, .. },
                ..
            } if *wanted == problems::INTEGER => Some(
                "answers are whole numbers unless the line says how they are read: \"kind\": \"math\" \
                 takes fractions and expressions; `leap data-gen problems FILE --kind math` writes \
                 it into every line",
            ),
            _ => None,
        }
    })
}

/// What to do about a trace of an earlier build, if that is the reason.
pub(crate) fn of_an_old_trace(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        let found = match cause.downcast_ref() {
            Some(SetError::NoPlainPrompt { source, .. }) => Some(source),
            _ => cause.downcast_ref::<NoPlainPrompt>(),
        };
        let taken = || matches!(cause.downcast_ref(), Some(TakeError::NoPlainPrompt(_)));
        (found.is_some() || taken()).then_some(
            "the samples of such traces would have taught a prompt that LeaP-T is never asked with: \
             have the traces written again, into another folder",
        )
    })
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
