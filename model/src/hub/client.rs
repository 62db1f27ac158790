//! Asks a hub: bounded retries, redirects that do not carry the token away, refusals as errors.

use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::{Response, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::request::{Request, shown};
use super::roots;
use super::{Event, HubError, Repo, Token, Watch, tell, wait};

/// How often a request is sent at most.
pub(super) const TRIES: u32 = 4;
/// How long is waited before the second try; doubled before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest a hub may ask to be left alone: its quotas are counted in windows of five minutes.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
const REDIRECTS: usize = 5;
/// A page of a listing has some hundred kilobytes.
const JSON_LIMIT: u64 = 64 << 20;

/// A hub, and who asks it.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<Token>,
}

/// A hub's answer, and the hash that it gave before it sent the question elsewhere.
pub(super) struct Answer {
    pub(super) response: Response<Body>,
    pub(super) url: String,
    pub(super) linked_etag: Option<String>,
    /// What it must not be made to repeat.
    token: Option<Token>,
}

impl Client {
    /// A hub at `endpoint`, such as `https://huggingface.co`. The authorities that vouch for it are
    /// those of a PEM file, else those that browsers know.
    ///
    /// # Errors
    /// A file without authorities, an address that is none, or a token that would be readable on its way: over plain HTTP it
    /// goes to this machine only.
    pub fn new(
        endpoint: &str,
        token: Option<Token>,
        roots: Option<&Path>,
    ) -> Result<Self, HubError> {
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        let refused = |problem| HubError::Endpoint {
            endpoint: shown(&endpoint),
            problem,
        };
        let (scheme, rest) = endpoint
            .split_once("://")
            .ok_or_else(|| refused("it begins with https://"))?;
        let authority = rest.split('/').next().unwrap_or_default();
        if !["http", "https"].contains(&scheme) || authority.is_empty() {
            return Err(refused("it begins with https:// and a host"));
        }
        if authority.contains('@') || rest.contains(['?', '#', ' ']) {
            return Err(refused(
                "it is a host, and nothing more than a path behind it",
            ));
        }
        if scheme == "http" && token.is_some() && !is_this_machine(authority) {
            return Err(HubError::PlainToken { endpoint });
        }
        let roots = match roots {
            Some(path) => roots::of_file(path)?,
            None => RootCerts::WebPki,
        };
        let config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("leap-t/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_per_read(Some(Duration::from_secs(120)))
            .timeout_per_write(Some(Duration::from_secs(120)))
            .build();
        Ok(Self {
            agent: config.into(),
            endpoint,
            token,
        })
    }

    /// The hub of `HF_ENDPOINT` (else huggingface.co), with the token of `HF_TOKEN`, or of the file
    /// in `HF_HOME` (else `~/.cache/huggingface`) that logging in writes. `SSL_CERT_FILE` names
    /// authorities, and the usual variables a proxy.
    ///
    /// # Errors
    /// Those of [`Client::new`] and [`Token::from_environment`], and [`HubError::Offline`] if
    /// `HF_HUB_OFFLINE` is set.
    pub fn from_environment() -> Result<Self, HubError> {
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        if text("HF_HUB_OFFLINE")
            .is_some_and(|flag| ["1", "true", "yes", "on"].contains(&flag.to_lowercase().as_str()))
        {
            return Err(HubError::Offline);
        }
        let endpoint = text("HF_ENDPOINT");
        let endpoint = endpoint.as_deref().unwrap_or("https://huggingface.co");
        let roots = text("SSL_CERT_FILE");
        let roots = roots.as_deref().map(Path::new);
        Self::new(endpoint, Token::from_environment()?, roots)
    }

    /// The hub's address.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether the hub will know who asks.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether the hub answers at all within `patience`: the HTTP status of its answer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn reach(&self, patience: Duration) -> Result<u16, String> {
        let asked = self.agent.get(self.url("api/models?limit=1"));
        let asked = asked.config().timeout_global(Some(patience)).build();
        match asked.call() {
            Ok(response) => Ok(response.status().as_u16()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What somebody else says, as it may be shown.
    pub(super) fn said(&self, text: &str) -> String {
        said(self.token.as_ref(), text)
    }

    /// A path of the hub as a URL.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint)
    }

    /// Asks until there is an answer that is no passing failure, at most [`TRIES`] times.
    pub(super) fn ask(
        &self,
        request: &Request<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Answer, HubError> {
        let mut tries = 1;
        loop {
            let url = shown(&request.url);
            let (error, asked) = match self.once(request, watch)? {
                Ok(answer) => match answer.busy(tries) {
                    None => return Ok(answer),
                    Some(busy) => busy,
                },
                Err(problem) => {
                    let problem = problem.to_string();
                    (
                        HubError::Unreachable {
                            url,
                            problem,
                            tries,
                        },
                        None,
                    )
                }
            };
            let time = asked.unwrap_or_else(|| pause(tries));
            if tries == TRIES || time > LONGEST_WAIT {
                return Err(error);
            }
            again(watch, &shown(&request.url), &error, time)?;
            tries += 1;
        }
    }

    /// Asks once, following redirects. The inner error is the network's.
    pub(super) fn once(
        &self,
        request: &Request<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Result<Answer, ureq::Error>, HubError> {
        let mut url = request.url.clone();
        let mut linked_etag = None;
        for _ in 0..=REDIRECTS {
            tell(watch, Event::Waiting)?;
            let token = self.token.as_ref().map(Token::header);
            let token = token.filter(|_| origin(&url) == origin(&self.endpoint));
            let response = match request.send(&self.agent, &url, token.as_deref(), watch)? {
                Ok(response) => response,
                Err(error) => return Ok(Err(error)),
            };
            linked_etag = linked_etag.or_else(|| text(&response, "x-linked-etag"));
            let location = response
                .status()
                .is_redirection()
                .then(|| text(&response, header::LOCATION.as_str()))
                .flatten();
            match location {
                None => {
                    return Ok(Ok(Answer {
                        response,
                        url: shown(&url),
                        linked_etag,
                        token: self.token.clone(),
                    }));
                }
                Some(location) => url = next(&url, &location, self.token.as_ref())?,
            }
        }
        Err(HubError::Answer {
            url: shown(&request.url),
            problem: "it redirects in circles".to_owned(),
        })
    }
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        text(&self.response, name)
    }

    /// What the hub says, as it may be shown.
    fn said(&self, text: &str) -> String {
        said(self.token.as_ref(), text)
    }

    /// The error of a hub that may answer later, and how long it asks to wait.
    fn busy(&self, tries: u32) -> Option<(HubError, Option<Duration>)> {
        let status = self.status();
        if !matches!(status, 408 | 429 | 500 | 502 | 503 | 504) {
            return None;
        }
        let message = self
            .header("x-error-message")
            .map_or_else(|| "it is busy".to_owned(), |text| self.said(&text));
        let seconds = self
            .header("retry-after")
            .and_then(|text| text.trim().parse().ok());
        // `"api";r=0;t=55`: nothing remains, and the window ends in 55 seconds.
        let window = self.header("ratelimit").and_then(|text| {
            let t = text
                .split(';')
                .find_map(|part| part.trim().strip_prefix("t="))?;
            t.parse().ok()
        });
        let seconds: Option<u64> = seconds.or(window.filter(|_| status == 429));
        let url = self.url.clone();
        Some((
            HubError::Busy {
                url,
                status,
                message,
                tries,
            },
            seconds.map(Duration::from_secs),
        ))
    }

    /// The answer, if the hub did what it was asked; else what it says about `repo`.
    pub(super) fn done(mut self, client: &Client, repo: &Repo) -> Result<Self, HubError> {
        if self.response.status().is_success() {
            return Ok(self);
        }
        let status = self.status();
        let code = self.header("x-error-code").unwrap_or_default();
        let message = match self.header("x-error-message") {
            Some(text) => self.said(&text),
            None => self.complaint(),
        };
        let name = repo.name().to_owned();
        Err(match (status, code.as_str()) {
            (401 | 403, "GatedRepo") => HubError::Gated {
                page: client.url(&repo.page()),
                repo: name,
                message,
            },
            (404, "RepoNotFound" | "") => HubError::NoRepo {
                endpoint: client.endpoint.clone(),
                kind: repo.kind.word(),
                repo: name,
            },
            (401, _) => HubError::Unauthorized {
                repo: name,
                token: client.has_token(),
            },
            (403, _) => HubError::Forbidden {
                repo: name,
                message,
            },
            _ => HubError::Refused {
                url: self.url,
                status,
                message,
            },
        })
    }

    /// What a refusal's body says, shortened.
    fn complaint(&mut self) -> String {
        let body = self
            .response
            .body_mut()
            .with_config()
            .limit(1 << 16)
            .read_to_vec();
        let body = body.unwrap_or_default();
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        match value["error"].as_str().or(value["message"].as_str()) {
            Some(text) => self.said(text),
            None => "it gives no reason".to_owned(),
        }
    }

    /// The answer's body as JSON.
    pub(super) fn json<T: DeserializeOwned>(mut self) -> Result<T, HubError> {
        let (url, token) = (self.url.clone(), self.token.clone());
        let wrong = |problem: String| HubError::Answer {
            url: url.clone(),
            problem: said(token.as_ref(), &problem),
        };
        let body = self
            .response
            .body_mut()
            .with_config()
            .limit(JSON_LIMIT)
            .read_to_vec();
        let body = body.map_err(|error| wrong(error.to_string()))?;
        serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))
    }
}

/// How long is waited after so many failures.
pub(super) fn pause(failures: u32) -> Duration {
    FIRST_WAIT * 2_u32.pow(failures.saturating_sub(1))
}

/// Says that something is tried again, and waits.
pub(super) fn again(
    watch: &mut Watch<'_>,
    what: &str,
    error: &HubError,
    after: Duration,
) -> Result<(), HubError> {
    let problem = error.to_string();
    let problem = problem.as_str();
    tell(
        watch,
        Event::Again {
            what,
            problem,
            after,
        },
    )?;
    wait(watch, after)
}

/// What a server says, as it may be shown: without the token.
fn said(token: Option<&Token>, text: &str) -> String {
    match token {
        Some(token) => plain(&token.hidden_in(text)),
        None => plain(text),
    }
}

/// What a server says, without what could steer a terminal, and not too long.
fn plain(text: &str) -> String {
    let text = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    text.take(300).collect::<String>().trim().to_owned()
}

fn text(response: &Response<Body>, name: &str) -> Option<String> {
    let value = response.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}

/// Scheme, host and port.
fn origin(url: &str) -> String {
    let mut parts = url.splitn(4, ['/', '?', '#']);
    let (scheme, _, authority) = (parts.next(), parts.next(), parts.next());
    format!(
        "{}//{}",
        scheme.unwrap_or_default(),
        authority.unwrap_or_default()
    )
    .to_lowercase()
}

/// Where a redirect leads. From a connection that is safe it does not lead to one that is not.
fn next(url: &str, location: &str, token: Option<&Token>) -> Result<String, HubError> {
    let to = match location {
        path if path.starts_with('/') && !path.starts_with("//") => {
            format!("{}{path}", origin(url))
        }
        absolute => absolute.to_owned(),
    };
    let safe = to.starts_with("https://");
    let as_safe = to.starts_with("http://") && url.starts_with("http://");
    match safe || as_safe {
        true => Ok(to),
        false => Err(HubError::Answer {
            url: shown(url),
            problem: format!("it redirects to `{}`", said(token, &shown(location))),
        }),
    }
}

/// Whether a host of an address is this machine.
fn is_this_machine(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    };
    let host = host.unwrap_or_default();
    let address: Result<std::net::IpAddr, _> = host.parse();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
