//! Requests of one connection, one after the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::thread::sleep;

use serde_json::{Value, json};

use super::speech::{self, Said};
use super::{Act, Kind, Quirk, State};

pub(super) fn serve(stream: &TcpStream, state: &State) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader) {
        if state.dead.load(Ordering::SeqCst) || answer(stream, state, &asked).is_none() {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

struct Asked {
    method: String,
    path: String,
    authorization: Option<String>,
    body: Vec<u8>,
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Asked> {
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut words = first.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.trim().parse().expect("a length"),
            "authorization" => authorization = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        path,
        authorization,
        body,
    })
}

/// None if the connection is to end.
fn answer(stream: &TcpStream, state: &State, asked: &Asked) -> Option<()> {
    let key = state.key.lock().expect("the key").clone();
    let allowed = key.is_none_or(|key| asked.authorization == Some(format!("Bearer {key}")));
    if !allowed {
        return write(stream, 401, "", &json!({"error": "no key"}).to_string());
    }
    let model = state.model.lock().expect("the model").clone();
    match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/health") => write(stream, 200, "", "{}"),
        ("GET", "/v1/models") => {
            let owner = match state.kind {
                Kind::Vllm => "vllm",
                Kind::Sglang => "sglang",
                Kind::LlamaCpp => "llamacpp",
                Kind::Plain => "somebody",
            };
            let mut one = json!({"id": model, "object": "model", "owned_by": owner});
            if matches!(state.kind, Kind::Vllm | Kind::Sglang) {
                one["max_model_len"] = json!(speech::POSITIONS);
            }
            write(stream, 200, "", &json!({"data": [one]}).to_string())
        }
        ("GET", "/props") if state.kind == Kind::LlamaCpp => {
            let props = json!({"default_generation_settings": {"n_ctx": speech::POSITIONS}});
            write(stream, 200, "", &props.to_string())
        }
        ("POST", "/v1/completions") if state.kind != Kind::LlamaCpp => {
            complete(stream, state, &asked.body)
        }
        ("POST", "/completion") if state.kind == Kind::LlamaCpp => {
            complete(stream, state, &asked.body)
        }
        _ => write(stream, 404, "", "{}"),
    }
}

fn complete(stream: &TcpStream, state: &State, body: &[u8]) -> Option<()> {
    state.completions.fetch_add(1, Ordering::SeqCst);
    let busy = state.busy.fetch_add(1, Ordering::SeqCst) + 1;
    state.most_busy.fetch_max(busy, Ordering::SeqCst);
    let done = complete_now(stream, state, body);
    state.busy.fetch_sub(1, Ordering::SeqCst);
    done
}

fn complete_now(stream: &TcpStream, state: &State, body: &[u8]) -> Option<()> {
    let mut body: Value = serde_json::from_slice(body).expect("JSON");
    if state.keeps_bodies.load(Ordering::SeqCst) {
        state.bodies.lock().expect("bodies").push(body.clone());
    }
    let act = state.acts.lock().expect("acts").pop_front();
    // Read first: the lock is not held while it sleeps.
    let delay = *state.delay.lock().expect("the delay");
    sleep(delay);
    match act {
        Some(Act::Busy(after)) => {
            let header = match after {
                "" => String::new(),
                after => format!("retry-after: {after}\r\n"),
            };
            return write(stream, 429, &header, "{\"error\": \"busy\"}");
        }
        Some(Act::Status(status)) => {
            return write(stream, status, "", "{\"error\": \"trouble\"}");
        }
        Some(Act::Slow(time)) => sleep(time),
        Some(Act::Reset) => return None,
        _ => {}
    }
    let quirk = *state.quirk.lock().expect("the quirk");
    match quirk {
        Some(Quirk::Denies(status)) => return write(stream, status, "", "{\"error\": \"no\"}"),
        Some(Quirk::Caps(most)) => {
            let asked = body["max_tokens"].as_u64().expect("a budget");
            body["max_tokens"] = json!(asked.min(most as u64));
        }
        Some(Quirk::Greedy) => body["temperature"] = json!(0.0),
        _ => {}
    }
    let ids: Vec<u32> = match &body["prompt"] {
        Value::Array(_) if state.kind == Kind::Plain => {
            return write(stream, 400, "", "{\"error\": \"prompt must be a string\"}");
        }
        Value::Array(ids) => ids
            .iter()
            .map(|id| id.as_u64().expect("an id") as u32)
            .collect(),
        Value::String(text) => text.bytes().map(u32::from).collect(),
        _ => return write(stream, 400, "", "{\"error\": \"no prompt\"}"),
    };
    if state.kind == Kind::Plain && !body["top_k"].is_null() {
        return write(stream, 400, "", "{\"error\": \"unknown field top_k\"}");
    }
    let mut said = speech::say(&ids, &body);
    if quirk == Some(Quirk::HidesStops)
        && let Some(stop) = said.stop.take()
    {
        said.ids.truncate(said.ids.len() - stop.len());
        said.eos = true;
    }
    let texts = (said.text(), said.cut_text());
    if act == Some(Act::WrongIds) {
        said.ids.iter_mut().for_each(|id| *id = *id % 26 + 65);
    }
    let choices = match act {
        Some(Act::Choices(choices)) => choices,
        _ => 1,
    };
    let mut text = tell(state.kind, &said, texts, ids.len(), choices).to_string();
    match act {
        Some(Act::Half) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
            let _ = (&mut &*stream).write_all(head.as_bytes());
            let _ = (&mut &*stream).write_all(&text.as_bytes()[..text.len() / 2]);
            None
        }
        Some(Act::Torn) => {
            let half = text.len() / 2;
            text.truncate(text.floor_char_boundary(half));
            write(stream, 200, "", &text)
        }
        _ => write(stream, 200, "", &text),
    }
}

fn tell(
    kind: Kind,
    said: &Said,
    (whole, cut): (String, String),
    prompt: usize,
    choices: usize,
) -> Value {
    if kind == Kind::LlamaCpp {
        let (stop_type, word) = match (&said.stop, said.eos) {
            (Some(stop), _) => ("word", stop.as_str()),
            (None, true) => ("eos", ""),
            (None, false) => ("limit", ""),
        };
        return json!({
            "content": cut, "tokens": said.ids, "stop_type": stop_type, "stopping_word": word,
            "tokens_evaluated": prompt,
        });
    }
    let ended = said.eos || said.stop.is_some();
    let mut choice = json!({
        "index": 0,
        "text": if kind == Kind::Plain { &cut } else { &whole },
        "finish_reason": if ended { "stop" } else { "length" },
    });
    match kind {
        Kind::Vllm => {
            choice["stop_reason"] = json!(said.stop);
            choice["token_ids"] = json!(said.ids);
            choice["prompt_token_ids"] = json!(vec![7; prompt]);
        }
        Kind::Sglang => {
            choice["matched_stop"] = match (&said.stop, said.eos) {
                (None, true) => json!(speech::EOS),
                (stop, _) => json!(stop),
            };
            choice["token_ids"] = json!(said.ids);
        }
        _ => {}
    }
    json!({
        "id": "cmpl-1", "object": "text_completion", "model": "babbler",
        "choices": vec![choice; choices],
        "usage": {"prompt_tokens": prompt, "completion_tokens": said.ids.len()},
    })
}

fn write(mut stream: &TcpStream, status: u16, headers: &str, body: &str) -> Option<()> {
    let answer = format!(
        "HTTP/1.1 {status} Status\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).ok()
}
