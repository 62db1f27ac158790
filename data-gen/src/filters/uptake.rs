//! The filter `uptake`: does a reader take up what it heard?

use std::collections::BTreeSet;

use protocol::SpanKind;
use serde_json::Value;

use super::comments::Heard;
use super::{Column, Seen};

/// Tokens behind the fixed sentence that are looked at.
const LOOKED_AT: usize = 200;

/// Words by which a reader speaks of others.
const OTHERS: [&str; 10] = [
    "peer", "peers", "they", "their", "them", "others", "other", "everyone", "somebody", "instead",
];
/// Words by which a reader judges what it heard.
const VERDICTS: [&str; 12] = [
    "agree",
    "agrees",
    "agreed",
    "disagree",
    "disagrees",
    "differ",
    "differs",
    "different",
    "confirms",
    "matches",
    "consistent",
    "contradicts",
];

/// The mean over comments: half a point for speaking of the others, half for content, which is a
/// number that the path had not written before it was heard, or a judgement.
pub(super) fn uptake(seen: &Seen<'_>, heard: &Heard) -> Column {
    let mut points = Vec::new();
    for block in &seen.trace.blocks {
        let routes = block
            .routes
            .iter()
            .filter(|route| route.reader == seen.index);
        let peers: Vec<u32> = routes
            .flat_map(|route| route.peers.iter().copied())
            .collect();
        let texts = peers
            .iter()
            .filter_map(|&peer| heard.in_block(peer, block.index));
        let told: BTreeSet<&str> = texts.flat_map(numbers).collect();
        if !peers.is_empty() {
            points.push(points_for(seen, block.index, &told));
        }
    }
    if points.is_empty() {
        return Column::new(Value::Null, true);
    }
    let mean = points.iter().sum::<f64>() / points.len() as f64;
    Column::new(super::rounded(mean), mean >= seen.settings.uptake)
}

fn points_for(seen: &Seen<'_>, block: u32, told: &BTreeSet<&str>) -> f64 {
    let spans = &seen.path.spans;
    let comment =
        |span: &protocol::Span| span.kind == SpanKind::Comment && span.block == Some(block);
    let Some(at) = spans.iter().position(comment) else {
        return 0.0;
    };
    // The fixed sentence speaks of peers itself, and is passed over.
    let next = spans[at..].iter().find(|span| span.kind.is_sampled());
    let after = next.map_or("", |span| beginning(&span.text, span.ids.len()));
    let lower = after.to_lowercase();
    let words: BTreeSet<&str> = lower.split(|c: char| !c.is_alphanumeric()).collect();
    let says = |list: &[&str]| list.iter().any(|word| words.contains(word));
    let judged = says(&VERDICTS);
    let spoken = says(&OTHERS) || judged;
    let mut new: BTreeSet<&str> = numbers(after).filter(|n| told.contains(n)).collect();
    let before = spans[..at]
        .iter()
        .filter(|span| span.kind != SpanKind::Comment);
    for known in before.flat_map(|span| numbers(&span.text)) {
        if new.is_empty() {
            break;
        }
        new.remove(known);
    }
    let content = judged || !new.is_empty();
    0.5 * f64::from(u8::from(spoken)) + 0.5 * f64::from(u8::from(content))
}

/// About the first [`LOOKED_AT`] of a text's `tokens`: tokens are taken to be equally long.
fn beginning(text: &str, tokens: usize) -> &str {
    let mut end = text.len() * LOOKED_AT.min(tokens) / tokens.max(1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    words
        .map(|word| word.trim_matches('.'))
        .filter(|word| !word.is_empty())
}
