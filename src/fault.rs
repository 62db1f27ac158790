//! Errors with advice: what the user sees wrong first, and what to do last.

use std::fmt;

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

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
