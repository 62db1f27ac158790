//! Where servers are and how they are asked. None of it changes what a path says.

use std::time::Duration;

use super::RemoteError;

/// Where servers are, and how they are asked.
#[derive(Clone)]
pub struct RemoteSettings {
    /// Base URLs such as `http://10.0.0.1:8000`; they serve the same model.
    pub servers: Vec<String>,
    /// The key that servers ask for. It is sent to them and shown nowhere.
    pub key: Option<Key>,
    /// Name of the model, as servers list it; none = the only one they list.
    pub model: Option<String>,
    /// The longest path, in tokens; servers that hold less are refused. None = what the smallest
    /// server holds.
    pub positions: Option<usize>,
    /// Requests in flight at each server, at least 1; others queue.
    pub in_flight: usize,
    /// Tries of one request, at least 1. Times when no server is there do not count.
    pub tries: u32,
    /// The wait before a second try, doubled before each further one up to [`Self::longest_wait`];
    /// half of it is by lot.
    pub first_wait: Duration,
    /// The longest wait between two tries that a server does not ask for itself.
    pub longest_wait: Duration,
    /// How long a connection may take to be there.
    pub connect: Duration,
    /// How long one answer may take. Without streaming its first byte comes when all is sampled.
    pub answer: Duration,
    /// How long all servers may be gone before the engine gives up.
    pub patience: Duration,
    /// Whether a stop was asked for: what has not been sent yet comes back as cancelled from then
    /// on, and what is under way is waited for.
    pub stop: fn() -> bool,
}

/// A secret. It is not shown by anything that prints settings.
#[derive(Clone)]
pub struct Key(String);

impl Key {
    /// Wraps a key.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// A text without the key, as it is or as JSON writes it.
    pub(super) fn hidden_in(&self, text: &str) -> String {
        if self.0.is_empty() {
            return text.to_owned();
        }
        let quoted = serde_json::Value::from(self.0.as_str()).to_string();
        let text = text.replace(&self.0, "[the key]");
        text.replace(&quoted[1..quoted.len() - 1], "[the key]")
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(hidden)")
    }
}

impl RemoteSettings {
    /// The usual settings for these servers.
    pub fn of(servers: Vec<String>) -> Self {
        Self {
            servers,
            key: None,
            model: None,
            positions: None,
            in_flight: 256,
            tries: 8,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(1800),
            patience: Duration::from_secs(600),
            stop: || false,
        }
    }

    /// Checks what can be checked before a server is asked.
    pub(super) fn check(&self) -> Result<Vec<String>, RemoteError> {
        let counts = [
            (
                "in_flight",
                self.in_flight,
                self.in_flight <= MOST_IN_FLIGHT,
            ),
            ("tries", self.tries as usize, true),
        ];
        for (name, value, fits) in counts {
            if value == 0 || !fits {
                return Err(RemoteError::Setting { name, value });
            }
        }
        if self.servers.is_empty() {
            return Err(RemoteError::NoServer);
        }
        let urls: Vec<String> = self
            .servers
            .iter()
            .map(|url| base(url))
            .collect::<Result<_, _>>()?;
        let twice = |(at, url): &(usize, &String)| urls[..*at].contains(url);
        match urls.iter().enumerate().find(twice) {
            Some((_, url)) => Err(RemoteError::Url {
                url: url.clone(),
                problem: "it is named twice",
            }),
            None => Ok(urls),
        }
    }
}

/// A thread waits for each request in flight.
pub(super) const MOST_IN_FLIGHT: usize = 8192;

/// A base URL without a trailing `/` or `/v1`.
fn base(url: &str) -> Result<String, RemoteError> {
    let refused = |problem| {
        Err(RemoteError::Url {
            // What stands before an @ may be a password.
            url: url.rsplit('@').next().unwrap_or_default().to_owned(),
            problem,
        })
    };
    let Some((scheme, rest)) = url.split_once("://") else {
        return refused("it begins with http:// or https://");
    };
    let authority = rest.split('/').next().unwrap_or_default();
    if !["http", "https"].contains(&scheme) || authority.is_empty() {
        return refused("it begins with http:// or https:// and a host");
    }
    if authority.contains('@') {
        return refused("it names a user: a key is taken from the environment");
    }
    if rest.contains(['?', '#', ' ']) {
        return refused("it is a host, and nothing more than a path behind it");
    }
    let url = url.trim_end_matches('/');
    Ok(url.strip_suffix("/v1").unwrap_or(url).to_owned())
}
