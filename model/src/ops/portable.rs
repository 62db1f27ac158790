//! The operations on every backend but the CPU's own, and in every number format.
//!
//! Weights and activations may be bf16. Norms, the rotary embedding, softmax and the loss are
//! computed in f32 from them and rounded once; products are taken in their format.

use std::sync::{Mutex, PoisonError};

use burn::tensor::module::attention as burn_attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

#[cfg(feature = "cuda")]
use super::flash;
use super::{Attended, Heads, chunked, reference};
use crate::rope::Rope;

/// How attention is computed where texts are trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttentionKernel {
    /// In chunks of queries, by [`chunked`]: right on every backend.
    #[default]
    Chunked,
    /// By Burn's fused kernels, where they have been found right on this device.
    Fused,
    /// By NVIDIA's cuDNN, all documents of a batch in one call; in chunks where it does not serve (in f32,
    /// and in sizes that it has no kernel for). For where it has been found right on this device.
    Cudnn,
}

impl std::fmt::Display for AttentionKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Chunked => "chunked",
            Self::Fused => "fused",
            Self::Cudnn => "cudnn",
        })
    }
}

/// What was chosen for the devices of this process.
static CHOSEN: Mutex<Vec<(Device, AttentionKernel)>> = Mutex::new(Vec::new());

/// Sets how attention is computed on this device from now on, in this process.
///
/// Take [`AttentionKernel::Fused`] only where [`crate::self_check`] has found it right: a wrong
/// gradient shows in no loss curve.
pub fn use_attention_kernel(device: &Device, kernel: AttentionKernel) {
    let device = device.clone().inner();
    let mut chosen = CHOSEN.lock().unwrap_or_else(PoisonError::into_inner);
    chosen.retain(|(known, _)| *known != device);
    chosen.push((device, kernel));
}

/// How attention is computed on this device: in chunks, unless something else was set.
pub fn attention_kernel(device: &Device) -> AttentionKernel {
    let device = device.clone().inner();
    let chosen = CHOSEN.lock().unwrap_or_else(PoisonError::into_inner);
    let found = chosen.iter().find(|(known, _)| *known == device);
    found.map_or(AttentionKernel::default(), |(_, kernel)| *kernel)
}

/// See [`super::attention_kept`].
pub(super) fn attention(
    [q, k, v]: [Tensor<2>; 3],
    heads: Heads,
    lengths: &[usize],
    rope: &Rope,
) -> (Tensor<2>, Option<Attended>) {
    let kernel = attention_kernel(&q.device());
    #[cfg(feature = "cuda")]
    if kernel == AttentionKernel::Cudnn && flash::serves(&q.device(), q.dtype(), heads, lengths) {
        let kept = flash::attention(turned([q, k, v], lengths, rope), heads, lengths);
        return (kept.out.clone(), Some(kept));
    }
    let mut parts = Vec::with_capacity(lengths.len());
    let mut first = 0;
    for &length in lengths.iter().filter(|length| **length > 0) {
        let rows = |x: &Tensor<2>| x.clone().narrow(0, first, length);
        let q = rotate(rows(&q), heads.dim, 0, rope); // [H, S, D]
        let k = rotate(rows(&k), heads.dim, 0, rope); // [K, S, D]
        let v = reference::split_heads(rows(&v), heads.dim);
        let mixed = of_document(q, k, v, kernel); // [H, S, D]
        parts.push(
            mixed
                .swap_dims(0, 1)
                .reshape([length, heads.query * heads.dim]),
        );
        first += length;
    }
    let mixed = match parts.len() {
        1 => parts.remove(0),
        _ => Tensor::cat(parts, 0),
    };
    (mixed, None)
}

/// See [`super::attention_again`], for what [`attention`] kept.
#[cfg(feature = "cuda")]
pub(super) fn attention_again(
    qkv: [Tensor<2>; 3],
    heads: Heads,
    lengths: &[usize],
    rope: &Rope,
    kept: Attended,
) -> Tensor<2> {
    flash::attention_again(turned(qkv, lengths, rope), heads, lengths, kept)
}

/// Queries, keys and values of documents, the first two turned by the rotary embedding.
#[cfg(feature = "cuda")]
fn turned([q, k, v]: [Tensor<2>; 3], lengths: &[usize], rope: &Rope) -> [Tensor<2>; 3] {
    let (cos, sin) = tables_of(lengths, &q, rope);
    let [q, k] = [q, k].map(|x| super::rows::turn(x, cos.clone(), sin.clone()));
    [q, k, v]
}

/// What turns the tokens of documents, whose positions begin at 0: `[T, D]` each.
#[cfg(feature = "cuda")]
fn tables_of(lengths: &[usize], x: &Tensor<2>, rope: &Rope) -> (Tensor<2>, Tensor<2>) {
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let whole = x.clone().narrow(0, 0, longest);
    let (cos, sin) = reference::tables(0, &whole, rope);
    let of_all = |table: Tensor<2>| match lengths {
        [_] => table,
        _ => {
            let there = lengths.iter().filter(|length| **length > 0);
            Tensor::cat(
                there
                    .map(|length| table.clone().narrow(0, 0, *length))
                    .collect(),
                0,
            )
        }
    };
    (of_all(cos), of_all(sin))
}

/// [`reference::rotate`], in one kernel where there is one.
pub(crate) fn rotate(x: Tensor<2>, dim: usize, first: usize, rope: &Rope) -> Tensor<3> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if super::rows::run_on(&x.device()) {
        let (cos, sin) = reference::tables(first, &x, rope);
        return reference::split_heads(super::rows::turn(x, cos, sin), dim);
    }
    reference::rotate(x, dim, first, rope)
}

/// Causal attention of one document by the kernel named.
///
/// # Shapes
/// `q: [H, S, D]`, `k, v: [K, S, D]`, result `[H, S, D]`.
pub fn of_document(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, kernel: AttentionKernel) -> Tensor<3> {
    match kernel {
        AttentionKernel::Chunked => chunked::attention(q, k, v, None),
        AttentionKernel::Fused => {
            let options = AttentionModuleOptions {
                is_causal: true,
                ..Default::default()
            };
            let [q, k, v] = [q, k, v].map(|x| x.unsqueeze::<4>());
            burn_attention(q, k, v, None, None, options).squeeze_dim(0)
        }
        AttentionKernel::Cudnn => by_cudnn(q, k, v),
    }
}

/// One document by cuDNN, or in chunks where it does not serve.
fn by_cudnn(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>) -> Tensor<3> {
    #[cfg(feature = "cuda")]
    {
        let ([query, length, dim], [key_value, _, _]) = (q.dims(), k.dims());
        let heads = Heads {
            query,
            key_value,
            dim,
        };
        if flash::serves(&q.device(), q.dtype(), heads, &[length]) {
            let rows =
                |x: Tensor<3>, heads: usize| x.swap_dims(0, 1).reshape([length, heads * dim]);
            let (q, k, v) = (rows(q, query), rows(k, key_value), rows(v, key_value));
            let mixed = flash::attention([q, k, v], heads, &[length]).out;
            return reference::split_heads(mixed, dim);
        }
    }
    chunked::attention(q, k, v, None)
}
