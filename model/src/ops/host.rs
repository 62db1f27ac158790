//! Weights as host memory, without a copy where they lie there already.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::flex::{dense, matrix, values};
use crate::kernels::panels::Matrix;

/// A dense f32 tensor in host memory, shared with the tensor it was made of if that lies there.
#[derive(Clone, Debug)]
pub(crate) struct HostTensor(FlexTensor);

impl HostTensor {
    /// The values of `tensor`, without its graph.
    pub(crate) fn new<const D: usize>(tensor: Tensor<D>) -> Self {
        let plain = tensor.inner();
        match plain.clone().try_into_primitive::<Flex>() {
            Ok(primitive) => Self(dense(primitive)),
            Err(_) => Self(FlexTensor::from_data(plain.into_data())),
        }
    }

    pub(crate) fn values(&self) -> &[f32] {
        values(&self.0)
    }

    /// A tensor of rank 2 as a matrix.
    pub(crate) fn matrix(&self) -> Matrix<'_> {
        matrix(&self.0)
    }

    /// Whether both are the same piece of memory.
    pub(crate) fn shares_memory(&self, other: &Self) -> bool {
        std::ptr::eq(self.values(), other.values())
    }
}
