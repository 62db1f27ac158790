//! The loss in chunks of tokens, with its gradients in closed form: logits exist for one chunk.
//!
//! Legend: T tokens, d width, V vocabulary, c tokens of a chunk.

use burn::backend::Backend;

use super::array::Array;
use crate::ops::product::ProductOps;
use crate::ops::rows::ScoreKernels;

/// Which tokens are counted and what is wanted of them.
#[derive(Clone, Debug)]
pub(crate) struct LossPlan {
    pub(crate) targets: Vec<u32>,
    pub(crate) weights: Vec<f32>,
    pub(crate) chunk: usize,
    /// Whether the gradient by the hidden states is wanted, and by the projection.
    pub(crate) wants: [bool; 2],
}

/// The loss `[1]` in f32 and the gradients that are wanted, for an incoming gradient of 1; that of
/// the projection is f32.
pub(super) struct Loss<B: Backend> {
    pub(super) loss: Array<B>,
    pub(super) d_hidden: Option<Array<B>>,
    pub(super) d_weight: Option<Array<B>>,
}

/// See [`super::super::cross_entropy`].
pub(super) fn cross_entropy<B: ProductOps + ScoreKernels>(
    hidden: &Array<B>,
    weight: &Array<B>,
    plan: &LossPlan,
) -> Loss<B> {
    let dtype = hidden.float();
    let ([tokens, width], [vocabulary, _]) = (hidden.dims::<2>(), weight.dims::<2>());
    let [want_hidden, want_weight] = plan.wants;
    let mut loss = hidden.zeros_f32([1]);
    let mut d_hidden = want_hidden.then(|| hidden.zeros_f32([tokens, width]).cast(dtype));
    let mut d_weight = want_weight.then(|| hidden.zeros_f32([vocabulary, width]));
    let counted: Vec<u32> = (0..tokens as u32)
        .filter(|token| plan.weights[*token as usize] != 0.0)
        .collect();
    for tokens in counted.chunks(plan.chunk.max(1)) {
        let count = tokens.len();
        let places = hidden.upload_indices(tokens.iter().copied(), [count]);
        let of_token = |token: &u32| plan.targets[*token as usize];
        let targets = hidden.upload_indices(tokens.iter().map(of_token), [count, 1]);
        let shares = tokens.iter().map(|token| plan.weights[*token as usize]);
        let shares = hidden.upload(shares.collect(), [count, 1]);
        let rows = hidden.select(places.clone()); // [c, d]
        let logits = rows.clone().matmul(weight.clone().transpose()).0; // [c, V]
        let (losses, slope) = B::losses(logits, targets, shares.0);
        loss = loss.add(Array::<B>(losses).sum().reshape([1]));
        if !(want_hidden || want_weight) {
            continue;
        }
        let slope = Array::<B>(slope);
        d_hidden =
            d_hidden.map(|all| all.with_selected(places, slope.clone().matmul(weight.clone())));
        d_weight = d_weight.map(|all| all.onto(slope.transpose(), rows.transpose()));
    }
    Loss {
        loss,
        d_hidden,
        d_weight,
    }
}
