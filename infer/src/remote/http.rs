//! One question to one server, and what came back: bytes or a classified failure.

use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use ureq::http::{Request, Response};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

use super::failure::{Class, Failure, MOST_HEARD};
use super::{RemoteError, RemoteSettings};

/// The longest answer that is read: ids and texts of a completion have a few megabytes at most.
const MOST_BYTES: u64 = 256 << 20;
/// A completion is a few kilobytes at a time; buffers stay small where there are many of them.
const BUFFER: usize = 16 << 10;

/// A connection of its own, kept open between questions.
pub(super) struct Caller {
    agent: Agent,
    authorization: Option<String>,
    answer: Vec<u8>,
}

/// What a server answered.
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
    retry_after: Option<Duration>,
}

impl Caller {
    /// # Errors
    /// If the file that `SSL_CERT_FILE` names holds no authorities.
    pub(super) fn new(settings: &RemoteSettings) -> Result<Self, RemoteError> {
        Self::with_time(settings, settings.answer)
    }

    /// A caller that waits so long for an answer.
    pub(super) fn with_time(
        settings: &RemoteSettings,
        answer: Duration,
    ) -> Result<Self, RemoteError> {
        let roots = model::hub::authorities().map_err(|error| RemoteError::Authorities {
            problem: error.to_string(),
        })?;
        // A proxy of the network is none for this machine.
        let here = settings.servers.iter().all(|url| is_loopback(url));
        let proxy = (!here).then(ureq::Proxy::try_from_env).flatten();
        // No limit over all phases: it would cover the look-up of the host's name, for which a
        // thread is started at each question.
        let config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .http_status_as_error(false)
            .proxy(proxy)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("leap-t/", env!("CARGO_PKG_VERSION")))
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .max_idle_connections_per_host(1)
            .max_idle_age(Duration::from_secs(60))
            .timeout_connect(Some(settings.connect))
            .timeout_send_request(Some(answer))
            .timeout_send_body(Some(answer))
            .timeout_recv_response(Some(answer))
            .timeout_recv_body(Some(answer))
            .build();
        Ok(Self {
            agent: config.into(),
            authorization: settings.key.as_ref().map(super::settings::Key::header),
            answer: Vec::new(),
        })
    }

    /// Fetches `url`.
    pub(super) fn get(&mut self, url: &str) -> Result<Answer<'_>, Failure> {
        let request = self.begin("GET", url)?.body(()).map_err(unsound)?;
        let response = self.agent.run(request);
        self.finish(response)
    }

    /// Sends JSON to `url`.
    pub(super) fn post(&mut self, url: &str, body: &[u8]) -> Result<Answer<'_>, Failure> {
        let request = self.begin("POST", url)?;
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(unsound)?;
        let response = self.agent.run(request);
        self.finish(response)
    }

    fn begin(&self, method: &str, url: &str) -> Result<ureq::http::request::Builder, Failure> {
        let mut request = Request::builder().method(method).uri(url);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        Ok(request)
    }

    fn finish(
        &mut self,
        response: Result<Response<Body>, ureq::Error>,
    ) -> Result<Answer<'_>, Failure> {
        let response = response.map_err(failure)?;
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| seconds(value.to_str().ok()?));
        self.answer.clear();
        response
            .into_body()
            .into_with_config()
            .limit(MOST_BYTES)
            .reader()
            .read_to_end(&mut self.answer)
            .map_err(|error| failure(error.into()))?;
        Ok(Answer {
            status,
            body: &self.answer,
            retry_after,
        })
    }
}

impl Answer<'_> {
    /// The body of a good answer.
    pub(super) fn good(&self) -> Result<&[u8], Failure> {
        let class = match self.status {
            200..=299 => return Ok(self.body),
            429 => Class::Busy,
            503 if self.retry_after.is_some() => Class::Busy,
            408 | 425 | 500..=599 => Class::ServerError,
            // These speak of what was sent; others of the key, the model or what stands between.
            400 | 413 | 422 => Class::Refused,
            _ => Class::Denied,
        };
        let heard = &self.body[..self.body.len().min(MOST_HEARD)];
        let heard = String::from_utf8_lossy(heard);
        let mut text = format!("status {}", self.status);
        if !heard.trim().is_empty() {
            text += &format!(", `{}`", heard.trim());
        }
        Err(Failure {
            retry_after: self.retry_after,
            ..Failure::new(class, text)
        })
    }
}

/// `Retry-After` in seconds. The form with a date, which needs both clocks to agree, counts as none:
/// then the wait is ours.
fn seconds(text: &str) -> Option<Duration> {
    const LONGEST: f64 = 300.0;
    let seconds: f64 = text.trim().parse().ok()?;
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(LONGEST)))
}

fn is_loopback(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

fn unsound(error: ureq::http::Error) -> Failure {
    // Addresses were checked when settings were read; a key can still hold what no header may.
    Failure::new(Class::Refused, format!("no request can be made: {error}"))
}

fn failure(error: ureq::Error) -> Failure {
    let class = match &error {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed => Class::Unreachable,
        ureq::Error::Timeout(_) => Class::TimedOut,
        ureq::Error::Io(error) => of_io(error),
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => Class::Unreachable,
        ureq::Error::BodyExceedsLimit(_) => Class::Unreadable,
        _ => Class::BrokenOff,
    };
    Failure::new(class, error.to_string())
}

fn of_io(error: &io::Error) -> Class {
    // What a reader of a body tells is wrapped.
    if let Some(ureq::Error::Timeout(_)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return Class::TimedOut;
    }
    match error.kind() {
        ErrorKind::ConnectionRefused
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::AddrNotAvailable => Class::Unreachable,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Class::TimedOut,
        _ => Class::BrokenOff,
    }
}
