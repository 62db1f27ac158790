//! A row of figures, and how much a run of the harness takes on.

use std::fmt::Display;
use std::io::Write;

/// Whether the long version was asked for, by `LEAP_FIRE=long`.
///
/// # Panics
/// If `LEAP_FIRE` says anything else: a misspelt long run must not pass for one.
pub(crate) fn long() -> bool {
    match std::env::var("LEAP_FIRE").as_deref() {
        Ok("long") => true,
        Ok("short") | Err(_) => false,
        Ok(other) => panic!("LEAP_FIRE is `{other}`, and must be `short` or `long`"),
    }
}

/// One of two sizes.
pub(crate) fn scale<T>(short: T, in_long: T) -> T {
    if long() { in_long } else { short }
}

/// Prints one row: what was done to what, and the figures that came of it. It goes past the capture
/// of the test harness, so that a passing run shows its figures.
pub(crate) fn tell(name: &str, figures: &[(&str, &dyn Display)]) {
    let version = scale("short", "long");
    let mut line = format!("fire: {name} ({version}):");
    for (index, (what, figure)) in figures.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        line.push_str(&format!("{comma} {what} {figure}"));
    }
    again(&line);
}

/// Prints a row that another process has made.
pub(crate) fn again(row: &str) {
    let line = format!("{row}\n");
    // One write, so that rows of tests that run beside each other stay whole.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
