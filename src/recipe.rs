//! The recipe of a run: everything that can change a number, and nothing else.

mod student;

use std::path::PathBuf;

use anyhow::Context;
use data_gen::samples::Selection;
use data_gen::synthetic::{SearchFamily, SumFamily};
use infer::local::LocalSettings;
use infer::simulated::Simulation;
use model::config::{Architecture, ModelConfig};
use model::device::Dtype;
use protocol::preset::Preset;
use protocol::{
    Finished, Method, Moa, PromptSet, Router, Rules, Sampling, Settings, Similarity, Single,
};
use serde::{Deserialize, Serialize};
use train::TrainSettings;

pub(crate) use self::student::Student;
use crate::fault::Fault;
use crate::recipes::Gap;
use crate::train_recipe::check_training;

/// A recipe for `leap run`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunRecipe {
    /// What the recipe is for.
    pub(crate) job: Job,
    /// One line for the report.
    pub(crate) title: String,
    /// Seed of everything random.
    pub(crate) seed: u64,
    /// Where the base model comes from.
    pub(crate) model: Model,
    /// What is asked.
    pub(crate) problems: Problems,
    /// The sentences of the protocol.
    pub(crate) prompts: PromptSet,
    /// How the paths of a group think and exchange.
    pub(crate) protocol: Protocol,
    /// How the local engine batches; sums can depend on it.
    pub(crate) engine: LocalSettings,
    /// Who writes the traces.
    pub(crate) teacher: Teacher,
    /// The traces to write.
    pub(crate) traces: TraceSets,
    /// What is trained on.
    pub(crate) samples: Samples,
    /// The fine-tunings.
    pub(crate) train: Trainings,
    /// Fine-tunings besides, each with what differs from that of LeaP-T.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) students: Vec<Student>,
    /// The evaluation.
    pub(crate) eval: Eval,
}

/// What a recipe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Job {
    /// The whole road.
    Run,
    /// One fine-tuning: [`crate::train_recipe`].
    Train,
}

/// Where the base model comes from: a checkpoint folder, or nothing at all.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    /// Folder with config.json, tokenizer.json and safetensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Weights in memory.
    pub(crate) dtype: Dtype,
    /// A model to train from scratch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scratch: Option<Scratch>,
}

/// A Qwen2-architecture model and its tokenizer, trained from scratch on plain reasoning.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scratch {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) positions: usize,
    pub(crate) rope_theta: f64,
    pub(crate) initializer_range: f64,
    /// Groups of independent paths on each training problem that make the corpus.
    pub(crate) groups: u32,
    /// Shortest and longest thought budget in the corpus; drawn for each group.
    pub(crate) thought_tokens: [usize; 2],
    /// Share of the corpus groups on a problem with a narrower range, 0 to 1.
    pub(crate) narrowed: f64,
    /// Wrong and unfinished paths are part of the corpus, and so is what `samples` says.
    pub(crate) samples: Selection,
    pub(crate) train: TrainSettings,
}

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Problems {
    /// Problems that traces are written on.
    pub(crate) train: ProblemSet,
    /// Problems of the evaluation.
    pub(crate) test: ProblemSet,
    /// The synthetic family `search`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) search: Option<SearchFamily>,
    /// The synthetic family `sum`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sum: Option<SumFamily>,
}

/// Problems of one split: from a file, or `count` of the synthetic family.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProblemSet {
    /// A problems file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<PathBuf>,
    /// How many: of the family, or the first ones of the file (0 = all of the file).
    pub(crate) count: usize,
}

/// [`Settings`] without the method, which each stage names. Keys that a recipe leaves out come
/// from its preset: see [`crate::presets`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Protocol {
    pub(crate) preset: Preset,
    pub(crate) paths: usize,
    pub(crate) turn_tokens: usize,
    pub(crate) max_tokens: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) turns: Option<usize>,
    pub(crate) summary_tokens: usize,
    pub(crate) answer_tokens: usize,
    pub(crate) peers: usize,
    pub(crate) router: Router,
    pub(crate) similarity: Similarity,
    pub(crate) blocks: Vec<usize>,
    pub(crate) finished: Finished,
    pub(crate) rules: Rules,
    pub(crate) single: Single,
    pub(crate) moa: Moa,
    pub(crate) sampling: Sampling,
}

/// Who writes the traces.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Teacher {
    pub(crate) engine: TeacherEngine,
    /// Settings of the simulated reasoner; needed where it writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) simulated: Option<Simulation>,
    /// If fewer paths of the model's own are accepted, the simulated reasoner fills the set.
    pub(crate) fill_below: usize,
}

/// An engine that can be a teacher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TeacherEngine {
    /// The simulated reasoner.
    Simulated,
    /// The base model itself.
    Model,
}

/// The traces to write.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceSets {
    /// With exchange.
    pub(crate) leap: TraceSet,
    /// Without.
    pub(crate) control: TraceSet,
}

/// Groups on the training problems.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceSet {
    pub(crate) method: Method,
    /// Independent groups on each problem.
    pub(crate) groups: u32,
}

/// What is trained on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Samples {
    /// Which paths are kept, of both sets.
    pub(crate) select: Selection,
    /// Share of samples without exchange that is mixed into the LeaP-T set, 0 to below 1.
    pub(crate) plain_share: f64,
}

/// The fine-tunings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trainings {
    /// On traces with exchange.
    pub(crate) leap_t: TrainSettings,
    /// On traces without, with the same settings; absent = no control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) control: Option<TrainSettings>,
}

/// The evaluation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Eval {
    /// Independent groups on each problem.
    pub(crate) groups: u32,
    /// The rows of the table, in order; without any, the road ends with the fine-tunings.
    pub(crate) rows: Vec<Row>,
}

/// One row: a checkpoint and a method.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    /// Folder name under reports/.
    pub(crate) name: String,
    /// Name in the table.
    pub(crate) title: String,
    pub(crate) checkpoint: Trained,
    pub(crate) method: Method,
}

/// A checkpoint of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Trained {
    /// The model before fine-tuning.
    Base,
    /// Fine-tuned on traces without exchange.
    Control,
    /// Fine-tuned on traces with exchange.
    LeapT,
}

impl Trained {
    /// Folder name under checkpoints/.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Control => "control",
            Self::LeapT => "leap-t",
        }
    }
}

impl Scratch {
    /// The model's shape with a tokenizer of `vocab_size` ids, of which `eos` end a text.
    ///
    /// Heads are taken as at least 1, so that a recipe that has none reaches its check.
    pub(crate) fn config(&self, vocab_size: usize, eos: &[u32]) -> ModelConfig {
        ModelConfig {
            architecture: Architecture::Qwen2,
            vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            num_key_value_heads: self.kv_heads,
            head_dim: self.hidden_size / self.heads.max(1),
            rms_norm_eps: 1e-6,
            rope_theta: self.rope_theta,
            rope_scaling: None,
            max_position_embeddings: self.positions,
            tie_word_embeddings: true,
            attention_bias: true,
            qk_norm: false,
            bos_token_id: None,
            eos_token_id: eos.to_vec(),
            initializer_range: self.initializer_range,
        }
    }

    /// Checks what can be known before anything is computed.
    fn check(&self) -> anyhow::Result<()> {
        let fault = |message: &str, hint: &str| Err(Fault::new(message, hint).into());
        self.config(self.vocab_size, &[])
            .validate()
            .context("`model.scratch` describes no model")?;
        if !self.hidden_size.is_multiple_of(self.heads) {
            return fault(
                "`model.scratch.hidden_size` is no multiple of `model.scratch.heads`",
                "each head gets an equal part of the width",
            );
        }
        let [least, most] = self.thought_tokens;
        if least == 0 || least > most {
            return fault(
                "`model.scratch.thought_tokens` must be two numbers, the first at least 1 and not \
                 above the second",
                "[30, 230] draws budgets between 30 and 230 tokens",
            );
        }
        if self.groups == 0 || self.samples.per_problem == 0 {
            return fault(
                "the corpus of the base is empty",
                "`model.scratch.groups` and `model.scratch.samples.per_problem` must be at least 1",
            );
        }
        check_training(&self.train, "model.scratch.train")
    }
}

impl Protocol {
    /// The settings of a group that works by `method`.
    pub(crate) fn settings(&self, method: Method) -> Settings {
        Settings {
            method,
            paths: self.paths,
            turn_tokens: self.turn_tokens,
            max_tokens: self.max_tokens,
            turns: self.turns,
            summary_tokens: self.summary_tokens,
            answer_tokens: self.answer_tokens,
            peers: self.peers,
            router: self.router,
            similarity: self.similarity,
            blocks: self.blocks.clone(),
            finished: self.finished,
            rules: self.rules,
            single: self.single,
            moa: self.moa,
            sampling: self.sampling,
        }
    }
}

impl RunRecipe {
    /// Checks that it can be run: nothing in it is wrong, and nothing is left to the call.
    ///
    /// # Errors
    /// The first thing that cannot work, with what to do.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.check_parts()?;
        Gap::refuse(self.gaps())
    }

    /// What the recipe leaves to the call.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let (model, problems) = (&self.model, &self.problems);
        let family = problems.search.is_some() || problems.sum.is_some();
        let no_model = model.checkpoint.is_none() && model.scratch.is_none();
        let no_file = |set: &ProblemSet| set.file.is_none() && !family;
        let gaps = [
            no_model.then(|| Gap {
                message: "the recipe names no model".to_owned(),
                hint: "give a Hugging Face folder: model.checkpoint=DIR",
                argument: "model.checkpoint=DIR",
            }),
            no_file(&problems.train).then(|| Gap {
                message: "`problems.train` has no `file`, and the recipe has no problem family"
                    .to_owned(),
                hint: "give a file: problems.train.file=FILE",
                argument: "problems.train.file=FILE",
            }),
            no_file(&problems.test).then(|| Gap {
                message: "`problems.test` has no `file`, and the recipe has no problem family"
                    .to_owned(),
                hint: "give a file: problems.test.file=FILE",
                argument: "problems.test.file=FILE",
            }),
        ];
        gaps.into_iter().flatten().collect()
    }

    /// Checks what types cannot: combinations and ranges of what it names.
    ///
    /// # Errors
    /// The first thing that cannot work, with what to do.
    pub(crate) fn check_parts(&self) -> anyhow::Result<()> {
        let fault = |message: &str, hint: &str| Err(Fault::new(message, hint).into());
        if self.job != Job::Run {
            return fault(
                "the recipe is not one for `leap run`",
                "`leap train` takes recipes of a single fine-tuning",
            );
        }
        self.protocol.settings(Method::LeapT).check()?;
        self.prompts.check()?;
        self.engine.check()?;
        check_training(&self.train.leap_t, "train.leap_t")?;
        if let Some(control) = &self.train.control {
            check_training(control, "train.control")?;
        }
        for (index, student) in self.students.iter().enumerate() {
            student.check(self)?;
            if self.students[..index]
                .iter()
                .any(|other| other.name == student.name)
            {
                return fault(
                    &format!("two students are named `{}`", student.name),
                    "give each its own name",
                );
            }
        }
        if let Some(scratch) = &self.model.scratch {
            scratch.check()?;
        }
        if self.model.checkpoint.is_some() && self.model.scratch.is_some() {
            return fault(
                "the recipe has both `model.checkpoint` and `model.scratch`",
                "keep one: a model is read, and `model.scratch=` without a value leaves the other \
                 out, or it is trained from scratch",
            );
        }
        let simulated = self.teacher.simulated.is_some();
        let wants = self.teacher.engine == TeacherEngine::Simulated
            || self.teacher.fill_below > 0
            || self.model.scratch.is_some();
        if wants && !simulated {
            return fault(
                "the recipe needs the simulated reasoner, but has no table [teacher.simulated]",
                "copy the table from `leap recipe cat tiny`",
            );
        }
        if self.problems.search.is_some() && self.problems.sum.is_some() {
            return fault(
                "the recipe has two problem families",
                "keep one: `problems.search=` or `problems.sum=` without a value leaves it out",
            );
        }
        let family = self.problems.search.is_some() || self.problems.sum.is_some();
        for (name, set) in [
            ("train", &self.problems.train),
            ("test", &self.problems.test),
        ] {
            if set.file.is_none() && family && set.count == 0 {
                return fault(
                    &format!("`problems.{name}.count` is 0"),
                    "ask for at least one problem",
                );
            }
        }
        if self.traces.leap.groups == 0 || self.samples.select.per_problem == 0 {
            return fault(
                "there is nothing to train on",
                "`traces.leap.groups` and `samples.select.per_problem` must be at least 1",
            );
        }
        if self.train.control.is_some() && self.traces.control.groups == 0 {
            return fault(
                "[train.control] has no traces to train on",
                "`traces.control.groups` must be at least 1, or drop the table",
            );
        }
        if !(0.0..1.0).contains(&self.samples.plain_share) {
            return fault(
                "`samples.plain_share` must be at least 0 and below 1",
                "0.25 mixes in a quarter",
            );
        }
        if !self.eval.rows.is_empty() && self.eval.groups == 0 {
            return fault(
                "there is nothing to evaluate",
                "`eval.groups` must be at least 1",
            );
        }
        for (index, row) in self.eval.rows.iter().enumerate() {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if row.name.is_empty() || !row.name.chars().all(plain) {
                return fault(
                    &format!("`{}` cannot name a row", row.name),
                    "a row's name is a folder name: letters, digits, - and _",
                );
            }
            if self.eval.rows[..index]
                .iter()
                .any(|other| other.name == row.name)
            {
                return fault(
                    &format!("two rows are named `{}`", row.name),
                    "give each row its own name",
                );
            }
            if row.checkpoint == Trained::Control && self.train.control.is_none() {
                return fault(
                    &format!(
                        "row `{}` evaluates the control, but nothing trains it",
                        row.name
                    ),
                    "add the table [train.control], or drop the row",
                );
            }
        }
        Ok(())
    }
}
