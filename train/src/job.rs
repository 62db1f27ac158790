//! What a training is given and what comes of it.

use std::path::{Path, PathBuf};

use burn::train::Interrupter;
use model::checkpoint::{CheckpointError, Saved};
use model::config::ModelConfig;
use model::device::Device;
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
    /// On what.
    pub samples: &'a [Sample],
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
    /// Asks for a stop, from any thread.
    pub stop: &'a Interrupter,
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
    /// A stop was asked for, and the state is saved: the same job goes on from there.
    Stopped {
        /// Optimizer steps done. A step that was under way is done anew.
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
    /// The loss of the first step does not depend on these parameters.
    #[error("no gradient reaches {}", names.join(", "))]
    NoGradient {
        /// Their names.
        names: Vec<String>,
    },
}
