//! A server of completions in this process that answers at once, always the same.
//!
//! Only the first answer of a connection takes a while: so a client that wants many requests in
//! flight opens as many connections before anything is measured.
//!
//! It reads requests as a server has to, head and body, and computes nothing. It says that it is
//! vLLM, and knows only what the bench asks of it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use protocol::Vocab;
use serde_json::json;

/// A server; its threads end with the process.
pub(super) struct Stub {
    address: SocketAddr,
}

/// Whole answers, by the number of ids in them; the models under 0.
type Answers = BTreeMap<usize, Vec<u8>>;

/// A thread that answers needs no more.
const STACK: usize = 64 << 10;
/// How long the first answer of a connection takes.
const FIRST: Duration = Duration::from_millis(500);

impl Stub {
    /// Serves on a port of loopback; answers have up to `most` ids.
    pub(super) fn start(vocab: &dyn Vocab, most: usize) -> io::Result<Self> {
        let models = json!({"data": [{
            "id": "stub", "owned_by": "vllm", "max_model_len": 1 << 20,
        }]});
        let mut answers = Answers::from([(0, answer(&models.to_string()))]);
        // What a client asks to know a server has fewer ids than that.
        for count in (1..=most.min(16)).chain([most]) {
            let ids: Vec<u32> = (0..count as u32).map(|id| 120_000 + 37 * id).collect();
            let text = vocab.text(&ids);
            let completion = json!({
                "id": "cmpl-0", "object": "text_completion", "model": "stub",
                "choices": [{
                    "index": 0, "text": text, "finish_reason": "length", "stop_reason": null,
                    "token_ids": ids,
                }],
            });
            answers.insert(count, answer(&completion.to_string()));
        }
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let answers = Arc::new(answers);
        thread::Builder::new().stack_size(STACK).spawn(move || {
            for stream in listener.incoming().flatten() {
                let answers = Arc::clone(&answers);
                let serve = move || {
                    // A client that hangs up has its reasons.
                    let _ = serve(stream, &answers);
                };
                if thread::Builder::new()
                    .stack_size(STACK)
                    .spawn(serve)
                    .is_err()
                {
                    return;
                }
            }
        })?;
        Ok(Self { address })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn answer(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn serve(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 << 10];
    let mut filled = 0;
    for request in 0_u64.. {
        let head = loop {
            if let Some(end) = find(&buffer[..filled], b"\r\n\r\n") {
                break end + 4;
            }
            match read(&mut stream, &mut buffer, &mut filled)? {
                0 => return Ok(()),
                _ => continue,
            }
        };
        let length = number_behind(&buffer[..head], b"content-length: ").unwrap_or(0);
        while filled < head + length {
            if read(&mut stream, &mut buffer, &mut filled)? == 0 {
                return Ok(());
            }
        }
        let body = &buffer[head..head + length];
        // It stands behind the prompt, near the end.
        let end = &body[body.len().saturating_sub(600)..];
        let asked = number_behind(end, b"\"max_tokens\":").unwrap_or(0);
        let known = answers.range(..=asked).next_back();
        let (_, answer) = known.ok_or_else(|| io::Error::other("an answer that is unknown"))?;
        if request == 0 {
            thread::sleep(FIRST);
        }
        stream.write_all(answer)?;
        buffer.copy_within(head + length..filled, 0);
        filled -= head + length;
    }
    Ok(())
}

fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>, filled: &mut usize) -> io::Result<usize> {
    if *filled == buffer.len() {
        buffer.resize(2 * buffer.len(), 0);
    }
    let count = stream.read(&mut buffer[*filled..])?;
    *filled += count;
    Ok(count)
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len())
        .position(|window| window == needle)
}

fn number_behind(text: &[u8], name: &[u8]) -> Option<usize> {
    let from = find(text, name)? + name.len();
    let digits = text[from..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| 10 * number + usize::from(digit - b'0')))
}
