//! Keys: to their server alone, also where it repeats them.

use std::process::Stdio;
use std::sync::Mutex;

use serde_json::json;

use super::{good_reply, holding};
use crate::bench::{Bench, Ran};
use crate::fuzz::network::{Server, ok};
use crate::row::tell;

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
    let (count, good) = (std::sync::Arc::clone(&heard), good_reply());
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

#[test]
fn keys_are_told_to_nobody() {
    let bench = Bench::new();
    bench.byte_tokenizer();
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
