//! Tokens per second of whole optimizer steps, and the most memory they held.

use anyhow::Result;
use model::config::ModelConfig;
use model::device::DeviceSpec;
use model::lineage::Lineage;
use model::memory;
use protocol::{Sample, SampleSpan, SpanKind, Vocab};
use serde_json::{Value, json};
use train::{
    ClipNorm, DecayOn, Event, Interrupter, Job, Placement, Precision, Recompute, Rehearsal,
    Schedule, Start, TrainOn, TrainSettings, Watch,
};

use super::{ids, machine, spread, vocab};
use crate::cli::{BenchRecompute, BenchTrain};
use crate::fault::Fault;
use crate::{devices, road};

/// Lengths of packed samples, as eighths of a row; together they fill seven rows.
const EIGHTHS: [usize; 16] = [8, 1, 3, 2, 6, 4, 4, 5, 3, 7, 1, 2, 1, 5, 3, 1];

pub(super) fn run(args: &BenchTrain) -> Result<Value> {
    if args.tokens < 16 || args.rows == 0 {
        return Err(Fault::new(
            "there is nothing to measure",
            "`--tokens` must be at least 16 and `--rows` at least 1",
        )
        .into());
    }
    let vocab = vocab(&args.model)?;
    let folder = road::model_folder(&args.model.checkpoint)?;
    let config = ModelConfig::read(&folder)?;
    let spec: DeviceSpec = args.model.device.parse()?;
    let device = spec.open()?;
    let samples = samples(args, config.vocab_size, vocab.hash());
    let settings = settings(args, samples.len());
    let scratch = tempfile::tempdir()?;
    let mut clock = Clock::default();
    train::train(
        &Job {
            settings: &settings,
            start: Start::Checkpoint(folder.clone()),
            dtype: devices::dtype(args.model.dtype.map(Into::into), &device),
            samples: &samples,
            held_out: &[],
            seed: 1,
            tokenizer_hash: vocab.hash(),
            bos: None,
            files_from: &folder,
            out: &scratch.path().join("checkpoint"),
            state: &scratch.path().join("state"),
            device: &device,
            lineage: &Lineage::default(),
            rehearsal: Rehearsal::None,
            card: None,
            stop: &Interrupter::new(),
        },
        &mut clock,
    )?;
    // The first step packs weights, makes moments and warms caches.
    let mut seconds = clock.seconds.split_off(1);
    let [least, middle, most] = spread(&mut seconds);
    let rate = |seconds: f64| clock.tokens as f64 / seconds;
    Ok(json!({
        "bench": "train",
        "machine": machine(&args.model),
        "tokens": args.tokens,
        "samples_per_step": samples.len(),
        "tokens_per_step": clock.tokens,
        "micro_batches": clock.micro_batches,
        "ragged": args.ragged,
        "recompute": settings.recompute,
        "tokens_per_s_best": rate(least),
        "tokens_per_s_median": rate(middle),
        "tokens_per_s_worst": rate(most),
        "peak_bytes_of_steps": clock.peak_bytes,
        "last_loss": clock.loss,
    }))
}

/// The samples of one step; every step has the same ones.
fn samples(args: &BenchTrain, vocabulary: usize, tokenizer: &str) -> Vec<Sample> {
    let lengths: Vec<usize> = match args.ragged {
        true => {
            let eighth = args.tokens / 8;
            EIGHTHS
                .into_iter()
                .cycle()
                .take(EIGHTHS.len() * args.rows)
                .map(|eighths| eighths * eighth)
                .collect()
        }
        false => vec![args.tokens; args.rows],
    };
    let of = |(row, tokens): (usize, usize)| Sample {
        version: Sample::VERSION,
        id: format!("noise#{row}.0"),
        problem: format!("noise-{row}"),
        tokenizer: tokenizer.to_owned(),
        spans: vec![SampleSpan {
            kind: SpanKind::Thought,
            ids: ids(row, tokens, vocabulary),
        }],
    };
    lengths.into_iter().enumerate().map(of).collect()
}

fn settings(args: &BenchTrain, samples_per_step: usize) -> TrainSettings {
    TrainSettings {
        epochs: None,
        steps: Some(args.model.repeat + 1),
        tokens: None,
        samples_per_step,
        tokens_per_micro_batch: args.tokens,
        max_tokens: args.tokens,
        lr: 1e-5,
        schedule: Schedule::Constant,
        warmup: 0.0,
        min_lr_ratio: 0.0,
        weight_decay: 1e-4,
        decay_on: DecayOn::Matrices,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        clip_norm: ClipNorm::At(1.0),
        train_on: TrainOn::Own,
        save_every_steps: 0,
        keep: 1,
        recompute: match args.recompute {
            BenchRecompute::None => Recompute::None,
            BenchRecompute::Blocks => Recompute::Blocks,
        },
        optimizer: Placement::Host,
        sums: Placement::Device,
        moments: Precision::F32,
        lora: None,
        guard: None,
        held_out: None,
    }
}

/// Keeps what each step tells.
#[derive(Default)]
struct Clock {
    seconds: Vec<f64>,
    tokens: u64,
    micro_batches: usize,
    loss: f64,
    peak_bytes: Option<u64>,
}

impl Watch for Clock {
    fn event(&mut self, event: &Event) {
        match event {
            Event::MicroBatch { of, .. } => self.micro_batches = *of,
            Event::Step(step) => {
                self.seconds.push(step.seconds);
                self.tokens = step.tokens;
                self.loss = step.loss;
                // Before the checkpoint is written, which is not part of a step.
                self.peak_bytes = memory::peak_bytes();
            }
            _ => {}
        }
    }
}
