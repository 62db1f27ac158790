//! What the authors' functions gave (`leap_parity*.json`), under both sets of rules.
#![expect(clippy::print_stderr, reason = "a test says what it measured")]

use protocol::{
    ByteVocab, Group, Method, PathKey, Router, Rules, Settings, Similarity, SpanKind, Trace,
};
use serde_json::Value;

use crate::driver::{drive, settings, setup};
use crate::fixtures;

fn cases(kind: &str) -> Option<Vec<Value>> {
    let mut cases = Vec::new();
    for (_, text) in fixtures::files("", "leap_parity", ".json")? {
        let golden: Value = serde_json::from_str(&text).expect("a golden file");
        cases.extend(golden[kind].as_array().expect("a list of cases").clone());
    }
    assert!(!cases.is_empty(), "no `{kind}` cases");
    Some(cases)
}

fn pair(case: &Value) -> (&str, &str) {
    let text = |at: usize| case[at].as_str().expect("a text");
    (text(0), text(1))
}

fn closed(rules: Rules, text: &str) -> String {
    let closing = rules.close(text.as_bytes());
    text[..closing.keep].to_string() + &closing.add
}

#[test]
fn summaries_are_closed_as_theirs_and_ours_keep_what_stands_before_the_end() {
    let Some(cases) = cases("normalize") else {
        return;
    };
    for case in &cases {
        let (text, theirs) = pair(case);
        assert_eq!(closed(Rules::AuthorsCode, text), theirs, "{text:?}");
        let ours = closed(Rules::Clean, text);
        let inner = text.strip_suffix("</summarize>").unwrap_or(text);
        if text.contains("</think>") || inner.contains("</summarize>") {
            // Theirs deletes the end of a thought and goes on; ours ends there.
            let before = text.split("</think>").next().unwrap_or_default();
            match before.split_once("</summarize>") {
                Some((summary, _)) => assert_eq!(ours, format!("{summary}</summarize>")),
                None => assert!(ours.starts_with(before) && ours.ends_with("</summarize>")),
            }
            assert!(!ours.contains("</think>"));
        } else {
            assert_eq!(ours, theirs, "{text:?}");
        }
    }
}

fn cut(rules: Rules, text: &str) -> String {
    let kept = &text[..rules.cut(text.as_bytes())];
    match kept.ends_with("\n\n") {
        true => kept.to_string(),
        false => format!("{kept}\n\n"),
    }
}

#[test]
fn paragraphs_are_cut_as_theirs_and_ours_never_lose_everything() {
    let Some(cases) = cases("cut") else { return };
    for case in &cases {
        let (text, theirs) = pair(case);
        assert_eq!(cut(Rules::AuthorsCode, text), theirs, "{text:?}");
        let ours = cut(Rules::Clean, text);
        match text.contains("\n\n") {
            true => assert_eq!(ours, theirs, "{text:?}"),
            false => assert_eq!(ours, format!("{text}\n\n")),
        }
    }
}

#[test]
fn summaries_are_read_as_theirs_and_ours_are_whole() {
    let Some(cases) = cases("extract") else {
        return;
    };
    for case in &cases {
        let (path, theirs) = pair(case);
        assert_eq!(Rules::AuthorsCode.heard(path, ""), theirs, "{path:?}");
        // A block of ours has one opening: the first tag; what follows are the path's words.
        let ours = Rules::Clean.heard(path, path);
        let own = path.split_once("<summarize>").map_or(path, |(_, own)| own);
        let plain = own.strip_suffix("</summarize>").unwrap_or(own);
        assert_eq!(ours, plain.trim(), "{path:?}");
        if !plain.contains("summarize>") {
            assert_eq!(ours, theirs, "{path:?}");
        }
    }
}

/// What stands in a golden text behind the summary: the comment, and the sentence after it.
fn behind_summary(text: &str) -> &str {
    let end = text.rfind(" </summarize>").expect("a summary");
    let behind = &text[end + " </summarize>".len()..];
    assert!(behind.starts_with(" <comment> "), "{text}");
    behind
}

fn routed(case: &Value, rules: Rules, similarity: Similarity) -> Trace {
    let summaries = summaries_of(case);
    let router: Router = serde_json::from_value(case["router"].clone()).expect("a router");
    let settings = Settings {
        peers: case["k"].as_u64().expect("a number") as usize,
        router,
        rules,
        similarity,
        summary_tokens: 100_000,
        max_tokens: 1_000_000,
        ..settings(Method::Leap, summaries.len())
    };
    let mut setup = setup(settings, 10_000_000);
    setup.prompts.triggers.clear();
    setup.prompts.openers = vec!["<summarize>".into()];
    // The sentence behind a comment is the authors': it is taken from the golden file.
    let golden = case["out0"].as_str().expect("a text");
    match behind_summary(golden).split_once(" </comment>\n\n") {
        Some((_, sentence)) if summaries.len() > 1 => setup.prompts.reflection = sentence.into(),
        _ => {
            setup.prompts.no_peers = behind_summary(golden).into();
            setup.prompts.alone = String::new();
        }
    }
    let write = |key: PathKey, n: usize| match n {
        0 => "t".repeat(99),
        1 => format!(" {} </summarize>", summaries[key.path as usize]),
        2 => "</think>".to_string(),
        _ => "2".to_string(),
    };
    let group = Group::new(0, setup, &ByteVocab).expect("it fits");
    drive(group, &write)
}

fn summaries_of(case: &Value) -> Vec<String> {
    let summaries = case["summaries"].as_array().expect("a list");
    let text = |summary: &Value| summary.as_str().expect("a text").to_string();
    summaries.iter().map(text).collect()
}

/// The path from its summary to where it thinks on.
fn block_text(trace: &Trace, path: usize) -> String {
    let block = trace.paths[path]
        .spans
        .iter()
        .filter(|span| span.block == Some(0));
    let text: String = block.map(|span| span.text.as_str()).collect();
    text.trim_start().to_string()
}

#[test]
fn routing_and_comments_are_theirs_to_the_byte() {
    let Some(cases) = cases("route") else { return };
    for case in &cases {
        let trace = routed(case, Rules::AuthorsCode, Similarity::Indel);
        for (path, key) in [(0, "out0"), (trace.paths.len() - 1, "outlast")] {
            let golden = case[key].as_str().expect("a text");
            assert_eq!(block_text(&trace, path), golden, "{case}");
        }
    }
}

/// A plain Levenshtein distance, to check against.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// What the paper's formulas choose for the first path, each peer once.
fn papers_choice(summaries: &[String], router: &str, k: usize) -> Vec<u32> {
    let alike = |peer: usize| {
        let (a, b) = (summaries[0].trim(), summaries[peer].trim());
        let longer = a.chars().count().max(b.chars().count());
        match longer {
            0 => 1.0,
            _ => 1.0 - distance(a, b) as f64 / longer as f64,
        }
    };
    let mut far: Vec<usize> = (1..summaries.len()).collect();
    far.sort_by(|&a, &b| alike(a).total_cmp(&alike(b)));
    let mut near: Vec<usize> = (1..summaries.len()).collect();
    near.sort_by(|&a, &b| alike(b).total_cmp(&alike(a)));
    let chosen: Vec<usize> = match router {
        "dispersed" => far,
        "clustered" => near,
        "hybrid" => {
            far.truncate((k.min(near.len())) / 2);
            near.retain(|peer| !far.contains(peer));
            far.into_iter().chain(near).collect()
        }
        other => panic!("no such router: {other}"),
    };
    chosen.into_iter().take(k).map(|peer| peer as u32).collect()
}

#[test]
fn the_default_chooses_by_the_papers_formulas_and_so_differs_from_their_code() {
    let Some(cases) = cases("route") else { return };
    let (mut same, mut other) = (0, 0);
    for case in &cases {
        let summaries = summaries_of(case);
        let (router, k) = (
            case["router"].as_str().expect("a router"),
            case["k"].as_u64().expect("a number"),
        );
        if summaries.len() < 2 {
            continue;
        }
        let ours = routed(case, Rules::Clean, Similarity::Levenshtein);
        let peers = &ours.blocks[0].routes[0].peers;
        assert_eq!(
            *peers,
            papers_choice(&summaries, router, k as usize),
            "{case}"
        );
        let theirs = routed(case, Rules::AuthorsCode, Similarity::Indel);
        match *peers == theirs.blocks[0].routes[0].peers {
            true => same += 1,
            false => other += 1,
        }
        let comment = ours.paths[0]
            .spans
            .iter()
            .find(|span| span.kind == SpanKind::Comment);
        for &peer in peers {
            let heard = format!("\"{}\"", summaries[peer as usize].trim());
            assert!(comment.expect("it reads").text.contains(&heard), "{case}");
        }
    }
    eprintln!("first path: {same} cases choose as the authors' code, {other} do not");
    assert!(same > 0 && other > 0);
}
