//! What strangers write stays text: in pages, on terminals; and what is secret is told to nobody.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use protocol::{ByteVocab, Sample, SampleSpan, SpanKind, Vocab};
use serde_json::{Value, json};

use crate::bench::{Bench, Ran};
use crate::checkpoints::made;
use crate::fuzz::network::{Server, ok};
use crate::row::tell;

/// What a model says to break out of a page or to steer a terminal. Every script would set the
/// attribute `data-fire` (scripts/browser-check.sh looks for it).
const HOSTILE: [&str; 12] = [
    "<script>document.documentElement.dataset.fire=1</script>",
    "\"><img src=x onerror=\"document.documentElement.dataset.fire=2\">",
    "'><svg/onload='document.documentElement.dataset.fire=3'>",
    "</style><script>document.documentElement.dataset.fire=4</script>",
    "</pre></title></textarea><iframe srcdoc=\"<script>parent.document.documentElement.dataset.fire=5</script>\">",
    "<a href=\"javascript:document.documentElement.dataset.fire=6\">click</a>",
    "]]><!--<script>document.documentElement.dataset.fire=7</script>-->",
    "&lt;script&gt;document.documentElement.dataset.fire=8&lt;/script&gt;",
    "{{ 7 * 7 }}{% for x in y %}${7*7}",
    "\u{1b}]52;c;aGk=\u{7}\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\\u{1b}[2J\u{9b}31m\r",
    "\u{202e}desrever\u{2066}\u{2069}\u{202c}",
    "\u{0}\u{8}\u{7f}",
];

/// What no page may hold, and what it holds instead.
const MARKUP: [(&str, &str); 6] = [
    ("<script>document", "&lt;script&gt;document"),
    ("<img src=x", "&lt;img src=x"),
    ("<svg/onload", "&lt;svg"),
    ("</style><script", "&lt;script"),
    ("<iframe", "&lt;iframe"),
    ("<a href=\"javascript", "&lt;a href="),
];

/// The start tags of a page, and what is wrong with it as a page.
///
/// A small reader of HTML as browsers read it: comments, quoted attributes, and elements whose content
/// is text up to their end tag.
fn tags(page: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, behind)| behind);
            continue;
        }
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            continue;
        }
        let end = rest
            .find(|c: char| c.is_whitespace() || c == '>' || c == '/')
            .unwrap_or(rest.len());
        let name = rest[..end].to_ascii_lowercase();
        rest = &rest[end..];
        let mut attributes = Vec::new();
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
            if rest.is_empty() || rest.starts_with('>') {
                rest = rest.get(1..).unwrap_or_default();
                break;
            }
            let end = rest
                .find(|c: char| c.is_whitespace() || "=>/".contains(c))
                .unwrap_or(rest.len());
            let key = rest[..end.max(1)].to_ascii_lowercase();
            rest = rest[end.max(1)..].trim_start();
            let mut value = String::new();
            if let Some(behind) = rest.strip_prefix('=') {
                let behind = behind.trim_start();
                let quote = behind.chars().next().filter(|c| "\"'".contains(*c));
                let (text, after) = match quote {
                    Some(quote) => behind[1..].split_once(quote).unwrap_or((&behind[1..], "")),
                    None => {
                        let end = behind
                            .find(|c: char| c.is_whitespace() || c == '>')
                            .unwrap_or(behind.len());
                        behind.split_at(end)
                    }
                };
                (value, rest) = (text.to_owned(), after);
            }
            attributes.push((key, value));
        }
        if ["script", "style", "title", "textarea"].contains(&name.as_str()) {
            let end = format!("</{name}");
            let lower = rest.to_ascii_lowercase();
            rest = lower.find(&end).map_or("", |at| &rest[at..]);
        }
        found.push((name, attributes));
    }
    found
}

/// What of a page is not ours, if anything is.
fn faults(page: &str, scripts: usize) -> Vec<String> {
    let mut faults = Vec::new();
    for (raw, _) in MARKUP {
        if page.contains(raw) {
            faults.push(format!("it holds `{raw}`"));
        }
    }
    let tags = tags(page);
    let count = |name: &str| tags.iter().filter(|(tag, _)| tag == name).count();
    if count("script") != scripts {
        faults.push(format!("{} scripts, and not {scripts}", count("script")));
    }
    for name in [
        "iframe", "img", "object", "embed", "link", "base", "form", "a",
    ] {
        if count(name) > 0 {
            faults.push(format!("an element `{name}`"));
        }
    }
    for (tag, attributes) in &tags {
        for (key, value) in attributes {
            let leads_out = ["href", "src", "action", "srcset", "data"].contains(&key.as_str());
            if key.starts_with("on")
                || leads_out
                || value.contains("javascript:") && key != "title" && key != "aria-label"
            {
                faults.push(format!("`{key}={value}` of `{tag}`"));
            }
        }
    }
    faults
}

/// Keeps a page where `LEAP_FIRE_PAGES` says, for a real browser.
fn keep(name: &str, page: &str) {
    if let Some(folder) = std::env::var_os("LEAP_FIRE_PAGES") {
        fs::write(Path::new(&folder).join(name), page).expect("a page");
    }
}

/// A folder `bytes` with a tokenizer whose ids are bytes.
fn byte_tokenizer(bench: &Bench) {
    let seen = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut behind = 255;
    let vocab: serde_json::Map<String, Value> = (0..=255_u8)
        .map(|byte| {
            let letter = match seen(&byte) {
                true => u32::from(byte),
                false => {
                    behind += 1;
                    behind
                }
            };
            (
                char::from_u32(letter).expect("a character").to_string(),
                json!(byte),
            )
        })
        .collect();
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [{"id": 256, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "pre_tokenizer": level, "decoder": level,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    bench.write("bytes/tokenizer.json", &tokenizer.to_string());
    bench.write(
        "bytes/tokenizer_config.json",
        "{\"eos_token\": \"<|end|>\"}",
    );
}

/// A server whose model says hostile things, another one each time, and calls itself so.
fn hostile_server() -> Server {
    let turn = Mutex::new(0);
    Server::start(Box::new(move |head, body| {
        if head.contains(" /v1/models") {
            return ok(
                json!({"data": [{"id": MODEL, "owned_by": "vllm", "max_model_len": 9000}]})
                    .to_string()
                    .as_bytes(),
            );
        }
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let most = asked["max_tokens"].as_u64().unwrap_or(12) as usize;
        let mut turn = turn.lock().expect("one at a time");
        *turn += 1;
        let said = HOSTILE[*turn % HOSTILE.len()];
        let next = HOSTILE[(*turn + 1) % HOSTILE.len()];
        // What it is asked to find out it can do, it says the same to each time.
        let text = match asked["max_tokens"] == json!(12) {
            true => "one two three".to_owned(),
            false => format!(
                "{said}\n{next}\n</summarize></think>{next} The answer is \\boxed{{{said}}}"
            ),
        };
        let end = (0..=most.min(text.len()))
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or_default();
        let text = &text[..end];
        let finish = if end < most { "stop" } else { "length" };
        let mut ids: Vec<u32> = text.bytes().map(u32::from).collect();
        if finish == "stop" {
            ids.push(256);
        }
        ok(
            json!({"choices": [{"text": text, "finish_reason": finish, "token_ids": ids}]})
                .to_string()
                .as_bytes(),
        )
    }))
}

/// What the hostile server's model is called.
const MODEL: &str = "m\"><script>document.documentElement.dataset.fire=9</script>\u{1b}[31m";

/// A recipe of an evaluation behind the hostile server, on hostile problems.
fn hostile_evaluation(bench: &Bench) {
    byte_tokenizer(bench);
    let text = bench.leap(&["recipe", "cat", "search"]).succeeds().stdout;
    let mut recipe: toml::Table = text.parse().expect("TOML");
    recipe.insert("title".into(), HOSTILE[0].into());
    recipe["model"] = toml::toml! {
        engine = "remote"
        checkpoint = "bytes"
        dtype = "f32"
    }
    .into();
    let mut served = toml::Table::new();
    served.insert("model".into(), MODEL.into());
    served.insert("positions".into(), 9000.into());
    recipe["model"]
        .as_table_mut()
        .expect("a table")
        .insert("remote".into(), served.into());
    recipe["problems"] = toml::toml! {
        file = "hostile.jsonl"
        count = 0
    }
    .into();
    let eval = recipe["eval"].as_table_mut().expect("a table");
    eval.insert("groups".into(), 2.into());
    eval.insert("baseline".into(), "none".into());
    let rows = eval["rows"].as_array_mut().expect("rows");
    for row in rows {
        row["title"] = HOSTILE[1].into();
    }
    bench.write("hostile.toml", &toml::to_string(&recipe).expect("TOML"));
    let problem = |(number, text): (usize, &&str)| {
        json!({"id": format!("{number}{text}"), "problem": text, "kind": "math", "answer": "7"})
            .to_string()
    };
    let problems: Vec<String> = HOSTILE.iter().enumerate().map(problem).collect();
    bench.write("hostile.jsonl", &problems.join("\n"));
}

/// Samples whose tokens are bytes of hostile text.
fn hostile_samples(bench: &Bench) {
    let sample = |(number, text): (usize, &&str)| Sample {
        version: Sample::VERSION,
        id: format!("{number}{text}"),
        problem: (*text).to_owned(),
        tokenizer: ByteVocab.hash().to_owned(),
        spans: [SpanKind::Prompt, SpanKind::Thought, SpanKind::Answer]
            .into_iter()
            .map(|kind| SampleSpan {
                kind,
                ids: ByteVocab.encode(text),
            })
            .collect(),
    };
    let lines: Vec<String> = HOSTILE
        .iter()
        .enumerate()
        .map(sample)
        .map(|sample| serde_json::to_string(&sample).expect("JSON"))
        .collect();
    bench.write("samples.jsonl", &lines.join("\n"));
}

fn read(bench: &Bench, name: &str) -> String {
    fs::read_to_string(bench.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Characters that steer a terminal or turn the order of what is read.
fn steering(text: &str) -> usize {
    let steers = |c: &char| {
        matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || (c.is_control() && !"\n\t".contains(*c))
    };
    text.chars().filter(steers).count()
}

#[test]
fn pages_and_terminals_show_hostile_text_as_text() {
    let bench = Bench::new();
    hostile_evaluation(&bench);
    hostile_samples(&bench);
    let server = hostile_server();
    let mut pages = Vec::new();
    let mut said = Vec::new();
    let mut run = |args: &[&str]| {
        let ran = bench.leap(args);
        said.push((args.join(" "), ran.stdout.clone() + &ran.stderr));
        ran
    };
    run(&[
        "eval",
        "hostile.toml",
        "--server",
        &server.url,
        "--out",
        "out",
    ])
    .succeeds();
    pages.push(("eval.html", read(&bench, "out/report.html"), 1));
    let groups = read(&bench, "out/reports/base/groups.jsonl");
    assert!(
        groups.contains("dataset.fire"),
        "the traces hold what the model said"
    );

    let made = made().display();
    let title = format!("title={}", toml::Value::from(HOSTILE[3]));
    let (model, samples) = (
        format!("model.checkpoint={made}/checkpoints/base"),
        format!("samples.file={made}/samples.jsonl"),
    );
    run(&[
        "train",
        "sft-tiny",
        "train.tokens=1500",
        &title,
        &model,
        &samples,
        "--out",
        "trained",
    ])
    .succeeds();
    pages.push(("train.html", read(&bench, "trained/report.html"), 0));

    run(&[
        "data-gen",
        "inspect",
        "samples.jsonl",
        "--first",
        "99",
        "--html",
        "page.html",
    ])
    .succeeds();
    pages.push(("inspect.html", read(&bench, "page.html"), 0));
    run(&["report", "out", "--out", "again.html"]);
    if bench.path("again.html").exists() {
        pages.push(("again.html", read(&bench, "again.html"), 1));
    }

    for full in [false, true] {
        let more: &[&str] = if full { &["--full"] } else { &[] };
        run(&[&["trace", "show", "out/reports/leap/groups.jsonl"], more].concat()).succeeds();
    }
    run(&["trace", "stats", "out/reports/leap/groups.jsonl"]).succeeds();
    run(&["data-gen", "inspect", "samples.jsonl", "--first", "99"]).succeeds();
    run(&[
        "infer",
        "bytes",
        HOSTILE[9],
        "--paths",
        "3",
        "--server",
        &server.url,
        "--max-tokens",
        "300",
        "--turn-tokens",
        "100",
    ]);
    run(&[
        "infer",
        "bytes",
        "x",
        "--paths",
        "2",
        "--json",
        "--server",
        &server.url,
        "--max-tokens",
        "300",
    ]);
    run(&["score", "out/reports/base/groups.jsonl"]);
    run(&["report", "out"]);
    // Errors quote what they are about.
    bench.write(
        "bad.jsonl",
        &format!("{{\"id\":\"{}\"}}", "\\u001b[31m\\u202e"),
    );
    bench.write("bad.toml", "job = \"eval\"\n\"\\u001b[31m\\u202e\" = 1\n");
    run(&["recipe", "check", "bad.toml"]);
    run(&["eval", "search", "problems.file=bad.jsonl", "--out", "bad"]);

    let mut faulty = Vec::new();
    for (name, page, scripts) in &pages {
        keep(name, page);
        faulty.extend(
            faults(page, *scripts)
                .into_iter()
                .map(|fault| format!("{name}: {fault}")),
        );
    }
    // All of it is there, as text.
    for (_, escaped) in MARKUP {
        assert!(
            pages[0].1.contains(escaped),
            "the page of the evaluation has no `{escaped}`"
        );
    }
    assert!(
        pages[0].1.contains("&amp;lt;script&amp;gt;"),
        "what looks escaped is escaped once more"
    );
    assert!(
        said.iter().any(|(_, text)| text.contains("\\u001b]52")),
        "what is cut out is seen"
    );
    let steers: usize = said.iter().map(|(_, text)| steering(text)).sum();
    for (args, text) in said.iter().filter(|(_, text)| steering(text) > 0) {
        let at = text
            .chars()
            .position(|c| steering(&c.to_string()) > 0)
            .unwrap_or_default();
        let around: String = text.chars().skip(at.saturating_sub(60)).take(120).collect();
        faulty.push(format!("leap {args}: {around:?}"));
    }
    tell(
        "security: hostile text",
        &[
            ("pages", &pages.len()),
            ("commands", &said.len()),
            (
                "bytes of pages",
                &pages.iter().map(|page| page.1.len()).sum::<usize>(),
            ),
            ("steering characters printed", &steers),
            ("faults", &faulty.len()),
        ],
    );
    assert!(faulty.is_empty(), "{}", faulty.join("\n"));
}

const CANARY: &str = "canary-Key-0123456789abcdef";

/// The header that carries the key, as a server may repeat it.
fn header(head: &str) -> String {
    let line = head
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("authorization"));
    line.unwrap_or("no header").to_owned()
}

/// A server that repeats the header with the key wherever it can; what it does changes with each
/// request.
fn repeating_server(always: bool) -> (Server, std::sync::Arc<Mutex<usize>>) {
    let heard = std::sync::Arc::new(Mutex::new(0));
    let (count, good) = (std::sync::Arc::clone(&heard), hostile_reply());
    let server = Server::start(Box::new(move |head, body| {
        let header = header(head);
        let mut turn = count.lock().expect("one at a time");
        *turn += usize::from(header.contains(CANARY));
        let quoted =
            json!({"error": {"message": format!("bad {header}"), "header": header}}).to_string();
        let status = |line: &str, body: &str| {
            format!("HTTP/1.1 {line}\r\nx-error-message: {header}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes()
        };
        let is_completion = head.starts_with("POST");
        match *turn % 6 {
            _ if !always && !is_completion => good(head, body),
            0 => status("401 Unauthorized", &quoted),
            1 => status("500 Oh", &format!("{}{header}", " ".repeat(4090))),
            2 => status("400 Bad", &header.repeat(30)),
            3 => ok(json!({"choices": [{"text": "", "finish_reason": header}]})
                .to_string()
                .as_bytes()),
            4 => ok(json!({"data": header, "choices": header})
                .to_string()
                .as_bytes()),
            _ if always => status("429 Busy", &quoted),
            _ => good(head, body),
        }
    }));
    (server, heard)
}

type Reply = Box<dyn Fn(&str, &[u8]) -> Vec<u8> + Send>;

/// What a good server says.
fn hostile_reply() -> Reply {
    Box::new(|head, _| {
        match head.contains(" /v1/models") {
        true => ok(br#"{"data":[{"id":"m","owned_by":"vllm","max_model_len":20000}]}"#),
        false => ok(br#"{"choices":[{"text":"seven","finish_reason":"stop","token_ids":[115,101,118,101,110,256]}]}"#),
    }
    })
}

/// Files below a folder that hold a text, and how many there are.
fn holding(folder: &Path, text: &str) -> (usize, Vec<String>) {
    let (mut files, mut found) = (0, Vec::new());
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            files += 1;
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
            {
                found.push(path.display().to_string());
            }
        }
    }
    (files, found)
}

#[test]
fn keys_are_told_to_nobody() {
    let bench = Bench::new();
    byte_tokenizer(&bench);
    let (mut leaks, mut runs, mut heard) = (Vec::new(), 0, 0);
    let mut look = |what: &str, ran: &Ran| {
        runs += 1;
        let (_, files) = holding(&bench.path("."), CANARY);
        leaks.extend(files.into_iter().map(|file| format!("{what}: in {file}")));
        if (ran.stdout.clone() + &ran.stderr).contains("canary") {
            leaks.push(format!("{what}: {}{}", ran.stdout, ran.stderr));
        }
    };
    let leap = |args: &[&str]| {
        let mut command = bench.command(args);
        command
            .env("LEAP_API_KEY", CANARY)
            .env("RUST_BACKTRACE", "full");
        let output = command.output().expect("leap starts");
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    };
    for always in [true, false] {
        let (server, count) = repeating_server(always);
        let url = server.url.as_str();
        for number in 0..6 {
            let infer = [
                "infer",
                "bytes",
                "x",
                "--paths",
                "2",
                "--server",
                url,
                "--tries",
                "2",
                "--patience",
                "1",
                "--max-tokens",
                "40",
            ];
            look(&format!("infer {number}"), &leap(&infer));
        }
        let traces = [
            "data-gen",
            "traces",
            "teacher-simulated",
            "teacher.engine=remote",
            "teacher.folder=bytes",
            "teacher.remote.model=m",
            "teacher.remote.positions=20000",
            "problems.count=4",
            "protocol.paths=2",
            "protocol.sampling.top_k=0",
            "--server",
            url,
            "--tries",
            "2",
            "--patience",
            "1",
            "--out",
            "traces",
        ];
        look("data-gen traces", &leap(&traces));
        heard += *count.lock().expect("one at a time");
    }
    // A hub that repeats the token.
    let (hub, count) = repeating_server(true);
    for number in 0..6 {
        let args = ["pull", "owner/name", "--to", "pulled"];
        let mut command = bench.hub_command(&hub.url, CANARY, &args);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("leap starts");
        let output = child.wait_with_output().expect("it ends");
        let ran = Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        look(&format!("pull {number}"), &ran);
    }
    heard += *count.lock().expect("one at a time");
    let (files, _) = holding(&bench.path("."), CANARY);
    tell(
        "security: keys",
        &[
            ("commands", &runs),
            ("times the key was sent", &heard),
            ("files searched", &files),
            ("leaks", &leaks.len()),
        ],
    );
    assert!(
        heard > 20,
        "the key was sent {heard} times: servers must have had it to repeat"
    );
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_listens() {
    let bench = Bench::new();
    byte_tokenizer(&bench);
    // A server that takes its time, so that there is time to look.
    let good = Mutex::new(hostile_reply());
    let server = Server::start(Box::new(move |head, body| {
        std::thread::sleep(Duration::from_millis(60));
        good.lock().expect("one at a time")(head, body)
    }));
    let args = [
        "infer",
        "bytes",
        "x",
        "--paths",
        "4",
        "--server",
        &server.url,
        "--max-tokens",
        "200",
    ];
    let mut child = bench.start(&args);
    let (mut looks, mut listening, mut sockets) = (0, BTreeSet::new(), 0);
    let began = Instant::now();
    while child.try_wait().expect("a child").is_none() && began.elapsed() < Duration::from_secs(20)
    {
        let mut own = BTreeSet::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", child.id()))
            .into_iter()
            .flatten()
            .flatten()
        {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            let inode = target
                .to_string_lossy()
                .strip_prefix("socket:[")
                .map(|text| text.trim_end_matches(']').to_owned());
            own.extend(inode);
        }
        sockets += own.len();
        for table in ["tcp", "tcp6", "udp", "udp6"] {
            let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
            for line in text.lines().skip(1) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                // A socket that listens, or one of UDP that is bound and not connected.
                let listens = fields[3] == "0A" || (fields[3] == "07" && table.starts_with("udp"));
                if listens && own.contains(fields[9]) {
                    listening.insert(format!("{table} {}", fields[1]));
                }
            }
        }
        looks += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.wait();
    tell(
        "security: sockets",
        &[
            ("looks", &looks),
            ("sockets seen", &sockets),
            ("that listen", &listening.len()),
        ],
    );
    assert!(sockets > 0, "the command was never seen with a socket");
    assert!(listening.is_empty(), "{listening:?}");
    // In the sources one thing listens: the server that `leap bench remote` measures against.
    let mut places = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in [
        "src",
        "protocol/src",
        "model/src",
        "infer/src",
        "data-gen/src",
        "train/src",
    ] {
        for word in [
            "TcpListener::bind(",
            "UdpSocket::bind(",
            "UnixListener::bind(",
        ] {
            places.extend(holding(&root.join(folder), word).1);
        }
    }
    assert_eq!(places.len(), 1, "{places:?}");
    let text = fs::read_to_string(&places[0]).expect("a source");
    assert!(
        text.contains("TcpListener::bind((\"127.0.0.1\"")
            || text.contains("TcpListener::bind(\"127.0.0.1"),
        "{}",
        places[0]
    );
}

/// Licences under which anything may be built and passed on together with ours.
const LICENCES: [&str; 17] = [
    // Asks for the source of its own files, which are unchanged.
    "MPL-2.0",
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
    "BSL-1.0",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
    "MIT-0",
    "bzip2-1.0.6",
    "NCSA",
    "Apache-2.0 WITH LLVM-exception",
];

/// Whether an expression can be met with licences of the list: of alternatives one, of parts all.
fn is_met(expression: &str) -> bool {
    let text = expression.replace('/', " OR ").replace(['(', ')'], " ");
    // No expression of the tree nests AND in OR otherwise than with brackets that change nothing.
    text.split(" AND ").all(|part| {
        part.split(" OR ").any(|one| {
            LICENCES.contains(
                &one.split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
                    .as_str(),
            )
        })
    })
}

#[test]
fn every_dependency_has_a_licence_that_allows_what_we_do() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let host = Command::new("rustc")
        .arg("-vV")
        .output()
        .expect("rustc runs");
    let host = String::from_utf8_lossy(&host.stdout).into_owned();
    let host = host
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("a host");
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            host,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let mut refused = Vec::new();
    let mut sources = BTreeSet::new();
    for package in packages {
        // One crate has the text of Apache-2.0 and no name for it.
        let licence = match package["name"].as_str() {
            Some("cfg_block") => "Apache-2.0",
            _ => package["license"].as_str().unwrap_or("none"),
        };
        if !is_met(licence) {
            refused.push(format!(
                "{} {}: {licence}",
                package["name"], package["version"]
            ));
        }
        sources.insert(package["source"].as_str().unwrap_or("path").to_owned());
    }
    tell(
        "security: licences",
        &[
            ("packages", &packages.len()),
            ("sources", &sources.len()),
            ("refused", &refused.len()),
        ],
    );
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    let known = |source: &String| source == "path" || source.starts_with("registry+");
    assert!(sources.iter().all(known), "{sources:?}");
}
