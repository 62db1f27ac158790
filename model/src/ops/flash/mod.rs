//! Attention of packed documents by cuDNN, where it is in use: scores are never written to memory.
//!
//! In [`super::chunked`] a card writes and reads each score several times, which takes most of a training
//! step of long texts. NVIDIA's kernels keep them in registers; they take documents of any lengths in one
//! call, in bf16. Gradients by queries are added up there in an order that changes from run to run, so
//! that a training repeated on a card is not the same to the bit; `LEAP_ATTENTION=chunked` asks for the
//! attention that is.

#[cfg(feature = "cuda")]
pub(crate) mod cudnn;
mod documents;
mod graph;
#[cfg(feature = "cuda")]
mod plan;

#[cfg(feature = "cuda")]
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "cuda")]
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
#[cfg(feature = "cuda")]
use burn::backend::autodiff::grads::Gradients;
#[cfg(feature = "cuda")]
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
#[cfg(feature = "cuda")]
use burn::backend::tensor::FloatTensor;
#[cfg(feature = "cuda")]
use burn::backend::{Autodiff, Backend, Cube, Dispatch, backend_extension};
#[cfg(feature = "cuda")]
use burn::tensor::{DType, Device, Tensor};
#[cfg(feature = "cuda")]
use burn_cubecl::{CubeBackend, CubeDevice, tensor::CubeTensor};

#[cfg(feature = "cuda")]
use self::documents::Documents;
#[cfg(feature = "cuda")]
use super::Heads;

/// The two ways of a call, below automatic differentiation.
#[cfg(feature = "cuda")]
#[backend_extension(Cube, Fusion)]
pub(crate) trait PackedKernels: Backend {
    /// Causal attention inside each document, and the log of the sum of exponentials of each query's scores.
    ///
    /// # Shapes
    /// `q: [T, H * D]`, `k, v: [T, K * D]`, results `[T, H * D]` and `[T, H]` in f32.
    #[fusion(meta = |q, k, v, documents| {
        let _ = (k, v);
        let sums = super::rows::with_last(&q.shape, documents.query_heads());
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

#[cfg(feature = "cuda")]
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
#[cfg(feature = "cuda")]
#[backend_extension(Cube, Autodiff)]
trait PackedOps: Backend {
    fn packed_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        documents: Arc<Documents>,
    ) -> FloatTensor<Self>;
}

#[cfg(feature = "cuda")]
impl PackedOps for Cube {
    fn packed_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        documents: Arc<Documents>,
    ) -> FloatTensor<Self> {
        Self::packed(q, k, v, documents).0
    }
}

#[cfg(feature = "cuda")]
#[derive(Debug)]
struct Attention;

#[cfg(feature = "cuda")]
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

#[cfg(feature = "cuda")]
impl<B: PackedOps + PackedKernels, C: CheckpointStrategy> PackedOps for Autodiff<B, C> {
    fn packed_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        documents: Arc<Documents>,
    ) -> FloatTensor<Self> {
        let ((q, q_node), (k, k_node), (v, v_node)) =
            (q.into_parts(), k.into_parts(), v.into_parts());
        let (out, sums) = B::packed(q.clone(), k.clone(), v.clone(), documents.clone());
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
/// `q: [T, H * D]`, `k, v: [T, K * D]` with `T` the sum of `lengths`, result `[T, H * D]`.
#[cfg(feature = "cuda")]
pub(crate) fn attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    heads: Heads,
    lengths: &[usize],
) -> Tensor<2> {
    let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
    let documents = Arc::new(Documents::new(heads, lengths));
    Tensor::from_dispatch(Dispatch::packed_attention(q, k, v, documents))
}

/// Whether cuDNN computes attention of such documents. Plans are made when they are asked for first.
#[cfg(feature = "cuda")]
pub(crate) fn serves(device: &Device, dtype: DType, heads: Heads, lengths: &[usize]) -> bool {
    refusal(device, dtype, heads, lengths).is_none()
}

/// Why cuDNN does not compute attention of such documents; None if it does.
#[cfg(feature = "cuda")]
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
#[cfg(feature = "cuda")]
fn cube(device: &Device) -> Option<&CubeDevice> {
    match device.as_dispatch() {
        burn::backend::DispatchDevice::Cube(device) => Some(device),
        _ => None,
    }
}

/// Why cuDNN does not attend on a card, by the card's number.
#[cfg(feature = "cuda")]
static WHY_NOT: Mutex<Vec<(usize, String)>> = Mutex::new(Vec::new());

/// Lets cuDNN attend on a card if it can, unless `LEAP_ATTENTION=chunked` is set; [`why_not`] tells why it
/// cannot.
#[cfg(feature = "cuda")]
pub(crate) fn start(index: usize) {
    if std::env::var_os("LEAP_ATTENTION").is_some_and(|wanted| wanted == "chunked") {
        return;
    }
    let started = crate::device::quietly(|| cudnn::start(index)).and_then(|started| started);
    let mut known = WHY_NOT.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|(other, _)| *other != index);
    if let Err(reason) = started {
        known.push((index, reason));
    }
}

/// Why cuDNN does not attend on a device where it was asked to.
#[cfg(feature = "cuda")]
pub(crate) fn why_not(device: &Device) -> Option<String> {
    let Some(CubeDevice::Cuda(device)) = cube(device) else {
        return None;
    };
    let known = WHY_NOT.lock().unwrap_or_else(PoisonError::into_inner);
    let of_card = known.iter().find(|(index, _)| *index == device.index);
    of_card.map(|(_, reason)| reason.clone())
}

/// Whether cuDNN attends on a device.
#[cfg(feature = "cuda")]
pub(crate) fn is_used_on(device: &Device) -> bool {
    cube(device).is_some_and(cudnn::is_used_on)
}
