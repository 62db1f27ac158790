//! The learning rate, as a pure function of the step.
//!
//! The cosine is pure Rust: those of operating systems differ in the last bit.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::settings::TrainSettings;

/// How the rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Half a cosine wave.
    Cosine,
    /// A straight line.
    Linear,
    /// Not at all.
    Constant,
}

/// Steps of warm-up: the share of `steps`, rounded up.
pub fn warmup_steps(share: f64, steps: usize) -> usize {
    (steps as f64 * share).ceil() as usize
}

/// The rate of optimizer step `step` (from 0) of `steps`.
///
/// Source: `get_cosine_schedule_with_warmup`, `get_cosine_with_min_lr_schedule_with_warmup`,
/// `get_linear_schedule_with_warmup` and `get_constant_schedule_with_warmup` of `transformers`.
/// With `w` warm-up steps the rate of step `s < w` is `lr * s / w`, so the very first one is 0.
pub fn learning_rate(settings: &TrainSettings, step: usize, steps: usize) -> f64 {
    let warmup = warmup_steps(settings.warmup, steps);
    if step < warmup {
        return settings.lr * (step as f64 / warmup as f64);
    }
    let rest = steps.saturating_sub(warmup).max(1);
    let progress = ((step - warmup) as f64 / rest as f64).min(1.0);
    let share = match settings.schedule {
        Schedule::Cosine => 0.5 * (1.0 + libm::cos(PI * progress)),
        Schedule::Linear => 1.0 - progress,
        Schedule::Constant => return settings.lr,
    };
    settings.lr * (share * (1.0 - settings.min_lr_ratio) + settings.min_lr_ratio)
}
