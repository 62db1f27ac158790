//! A model hub that speaks the protocol of huggingface.co: folders come from it and go to it.
//!
//! What comes from a hub is checked against the hashes that the hub lists, under names that stay in
//! the folder; what was there before is never overwritten unless an earlier pull wrote it. The
//! token is sent to the hub's own host only, and never shown. This module prints nothing and knows
//! no environment but what [`Client::from_environment`] reads; what a checkpoint needs to be sound
//! is [`crate::checkpoint`]'s.

use std::ops::ControlFlow;
use std::time::Duration;

mod cache;
mod client;
mod digest;
mod download;
mod error;
mod lfs;
mod listing;
mod names;
mod pull;
mod push;
mod record;
mod repo;
mod request;
mod roots;
mod token;

pub use client::Client;
pub use error::HubError;
pub use listing::{ListedHash, RemoteFile};
pub use pull::{Plan, PullSettings, Pulled, plan, pull};
pub use push::{PushSettings, Pushed, push};
pub use record::{PullRecord, PulledFile};
pub use repo::{Kind, Repo, Revision};
pub use roots::authorities;
pub use token::Token;

/// What happens while a folder is pulled or pushed.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// So many bytes of a file are there.
    Bytes {
        /// The file.
        name: &'a str,
        /// Bytes that are there.
        done: u64,
        /// Bytes it has.
        of: u64,
    },
    /// A file is whole, checked and in its place.
    Whole {
        /// The file.
        name: &'a str,
    },
    /// Something failed and is tried again.
    Again {
        /// What is tried.
        what: &'a str,
        /// Why it failed.
        problem: &'a str,
        /// When it is tried again.
        after: Duration,
    },
    /// Nothing; asks whether to go on.
    Waiting,
}

/// Hears what happens; [`ControlFlow::Break`] stops as soon as what is there is safe.
pub type Watch<'a> = dyn FnMut(Event<'_>) -> ControlFlow<()> + 'a;

/// Tells the watcher; an error if it wants no more.
fn tell(watch: &mut Watch<'_>, event: Event<'_>) -> Result<(), HubError> {
    match watch(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(HubError::Stopped),
    }
}

/// Waits, and listens for a stop meanwhile.
fn wait(watch: &mut Watch<'_>, time: Duration) -> Result<(), HubError> {
    const SLICE: Duration = Duration::from_millis(100);
    let mut left = time;
    while !left.is_zero() {
        tell(watch, Event::Waiting)?;
        let slice = left.min(SLICE);
        std::thread::sleep(slice);
        left -= slice;
    }
    tell(watch, Event::Waiting)
}
