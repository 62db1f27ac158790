//! The time of routing: similarities of all pairs, and the choice of peers.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use protocol::{Router, Similarity, Stream};
use serde_json::{Value, json};

use super::spread;
use crate::cli::BenchRoute;
use crate::fault::Fault;

/// Routes between summaries of seeded words, on one core.
pub(super) fn run(args: &BenchRoute) -> Result<Value> {
    let &BenchRoute {
        summaries,
        chars,
        repeat,
    } = args;
    if summaries < 2 || chars == 0 || repeat == 0 {
        return Err(Fault::new(
            "there is nothing to measure",
            "take at least 2 summaries of at least 1 character, and repeat at least once",
        )
        .into());
    }
    let stream = Stream::of_run(1).named("bench route");
    let texts: Vec<String> = (0..summaries)
        .map(|index| words(&stream.indexed(index as u64), chars))
        .collect();
    let views: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut found = serde_json::Map::new();
    for (name, similarity) in [
        ("indel", Similarity::Indel),
        ("levenshtein", Similarity::Levenshtein),
    ] {
        let mut milliseconds: Vec<f64> = (0..repeat)
            .map(|_| {
                let started = Instant::now();
                let alike = similarity.matrix(black_box(&views));
                for reader in 0..summaries {
                    let row = &alike[reader * summaries..][..summaries];
                    black_box(Router::Dispersed.select(row, reader, 4, &stream));
                }
                started.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        let [least, median, most] = spread(&mut milliseconds);
        found.insert(
            name.into(),
            json!({ "min_ms": least, "median_ms": median, "max_ms": most }),
        );
    }
    Ok(json!({
        "bench": "route",
        "summaries": summaries,
        "chars": chars,
        "pairs": summaries * (summaries - 1) / 2,
        "repeat": repeat,
        "similarity": found,
    }))
}

/// Text of letters and blanks, as long as asked for.
fn words(stream: &Stream, chars: usize) -> String {
    const LETTERS: &[u8] = b"etaoin shrdlu cmfwypvbgkqjxz 0123456789";
    let letter = |at: usize| LETTERS[stream.below(at as u64, LETTERS.len())] as char;
    (0..chars).map(letter).collect()
}
