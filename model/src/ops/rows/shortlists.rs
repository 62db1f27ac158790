//! What a draw needs of rows of logits, found where they lie (see [`crate::shortlist`]).
//!
//! A row gives [`WORDS`] words: the largest logit, which lists have overflowed, the sums of its [`PARTS`]
//! parts at its own temperature and at 1, and for each of [`REACHES`] the ids and logits of up to [`ROOM`]
//! tokens between it and the one before, in no order, ended by id -1.

#[cfg(any(feature = "cuda", feature = "wgpu"))]
use burn::backend::tensor::{FloatTensor, IntTensor};
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use burn::backend::{Backend, Dispatch, backend_extension};
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use burn::tensor::{DType, Int, Shape, Tensor};

/// See [`crate::shortlist::Shortlist::REACHES`]. The sampler asks for these first.
pub(crate) const REACHES: [f32; 3] = [4.0, 8.0, 16.0];

/// See [`crate::shortlist::Shortlist::ROOM`].
pub(crate) const ROOM: usize = 256;

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod layout {
    use super::{REACHES, ROOM};

    /// Cubes that share a row.
    pub(crate) const PARTS: usize = 32;
    /// What stands for the largest logit where one is not finite.
    pub(crate) const NOT_FINITE: f32 = f32::MAX;
    /// Where the largest logit is.
    pub(crate) const BEST: usize = 0;
    /// Where it says which lists have overflowed.
    pub(crate) const OVERFLOWS: usize = 1;
    /// Where sums at the row's temperature are.
    pub(crate) const TOTALS: usize = OVERFLOWS + REACHES.len();
    /// Where sums at temperature 1 are.
    pub(crate) const PLAINS: usize = TOTALS + PARTS;
    /// Where ids are.
    pub(crate) const IDS: usize = PLAINS + PARTS;
    /// Where logits are.
    pub(crate) const LOGITS: usize = IDS + REACHES.len() * ROOM;
    /// Words of a row.
    pub(crate) const WORDS: usize = LOGITS + REACHES.len() * ROOM;
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) use self::layout::{
    BEST, IDS, LOGITS, NOT_FINITE, OVERFLOWS, PARTS, PLAINS, TOTALS, WORDS,
};

/// Kernels that look through rows of logits.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
#[backend_extension(Cube, Fusion)]
pub(crate) trait ShortlistKernels: Backend {
    /// See the module text.
    ///
    /// # Shapes
    /// `logits: [N, V]` in f32, `scales: [N]`, what a temperature divides by, result `[N, WORDS]`.
    #[fusion(meta = |logits, scales| {
        let _ = scales;
        burn::backend::fusion::custom::TensorSpec::new(
            Shape::new([logits.shape[0], WORDS]),
            DType::I32,
        )
    })]
    fn shortlists(logits: FloatTensor<Self>, scales: FloatTensor<Self>) -> IntTensor<Self>;
}

/// See [`ShortlistKernels::shortlists`].
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) fn of(logits: Tensor<2>, scales: Tensor<1>) -> Tensor<2, Int> {
    let (logits, scales) = (logits.into_dispatch(), scales.into_dispatch());
    Tensor::from_dispatch(Dispatch::shortlists(logits, scales))
}
