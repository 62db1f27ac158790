//! Why servers cannot be used.

use std::io;

use protocol::TemplateError;

use super::settings;

/// Why servers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// A setting is out of range.
    #[error(
        "`{name}` is {value}, but must be from 1 to {}",
        settings::MOST_IN_FLIGHT
    )]
    Setting {
        /// The setting.
        name: &'static str,
        /// What was given.
        value: usize,
    },
    /// There is no server.
    #[error("no server is named")]
    NoServer,
    /// An address that is none.
    #[error("`{url}` is no address of a server: {problem}")]
    Url {
        /// What was given, without a user.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The file of authorities cannot be used.
    #[error("the authorities cannot be read: {problem}")]
    Authorities {
        /// Why.
        problem: String,
    },
    /// The chat template refuses a message.
    #[error("no server can be asked")]
    Template(#[source] TemplateError),
    /// No server can be used.
    #[error("no server can be used\n{servers}")]
    Unusable {
        /// The servers, and why, a line each.
        servers: String,
    },
    /// Servers serve another model than the tokenizer at hand is for.
    #[error("`{url}` tells ids that do not stand for its text: it has another tokenizer")]
    Tokenizer {
        /// The server.
        url: String,
    },
    /// Servers that cannot work side by side.
    #[error("`{url}` cannot work beside `{other}`: {problem}")]
    Unlike {
        /// The server.
        url: String,
        /// Another one.
        other: String,
        /// How they differ.
        problem: String,
    },
    /// Nothing says how long a path can be, or a server holds less.
    #[error("{problem}")]
    Positions {
        /// What is wrong.
        problem: String,
    },
    /// A setting of the sampler that servers do not heed.
    #[error("the servers do not heed `{name}`, which is {value}")]
    Sampling {
        /// The key.
        name: &'static str,
        /// What was asked for.
        value: String,
    },
    /// All servers are gone, and have been for too long.
    #[error("no server has answered for {seconds} seconds\n{servers}")]
    Lost {
        /// For how long.
        seconds: u64,
        /// The servers, and what they said last, a line each.
        servers: String,
    },
    /// A server ends answers before all was sampled that was asked for.
    #[error(
        "`{url}` ended an answer after {told} of {asked} tokens for its length: it has a limit of its own"
    )]
    Capped {
        /// The server.
        url: String,
        /// Tokens that came back.
        told: usize,
        /// Tokens that were asked for.
        asked: usize,
    },
    /// No thread can be started.
    #[error("no thread can be started to ask a server")]
    Thread(#[source] io::Error),
}
