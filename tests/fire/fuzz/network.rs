//! Answers of servers and hubs, over loopback: what a client reads that somebody else wrote.
//!
//! What a client holds is held by threads of its own, so all threads are counted together.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use infer::engine::Engine;
use infer::remote::{Key, RemoteEngine, RemoteSettings};
use model::hub::{self, Client, Kind, PullSettings, Repo, Revision};
use protocol::{ByteVocab, Finish, PathKey, Request, Sampling, Stop, Stream};

use super::{Corpus, Place, Target, fuzz, meter};

/// What is answered to a request, by its head and its body.
pub(crate) type Say = dyn Fn(&str, &[u8]) -> Vec<u8> + Send;

/// A server that says what it is told to.
pub(crate) struct Server {
    pub(crate) url: String,
    say: Arc<Mutex<Box<Say>>>,
}

impl Server {
    pub(crate) fn start(say: Box<Say>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let say = Arc::new(Mutex::new(say));
        let shared = Arc::clone(&say);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let say = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &say));
            }
        });
        Self { url, say }
    }

    fn says(&self, say: Box<Say>) {
        *self.say.lock().unwrap_or_else(PoisonError::into_inner) = say;
    }
}

/// Answers on a connection until it ends, or an answer was no HTTP.
fn serve(stream: TcpStream, say: &Mutex<Box<Say>>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let (mut head, mut length) = (String::new(), 0);
        reader.read_line(&mut head).ok().filter(|read| *read > 0)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().ok()?;
            }
            head += &line;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let answer = say.lock().unwrap_or_else(PoisonError::into_inner)(&head, &body);
        stream.write_all(&answer).ok()?;
        if !answer.starts_with(GOOD) {
            return None;
        }
    }
}

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";

pub(crate) fn ok(body: &[u8]) -> Vec<u8> {
    let mut answer = GOOD.to_vec();
    answer.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    answer.extend_from_slice(body);
    answer
}

/// A body that is damaged, or now and then the whole answer.
fn told(input: &[u8], turn: usize) -> Vec<u8> {
    match turn % 8 {
        0 => input.to_vec(),
        1 => {
            let mut answer = b"HTTP/1.1 500 Oh\r\nretry-after: ".to_vec();
            answer.extend_from_slice(&input[..input.len().min(20)]);
            answer.extend_from_slice(b"\r\nconnection: close\r\n\r\n");
            answer.extend_from_slice(input);
            answer
        }
        _ => ok(input),
    }
}

const VLLM: &str = r#"{"choices":[{"text":"abcdefghijkl","finish_reason":"length","stop_reason":null,"token_ids":[97,98,99,100,101,102,103,104,105,106,107,108]}],"usage":{"prompt_tokens":34}}"#;
const LLAMA: &str = r#"{"content":"abcdefghijkl","tokens":[97,98,99,100,101,102,103,104,105,106,107,108],"stop_type":"limit","stopping_word":"","tokens_evaluated":34}"#;
const MODELS: &str =
    r#"{"object":"list","data":[{"id":"m","owned_by":"OWNER","max_model_len":400}]}"#;
const PROPS: &str = r#"{"default_generation_settings":{"n_ctx":400},"total_slots":1}"#;

const WORDS: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 302 F\r\n",
    "location: /\r\n",
    "content-length: 99999999999999999999\r\n",
    "content-length: -1\r\n",
    "transfer-encoding: chunked\r\n\r\n",
    "FFFFFFFFFFFFFFFF\r\n",
    "0\r\n\r\n",
    "content-encoding: gzip\r\n",
    "\r\n\r\n",
    "retry-after: 1e308\r\n",
    "\"choices\"",
    "\"text\"",
    "\"token_ids\"",
    "\"finish_reason\"",
    "\"stop\"",
    "\"length\"",
    "\"stop_reason\"",
    "\"usage\"",
    "\"content\"",
    "\"tokens\"",
    "\"stop_type\"",
    "\"eos\"",
    "\"word\"",
    "\"limit\"",
    "\"data\"",
    "\"owned_by\"",
    "4294967295",
    "256",
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
];

/// What a good server says; `owner` decides which one it is.
fn good(owner: &'static str) -> Box<Say> {
    Box::new(move |line, _| {
        ok(match line.split(' ').nth(1).unwrap_or_default() {
            "/v1/models" => MODELS.replace("OWNER", owner).into_bytes(),
            "/props" => PROPS.as_bytes().to_vec(),
            "/completion" => LLAMA.as_bytes().to_vec(),
            _ => VLLM.as_bytes().to_vec(),
        }
        .as_slice())
    })
}

fn settings(url: &str) -> RemoteSettings {
    RemoteSettings {
        tries: 1,
        first_wait: Duration::ZERO,
        longest_wait: Duration::ZERO,
        connect: Duration::from_secs(5),
        answer: Duration::from_millis(300),
        patience: Duration::from_secs(2),
        positions: Some(400),
        key: Some(Key::new("canary-key-0123456789")),
        ..RemoteSettings::of(vec![url.to_owned()])
    }
}

/// What came of a request; or why the server is taken for lost, as one that denies everything is.
fn ask(engine: &mut RemoteEngine<'_>, path: u32) -> Result<Finish, String> {
    let key = PathKey { group: 0, path };
    engine.submit(Request {
        key,
        keep: 0,
        append: b"Say.".iter().map(|byte| u32::from(*byte)).collect(),
        sampling: Sampling::GREEDY,
        stop: Stop {
            strings: vec!["</think>".into()],
            eos: vec![ByteVocab::EOS],
        },
        max_tokens: 12,
        logprobs: false,
        stream: Stream::of_run(1),
    });
    let completion = match engine.wait() {
        Ok(completion) => completion.expect("one request is in flight"),
        Err(error) => return Err(error.to_string()),
    };
    assert!(
        completion.ids.len() <= 12,
        "{} ids for 12",
        completion.ids.len()
    );
    assert!(
        completion.ids.iter().all(|id| *id <= ByteVocab::EOS),
        "{:?}",
        completion.ids
    );
    engine.close(key);
    Ok(completion.finish)
}

struct Asked {
    server: Server,
    engine: RemoteEngine<'static>,
    owner: &'static str,
    turn: usize,
}

fn completions(name: &'static str, owner: &'static str, valid: &str) {
    let stops = [
        valid.replace("length", "stop").replace("limit", "word"),
        valid.to_owned(),
    ];
    let target = Target {
        name,
        corpus: Corpus::json(stops.to_vec(), WORDS),
        inputs: [50_000, 1_000_000],
        base: 64 << 20,
        factor: 1000,
        elsewhere: true,
    };
    let start = || {
        let server = Server::start(good(owner));
        let engine =
            RemoteEngine::open(settings(&server.url), &ByteVocab).expect("it is a good server");
        Asked {
            server,
            engine,
            owner,
            turn: 1,
        }
    };
    fuzz(&target, start, |asked, input| {
        asked.turn += 1;
        let answer = told(input, asked.turn);
        let path = asked.turn as u32 * 2;
        asked.server.says(Box::new(move |_, _| answer.clone()));
        let finish = ask(&mut asked.engine, path);
        let lost = finish.is_err();
        // A good answer between, so that the server is not taken for gone.
        asked.server.says(good(asked.owner));
        let taken = match finish {
            Ok(Finish::Failed(reason)) | Err(reason) => {
                assert!(reason.len() < 2000, "{} bytes of reason", reason.len());
                let steers = |c: char| c.is_control() && c != '\n';
                assert!(!reason.chars().any(steers), "{reason:?}");
                false
            }
            Ok(_) => true,
        };
        if lost {
            asked.engine = RemoteEngine::open(settings(&asked.server.url), &ByteVocab)
                .expect("it is good again");
        }
        let after = ask(&mut asked.engine, path + 1);
        assert!(
            matches!(after, Ok(ref finish) if !matches!(finish, Finish::Failed(_))),
            "{after:?}"
        );
        taken
    });
    assert_eq!(meter::stray(), 0, "threads of the client panicked");
}

#[test]
fn completions_of_servers() {
    completions("/v1/completions", "vllm", VLLM);
}

#[test]
fn completions_of_llama_cpp() {
    completions("/completion", "llamacpp", LLAMA);
}

#[test]
fn servers_that_are_asked_what_they_can_do() {
    let valid = [
        MODELS.replace("OWNER", "llamacpp"),
        MODELS.replace("OWNER", "sglang"),
        PROPS.to_owned(),
    ];
    let target = Target {
        name: "/v1/models, /props",
        corpus: Corpus::json(valid.to_vec(), WORDS),
        inputs: [2_000, 100_000],
        base: 64 << 20,
        factor: 1000,
        elsewhere: true,
    };
    let start = || (Server::start(good("llamacpp")), 0);
    fuzz(&target, start, |(server, turn), input| {
        *turn += 1;
        let (answer, which) = (told(input, *turn), *turn % 3);
        let rest = good("llamacpp");
        server.says(Box::new(move |line, body| {
            let path = ["/v1/models", "/props", "/completion"][which];
            match line.contains(path) {
                true => answer.clone(),
                false => rest(line, body),
            }
        }));
        match RemoteEngine::open(settings(&server.url), &ByteVocab) {
            Ok(engine) => engine.positions() == 400,
            Err(error) => {
                let text = error.to_string();
                assert!(text.len() < 3000 && !text.contains("canary"), "{text}");
                false
            }
        }
    });
    assert_eq!(meter::stray(), 0, "threads of the client panicked");
}

#[test]
fn listings_of_hubs() {
    let entry = |path: &str, more: &str| {
        format!(
            r#"{{"type":"file","path":"{path}","oid":"{}","size":3{more}}}"#,
            "0".repeat(40)
        )
    };
    let lfs = format!(
        r#","lfs":{{"oid":"{}","size":12,"pointerSize":1}}"#,
        "a".repeat(64)
    );
    let valid = vec![
        format!(
            "[{},{}]",
            entry("config.json", ""),
            entry("model.safetensors", &lfs)
        ),
        format!(
            "[{},{{\"type\":\"directory\",\"path\":\"a\",\"oid\":\"\",\"size\":0}}]",
            entry("a/model.safetensors", &lfs)
        ),
        format!("[{}]", entry("..", "")),
    ];
    let target = Target {
        name: "hub listing",
        corpus: Corpus::json(
            valid,
            &[
                "..",
                "/",
                "../",
                "\\\\",
                "C:",
                "\\u0000",
                "a/b",
                ".pull",
                "PULL.JSON",
                "\"type\"",
                "\"lfs\"",
                "model.safetensors",
                "\"sha256\"",
            ],
        ),
        inputs: [100_000, 1_000_000],
        base: 64 << 20,
        factor: 1000,
        elsewhere: true,
    };
    let (repo, _) = Repo::parse("owner/name", Kind::Model).expect("a repository");
    let start = || {
        let server = Server::start(good("hub"));
        let client = Client::new(&server.url, None, None).expect("an address");
        (server, client, Place::new(), 0)
    };
    fuzz(&target, start, |(server, client, place, turn), input| {
        *turn += 1;
        let (listing, turn) = (input.to_vec(), *turn);
        server.says(Box::new(move |line, _| match line.contains("/revision/") {
            true => ok(format!("{{\"sha\":\"{}\"}}", "c".repeat(40)).as_bytes()),
            // Busy hubs are waited for, which is tested elsewhere.
            false if turn % 8 == 0 => {
                let mut answer = b"HTTP/1.1 404 No\r\nx-error-message: ".to_vec();
                answer.extend(
                    listing
                        .iter()
                        .filter(|byte| byte.is_ascii_graphic())
                        .take(500),
                );
                answer.extend_from_slice(b"\r\ncontent-length: 0\r\n\r\n");
                answer
            }
            false => ok(&listing),
        }));
        let settings = PullSettings {
            repo: repo.clone(),
            revision: Revision::main(),
            folder: place.path("model"),
            include: if turn % 2 == 0 {
                vec!["*".into()]
            } else {
                Vec::new()
            },
        };
        let Ok(plan) = hub::plan(client, &settings, &mut |_| ControlFlow::Continue(())) else {
            return false;
        };
        for file in &plan.fetch {
            let name = &file.name;
            assert!(!name.starts_with('/') && !name.contains('\\'), "{name}");
            assert!(
                name.split('/').all(|part| !matches!(part, "" | "." | "..")),
                "{name}"
            );
            assert!(!name.chars().any(char::is_control), "{name:?}");
        }
        true
    });
}
