//! What can go wrong between a request and its answer, by class, and how often it did.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::settings::Key;

/// A class of failures. The order is that of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// No connection: the server is not there.
    Unreachable,
    /// The connection broke off before the answer was whole.
    BrokenOff,
    /// No answer in time.
    TimedOut,
    /// The server has too much to do (status 429, or 503 with a time to wait).
    Busy,
    /// The server failed (status 5xx), or gave the request up.
    ServerError,
    /// The server refuses the request (status 400, 413 or 422).
    Refused,
    /// The server lets nobody in or does not have the model (401, 403, 404, any other status).
    Denied,
    /// The answer is no JSON of a completion.
    Unreadable,
    /// The answer has not exactly one choice.
    WrongCount,
    /// The answer's ids are not those of its text, or are more than were asked for.
    WrongIds,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 10] = [
        Self::Unreachable,
        Self::BrokenOff,
        Self::TimedOut,
        Self::Busy,
        Self::ServerError,
        Self::Refused,
        Self::Denied,
        Self::Unreadable,
        Self::WrongCount,
        Self::WrongIds,
    ];

    /// The name used in progress lines and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::BrokenOff => "broken off",
            Self::TimedOut => "timed out",
            Self::Busy => "busy",
            Self::ServerError => "server error",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Unreadable => "unreadable",
            Self::WrongCount => "wrong count",
            Self::WrongIds => "wrong ids",
        }
    }

    /// Whether it says nothing about the request: sent again, it is not one try fewer.
    pub(super) fn is_the_servers_state(self) -> bool {
        matches!(self, Self::Unreachable | Self::Busy | Self::Denied)
    }
}

/// How much of a failure is told.
const MOST_TOLD: usize = 400;
/// How much of what a server says is looked at: a key that a cut would leave half of is not among
/// the part that is told.
pub(super) const MOST_HEARD: usize = 4096;

/// One failure.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) class: Class,
    /// For people; holds neither a key nor a prompt once it is [`Failure::told`].
    pub(super) text: String,
    /// How long the server asks to be left alone.
    pub(super) retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn new(class: Class, text: impl Into<String>) -> Self {
        Self {
            class,
            text: text.into(),
            retry_after: None,
        }
    }

    /// The failure as it may be shown and kept: servers repeat in their errors what they were sent,
    /// the key among it, and may say anything at any length.
    pub(super) fn told(mut self, key: Option<&Key>) -> Self {
        if let Some(key) = key {
            self.text = key.hidden_in(&self.text);
        }
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let mut text: String = self.text.chars().take(MOST_TOLD).map(plain).collect();
        if text.len() < self.text.len() {
            text += " ...";
        }
        self.text = text;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.name(), self.text)
    }
}

/// Counts what happened. Shared between threads; reading it stops nothing.
#[derive(Debug, Default)]
pub struct Tally {
    answered: AtomicU64,
    given_up: AtomicU64,
    failures: [AtomicU64; Class::ALL.len()],
}

impl Tally {
    pub(super) fn note_answer(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_given_up(&self) {
        self.given_up.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note(&self, class: Class) {
        self.failures[class as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that were answered.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Requests that were given up.
    pub fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Failed tries by class, those that a later try made good included; classes that never
    /// occurred are left out.
    pub fn failures(&self) -> Vec<(Class, u64)> {
        let count = |class: Class| self.failures[class as usize].load(Ordering::Relaxed);
        let all = Class::ALL.into_iter().map(|class| (class, count(class)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// The failures in words; empty if there was none.
    pub fn words(&self) -> String {
        let mut words: Vec<String> = self
            .failures()
            .into_iter()
            .map(|(class, count)| format!("{count} {}", class.name()))
            .collect();
        if self.given_up() > 0 {
            words.push(format!("{} given up", self.given_up()));
        }
        words.join(", ")
    }
}
