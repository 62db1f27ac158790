//! Influenced, unaffected, consistent: by rule.

use protocol::reaction::{Reaction, reactions};
use protocol::{Method, PathKey, Settings};

use crate::driver::{drive, group, settings};

/// Two paths sum up with these words; path 0 answers `then`. What did path 0 do?
#[track_caller]
fn check(own: &str, peer: &str, then: &str, expected: Reaction) {
    let (own, peer, then) = (own.to_string(), peer.to_string(), then.to_string());
    let write = move |key: PathKey, n: usize| match (key.path, n) {
        (_, 0) => "t".repeat(99),
        (0, 1) => format!(" {own} </summarize>"),
        (_, 1) => format!(" {peer} </summarize>"),
        (_, 2) => "</think>".to_string(),
        _ => then.clone(),
    };
    let settings = Settings {
        summary_tokens: 80,
        max_tokens: 300,
        answer_tokens: 40,
        ..settings(Method::Leap, 2)
    };
    let trace = drive(group(settings, 3000), &write);
    let counts = reactions(&trace);
    let first = &counts[&0];
    assert_eq!(first.values().sum::<u64>(), 2);
    assert!(first.contains_key(&expected), "{first:?}");
    // Path 1 hears the same difference from the other side.
    let other = first.keys().filter(|reaction| **reaction != expected);
    assert!(other.count() <= 1);
}

#[test]
fn a_reaction_is_a_matter_of_claims() {
    check("it is 12", "I get 15", "\\boxed{15}", Reaction::Influenced);
    check("it is 12", "I get 15", "\\boxed{12}", Reaction::Unaffected);
    check("it is 12", "I get 12", "\\boxed{12}", Reaction::Consistent);
    check("it is 12", "no idea yet", "\\boxed{12}", Reaction::Unclear);
    check(
        "no idea yet",
        "I get 15",
        "\\boxed{15}",
        Reaction::Influenced,
    );
    check(
        "it is 012",
        "the answer is \\boxed{12}",
        "12",
        Reaction::Consistent,
    );
}

#[test]
fn every_block_is_counted_on_its_own_and_lonely_readers_are_not() {
    let write = |key: PathKey, n: usize| match (key.path, n) {
        (1, 2) => "</think>".to_string(),
        (_, 1 | 3 | 5) => format!(" {} </summarize>", key.path),
        (1, _) if n > 2 => "\\boxed{1}".to_string(),
        _ => "t".repeat(99),
    };
    let settings = Settings {
        max_tokens: 400,
        ..settings(Method::Leap, 2)
    };
    let trace = drive(group(settings, 4000), &write);
    assert!(trace.blocks.len() > 1);
    let counts = reactions(&trace);
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [0]);
}
