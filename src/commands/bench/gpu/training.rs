//! Steps of training on the device: against the CPU's, their speed, and what memory they leave.

use std::time::Instant;

use anyhow::Result;
use model::config::ModelConfig;
use model::decoder::Decoder;
use model::device::{DeviceSpec, Dtype};
use model::memory;
use protocol::{Sample, SampleSpan, SpanKind};
use serde_json::{Value, json};
use train::{Recompute, TrainOn};

use super::parity::limit;
use super::shapes::{copied, distilled, ids, noise, tiny};
use super::{Bench, Found, Roof};

/// A document of so many tokens, all trained on.
fn document(tokens: usize, seed: usize, config: &ModelConfig) -> Sample {
    Sample {
        version: Sample::VERSION,
        id: format!("noise#{seed}.0"),
        problem: format!("noise-{seed}"),
        tokenizer: "noise".to_owned(),
        spans: vec![SampleSpan {
            kind: SpanKind::Thought,
            ids: ids(tokens, seed, config),
        }],
    }
}

/// The length of texts that bench rows train on.
fn lengths(small: bool) -> &'static [usize] {
    match small {
        true => &[64, 128],
        false => &[4096, 8192, 16_384],
    }
}

/// 20 steps of gradient descent on a small model: the losses on the device and on the CPU in f32.
/// Weights are kept in f32 on the host and rounded to the format of the device in each step.
pub(super) fn parity(bench: &mut Bench<'_>) -> Result<Found> {
    const STEPS: usize = 20;
    let cpu = DeviceSpec::Cpu.open()?;
    let mut rows = Vec::new();
    let mut right = true;
    for &dtype in &bench.formats {
        let start = noise(&tiny(), Dtype::F32, &cpu.clone().autodiff());
        let on_device = copied(&start, dtype, &bench.device.clone().autodiff());
        let expected = descend(start, STEPS);
        let found = descend(on_device, STEPS);
        let off = found
            .iter()
            .zip(&expected)
            .map(|(found, expected)| ((found - expected) / expected).abs())
            .fold(0.0, f64::max);
        right &= off <= limit(dtype);
        rows.push(json!({
            "dtype": dtype,
            "steps": STEPS,
            "loss_off_by": off,
            "limit": limit(dtype),
            "losses": found,
            "losses_of_cpu": expected,
        }));
    }
    Ok(Found {
        figures: json!(rows),
        right,
    })
}

/// The loss of each step.
fn descend(mut decoder: Decoder, steps: usize) -> Vec<f64> {
    const RATE: f32 = 0.2;
    let samples: Vec<Sample> = [130, 65, 20]
        .into_iter()
        .zip(0..)
        .map(|(tokens, seed)| document(tokens, seed, decoder.config()))
        .collect();
    let masters = decoder.parameters().into_iter().map(|parameter| {
        let values = parameter.data().convert::<f32>().try_into_vec::<f32>();
        (parameter.name, values.expect("they were made f32"))
    });
    let mut masters: Vec<(String, Vec<f32>)> = masters.collect();
    let mut losses = Vec::with_capacity(steps);
    for _ in 0..steps {
        let found = train::loss_and_gradients(&decoder, &samples, &TrainOn::Own, 150);
        losses.push(found.loss);
        for ((_, weights), (_, gradient)) in masters.iter_mut().zip(&found.parameters) {
            for (weight, gradient) in weights.iter_mut().zip(gradient) {
                *weight -= RATE * gradient;
            }
        }
        decoder = decoder.with_values(|name, _| {
            let found = masters.iter().find(|(known, _)| known == name);
            found.map(|(_, values)| values.clone())
        });
    }
    losses
}

/// Forward and backward passes over one long document, blocks recomputed, gradients summed on the
/// host in f32; the optimizer is not in it.
pub(super) fn speed(bench: &mut Bench<'_>) -> Result<Found> {
    let roof = bench.roof()?;
    let dtype = bench.dtype();
    let mut rows = Vec::new();
    for shape in distilled(bench.small) {
        bench.output.step("Training", shape.name);
        let decoder = noise(&shape.config, dtype, &bench.device.clone().autodiff());
        for &tokens in lengths(bench.small) {
            let figures = pass(&decoder, tokens, roof);
            rows.push(json!({
                "shape": shape.name,
                "dtype": dtype,
                "figures": figures,
                "memory": memory::of_device(&bench.device),
            }));
        }
    }
    Ok(Found {
        figures: json!(rows),
        right: true,
    })
}

fn pass(decoder: &Decoder, tokens: usize, roof: Roof) -> Value {
    let samples = [document(tokens, 1, decoder.config())];
    let run = || {
        let recompute = Recompute::Blocks;
        train::loss_and_gradients_with(decoder, &samples, &TrainOn::Own, tokens, recompute)
    };
    run();
    let started = Instant::now();
    let found = run();
    let seconds = started.elapsed().as_secs_f64();
    let flops = flops(decoder, tokens);
    json!({
        "tokens": tokens,
        "loss": found.loss,
        "seconds": seconds,
        "tokens_per_s": tokens as f64 / seconds,
        "recompute": "blocks",
        "model_flops": flops,
        "mfu_of_measured_products": flops / seconds / roof.products,
    })
}

/// Operations of forward and backward, without those of recomputation: 6 for each weight of a
/// product and token, and 6 for each score and element of a head that causal attention keeps.
fn flops(decoder: &Decoder, tokens: usize) -> f64 {
    let config = decoder.config();
    let weights: usize = decoder
        .parameters()
        .iter()
        .filter(|parameter| parameter.name != "model.embed_tokens.weight")
        .map(|parameter| match parameter.shape()[..] {
            [rows, cols] => rows * cols,
            _ => 0,
        })
        .sum();
    let width = config.num_attention_heads * config.head_dim;
    let scores = config.num_hidden_layers * width * tokens * tokens;
    6.0 * weights as f64 * tokens as f64 + 6.0 * scores as f64
}

/// What 300 steps leave in memory.
pub(super) fn growth(bench: &mut Bench<'_>) -> Result<Found> {
    let (warm, steps) = if bench.small { (5, 15) } else { (30, 300) };
    let decoder = noise(&tiny(), bench.dtype(), &bench.device.clone().autodiff());
    let samples = [200, 64, 90].map(|tokens| document(tokens, tokens, decoder.config()));
    let mut warmed = None;
    for step in 0..steps {
        train::loss_and_gradients(&decoder, &samples, &TrainOn::Own, 300);
        if step + 1 == warm {
            warmed = held(bench);
        }
    }
    let (before, after) = (warmed, held(bench));
    // What is used again and again does not grow; a few pages may come late.
    let right = match (before, after) {
        (Some(before), Some(after)) => after <= before + before / 10 + (8 << 20),
        _ => true,
    };
    Ok(Found {
        figures: json!({
            "steps": steps,
            "warm_up": warm,
            "bytes_after_warm_up": before,
            "bytes_after": after,
        }),
        right,
    })
}

/// Bytes that are held: of the device, or of the process where the CPU computes.
fn held(bench: &Bench<'_>) -> Option<u64> {
    match bench.spec {
        DeviceSpec::Cpu => memory::peak_bytes(),
        _ => memory::of_device(&bench.device).map(|memory| memory.reserved),
    }
}
