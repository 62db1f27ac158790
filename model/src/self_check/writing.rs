//! Attention of texts that are written: one query each, over keys and values as they lie in a cache.
//!
//! Legend: R texts, S slots, K key-value heads, H query heads, C places of a slot, D head size.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Tensor};

use super::Extent;
use super::cases::{Case, Forward};

/// Slots of the cache.
const SLOTS: usize = 6;
/// Key-value heads.
const HEADS: usize = 2;
/// Places of a slot.
const PLACES: usize = 320;
/// Slot and length of each text: one token, around a tile of 16 and the share of a cube, a whole slot, and a
/// row that stands for no text.
const TEXTS: [(i32, usize); 8] = [
    (4, 1),
    (0, 15),
    (5, 17),
    (2, 64),
    (-1, 1),
    (1, 65),
    (3, PLACES),
    (0, 203),
];

/// The kernels of CUDA cards against the definition; where they do not run there is nothing to compare.
pub(super) fn attention(device: &Device, dtype: DType, extent: Extent) -> Case {
    let sizes: Vec<(usize, usize)> = match extent {
        Extent::Brief => vec![(2, 64)],
        Extent::Full => [1, 6, 7, 8, 9]
            .into_iter()
            .flat_map(|group| [32, 64, 128].map(|dim| (group, dim)))
            .collect(),
    };
    let mut case = Case::new("attention of writing", device, dtype);
    for (group, dim) in sizes {
        let expected: Forward = Arc::new(move |x| by_definition(x, group, dim));
        let found: Forward = match crate::ops::rows::run_on(device) {
            true => Arc::new(move |x| by_kernels(x, dim)),
            false => Arc::clone(&expected),
        };
        let what = format!("{}/{HEADS} heads of {dim}", HEADS * group);
        let kept = [SLOTS * HEADS * PLACES, dim];
        let q = [TEXTS.len(), HEADS * group * dim];
        case = case.pair(&what, &[&q, &kept, &kept], found, expected);
    }
    case
}

/// The result as one of the inputs, whose gradients are 0: writing has none.
fn without_gradient(mixed: Tensor<2>, x: &[Tensor<2>]) -> Tensor<2> {
    Tensor::from_inner(mixed) + x[0].clone() * 0.0
}

fn by_kernels(x: &[Tensor<2>], dim: usize) -> Tensor<2> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    {
        use burn::tensor::{Int, TensorData};

        use crate::ops::rows::{self, Layout, Places};

        let [q, keys, values] = [0, 1, 2].map(|input| x[input].clone().inner());
        let device = q.device();
        let numbers = |numbers: Vec<i32>| {
            let data = TensorData::new(numbers, [TEXTS.len()]);
            Tensor::<1, Int>::from_data(data, &device)
        };
        let at = Places {
            slots: numbers(TEXTS.iter().map(|(slot, _)| *slot).collect()),
            positions: numbers(TEXTS.iter().map(|(_, length)| *length as i32 - 1).collect()),
        };
        let layout = Layout {
            heads: HEADS,
            places: PLACES,
            dim,
        };
        let mixed = rows::attend(q * 3.0, [keys, values], &at, layout);
        without_gradient(mixed, x)
    }
    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    unreachable!("no device of this build runs it: {x:?} {dim}")
}

fn by_definition(x: &[Tensor<2>], group: usize, dim: usize) -> Tensor<2> {
    let [q, keys, values] = [0, 1, 2].map(|input| x[input].clone().inner());
    let mut rows = Vec::new();
    for (row, (slot, length)) in TEXTS.into_iter().enumerate() {
        let q = (q.clone().narrow(0, row, 1) * 3.0).reshape([HEADS, group, dim]);
        for head in 0..HEADS {
            let q = q.clone().narrow(0, head, 1).reshape([group, dim]);
            let Ok(slot) = usize::try_from(slot) else {
                rows.push(q * 0.0);
                continue;
            };
            let part = |kept: &Tensor<2>| {
                let first = (slot * HEADS + head) * PLACES;
                kept.clone().narrow(0, first, length)
            };
            let scores = q.matmul(part(&keys).transpose()) / (dim as f64).sqrt();
            let shares = softmax(scores.cast(DType::F32), 1).cast(values.dtype());
            rows.push(shares.matmul(part(&values))); // [G, D]
        }
    }
    let mixed = Tensor::cat(rows, 0).reshape([TEXTS.len(), HEADS * group * dim]);
    without_gradient(mixed, x)
}
