//! Hostile text of models, problems and recipes: as text in every page, and harmless on terminals.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use protocol::{ByteVocab, Sample, SampleSpan, SpanKind, Vocab};
use serde_json::{Value, json};

use crate::bench::Bench;
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
    bench.byte_tokenizer();
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
