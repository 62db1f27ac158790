//! Operations of a pass that computes a layer again for its gradients alone.
//!
//! What a layer gives is known from the pass before, and so is the gradient by it. Its last operation adds a product
//! onto the residual stream; gradients need the factors of that product and not what it gives, so it is left out
//! (`torch.utils.checkpoint` stops early in the same place).

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata as _, backend_extension};
use burn::tensor::{FloatDType, Shape, Tensor};

use super::product::{ProductOnto, ProductOps};

/// What has gradients and is not computed.
#[backend_extension(Flex, Cube: cfg(any(feature = "cuda", feature = "wgpu")), Autodiff)]
trait UnreadOps: Backend {
    /// `c` with the gradients of [`ProductOps::product_onto`].
    fn unread_onto(
        c: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// A number by which the gradient of `output` is `incoming`.
    fn seeded(output: FloatTensor<Self>, incoming: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The same for every backend that computes.
macro_rules! unread_ops {
    ($backend:ty) => {
        impl UnreadOps for $backend {
            fn unread_onto(
                c: FloatTensor<Self>,
                _: FloatTensor<Self>,
                _: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                c
            }

            fn seeded(output: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
                number::<Self>(&output)
            }
        }
    };
}

unread_ops!(Flex);
#[cfg(any(feature = "cuda", feature = "wgpu"))]
unread_ops!(burn::backend::Cube);

/// A number on the device of a tensor and in its format.
fn number<B: Backend>(like: &FloatTensor<B>) -> FloatTensor<B> {
    let format = FloatDType::from(like.dtype());
    B::float_zeros(Shape::new([1]), &like.device(), format)
}

#[derive(Debug)]
struct Seed;

impl<B: Backend> Backward<B, 1> for Seed {
    /// The gradient.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let _ = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, ops.state);
        }
    }
}

impl<B: ProductOps, C: CheckpointStrategy> UnreadOps for Autodiff<B, C> {
    fn unread_onto(
        c: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ((c, c_node), (a, a_node), (b, b_node)) =
            (c.into_parts(), a.into_parts(), b.into_parts());
        match ProductOnto
            .prepare::<C>([c_node, a_node, b_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((a, b), c),
            OpsKind::UnTracked(prep) => prep.finish(c),
        }
    }

    fn seeded(output: FloatTensor<Self>, incoming: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((output, node), (incoming, _)) = (output.into_parts(), incoming.into_parts());
        let number = number::<B>(&output);
        match Seed.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(incoming, number),
            OpsKind::UnTracked(prep) => prep.finish(number),
        }
    }
}

/// See [`super::linear_residual_unread`].
pub(super) fn onto_unread(c: Tensor<2>, a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let (c, a, b) = (c.into_dispatch(), a.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(Dispatch::unread_onto(c, a, b))
}

/// See [`super::gradients_from`].
pub(super) fn seeded(output: Tensor<2>, incoming: Tensor<2>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::seeded(
        output.into_dispatch(),
        incoming.into_dispatch(),
    ))
}
