//! What a repository is called, and where the hub keeps it.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::HubError;

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A checkpoint.
    Model,
    /// A data set.
    Dataset,
}

impl Kind {
    /// The word for it, in the hub's API too.
    pub fn word(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
        }
    }
}

/// A repository of the hub: `owner/name`, or `name` alone for the oldest ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo {
    /// What it holds.
    pub kind: Kind,
    name: String,
}

/// A branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision(String);

/// All that a part of a path may not hold as it is.
const PART: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

impl Repo {
    /// Reads `owner/name`, with `@revision` behind it if one is wanted.
    ///
    /// # Errors
    /// [`HubError::Repo`] or [`HubError::Revision`].
    pub fn parse(text: &str, kind: Kind) -> Result<(Self, Option<Revision>), HubError> {
        let (name, revision) = match text.split_once('@') {
            Some((name, revision)) => (name, Some(Revision::parse(revision)?)),
            None => (text, None),
        };
        let refused = |problem| HubError::Repo {
            text: text.to_owned(),
            problem,
        };
        if name.contains("://") {
            return Err(refused("write owner/name instead of an address"));
        }
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 2 {
            return Err(refused("write owner/name"));
        }
        for part in parts {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            let edge = |byte: Option<&u8>| byte.is_some_and(|byte| b"-.".contains(byte));
            let bytes = part.as_bytes();
            if part.is_empty() || part.len() > 96 || !part.bytes().all(known) {
                return Err(refused(
                    "owner and name have 1 to 96 letters, digits, `-`, `_` or `.`",
                ));
            }
            if edge(bytes.first()) || edge(bytes.last()) || part.contains("..") {
                return Err(refused(
                    "`.` and `-` do not stand at an end, nor two `.` together",
                ));
            }
        }
        let name = name.to_owned();
        Ok((Self { kind, name }, revision))
    }

    /// `owner/name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The owner, unless it is one of the oldest repositories.
    pub fn owner(&self) -> Option<&str> {
        self.name.split_once('/').map(|(owner, _)| owner)
    }

    /// The name without the owner.
    pub fn short(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    /// Its path in the API: `models/owner/name`.
    pub(super) fn api(&self) -> String {
        format!("{}s/{}", self.kind.word(), self.name)
    }

    /// Its path among the pages, where its files are too.
    pub(super) fn page(&self) -> String {
        match self.kind {
            Kind::Model => self.name.clone(),
            Kind::Dataset => format!("datasets/{}", self.name),
        }
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind.word(), self.name)
    }
}

impl Revision {
    /// What the hub calls the newest state.
    pub fn main() -> Self {
        Self("main".to_owned())
    }

    /// Reads a branch, a tag or a commit.
    ///
    /// # Errors
    /// [`HubError::Revision`] for what git would not accept.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"\\~^:?*[".contains(c);
        let sound = !text.is_empty()
            && text.len() <= 255
            && text.chars().all(plain)
            && !text.contains("..")
            && !text.starts_with(['/', '-'])
            && !text.ends_with('/');
        match sound {
            true => Ok(Self(text.to_owned())),
            false => Err(HubError::Revision {
                text: text.to_owned(),
            }),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As one part of a path.
    pub(super) fn encoded(&self) -> String {
        utf8_percent_encode(&self.0, PART).to_string()
    }
}

/// A file's name as a path in a URL; slashes stay.
pub(super) fn encoded_path(name: &str) -> String {
    let parts: Vec<String> = name
        .split('/')
        .map(|part| utf8_percent_encode(part, PART).to_string())
        .collect();
    parts.join("/")
}
