//! The gradient of one step without an update, for comparing with other implementations.

use model::decoder::Decoder;
use protocol::Sample;

use crate::batch::{MicroBatch, pack};
use crate::gradients::{Gather, Layout, Sums, norm};
use crate::samples::weigh;
use crate::settings::{Placement, Recompute};
use crate::train_on::TrainOn;

/// What one step computes before it changes anything.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// Weighted mean of the negative log-likelihood over the trained tokens.
    pub loss: f64,
    /// Global norm of the gradient.
    pub norm: f64,
    /// The gradient of each parameter by its checkpoint name; empty if none reached it.
    pub parameters: Vec<(String, Vec<f32>)>,
}

/// Loss and gradient of one step over `samples`, computed exactly as [`crate::train`] does without
/// recomputation and dropout.
///
/// # Panics
/// Those of [`loss_and_gradients_with`].
pub fn loss_and_gradients(
    decoder: &Decoder,
    samples: &[Sample],
    train_on: &TrainOn,
    tokens_per_micro_batch: usize,
) -> Gradients {
    let recompute = Recompute::None;
    loss_and_gradients_with(
        decoder,
        samples,
        train_on,
        tokens_per_micro_batch,
        recompute,
    )
}

/// Loss and gradient of one step over `samples`, with or without recomputation.
///
/// # Panics
/// If the decoder is not on an autodiff device, or no token carries loss.
pub fn loss_and_gradients_with(
    decoder: &Decoder,
    samples: &[Sample],
    train_on: &TrainOn,
    tokens_per_micro_batch: usize,
    recompute: Recompute,
) -> Gradients {
    let weights = weigh(samples, train_on);
    let total: f64 = weights.iter().map(|weight| weight.sum).sum();
    assert!(total > 0.0, "some token carries loss");
    let layout = Layout::of(decoder);
    let mut sums = Sums::new(&layout, Gather::In(Placement::Host), Vec::new());
    let indices: Vec<usize> = (0..samples.len()).collect();
    let groups = pack(&indices, &weights, tokens_per_micro_batch);
    for (done, group) in groups.iter().enumerate() {
        let batch = MicroBatch::new(samples, group, train_on, total);
        sums.add(decoder, &batch, None, recompute, done + 1 == groups.len());
    }
    let (loss, norm) = (sums.loss, norm(&sums.squares()));
    let names = layout.parameters.into_iter().map(|entry| entry.name);
    Gradients {
        loss,
        norm,
        parameters: names
            .zip(&sums.gradients)
            .map(|(name, gradient)| (name, gradient.to_host().into_owned()))
            .collect(),
    }
}
