//! Steps of training on the device: against the CPU's, their speed, and what memory they leave.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, anyhow};
use model::config::ModelConfig;
use model::decoder::Decoder;
use model::device::{DeviceSpec, Dtype, card_bytes};
use model::lineage::Lineage;
use model::lora::{Linear, LoraSettings};
use model::memory;
use protocol::{Sample, SampleSpan, SpanKind};
use serde_json::{Value, json};
use train::{
    ClipNorm, Computer, DecayOn, Event, Forecast, Interrupter, Job, Place, Placement, Precision,
    Recompute, Rehearsal, Schedule, Start, StepReport, TrainOn, TrainSettings, Watch, Work,
};

use super::super::spread;
use super::parity::limit;
use super::shapes::{Shape, copied, ids, noise, tiny};
use super::{Bench, Found};
use crate::cli::GpuTrained;
use crate::output::Output;

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

/// What is trained of a model, and where what belongs to that lies.
struct Trained {
    what: &'static str,
    lora: Option<LoraSettings>,
    /// Masters and moments.
    optimizer: Placement,
    moments: Precision,
    /// Of one document each.
    micro_batches: usize,
}

/// All that is measured of a shape: adapters where a card of 80 GB does not hold what belongs to all weights,
/// and these with their optimizer in host memory, which works for `micro_batches`.
fn trained(shape: &str, micro_batches: usize) -> Vec<Trained> {
    let all = |optimizer, moments, micro_batches| Trained {
        what: "all weights",
        lora: None,
        optimizer,
        moments,
        micro_batches,
    };
    let adapters = || Trained {
        what: "adapters",
        lora: Some(LoraSettings {
            rank: 16,
            alpha: 32.0,
            // That of the recipes.
            dropout: 0.05,
            targets: Linear::all(),
        }),
        optimizer: Placement::Device,
        moments: Precision::F32,
        micro_batches: 1,
    };
    match shape {
        "1.5b" => vec![all(Placement::Device, Precision::F32, 1)],
        _ => vec![
            adapters(),
            all(Placement::Host, Precision::EightBit, micro_batches),
        ],
    }
}

/// Steps of a training on one long document each, blocks recomputed. What a forecast says does not fit into
/// the card or into the machine is not begun.
pub(super) fn speed(bench: &mut Bench<'_>) -> Result<Found> {
    let mut rows = Vec::new();
    for shape in bench.models() {
        let wanted = bench.trained;
        let is_wanted = |trained: &Trained| {
            let kind = match trained.lora {
                Some(_) => GpuTrained::Adapters,
                None => GpuTrained::Weights,
            };
            wanted.is_empty() || wanted.contains(&kind)
        };
        let all = trained(shape.name, bench.micro_batches);
        for trained in all.into_iter().filter(is_wanted) {
            rows.extend(of_shape(bench, &shape, &trained)?);
        }
    }
    Ok(Found {
        figures: json!(rows),
        right: true,
    })
}

fn of_shape(bench: &mut Bench<'_>, shape: &Shape, trained: &Trained) -> Result<Vec<Value>> {
    let roof = bench.product_roof()?;
    let dtype = bench.dtype();
    let name = format!("{} of {}", trained.what, shape.name);
    bench.output.step("Training", &name);
    let mut decoder = None;
    let mut rows = Vec::new();
    let lengths = match trained.optimizer {
        Placement::Device => lengths(bench.small),
        // A step takes seconds, and making the model a minute.
        Placement::Host => &lengths(bench.small)[lengths(bench.small).len() - 1..],
    };
    for &tokens in lengths {
        let settings = settings(trained, tokens);
        let planned = planned(&shape.config, &settings, dtype, tokens);
        let [on_card, on_host] = [Place::Device, Place::Host].map(|place| planned.bytes(place));
        let mut row = json!({
            "shape": shape.name,
            "trained": trained.what,
            "optimizer": trained.optimizer,
            "moments": trained.moments,
            "dropout": trained.lora.as_ref().map(|lora| lora.dropout),
            "micro_batches": trained.micro_batches,
            "dtype": dtype,
            "tokens": tokens,
            "recompute": "blocks",
            "planned_bytes": on_card,
            "planned_host_bytes": on_host,
        });
        if let Some(reason) = too_large(bench, on_card, on_host) {
            bench
                .output
                .step("Left out", &format!("{tokens} tokens a step: {reason}"));
            row["left_out"] = json!(reason);
            rows.push(row);
            continue;
        }
        let started = match decoder.take() {
            Some(decoder) => decoder,
            None => {
                let began = Instant::now();
                let fresh = noise(&shape.config, dtype, &bench.device.clone().autodiff());
                let seconds = began.elapsed().as_secs_f64();
                bench
                    .output
                    .step("Made", &format!("noise of its size: {seconds:.1} s"));
                match &trained.lora {
                    Some(lora) => fresh.with_fresh_adapters(lora, 1),
                    None => fresh,
                }
            }
        };
        // What earlier lengths have left is not this one's.
        bench.device.memory_cleanup();
        let (after, reports) = run(bench, started, &settings, dtype, tokens)?;
        decoder = Some(match trained.micro_batches {
            1 => run(bench, after, &twice(&settings), dtype, tokens)?.0,
            _ => after,
        });
        let timed = reports.get(warm_up(trained)..).unwrap_or_default();
        let [first, ..] = timed else {
            return Err(anyhow!("fewer steps were taken than asked for"));
        };
        let mut seconds: Vec<f64> = timed.iter().map(|step| step.seconds).collect();
        let [_, seconds, _] = spread(&mut seconds);
        let (rate, losses) = (
            first.tokens as f64 / seconds,
            reports.iter().map(|step| step.loss).collect::<Vec<_>>(),
        );
        let share = first.model_flops / seconds / roof;
        let reserved = memory::of_device(&bench.device);
        bench.output.step(
            "Trained",
            &format!(
                "{} x {tokens} tokens a step: {rate:.0} tokens/s, {:.1}% of products, {:.1} GB planned{}, losses \
                 {losses:?}",
                trained.micro_batches,
                100.0 * share,
                on_card as f64 / 1e9,
                reserved.map_or_else(String::new, |memory| {
                    format!(", {:.1} reserved", memory.reserved as f64 / 1e9)
                }),
            ),
        );
        row["losses"] = json!(losses);
        let of_steps =
            |seconds: fn(&StepReport) -> f64| -> Vec<f64> { reports.iter().map(seconds).collect() };
        row["seconds"] = json!(of_steps(|step| step.seconds));
        row["update_seconds"] = json!(of_steps(|step| step.update_seconds));
        row["tokens_per_s"] = json!(rate);
        row["model_flops"] = json!(first.model_flops);
        row["mfu_of_measured_products"] = json!(share);
        row["memory"] = json!(reserved);
        rows.push(row);
    }
    Ok(rows)
}

/// What such a step is expected to need.
fn planned(
    config: &ModelConfig,
    settings: &TrainSettings,
    dtype: Dtype,
    tokens: usize,
) -> Forecast {
    let work = Work {
        steps: 1,
        tokens: tokens as u64,
        squares: (tokens * tokens) as u64,
    };
    train::forecast(config, settings, dtype, Computer::Card, &work)
}

/// Why a training is not begun, if it cannot fit.
fn too_large(bench: &Bench<'_>, on_card: u64, on_host: u64) -> Option<String> {
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let card = card_bytes(bench.spec);
    let host = memory::machine_bytes().map(|(_, free)| free);
    let over = |what: &str, needed: u64, there: Option<u64>| {
        let there = there.filter(|there| needed > *there)?;
        Some(format!(
            "{:.0} GB of the {:.0} of the {what}",
            gb(needed),
            gb(there)
        ))
    };
    over("card's memory", on_card, card).or_else(|| over("machine's memory", on_host, host))
}

/// Seconds of silence behind which a person is told how far a step is.
const SILENCE: f64 = 5.0;

/// Keeps what is said of steps, and tells of those that take long.
struct Reports<'a> {
    steps: Vec<StepReport>,
    /// When something was told.
    told: Instant,
    output: &'a mut Output,
}

impl Reports<'_> {
    fn tell(&mut self, verb: &str, what: &str) {
        self.told = Instant::now();
        self.output.step(verb, what);
    }
}

impl Watch for Reports<'_> {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Step(report) => {
                self.steps.push(*report);
                if report.seconds > SILENCE {
                    let what = format!(
                        "{} of {}: {:.1} s, the last {:.1} for the update",
                        report.step, report.of, report.seconds, report.update_seconds
                    );
                    self.tell("Step", &what);
                }
            }
            Event::MicroBatch { step, done, of } => {
                let silent = self.told.elapsed().as_secs_f64();
                if silent > SILENCE {
                    self.tell(
                        "Computed",
                        &format!(
                            "{done} of {of} micro-batches of step {step}, {silent:.1} s later"
                        ),
                    );
                }
            }
            _ => {}
        }
    }
}

/// Steps before time is taken: kernels are chosen and compiled in them.
fn warm_up(trained: &Trained) -> usize {
    match trained.optimizer {
        Placement::Device => 2,
        // Its micro-batches are many.
        Placement::Host => 1,
    }
}

/// Steps whose time is taken: more where a step is not the work of many seconds.
fn timed(trained: &Trained) -> usize {
    match trained.optimizer {
        Placement::Device => 5,
        Placement::Host => 2,
    }
}

fn settings(trained: &Trained, tokens: usize) -> TrainSettings {
    TrainSettings {
        epochs: None,
        steps: Some(warm_up(trained) + timed(trained)),
        tokens: None,
        samples_per_step: trained.micro_batches,
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
        optimizer: trained.optimizer,
        moments: trained.moments,
        sums: Placement::Device,
        lora: trained.lora.clone(),
        guard: None,
        held_out: None,
    }
}

/// A step of two micro-batches, which holds what any larger one does: the sums of gradients lie beside all that the
/// second one keeps, as planned. Those of a single micro-batch come as what is kept goes.
fn twice(settings: &TrainSettings) -> TrainSettings {
    TrainSettings {
        steps: Some(1),
        samples_per_step: 2,
        ..settings.clone()
    }
}

/// Takes the steps.
fn run(
    bench: &mut Bench<'_>,
    decoder: Decoder,
    settings: &TrainSettings,
    dtype: Dtype,
    tokens: usize,
) -> Result<(Decoder, Vec<StepReport>)> {
    let samples: Vec<Sample> = (0..settings.steps.unwrap_or(1) * settings.samples_per_step)
        .map(|seed| document(tokens, seed, decoder.config()))
        .collect();
    let nowhere = Path::new("");
    let job = Job {
        settings,
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
    let mut reports = Reports {
        steps: Vec::new(),
        told: Instant::now(),
        output: bench.output,
    };
    let decoder = train::steps(&job, decoder, &mut reports)?;
    Ok((decoder, reports.steps))
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
