//! What a training really allocates beside what its forecast says, and beside what it allocates when it goes
//! on from a state or back to one, by a counting allocator.
//!
//! One test in a program of its own: nothing else allocates meanwhile.
#![recursion_limit = "256"]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::config::{Architecture, ModelConfig};
use model::decoder::Decoder;
use model::device::{DeviceSpec, Dtype};
use model::kv_cache::KvCache;
use model::lineage::Lineage;
use model::lora::{Linear, LoraSettings};
use model::step::Row;
use protocol::{Sample, SampleSpan, SpanKind};
use train::{
    Chosen, ClipNorm, Computer, DecayOn, Event, Guard, HeldOut, Interrupter, Job, Obedience,
    OnSpike, Outcome, Placement, Precision, Recompute, Rehearsal, Schedule, Start, TrainError,
    TrainOn, TrainSettings, Watch, Work, forecast, train,
};

/// The system's allocator, counted.
struct Counted;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

#[expect(
    unsafe_code,
    reason = "the interface of allocators; every call is passed on as it is"
)]
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the system's.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// Shapes of models, scaled down, and the tokens of a micro-batch.
fn shapes() -> Vec<(&'static str, ModelConfig, usize)> {
    let deep = ModelConfig {
        architecture: Architecture::Qwen2,
        vocab_size: 1024,
        hidden_size: 128,
        intermediate_size: 512,
        num_hidden_layers: 8,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 32,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 2048,
        tie_word_embeddings: false,
        attention_bias: true,
        qk_norm: false,
        bos_token_id: None,
        eos_token_id: vec![2],
        initializer_range: 0.02,
    };
    let vocabulary = ModelConfig {
        vocab_size: 8192,
        num_hidden_layers: 3,
        ..deep.clone()
    };
    let tied = ModelConfig {
        architecture: Architecture::Qwen3,
        tie_word_embeddings: true,
        attention_bias: false,
        qk_norm: true,
        vocab_size: 4096,
        num_hidden_layers: 4,
        ..deep.clone()
    };
    let wide = ModelConfig {
        architecture: Architecture::Llama,
        attention_bias: false,
        hidden_size: 256,
        intermediate_size: 768,
        num_attention_heads: 8,
        num_key_value_heads: 8,
        num_hidden_layers: 5,
        ..deep.clone()
    };
    vec![
        ("deep", deep, 768),
        ("vocabulary", vocabulary, 512),
        ("tied", tied, 512),
        ("wide", wide, 384),
    ]
}

fn lora(dropout: f64) -> LoraSettings {
    LoraSettings {
        rank: 16,
        alpha: 16.0,
        dropout,
        targets: Linear::ALL.to_vec(),
    }
}

fn settings(tokens: usize, recompute: Recompute, lora: Option<LoraSettings>) -> TrainSettings {
    TrainSettings {
        epochs: None,
        steps: Some(2),
        tokens: None,
        // A micro-batch each.
        samples_per_step: 2,
        tokens_per_micro_batch: tokens,
        max_tokens: tokens,
        lr: 1e-4,
        schedule: Schedule::Constant,
        warmup: 0.0,
        min_lr_ratio: 0.0,
        weight_decay: 0.0,
        decay_on: DecayOn::Matrices,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        clip_norm: ClipNorm::None,
        train_on: TrainOn::Own,
        save_every_steps: 0,
        keep: 1,
        recompute,
        optimizer: Placement::Host,
        sums: Placement::Device,
        moments: Precision::F32,
        lora,
        guard: None,
        held_out: None,
    }
}

fn samples(tokens: usize, first: u32) -> Vec<Sample> {
    let sample = |number: u32| Sample {
        version: Sample::VERSION,
        id: number.to_string(),
        problem: number.to_string(),
        tokenizer: "none".to_owned(),
        spans: vec![SampleSpan {
            kind: SpanKind::Thought,
            ids: (0..tokens as u32)
                .map(|n| (n * 7 + number) % 1000)
                .collect(),
        }],
    };
    (first..first + 2).map(sample).collect()
}

/// Hears what is held, and has the model write.
#[derive(Default)]
struct Held {
    /// Of a step, the micro-batch behind which a stop is asked for.
    stop_at: Option<(usize, usize)>,
    stop: Option<Interrupter>,
    /// At most, until it was ready for the first step.
    at_begin: usize,
    /// At most, from then on until all was done.
    at_end: usize,
    /// Before the first step: weights and moments.
    at_first: usize,
    /// At most, until the last step was done.
    at_most: usize,
    /// After each step, when the next one begins.
    after_steps: Vec<usize>,
}

impl Watch for Held {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Started(_) => {
                self.at_begin = PEAK.load(Ordering::Relaxed);
                self.at_first = live();
                PEAK.store(live(), Ordering::Relaxed);
            }
            Event::Step(_) => {
                self.at_most = PEAK.load(Ordering::Relaxed);
                self.after_steps.push(live());
            }
            Event::MicroBatch { step, done, .. } if self.stop_at == Some((*step, *done)) => {
                self.stop.iter().for_each(|stop| stop.stop(None));
            }
            _ => {}
        }
    }

    fn obedience(&mut self, step: usize, decoder: &dyn Fn() -> Decoder) -> Option<Obedience> {
        let decoder = decoder();
        let mut cache = KvCache::of(&decoder);
        let slot = cache.open();
        for id in 0..40_u32 {
            let row = Row { slot, ids: &[id] };
            drop(decoder.step(&[row], &mut cache));
        }
        Some(Obedience {
            step,
            paths: 1,
            summaries: 0,
            closed: 0,
            answered: 0,
        })
    }
}

/// Trains from scratch; returns what was heard, less what was held before.
fn run(config: &ModelConfig, tokens: usize, settings: &TrainSettings) -> Held {
    let place = tempfile::tempdir().expect("a folder");
    let (held, outcome) = run_at(place.path(), config, tokens, (settings, Dtype::F32), None);
    assert!(matches!(outcome, Ok(Outcome::Done { .. })), "{outcome:?}");
    held
}

/// Trains from scratch or goes on with what is at `place`; a stop is asked for behind a micro-batch of a
/// step, or none.
fn run_at(
    place: &Path,
    config: &ModelConfig,
    tokens: usize,
    (settings, dtype): (&TrainSettings, Dtype),
    stop_at: Option<(usize, usize)>,
) -> (Held, Result<Outcome, TrainError>) {
    let empty = place.join("empty");
    std::fs::create_dir_all(&empty).expect("a folder");
    let device = DeviceSpec::Cpu.open().expect("a processor");
    let samples = [samples(tokens, 0), samples(tokens, 2)];
    let held_out = match settings.held_out {
        Some(_) => samples[1].as_slice(),
        None => &[],
    };
    let (stop, lineage) = (Interrupter::new(), Lineage::default());
    model::memory::release();
    let before = live();
    PEAK.store(before, Ordering::Relaxed);
    let job = Job {
        settings,
        start: Start::FromScratch {
            config: Box::new(config.clone()),
            seed: 1,
        },
        dtype,
        samples: &samples[0],
        held_out,
        seed: 1,
        tokenizer_hash: "none",
        bos: None,
        files_from: &empty,
        out: &place.join("out"),
        state: &place.join("state"),
        device: &device,
        lineage: &lineage,
        rehearsal: Rehearsal::None,
        card: None,
        stop: &stop,
    };
    let mut held = Held {
        stop_at,
        stop: Some(stop.clone()),
        ..Held::default()
    };
    let outcome = train(&job, &mut held);
    let held = Held {
        stop_at,
        stop: None,
        at_begin: held.at_begin - before,
        at_end: PEAK.load(Ordering::Relaxed) - before,
        at_first: held.at_first - before,
        at_most: held.at_most - before,
        after_steps: held.after_steps.iter().map(|held| held - before).collect(),
    };
    (held, outcome)
}

/// What does not agree.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn check_near(&mut self, what: &str, measured: usize, planned: u64, tolerance: f64) {
        let ratio = planned as f64 / measured as f64;
        if (ratio - 1.0).abs() > tolerance {
            self.0.push(format!(
                "{what}: {planned} bytes planned, {measured} measured, ratio {ratio:.3}"
            ));
        }
    }
}

fn forecasts() -> Differences {
    let mut differences = Differences::default();
    for (name, config, tokens) in shapes() {
        for (adapters, lora) in [
            ("weights", None),
            ("adapters", Some(lora(0.0))),
            ("adapters with dropout", Some(lora(0.1))),
        ] {
            for recompute in [Recompute::None, Recompute::Blocks] {
                let settings = settings(tokens, recompute, lora.clone());
                let work = Work {
                    steps: 1,
                    tokens: 1,
                    squares: 1,
                };
                let found = forecast(&config, &settings, Dtype::F32, Computer::Cpu, &work);
                let bytes = |kept: bool| {
                    let of_training = ["weights", "adapters", "moments"];
                    let parts = found.parts.iter();
                    let parts = parts.filter(|part| !kept || of_training.contains(&part.what));
                    parts.map(|part| part.bytes).sum::<u64>()
                };
                let held = run(&config, tokens, &settings);
                let what = format!("{name}, {adapters}, {recompute:?}");
                differences.check_near(&format!("{what}, kept"), held.at_first, bytes(true), 0.05);
                differences.check_near(
                    &format!("{what}, in all"),
                    held.at_most,
                    bytes(false),
                    0.05,
                );
            }
        }
    }
    differences
}

/// What is held after a step grows over no later one, looks and writing included.
fn growth() -> Differences {
    let mut differences = Differences::default();
    let (_, config, _) = shapes().remove(3);
    let tokens = 128;
    for (lora, recompute) in [
        (None, Recompute::None),
        (Some(lora(0.1)), Recompute::None),
        (None, Recompute::Blocks),
    ] {
        let settings = TrainSettings {
            steps: Some(12),
            save_every_steps: 3,
            held_out: Some(HeldOut {
                every_steps: 2,
                patience: 0,
                checkpoint: Chosen::Last,
            }),
            ..settings(tokens, recompute, lora.clone())
        };
        let held = run(&config, tokens, &settings).after_steps;
        // The first rounds fill what is kept to be used again; the lists of losses grow a little.
        let most = |steps: &[usize]| steps.iter().max().copied().expect("there are steps");
        if most(&held[8..]) > most(&held[4..8]) + 4096 {
            let what = format!("{lora:?} {recompute:?}: {held:?}");
            differences.0.push(what);
        }
    }
    differences
}

/// Who goes on from a state, or back to one, holds no more than who does not: about as much as a step and two
/// tensors.
fn going_on() -> Differences {
    let mut differences = Differences::default();
    let (_, config, _) = shapes().remove(0);
    let tokens = 64;
    let mut check = |what: String, held: &Held, undisturbed: &Held| {
        let most = |held: &Held| held.at_begin.max(held.at_end);
        let ratio = most(held) as f64 / most(undisturbed) as f64;
        if ratio > 1.15 {
            let (held, undisturbed) = (most(held), most(undisturbed));
            let text = format!("{what}: {held} bytes, undisturbed {undisturbed}, ratio {ratio:.3}");
            differences.0.push(text);
        }
    };
    for (dtype, moments) in [
        (Dtype::F32, Precision::F32),
        (Dtype::F32, Precision::EightBit),
        (Dtype::Bf16, Precision::F32),
    ] {
        let settings = TrainSettings {
            steps: Some(4),
            moments,
            ..settings(tokens, Recompute::Blocks, None)
        };
        let run = |place: &Path, stop| run_at(place, &config, tokens, (&settings, dtype), stop).0;
        let place = tempfile::tempdir().expect("a folder");
        let undisturbed = run(place.path(), None);
        // At the border of two steps, and within one.
        for stop in [(2, 2), (2, 1)] {
            let what = format!("{dtype}, {moments:?}, going on from {stop:?}");
            let place = tempfile::tempdir().expect("a folder");
            run(place.path(), Some(stop));
            check(what, &run(place.path(), None), &undisturbed);
        }
        // The first update breaks all weights, so that the second step goes back to the first weights, whether
        // a state was saved behind it or not; and so do others until it may not.
        for anchor_every_steps in [1, 100] {
            let settings = TrainSettings {
                lr: 1e30,
                steps: Some(9),
                guard: Some(Guard {
                    spike: 5.0,
                    then: OnSpike::RollBack,
                    anchor_every_steps,
                    most: 2,
                }),
                ..settings.clone()
            };
            let place = tempfile::tempdir().expect("a folder");
            let (held, outcome) = run_at(place.path(), &config, tokens, (&settings, dtype), None);
            assert!(
                matches!(outcome, Err(TrainError::NotFinite { .. })),
                "{outcome:?}"
            );
            let what = format!("{dtype}, {moments:?}, anchors each {anchor_every_steps}");
            check(what, &held, &undisturbed);
        }
    }
    differences
}

#[test]
fn a_step_holds_what_was_planned_and_none_holds_more_than_those_before() {
    for differences in [going_on(), forecasts(), growth()] {
        assert!(differences.0.is_empty(), "{}", differences.0.join("\n"));
    }
}
