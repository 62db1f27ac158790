//! The part of a recipe that says how to train.
//!
//! No key that changes a result has a default: a built-in recipe spells all of them out. A table
//! that is left out means that its feature is off.

use std::fmt;

use model::lora::{LoraError, LoraSettings};
use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::schedule::Schedule;
use crate::train_on::TrainOn;

/// How to train. Give exactly one of `epochs`, `steps` and `tokens`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// Budget: passes over the samples; need not be whole. Every sample is seen once before any is
    /// seen twice, and a step may reach over the border of two passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// Budget: optimizer steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Budget: trained tokens (those with loss). Training ends with the step that reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Samples of one optimizer step, over all its micro-batches.
    pub samples_per_step: usize,
    /// Tokens computed at once, at least `max_tokens`. Memory, not maths: the loss of a step is the
    /// mean over all its trained tokens however they are split.
    pub tokens_per_micro_batch: usize,
    /// A longer sample is an error, never cut.
    pub max_tokens: usize,
    /// Highest learning rate.
    pub lr: f64,
    /// How the rate falls after the warm-up.
    pub schedule: Schedule,
    /// Share of all steps in which the rate rises from 0, rounded up to whole steps. The first step
    /// of a warm-up has rate 0, as in `transformers`.
    pub warmup: f64,
    /// Where the schedule ends, as a share of `lr`: 0 to 1.
    pub min_lr_ratio: f64,
    /// Decoupled weight decay of AdamW.
    pub weight_decay: f64,
    /// What decays.
    pub decay_on: DecayOn,
    /// Decay of the running mean of gradients.
    pub beta1: f64,
    /// Decay of the running mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the mean square; 1e-8 in torch.
    pub eps: f64,
    /// Gradients are scaled down to this global norm; `"none"` leaves them as they are.
    pub clip_norm: ClipNorm,
    /// Which tokens carry loss: `"own"`, `"own+trigger"`, `"all"` or a table of weights by kind.
    pub train_on: TrainOn,
    /// Steps between two saved trainer states; 0 = only when stopped. Changes no result.
    pub save_every_steps: usize,
    /// How many trainer states are kept, at least 1. Changes no result.
    pub keep: usize,
    /// What is kept of a forward pass for the backward pass: `"none"` keeps all, `"blocks"` the
    /// input of each layer, and computes the rest again. Changes no result.
    #[serde(default, skip_serializing_if = "Recompute::is_default")]
    pub recompute: Recompute,
    /// Where moments and f32 masters lie: `"host"` or `"device"`. Changes no result.
    #[serde(default, skip_serializing_if = "Placement::is_default")]
    pub optimizer: Placement,
    /// In how many bits moments are held: `"f32"` or `"8bit"`, which needs `optimizer = "host"`, takes
    /// a quarter of the memory and changes the result a little.
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub moments: Precision,
    /// Where the gradients of a step's micro-batches are added up: `"device"`, or `"host"`, to which
    /// those of each layer are taken while others are computed, so that the device never holds more
    /// than a few layers' and the bus carries them once for each micro-batch. `"host"` needs
    /// `optimizer = "host"`; on the CPU there is one memory. Changes no result.
    #[serde(
        default = "Placement::device",
        skip_serializing_if = "Placement::is_device"
    )]
    pub sums: Placement,
    /// Adapters are trained, and the weights stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraSettings>,
    /// What a loss does that jumps. Left out: one that is no number stops the training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// Looks at held-out samples on the way. Left out: there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOut>,
}

/// What is computed a second time, to hold less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// Nothing.
    #[default]
    None,
    /// Each layer, from its input and what its attention gave, but for the product that ends it.
    Blocks,
}

impl Recompute {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Where numbers lie that are kept from step to step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// In host memory; updates are computed by the processor.
    #[default]
    Host,
    /// Where the weights lie; updates are computed there.
    Device,
}

impl Placement {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn device() -> Self {
        Self::Device
    }

    fn is_device(&self) -> bool {
        *self == Self::Device
    }
}

/// The number format of moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    #[serde(rename = "f32")]
    F32,
    /// 8 bits, with a scale for each 256 of them. Parameters with fewer than 4096 elements keep
    /// theirs in f32.
    #[serde(rename = "8bit")]
    EightBit,
}

impl Precision {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// When a step's loss or gradient is not believed, and what happens then.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// A loss above this many times the median of the losses of the last 20 steps is a spike; above
    /// 1, or 0: only what is no number is one.
    pub spike: f64,
    /// What happens.
    pub then: OnSpike,
    /// Where a roll-back goes: to the last multiple of these steps, at least 1, of whose weights a loss was
    /// believed.
    pub anchor_every_steps: usize,
    /// Roll-backs in one training; one more stops it.
    pub most: usize,
}

/// What a spike does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnSpike {
    /// Ends the training with an error that names the samples.
    Stop,
    /// Takes weights and moments of the last anchor, and goes on behind the spike: the samples in
    /// between are passed over.
    RollBack,
}

/// Looks at samples that are not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// Steps between two looks, at least 1; there is one before the first step and one after the
    /// last, too.
    pub every_steps: usize,
    /// Looks in a row without a new best loss after which training ends; 0 = it never does.
    pub patience: usize,
    /// Which weights become the checkpoint.
    pub checkpoint: Chosen,
}

/// Weights of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chosen {
    /// Those after the last step.
    Last,
    /// Those with the lowest loss on the held-out samples.
    Best,
}

/// Which parameters weight decay pulls to 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayOn {
    /// Matrices and the embedding, but no bias and no norm, as the `transformers` trainer does.
    Matrices,
    /// Every parameter, as `torch.optim.AdamW` does when it is given all in one group.
    All,
}

/// The limit of the global gradient norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClipNorm {
    /// No limit.
    None,
    /// This limit, above 0.
    At(f64),
}

/// How much to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// Passes over the samples.
    Epochs(f64),
    /// Optimizer steps.
    Steps(usize),
    /// Trained tokens.
    Tokens(u64),
}

/// Settings that cannot work.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// Not exactly one budget.
    #[error("{given} of `epochs`, `steps` and `tokens` are given, but exactly one must be")]
    Budget {
        /// How many are.
        given: usize,
    },
    /// A number out of its range.
    #[error("`{key}` is {value}, but must be {range}")]
    Range {
        /// The key.
        key: &'static str,
        /// What was written.
        value: f64,
        /// What is possible.
        range: &'static str,
    },
    /// The rate of every step is 0.
    #[error(
        "the one step is the first of the warm-up, whose rate is 0: train longer, or set `warmup` to 0"
    )]
    OnlyWarmup,
    /// The longest sample would not fit a micro-batch.
    #[error("`tokens_per_micro_batch` is {micro_batch}, below `max_tokens` = {sample}")]
    MicroBatch {
        /// Tokens of a micro-batch.
        micro_batch: usize,
        /// Tokens of the longest sample.
        sample: usize,
    },
    /// Gradients would go to host memory and come back.
    #[error(
        "`sums` is \"host\" and `optimizer` is \"device\": gradients are added up in host memory only \
         for an optimizer that is there"
    )]
    Sums,
    /// Moments in 8 bits lie in host memory.
    #[error(
        "`moments` is \"8bit\" and `optimizer` is \"device\": moments in 8 bits are in host memory; set \
         `optimizer` to \"host\""
    )]
    Moments,
    /// Samples in which nothing is trained on, or no samples.
    #[error(
        "no token of the samples carries loss: give a kind of token that they hold a weight in \
         `train_on`, and samples at least two tokens, as the first one never carries loss"
    )]
    NoLoss,
    /// Adapters that cannot work.
    #[error(transparent)]
    Lora(#[from] LoraError),
}

impl TrainSettings {
    /// The settings without what changes no result: of two trainings that end alike, these are
    /// equal.
    pub fn essence(&self) -> Self {
        Self {
            save_every_steps: 0,
            keep: 1,
            recompute: Recompute::default(),
            optimizer: Placement::default(),
            sums: Placement::Device,
            ..self.clone()
        }
    }

    /// The one budget that is given.
    ///
    /// # Errors
    /// If none or several are given.
    pub fn budget(&self) -> Result<Budget, SettingsError> {
        match (self.epochs, self.steps, self.tokens) {
            (Some(epochs), None, None) => Ok(Budget::Epochs(epochs)),
            (None, Some(steps), None) => Ok(Budget::Steps(steps)),
            (None, None, Some(tokens)) => Ok(Budget::Tokens(tokens)),
            (epochs, steps, tokens) => {
                let given = [epochs.is_some(), steps.is_some(), tokens.is_some()];
                Err(SettingsError::Budget {
                    given: given.into_iter().filter(|g| *g).count(),
                })
            }
        }
    }

    /// Checks what types cannot: combinations and ranges.
    ///
    /// # Errors
    /// The first key that cannot work.
    pub fn check(&self) -> Result<(), SettingsError> {
        let range = |key, value: f64, holds: bool, range| {
            if holds {
                Ok(())
            } else {
                Err(SettingsError::Range { key, value, range })
            }
        };
        let positive = |key, value: f64| {
            range(
                key,
                value,
                value.is_finite() && value > 0.0,
                "a finite number above 0",
            )
        };
        let share =
            |key, value: f64| range(key, value, (0.0..=1.0).contains(&value), "between 0 and 1");
        let beta = |key, value: f64| {
            range(
                key,
                value,
                (0.0..1.0).contains(&value),
                "at least 0 and below 1",
            )
        };
        match self.budget()? {
            Budget::Epochs(epochs) => positive("epochs", epochs)?,
            Budget::Steps(steps) => positive("steps", steps as f64)?,
            Budget::Tokens(tokens) => positive("tokens", tokens as f64)?,
        }
        positive("samples_per_step", self.samples_per_step as f64)?;
        range(
            "max_tokens",
            self.max_tokens as f64,
            self.max_tokens >= 2,
            "at least 2",
        )?;
        if self.tokens_per_micro_batch < self.max_tokens {
            let (micro_batch, sample) = (self.tokens_per_micro_batch, self.max_tokens);
            return Err(SettingsError::MicroBatch {
                micro_batch,
                sample,
            });
        }
        positive("lr", self.lr)?;
        share("warmup", self.warmup)?;
        share("min_lr_ratio", self.min_lr_ratio)?;
        let decay = self.weight_decay;
        range(
            "weight_decay",
            decay,
            decay.is_finite() && decay >= 0.0,
            "at least 0",
        )?;
        beta("beta1", self.beta1)?;
        beta("beta2", self.beta2)?;
        positive("eps", self.eps)?;
        if let ClipNorm::At(norm) = self.clip_norm {
            positive("clip_norm", norm)?;
        }
        positive("keep", self.keep as f64)?;
        if (self.sums, self.optimizer) == (Placement::Host, Placement::Device) {
            return Err(SettingsError::Sums);
        }
        if (self.moments, self.optimizer) == (Precision::EightBit, Placement::Device) {
            return Err(SettingsError::Moments);
        }
        if let Some(lora) = &self.lora {
            lora.check()?;
        }
        if let Some(guard) = &self.guard {
            let spike = guard.spike;
            let holds = spike == 0.0 || (spike.is_finite() && spike > 1.0);
            range("guard.spike", spike, holds, "0, or a finite number above 1")?;
            positive("guard.anchor_every_steps", guard.anchor_every_steps as f64)?;
        }
        if let Some(held_out) = &self.held_out {
            positive("held_out.every_steps", held_out.every_steps as f64)?;
        }
        self.train_on.check()
    }
}

impl Serialize for ClipNorm {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => to.serialize_str("none"),
            Self::At(norm) => to.serialize_f64(*norm),
        }
    }
}

impl<'de> Deserialize<'de> for ClipNorm {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = ClipNorm;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or \"none\"")
            }

            fn visit_f64<E: de::Error>(self, norm: f64) -> Result<ClipNorm, E> {
                Ok(ClipNorm::At(norm))
            }

            fn visit_i64<E: de::Error>(self, norm: i64) -> Result<ClipNorm, E> {
                Ok(ClipNorm::At(norm as f64))
            }

            fn visit_u64<E: de::Error>(self, norm: u64) -> Result<ClipNorm, E> {
                Ok(ClipNorm::At(norm as f64))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ClipNorm, E> {
                match text {
                    "none" => Ok(ClipNorm::None),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        from.deserialize_any(Read)
    }
}
