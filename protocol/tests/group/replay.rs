//! A recorded group drives again, and a changed record is found.

use protocol::replay::ReplayError;
use protocol::{ByteVocab, Method, PathKey, SpanKind, Trace};

use crate::driver::{drive, group, settings};

fn recorded() -> Trace {
    let write = |key: PathKey, n: usize| match n {
        0 => format!("path {}\n\nthinks for a good while and is cut", key.path),
        1 => format!(" I am {} </summarize>", key.path),
        2 => "done </think>".to_string(),
        _ => "\\boxed{2}".to_string(),
    };
    drive(group(settings(Method::Leap, 3), 2000), &write)
}

#[test]
fn a_record_replays() {
    let trace = recorded();
    let done = trace.replay(&ByteVocab).expect("nothing was changed");
    assert_eq!((done.requests, done.routes), (3 * 4, 3));
}

#[track_caller]
fn check(change: impl Fn(&mut Trace), expected: &str) {
    let mut trace = recorded();
    change(&mut trace);
    let error = trace.replay(&ByteVocab).expect_err("it was changed");
    let message = error.to_string();
    assert!(message.contains(expected), "{message}");
}

fn span(trace: &mut Trace, path: usize, kind: SpanKind) -> &mut protocol::Span {
    let mut spans = trace.paths[path].spans.iter_mut();
    spans.find(|span| span.kind == kind).expect("there is one")
}

#[test]
fn a_changed_record_is_named_where_it_differs() {
    check(|t| span(t, 1, SpanKind::Summary).ids[2] = 65, "differs");
    check(
        |t| span(t, 0, SpanKind::Comment).text.push('!'),
        "span 4 of path 0 differs",
    );
    check(
        |t| span(t, 2, SpanKind::Prompt).ids[0] = 65,
        "span 0 of path 2 differs",
    );
    check(|t| t.blocks[0].routes[1].peers.reverse(), "block 0 differs");
    check(
        |t| t.blocks[0].routes[0].scores[0] += 1e-9,
        "block 0 differs",
    );
    check(
        |t| t.paths[2].requests = "00".into(),
        "hash of the requests of path 2 differs",
    );
    check(|t| t.setup.settings.peers = 1, "differs");
    check(
        |t| t.setup.settings.turn_tokens = 39,
        "40 tokens are recorded",
    );
    check(
        |t| t.setup.settings.sampling.temperature = 0.5,
        "requests of path 0 differs",
    );
    check(
        |t| t.setup.stream = t.setup.stream.indexed(1),
        "requests of path 0 differs",
    );
    check(|t| t.counted = vec![0], "`counted` differs");
    check(|t| t.version = 9, "version 9");
    check(|t| t.counted[0] = 7, "names path 7");
    check(|t| drop(t.paths.pop()), "names path 2");
    check(
        |t| drop(t.paths[1].spans.pop()),
        "no completion of it is recorded",
    );
    check(|t| t.origin.tokenizer = "other".into(), "tokenizer other");
}

#[test]
fn a_group_that_cannot_be_made_says_why() {
    let mut trace = recorded();
    trace.setup.positions = 3;
    let error = trace.replay(&ByteVocab).expect_err("it does not fit");
    assert!(matches!(error, ReplayError::Setup(_)));
}
