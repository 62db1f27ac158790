//! Gradients of the fused operations.
//!
//! What a backward pass needs is saved as a shared tensor (no copy). A gradient that nobody asked
//! for (a frozen weight, an input that is data) is not computed.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend as _, Flex};

use super::backend::{AttentionPlan, FusedOps, LossPlan};
use super::flex::{
    attention_with_sums, cross_entropy, dense, dims, linear_input_gradient, linear_weight_gradient,
    matrix, tensor, values,
};
use crate::kernels::loss::{Want, scale};
use crate::kernels::pool::buffer;
use crate::kernels::{attention, elementwise};

#[derive(Debug)]
struct RmsNorm;

#[derive(Clone, Debug)]
struct RmsNormState {
    x: FlexTensor,
    weight: FlexTensor,
    eps: f64,
}

impl Backward<Flex, 2> for RmsNorm {
    type State = RmsNormState;

    fn backward(self, ops: Ops<RmsNormState, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let [x_node, weight_node] = ops.parents;
        let RmsNormState { x, weight, eps } = ops.state;
        let [rows, cols] = dims(&x);
        let mut dx = buffer(rows * cols);
        let (x, weight, dy) = (values(&x), values(&weight), values(&dy));
        let dw = elementwise::rms_norm_backward(x, weight, eps as f32, dy, &mut dx);
        if let Some(node) = x_node {
            grads.register::<Flex>(node.id, tensor(dx, [rows, cols]));
        }
        if let Some(node) = weight_node {
            grads.register::<Flex>(node.id, tensor(dw, [cols]));
        }
    }
}

#[derive(Debug)]
struct Linear;

/// Registers the gradients of a linear map by its input and its weight.
fn linear_backward(
    dy: &FlexTensor,
    (x, weight): (FlexTensor, FlexTensor),
    [x_node, weight_node]: [Option<NodeId>; 2],
    grads: &mut Gradients,
) {
    if let Some(id) = x_node {
        grads.register::<Flex>(id, linear_input_gradient(dy, &weight));
    }
    if let Some(id) = weight_node {
        grads.register::<Flex>(id, linear_weight_gradient(dy, &x));
    }
}

impl Backward<Flex, 2> for Linear {
    /// Input and weight.
    type State = (FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        linear_backward(
            &dy,
            ops.state,
            ops.parents.map(|node| node.map(|node| node.id)),
            grads,
        );
    }
}

#[derive(Debug)]
struct LinearPlus;

impl Backward<Flex, 3> for LinearPlus {
    /// Input and weight, and the rank of what was added: 1 for a bias, 2 for a residual.
    type State = (FlexTensor, FlexTensor, usize);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let [x_node, weight_node, extra_node] = ops.parents;
        let (x, weight, rank) = ops.state;
        linear_backward(
            &dy,
            (x, weight),
            [x_node, weight_node].map(|node| node.map(|node| node.id)),
            grads,
        );
        if let Some(node) = extra_node {
            let [_, cols] = dims(&dy);
            let gradient = match rank {
                1 => tensor(elementwise::sum_rows(values(&dy), cols), [cols]),
                _ => dy,
            };
            grads.register::<Flex>(node.id, gradient);
        }
    }
}

#[derive(Debug)]
struct SwiGlu;

impl Backward<Flex, 2> for SwiGlu {
    /// Gate and up.
    type State = (FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let (gate, up) = ops.state;
        let [rows, cols] = dims(&gate);
        let (mut d_gate, mut d_up) = (buffer(rows * cols), buffer(rows * cols));
        let (gate, up) = (values(&gate), values(&up));
        elementwise::swiglu_backward_parallel(gate, up, values(&dy), &mut d_gate, &mut d_up);
        for (node, gradient) in ops.parents.into_iter().zip([d_gate, d_up]) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(gradient, [rows, cols]));
            }
        }
    }
}

#[derive(Debug)]
struct Embedding;

#[derive(Clone, Debug)]
struct EmbeddingState {
    ids: Vec<u32>,
    rows: usize,
}

impl Backward<Flex, 1> for Embedding {
    type State = EmbeddingState;

    fn backward(self, ops: Ops<EmbeddingState, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let [Some(node)] = ops.parents else { return };
        let [_, width] = dims(&dy);
        let mut table = buffer(ops.state.rows * width);
        table.fill(0.0);
        elementwise::scatter_add(values(&dy), width, &ops.state.ids, &mut table);
        grads.register::<Flex>(node.id, tensor(table, [ops.state.rows, width]));
    }
}

#[derive(Debug)]
struct Attention;

#[derive(Clone, Debug)]
struct AttentionState {
    q: FlexTensor,
    k: FlexTensor,
    v: FlexTensor,
    out: FlexTensor,
    sums: FlexTensor,
    plan: AttentionPlan,
}

impl Backward<Flex, 3> for Attention {
    type State = AttentionState;

    fn backward(self, ops: Ops<AttentionState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = dense(grads.consume::<Flex>(&ops.node));
        let state = ops.state;
        let ([tokens, width], [_, kv_width]) = (dims(&state.q), dims(&state.k));
        let mut gradients = [width, kv_width, kv_width].map(|width| buffer(tokens * width));
        let table = state.plan.table();
        let saved = attention::Saved {
            q: matrix(&state.q),
            k: matrix(&state.k),
            v: matrix(&state.v),
            out: values(&state.out),
            log_sums: values(&state.sums),
        };
        let layout = state.plan.layout(&table);
        let slices = gradients.each_mut().map(Vec::as_mut_slice);
        attention::backward(&saved, values(&dy), &layout, slices);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                let width = gradient.len() / tokens.max(1);
                grads.register::<Flex>(node.id, tensor(gradient, [tokens, width]));
            }
        }
    }
}

#[derive(Debug)]
struct CrossEntropy;

impl Backward<Flex, 2> for CrossEntropy {
    /// The gradients by hidden states and projection, for an incoming gradient of 1.
    type State = [Option<FlexTensor>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let incoming = values(&dense(grads.consume::<Flex>(&ops.node)))[0];
        for (node, gradient) in ops.parents.into_iter().zip(ops.state) {
            if let (Some(node), Some(mut gradient)) = (node, gradient) {
                if incoming != 1.0 {
                    scale(gradient.storage_mut::<f32>(), incoming);
                }
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}

impl<C: CheckpointStrategy> FusedOps for Autodiff<Flex, C> {
    fn fused_rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let (x, weight) = (dense(x), dense(weight));
        let y = Flex::fused_rms_norm(x.clone(), weight.clone(), eps);
        match RmsNorm
            .prepare::<C>([x_node, weight_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(RmsNormState { x, weight, eps }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let (x, weight) = (dense(x), dense(weight));
        let y = Flex::fused_linear(x.clone(), weight.clone());
        match Linear
            .prepare::<C>([x_node, weight_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, weight), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fused_linear_plus(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        extra: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let (extra, extra_node) = extra.into_parts();
        let (x, weight) = (dense(x), dense(weight));
        let rank = extra.layout().shape().num_dims();
        let y = Flex::fused_linear_plus(x.clone(), weight.clone(), extra);
        let nodes = [x_node, weight_node, extra_node];
        match LinearPlus.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, weight, rank), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fused_linear_plus_unread(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        extra: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let (extra, extra_node) = extra.into_parts();
        let nodes = [x_node, weight_node, extra_node];
        match LinearPlus.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((dense(x), dense(weight), 2), extra),
            OpsKind::UnTracked(prep) => prep.finish(extra),
        }
    }

    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((gate, gate_node), (up, up_node)) = (gate.into_parts(), up.into_parts());
        let (gate, up) = (dense(gate), dense(up));
        let y = Flex::fused_swiglu(gate.clone(), up.clone());
        match SwiGlu
            .prepare::<C>([gate_node, up_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((gate, up), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fused_embedding(weight: FloatTensor<Self>, ids: Vec<u32>) -> FloatTensor<Self> {
        let (weight, node) = weight.into_parts();
        let [rows, _] = dims(&weight);
        let y = Flex::fused_embedding(weight, ids.clone());
        match Embedding.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(EmbeddingState { ids, rows }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        plan: AttentionPlan,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let inner = [&q, &k, &v].map(|x| dense(x.primitive().clone()));
        let (out, sums) = attention_with_sums(&inner[0], &inner[1], &inner[2], &plan);
        let [out, sums] = [out, sums].map(Self::from_inner);
        let again = Self::fused_attention_again(q, k, v, out, sums.clone(), plan);
        (again, sums)
    }

    fn fused_attention_again(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        out: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        plan: AttentionPlan,
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
                let state = AttentionState {
                    q: dense(q),
                    k: dense(k),
                    v: dense(v),
                    out: out.clone(),
                    sums,
                    plan,
                };
                prep.finish(state, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn fused_cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        plan: LossPlan,
    ) -> FloatTensor<Self> {
        let want = Want {
            hidden: hidden.is_tracked(),
            projection: weight.is_tracked(),
        };
        let ((hidden, hidden_node), (weight, weight_node)) =
            (hidden.into_parts(), weight.into_parts());
        let (hidden, weight) = (dense(hidden), dense(weight));
        match CrossEntropy
            .prepare::<C>([hidden_node, weight_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let result = cross_entropy(&hidden, &weight, &plan, want);
                let shaped = |gradient, like| tensor(gradient, dims::<2>(like));
                let state = [
                    result.d_hidden.map(|gradient| shaped(gradient, &hidden)),
                    result
                        .d_projection
                        .map(|gradient| shaped(gradient, &weight)),
                ];
                prep.finish(state, tensor(vec![result.loss], [1]))
            }
            OpsKind::UnTracked(prep) => {
                let result = cross_entropy(&hidden, &weight, &plan, Want::LOSS);
                prep.finish(tensor(vec![result.loss], [1]))
            }
        }
    }
}
