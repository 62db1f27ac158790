//! The operations in Burn's own terms: the meaning of the fused ones, and most of what other
//! backends run.
//!
//! Written to be read and differentiated automatically. Norms, rotation, softmax and loss are
//! computed in f32 and rounded once to the format of the tensors.

use burn::tensor::activation::{log_softmax, silu, softmax};
use burn::tensor::{DType, Int, Tensor, TensorData};

use super::product::product_transposed;
use super::{Dropping, Heads};
use crate::rope::Rope;

/// See [`super::rms_norm`].
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    let dtype = x.dtype();
    // Reshaped first: what stands between two operations keeps a backend from fusing them.
    let weight = weight.unsqueeze::<2>();
    let x = to_f32(x);
    let mean_square = x.clone().square().mean_dim(1); // [N, 1]
    let scale = (mean_square + eps).sqrt().recip();
    // Rounded before the weight, as transformers does.
    (x * scale).cast(dtype) * weight
}

/// A tensor in f32.
fn to_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(DType::F32)
}

/// See [`super::linear`].
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let y = product_transposed(x, weight);
    match bias.map(Tensor::unsqueeze::<2>) {
        Some(bias) => y + bias,
        None => y,
    }
}

/// See [`super::swiglu`].
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    silu(gate) * up
}

/// See [`super::dropout`]: by a mask that is made in host memory.
///
/// # Panics
/// If `dropping` was made for another number of rows.
pub fn dropout(x: Tensor<2>, dropping: &Dropping) -> Tensor<2> {
    let [tokens, width] = x.dims();
    let mask = dropping.apply(&vec![1.0; tokens * width], width);
    let mask = TensorData::new(mask, [tokens, width]);
    let mask = Tensor::<2>::from_data(mask, (&x.device().inner(), x.dtype()));
    match x.is_autodiff() {
        true => x * Tensor::from_inner(mask),
        false => x * mask,
    }
}

/// See [`super::embedding`].
pub fn embedding(weight: Tensor<2>, ids: &[u32]) -> Tensor<2> {
    let device = weight.device();
    weight.select(0, indices(ids, &device))
}

fn indices(ids: &[u32], device: &burn::tensor::Device) -> Tensor<1, Int> {
    let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
    let count = ids.len();
    Tensor::from_data(TensorData::new(ids, [count]), device)
}

/// The rotary embedding of all heads of `x` at `positions` `first ..`.
///
/// # Shapes
/// `x: [S, heads * D]`, result `[heads, S, D]`.
pub fn rotate(x: Tensor<2>, dim: usize, first: usize, rope: &Rope) -> Tensor<3> {
    let (cos, sin) = tables(first, &x, rope);
    let [cos, sin] = [cos, sin].map(|table| table.unsqueeze::<3>()); // [1, S, D]
    let dtype = x.dtype();
    let swapped = halves_swapped(x.clone(), dim);
    let [x, swapped] = [x, swapped].map(|x| to_f32(split_heads(x, dim))); // [heads, S, D]
    (x * cos + swapped * sin).cast(dtype)
}

/// Cosines and sines at the positions `first ..` of the rows of `x`: `[S, D]` each, as data beside `x`.
pub(super) fn tables(first: usize, x: &Tensor<2>, rope: &Rope) -> (Tensor<2>, Tensor<2>) {
    let length = x.dims()[0];
    let turns = rope.turns(first + length, &x.device());
    let part = |table: Tensor<2>| {
        let rows = table.narrow(0, first, length);
        match x.device().is_autodiff() {
            true => Tensor::from_inner(rows),
            false => rows,
        }
    };
    (part(turns.cos), part(turns.sin))
}

/// The second half of each head of `dim` elements before its first.
pub(crate) fn halves_swapped<const D: usize>(x: Tensor<D>, dim: usize) -> Tensor<D> {
    let shape = x.shape();
    let heads = shape.num_elements() / dim;
    x.reshape([heads, 2, dim / 2]).flip([1]).reshape(shape)
}

/// `[S, heads * D]` as `[heads, S, D]`.
pub(crate) fn split_heads(x: Tensor<2>, dim: usize) -> Tensor<3> {
    let [length, width] = x.dims();
    x.reshape([length, width / dim, dim]).swap_dims(0, 1)
}

/// See [`super::attention`].
pub fn attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    heads: Heads,
    lengths: &[usize],
    rope: &Rope,
) -> Tensor<2> {
    let mut parts = Vec::with_capacity(lengths.len());
    let mut first = 0;
    for &length in lengths.iter().filter(|length| **length > 0) {
        let rows = |x: &Tensor<2>| x.clone().narrow(0, first, length);
        parts.push(document(rows(&q), rows(&k), rows(&v), heads, rope));
        first += length;
    }
    Tensor::cat(parts, 0)
}

fn document(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, heads: Heads, rope: &Rope) -> Tensor<2> {
    let [length, width] = q.dims();
    let q = rotate(q, heads.dim, 0, rope); // [H, S, D]
    let k = rotate(k, heads.dim, 0, rope); // [K, S, D]
    let v = split_heads(v, heads.dim);
    attend(q, k, v).swap_dims(0, 1).reshape([length, width])
}

/// Causal attention with all scores at a time.
///
/// # Shapes
/// `q: [H, S, D]`, `k, v: [K, S, D]` with `K` a divisor of `H`; result `[H, S, D]`.
pub fn attend(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>) -> Tensor<3> {
    let ([heads, length, dim], [kv_heads, _, _]) = (q.dims(), k.dims());
    let (device, dtype) = (q.device(), q.dtype());
    let repeated = |x: Tensor<3>| {
        let x = x.unsqueeze_dim::<4>(1).repeat_dim(1, heads / kv_heads); // [K, G, S, D]
        x.reshape([heads, length, dim])
    };
    let (k, v) = (repeated(k), repeated(v));
    let scores = to_f32(q.matmul(k.swap_dims(1, 2))) / (dim as f64).sqrt(); // [H, S, S]
    let hidden = Tensor::<2, burn::tensor::Bool>::tril_mask([length, length], 0, &device);
    let scores = scores.mask_fill(hidden.unsqueeze::<3>(), f32::NEG_INFINITY);
    softmax(scores, 2).cast(dtype).matmul(v)
}

/// See [`super::cross_entropy`].
pub fn cross_entropy(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: &[u32],
    weights: &[f32],
    chunk: usize,
) -> Tensor<1> {
    let device = hidden.device();
    let counted: Vec<u32> = (0..targets.len() as u32)
        .filter(|t| weights[*t as usize] != 0.0)
        .collect();
    let mut loss = Tensor::<1>::zeros([1], (&device, DType::F32));
    for tokens in counted.chunks(chunk) {
        let count = tokens.len();
        let picked = tokens
            .iter()
            .map(|t| targets[*t as usize])
            .collect::<Vec<_>>();
        let shares = tokens
            .iter()
            .map(|t| weights[*t as usize])
            .collect::<Vec<_>>();
        let rows = hidden.clone().select(0, indices(tokens, &device));
        let logs = log_softmax(to_f32(linear(rows, weight.clone(), None)), 1); // [chunk, V]
        let picked = indices(&picked, &device).reshape([count, 1]);
        let logs = logs.gather(1, picked).reshape([count]);
        loss = loss - (logs * Tensor::from_data(TensorData::new(shares, [count]), &device)).sum();
    }
    loss
}
