//! Tokens per second of rows that sample side by side, and how near that is to the memory's speed.

use std::time::Instant;

use anyhow::{Result, bail};
use infer::engine::Engine;
use infer::local::LocalSettings;
use model::memory;
use protocol::Finish;
use serde_json::{Value, json};

use super::{engine, ids, key, machine, request, spread, vocab};
use crate::cli::BenchDecode;

/// Read to learn how fast memory is: far more than caches hold.
const BANDWIDTH_BYTES: usize = 1 << 29;

pub(super) fn run(args: &BenchDecode) -> Result<Value> {
    let model = &args.model;
    let vocab = vocab(model)?;
    // Before and after, because a shared machine is not the same at all times.
    let before = memory::read_bandwidth(BANDWIDTH_BYTES, 8);
    let mut runs = Vec::new();
    for &batch in &args.batch {
        runs.push(one(args, &vocab, batch)?);
    }
    let bandwidth = memory::read_bandwidth(BANDWIDTH_BYTES, 8).max(before);
    for run in &mut runs {
        let read = run["bytes_per_s"].as_f64().unwrap_or_default();
        run["share_of_memory_bandwidth"] = json!(read / bandwidth);
    }
    Ok(json!({
        "bench": "decode",
        "machine": machine(model),
        "prompt": args.prompt,
        "new": args.new,
        "memory_bytes_per_s": bandwidth,
        "runs": runs,
    }))
}

fn one(args: &BenchDecode, vocab: &infer::vocab::TokenizerVocab, batch: usize) -> Result<Value> {
    let settings = LocalSettings {
        prefill_tokens: args.prompt.max(1) * batch,
        ..LocalSettings::for_one_group(batch)
    };
    let model = &args.model;
    let mut engine = engine(&model.checkpoint, vocab, model, &settings)?;
    let vocabulary = engine.vocabulary();
    let mut seconds = Vec::with_capacity(model.repeat);
    // The first round packs the weights and warms the caches.
    for round in 0..=model.repeat {
        // Every row has its prompt fed and its first token before the clock starts.
        for row in 0..batch {
            let prompt = ids(row, args.prompt, vocabulary);
            engine.submit(request(key(row), 0, prompt, 1));
        }
        drain(&mut engine)?;
        for row in 0..batch {
            engine.submit(request(key(row), args.prompt + 1, Vec::new(), args.new));
        }
        let started = Instant::now();
        drain(&mut engine)?;
        if round > 0 {
            seconds.push(started.elapsed().as_secs_f64());
        }
        for row in 0..batch {
            engine.close(key(row));
        }
    }
    let [least, middle, most] = spread(&mut seconds);
    let rate = |seconds: f64| (batch * args.new) as f64 / seconds;
    // A step reads all weights once, and the keys and values of every row.
    let length = args.prompt as f64 + 1.0 + args.new as f64 / 2.0;
    let kv = batch as f64 * length * engine.bytes_per_token() as f64;
    let read = (engine.weight_bytes() as f64 + kv) * args.new as f64 / least;
    Ok(json!({
        "batch": batch,
        "tokens_per_s_best": rate(least),
        "tokens_per_s_median": rate(middle),
        "tokens_per_s_worst": rate(most),
        "weight_bytes_per_step": engine.weight_bytes(),
        "kv_bytes_per_step": kv,
        "bytes_per_s": read,
    }))
}

/// Runs until nothing is in flight.
pub(super) fn drain(engine: &mut dyn Engine) -> Result<()> {
    while let Some(completion) = engine.wait()? {
        if let Finish::Failed(reason) = completion.finish {
            bail!("a request could not be served: {reason}");
        }
    }
    Ok(())
}
