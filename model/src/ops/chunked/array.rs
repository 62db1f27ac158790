//! A tensor of any backend, with the few operations that the chunked forms are made of.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Scalar, TensorMetadata};
use burn::tensor::{FloatDType, IndexingUpdateOp, Shape, Slice, TensorData};
use std::ops::Range;

use crate::ops::product::{self, ProductOps};

/// Wraps a backend's float tensor.
pub(crate) struct Array<B: Backend>(pub(crate) FloatTensor<B>);

impl<B: Backend> Clone for Array<B> {
    /// Shares the values.
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: ProductOps> Array<B> {
    pub(crate) fn matmul(self, other: Self) -> Self {
        Self(product::of_backend::<B>(self.0, other.0))
    }

    /// This matrix plus `a bᵀ`, whose factors may be in a narrower format.
    pub(crate) fn onto(self, a: Self, b: Self) -> Self {
        Self(B::product_onto(self.0, a.0, b.0))
    }
}

impl<B: Backend> Array<B> {
    pub(crate) fn dims<const D: usize>(&self) -> [usize; D] {
        self.0.shape().dims()
    }

    /// The number format of the values.
    pub(crate) fn float(&self) -> FloatDType {
        self.0.dtype().into()
    }

    /// Zeros on the device of this tensor.
    pub(crate) fn zeros_f32(&self, shape: impl Into<Shape>) -> Self {
        Self(B::float_zeros(
            shape.into(),
            &self.0.device(),
            FloatDType::F32,
        ))
    }

    /// Values from the host on the device of this tensor, in f32.
    pub(crate) fn upload(&self, values: Vec<f32>, shape: impl Into<Shape>) -> Self {
        let data = TensorData::new(values, shape.into());
        Self(B::float_from_data(data, &self.0.device()))
    }

    /// Indices from the host on the device of this tensor.
    pub(crate) fn upload_indices(
        &self,
        values: impl Iterator<Item = u32>,
        shape: impl Into<Shape>,
    ) -> IntTensor<B> {
        let values: Vec<i32> = values.map(|value| value as i32).collect();
        B::int_from_data(TensorData::new(values, shape.into()), &self.0.device())
    }

    pub(crate) fn cast(self, dtype: FloatDType) -> Self {
        match self.float() == dtype {
            true => self,
            false => Self(B::float_cast(self.0, dtype)),
        }
    }

    pub(crate) fn reshape(self, shape: impl Into<Shape>) -> Self {
        Self(B::float_reshape(self.0, shape.into()))
    }

    /// Swaps the last two dimensions.
    pub(crate) fn transpose(self) -> Self {
        Self(B::float_transpose(self.0))
    }

    pub(crate) fn add(self, other: Self) -> Self {
        Self(B::float_add(self.0, other.0))
    }

    pub(crate) fn sub(self, other: Self) -> Self {
        Self(B::float_sub(self.0, other.0))
    }

    pub(crate) fn mul(self, other: Self) -> Self {
        Self(B::float_mul(self.0, other.0))
    }

    pub(crate) fn div(self, other: Self) -> Self {
        Self(B::float_div(self.0, other.0))
    }

    pub(crate) fn scale(self, factor: f64) -> Self {
        Self(B::float_mul_scalar(self.0, Scalar::Float(factor)))
    }

    pub(crate) fn exp(self) -> Self {
        Self(B::float_exp(self.0))
    }

    pub(crate) fn log(self) -> Self {
        Self(B::float_log(self.0))
    }

    pub(crate) fn max_rows(self) -> Self {
        let last = self.0.rank() - 1;
        Self(B::float_max_dim(self.0, last))
    }

    /// Sums along the last dimension, which stays with length 1.
    pub(crate) fn sum_rows(self) -> Self {
        let last = self.0.rank() - 1;
        Self(B::float_sum_dim(self.0, last))
    }

    pub(crate) fn sum(self) -> Self {
        Self(B::float_sum(self.0))
    }

    /// A range of the dimension before the last.
    pub(crate) fn rows(&self, range: Range<usize>) -> Self {
        Self(B::float_slice(self.0.clone(), &self.places(range)))
    }

    /// Replaces a range of the dimension before the last.
    pub(crate) fn with_rows(self, range: Range<usize>, values: Self) -> Self {
        let places = self.places(range);
        Self(B::float_slice_assign(self.0, &places, values.0))
    }

    fn places(&self, range: Range<usize>) -> Vec<Slice> {
        let shape = self.0.shape();
        let rank = shape.num_dims();
        (0..rank)
            .map(|dim| match dim + 2 == rank {
                true => Slice::from(range.clone()),
                false => Slice::from(0..shape[dim]),
            })
            .collect()
    }

    /// The rows of a matrix that `indices` name.
    pub(crate) fn select(&self, indices: IntTensor<B>) -> Self {
        Self(B::float_select(self.0.clone(), 0, indices))
    }

    /// Puts `values` in the place of the rows that `indices` name; no row twice.
    pub(crate) fn with_selected(self, indices: IntTensor<B>, values: Self) -> Self {
        let update = IndexingUpdateOp::Assign;
        let count = indices.shape().num_elements();
        let indices = B::int_reshape(indices, [count, 1].into());
        Self(B::float_scatter_nd(self.0, indices, values.0, update))
    }

    /// One element of each row of a matrix: `[N, V]` and `[N, 1]` to `[N, 1]`.
    pub(crate) fn gather(&self, indices: IntTensor<B>) -> Self {
        Self(B::float_gather(1, self.0.clone(), indices))
    }

    /// Adds to one element of each row of a matrix.
    pub(crate) fn scatter_add(self, indices: IntTensor<B>, values: Self) -> Self {
        let update = IndexingUpdateOp::Add;
        Self(B::float_scatter(1, self.0, indices, values.0, update))
    }
}
