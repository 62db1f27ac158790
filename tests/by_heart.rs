//! What was trained is what is generated: a checkpoint of eight samples learned by heart writes them
//! down, and stops by itself.

mod bench;

use std::path::Path;

use bench::Bench;
use infer::engine::Engine;
use infer::local::{LocalEngine, LocalSettings};
use model::checkpoint;
use model::config::{Architecture, ModelConfig};
use model::device::{DeviceSpec, Dtype};
use model::lineage::Lineage;
use protocol::{
    ByteVocab, Finish, PathKey, Request, Sample, SampleSpan, Sampling, SpanKind, Stop, Stream,
    Vocab,
};
use train::{
    ClipNorm, DecayOn, Interrupter, Job, Outcome, Placement, Precision, Recompute, Rehearsal,
    Schedule, Start, TrainOn, TrainSettings, Watch,
};

fn config() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen2,
        vocab_size: 257,
        hidden_size: 64,
        intermediate_size: 96,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 128,
        tie_word_embeddings: true,
        attention_bias: true,
        qk_norm: false,
        bos_token_id: None,
        eos_token_id: vec![ByteVocab::EOS],
        initializer_range: 0.05,
    }
}

/// A question, and what follows it.
fn texts(number: usize) -> (String, String) {
    let (a, b) = (3 + 2 * number, 11 - number);
    let question = format!("{a} times {b}? <think>");
    (
        question,
        format!("{a} * {b} = {}</think>It is {}.", a * b, a * b),
    )
}

fn sample(number: usize) -> Sample {
    let (question, answer) = texts(number);
    let mut ids = ByteVocab.encode(&answer);
    ids.push(ByteVocab::EOS);
    let span = |kind, ids| SampleSpan { kind, ids };
    Sample {
        version: Sample::VERSION,
        id: format!("{number}#0.0"),
        problem: number.to_string(),
        tokenizer: "bytes".to_owned(),
        spans: vec![
            span(SpanKind::Prompt, ByteVocab.encode(&question)),
            span(SpanKind::Thought, ids),
        ],
    }
}

struct Silent;

impl Watch for Silent {
    fn event(&mut self, _: &train::Event) {}
}

/// Trains on the samples until they are known, and writes the checkpoint to `out`.
fn learn(samples: &[Sample], files_from: &Path, out: &Path) {
    let settings = TrainSettings {
        epochs: None,
        steps: Some(150),
        tokens: None,
        samples_per_step: samples.len(),
        tokens_per_micro_batch: 512,
        max_tokens: 128,
        lr: 1e-2,
        schedule: Schedule::Cosine,
        warmup: 0.05,
        min_lr_ratio: 0.0,
        weight_decay: 0.0,
        decay_on: DecayOn::Matrices,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        clip_norm: ClipNorm::At(1.0),
        train_on: TrainOn::Own,
        save_every_steps: 0,
        keep: 1,
        recompute: Recompute::None,
        optimizer: Placement::Host,
        sums: Placement::Device,
        moments: Precision::F32,
        lora: None,
        guard: None,
        held_out: None,
    };
    let job = Job {
        settings: &settings,
        start: Start::FromScratch {
            config: Box::new(config()),
            seed: 1,
        },
        dtype: Dtype::F32,
        samples,
        held_out: &[],
        seed: 2,
        tokenizer_hash: "bytes",
        bos: None,
        files_from,
        out,
        state: &out.with_extension("state"),
        device: &DeviceSpec::Cpu.open().expect("a processor"),
        lineage: &Lineage::default(),
        rehearsal: Rehearsal::None,
        card: None,
        stop: &Interrupter::new(),
    };
    let outcome = train::train(&job, &mut Silent).expect("it trains");
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
}

#[test]
fn what_was_learned_by_heart_is_written_down_to_its_end() {
    let bench = Bench::new();
    bench.byte_tokenizer();
    let samples: Vec<Sample> = (0..8).map(sample).collect();
    let out = bench.path("learned");
    learn(&samples, &bench.path("bytes"), &out);
    let device = DeviceSpec::Cpu.open().expect("a processor");
    let (_, decoder) = checkpoint::load(&out, &device, Dtype::F32).expect("it was written");
    let settings = LocalSettings {
        wave: 1,
        max_rows: 8,
        prefill_tokens: 512,
        kv_mib: 64,
    };
    let mut engine = LocalEngine::new(decoder, &ByteVocab, settings).expect("settings");
    for path in 0..8_u32 {
        engine.submit(Request {
            key: PathKey { group: 0, path },
            keep: 0,
            append: ByteVocab.encode(&texts(path as usize).0),
            sampling: Sampling {
                temperature: 0.0,
                top_k: 0,
                top_p: 1.0,
                min_p: 0.0,
            },
            stop: Stop {
                eos: vec![ByteVocab::EOS],
                ..Stop::default()
            },
            max_tokens: 64,
            logprobs: false,
            stream: Stream::of_run(3).indexed(path.into()),
        });
    }
    for _ in 0..8 {
        let said = engine.wait().expect("it computes").expect("one of eight");
        let number = said.key.path as usize;
        assert_eq!(said.finish, Finish::Eos, "{number}");
        assert_eq!(said.ids, samples[number].spans[1].ids, "{number}");
    }
}
