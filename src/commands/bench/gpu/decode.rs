//! Tokens per second of rows that write side by side, and how near that is to the memory's speed.

use std::time::Instant;

use anyhow::{Result, anyhow};
use model::decoder::Decoder;
use model::device::Dtype;
use model::kv_cache::{KvCache, Slot};
use model::ops::largest;
use model::step::Row;
use serde_json::{Value, json};

use super::shapes::{ids, noise};
use super::{Bench, Found};

/// Rows that write side by side.
const BATCHES: [usize; 3] = [1, 16, 64];

/// Steps before time is taken.
const WARM_UP: usize = 8;

/// Most steps until a recording is in use.
const UNTIL_RECORDED: usize = 24;

pub(super) fn run(bench: &mut Bench<'_>) -> Result<Found> {
    let roof = bench.memory_roof()?;
    let dtype = bench.dtype();
    let mut rows = Vec::new();
    for shape in bench.models() {
        bench.output.step("Decoding", shape.name);
        let decoder = noise(&shape.config, dtype, &bench.device).for_writing();
        for batch in BATCHES {
            let figures = one(bench, &decoder, batch, roof)?;
            rows.push(json!({ "shape": shape.name, "dtype": dtype, "figures": figures }));
        }
    }
    Ok(Found {
        figures: json!(rows),
        right: true,
    })
}

fn one(bench: &mut Bench<'_>, decoder: &Decoder, batch: usize, roof: f64) -> Result<Value> {
    let (context, new) = if bench.small { (40, 4) } else { (2048, 128) };
    let dtype = bench.dtype();
    let config = decoder.config();
    let mut cache = KvCache::of(decoder);
    let first = cache.open();
    let prompt = ids(context, 1, config);
    for part in prompt.chunks(512) {
        decoder.step(
            &[Row {
                slot: first,
                ids: part,
            }],
            &mut cache,
        );
    }
    let mut slots: Vec<Slot> = vec![first];
    slots.extend((1..batch).map(|_| cache.fork(first)));
    let prompted = cache.len(first);
    let mut figures = Vec::new();
    let mut written: Vec<Vec<u32>> = Vec::new();
    for recorded in [false, true] {
        for slot in &slots {
            cache.truncate(*slot, prompted);
        }
        let mut next: Vec<u32> = (0..batch).map(|row| ids(1, row, config)[0]).collect();
        let mut all = Vec::new();
        let mut step = |cache: &mut KvCache| -> Result<()> {
            let rows: Vec<Row<'_>> = slots
                .iter()
                .zip(next.chunks(1))
                .map(|(slot, ids)| Row { slot: *slot, ids })
                .collect();
            let logits = match recorded {
                true => decoder.step_recorded(&rows, cache),
                false => decoder.step(&rows, cache),
            };
            let data = largest(logits)
                .try_into_data()
                .map_err(|error| anyhow!("the device failed: {error}"))?;
            next = data.iter::<i64>().map(|id| id as u32).collect();
            all.extend_from_slice(&next);
            Ok(())
        };
        // Kernels are chosen and compiled, and a step is recorded and proved.
        let mut before = 0;
        while before < WARM_UP || recorded && before < UNTIL_RECORDED && is_recording(&cache) {
            step(&mut cache)?;
            before += 1;
        }
        let started = Instant::now();
        for _ in 0..new {
            step(&mut cache)?;
        }
        let seconds = started.elapsed().as_secs_f64();
        written.push(all);
        let bytes_of_weights = weight_bytes(decoder, dtype);
        let length = (context + before) as f64 + new as f64 / 2.0;
        let kv = batch as f64 * length * cache.bytes_per_token() as f64;
        let read = (bytes_of_weights as f64 + kv) * new as f64 / seconds;
        let (steps, reason) = cache.recorded_steps();
        bench.output.step(
            if recorded { "Recorded" } else { "One by one" },
            &format!(
                "{batch} rows: {:.1} tokens/s, {:.1}% of the memory roof{}",
                (batch * new) as f64 / seconds,
                100.0 * read / roof,
                reason.map_or_else(String::new, |reason| format!(" ({reason})"))
            ),
        );
        figures.push(json!({
            "batch": batch,
            "context": context,
            "recorded": recorded,
            "recorded_steps": steps,
            "not_recorded_because": reason,
            "recording_s": cache.recording_time().as_secs_f64(),
            "tokens_per_s": (batch * new) as f64 / seconds,
            "weight_bytes_per_step": bytes_of_weights,
            "kv_bytes_per_step": kv,
            "bytes_per_s": read,
            "share_of_memory_roof": read / roof,
        }));
    }
    // As many as both wrote: steps before time is taken differ in number.
    let same = written
        .windows(2)
        .all(|pair| pair[0].iter().zip(&pair[1]).all(|(a, b)| a == b));
    Ok(json!({ "same_tokens": same, "runs": figures }))
}

/// Whether steps are still to be recorded.
fn is_recording(cache: &KvCache) -> bool {
    matches!(cache.recorded_steps(), (0, None))
}

/// Bytes of weights that a step reads: all but the rows of the embedding, of which it reads a few.
fn weight_bytes(decoder: &Decoder, dtype: Dtype) -> usize {
    let size = match dtype {
        Dtype::F32 => 4,
        Dtype::Bf16 => 2,
    };
    let parameters = decoder.parameters().into_iter();
    let read = parameters.filter(|parameter| {
        decoder.config().tie_word_embeddings || parameter.name != "model.embed_tokens.weight"
    });
    read.map(|parameter| parameter.shape().iter().product::<usize>() * size)
        .sum()
}
