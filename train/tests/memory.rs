//! What a training really allocates beside what its forecast says, by a counting allocator.
//!
//! One test in a program of its own: nothing else allocates meanwhile.
#![recursion_limit = "256"]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use model::checkpoint::tensors;
use model::config::{Architecture, ModelConfig};
use model::decoder::Decoder;
use model::device::{DeviceSpec, Dtype};
use model::lineage::Lineage;
use protocol::{Sample, SampleSpan, SpanKind};
use train::{
    ClipNorm, Computer, DecayOn, Event, Interrupter, Job, Outcome, Placement, Precision, Recompute,
    Rehearsal, Schedule, Start, TrainOn, TrainSettings, Watch, Work, forecast,
    loss_and_gradients_with, train,
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

/// What is held at most while `work` works.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    PEAK.store(live(), Ordering::Relaxed);
    let result = work();
    (result, PEAK.load(Ordering::Relaxed))
}

/// A model as deep as it is wide, scaled down.
fn config() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen2,
        vocab_size: 1024,
        hidden_size: 128,
        intermediate_size: 512,
        num_hidden_layers: 10,
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
    }
}

const TOKENS: usize = 1536;

fn settings(recompute: Recompute) -> TrainSettings {
    TrainSettings {
        epochs: None,
        steps: Some(2),
        tokens: None,
        samples_per_step: 2,
        tokens_per_micro_batch: TOKENS,
        max_tokens: TOKENS,
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
        lora: None,
        guard: None,
        held_out: None,
    }
}

fn samples() -> Vec<Sample> {
    let sample = |number: u32| Sample {
        version: Sample::VERSION,
        id: number.to_string(),
        problem: number.to_string(),
        tokenizer: "none".to_owned(),
        spans: vec![SampleSpan {
            kind: SpanKind::Thought,
            ids: (0..TOKENS as u32)
                .map(|n| (n * 7 + number) % 1000)
                .collect(),
        }],
    };
    (0..2).map(sample).collect()
}

/// The bytes of the parts of the forecast with these names.
fn planned(recompute: Recompute, names: &[&str]) -> usize {
    let work = Work {
        steps: 1,
        tokens: 1,
        squares: 1,
    };
    let settings = settings(recompute);
    let found = forecast(&config(), &settings, Dtype::F32, Computer::Cpu, &work);
    let parts = found.parts.iter().filter(|part| names.contains(&part.what));
    parts.map(|part| part.bytes as usize).sum()
}

/// What does not agree.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn check_near(&mut self, what: &str, measured: usize, planned: usize, tolerance: f64) {
        let ratio = planned as f64 / measured as f64;
        if (ratio - 1.0).abs() > tolerance {
            self.0.push(format!(
                "{what}: {planned} bytes planned, {measured} measured, ratio {ratio:.3}"
            ));
        }
    }
}

/// What a step holds beside weights, moments and sums.
const PASSES: [&str; 6] = [
    "gradients",
    "inputs of layers",
    "saved for the backward pass",
    "backward pass of a layer",
    "logits",
    "packed weights",
];

/// Hears what is held before the first step.
#[derive(Default)]
struct Held(usize);

impl Watch for Held {
    fn event(&mut self, event: &Event) {
        if let Event::Started(_) = event {
            self.0 = live();
        }
    }
}

#[test]
fn a_step_holds_what_was_planned() {
    let mut differences = Differences::default();
    let device = DeviceSpec::Cpu.open().expect("a processor");
    let elements: usize = tensors(&config())
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    let before = live();
    let decoder = Decoder::init(&config(), 1, &device.clone().autodiff());
    let weights = live() - before;
    let names = ["weights"];
    differences.check_near("weights", weights, planned(Recompute::None, &names), 0.03);
    assert_eq!(planned(Recompute::None, &names), 4 * elements);

    // One micro-batch: what it keeps, and the sums that it is added to.
    let one = &samples()[..1];
    let held = live();
    let peak = |recompute| {
        let work = || loss_and_gradients_with(&decoder, one, &TrainOn::Own, TOKENS, recompute);
        let (found, peak) = peak_of(work);
        assert!(found.loss.is_finite());
        peak - held
    };
    // Memory of results is kept for the next pass, so the smaller one comes first.
    let (blocks, whole) = (peak(Recompute::Blocks), peak(Recompute::None));
    let sums = 4 * elements;
    for (what, measured, recompute) in [
        ("blocks", blocks, Recompute::Blocks),
        ("whole", whole, Recompute::None),
    ] {
        differences.check_near(what, measured, planned(recompute, &PASSES) + sums, 0.1);
    }
    assert!(2 * blocks < whole, "{blocks} {whole}");

    // A whole training: before its first step there are weights and moments.
    let place = tempfile::tempdir().expect("a folder");
    let empty = place.path().join("empty");
    std::fs::create_dir(&empty).expect("a folder");
    let (settings, samples) = (settings(Recompute::Blocks), samples());
    let (stop, lineage) = (Interrupter::new(), Lineage::default());
    drop(decoder);
    let before = live();
    let job = Job {
        settings: &settings,
        start: Start::FromScratch {
            config: Box::new(config()),
            seed: 1,
        },
        dtype: Dtype::F32,
        samples: &samples,
        held_out: &[],
        seed: 1,
        tokenizer_hash: "none",
        bos: None,
        files_from: &empty,
        out: &place.path().join("out"),
        state: &place.path().join("state"),
        device: &device,
        lineage: &lineage,
        rehearsal: Rehearsal::None,
        card: None,
        stop: &stop,
    };
    let mut held = Held::default();
    let outcome = train(&job, &mut held).expect("it trains");
    assert!(matches!(outcome, Outcome::Done { steps: 2, .. }));
    let names = ["weights", "moments"];
    let kept = planned(Recompute::Blocks, &names);
    assert_eq!(kept, (4 + 8) * elements);
    differences.check_near("kept", held.0 - before, kept, 0.03);
    assert!(differences.0.is_empty(), "{}", differences.0.join("\n"));
}
