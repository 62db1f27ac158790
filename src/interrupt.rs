//! The first signal asks for a stop that loses nothing; the second leaves at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use signal_hook::consts::signal;

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// What asks for a stop: Ctrl-C, what ends a process, a terminal that closes, and what schedulers
/// of clusters send before they end a job.
const SIGNALS: &[i32] = &[
    signal::SIGINT,
    signal::SIGTERM,
    #[cfg(unix)]
    signal::SIGHUP,
    #[cfg(unix)]
    signal::SIGUSR1,
    #[cfg(unix)]
    signal::SIGUSR2,
];

/// Listens for signals from now on.
///
/// # Errors
/// If the operating system refuses a handler.
pub(crate) fn listen() -> anyhow::Result<()> {
    let asked = ASKED.get_or_init(Arc::default);
    for signal in SIGNALS {
        // In this order: the first signal finds the flag unset, and sets it.
        signal_hook::flag::register_conditional_shutdown(*signal, 130, Arc::clone(asked))
            .and_then(|_| signal_hook::flag::register(*signal, Arc::clone(asked)))
            .context("cannot listen for signals")?;
    }
    Ok(())
}

/// Whether a stop was asked for.
pub(crate) fn asked() -> bool {
    ASKED
        .get()
        .is_some_and(|asked| asked.load(Ordering::SeqCst))
}
