//! Launches of an optimizer's steps.

use burn::backend::TensorMetadata as _;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::super::kernels;
use super::super::updates::UpdateKernels;
use super::{CUBE, dense, format, own, room, units, vector};
use crate::ops::AdamWNumbers;

#[expect(unsafe_code, reason = "launches kernels without checks of bounds")]
impl UpdateKernels for CubeBackend {
    fn adamw(
        weights: CubeTensor,
        gradient: CubeTensor,
        first: CubeTensor,
        second: CubeTensor,
        model: CubeTensor,
        numbers: AdamWNumbers,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let [weights, first, second] = [weights, first, second].map(own);
        let gradient = dense(gradient);
        let count = weights.shape().num_elements();
        assert!(
            [&weights, &gradient, &first, &second]
                .iter()
                .all(|x| x.shape().num_elements() == count && x.dtype == DType::F32),
            "weights, gradient and means are f32 of the same length"
        );
        let fits = model.dtype == DType::BF16 && model.shape() == weights.shape();
        let rounded = match fits && model.can_mut() && model.is_contiguous() {
            true => model,
            false => room(&weights, weights.shape(), DType::BF16),
        };
        let size = vector(DType::F32, count);
        if count > 0 {
            // SAFETY: all five are as long as each other, and nobody else holds those that are changed.
            unsafe {
                kernels::adamw::launch_unchecked(
                    &rounded.client,
                    units(count / size),
                    CUBE,
                    size,
                    weights.clone().into_buffer_arg(),
                    gradient.into_buffer_arg(),
                    first.clone().into_buffer_arg(),
                    second.clone().into_buffer_arg(),
                    rounded.clone().into_buffer_arg(),
                    numbers.keep,
                    numbers.gradient_scale,
                    numbers.mix1,
                    numbers.beta2,
                    numbers.mix2,
                    numbers.rate,
                    numbers.root_correction,
                    numbers.eps,
                    count / size,
                    format(DType::BF16),
                );
            }
        }
        (weights, first, second, rounded)
    }
}
