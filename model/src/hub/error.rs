//! Why a hub could not be used. No text holds a token or the query of a URL.

use std::path::{Path, PathBuf};

/// Why a folder could not be pulled or pushed.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The address of the hub is none.
    #[error("`{endpoint}` is no address of a hub: {problem}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The token could not be read, or cannot be one.
    #[error("the token from {from} cannot be used: {problem}")]
    Token {
        /// Where it was found.
        from: String,
        /// What is wrong; never the token.
        problem: String,
    },
    /// A token would be readable on its way.
    #[error("the token would go in the clear to `{endpoint}`")]
    PlainToken {
        /// The hub.
        endpoint: String,
    },
    /// A file of authorities that cannot be used.
    #[error("`{}` names no authorities for connections: {problem}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The environment forbids the network.
    #[error("HF_HUB_OFFLINE is set: the hub is not asked")]
    Offline,
    /// Not the name of a repository.
    #[error("`{text}` is no repository: {problem}")]
    Repo {
        /// What was given.
        text: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Not a revision.
    #[error("`{text}` is no revision")]
    Revision {
        /// What was given.
        text: String,
    },
    /// A pattern for names that cannot be read.
    #[error("`{pattern}` is no pattern: {problem}")]
    Pattern {
        /// What was given.
        pattern: String,
        /// What the parser said.
        problem: String,
    },
    /// The hub did not answer, or broke off each time.
    #[error("`{url}` cannot be reached ({}): {problem}", counted(*tries))]
    Unreachable {
        /// What was asked for, without its query.
        url: String,
        /// The last failure.
        problem: String,
        /// How often it was tried.
        tries: u32,
    },
    /// The hub says that it cannot answer now.
    #[error("`{url}` answers {status} ({}): {message}", counted(*tries))]
    Busy {
        /// What was asked for, without its query.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the hub says.
        message: String,
        /// How often it was tried.
        tries: u32,
    },
    /// The hub wants a token, or does not accept this one.
    #[error("the hub does not show `{repo}` {}", if *token { "to this token" } else { "without a token" })]
    Unauthorized {
        /// The repository.
        repo: String,
        /// Whether a token was sent.
        token: bool,
    },
    /// The repository has terms that have to be accepted first.
    #[error("`{repo}` is gated: {message}")]
    Gated {
        /// The repository.
        repo: String,
        /// Its page.
        page: String,
        /// What the hub says.
        message: String,
    },
    /// The token may not do this.
    #[error("the hub forbids this for `{repo}`: {message}")]
    Forbidden {
        /// The repository.
        repo: String,
        /// What the hub says.
        message: String,
    },
    /// There is no such repository, or none that the token may see.
    #[error("the hub at `{endpoint}` has no {kind} `{repo}`")]
    NoRepo {
        /// The hub.
        endpoint: String,
        /// `model` or `dataset`.
        kind: &'static str,
        /// The repository.
        repo: String,
    },
    /// The repository has no such revision.
    #[error("`{repo}` has no revision `{revision}`")]
    NoRevision {
        /// The repository.
        repo: String,
        /// What was asked for.
        revision: String,
    },
    /// Any other refusal.
    #[error("`{url}` answers {status}: {message}")]
    Refused {
        /// What was asked for, without its query.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the hub says.
        message: String,
    },
    /// An answer that is not what the protocol says.
    #[error("`{url}` gives an answer that makes no sense: {problem}")]
    Answer {
        /// What was asked for, without its query.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// A name that would leave the folder or could not be written everywhere.
    #[error("`{repo}` lists the file {name:?}, which is refused: {problem}")]
    Name {
        /// The repository.
        repo: String,
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Files of somebody else are where the hub's would go.
    #[error("`{}` has other content than the hub's `{}`{}", folder.display(), names[0], more(names))]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// The files.
        names: Vec<String>,
    },
    /// The folder was pulled from elsewhere.
    #[error("`{}` holds the {holds}, not the {asked}", folder.display())]
    OtherRepo {
        /// The folder.
        folder: PathBuf,
        /// What pull.json says.
        holds: String,
        /// What was asked for.
        asked: String,
    },
    /// Another process pulls into this folder.
    #[error("another process is pulling into `{}`", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// `pull.json` cannot be understood.
    #[error("`{}`: {problem}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A link, or something else that is neither file nor folder.
    #[error("`{}` is a link or no plain file", path.display())]
    NotPlain {
        /// The path.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("cannot read or write `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The disk has no room.
    #[error("the disk is full at `{}`", path.display())]
    DiskFull {
        /// The file being written.
        path: PathBuf,
    },
    /// The content is not what the hub lists.
    #[error("`{name}` arrives with hash {found}, but the hub lists {expected} ({})", counted(*tries))]
    WrongHash {
        /// The file.
        name: String,
        /// Hash of what arrived.
        found: String,
        /// The hash listed.
        expected: String,
        /// How often it was fetched.
        tries: u32,
    },
    /// A model repository without weights that can be read.
    #[error("`{repo}` has no weights in safetensors; it has {}", has.join(", "))]
    NoWeights {
        /// The repository.
        repo: String,
        /// Files it has.
        has: Vec<String>,
    },
    /// Nothing fits the patterns.
    #[error("`{repo}` has no file that matches {}", patterns.join(", "))]
    NoMatch {
        /// The repository.
        repo: String,
        /// The patterns.
        patterns: Vec<String>,
    },
    /// There is nothing to push.
    #[error("`{}` holds no file to push", folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
    },
    /// Uploading needs a token.
    #[error("pushing to `{repo}` needs a token")]
    NoToken {
        /// The repository.
        repo: String,
    },
    /// The repository is public, and a private one was asked for.
    #[error("`{repo}` is there already, and it is public")]
    Public {
        /// The repository.
        repo: String,
    },
    /// More than the hub takes in one upload.
    #[error("`{name}` has {bytes} bytes; one upload takes at most {limit}")]
    TooLarge {
        /// The file.
        name: String,
        /// Its size.
        bytes: u64,
        /// The most.
        limit: u64,
    },
    /// The hub does not take a file.
    #[error("the hub does not take `{name}`: {problem}")]
    Upload {
        /// The file.
        name: String,
        /// What the hub says.
        problem: String,
    },
    /// Somebody else committed meanwhile.
    #[error("`{repo}` was changed by somebody else meanwhile")]
    Moved {
        /// The repository.
        repo: String,
    },
    /// A stop was asked for; what is there is kept.
    #[error("stopped")]
    Stopped,
}

fn counted(tries: u32) -> String {
    match tries {
        1 => "1 try".to_owned(),
        tries => format!("{tries} tries"),
    }
}

fn more(names: &[String]) -> String {
    match names.len() {
        0 | 1 => String::new(),
        2 => format!(" and `{}`", names[1]),
        count => format!(", `{}` and {} more", names[1], count - 2),
    }
}

/// Says which file an error of the system is about, and tells a full disk from others.
pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> HubError {
    let path = path.to_owned();
    |source| match source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            HubError::DiskFull { path }
        }
        _ => HubError::Io { path, source },
    }
}
