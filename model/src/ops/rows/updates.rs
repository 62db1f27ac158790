//! A step of an optimizer in one kernel: each number is read and written once, where it lies.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Tensor};

use crate::ops::AdamWNumbers;

/// Updates of parameters, without automatic differentiation.
#[backend_extension(Cube, Fusion)]
pub(crate) trait UpdateKernels: Backend {
    /// New weights and means, and the weights rounded to bf16, in the memory of `model` where that is bf16 and
    /// nothing else holds it; all as long as `weights`.
    #[fusion(meta = |weights, gradient, first, second, model, numbers| {
        let _ = (gradient, model, numbers);
        let rounded = burn::backend::fusion::custom::TensorSpec::new(
            weights.shape.clone(),
            DType::BF16,
        );
        (weights.clone(), first.clone(), second.clone(), rounded)
    })]
    fn adamw(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        model: FloatTensor<Self>,
        numbers: AdamWNumbers,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );
}

/// See [`crate::ops::adamw`].
pub(crate) fn adamw(
    weights: Tensor<1>,
    gradient: Tensor<1>,
    [first, second]: [Tensor<1>; 2],
    model: Option<Tensor<1>>,
    numbers: AdamWNumbers,
) -> [Tensor<1>; 4] {
    // Without a model the gradient stands for it, which is not bf16 and is left as it is.
    let model = model.unwrap_or_else(|| gradient.clone());
    let [weights, gradient, first, second, model] =
        [weights, gradient, first, second, model].map(Tensor::into_dispatch);
    let (weights, first, second, rounded) =
        Dispatch::adamw(weights, gradient, first, second, model, numbers);
    [weights, first, second, rounded].map(Tensor::from_dispatch)
}
