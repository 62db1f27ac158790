//! What a training tells while it runs.

use std::path::PathBuf;

use model::decoder::Decoder;
use protocol::SpanKind;
use serde::{Serialize, Serializer};

use crate::plan::Plan;
use crate::samples::KindCount;

/// Hears what a training tells. Nothing it does changes a result.
pub trait Watch {
    /// Something happened.
    fn event(&mut self, event: &Event);

    /// Whether all that was heard is on the disk, as far as it is kept.
    ///
    /// Asked before a state or the checkpoint is written. If it is not, neither is, and the training
    /// ends as if a stop had been asked for: a state that is ahead of what is kept of the way to it
    /// could not be gone on from.
    fn is_kept(&mut self) -> bool {
        true
    }

    /// Lets the model of `step` write, and counts how well it keeps the form; asked after each look
    /// at held-out samples. The decoder has no graph, and adapters are merged into it. `None` if
    /// nobody wants to know.
    fn obedience(&mut self, step: usize, decoder: &dyn Fn() -> Decoder) -> Option<Obedience> {
        let _ = (step, decoder);
        None
    }
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
    /// A part of the held-out samples is looked at; for progress within long looks.
    LookBatch {
        /// Steps done.
        step: usize,
        /// Micro-batches of the look so far.
        done: usize,
        /// Micro-batches of the look.
        of: usize,
    },
    /// All held-out samples were looked at.
    Look(LookReport),
    /// The model wrote something, and its form was counted.
    Obedience(Obedience),
    /// A spike: weights and moments are those of an earlier step again, and the samples in between
    /// are passed over.
    RolledBack {
        /// The step of the spike, from 1. The next one is the one after it.
        step: usize,
        /// Whose weights are taken; 0 = those it began with.
        to: usize,
        /// The loss of the spike.
        #[serde(serialize_with = "any_number")]
        loss: f64,
        /// Ids of its samples.
        samples: Vec<String>,
    },
    /// The largest micro-batch was computed once, to see that it can be.
    Worst(WorstReport),
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
    /// Micro-batches of the next step that an earlier process has done.
    pub micro_batches: usize,
    /// Different samples.
    pub samples: usize,
    /// Their tokens by kind.
    pub kinds: Vec<KindCount>,
    /// Samples that begin with the tokenizer's begin-of-text token.
    pub with_bos: usize,
    /// Samples with more than one begin-of-text token.
    pub with_several_bos: usize,
    /// Samples whose last token is an end-of-text token with loss: from them the model learns to
    /// stop.
    pub with_trained_end: usize,
    /// Samples with an end-of-text token with loss before their last token: from them the model
    /// learns to go on after it.
    pub with_early_end: usize,
    /// Parameters of the model, adapters included.
    pub parameters: u64,
    /// Those of them that are trained.
    pub trained_parameters: u64,
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
    #[serde(serialize_with = "any_number")]
    pub loss: f64,
    /// The rate.
    pub lr: f64,
    /// Global norm of the gradient before clipping.
    #[serde(serialize_with = "any_number")]
    pub grad_norm: f64,
    /// Samples of the step.
    pub samples: usize,
    /// Tokens of the step.
    pub tokens: u64,
    /// Tokens of the step with loss.
    pub trained_tokens: u64,
    /// Trained tokens since the first step.
    pub trained_so_far: u64,
    /// Floating-point operations that the model asks for in the step, as
    /// [`flops_of_model`](crate::flops_of_model) counts them.
    pub model_flops: f64,
    /// Bytes held after the update: by tensors of the device, or on the CPU by the process, where the
    /// system tells.
    pub memory_bytes: Option<u64>,
    /// Wall-clock time of the step.
    pub seconds: f64,
    /// That part of it which followed the norm of the gradient, when all passes are behind: the update of the
    /// weights. On a device whose optimizer lies there, too, the update is only ordered in it. 0 if there was none.
    pub update_seconds: f64,
}

/// A look at the held-out samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LookReport {
    /// Steps done.
    pub step: usize,
    /// Weighted mean of the negative log-likelihood over their tokens with loss, in nats.
    #[serde(serialize_with = "any_number")]
    pub loss: f64,
    /// The same by kind, unweighted, of kinds without loss too.
    pub kinds: Vec<KindLoss>,
    /// Whether no look so far had a lower loss. The look before the first step is never the best.
    pub best: bool,
    /// Wall-clock time.
    pub seconds: f64,
}

/// The loss on the tokens of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct KindLoss {
    /// The kind.
    pub kind: SpanKind,
    /// Tokens of this kind, less first tokens of samples.
    pub tokens: u64,
    /// Mean of the negative log-likelihood, in nats.
    #[serde(serialize_with = "any_number")]
    pub loss: f64,
}

/// How well a model keeps the form of an exchange, in counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Obedience {
    /// Steps done.
    pub step: usize,
    /// Paths it wrote.
    pub paths: usize,
    /// Summaries it was asked for or began itself.
    pub summaries: usize,
    /// Those of them that it closed itself.
    pub closed: usize,
    /// Paths that gave an answer of their own.
    pub answered: usize,
}

/// The largest micro-batch of a training, computed once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WorstReport {
    /// Its tokens.
    pub tokens: u64,
    /// Its longest document.
    pub longest: u64,
    /// Wall-clock time of loss and gradient.
    pub seconds: f64,
    /// Most memory the process has held so far, in bytes, where the system tells.
    pub peak_bytes: Option<u64>,
}

/// JSON has no word for what is no number: it is written as text rather than left out.
fn any_number<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    match value.is_finite() {
        true => to.serialize_f64(*value),
        false => to.serialize_str(&value.to_string()),
    }
}
