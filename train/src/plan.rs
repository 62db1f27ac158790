//! Which samples each step sees, known before the first step.
//!
//! The samples form one endless sequence: permutation after permutation, each a pure function of
//! (seed, epoch). Step `s` takes the `samples_per_step` samples from position
//! `s * samples_per_step` on, so that any step can be found without walking through the others.

use protocol::{Sample, Stream};
use serde::Serialize;

use crate::samples::{Weight, weigh};
use crate::schedule::warmup_steps;
use crate::settings::{Budget, SettingsError, TrainSettings};

/// What a training will do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Optimizer steps.
    pub steps: usize,
    /// Those of them in which the rate rises.
    pub warmup_steps: usize,
    /// Samples seen, repeated ones counted each time.
    pub samples: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Those of them that carry loss.
    pub trained_tokens: u64,
    /// The sum of the squares of the samples' lengths: what attention costs.
    pub squares: u64,
}

/// Counts what a training with these settings will do; checks the settings, and of the samples only that
/// some token of theirs carries loss.
///
/// # Errors
/// If the settings cannot work, or no token carries loss with them.
pub fn plan(
    settings: &TrainSettings,
    samples: &[Sample],
    seed: u64,
) -> Result<Plan, SettingsError> {
    settings.check()?;
    let weights = weigh(samples, &settings.train_on);
    count(
        settings,
        &weights,
        &mut Order::new(seed, samples.len(), settings.samples_per_step),
    )
}

/// Which samples each step takes: for each step, their indices in the order in which they are laid
/// end to end before they are packed.
///
/// # Errors
/// Those of [`plan`].
pub fn order(
    settings: &TrainSettings,
    samples: &[Sample],
    seed: u64,
) -> Result<Vec<Vec<usize>>, SettingsError> {
    settings.check()?;
    let weights = weigh(samples, &settings.train_on);
    let mut order = Order::new(seed, samples.len(), settings.samples_per_step);
    let plan = count(settings, &weights, &mut order)?;
    Ok((0..plan.steps).map(|step| order.step(step)).collect())
}

pub(crate) fn count(
    settings: &TrainSettings,
    weights: &[Weight],
    order: &mut Order,
) -> Result<Plan, SettingsError> {
    let budget = settings.budget()?;
    let per_step = settings.samples_per_step as u64;
    if weights.iter().all(|weight| weight.trained == 0) {
        return Err(SettingsError::NoLoss);
    }
    let limit = match budget {
        Budget::Epochs(epochs) => ((epochs * weights.len() as f64).round() as u64).max(1),
        Budget::Steps(steps) => steps as u64 * per_step,
        Budget::Tokens(_) => u64::MAX,
    };
    order.limit = limit;
    let (mut plan, mut step) = (
        Plan {
            steps: 0,
            warmup_steps: 0,
            samples: 0,
            tokens: 0,
            trained_tokens: 0,
            squares: 0,
        },
        0,
    );
    loop {
        let indices = order.step(step);
        plan.samples += indices.len() as u64;
        plan.tokens += indices
            .iter()
            .map(|i| weights[*i].tokens as u64)
            .sum::<u64>();
        plan.trained_tokens += indices
            .iter()
            .map(|i| weights[*i].trained as u64)
            .sum::<u64>();
        plan.squares += indices
            .iter()
            .map(|i| (weights[*i].tokens as u64).pow(2))
            .sum::<u64>();
        step += 1;
        let done = match budget {
            Budget::Tokens(tokens) => plan.trained_tokens >= tokens,
            Budget::Epochs(_) | Budget::Steps(_) => plan.samples >= limit,
        };
        if done {
            break;
        }
    }
    order.limit = plan.samples;
    plan.steps = step;
    plan.warmup_steps = warmup_steps(settings.warmup, step);
    if step == 1 && plan.warmup_steps > 0 {
        return Err(SettingsError::OnlyWarmup);
    }
    Ok(plan)
}

/// The order of the samples.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    stream: Stream,
    samples: usize,
    per_step: usize,
    /// The sequence ends here: the last step can be short.
    limit: u64,
    /// The permutation looked at last.
    epoch: Option<(u64, Vec<usize>)>,
}

impl Order {
    pub(crate) fn new(seed: u64, samples: usize, per_step: usize) -> Self {
        let stream = Stream::of_run(seed).named("order of samples");
        Self {
            stream,
            samples,
            per_step,
            limit: u64::MAX,
            epoch: None,
        }
    }

    /// Indices of the samples of `step`, from 0.
    pub(crate) fn step(&mut self, step: usize) -> Vec<usize> {
        let first = step as u64 * self.per_step as u64;
        let end = (first + self.per_step as u64).min(self.limit);
        (first..end).map(|position| self.at(position)).collect()
    }

    fn at(&mut self, position: u64) -> usize {
        let (epoch, index) = (
            position / self.samples as u64,
            position % self.samples as u64,
        );
        if self.epoch.as_ref().is_none_or(|(known, _)| *known != epoch) {
            let mut permutation: Vec<usize> = (0..self.samples).collect();
            self.stream.indexed(epoch).shuffle(&mut permutation);
            self.epoch = Some((epoch, permutation));
        }
        self.epoch.as_ref().expect("just made").1[index as usize]
    }
}
