//! The decoder's operations on tensors.
//!
//! Each operation has two forms with the same meaning: a fused one for f32 on the CPU backend, with
//! a hand-written backward pass (`backend`), and one for every other backend and number format: a
//! plain one of Burn's own operations ([`reference`], which is also what the tests compare against),
//! or for attention and the loss one in chunks ([`chunked`]). The caller never chooses: the device
//! and the format of the tensors do.
//!
//! Legend: T tokens of a packed batch, d width, V vocabulary, H query heads, K key-value heads,
//! D head size.

mod again;
mod autodiff;
mod backend;
#[cfg(feature = "cuda")]
mod card;
pub mod chunked;
mod dropout;
#[cfg(any(test, feature = "cuda"))]
pub(crate) mod flash;
mod flex;
mod host;
mod pool;
pub mod portable;
pub(crate) mod product;
pub mod reference;
pub(crate) mod rows;

use burn::tensor::{DType, Device, Gradients, Tensor};

pub use self::dropout::Dropping;
pub(crate) use self::host::HostTensor;
use crate::rope::Rope;

/// The heads of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads H.
    pub query: usize,
    /// Key-value heads K; divides H.
    pub key_value: usize,
    /// Head size D; even.
    pub dim: usize,
}

/// Whether a device is the CPU backend, with or without gradients.
pub(crate) fn is_cpu(device: &Device) -> bool {
    use burn::backend::DispatchDevice;
    matches!(
        device.clone().inner().as_dispatch(),
        DispatchDevice::Flex(_)
    )
}

/// Whether the fused form runs on tensors like this one.
fn fused(x: &Tensor<2>) -> bool {
    x.dtype() == DType::F32 && is_cpu(&x.device())
}

/// RMS norm of each row: `weight * x / sqrt(mean(x^2) + eps)`.
///
/// # Shapes
/// `x: [N, D]`, `weight: [D]`, result `[N, D]`.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    if fused(&x) {
        return backend::rms_norm(x, weight, eps);
    }
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if rows::run_on(&x.device()) {
        return rows::norm(x, weight, eps);
    }
    reference::rms_norm(x, weight, eps)
}

/// `x weightᵀ + bias`, the layout of Hugging Face checkpoints.
///
/// # Shapes
/// `x: [N, i]`, `weight: [o, i]`, `bias: [o]`, result `[N, o]`.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    if fused(&x) {
        return match bias {
            Some(bias) => backend::linear_plus(x, weight, bias),
            None => backend::linear(x, weight),
        };
    }
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let (Some(bias), true) = (&bias, rows::run_on(&x.device())) {
        return rows::bias(product::product_transposed(x, weight), bias.clone());
    }
    reference::linear(x, weight, bias)
}

/// `x` with some values 0 and the others scaled up, so that the mean stays. On the CPU in f32 and on CUDA cards no
/// mask is made: the backward pass finds anew what was dropped.
///
/// # Shapes
/// `x: [T, i]`, result the same.
///
/// # Panics
/// If `dropping` was made for another number of rows.
pub fn dropout(x: Tensor<2>, dropping: &Dropping) -> Tensor<2> {
    match fused(&x) || rows::run_on(&x.device()) {
        true => dropout::without_mask(x, dropping.clone()),
        false => reference::dropout(x, dropping),
    }
}

/// The sums of the squares of stretches of a vector, in order, in f32: short enough that they are off by
/// less than 1e-6.
///
/// # Shapes
/// `values: [N]`, result `[stretches]`.
pub fn squares(values: Tensor<1>) -> Tensor<1> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if rows::run_on(&values.device()) {
        return rows::squares(values);
    }
    /// As many as are added one to the next.
    const SHORT: usize = 1 << 10;
    let [count] = values.dims();
    let whole = count / SHORT * SHORT;
    let parts = [(0, whole, SHORT), (whole, count - whole, count - whole)];
    let sums = parts.into_iter().filter(|(_, count, _)| *count > 0);
    let sums = sums.map(|(first, count, stretch)| {
        let part = values.clone().narrow(0, first, count);
        let sums = part.square().reshape([count / stretch, stretch]).sum_dim(1);
        sums.reshape([count / stretch])
    });
    Tensor::cat(sums.collect(), 0)
}

/// The numbers of a step of AdamW, the same for all elements.
#[derive(Clone, Copy, Debug)]
pub struct AdamWNumbers {
    /// What a weight is multiplied by: 1, or less where it decays.
    pub keep: f32,
    /// What gradients are multiplied by first.
    pub gradient_scale: f32,
    /// The share of the gradient in the running mean.
    pub mix1: f32,
    /// The share of the old mean of squares in the new one.
    pub beta2: f32,
    /// The share of the gradient's square in it.
    pub mix2: f32,
    /// The learning rate, corrected for the mean's start from 0.
    pub rate: f32,
    /// The root of the correction of the squares' mean.
    pub root_correction: f32,
    /// Added to the root of the squares' mean.
    pub eps: f32,
}

/// A step of AdamW on tensors: new weights, both running means, and the weights once more: rounded to bf16 if there
/// is a `model` whose weights were rounded from them before. On cards these are replaced where they lie, if nothing
/// else holds them: weights that moved with each step would leave holes in the card's memory.
///
/// # Shapes
/// All `[N]`, in f32 but for what is rounded.
pub fn adamw(
    weights: Tensor<1>,
    gradient: Tensor<1>,
    [first, second]: [Tensor<1>; 2],
    numbers: AdamWNumbers,
    model: Option<Tensor<1>>,
) -> [Tensor<1>; 4] {
    let rounds = model.is_some();
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if rows::run_on(&weights.device()) {
        let [weights, first, second, rounded] =
            rows::adamw(weights, gradient, [first, second], model, numbers);
        let again = if rounds { rounded } else { weights.clone() };
        return [weights, first, second, again];
    }
    let gradient = gradient * numbers.gradient_scale;
    let first = first.clone() + (gradient.clone() - first) * numbers.mix1;
    let second = second * numbers.beta2 + gradient.clone() * numbers.mix2 * gradient;
    let root = second.clone().sqrt() / numbers.root_correction + numbers.eps;
    let weights = weights * numbers.keep - first.clone() * numbers.rate / root;
    let again = match rounds {
        true => weights.clone().cast(DType::BF16),
        false => weights.clone(),
    };
    [weights, first, second, again]
}

/// Where the largest number of each row is, of equal ones the first.
///
/// # Shapes
/// `x: [N, V]`, result `[N]`.
pub fn largest(x: Tensor<2>) -> Tensor<1, burn::tensor::Int> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if rows::run_on(&x.device()) {
        return rows::largest(x);
    }
    let [rows, _] = x.dims();
    x.argmax(1).reshape([rows])
}

/// `residual + x weightᵀ`, in one pass.
///
/// # Shapes
/// `x: [N, i]`, `weight: [o, i]`, `residual: [N, o]`, result `[N, o]`.
pub fn linear_residual(x: Tensor<2>, weight: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
    if fused(&x) {
        return backend::linear_plus(x, weight, residual);
    }
    product::product_onto(residual, x, weight)
}

/// [`linear_residual`] of which only the gradients will be asked for: the product is left out where it can be, so that
/// the numbers of the result mean nothing.
pub(crate) fn linear_residual_unread(
    x: Tensor<2>,
    weight: Tensor<2>,
    residual: Tensor<2>,
) -> Tensor<2> {
    if fused(&x) {
        return backend::linear_plus_unread(x, weight, residual);
    }
    if product::by_library() {
        return again::onto_unread(residual, x, weight);
    }
    linear_residual(x, weight, residual)
}

/// Gradients of what `output` depends on, where `incoming` is the gradient by it; its own numbers are not read.
///
/// # Shapes
/// `output` and `incoming` the same.
pub(crate) fn gradients_from(output: Tensor<2>, incoming: Tensor<2>) -> Gradients {
    again::seeded(output, Tensor::from_inner(incoming)).backward()
}

/// `silu(gate) * up`.
///
/// # Shapes
/// All `[N, m]`.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    if fused(&gate) {
        return backend::swiglu(gate, up);
    }
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if rows::run_on(&gate.device()) {
        return rows::gate(gate, up);
    }
    reference::swiglu(gate, up)
}

/// The rows `ids` of `weight`; repeated ids add up in the gradient, in the order of `ids`.
///
/// # Shapes
/// `weight: [V, d]`, result `[ids.len(), d]`.
pub fn embedding(weight: Tensor<2>, ids: &[u32]) -> Tensor<2> {
    if fused(&weight) {
        return backend::embedding(weight, ids);
    }
    reference::embedding(weight, ids)
}

/// Rotary embedding and causal attention inside each document, with grouped queries.
///
/// Positions restart at 0 in each document. For the backward pass q, k, v, the result and one
/// number per row and head are kept; scores exist for a block of rows at a time, except where
/// [`portable::use_attention_kernel`] says that Burn's own kernels are used.
///
/// # Shapes
/// `q: [T, H * D]`, `k, v: [T, K * D]` with `T` the sum of `lengths`, result `[T, H * D]`.
pub fn attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    heads: Heads,
    lengths: &[usize],
    rope: &Rope,
) -> Tensor<2> {
    attention_kept([q, k, v], heads, lengths, rope).0
}

/// What attention gave in a pass without a graph, for a pass with one over the same tensors, which need not
/// compute it then.
#[derive(Clone, Debug)]
pub(crate) struct Attended {
    /// The result.
    out: Tensor<2>, // [T, H * D]
    /// The log of the sum of exponentials of each query's scores, in f32.
    log_sums: Tensor<2>, // [H, T] on the CPU, [T, H] elsewhere
}

impl Attended {
    #[cfg(feature = "cuda")]
    pub(crate) fn out(self) -> Tensor<2> {
        self.out
    }
}

/// [`attention`], and what can be kept of it: nothing where it is computed in chunks or by Burn.
pub(crate) fn attention_kept(
    qkv: [Tensor<2>; 3],
    heads: Heads,
    lengths: &[usize],
    rope: &Rope,
) -> (Tensor<2>, Option<Attended>) {
    if fused(&qkv[0]) {
        let plan = backend::AttentionPlan::new(heads, lengths, rope);
        let kept = backend::attention(qkv, plan);
        return (kept.out.clone(), Some(kept));
    }
    portable::attention(qkv, heads, lengths, rope)
}

/// What [`attention`] gave of the same tensors, with its gradients.
pub(crate) fn attention_again(
    qkv: [Tensor<2>; 3],
    heads: Heads,
    lengths: &[usize],
    rope: &Rope,
    kept: Attended,
) -> Tensor<2> {
    #[cfg(feature = "cuda")]
    if !fused(&qkv[0]) {
        return portable::attention_again(qkv, heads, lengths, rope, kept);
    }
    let plan = backend::AttentionPlan::new(heads, lengths, rope);
    backend::attention_again(qkv, kept, plan)
}

/// Weighted sum of the negative log-likelihoods of `targets` under `softmax(hidden weightᵀ)`.
///
/// The logits exist for `chunk` tokens at a time. Tokens of weight 0 are skipped: they cost
/// nothing and add nothing, to the loss or to a gradient; if all are 0, loss and gradients are 0.
/// The result is f32 whatever the tensors hold.
///
/// # Shapes
/// `hidden: [T, d]`, `weight: [V, d]`, `targets` and `weights` of length T, result `[1]`.
pub fn cross_entropy(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: &[u32],
    weights: &[f32],
    chunk: usize,
) -> Tensor<1> {
    let [tokens, _] = hidden.dims();
    assert_eq!(targets.len(), tokens, "one target per token");
    assert_eq!(weights.len(), tokens, "one weight per token");
    let vocabulary = weight.dims()[0];
    assert!(
        targets.iter().all(|target| (*target as usize) < vocabulary),
        "every target is a row of the vocabulary"
    );
    if fused(&hidden) {
        return backend::cross_entropy(hidden, weight, targets, weights, chunk.max(1));
    }
    chunked::cross_entropy(hidden, weight, targets, weights, chunk.max(1))
}
