//! Calls into parsers that were written for files from trusted hands, and panic on some broken ones.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CATCHES: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread is caught and becomes an error: a panic hook need not tell of it.
pub fn is_caught() -> bool {
    CATCHES.get()
}

/// Runs a call into a foreign crate; its errors and panics both become texts.
///
/// # Errors
/// What the call, or its panic, said.
pub fn caught<T, E: ToString>(call: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    let before = CATCHES.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    CATCHES.set(before);
    match result {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "the parser gave up".to_owned())),
    }
}
