//! Rows of scores and of logits, below automatic differentiation.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{FloatDType, Tensor};

use super::super::chunked::Array;

/// Which scores count and by what they are multiplied: of row i the first
/// `first + i % period + 1`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) period: usize,
    pub(crate) first: usize,
    pub(crate) scale: f64,
}

/// Softmax with its gradient, and the loss with its own.
#[backend_extension(
    Flex,
    Cube: cfg(any(feature = "cuda", feature = "wgpu")),
    Fusion: cfg(any(feature = "cuda", feature = "wgpu"))
)]
pub(crate) trait ScoreKernels: Backend {
    /// Softmax of the scores that count, 0 for the others, in the scores' format; the log of each row's sum
    /// of exponentials in f32.
    ///
    /// # Shapes
    /// `scores: [.., L]`, results `[.., L]` and `[.., 1]`.
    #[fusion(meta = |scores, seen| (scores.clone(), {
        let _ = seen;
        column_of(&scores.shape)
    }))]
    fn shares(scores: FloatTensor<Self>, seen: Seen) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Shares anew from scores and log-sums, and the gradients by the scores from those by the shares.
    /// `out` and `dy` are the rows that the shares made and their gradients.
    ///
    /// # Shapes
    /// `scores, d_shares: [.., L]`, `log_sums: [.., 1]`, `out, dy: [.., D]`, results `[.., L]`.
    #[fusion(meta = |scores, d_shares, log_sums, out, dy, seen| {
        let _ = (d_shares, log_sums, out, dy, seen);
        (scores.clone(), scores.clone())
    })]
    fn shares_backward(
        scores: FloatTensor<Self>,
        d_shares: FloatTensor<Self>,
        log_sums: FloatTensor<Self>,
        out: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        seen: Seen,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The negative log-likelihood of each row's target times the row's weight in f32, and its gradient by
    /// the logits in their format.
    ///
    /// # Shapes
    /// `logits: [N, V]`, `targets, weights: [N, 1]`, results `[N, 1]` and `[N, V]`.
    #[fusion(meta = |logits, targets, weights| {
        let _ = (targets, weights);
        (column_of(&logits.shape), logits.clone())
    })]
    fn losses(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// A number of f32 for each row.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn column_of(shape: &burn::tensor::Shape) -> burn::backend::fusion::custom::TensorSpec {
    let shape = super::with_last(shape, 1);
    burn::backend::fusion::custom::TensorSpec::new(shape, burn::tensor::DType::F32)
}

/// Scores that count times the scale, in f32; the others are far below all.
fn seen_of<B: Backend>(scores: &Array<B>, seen: Seen) -> Array<B> {
    let shape = scores.0.shape();
    let width = shape[shape.num_dims() - 1];
    let rows = shape.num_elements() / width.max(1);
    let hidden = |at: usize| match at % width > seen.first + at / width % seen.period {
        true => -1e30,
        false => 0.0,
    };
    let mask = scores.upload((0..rows * width).map(hidden).collect(), shape);
    scores
        .clone()
        .cast(FloatDType::F32)
        .scale(seen.scale)
        .add(mask)
}

/// [`ScoreKernels::shares`] of a backend's own operations.
pub(super) fn shares<B: Backend>(
    scores: FloatTensor<B>,
    seen: Seen,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let scores = Array::<B>(scores);
    let dtype = scores.float();
    let scores = seen_of(&scores, seen);
    let most = scores.clone().max_rows();
    let shares = scores.sub(most.clone()).exp();
    let sums = shares.clone().sum_rows();
    let log_sums = most.add(sums.clone().log());
    (shares.div(sums).cast(dtype).0, log_sums.0)
}

/// [`ScoreKernels::shares_backward`] of a backend's own operations.
pub(super) fn shares_backward<B: Backend>(
    tensors: [FloatTensor<B>; 5],
    seen: Seen,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let [scores, d_shares, log_sums, out, dy] = tensors.map(Array::<B>);
    let dtype = scores.float();
    let [d_shares, out, dy] = [d_shares, out, dy].map(|x| x.cast(FloatDType::F32));
    let common = out.mul(dy).sum_rows();
    let shares = seen_of(&scores, seen).sub(log_sums).exp();
    let d_scores = shares.clone().mul(d_shares.sub(common)).scale(seen.scale);
    (shares.cast(dtype).0, d_scores.cast(dtype).0)
}

/// [`ScoreKernels::losses`] of a backend's own operations.
pub(super) fn losses<B: Backend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    weights: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (logits, weights) = (Array::<B>(logits), Array::<B>(weights));
    let dtype = logits.float();
    let logits = logits.cast(FloatDType::F32);
    let most = logits.clone().max_rows();
    let logits = logits.sub(most);
    let picked = logits.gather(targets.clone());
    let exps = logits.exp();
    let sums = exps.clone().sum_rows();
    let losses = sums.clone().log().sub(picked).mul(weights.clone());
    let slopes = exps
        .mul(weights.clone().div(sums))
        .scatter_add(targets, weights.scale(-1.0));
    (losses.0, slopes.cast(dtype).0)
}

impl ScoreKernels for Flex {
    fn shares(scores: FloatTensor<Self>, seen: Seen) -> (FloatTensor<Self>, FloatTensor<Self>) {
        shares::<Self>(scores, seen)
    }

    fn shares_backward(
        scores: FloatTensor<Self>,
        d_shares: FloatTensor<Self>,
        log_sums: FloatTensor<Self>,
        out: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        seen: Seen,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        shares_backward::<Self>([scores, d_shares, log_sums, out, dy], seen)
    }

    fn losses(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        losses::<Self>(logits, targets, weights)
    }
}

/// [`ScoreKernels::shares`] of tensors, without the log-sums.
pub(crate) fn shares_of<const D: usize>(scores: Tensor<D>, seen: Seen) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::shares(scores.into_dispatch(), seen).0)
}
