//! Gradients of the chunked operations, for every backend.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};

use super::ChunkedOps;
use super::array::Array;
use super::attention::{self, Saved};
use super::loss::{self, LossPlan};
use crate::ops::product::ProductOps;
use crate::ops::rows::ScoreKernels;

#[derive(Debug)]
struct Attention;

impl<B: ProductOps + ScoreKernels> Backward<B, 3> for Attention {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let gradients = attention::backward(ops.state, dy);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient.0);
            }
        }
    }
}

#[derive(Debug)]
struct CrossEntropy;

impl<B: Backend> Backward<B, 2> for CrossEntropy {
    /// The gradients by hidden states and projection, for an incoming gradient of 1.
    type State = [Option<FloatTensor<B>>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let incoming = Array::<B>(grads.consume::<B>(&ops.node)).reshape([1, 1]);
        for (node, gradient) in ops.parents.into_iter().zip(ops.state) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                let gradient = Array::<B>(gradient);
                let factor = incoming.clone().cast(gradient.float());
                grads.register::<B>(node.id, gradient.mul(factor).0);
            }
        }
    }
}

impl<B: ChunkedOps + ProductOps + ScoreKernels, C: CheckpointStrategy> ChunkedOps
    for Autodiff<B, C>
{
    fn chunked_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        rows: usize,
    ) -> FloatTensor<Self> {
        let ((q, q_node), (k, k_node), (v, v_node)) =
            (q.into_parts(), k.into_parts(), v.into_parts());
        let [q, k, v] = [q, k, v].map(Array::<B>);
        let (out, log_sums) = attention::forward(&q, &k, &v, rows);
        match Attention
            .prepare::<C>([q_node, k_node, v_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let saved = Saved {
                    q: q.0,
                    k: k.0,
                    v: v.0,
                    out: out.0.clone(),
                    log_sums: log_sums.0,
                    rows,
                };
                prep.finish(saved, out.0)
            }
            OpsKind::UnTracked(prep) => prep.finish(out.0),
        }
    }

    fn chunked_cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        plan: LossPlan,
    ) -> FloatTensor<Self> {
        let ((hidden, hidden_node), (weight, weight_node)) =
            (hidden.into_parts(), weight.into_parts());
        let (hidden, weight) = (Array::<B>(hidden), Array::<B>(weight));
        let dtype = weight.float();
        let found = loss::cross_entropy(&hidden, &weight, &plan);
        match CrossEntropy
            .prepare::<C>([hidden_node, weight_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                // A gradient has the format of its tensor.
                let d_weight = found.d_weight.map(|gradient| gradient.cast(dtype).0);
                let d_hidden = found.d_hidden.map(|gradient| gradient.0);
                prep.finish([d_hidden, d_weight], found.loss.0)
            }
            OpsKind::UnTracked(prep) => prep.finish(found.loss.0),
        }
    }
}
