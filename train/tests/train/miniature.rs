//! A tiny model, samples and job for tests.

use std::path::{Path, PathBuf};

use model::config::{Architecture, ModelConfig};
use model::device::{Device, DeviceSpec, Dtype};
use model::lineage::Lineage;
use protocol::{Sample, SampleSpan, SpanKind, Stream};
use train::{
    ClipNorm, DecayOn, Event, Interrupter, Job, Outcome, Placement, Precision, Recompute,
    Rehearsal, Schedule, Start, TrainError, TrainOn, TrainSettings, Watch, train,
};

/// Rows of the miniature's embedding.
pub(crate) const VOCABULARY: u32 = 48;
/// What the samples call their tokenizer.
pub(crate) const TOKENIZER: &str = "miniature";
/// The id that ends a text.
pub(crate) const END: u32 = 2;

/// Settings to be changed by each test.
pub(crate) fn settings() -> TrainSettings {
    TrainSettings {
        epochs: None,
        steps: Some(20),
        tokens: None,
        samples_per_step: 4,
        tokens_per_micro_batch: 64,
        max_tokens: 64,
        lr: 3e-3,
        schedule: Schedule::Cosine,
        warmup: 0.1,
        min_lr_ratio: 0.1,
        weight_decay: 0.1,
        decay_on: DecayOn::Matrices,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        clip_norm: ClipNorm::At(1.0),
        train_on: TrainOn::Own,
        save_every_steps: 0,
        keep: 2,
        recompute: Recompute::None,
        optimizer: Placement::Host,
        sums: Placement::Device,
        moments: Precision::F32,
        lora: None,
        guard: None,
        held_out: None,
    }
}

/// Two layers with grouped queries, biases and an output projection of its own.
pub(crate) fn config() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen2,
        vocab_size: VOCABULARY as usize,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 128,
        tie_word_embeddings: false,
        attention_bias: true,
        qk_norm: false,
        bos_token_id: None,
        eos_token_id: vec![END],
        initializer_range: 0.1,
    }
}

/// A sample of these spans.
pub(crate) fn sample(id: &str, spans: &[(SpanKind, &[u32])]) -> Sample {
    Sample {
        version: Sample::VERSION,
        id: id.to_owned(),
        problem: id.to_owned(),
        tokenizer: TOKENIZER.to_owned(),
        spans: spans
            .iter()
            .map(|(kind, ids)| SampleSpan {
                kind: *kind,
                ids: ids.to_vec(),
            })
            .collect(),
    }
}

/// `count` samples of different lengths with all kinds of spans.
pub(crate) fn samples(count: usize) -> Vec<Sample> {
    let make = |index: usize| {
        let stream = Stream::of_run(7).indexed(index as u64);
        let mut position = 0;
        let mut ids = |least: usize, most: usize| -> Vec<u32> {
            position += 1000;
            let length = least + stream.below(position, most - least + 1);
            let id = |n: usize| 3 + stream.below(position + 1 + n as u64, 45) as u32;
            (0..length).map(id).collect()
        };
        let (prompt, thought) = (ids(2, 6), ids(3, 12));
        let (trigger, summary, comment) = (ids(2, 2), ids(2, 5), ids(3, 8));
        let mut answer = ids(1, 4);
        answer.push(END);
        let spans: [(SpanKind, &[u32]); 6] = [
            (SpanKind::Prompt, &prompt),
            (SpanKind::Thought, &thought),
            (SpanKind::Trigger, &trigger),
            (SpanKind::Summary, &summary),
            (SpanKind::Comment, &comment),
            (SpanKind::Answer, &answer),
        ];
        sample(&format!("s{index}"), &spans)
    };
    (0..count).map(make).collect()
}

/// The processor.
pub(crate) fn device() -> Device {
    DeviceSpec::Cpu
        .open()
        .expect("the processor is always there")
}

/// Where a test's training reads and writes.
pub(crate) struct Place {
    folder: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    /// A folder that goes with it.
    pub(crate) fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let place = Self {
            folder: temporary.path().to_owned(),
            _temporary: Some(temporary),
        };
        tokenizer_files(&place.path("tokenizer"));
        place
    }

    /// A folder that stays.
    pub(crate) fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            _temporary: None,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The bytes of the final checkpoint, file by file.
    pub(crate) fn checkpoint(&self) -> Files {
        files(&self.path("out"))
    }

    /// Names of the saved states.
    pub(crate) fn states(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path("state")) else {
            return Vec::new();
        };
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a plain name")
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }
}

/// What the checkpoints of tests say they are made from.
pub(crate) fn lineage() -> Lineage {
    Lineage {
        samples: "samples of a test".to_owned(),
        ..Lineage::default()
    }
}

/// All files of a folder with their bytes, by name.
pub(crate) fn files(folder: &Path) -> Files {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            (name, std::fs::read(&path).expect("a readable file"))
        })
        .collect();
    files.sort();
    files
}

/// A training of the miniature, to be changed by each test.
pub(crate) struct Training {
    pub(crate) settings: TrainSettings,
    pub(crate) samples: Vec<Sample>,
    pub(crate) start: Start,
    pub(crate) seed: u64,
    pub(crate) dtype: Dtype,
    pub(crate) held_out: Vec<Sample>,
    pub(crate) rehearsal: Rehearsal,
}

impl Training {
    pub(crate) fn new(settings: TrainSettings) -> Self {
        let start = Start::FromScratch {
            config: Box::new(config()),
            seed: 5,
        };
        Self {
            settings,
            samples: samples(10),
            start,
            seed: 11,
            dtype: Dtype::F32,
            held_out: Vec::new(),
            rehearsal: Rehearsal::None,
        }
    }

    /// Runs it at `place`; `hear` may ask for a stop.
    pub(crate) fn run(
        &self,
        place: &Place,
        mut hear: impl FnMut(&Event, &Interrupter),
    ) -> Result<Outcome, TrainError> {
        struct Ear<'a>(&'a mut dyn FnMut(&Event, &Interrupter), &'a Interrupter);
        impl Watch for Ear<'_> {
            fn event(&mut self, event: &Event) {
                (self.0)(event, self.1);
            }
        }
        let stop = Interrupter::new();
        self.watched(place, &stop, &mut Ear(&mut hear, &stop))
    }

    /// Runs it at `place` before the eyes of `watch`.
    pub(crate) fn watched(
        &self,
        place: &Place,
        stop: &Interrupter,
        watch: &mut dyn Watch,
    ) -> Result<Outcome, TrainError> {
        let lineage = lineage();
        let job = Job {
            settings: &self.settings,
            start: self.start.clone(),
            dtype: self.dtype,
            samples: &self.samples,
            held_out: &self.held_out,
            seed: self.seed,
            tokenizer_hash: TOKENIZER,
            bos: Some(1),
            files_from: &place.path("tokenizer"),
            out: &place.path("out"),
            state: &place.path("state"),
            device: &device(),
            lineage: &lineage,
            rehearsal: self.rehearsal,
            card: None,
            stop,
        };
        train(&job, watch)
    }

    /// Runs it to its end and returns what it told.
    #[track_caller]
    pub(crate) fn finish(&self, place: &Place) -> Vec<Event> {
        let mut events = Vec::new();
        let outcome = self
            .run(place, |event, _| events.push(event.clone()))
            .expect("it trains");
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        events
    }
}

/// Step, loss and gradient norm.
pub(crate) type Curve = Vec<(usize, u64, u64)>;

/// Files with their bytes.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// Losses and gradient norms by step, as bits, so that NaN equals itself and 0 is not -0.
pub(crate) fn curve(events: &[Event]) -> Curve {
    let step = |event: &Event| match event {
        Event::Step(step) => Some((step.step, step.loss.to_bits(), step.grad_norm.to_bits())),
        _ => None,
    };
    events.iter().filter_map(step).collect()
}

/// Stands in for the files of a tokenizer: training copies them unread.
fn tokenizer_files(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(folder.join("tokenizer.json"), "{}\n").expect("a file");
    std::fs::write(folder.join("tokenizer_config.json"), "{}\n").expect("a file");
}
