//! The fused operations as an extension of Burn's backend interface.
//!
//! `Flex` computes them (`flex`), `Autodiff<Flex>` adds their gradients (`autodiff`). The functions
//! below carry them to the level of tensors.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::{Attended, Heads};
use crate::rope::Rope;

/// What attention needs besides its tensors.
#[derive(Clone, Debug)]
pub(crate) struct AttentionPlan {
    pub(crate) heads: Heads,
    pub(crate) lengths: Vec<usize>,
    pub(crate) rope: Rope,
}

/// What the loss needs besides its tensors.
#[derive(Clone, Debug)]
pub(crate) struct LossPlan {
    pub(crate) targets: Vec<u32>,
    pub(crate) weights: Vec<f32>,
    pub(crate) chunk: usize,
}

/// The fused operations; see the functions of the parent module for their meaning.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait FusedOps: Backend {
    fn fused_rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;

    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    /// A linear map plus `extra`: a bias of rank 1 or a residual of rank 2.
    fn fused_linear_plus(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        extra: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// `extra` of rank 2 with the gradients of [`FusedOps::fused_linear_plus`]: the product is left out.
    fn fused_linear_plus_unread(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        extra: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    fn fused_embedding(weight: FloatTensor<Self>, ids: Vec<u32>) -> FloatTensor<Self>;

    /// What attention gives, and the log of the sum of exponentials of each query's scores, `[H, T]`.
    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        plan: AttentionPlan,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// `out`, which [`FusedOps::fused_attention`] gave together with `sums`, with its gradients.
    fn fused_attention_again(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        out: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        plan: AttentionPlan,
    ) -> FloatTensor<Self>;

    fn fused_cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        plan: LossPlan,
    ) -> FloatTensor<Self>;
}

pub(crate) fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fused_rms_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        eps,
    ))
}

pub(crate) fn linear(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fused_linear(
        x.into_dispatch(),
        weight.into_dispatch(),
    ))
}

/// A linear map plus a bias (rank 1) or a residual (rank 2).
pub(crate) fn linear_plus<const D: usize>(
    x: Tensor<2>,
    weight: Tensor<2>,
    extra: Tensor<D>,
) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fused_linear_plus(
        x.into_dispatch(),
        weight.into_dispatch(),
        extra.into_dispatch(),
    ))
}

/// [`linear_plus`] a residual, of which only the gradients are asked for.
pub(crate) fn linear_plus_unread(
    x: Tensor<2>,
    weight: Tensor<2>,
    residual: Tensor<2>,
) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fused_linear_plus_unread(
        x.into_dispatch(),
        weight.into_dispatch(),
        residual.into_dispatch(),
    ))
}

pub(crate) fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fused_swiglu(
        gate.into_dispatch(),
        up.into_dispatch(),
    ))
}

pub(crate) fn embedding(weight: Tensor<2>, ids: &[u32]) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fused_embedding(
        weight.into_dispatch(),
        ids.to_vec(),
    ))
}

impl AttentionPlan {
    pub(crate) fn new(heads: Heads, lengths: &[usize], rope: &Rope) -> Self {
        Self {
            heads,
            lengths: lengths.to_vec(),
            rope: rope.clone(),
        }
    }
}

pub(crate) fn attention(qkv: [Tensor<2>; 3], plan: AttentionPlan) -> Attended {
    let [q, k, v] = qkv.map(Tensor::into_dispatch);
    let (out, log_sums) = Dispatch::fused_attention(q, k, v, plan);
    Attended {
        out: Tensor::from_dispatch(out),
        log_sums: Tensor::from_dispatch(log_sums),
    }
}

pub(crate) fn attention_again(
    qkv: [Tensor<2>; 3],
    kept: Attended,
    plan: AttentionPlan,
) -> Tensor<2> {
    let [q, k, v] = qkv.map(Tensor::into_dispatch);
    let (out, sums) = (kept.out.into_dispatch(), kept.log_sums.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_attention_again(q, k, v, out, sums, plan))
}

pub(crate) fn cross_entropy(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: &[u32],
    weights: &[f32],
    chunk: usize,
) -> Tensor<1> {
    let plan = LossPlan {
        targets: targets.to_vec(),
        weights: weights.to_vec(),
        chunk,
    };
    Tensor::from_dispatch(Dispatch::fused_cross_entropy(
        hidden.into_dispatch(),
        weight.into_dispatch(),
        plan,
    ))
}
