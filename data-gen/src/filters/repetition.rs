//! Filters on degeneration: runs that come again, loops, endless doubt.

use protocol::PathTrace;
use serde_json::{Value, json};

use super::{Column, FilterSettings, own_text};
use crate::ngrams;

/// Tokens in a run.
const RUN: usize = 20;
/// Longest period of a loop, in tokens.
const PERIOD: usize = 200;
/// A loop is its period this many times in a row.
const TIMES: usize = 3;
/// Fewer tokens are no loop: rows of digits and rules of tables repeat.
const LOOP: usize = 30;

/// The share of runs of 20 sampled tokens that occurred before.
pub(super) fn repeated(path: &PathTrace, settings: &FilterSettings) -> Column {
    let own = path.spans.iter().filter(|span| span.kind.is_sampled());
    let ids: Vec<u32> = own.flat_map(|span| &span.ids).copied().collect();
    let mut runs: Vec<u64> = ngrams::rolling(&ids, RUN).collect();
    let all = runs.len();
    runs.sort_unstable();
    runs.dedup();
    let share = (all - runs.len()) as f64 / all.max(1) as f64;
    Column::at_most(Some(share), settings.repetition)
}

/// Whether a stretch that the path sampled ends in a loop.
pub(super) fn looped(path: &PathTrace, _: &FilterSettings) -> Column {
    let own = path.spans.iter().filter(|span| span.kind.is_sampled());
    let loops = own.filter_map(|span| tail_loop(&span.ids));
    match loops.max_by_key(|(period, times)| period * times) {
        Some((period, times)) => Column::new(json!({ "period": period, "times": times }), false),
        None => Column::new(Value::Null, true),
    }
}

/// Period and number of repeats of the loop in which `ids` end: the shortest period that holds.
fn tail_loop(ids: &[u32]) -> Option<(usize, usize)> {
    // The end of a text is no part of a loop, and stands behind it.
    let ends = [ids, &ids[..ids.len().saturating_sub(1)]];
    ends.into_iter().find_map(|ids| {
        (1..=PERIOD.min(ids.len() / TIMES)).find_map(|period| {
            let pairs = ids.iter().rev().zip(ids[..ids.len() - period].iter().rev());
            let same = pairs.take_while(|(a, b)| a == b).count();
            let times = same / period + 1;
            (times >= TIMES && times * period >= LOOP).then_some((period, times))
        })
    })
}

const DOUBT: [&str; 5] = ["wait", "hmm", "alternatively", "hold", "actually"];

/// Words of doubt per 1,000 words.
pub(super) fn hesitation(path: &PathTrace, settings: &FilterSettings) -> Column {
    let text = own_text(path).to_lowercase();
    let words = text
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty());
    let (mut all, mut doubts) = (0usize, 0usize);
    for word in words {
        all += 1;
        doubts += usize::from(DOUBT.contains(&word));
    }
    let rate = 1000.0 * doubts as f64 / all.max(1) as f64;
    Column::at_most(Some(rate), settings.hesitation)
}
