//! Steps of training on the device: against the CPU's, their speed, and what memory they leave.

use std::path::Path;

use anyhow::{Result, anyhow};
use model::config::ModelConfig;
use model::decoder::Decoder;
use model::device::{DeviceSpec, Dtype};
use model::lineage::Lineage;
use model::lora::{Linear, LoraSettings};
use model::memory;
use protocol::{Sample, SampleSpan, SpanKind};
use serde_json::json;
use train::{
    ClipNorm, DecayOn, Event, Interrupter, Job, Placement, Precision, Recompute, Rehearsal,
    Schedule, Start, StepReport, TrainOn, TrainSettings, Watch,
};

use super::parity::limit;
use super::shapes::{copied, ids, noise, tiny};
use super::{Bench, Found};

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
    // Where the loss falls from step to step. At 0.2 it rises in between, and what rounding makes of
    // it grows a thousandfold in twenty steps, on the CPU in bf16 as on a card.
    const RATE: f32 = 0.05;
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

/// Steps of a training on one long document each, blocks recomputed, gradients, masters and moments on
/// the device: of all weights, and of adapters.
pub(super) fn speed(bench: &mut Bench<'_>) -> Result<Found> {
    let roof = bench.roof()?;
    let dtype = bench.dtype();
    let mut rows = Vec::new();
    for shape in bench.models() {
        // What a card of 80 GB holds: all of 1.5B, adapters of 7B.
        let lora = (shape.name != "1.5b").then(|| LoraSettings {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            targets: Linear::all(),
        });
        let trained = match lora {
            Some(_) => "adapters",
            None => "all weights",
        };
        bench
            .output
            .step("Training", &format!("{trained} of {}", shape.name));
        let mut decoder = noise(&shape.config, dtype, &bench.device.clone().autodiff());
        if let Some(settings) = &lora {
            decoder = decoder.with_fresh_adapters(settings, 1);
        }
        for &tokens in lengths(bench.small) {
            let (trained_decoder, reports) = run(bench, decoder, &lora, dtype, tokens)?;
            decoder = trained_decoder;
            let last = reports.last().ok_or_else(|| anyhow!("no step was taken"))?;
            let flops = last.model_flops;
            bench.output.step(
                "Trained",
                &format!(
                    "{tokens} tokens a step: {:.0} tokens/s, {:.1}% of products, losses {:?}",
                    tokens as f64 / last.seconds,
                    100.0 * flops / last.seconds / roof.products,
                    reports.iter().map(|step| step.loss).collect::<Vec<_>>()
                ),
            );
            rows.push(json!({
                "shape": shape.name,
                "trained": trained,
                "dtype": dtype,
                "tokens": tokens,
                "losses": reports.iter().map(|step| step.loss).collect::<Vec<_>>(),
                "seconds": reports.iter().map(|step| step.seconds).collect::<Vec<_>>(),
                "tokens_per_s": tokens as f64 / last.seconds,
                "recompute": "blocks",
                "model_flops": flops,
                "mfu_of_measured_products": flops / last.seconds / roof.products,
                "memory": memory::of_device(&bench.device),
            }));
        }
    }
    Ok(Found {
        figures: json!(rows),
        right: true,
    })
}

/// Keeps what is said of steps.
#[derive(Default)]
struct Reports(Vec<StepReport>);

impl Watch for Reports {
    fn event(&mut self, event: &Event) {
        if let Event::Step(report) = event {
            self.0.push(*report);
        }
    }
}

/// Three steps, of which the last one is timed: kernels are chosen and compiled in the others.
fn run(
    bench: &Bench<'_>,
    decoder: Decoder,
    lora: &Option<LoraSettings>,
    dtype: Dtype,
    tokens: usize,
) -> Result<(Decoder, Vec<StepReport>)> {
    const STEPS: usize = 3;
    let samples: Vec<Sample> = (0..STEPS)
        .map(|seed| document(tokens, seed, decoder.config()))
        .collect();
    let settings = TrainSettings {
        epochs: None,
        steps: Some(STEPS),
        tokens: None,
        samples_per_step: 1,
        tokens_per_micro_batch: tokens,
        max_tokens: tokens,
        lr: 1e-5,
        schedule: Schedule::Constant,
        warmup: 0.0,
        min_lr_ratio: 0.0,
        weight_decay: 0.0,
        decay_on: DecayOn::Matrices,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        clip_norm: ClipNorm::At(1.0),
        train_on: TrainOn::Own,
        save_every_steps: 0,
        keep: 1,
        recompute: Recompute::Blocks,
        optimizer: Placement::Device,
        moments: Precision::F32,
        sums: Placement::Device,
        lora: lora.clone(),
        guard: None,
        held_out: None,
    };
    let nowhere = Path::new("");
    let job = Job {
        settings: &settings,
        start: Start::Checkpoint(nowhere.to_owned()),
        dtype,
        samples: &samples,
        held_out: &[],
        seed: 1,
        tokenizer_hash: "noise",
        bos: None,
        files_from: nowhere,
        out: nowhere,
        state: nowhere,
        device: &bench.device,
        lineage: &Lineage {
            base: String::new(),
            samples: String::new(),
            recipe: String::new(),
            step: 0,
            toolkit: String::new(),
            exported: None,
            merged: None,
        },
        rehearsal: Rehearsal::None,
        card: None,
        stop: &Interrupter::new(),
    };
    let mut reports = Reports::default();
    let decoder = train::steps(&job, decoder, &mut reports)?;
    Ok((decoder, reports.0))
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
