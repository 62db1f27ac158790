//! The recipe of a fine-tuning: a checkpoint, samples, and how to train.

use std::path::PathBuf;

use model::config::ModelConfig;
use model::device::Dtype;
use model::shapes;
use serde::{Deserialize, Serialize};
use train::{SettingsError, TrainSettings};

use crate::fault::Fault;
use crate::recipe::Job;
use crate::recipes::{self, Gap};

/// A recipe for `leap train`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainRecipe {
    /// What the recipe is for: `train`.
    pub(crate) job: Job,
    /// One line for the report and the card.
    pub(crate) title: String,
    /// Seed of the order of the samples, of fresh adapters and of what they drop.
    pub(crate) seed: u64,
    /// What is trained.
    pub(crate) model: Start,
    /// On what.
    pub(crate) samples: Samples,
    /// How.
    pub(crate) train: TrainSettings,
    /// Problems that the model is asked at each look at held-out samples, to see whether it keeps
    /// the form of an exchange. Changes no weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) obedience: Option<Questions>,
}

/// What a model is asked while it is trained.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Questions {
    /// A problems file; problems that are trained on are passed over.
    pub(crate) problems: PathBuf,
    /// Most problems.
    pub(crate) count: usize,
    /// Paths on each.
    pub(crate) paths: usize,
    pub(crate) turn_tokens: usize,
    pub(crate) max_tokens: usize,
    pub(crate) summary_tokens: usize,
    pub(crate) answer_tokens: usize,
    /// A prompt set: `clean`, or a TOML file.
    pub(crate) prompts: String,
}

/// The model that is trained.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
    /// Folder with config.json, tokenizer.json and safetensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Name of a shape that `--plan` takes while the folder is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shape: Option<String>,
    /// Weights while they are used, and in the checkpoint.
    pub(crate) dtype: Dtype,
}

/// What is trained on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Samples {
    /// A samples file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<PathBuf>,
    /// A samples file that is looked at and not trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_out: Option<PathBuf>,
    /// Problems of `file` whose samples are held out instead, drawn by the seed.
    #[serde(default)]
    pub(crate) hold_out_problems: usize,
    /// What `--plan` expects while the file is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expected: Option<Expected>,
}

/// How large a set of samples will be.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    /// Samples.
    pub(crate) count: usize,
    /// Tokens of each.
    pub(crate) tokens: usize,
}

/// Keys that a recipe may leave out, with what that means.
pub(crate) const OPTIONAL_KEYS: &[(&str, &str)] = &[
    (
        "model.checkpoint",
        "none   # folder to start from; needed to train",
    ),
    (
        "model.shape",
        "none   # a name that --plan takes while the folder is not there",
    ),
    (
        "samples.file",
        "none   # samples to train on; needed to train",
    ),
    ("samples.held_out", "none   # samples to look at"),
    (
        "samples.hold_out_problems",
        "0   # problems of the file that are held out",
    ),
    (
        "samples.expected.count",
        "none   # samples that --plan expects while the file is not there",
    ),
    ("samples.expected.tokens", "none   # tokens of each"),
    ("train.epochs", "none   # budget: passes over the samples"),
    ("train.steps", "none   # or optimizer steps"),
    ("train.tokens", "none   # or trained tokens"),
    (
        "train.recompute",
        "\"none\"   # or \"blocks\": layers are computed again in the backward pass",
    ),
    (
        "train.optimizer",
        "\"host\"   # or \"device\": where moments and f32 masters lie",
    ),
    (
        "train.moments",
        "\"f32\"   # or \"8bit\": a quarter of the memory, nearly the same result",
    ),
    (
        "train.sums",
        "\"device\"   # or \"host\": where gradients of micro-batches are added up",
    ),
    (
        "train.lora.rank",
        "none   # adapters instead of weights: their rank",
    ),
    (
        "train.lora.alpha",
        "none   # their product is multiplied by alpha / rank",
    ),
    (
        "train.lora.dropout",
        "none   # share of their inputs that is dropped",
    ),
    (
        "train.lora.targets",
        "all linear maps   # such as [\"q_proj\", \"v_proj\"]",
    ),
    (
        "train.guard.spike",
        "none   # a loss above so many times the median of 20 steps; 0 = no limit",
    ),
    ("train.guard.then", "\"stop\"   # or \"roll-back\""),
    (
        "train.guard.anchor_every_steps",
        "none   # a roll-back goes to a multiple of these",
    ),
    ("train.guard.most", "none   # roll-backs"),
    (
        "train.held_out.every_steps",
        "none   # steps between two looks at held-out samples",
    ),
    (
        "train.held_out.patience",
        "none   # looks without a new best after which it ends; 0 = never",
    ),
    (
        "train.held_out.checkpoint",
        "none   # \"last\" or \"best\" weights",
    ),
];

/// Checks settings that lie below the key `at`.
///
/// # Errors
/// The first key that cannot work, with what to do.
pub(crate) fn check_training(settings: &TrainSettings, at: &str) -> anyhow::Result<()> {
    let Err(error) = settings.check() else {
        return Ok(());
    };
    let budgets = [
        ("epochs", settings.epochs.is_some()),
        ("steps", settings.steps.is_some()),
        ("tokens", settings.tokens.is_some()),
    ];
    let error = match error {
        SettingsError::Budget { given: 0 } => Fault::new(
            error.to_string(),
            format!("say how long it trains, for instance {at}.epochs=3"),
        )
        .into(),
        SettingsError::Budget { .. } => {
            let given = budgets.iter().filter(|(_, given)| *given);
            let out: Vec<String> = given.map(|(key, _)| format!("`{at}.{key}=`")).collect();
            Fault::new(
                error.to_string(),
                format!("{} without a value leaves one out", out.join(" or ")),
            )
            .into()
        }
        error => anyhow::Error::new(error),
    };
    Err(error.context(format!("`{at}`")))
}

impl TrainRecipe {
    /// What the recipe leaves to the call.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let model = self.model.checkpoint.is_none().then(|| Gap {
            message: "the recipe names no model".to_owned(),
            hint: "give a Hugging Face folder: model.checkpoint=DIR; `leap pull OWNER/NAME` brings one",
            argument: "model.checkpoint=DIR",
        });
        let samples = self.samples.file.is_none().then(|| Gap {
            message: "the recipe names no samples".to_owned(),
            hint: "give a samples file: samples.file=FILE; a run of `leap run` makes samples.jsonl",
            argument: "samples.file=FILE",
        });
        model.into_iter().chain(samples).collect()
    }

    /// Checks what types cannot: combinations and ranges.
    ///
    /// # Errors
    /// The first thing that cannot work, with what to do.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.job != Job::Train {
            return Err(Fault::new(
                "the recipe is not one for `leap train`",
                "`leap run` walks the whole road of such a recipe",
            )
            .into());
        }
        check_training(&self.train, "train")?;
        let samples = &self.samples;
        let held_out = samples.held_out.is_some() || samples.hold_out_problems > 0;
        if samples.held_out.is_some() && samples.hold_out_problems > 0 {
            return Err(Fault::new(
                "the recipe has both `samples.held_out` and `samples.hold_out_problems`",
                "keep one: held-out samples are a file of their own or a part of the others; \
                 `samples.held_out=` without a value leaves the file out",
            )
            .into());
        }
        if held_out != self.train.held_out.is_some() {
            return Err(Fault::new(
                match held_out {
                    true => "there are held-out samples, but no table [train.held_out]",
                    false => "there is a table [train.held_out], but there are no held-out samples",
                },
                "samples.hold_out_problems=8 holds out 8 problems; train.held_out says how often \
                 they are looked at",
            )
            .into());
        }
        if self.obedience.is_some() && self.train.held_out.is_none() {
            return Err(Fault::new(
                "there is a table [obedience], but no table [train.held_out]",
                "problems are asked when held-out samples are looked at",
            )
            .into());
        }
        if let Some(name) = &self.model.shape
            && shapes::named(name).is_none()
        {
            let hint = match recipes::nearest(name, &shapes::NAMES) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", shapes::NAMES.join(", ")),
            };
            return Err(Fault::new(format!("there is no shape `{name}`"), hint).into());
        }
        if let Some(Expected { count, tokens }) = samples.expected
            && (count == 0 || tokens == 0 || tokens > self.train.max_tokens)
        {
            return Err(Fault::new(
                "`samples.expected` cannot be",
                "count and tokens are at least 1, and tokens at most `train.max_tokens`",
            )
            .into());
        }
        Ok(())
    }

    /// The shape of the model: of the folder if it is there, else the named one.
    pub(crate) fn shape(&self) -> anyhow::Result<ModelConfig> {
        let folder = self.model.checkpoint.as_deref();
        match (folder.filter(|folder| folder.is_dir()), &self.model.shape) {
            (Some(folder), _) => Ok(ModelConfig::read(folder)?),
            (None, Some(name)) => shapes::named(name)
                .ok_or_else(|| Fault::new(format!("there is no shape `{name}`"), "").into()),
            (None, None) => Err(Fault::new(
                "the recipe names no model whose shape is known",
                "give a folder with config.json, model.checkpoint=DIR, or model.shape=NAME",
            )
            .into()),
        }
    }

    /// What decides the result, without the places where things lie.
    pub(crate) fn essence(&self) -> Self {
        let mut essence = self.clone();
        essence.model.checkpoint = None;
        essence.model.shape = None;
        essence.samples.file = None;
        essence.samples.held_out = None;
        essence.samples.expected = None;
        essence.obedience = None;
        essence.train = self.train.essence();
        essence
    }
}
