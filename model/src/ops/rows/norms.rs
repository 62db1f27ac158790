//! Rows of activations, on cards.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Cube, Dispatch, TensorMetadata as _, backend_extension};
use burn::tensor::{Int, Tensor};

/// Norm, rotary embedding and gated activation, and their gradients.
#[backend_extension(Cube, Fusion)]
pub(crate) trait RowKernels: Backend {
    /// `weight * x / sqrt(mean(x²) + eps)`.
    ///
    /// # Shapes
    /// `x: [N, d]`, `weight: [d]`, result `[N, d]`.
    #[fusion(dtype = x, shape = x)]
    fn norm_rows(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self>;

    /// Gradients by `x` and by `weight`.
    #[fusion(meta = |x, weight, dy, eps| {
        let _ = (dy, eps);
        (x.clone(), weight.clone())
    })]
    fn norm_rows_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The rotary embedding of heads, or with `back` its gradient: the turn the other way.
    ///
    /// # Shapes
    /// `x: [N, heads * D]`, `cos, sin: [N, D]` in f32, result as `x`.
    #[fusion(dtype = x, shape = x)]
    fn turn_rows(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        back: bool,
    ) -> FloatTensor<Self>;

    /// `silu(gate) * up`, `[N, m]` each.
    #[fusion(dtype = gate, shape = gate)]
    fn gate_rows(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Gradients by `gate` and by `up`.
    #[fusion(meta = |gate, up, dy| {
        let _ = dy;
        (gate.clone(), up.clone())
    })]
    fn gate_rows_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// `x + y` and its norm, as [`RowKernels::norm_rows`].
    #[fusion(meta = |x, y, weight, eps| {
        let _ = (y, weight, eps);
        (x.clone(), x.clone())
    })]
    fn add_norm_rows(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// `silu` of the first half of each row times the second: `[N, 2 m]` to `[N, m]`.
    #[fusion(dtype = both, shape = super::with_last(both, both[1] / 2))]
    fn gate_both_rows(both: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The sum of all rows: `[N, d]` to `[d]`.
    #[fusion(dtype = x, shape = burn::tensor::Shape::new([x[1]]))]
    fn sum_rows(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Sums of the squares of stretches in f32, see [`squares`].
    #[fusion(meta = |x| burn::backend::fusion::custom::TensorSpec::new(
        super::stretches(&x.shape),
        burn::tensor::DType::F32,
    ))]
    fn squares(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Where the largest number of each row is, of equal ones the first: `[N, V]` to `[N]`.
    #[fusion(meta = |x| burn::backend::fusion::custom::TensorSpec::new(
        burn::tensor::Shape::new([x.shape[0]]),
        burn::tensor::DType::I32,
    ))]
    fn largest(x: FloatTensor<Self>) -> IntTensor<Self>;
}

/// Those of [`RowKernels`] that are differentiated.
#[backend_extension(Cube, Autodiff)]
trait RowOps: Backend {
    fn norm_op(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self>;

    fn turn_op(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn gate_op(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    fn bias_op(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// `x + bias`, a row.
fn add_row<B: Backend>(x: FloatTensor<B>, bias: FloatTensor<B>) -> FloatTensor<B> {
    let width = bias.shape().num_elements();
    B::float_add(x, B::float_reshape(bias, [1, width].into()))
}

impl RowOps for Cube {
    fn norm_op(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        Self::norm_rows(x, weight, eps)
    }

    fn turn_op(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::turn_rows(x, cos, sin, false)
    }

    fn gate_op(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::gate_rows(gate, up)
    }

    fn bias_op(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        add_row::<Self>(x, bias)
    }
}

#[derive(Debug)]
struct Bias;

impl<B: RowKernels> Backward<B, 2> for Bias {
    type State = ();

    fn backward(self, ops: Ops<(), 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let [x, bias] = ops.parents;
        if let Some(node) = bias {
            grads.register::<B>(node.id, B::sum_rows(dy.clone()));
        }
        if let Some(node) = x {
            grads.register::<B>(node.id, dy);
        }
    }
}

#[derive(Debug)]
struct Norm;

impl<B: RowKernels> Backward<B, 2> for Norm {
    /// Input, weight and what is added under the root.
    type State = (FloatTensor<B>, FloatTensor<B>, f64);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, weight, eps) = ops.state;
        let (dx, d_weight) = B::norm_rows_backward(x, weight, dy, eps);
        for (node, gradient) in ops.parents.into_iter().zip([dx, d_weight]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct Turn;

impl<B: RowKernels> Backward<B, 1> for Turn {
    /// Cosines and sines.
    type State = [FloatTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let [cos, sin] = ops.state;
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::turn_rows(dy, cos, sin, true));
        }
    }
}

#[derive(Debug)]
struct Gate;

impl<B: RowKernels> Backward<B, 2> for Gate {
    /// Gate and up.
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (gate, up) = ops.state;
        let (d_gate, d_up) = B::gate_rows_backward(gate, up, dy);
        for (node, gradient) in ops.parents.into_iter().zip([d_gate, d_up]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: RowKernels, C: CheckpointStrategy> RowOps for Autodiff<B, C> {
    fn norm_op(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let y = B::norm_rows(x.clone(), weight.clone(), eps);
        match Norm
            .prepare::<C>([x_node, weight_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, weight, eps), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn turn_op(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        // The tables are data.
        let (cos, sin) = (cos.into_parts().0, sin.into_parts().0);
        let y = B::turn_rows(x, cos.clone(), sin.clone(), false);
        match Turn.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([cos, sin], y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn gate_op(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((gate, gate_node), (up, up_node)) = (gate.into_parts(), up.into_parts());
        let y = B::gate_rows(gate.clone(), up.clone());
        match Gate
            .prepare::<C>([gate_node, up_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((gate, up), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn bias_op(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((x, x_node), (bias, bias_node)) = (x.into_parts(), bias.into_parts());
        let y = add_row::<B>(x, bias);
        match Bias
            .prepare::<C>([x_node, bias_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// `x + bias`: `[N, d]` and a row.
pub(crate) fn bias(x: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    let (x, bias) = (x.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::bias_op(x, bias))
}

/// See [`RowKernels::add_norm_rows`].
pub(crate) fn add_norm(
    x: Tensor<2>,
    y: Tensor<2>,
    weight: Tensor<1>,
    eps: f64,
) -> (Tensor<2>, Tensor<2>) {
    let (x, y, weight) = (x.into_dispatch(), y.into_dispatch(), weight.into_dispatch());
    let (sum, normed) = Dispatch::add_norm_rows(x, y, weight, eps);
    (Tensor::from_dispatch(sum), Tensor::from_dispatch(normed))
}

/// See [`RowKernels::gate_both_rows`].
pub(crate) fn gate_both(both: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::gate_both_rows(both.into_dispatch()))
}

/// See [`RowKernels::squares`].
pub(crate) fn squares(x: Tensor<1>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::squares(x.into_dispatch()))
}

/// See [`RowKernels::largest`].
pub(crate) fn largest(x: Tensor<2>) -> Tensor<1, Int> {
    Tensor::from_dispatch(Dispatch::largest(x.into_dispatch()))
}

/// See [`super::super::rms_norm`].
pub(crate) fn norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(Dispatch::norm_op(x, weight, eps))
}

/// The rotary embedding of heads at the rows of the tables.
///
/// # Shapes
/// `x: [N, heads * D]`, `cos, sin: [N, D]` in f32, result as `x`.
pub(crate) fn turn(x: Tensor<2>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<2> {
    let (x, cos, sin) = (x.into_dispatch(), cos.into_dispatch(), sin.into_dispatch());
    Tensor::from_dispatch(Dispatch::turn_op(x, cos, sin))
}

/// See [`super::super::swiglu`].
pub(crate) fn gate(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    let (gate, up) = (gate.into_dispatch(), up.into_dispatch());
    Tensor::from_dispatch(Dispatch::gate_op(gate, up))
}
