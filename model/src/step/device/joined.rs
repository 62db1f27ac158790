//! A step through weights that are joined: one product makes queries, keys and values, one both halves of
//! the MLP, and what stands between products is one kernel each.
//!
//! Legend: N new tokens, d width, H query heads, K key-value heads, D head size, m inner width of the
//! MLP.

use burn::module::Param;
use burn::tensor::Tensor;

use super::Pass;
use crate::decoder::{Decoder, Layer};
use crate::ops::product::product_transposed;
use crate::ops::rows;

/// The joined weights of a layer.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    qkv: Tensor<2>,     // [(H + 2 K) * D, d]
    bias: Tensor<1>,    // [(H + 2 K) * D]
    gate_up: Tensor<2>, // [2 m, d]
}

/// Joins the weights of all layers, whose own become parts of them.
pub(crate) fn join_layers(layers: &mut [Layer]) -> Vec<Joined> {
    layers.iter_mut().map(Joined::new).collect()
}

impl Joined {
    /// Joins the weights of a layer, whose own become parts of them.
    fn new(layer: &mut Layer) -> Self {
        let attention = &mut layer.self_attn;
        let projections = [
            &mut attention.q_proj,
            &mut attention.k_proj,
            &mut attention.v_proj,
        ];
        let bias = projections.iter().map(|projection| match &projection.bias {
            Some(bias) => bias.val(),
            None => {
                let weight = projection.weight.val();
                Tensor::zeros([weight.dims()[0]], (&weight.device(), weight.dtype()))
            }
        });
        let bias = Tensor::cat(bias.collect(), 0);
        let mlp = &mut layer.mlp;
        Self {
            bias,
            qkv: join(projections.map(|projection| &mut projection.weight)),
            gate_up: join([&mut mlp.gate_proj.weight, &mut mlp.up_proj.weight]),
        }
    }
}

/// Rows of several matrices in one, of which these become parts: the memory is that of one.
fn join<const N: usize>(mut matrices: [&mut Param<Tensor<2>>; N]) -> Tensor<2> {
    let joined = Tensor::cat(matrices.iter().map(|matrix| matrix.val()).collect(), 0);
    let mut first = 0;
    for matrix in &mut matrices {
        let [rows, _] = matrix.dims();
        let part = joined.clone().narrow(0, first, rows);
        **matrix = matrix.clone().map(|_| part);
        first += rows;
    }
    joined
}

impl Decoder {
    /// All layers, if their weights are joined and kernels run on the device.
    pub(super) fn through_joined(
        &self,
        joined: &[Joined],
        mut hidden: Tensor<2>,
        pass: &mut Pass<'_>,
    ) -> Tensor<2> {
        let eps = self.config().rms_norm_eps;
        let [tokens, _] = hidden.dims();
        let heads = pass.heads;
        // What the layer before adds to the residual stream.
        let mut addition: Option<Tensor<2>> = None;
        for (index, (layer, joined)) in self.model.layers.iter().zip(joined).enumerate() {
            let weight = layer.input_layernorm.weight.val();
            let x = match addition.take() {
                Some(y) => {
                    let (sum, x) = rows::add_norm(hidden, y, weight, eps);
                    hidden = sum;
                    x
                }
                None => rows::norm(hidden.clone(), weight, eps),
            };
            let qkv = product_transposed(x, joined.qkv.clone());
            let layout = pass.texts.layout();
            let (at, turn) = (&pass.at, pass.turn.clone());
            let cache = pass.texts.whole_mut(index);
            let q = rows::write_heads(qkv, joined.bias.clone(), turn, cache, at, layout);
            let mixed = pass.attend(index, q.reshape([tokens, heads.query, heads.dim]));
            let y = product_transposed(mixed, layer.self_attn.o_proj.weight.val());
            let weight = layer.post_attention_layernorm.weight.val();
            let (sum, x) = rows::add_norm(hidden, y, weight, eps);
            hidden = sum;
            let inner = rows::gate_both(product_transposed(x, joined.gate_up.clone()));
            addition = Some(product_transposed(inner, layer.mlp.down_proj.weight.val()));
        }
        match addition {
            Some(y) => hidden + y,
            None => hidden,
        }
    }
}
