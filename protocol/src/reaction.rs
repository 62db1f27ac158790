//! What readers do with what they hear, by rule: the paper's figure 9 without a judge model.
//!
//! The paper lets a large model label each reading; this is a rule that anyone can check. It looks
//! at claims: the answer that a summary names, or the last number in it. A claim is a rough thing,
//! so shares of different runs may be compared with each other, and less with the paper's.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::grade::{AnswerKind, extract};
use crate::prompt::{SUMMARY_CLOSE, SUMMARY_OPEN};
use crate::trace::{PathTrace, SpanKind, Trace};

/// What a reader did with what it heard.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// A peer claimed something else, and the reader's next claim is one that it heard.
    Influenced,
    /// A peer claimed something else, and the reader did not take it up.
    Unaffected,
    /// Every claim it heard is its own.
    Consistent,
    /// No peer it heard claimed anything.
    Unclear,
}

impl Reaction {
    /// Every reaction.
    pub const ALL: [Self; 4] = [
        Self::Influenced,
        Self::Unaffected,
        Self::Consistent,
        Self::Unclear,
    ];

    /// The name used in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Influenced => "influenced",
            Self::Unaffected => "unaffected",
            Self::Consistent => "consistent",
            Self::Unclear => "unclear",
        }
    }
}

/// The reactions of one trace: for each block, how many readers reacted in which way. Readers that
/// heard nobody are not counted.
pub fn reactions(trace: &Trace) -> BTreeMap<u32, BTreeMap<Reaction, u64>> {
    let kind = trace.setup.question.kind;
    let mut counts: BTreeMap<u32, BTreeMap<Reaction, u64>> = BTreeMap::new();
    for block in &trace.blocks {
        for route in block.routes.iter().filter(|route| !route.peers.is_empty()) {
            let reader = &trace.paths[route.reader as usize];
            let own = claim_in(reader, block.index, kind);
            let peers = route.peers.iter().filter_map(|&peer| {
                // A peer that has left is heard with its last summary.
                let path = &trace.paths[peer as usize];
                let block = last_summary(path, block.index)?;
                claim_in(path, block, kind)
            });
            let heard: Vec<String> = peers.collect();
            let next = next_claim(reader, block.index, trace.think_open, kind);
            let reaction = react(own.as_deref(), &heard, next.as_deref());
            let counts = counts.entry(block.index).or_default();
            *counts.entry(reaction).or_default() += 1;
        }
    }
    counts
}

/// What a path claimed in its summary of each block in which it wrote one, by block: the answer
/// that the summary names, or the last number in it; `None` if it claims nothing.
pub fn claims(path: &PathTrace, kind: AnswerKind) -> Vec<(u32, Option<String>)> {
    let spans = path.spans.iter();
    let summaries = spans.filter(|span| span.kind == SpanKind::Summary);
    let mut blocks: Vec<u32> = summaries.filter_map(|span| span.block).collect();
    blocks.dedup();
    let claims = blocks.into_iter();
    claims
        .map(|block| (block, claim_in(path, block, kind)))
        .collect()
}

fn react(own: Option<&str>, heard: &[String], next: Option<&str>) -> Reaction {
    let other = |claim: &&String| Some(claim.as_str()) != own;
    match heard.iter().find(other) {
        _ if heard.is_empty() => Reaction::Unclear,
        None => Reaction::Consistent,
        Some(_) => {
            let taken = heard.iter().filter(other);
            match taken
                .map(|claim| Some(claim.as_str()))
                .any(|claim| claim == next)
            {
                true => Reaction::Influenced,
                false => Reaction::Unaffected,
            }
        }
    }
}

/// The last block up to `block` in which the path wrote a summary.
fn last_summary(path: &PathTrace, block: u32) -> Option<u32> {
    let summaries = path
        .spans
        .iter()
        .filter(|span| span.kind == SpanKind::Summary);
    let blocks = summaries.filter_map(|span| span.block);
    blocks.filter(|&written| written <= block).max()
}

fn claim_in(path: &PathTrace, block: u32, kind: AnswerKind) -> Option<String> {
    claim(&path.summary(block)?, kind)
}

/// What the reader claims next: in its next summary, or else in its answer.
fn next_claim(path: &PathTrace, block: u32, think_open: bool, kind: AnswerKind) -> Option<String> {
    let summaries = path
        .spans
        .iter()
        .filter(|span| span.kind == SpanKind::Summary);
    let next = summaries
        .filter_map(|span| span.block)
        .filter(|&later| later > block)
        .min();
    match next {
        Some(later) => claim_in(path, later, kind),
        None => claim(&path.answer_text(think_open)?, kind),
    }
}

/// The answer that a text names, or else the last number in it.
fn claim(text: &str, kind: AnswerKind) -> Option<String> {
    let own = text.split_once(SUMMARY_OPEN).map_or(text, |(_, own)| own);
    let own = own.trim().trim_end_matches(SUMMARY_CLOSE);
    let number = || match kind {
        // A number names no option.
        AnswerKind::Choice => None,
        AnswerKind::Integer | AnswerKind::Math => last_number(own),
    };
    extract(own, kind).0.or_else(number)
}

fn last_number(text: &str) -> Option<String> {
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    let words = text.split(|c: char| !digits(c));
    let mut numbers = words.map(|word| word.trim_matches('.'));
    let last = numbers.rfind(|word| !word.is_empty())?;
    let plain = last.trim_start_matches('0');
    Some(match plain {
        "" => "0".to_string(),
        _ if plain.starts_with('.') => format!("0{plain}"),
        _ => plain.to_string(),
    })
}
