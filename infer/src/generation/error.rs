//! Why a generation failed.

use std::path::PathBuf;

use crate::engine::EngineError;
use crate::lines::LinesError;
use crate::units::{UnfitError, UnitError};

/// Why a generation failed; what has been said is kept.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// What was said cannot be kept.
    #[error(transparent)]
    Journal(#[from] LinesError),
    /// A group cannot be made on a problem.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// There are problems on which no group can be made; nothing was asked.
    #[error(transparent)]
    Unfit(#[from] UnfitError),
    /// The engine is unusable.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What has been said was computed elsewhere; a trace has one origin.
    #[error("`{}` holds what was computed on `{was}`, and not on `{is}`", path.display())]
    Elsewhere {
        /// The journal.
        path: PathBuf,
        /// Where it was computed.
        was: String,
        /// Where it would be now.
        is: String,
    },
    /// All other groups have ended; the same run asks again.
    #[error(
        "{groups} of {of} groups wait for what could not be had. Path {path} of group {group} of \
         `{problem}`: {reason}"
    )]
    Unserved {
        /// Groups that wait.
        groups: usize,
        /// Groups in all.
        of: usize,
        /// Id of the first one's problem.
        problem: String,
        /// Which of its groups.
        group: u32,
        /// The path, from 0.
        path: u32,
        /// Why it could not be served.
        reason: String,
    },
    /// What the journal says a group has said, it was never asked.
    #[error(
        "`{}` does not belong to this run: group {group} of `{problem}` was never asked what it \
         answers there",
        path.display()
    )]
    Foreign {
        /// The journal.
        path: PathBuf,
        /// Id of the problem.
        problem: String,
        /// Which of its groups.
        group: u32,
    },
}
