//! One question to a hub, which can be asked again.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ureq::SendBody;
use ureq::http::Method;

use super::error::io;
use super::{Event, HubError, Watch};

/// What is asked. Made once, sent as often as needed.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) payload: Payload<'a>,
}

/// What is sent along.
pub(super) enum Payload<'a> {
    Nothing,
    Bytes(Vec<u8>),
    File {
        path: &'a Path,
        name: &'a str,
        bytes: u64,
    },
}

impl<'a> Request<'a> {
    pub(super) fn get(url: String) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: Vec::new(),
            payload: Payload::Nothing,
        }
    }

    /// A question with a body of its own kind.
    pub(super) fn post(url: String, kind: &str, body: Vec<u8>) -> Self {
        Self {
            method: Method::POST,
            url,
            headers: vec![("content-type".to_owned(), kind.to_owned())],
            payload: Payload::Bytes(body),
        }
    }

    /// Sends a file.
    pub(super) fn put(url: String, name: &'a str, path: &'a Path, bytes: u64) -> Self {
        Self {
            method: Method::PUT,
            url,
            headers: Vec::new(),
            payload: Payload::File { path, name, bytes },
        }
    }

    pub(super) fn with(mut self, header: &str, value: impl Into<String>) -> Self {
        self.headers.push((header.to_owned(), value.into()));
        self
    }

    /// Sends it once to `url`, with `token` as the value of the header that carries it.
    pub(super) fn send(
        &self,
        agent: &ureq::Agent,
        url: &str,
        token: Option<&str>,
        watch: &mut Watch<'_>,
    ) -> Result<Result<ureq::http::Response<ureq::Body>, ureq::Error>, HubError> {
        let mut builder = ureq::http::Request::builder()
            .method(self.method.clone())
            .uri(url);
        for (name, value) in &self.headers {
            builder = builder.header(name.as_str(), value.as_str());
        }
        let own = self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        if let Some(token) = token.filter(|_| !own) {
            builder = builder.header("authorization", token);
        }
        let unsound = |error: ureq::http::Error| HubError::Answer {
            url: shown(url),
            problem: error.to_string(),
        };
        match &self.payload {
            Payload::Nothing => {
                let request = builder.body(SendBody::none()).map_err(unsound)?;
                Ok(agent.run(request))
            }
            Payload::Bytes(bytes) => {
                Ok(agent.run(builder.body(bytes.as_slice()).map_err(unsound)?))
            }
            Payload::File { path, name, bytes } => {
                let file = File::open(path).map_err(io(path))?;
                let mut reader = Counted {
                    // A file that grows meanwhile must not run into the next request.
                    file: file.take(*bytes),
                    done: 0,
                    name,
                    of: *bytes,
                    watch,
                    stopped: false,
                };
                let request = builder
                    .header("content-length", *bytes)
                    .body(SendBody::from_reader(&mut reader))
                    .map_err(unsound)?;
                let answer = agent.run(request);
                match reader.stopped {
                    true => Err(HubError::Stopped),
                    false => Ok(answer),
                }
            }
        }
    }
}

/// A file on its way out.
struct Counted<'a, 'w> {
    file: std::io::Take<File>,
    done: u64,
    name: &'a str,
    of: u64,
    watch: &'a mut Watch<'w>,
    stopped: bool,
}

impl Read for Counted<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.done += count as u64;
        let event = Event::Bytes {
            name: self.name,
            done: self.done,
            of: self.of,
        };
        if (self.watch)(event).is_break() {
            self.stopped = true;
            return Err(std::io::Error::other("stopped"));
        }
        Ok(count)
    }
}

/// A URL without its query, which may hold a signature.
pub(super) fn shown(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}
