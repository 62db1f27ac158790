//! The operation on tensors, and where it is used.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend as _, Backend, Cube, Dispatch, backend_extension};
use burn::tensor::{DType, Device, Tensor};
use burn_cubecl::{CubeBackend, CubeDevice, tensor::CubeTensor};

use super::cudnn;
use super::documents::Documents;
use crate::ops::card::Reasons;
use crate::ops::rows::with_last;
use crate::ops::{Attended, Heads};

/// The two ways of a call, below automatic differentiation.
#[backend_extension(Cube, Fusion)]
pub(crate) trait PackedKernels: Backend {
    /// Causal attention inside each document, and the log of the sum of exponentials of each query's scores.
    ///
    /// # Shapes
    /// `q: [T, H * D]`, `k, v: [T, K * D]`, results `[T, H * D]` and `[T, H]` in f32.
    #[fusion(meta = |q, k, v, documents| {
        let _ = (k, v);
        let sums = with_last(&q.shape, documents.query_heads());
        (q.clone(), burn::backend::fusion::custom::TensorSpec::new(sums, DType::F32))
    })]
    fn packed(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        documents: Arc<Documents>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients by `q`, `k` and `v`, from what [`PackedKernels::packed`] made and the gradient by its first.
    #[fusion(meta = |q, k, v, out, sums, dy, documents| {
        let _ = (out, sums, dy, documents);
        (q.clone(), k.clone(), v.clone())
    })]
    fn packed_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        out: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        documents: Arc<Documents>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl PackedKernels for CubeBackend {
    fn packed(
        q: CubeTensor,
        k: CubeTensor,
        v: CubeTensor,
        documents: Arc<Documents>,
    ) -> (CubeTensor, CubeTensor) {
        cudnn::forward([q, k, v], &documents)
    }

    fn packed_backward(
        q: CubeTensor,
        k: CubeTensor,
        v: CubeTensor,
        out: CubeTensor,
        sums: CubeTensor,
        dy: CubeTensor,
        documents: Arc<Documents>,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [dq, dk, dv] = cudnn::backward([q, k, v, out, sums, dy], &documents);
        (dq, dk, dv)
    }
}

/// The same as one differentiable operation.
#[backend_extension(Cube, Autodiff)]
trait PackedOps: Backend {
    fn packed_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        documents: Arc<Documents>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// `out`, which [`PackedOps::packed_attention`] gave together with `sums`, with its gradients.
    fn packed_attention_again(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        out: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        documents: Arc<Documents>,
    ) -> FloatTensor<Self>;
}

impl PackedOps for Cube {
    fn packed_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        documents: Arc<Documents>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        Self::packed(q, k, v, documents)
    }

    fn packed_attention_again(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        out: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Arc<Documents>,
    ) -> FloatTensor<Self> {
        out
    }
}

#[derive(Debug)]
struct Attention;

impl<B: PackedKernels> Backward<B, 3> for Attention {
    /// Queries, keys, values, results and log-sums.
    type State = ([FloatTensor<B>; 5], Arc<Documents>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let ([q, k, v, out, sums], documents) = ops.state;
        let (dq, dk, dv) = B::packed_backward(q, k, v, out, sums, dy, documents);
        for (node, gradient) in ops.parents.into_iter().zip([dq, dk, dv]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: PackedOps + PackedKernels, C: CheckpointStrategy> PackedOps for Autodiff<B, C> {
    fn packed_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        documents: Arc<Documents>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [of_q, of_k, of_v] = [&q, &k, &v].map(|x| x.primitive().clone());
        let (out, sums) = B::packed(of_q, of_k, of_v, documents.clone());
        let [out, sums] = [out, sums].map(Self::from_inner);
        let again = Self::packed_attention_again(q, k, v, out, sums.clone(), documents);
        (again, sums)
    }

    fn packed_attention_again(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        out: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        documents: Arc<Documents>,
    ) -> FloatTensor<Self> {
        let ((q, q_node), (k, k_node), (v, v_node)) =
            (q.into_parts(), k.into_parts(), v.into_parts());
        let ((out, _), (sums, _)) = (out.into_parts(), sums.into_parts());
        match Attention
            .prepare::<C>([q_node, k_node, v_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let state = ([q, k, v, out.clone(), sums], documents);
                prep.finish(state, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

/// Attention of documents whose queries and keys have been turned, where [`serves`] says so.
///
/// # Shapes
/// `q: [T, H * D]`, `k, v: [T, K * D]` with `T` the sum of `lengths`, results `[T, H * D]` and `[T, H]`.
pub(crate) fn attention(qkv: [Tensor<2>; 3], heads: Heads, lengths: &[usize]) -> Attended {
    let [q, k, v] = qkv.map(Tensor::into_dispatch);
    let documents = Arc::new(Documents::new(heads, lengths));
    let (out, log_sums) = Dispatch::packed_attention(q, k, v, documents);
    Attended {
        out: Tensor::from_dispatch(out),
        log_sums: Tensor::from_dispatch(log_sums),
    }
}

/// What [`attention`] gave of the same tensors, with its gradients.
pub(crate) fn attention_again(
    qkv: [Tensor<2>; 3],
    heads: Heads,
    lengths: &[usize],
    kept: Attended,
) -> Tensor<2> {
    let [q, k, v] = qkv.map(Tensor::into_dispatch);
    let (out, sums) = (kept.out.into_dispatch(), kept.log_sums.into_dispatch());
    let documents = Arc::new(Documents::new(heads, lengths));
    let again = Dispatch::packed_attention_again(q, k, v, out, sums, documents);
    Tensor::from_dispatch(again)
}

/// Whether cuDNN computes attention of such documents. Plans are made when they are asked for first.
pub(crate) fn serves(device: &Device, dtype: DType, heads: Heads, lengths: &[usize]) -> bool {
    refusal(device, dtype, heads, lengths).is_none()
}

/// Why cuDNN does not compute attention of such documents; None if it does.
pub(crate) fn refusal(
    device: &Device,
    dtype: DType,
    heads: Heads,
    lengths: &[usize],
) -> Option<String> {
    let device = device.clone().inner();
    let documents = Documents::new(heads, lengths);
    let refused = match cube(&device) {
        Some(device) if cudnn::is_used_on(device) => match (dtype, documents.fit()) {
            (DType::BF16, true) => cudnn::can(device, documents.sizes()),
            (DType::BF16, false) => Err("there are more elements than fit into 32 bits".to_owned()),
            _ => Err(format!("it is used in bf16 alone, this is {dtype:?}")),
        },
        _ => Err("it is not used on this device".to_owned()),
    };
    refused.err()
}

/// The device in CubeCL's terms.
fn cube(device: &Device) -> Option<&CubeDevice> {
    match device.as_dispatch() {
        burn::backend::DispatchDevice::Cube(device) => Some(device),
        _ => None,
    }
}

/// Why cuDNN does not attend on a card.
static WHY_NOT: Reasons = Reasons::none();

/// Lets cuDNN attend on a card if it can; [`why_not`] tells why it cannot.
pub(crate) fn start(index: usize) {
    let started = crate::device::quietly(|| cudnn::start(index));
    WHY_NOT.note(index, started.and_then(|started| started));
}

/// Why cuDNN does not attend on a device where it was asked to.
pub(crate) fn why_not(device: &Device) -> Option<String> {
    match cube(device) {
        Some(CubeDevice::Cuda(device)) => WHY_NOT.of(device.index),
        _ => None,
    }
}

/// Whether cuDNN attends on a device.
pub(crate) fn is_used_on(device: &Device) -> bool {
    cube(device).is_some_and(cudnn::is_used_on)
}
