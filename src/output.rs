//! The only place that prints: data to stdout, everything for people to stderr.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::fault::{self, Fault};

/// Between two plain progress lines where there is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Where messages go, and how many of them.
pub(crate) struct Output {
    quiet: bool,
    redraw: bool,
    /// Why stdout could not be written.
    unwritten: Option<io::Error>,
}

impl Output {
    pub(crate) fn new(quiet: bool, no_progress: bool) -> Self {
        let redraw = !quiet && !no_progress && std::io::stderr().is_terminal();
        Self {
            quiet,
            redraw,
            unwritten: None,
        }
    }

    /// Prints data; a closed pipe ends the output silently. Any other failure is kept for
    /// [`Output::unwritten`].
    pub(crate) fn data(&mut self, text: &str) {
        self.print(&harmless(text));
    }

    /// Why something that was to be printed is not where it should be.
    pub(crate) fn unwritten(&mut self) -> Option<io::Error> {
        self.unwritten.take()
    }

    fn print(&mut self, text: &str) {
        if self.unwritten.is_some() {
            return;
        }
        let mut out = io::stdout().lock();
        let written = writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush());
        let failed = written.err();
        self.unwritten = failed.filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
    }

    /// Prints data in colours, where there is a terminal that shows them.
    pub(crate) fn painted_data(&mut self, pieces: &[(Paint, &str)]) {
        let paints = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        self.print(&painted(pieces, paints));
    }

    /// Tells people something.
    pub(crate) fn note(&mut self, text: &str) {
        if !self.quiet {
            to_stderr(&harmless(text));
        }
    }

    /// Tells people something in colours, where there is a terminal that shows them.
    pub(crate) fn painted(&mut self, pieces: &[(Paint, &str)]) {
        let paints = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        if !self.quiet {
            to_stderr(&painted(pieces, paints));
        }
    }

    /// `verb` and what it is about, the verb in its own column.
    pub(crate) fn step(&mut self, verb: &str, what: &str) {
        self.note(&format!("{verb:>12} {what}"));
    }

    /// Tells people what to do next.
    pub(crate) fn hint(&mut self, text: &str) {
        self.note(&format!("\nhint: {text}"));
    }

    /// An error with its causes and its hint.
    pub(crate) fn error(&mut self, error: &anyhow::Error) {
        let mut said = error.to_string();
        to_stderr(&format!("error: {}", harmless(&said)));
        for cause in error.chain().skip(1) {
            let cause = cause.to_string();
            // Some errors end with what their cause says.
            if said.trim_end().ends_with(cause.trim_end()) {
                continue;
            }
            let text = harmless(cause.trim_end()).replace('\n', "\n         ");
            to_stderr(&format!("  cause: {text}"));
            said = cause;
        }
        let fault = error.chain().find_map(|cause| cause.downcast_ref());
        let advice = fault
            .map(|fault: &Fault| fault.hint().to_owned())
            .or_else(|| fault::of_the_disk(error).map(str::to_owned))
            .or_else(|| fault::of_a_damaged_file(error))
            .or_else(|| fault::of_a_problem(error).map(str::to_owned))
            .or_else(|| fault::of_an_old_trace(error).map(str::to_owned));
        if let Some(advice) = advice {
            to_stderr(&format!("\nhint: {}", harmless(&advice)));
        }
    }

    /// A progress line for a stage.
    pub(crate) fn progress(&self, verb: &str, what: &str) -> Progress {
        let bar = if self.redraw {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(
                ProgressStyle::with_template("{prefix:>12} {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar.set_prefix(verb.to_string());
            Some(bar)
        } else {
            None
        };
        Progress {
            bar,
            plain: !self.quiet,
            verb: verb.to_string(),
            what: harmless(what).into_owned(),
            started: Instant::now(),
            first: None,
            last: None,
        }
    }
}

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    /// As it is.
    Plain,
    /// What matters.
    Bright,
    /// What stands behind.
    Dim,
    /// A token, in one of 256 colours; underlined if it carries loss, dim if it does not.
    Token {
        /// The colour.
        colour: u8,
        /// Whether it carries loss.
        loss: bool,
    },
}

fn painted(pieces: &[(Paint, &str)], paints: bool) -> String {
    let pieces = pieces.iter().map(|(paint, text)| (paint, harmless(text)));
    let piece = |(paint, text): (&Paint, Cow<'_, str>)| match (paints, paint) {
        (true, Paint::Bright) => format!("\x1b[32m{text}\x1b[0m"),
        (true, Paint::Dim) => format!("\x1b[2m{text}\x1b[0m"),
        (true, Paint::Token { colour, loss }) => {
            let look = if *loss { 4 } else { 2 };
            format!("\x1b[{look};38;5;{colour}m{text}\x1b[0m")
        }
        _ => text.into_owned(),
    };
    pieces.map(piece).collect()
}

/// A text without what steers a terminal or turns the order of what is read: such a character becomes
/// its number, `\u001b`, so that it is seen. In JSON that is the same text.
///
/// Most of what is printed was written by models, servers and files of others.
fn harmless(text: &str) -> Cow<'_, str> {
    let harms = |c: char| {
        let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        turns || (c.is_control() && c != '\n' && c != '\t')
    };
    if !text.contains(harms) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match harms(c) {
            true => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// A line for people. Where nobody reads any more, because a pipe was closed or a disk is full, the work
/// goes on without being told of.
fn to_stderr(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A line about something that went wrong where no [`Output`] is at hand.
pub(crate) fn from_another_thread(text: &str) {
    to_stderr(&harmless(text));
}

/// So many things, in the plural if there is not just one.
pub(crate) fn count(number: usize, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        number => format!("{number} {thing}s"),
    }
}

/// A number of bytes as people say it.
pub(crate) fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        _ if bytes < 1e3 => format!("{bytes} B"),
        _ if bytes < 1e6 => format!("{:.1} kB", bytes / 1e3),
        _ if bytes < 1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.2} GB", bytes / 1e9),
    }
}

/// A number of floating-point operations a second as people say it.
pub(crate) fn flops(rate: f64) -> String {
    match rate {
        _ if rate < 1e12 => format!("{:.1} GFLOP/s", rate / 1e9),
        _ if rate < 1e13 => format!("{:.2} TFLOP/s", rate / 1e12),
        _ => format!("{:.0} TFLOP/s", rate / 1e12),
    }
}

/// One stage's progress: redrawn on a terminal, a plain line every ten seconds otherwise.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    plain: bool,
    verb: String,
    what: String,
    started: Instant,
    /// Where this process began, so that resumed work does not count as speed.
    first: Option<u64>,
    last: Option<Instant>,
}

impl Progress {
    /// Shows `done` of `of`, what else is known, and how long it will take.
    pub(crate) fn show(&mut self, done: u64, of: u64, unit: &str, more: &str) {
        let first = *self.first.get_or_insert(done);
        let text = || {
            let seconds = self.started.elapsed().as_secs_f64();
            let gained = done.saturating_sub(first);
            let rate = gained as f64 / seconds.max(1e-9);
            let left = if gained > 0 && done < of {
                let left = Duration::from_secs_f64((of - done) as f64 / rate);
                format!(", {:#} left", HumanDuration(left))
            } else {
                String::new()
            };
            let more = if more.is_empty() {
                String::new()
            } else {
                format!(", {}", harmless(more))
            };
            format!("{}: {done}/{of} {unit}{more}{left}", self.what)
        };
        if let Some(bar) = &self.bar {
            bar.set_message(text());
            bar.tick();
        } else if self.plain && self.last.unwrap_or(self.started).elapsed() > PLAIN_INTERVAL {
            to_stderr(&format!("{:>12} {}", self.verb, text()));
            self.last = Some(Instant::now());
        }
    }

    /// Ends the line; returns the seconds the stage took.
    pub(crate) fn finish(self, summary: &str) -> f64 {
        let seconds = self.started.elapsed().as_secs_f64();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.plain {
            let summary = harmless(summary);
            to_stderr(&format!(
                "{:>12} {}: {summary} ({seconds:.1} s)",
                self.verb, self.what
            ));
        }
        seconds
    }
}
