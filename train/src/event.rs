//! What a training tells while it runs.

use std::path::PathBuf;

use serde::Serialize;

use crate::plan::Plan;
use crate::samples::KindCount;

/// Hears what a training tells. Nothing it does changes a result.
pub trait Watch {
    /// Something happened.
    fn event(&mut self, event: &Event);
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Everything is checked and loaded; the first step comes next.
    Started(Started),
    /// A saved trainer state was not used.
    PassedOver {
        /// Its folder.
        folder: PathBuf,
        /// Why, for people.
        reason: String,
    },
    /// A micro-batch is computed; for progress within long steps.
    MicroBatch {
        /// Its step, from 1.
        step: usize,
        /// Micro-batches of the step so far.
        done: usize,
        /// Micro-batches of the step.
        of: usize,
    },
    /// An optimizer step is done.
    Step(StepReport),
    /// The trainer state is saved.
    Saved {
        /// Steps done.
        step: usize,
        /// Its folder.
        folder: PathBuf,
        /// How long it took.
        seconds: f64,
    },
}

/// What a training starts from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Started {
    /// What will be done in all.
    pub plan: Plan,
    /// Steps that an earlier process has done; 0 for a fresh start.
    pub done: usize,
    /// Different samples.
    pub samples: usize,
    /// Their tokens by kind.
    pub kinds: Vec<KindCount>,
    /// Samples that begin with the tokenizer's begin-of-text token.
    pub with_bos: usize,
    /// Samples whose last token is an end-of-text token with loss: from them the model learns to
    /// stop.
    pub with_trained_end: usize,
    /// Parameters of the model.
    pub parameters: u64,
}

/// One optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Which one, from 1.
    pub step: usize,
    /// Steps in all.
    pub of: usize,
    /// Weighted mean of the negative log-likelihood over the step's trained tokens, before the
    /// update, in nats. Not a number if that is what was computed.
    pub loss: f64,
    /// The rate.
    pub lr: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Samples of the step.
    pub samples: usize,
    /// Tokens of the step.
    pub tokens: u64,
    /// Tokens of the step with loss.
    pub trained_tokens: u64,
    /// Trained tokens since the first step.
    pub trained_so_far: u64,
    /// Wall-clock time of the step.
    pub seconds: f64,
}
