//! The secret that says who asks.

use std::fmt;
use std::path::PathBuf;

use super::HubError;

/// A token of the hub. It is sent to the hub's own host and shown nowhere.
#[derive(Clone)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl Token {
    /// Reads a token; blanks at its ends do not count, and nothing at all is no token.
    ///
    /// # Errors
    /// [`HubError::Token`], without the text, if it holds what no header can carry.
    pub fn parse(text: &str, from: &str) -> Result<Option<Self>, HubError> {
        match text.trim() {
            "" => Ok(None),
            token if token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Some(Self(token.to_owned())))
            }
            _ => Err(HubError::Token {
                from: from.to_owned(),
                problem: "it holds blanks or other characters than ASCII".to_owned(),
            }),
        }
    }

    /// The token of `HF_TOKEN`, else that of the file that logging in writes (`HF_TOKEN_PATH`, else
    /// `token` in `HF_HOME`, else in the user's cache). An empty `HF_TOKEN`
    /// means none.
    ///
    /// # Errors
    /// A file that is there and cannot be read, or a token that cannot be one.
    pub fn from_environment() -> Result<Option<Self>, HubError> {
        if let Some(text) = std::env::var_os("HF_TOKEN") {
            return Self::parse(&text.to_string_lossy(), "HF_TOKEN");
        }
        let Some(path) = file() else {
            return Ok(None);
        };
        let from = format!("`{}`", path.display());
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &from),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(HubError::Token {
                from,
                problem: error.to_string(),
            }),
        }
    }

    /// A text without the token: a hub may repeat what it was sent.
    pub(super) fn hidden_in(&self, text: &str) -> String {
        text.replace(&self.0, "[the token]")
    }

    /// The value of the header that carries it.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

/// Where logging in leaves the token.
fn file() -> Option<PathBuf> {
    let folder = |name: &str| {
        std::env::var_os(name)
            .filter(|text| !text.is_empty())
            .map(PathBuf::from)
    };
    if let Some(path) = folder("HF_TOKEN_PATH") {
        return Some(path);
    }
    let home = folder("HF_HOME").or_else(|| {
        folder("XDG_CACHE_HOME")
            .or_else(|| Some(std::env::home_dir()?.join(".cache")))
            .map(|cache| cache.join("huggingface"))
    })?;
    Some(home.join("token"))
}
