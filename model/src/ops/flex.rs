//! The fused operations on the CPU backend: from tensors to slices and back.

use burn::backend::Flex;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{DType, Shape};

use super::backend::{AttentionPlan, FusedOps, LossPlan};
use super::pool::bytes;
use crate::kernels::gemm::{Start, product_parallel, product_transposed_left};
use crate::kernels::loss::{CrossEntropy, Want};
use crate::kernels::panels::{Matrix, Passing};
use crate::kernels::pool::buffer;
use crate::kernels::{attention, elementwise, loss};
use crate::rope::RopeTable;

/// A dense f32 tensor over `values`.
pub(super) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::new(
        bytes(values),
        Layout::contiguous(Shape::from(shape)),
        DType::F32,
    )
}

/// A tensor whose elements lie densely, in order; copies only if they do not already.
pub(super) fn dense(tensor: FlexTensor) -> FlexTensor {
    if tensor.layout().contiguous_offsets().is_some() {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// The elements of a dense tensor.
pub(super) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("a dense f32 tensor")
}

/// A tensor of rank 2 as a matrix, whatever its strides.
pub(super) fn matrix(tensor: &FlexTensor) -> Matrix<'_> {
    let [rows, cols] = dims(tensor);
    Matrix::new(values(tensor), rows, cols)
}

/// The dimensions of a tensor of known rank.
pub(super) fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    let shape = tensor.layout().shape();
    std::array::from_fn(|d| shape[d])
}

impl FusedOps for Flex {
    fn fused_rms_norm(x: FlexTensor, weight: FlexTensor, eps: f64) -> FlexTensor {
        let (x, weight) = (dense(x), dense(weight));
        let [rows, cols] = dims(&x);
        let mut y = buffer(rows * cols);
        elementwise::rms_norm(values(&x), values(&weight), eps as f32, &mut y);
        tensor(y, [rows, cols])
    }

    fn fused_linear(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
        let (x, weight) = (dense(x), dense(weight));
        let ([rows, _], [cols, _]) = (dims(&x), dims(&weight));
        let panels = Passing::pack(matrix(&weight).transposed());
        let mut y = buffer(rows * cols);
        product_parallel(matrix(&x), &panels, &mut y, cols, Start::Zero);
        tensor(y, [rows, cols])
    }

    fn fused_linear_plus(x: FlexTensor, weight: FlexTensor, extra: FlexTensor) -> FlexTensor {
        let (x, weight, extra) = (dense(x), dense(weight), dense(extra));
        let ([rows, _], [cols, _]) = (dims(&x), dims(&weight));
        let panels = Passing::pack(matrix(&weight).transposed());
        let mut y = buffer(rows * cols);
        let start = match extra.layout().shape().num_dims() {
            1 => Start::Bias(values(&extra)),
            _ => Start::Rows(values(&extra)),
        };
        product_parallel(matrix(&x), &panels, &mut y, cols, start);
        tensor(y, [rows, cols])
    }

    fn fused_linear_plus_unread(_: FlexTensor, _: FlexTensor, extra: FlexTensor) -> FlexTensor {
        extra
    }

    fn fused_swiglu(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        let (gate, up) = (dense(gate), dense(up));
        let [rows, cols] = dims(&gate);
        let mut y = buffer(rows * cols);
        elementwise::swiglu_parallel(values(&gate), values(&up), &mut y);
        tensor(y, [rows, cols])
    }

    fn fused_embedding(weight: FlexTensor, ids: Vec<u32>) -> FlexTensor {
        let weight = dense(weight);
        let [_, width] = dims(&weight);
        let mut y = buffer(ids.len() * width);
        elementwise::gather(values(&weight), width, &ids, &mut y);
        tensor(y, [ids.len(), width])
    }

    fn fused_attention(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        plan: AttentionPlan,
    ) -> (FlexTensor, FlexTensor) {
        attention_with_sums(&dense(q), &dense(k), &dense(v), &plan)
    }

    fn fused_attention_again(
        _: FlexTensor,
        _: FlexTensor,
        _: FlexTensor,
        out: FlexTensor,
        _: FlexTensor,
        _: AttentionPlan,
    ) -> FlexTensor {
        out
    }

    fn fused_cross_entropy(hidden: FlexTensor, weight: FlexTensor, plan: LossPlan) -> FlexTensor {
        let result = cross_entropy(&dense(hidden), &dense(weight), &plan, Want::LOSS);
        tensor(vec![result.loss], [1])
    }
}

/// Attention and the log-sum-exp of each row of scores `[heads, T]`.
pub(super) fn attention_with_sums(
    q: &FlexTensor,
    k: &FlexTensor,
    v: &FlexTensor,
    plan: &AttentionPlan,
) -> (FlexTensor, FlexTensor) {
    let [tokens, width] = dims(q);
    let mut out = buffer(tokens * width);
    let mut sums = buffer(tokens * plan.heads.query);
    let table = plan.table();
    let layout = plan.layout(&table);
    attention::forward(
        matrix(q),
        matrix(k),
        matrix(v),
        &layout,
        &mut out,
        &mut sums,
    );
    let sums = tensor(sums, [plan.heads.query, tokens]);
    (tensor(out, [tokens, width]), sums)
}

impl AttentionPlan {
    pub(super) fn table(&self) -> std::sync::Arc<RopeTable> {
        self.rope
            .table(self.lengths.iter().copied().max().unwrap_or(0))
    }

    pub(super) fn layout<'a>(&'a self, table: &'a RopeTable) -> attention::Layout<'a> {
        attention::Layout {
            heads: self.heads.query,
            kv_heads: self.heads.key_value,
            dim: self.heads.dim,
            lengths: &self.lengths,
            cos: &table.cos,
            sin: &table.sin,
        }
    }
}

pub(super) fn cross_entropy(
    hidden: &FlexTensor,
    weight: &FlexTensor,
    plan: &LossPlan,
    want: Want,
) -> CrossEntropy {
    let [_, width] = dims(weight);
    let rows = (plan.targets.as_slice(), plan.weights.as_slice());
    loss::cross_entropy(
        values(hidden),
        values(weight),
        width,
        rows,
        plan.chunk,
        want,
    )
}

/// Gradient of a linear layer by its input: `dy weight`.
pub(super) fn linear_input_gradient(dy: &FlexTensor, weight: &FlexTensor) -> FlexTensor {
    let [rows, _] = dims(dy);
    let [_, cols] = dims(weight);
    let mut dx = buffer(rows * cols);
    let panels = Passing::pack(matrix(weight));
    product_parallel(matrix(dy), &panels, &mut dx, cols, Start::Zero);
    tensor(dx, [rows, cols])
}

/// Gradient of a linear layer by its weight: `dyᵀ x`.
pub(super) fn linear_weight_gradient(dy: &FlexTensor, x: &FlexTensor) -> FlexTensor {
    let ([_, outputs], [_, inputs]) = (dims(dy), dims(x));
    let mut dw = buffer(outputs * inputs);
    product_transposed_left(matrix(dy), matrix(x), &mut dw, Start::Zero);
    tensor(dw, [outputs, inputs])
}
