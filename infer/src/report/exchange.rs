//! One group word by word: what each path wrote, and whom it heard.

use minijinja::value::Value;
use protocol::{PathEnd, Route, SpanKind, Trace};
use serde::Serialize;

use super::example::Example;
use super::grid::verdict;
use super::lanes;
use super::number::{counted, shortened, whole};
use super::picture::kind_name;
use crate::score::PathScore;

/// Most characters of a span that are shown; the middle of a longer one is left out.
const MOST_TEXT: usize = 4000;
/// What the page shows of an example.
#[derive(Serialize)]
pub(super) struct Shown {
    row: String,
    problem: String,
    group: u32,
    question: String,
    gold: String,
    picture: Value,
    heard: Vec<Heard>,
    paths: Vec<Path>,
    left_out: usize,
}

/// Who heard whom in one block.
#[derive(Serialize)]
struct Heard {
    block: u32,
    readers: Vec<(u32, String)>,
}

#[derive(Serialize)]
struct Path {
    number: usize,
    class: &'static str,
    mark: &'static str,
    verdict: &'static str,
    answer: String,
    end: &'static str,
    tokens: String,
    spans: Vec<Words>,
}

#[derive(Serialize)]
struct Words {
    kind: &'static str,
    note: String,
    text: String,
}

pub(super) fn shown(example: &Example) -> Shown {
    let trace = &example.trace;
    let heard = trace.blocks.iter().map(|block| Heard {
        block: block.index + 1,
        readers: block
            .routes
            .iter()
            .map(|route| (route.reader + 1, heard(route)))
            .collect(),
    });
    Shown {
        row: example.row.clone(),
        problem: trace.problem.clone(),
        group: trace.group + 1,
        question: shortened(&example.question, MOST_TEXT),
        gold: shortened(&example.gold, 40),
        picture: Value::from_safe_string(lanes::picture(example)),
        heard: heard.collect(),
        paths: (0..trace.paths.len().min(lanes::MOST_PATHS))
            .map(|at| words(trace, at, example.verdict(at)))
            .collect(),
        left_out: trace.paths.len().saturating_sub(lanes::MOST_PATHS),
    }
}

/// Whom a reader heard, in words.
pub(super) fn heard(route: &Route) -> String {
    let peers = route
        .peers
        .iter()
        .enumerate()
        .map(|(at, peer)| match route.scores.get(at) {
            Some(score) => format!("path {} (likeness {score:.2})", peer + 1),
            None => format!("path {}", peer + 1),
        });
    let peers: Vec<String> = peers.collect();
    if peers.is_empty() {
        "nobody".into()
    } else {
        peers.join(", ")
    }
}

fn words(trace: &Trace, at: usize, score: Option<&PathScore>) -> Path {
    let path = &trace.paths[at];
    let (class, mark, verdict) = score.map_or(UNCOUNTED, |score| verdict(score.grade));
    let route = |block: u32| {
        let block = trace.blocks.iter().find(|found| found.index == block)?;
        block
            .routes
            .iter()
            .find(|route| route.reader as usize == at)
    };
    let spans = path
        .spans
        .iter()
        .filter(|span| span.kind != SpanKind::Prompt && !span.ids.is_empty());
    let spans = spans.map(|span| {
        let block = span.block.map(|block| format!("block {}", block + 1));
        let from = match (span.kind, span.block.and_then(route)) {
            (SpanKind::Comment, Some(route)) => Some(format!("heard {}", heard(route))),
            _ => None,
        };
        let tokens = counted(span.ids.len() as u64, "token", "tokens");
        let notes: Vec<String> = [block, from, Some(tokens)].into_iter().flatten().collect();
        Words {
            kind: kind_name(span.kind),
            note: notes.join(", "),
            text: clipped(span.text.trim_matches('\n')),
        }
    });
    Path {
        number: at + 1,
        class,
        mark,
        verdict,
        answer: score.map_or(String::new(), |score| {
            let answer = score.answer.as_deref();
            answer.map_or("no answer".into(), |answer| shortened(answer, 40))
        }),
        end: ending(&path.end),
        tokens: format!(
            "{} sampled + {} injected tokens",
            whole(path.sampled() as u64),
            whole(path.injected() as u64)
        ),
        spans: spans.collect(),
    }
}

/// Class, mark and words for a path whose answer does not count.
pub(super) const UNCOUNTED: (&str, &str, &str) = ("none", "\u{2013}", "not counted");

fn ending(end: &PathEnd) -> &'static str {
    match end {
        PathEnd::Answered => "answered",
        PathEnd::Stopped => "stopped by itself",
        PathEnd::Forced => "forced to answer",
        PathEnd::Outgrown => "out of positions",
        PathEnd::Released => "another path went on alone",
        PathEnd::Failed(_) => "failed",
    }
}

fn clipped(text: &str) -> String {
    let count = text.chars().count();
    if count <= MOST_TEXT {
        return text.to_string();
    }
    let half = MOST_TEXT / 2;
    let head: String = text.chars().take(half).collect();
    let tail: String = text.chars().skip(count - half).collect();
    format!(
        "{head}\n[{} characters left out]\n{tail}",
        whole((count - 2 * half) as u64)
    )
}
