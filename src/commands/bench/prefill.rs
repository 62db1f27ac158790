//! Tokens per second at which a prompt is fed.

use std::time::Instant;

use anyhow::Result;
use infer::engine::Engine;
use infer::local::LocalSettings;
use infer::vocab::TokenizerVocab;
use serde_json::{Value, json};

use super::decode::drain;
use super::{engine, ids, key, machine, request, spread, vocab};
use crate::cli::{BenchModel, BenchPrefill};

pub(super) fn run(args: &BenchPrefill) -> Result<Value> {
    let vocab = vocab(&args.model)?;
    let mut seconds = measure(&args.model, &vocab, args.tokens)?;
    let [least, middle, most] = spread(&mut seconds);
    let rate = |seconds: f64| args.tokens as f64 / seconds;
    Ok(json!({
        "bench": "prefill",
        "machine": machine(&args.model),
        "tokens": args.tokens,
        "tokens_per_s_best": rate(least),
        "tokens_per_s_median": rate(middle),
        "tokens_per_s_worst": rate(most),
        "seconds_to_first_token": middle,
    }))
}

/// Seconds from a prompt to its first token, after one round that warms up.
pub(super) fn measure(
    model: &BenchModel,
    vocab: &TokenizerVocab,
    tokens: usize,
) -> Result<Vec<f64>> {
    let settings = LocalSettings {
        prefill_tokens: tokens.max(1),
        ..LocalSettings::for_one_group(1)
    };
    let mut engine = engine(&model.checkpoint, vocab, model, &settings)?;
    let vocabulary = engine.vocabulary();
    let mut seconds = Vec::with_capacity(model.repeat);
    for round in 0..=model.repeat {
        let prompt = ids(round, tokens, vocabulary);
        let started = Instant::now();
        engine.submit(request(key(0), 0, prompt, 1));
        drain(&mut engine)?;
        if round > 0 {
            seconds.push(started.elapsed().as_secs_f64());
        }
        engine.close(key(0));
    }
    Ok(seconds)
}
