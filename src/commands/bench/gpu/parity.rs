//! A small model's logits on the device against the CPU's f32: read whole, and written over a cache.

use anyhow::{Result, anyhow};
use model::decoder::Decoder;
use model::device::{DeviceSpec, Dtype};
use model::kv_cache::KvCache;
use model::packed::Packed;
use model::step::Row;
use serde_json::json;

use super::shapes::{copied, ids, noise, tiny};
use super::{Bench, Found};

/// The most that a format may be off, as a share of the largest value.
pub(super) fn limit(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 1e-5,
        Dtype::Bf16 => 2e-2,
    }
}

/// Texts that are read: one token, within a page of the cache, and beyond.
const LENGTHS: [usize; 3] = [1, 64, 333];

/// Texts that are written side by side, which are filled up to four.
const ASIDE: [usize; 3] = [90, 24, 333];

/// Tokens of them that are written, enough to record steps and to send them again.
const STEPS: usize = 16;

pub(super) fn logits(bench: &mut Bench<'_>) -> Result<Found> {
    let cpu = DeviceSpec::Cpu.open()?;
    let mut rows = Vec::new();
    let mut right = true;
    for &dtype in &bench.formats {
        // Both hold the same numbers: those that the format can hold.
        let on_device = copied(&noise(&tiny(), Dtype::F32, &cpu), dtype, &bench.device);
        let on_cpu = copied(&on_device, Dtype::F32, &cpu);
        let texts = LENGTHS.map(|length| ids(length, length, on_cpu.config()));
        let expected = whole(&on_cpu, &texts)?;
        let read = difference(&whole(&on_device, &texts)?, &expected);
        let written = difference(&over_cache(&on_device, &texts)?, &expected);
        let aside = ASIDE.map(|length| ids(length, length, on_cpu.config()));
        let expected = last_tokens(&on_cpu, &aside)?;
        let on_device = on_device.for_writing();
        let (one_by_one, _) = side_by_side(&on_device, &aside, false)?;
        let (sent, recorded_steps) = side_by_side(&on_device, &aside, true)?;
        let [one_by_one, sent] = [one_by_one, sent].map(|found| difference(&found, &expected));
        let all = [read, written, one_by_one, sent];
        right &= all.into_iter().all(|off| off <= limit(dtype));
        rows.push(json!({
            "dtype": dtype,
            "read_off_by": read,
            "written_off_by": written,
            "side_by_side_off_by": one_by_one,
            "recorded_off_by": sent,
            "recorded_steps": recorded_steps,
            "limit": limit(dtype),
        }));
    }
    Ok(Found {
        figures: json!(rows),
        right,
    })
}

/// Logits of all tokens of all texts, read in one packed batch.
fn whole(decoder: &Decoder, texts: &[Vec<u32>]) -> Result<Vec<f32>> {
    let packed = Packed::new(texts);
    let logits = decoder.logits(decoder.hidden(&packed));
    floats(logits.try_into_data())
}

/// The same, written: a part of each text at once, then token by token.
fn over_cache(decoder: &Decoder, texts: &[Vec<u32>]) -> Result<Vec<f32>> {
    const ALONE: usize = 8;
    let mut cache = KvCache::of(decoder);
    let mut all = Vec::new();
    for text in texts {
        let slot = cache.open();
        let (first, rest) = text.split_at(text.len().saturating_sub(ALONE).max(1));
        let parts = std::iter::once(first).chain(rest.chunks(1));
        for ids in parts {
            let logits = decoder.step_all(&[Row { slot, ids }], &mut cache);
            all.extend(floats(logits.try_into_data())?);
        }
    }
    Ok(all)
}

/// Logits of the last [`STEPS`] tokens of texts, step by step, read in one packed batch.
fn last_tokens(decoder: &Decoder, texts: &[Vec<u32>]) -> Result<Vec<f32>> {
    let all = whole(decoder, texts)?;
    let width = decoder.config().vocab_size;
    let mut steps = Vec::new();
    for step in 0..STEPS {
        let mut before = 0;
        for text in texts {
            let token = before + text.len() - STEPS + step;
            steps.extend_from_slice(&all[token * width..][..width]);
            before += text.len();
        }
    }
    Ok(steps)
}

/// The same, written side by side over a cache; how many steps were sent as one.
fn side_by_side(decoder: &Decoder, texts: &[Vec<u32>], recorded: bool) -> Result<(Vec<f32>, u64)> {
    let mut cache = KvCache::of(decoder);
    let mut slots = Vec::new();
    for text in texts {
        let slot = cache.open();
        let ids = &text[..text.len() - STEPS];
        decoder.step(&[Row { slot, ids }], &mut cache);
        slots.push(slot);
    }
    let mut all = Vec::new();
    for step in 0..STEPS {
        let rows = slots.iter().zip(texts).map(|(slot, text)| Row {
            slot: *slot,
            ids: &text[text.len() - STEPS + step..][..1],
        });
        let rows: Vec<Row<'_>> = rows.collect();
        let logits = match recorded {
            true => decoder.step_recorded(&rows, &mut cache),
            false => decoder.step(&rows, &mut cache),
        };
        all.extend(floats(logits.try_into_data())?);
    }
    Ok((all, cache.recorded_steps().0))
}

/// The values of a tensor that was read back.
pub(super) fn floats<E: std::fmt::Display>(
    data: Result<model::device::TensorData, E>,
) -> Result<Vec<f32>> {
    let data = data.map_err(|error| anyhow!("the device failed: {error}"))?;
    data.convert::<f32>()
        .try_into_vec()
        .map_err(|error| anyhow!("the device gave no floats: {error:?}"))
}

/// The largest difference, as a share of the largest value; infinite if one is not a number.
pub(super) fn difference(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let most = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let off = found
        .iter()
        .zip(expected)
        .map(|(a, b)| f64::from((a - b).abs()));
    let worst = off.fold(0.0, |worst, off| match off.is_finite() {
        true => f64::max(worst, off),
        false => f64::INFINITY,
    });
    worst / f64::from(most)
}
