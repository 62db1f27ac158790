//! One request of a connection, and its answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Duration;

use super::{Act, Seen, State, routes};

/// A request.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// Answers one request and closes the connection.
pub(crate) fn serve(stream: TcpStream, state: &Mutex<State>, content: bool) {
    let Some(asked) = read(&stream) else { return };
    let (answer, act) = {
        let mut state = state.lock().expect("the state");
        let act = routes::fault(&mut state, &asked.path);
        let mut answer = match act {
            Some(Act::Status(status, header)) => {
                let (name, value) = header.split_once(": ").unwrap_or(("x-none", ""));
                Answer::new(status, "").with(name, value)
            }
            _ => routes::answer(&mut state, &asked, content, act),
        };
        if act == Some(Act::Change)
            && let Some(last) = answer.body.last_mut()
        {
            *last ^= 1;
        }
        let sent = match act {
            Some(Act::Truncate(bytes)) => bytes.min(answer.body.len()),
            _ => answer.body.len(),
        };
        state.seen.push(Seen {
            content,
            method: asked.method.clone(),
            path: asked.path.clone(),
            token: asked.header("authorization").map(str::to_owned),
            range: asked.header("range").map(str::to_owned),
            status: answer.status,
            bytes: sent,
        });
        (answer, act)
    };
    // A client that hangs up has its reasons.
    let _ = write(stream, &answer, act);
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut words = first.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut asked = Asked {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Vec::new(),
    };
    let length = asked
        .header("content-length")
        .map_or(0, |text| text.parse().expect("a length"));
    assert!(
        asked.header("transfer-encoding").is_none(),
        "a hub wants lengths"
    );
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    asked.body = body;
    Some(asked)
}

fn write(mut stream: TcpStream, answer: &Answer, act: Option<Act>) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Status\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!(
        "content-length: {}\r\nconnection: close\r\n\r\n",
        answer.body.len()
    );
    stream.write_all(head.as_bytes())?;
    match act {
        Some(Act::Truncate(bytes)) => {
            stream.write_all(&answer.body[..bytes.min(answer.body.len())])
        }
        Some(Act::Slow) => {
            for chunk in answer.body.chunks(2_000) {
                stream.write_all(chunk)?;
                stream.flush()?;
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        }
        _ => stream.write_all(&answer.body),
    }
}
