//! Operations in chunks with hand-written gradients, for every backend: what long texts are trained
//! with where no fused kernel can be trusted.
//!
//! They are made of the backend's own products and elementwise operations, below automatic
//! differentiation, so that nothing of a chunk is kept for the backward pass.

mod array;
mod attention;
mod autodiff;
mod loss;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

pub(super) use self::array::Array;
use self::loss::LossPlan;

/// The chunked operations; see the functions below for their meaning.
#[backend_extension(Flex, Cube: cfg(any(feature = "cuda", feature = "wgpu")), Autodiff)]
pub(crate) trait ChunkedOps: Backend {
    fn chunked_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        rows: usize,
    ) -> FloatTensor<Self>;

    fn chunked_cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        plan: LossPlan,
    ) -> FloatTensor<Self>;
}

/// The same for every backend that computes.
macro_rules! chunked_ops {
    ($backend:ty) => {
        impl ChunkedOps for $backend {
            fn chunked_attention(
                q: FloatTensor<Self>,
                k: FloatTensor<Self>,
                v: FloatTensor<Self>,
                rows: usize,
            ) -> FloatTensor<Self> {
                attention::forward::<Self>(&Array(q), &Array(k), &Array(v), rows)
                    .0
                    .0
            }

            fn chunked_cross_entropy(
                hidden: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                plan: LossPlan,
            ) -> FloatTensor<Self> {
                loss::cross_entropy::<Self>(&Array(hidden), &Array(weight), &plan)
                    .loss
                    .0
            }
        }
    };
}

chunked_ops!(Flex);
#[cfg(any(feature = "cuda", feature = "wgpu"))]
chunked_ops!(burn::backend::Cube);

/// Causal attention of one document, queries and keys already rotated, in chunks of `rows` queries
/// (None: as many as keep the scores of a chunk below half a gigabyte).
///
/// # Shapes
/// `q: [H, S, D]`, `k, v: [K, S, D]` with `K` a divisor of `H`; result `[H, S, D]`.
pub fn attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, rows: Option<usize>) -> Tensor<3> {
    let [heads, tokens, _] = q.dims();
    let rows = rows.unwrap_or_else(|| attention::rows_of_chunk(heads, tokens));
    Tensor::from_dispatch(Dispatch::chunked_attention(
        q.into_dispatch(),
        k.into_dispatch(),
        v.into_dispatch(),
        rows.max(1),
    ))
}

/// See [`super::cross_entropy`].
pub fn cross_entropy(
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
        wants: [hidden.is_tracked(), weight.is_tracked()],
    };
    Tensor::from_dispatch(Dispatch::chunked_cross_entropy(
        hidden.into_dispatch(),
        weight.into_dispatch(),
        plan,
    ))
}
