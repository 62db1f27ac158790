//! Fine-tunes a decoder on samples: exact, deterministic and resumable.
//!
//! ```text
//! Sample -> order (seed, epoch) -> step -> micro-batches -> loss, gradients (Burn autodiff)
//!                                            sums in f32 -> global norm, clip -> AdamW -> weights
//! ```
//!
//! The loop is our own and visible in [`train`]. Of burn-train it uses the [`Interrupter`], the
//! flag by which a stop is asked for. Its learner does not fit: it saves by epoch and not by step,
//! averages the losses of micro-batches instead of weighing them by tokens, and clips each tensor
//! on its own. Its metrics keep running means that a resumed process would start anew, while
//! [`Event`]s carry the values of each step.
//!
//! This crate knows nothing of how samples come to be and never generates text.
#![recursion_limit = "256"]

mod adamw;
mod batch;
mod carrier;
mod contents;
mod eight;
mod event;
mod fetched;
mod forecast;
mod gradients;
mod guard;
mod job;
mod look;
mod numbers;
mod optimizer;
mod parity;
mod plan;
mod samples;
mod schedule;
mod settings;
mod state;
mod train;
mod train_on;
mod trainer;
mod weights;

pub use burn::train::Interrupter;

pub use crate::event::{
    Event, KindLoss, LookReport, Obedience, Started, StepReport, Watch, WorstReport,
};
pub use crate::forecast::{Computer, Forecast, Part, Place, Work, flops_of_model, forecast};
pub use crate::job::{Finished, Job, Outcome, Rehearsal, Start, TrainError};
pub use crate::parity::{Gradients, loss_and_gradients, loss_and_gradients_with};
pub use crate::plan::{Plan, order, plan};
pub use crate::samples::{KindCount, Requirements, SampleError, check, count_kinds};
pub use crate::schedule::{Schedule, learning_rate, warmup_steps};
pub use crate::settings::{
    Budget, Chosen, ClipNorm, DecayOn, Guard, HeldOut, OnSpike, Placement, Precision, Recompute,
    SettingsError, TrainSettings,
};
pub use crate::state::StateError;
pub use crate::train::{steps, train};
pub use crate::train_on::{KindWeights, TrainOn};
