//! What a training is given and what comes of it.

use std::path::{Path, PathBuf};

use burn::train::Interrupter;
use model::checkpoint::{CheckpointError, Saved};
use model::config::ModelConfig;
use model::device::{Device, Dtype};
use model::lineage::Lineage;
use protocol::Sample;

use crate::samples::SampleError;
use crate::settings::{SettingsError, TrainSettings};
use crate::state::StateError;

/// The weights that training starts from.
#[derive(Clone, Debug)]
pub enum Start {
    /// Fresh ones, a function of shape and seed.
    FromScratch {
        /// The shape.
        config: Box<ModelConfig>,
        /// The seed.
        seed: u64,
    },
    /// Those of a Hugging Face folder.
    Checkpoint(PathBuf),
}

/// One training.
#[derive(Clone)]
pub struct Job<'a> {
    /// How to train.
    pub settings: &'a TrainSettings,
    /// From which weights.
    pub start: Start,
    /// Number format of the weights while they are used, and in the checkpoint. With bf16 the
    /// optimizer works on f32 masters, from which the weights are rounded.
    pub dtype: Dtype,
    /// On what.
    pub samples: &'a [Sample],
    /// What is looked at with `settings.held_out`; else it must be empty.
    pub held_out: &'a [Sample],
    /// Seed of the order of the samples.
    pub seed: u64,
    /// Hash of the model's tokenizer; samples of another one are refused.
    pub tokenizer_hash: &'a str,
    /// Begin-of-text id of the tokenizer, if it has one.
    pub bos: Option<u32>,
    /// Folder whose tokenizer files are copied into the new checkpoint.
    pub files_from: &'a Path,
    /// The new checkpoint's folder; must not be there, or be empty.
    pub out: &'a Path,
    /// Folder of trainer states. It is only needed to continue: once the checkpoint is written, the
    /// caller may remove it.
    pub state: &'a Path,
    /// The plain device to compute on.
    pub device: &'a Device,
    /// What the checkpoint is made from; its number of steps is filled in.
    pub lineage: &'a Lineage,
    /// Whether the largest micro-batch is computed once before the first step.
    pub rehearsal: Rehearsal,
    /// Writes the card of the checkpoint, its README.md.
    pub card: Option<&'a dyn Fn(&Finished) -> String>,
    /// Asks for a stop, from any thread.
    pub stop: &'a Interrupter,
}

/// What is computed before the first step, to see that it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rehearsal {
    /// Nothing.
    None,
    /// The micro-batch with the most tokens of the whole training; nothing comes of it. Not if a training
    /// goes on within a step, or nothing is left of it but to write the checkpoint.
    Worst,
}

/// What is known when all steps are done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finished {
    /// Steps of the training.
    pub steps: usize,
    /// The step whose weights the checkpoint has.
    pub chosen: usize,
    /// Tokens with loss until then.
    pub trained_tokens: u64,
    /// Lowest loss on the held-out samples, and its step.
    pub best: Option<(usize, f64)>,
}

/// How a training ended.
#[derive(Debug)]
pub enum Outcome {
    /// The checkpoint is written.
    Done {
        /// What was written.
        checkpoint: Saved,
        /// Optimizer steps in all.
        steps: usize,
        /// Tokens with loss in all.
        trained_tokens: u64,
    },
    /// A stop was asked for, and the state is saved: the same job goes on from there. Or what was told
    /// could not be kept ([`Watch::is_kept`](crate::Watch::is_kept)): it goes on from the state before.
    Stopped {
        /// Optimizer steps done. Of one that was under way, what is behind is saved, too.
        step: usize,
    },
}

/// Why a training cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The settings cannot work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A sample cannot be trained on.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The model cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The trainer state cannot be written, or the folder of states not be listed.
    #[error(transparent)]
    State(#[from] StateError),
    /// All steps are done and kept, but the checkpoint cannot be written: the same job only writes it.
    #[error(
        "the checkpoint cannot be written. All {steps} steps are kept in the trainer state: once the \
         cause is removed, the same command only writes the checkpoint"
    )]
    Unwritten {
        /// Steps done.
        steps: usize,
        /// Why it cannot.
        #[source]
        source: Box<CheckpointError>,
    },
    /// All steps are done, but neither the checkpoint nor a state of the last step can be written: the
    /// same job goes on from the one before.
    #[error(
        "the checkpoint cannot be written, and of {steps} steps only {saved} are kept, because the \
         trainer state cannot be written either ({reason}): once the cause is removed, the same \
         command trains the others anew"
    )]
    Lost {
        /// Steps done.
        steps: usize,
        /// Those of them that the newest state has.
        saved: usize,
        /// Why there is no newer state.
        reason: String,
        /// Why the checkpoint cannot be written.
        #[source]
        source: Box<CheckpointError>,
    },
    /// Loss or gradient is not a finite number. The weights are those before this step.
    #[error(
        "step {step} has loss {loss} and gradient norm {grad_norm}; its samples are {}",
        samples.join(", ")
    )]
    NotFinite {
        /// The step, from 1.
        step: usize,
        /// Its loss as computed.
        loss: f64,
        /// Its gradient norm as computed.
        grad_norm: f64,
        /// Ids of its samples.
        samples: Vec<String>,
    },
    /// The loss has jumped. The weights are those before this step.
    #[error(
        "step {step} has loss {loss}, more than {spike} times the median {median} of the steps before \
         it; its samples are {}",
        samples.join(", ")
    )]
    Spike {
        /// The step, from 1.
        step: usize,
        /// Its loss.
        loss: f64,
        /// The limit in the settings.
        spike: f64,
        /// The median before it.
        median: f64,
        /// Ids of its samples.
        samples: Vec<String>,
    },
    /// Held-out samples without a place in the settings, or the other way round.
    #[error("{0}")]
    HeldOut(&'static str),
    /// The loss of the first step does not depend on these parameters.
    #[error("no gradient reaches {}", names.join(", "))]
    NoGradient {
        /// Their names.
        names: Vec<String>,
    },
}
