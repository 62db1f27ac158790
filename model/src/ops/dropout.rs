//! Dropout whose mask is kept nowhere.
//!
//! Whether a value is dropped is a function of the text, the place in the model, the position in the text and the
//! column: so it does not depend on what is computed together, a device finds it where it needs it, and the
//! backward pass finds it again. The function is Threefry-2x32 with 13 rounds (Salmon et al., "Parallel random
//! numbers: as easy as 1, 2, 3", 2011), of which a value takes 16 bits.
//!
//! Legend: T tokens, i width.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::flex::{dense, dims, tensor, values};
use crate::kernels::multiversion;
use crate::kernels::pool::buffer;

/// Values that share one number of the generator: 64 bits.
pub(crate) const VALUES: usize = 4;

/// What is dropped of the rows of a batch at one place of a model.
#[derive(Clone, Debug)]
pub struct Dropping {
    /// Of each row: both words of its text's key, and its position there.
    rows: Arc<Vec<u32>>,
    /// The place in the model.
    place: u32,
    /// Of 65,536 values so many are dropped.
    dropped: u32,
}

impl Dropping {
    /// Drops a share of `rate`, in steps of 1/65,536 and at least one of them, of the values of texts of these
    /// lengths, each with its key.
    ///
    /// # Panics
    /// If there are not as many keys as lengths, a position does not fit 32 bits, or the rate is not above 0 and
    /// below 1.
    pub fn new(rate: f64, keys: &[u64], lengths: &[usize]) -> Self {
        assert_eq!(lengths.len(), keys.len(), "a key for each text");
        assert!(
            0.0 < rate && rate < 1.0,
            "a rate of dropout is above 0 and below 1"
        );
        let rows = lengths.iter().zip(keys).flat_map(|(length, key)| {
            let [low, high] = [*key as u32, (*key >> 32) as u32];
            let length = u32::try_from(*length).expect("texts are shorter than 2^32 tokens");
            (0..length).flat_map(move |position| [low, high, position])
        });
        Self {
            rows: Arc::new(rows.collect()),
            place: 0,
            dropped: ((rate * 65_536.0).round() as u32).clamp(1, 65_535),
        }
    }

    /// The same at a place of the model, such as a linear map of a layer.
    #[must_use]
    pub fn at(&self, place: u32) -> Self {
        Self {
            place,
            ..self.clone()
        }
    }

    /// Rows of the batch.
    pub(crate) fn tokens(&self) -> usize {
        self.rows.len() / 3
    }

    /// What a value that is kept is multiplied by, so that the mean stays.
    pub(crate) fn scale(&self) -> f32 {
        65_536.0 / (65_536 - self.dropped) as f32
    }

    /// Key and position of all rows, as a kernel reads them.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(crate) fn words(&self) -> &[u32] {
        &self.rows
    }

    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(crate) fn place(&self) -> u32 {
        self.place
    }

    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(crate) fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Key and position of a row.
    fn row(&self, row: usize) -> [u32; 3] {
        let words = self.rows[3 * row..].first_chunk();
        *words.expect("three words for each row")
    }

    /// `values`, rows of `width` that lie one behind the other, with some dropped and the others scaled.
    pub(super) fn apply(&self, values: &[f32], width: usize) -> Vec<f32> {
        assert_eq!(values.len(), self.tokens() * width, "a row for each token");
        let mut left = buffer(values.len());
        let rows = left
            .par_chunks_mut(width.max(1))
            .zip(values.par_chunks(width.max(1)));
        rows.enumerate().for_each(|(row, (left, values))| {
            let (of, scale) = (self.row(row), self.scale());
            drop_row(values, of, self.place, self.dropped, scale, left);
        });
        left
    }
}

/// Threefry-2x32: 64 bits for a key and a counter.
#[inline(always)]
fn threefry<const ROUNDS: usize>(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const TURNS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
    let keys = [key[0], key[1], 0x1bd1_1bda ^ key[0] ^ key[1]];
    let mut x = [
        counter[0].wrapping_add(keys[0]),
        counter[1].wrapping_add(keys[1]),
    ];
    for round in 0..ROUNDS {
        x[0] = x[0].wrapping_add(x[1]);
        x[1] = x[1].rotate_left(TURNS[round % 8]) ^ x[0];
        if round % 4 == 3 {
            let at = round / 4 + 1;
            x[0] = x[0].wrapping_add(keys[at % 3]);
            x[1] = x[1]
                .wrapping_add(keys[(at + 1) % 3])
                .wrapping_add(at as u32);
        }
    }
    x
}

/// Rounds of the generator; with 13 it passes all tests of BigCrush, by its authors.
const ROUNDS: usize = 13;

multiversion! {
    /// A row with some values dropped.
    fn drop_row(
        x: &[f32], row: [u32; 3], place: u32, dropped: u32, scale: f32, y: &mut [f32]
    ) = drop_row_body
}

#[inline(always)]
fn drop_row_body<const FMA: bool>(
    x: &[f32],
    [low, high, position]: [u32; 3],
    place: u32,
    dropped: u32,
    scale: f32,
    y: &mut [f32],
) {
    /// Numbers of the generator that are made together, so that they go into vectors.
    const TOGETHER: usize = 8;
    let first = position.wrapping_mul(x.len().div_ceil(VALUES) as u32);
    let chunk = TOGETHER * VALUES;
    for (at, (x, y)) in x.chunks(chunk).zip(y.chunks_mut(chunk)).enumerate() {
        let first = first.wrapping_add((at * TOGETHER) as u32);
        let mut bits = [[0_u32; 2]; TOGETHER];
        for (lane, bits) in bits.iter_mut().enumerate() {
            let counter = [first.wrapping_add(lane as u32), place];
            *bits = threefry::<ROUNDS>([low, high], counter);
        }
        for (at, (x, y)) in x.iter().zip(y).enumerate() {
            let [one, two] = bits[at / VALUES];
            let sixteen = [one & 0xffff, one >> 16, two & 0xffff, two >> 16][at % VALUES];
            *y = if sixteen < dropped { 0.0 } else { x * scale };
        }
    }
}

/// Dropping without automatic differentiation.
#[backend_extension(
    Flex,
    Cube: cfg(any(feature = "cuda", feature = "wgpu")),
    Fusion: cfg(any(feature = "cuda", feature = "wgpu"))
)]
pub(crate) trait DropKernels: Backend {
    /// # Shapes
    /// `x: [T, i]`, result the same.
    #[fusion(dtype = x, shape = x)]
    fn drop_values(x: FloatTensor<Self>, dropping: Dropping) -> FloatTensor<Self>;
}

impl DropKernels for Flex {
    fn drop_values(x: FloatTensor<Self>, dropping: Dropping) -> FloatTensor<Self> {
        let x = dense(x);
        let shape: [usize; 2] = dims(&x);
        tensor(dropping.apply(values(&x), shape[1]), shape)
    }
}

/// The same, differentiated: what reaches a value that was dropped is dropped, too.
#[backend_extension(Flex, Cube: cfg(any(feature = "cuda", feature = "wgpu")), Autodiff)]
trait DropOps: Backend {
    fn drop_op(x: FloatTensor<Self>, dropping: Dropping) -> FloatTensor<Self>;
}

impl DropOps for Flex {
    fn drop_op(x: FloatTensor<Self>, dropping: Dropping) -> FloatTensor<Self> {
        Self::drop_values(x, dropping)
    }
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl DropOps for burn::backend::Cube {
    fn drop_op(x: FloatTensor<Self>, dropping: Dropping) -> FloatTensor<Self> {
        Self::drop_values(x, dropping)
    }
}

#[derive(Debug)]
struct Drop;

impl<B: DropKernels> Backward<B, 1> for Drop {
    type State = Dropping;

    fn backward(self, ops: Ops<Dropping, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::drop_values(dy, ops.state));
        }
    }
}

impl<B: DropKernels, C: CheckpointStrategy> DropOps for Autodiff<B, C> {
    fn drop_op(x: FloatTensor<Self>, dropping: Dropping) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let y = B::drop_values(x, dropping.clone());
        match Drop.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(dropping, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// See [`super::dropout`].
pub(super) fn without_mask(x: Tensor<2>, dropping: Dropping) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::drop_op(x.into_dispatch(), dropping))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_its_authors_numbers() {
        // Random123's kat_vectors: of zeros, of ones, and of digits of pi.
        let cases = [
            (
                [0; 2],
                [0; 2],
                [0x6b20_0159, 0x99ba_4efe],
                [0x9d1c_5ec6, 0x8bd5_0731],
            ),
            (
                [u32::MAX; 2],
                [u32::MAX; 2],
                [0x1cb9_96fc, 0xbb00_2be7],
                [0xfd36_d048, 0x2d17_272c],
            ),
            (
                [0x1319_8a2e, 0x0370_7344],
                [0x243f_6a88, 0x85a3_08d3],
                [0xc492_3a9c, 0x483d_f7a0],
                [0xba3e_4725, 0xf27d_669e],
            ),
        ];
        for (key, counter, of_20, of_13) in cases {
            assert_eq!(threefry::<20>(key, counter), of_20);
            assert_eq!(threefry::<ROUNDS>(key, counter), of_13);
        }
    }

    #[test]
    fn as_many_are_dropped_as_asked_for_and_the_mean_stays() {
        let (tokens, width) = (300, 1000);
        for rate in [0.05, 0.4, 0.9] {
            let dropping = Dropping::new(rate, &[7], &[tokens]);
            let left = dropping.apply(&vec![1.0; tokens * width], width);
            let dropped = left.iter().filter(|value| **value == 0.0).count();
            let share = dropped as f64 / left.len() as f64;
            // Five standard deviations.
            let deviation = (rate * (1.0 - rate) / left.len() as f64).sqrt();
            assert!(
                (share - rate).abs() < 5.0 * deviation + 1e-5,
                "{rate}: {share}"
            );
            let mean = left.iter().sum::<f32>() / left.len() as f32;
            assert!((mean - 1.0).abs() < 0.03, "{rate}: {mean}");
        }
    }

    #[test]
    fn what_is_dropped_depends_on_text_place_and_position_alone() {
        let ones = |tokens: usize| vec![1.0; tokens * 19];
        let alone = Dropping::new(0.5, &[3], &[5]).at(4);
        let beside = Dropping::new(0.5, &[9, 3], &[2, 5]).at(4);
        let alone = alone.apply(&ones(5), 19);
        assert_eq!(alone, beside.apply(&ones(7), 19)[2 * 19..]);
        for other in [
            Dropping::new(0.5, &[3], &[5]).at(5),
            Dropping::new(0.5, &[3 << 32], &[5]).at(4),
        ] {
            assert_ne!(alone, other.apply(&ones(5), 19));
        }
        let rows: Vec<&[f32]> = alone.chunks(19).collect();
        assert_ne!(rows[0], rows[1]);
    }

    #[test]
    fn a_rate_that_is_hardly_one_drops_something_and_leaves_something() {
        for (rate, dropped) in [(1e-9, 1), (1.0 - 1e-9, 65_535)] {
            assert_eq!(Dropping::new(rate, &[1], &[1]).dropped, dropped);
        }
    }
}
