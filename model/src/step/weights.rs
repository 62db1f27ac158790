//! The weights of a decoder, packed once for many steps.

use rayon::prelude::*;

use crate::decoder::{Decoder, Layer, Norm, Projection};
use crate::kernels::panels::Panels;
use crate::ops::HostTensor;
use crate::parameters::ParameterValues;

/// The weights of a decoder, packed for products.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// What was packed. Holding the tensors keeps their memory from being written or reused, so
    /// that an equal address means equal weights.
    sources: Vec<HostTensor>,
    pub(super) embedding: HostTensor,
    pub(super) layers: Vec<PreparedLayer>,
    pub(super) norm: Vec<f32>,
    pub(super) head: Panels,
    pub(super) eps: f32,
    pub(super) width: usize,
}

#[derive(Debug)]
pub(super) struct PreparedLayer {
    pub(super) input_norm: Vec<f32>,
    pub(super) qkv: Panels, // [d, (H + 2 K) * D]
    pub(super) qkv_bias: Vec<f32>,
    pub(super) query_norm: Option<Vec<f32>>,
    pub(super) key_norm: Option<Vec<f32>>,
    pub(super) output: Panels, // [H * D, d]
    pub(super) mlp_norm: Vec<f32>,
    pub(super) gate_up: Panels, // [d, 2 m]
    pub(super) down: Panels,    // [m, d]
}

fn sources(decoder: &Decoder) -> Vec<HostTensor> {
    let parameters = decoder.parameters().into_iter();
    parameters
        .map(|parameter| match parameter.values {
            ParameterValues::Vector(tensor) => HostTensor::new(tensor),
            ParameterValues::Matrix(tensor) => HostTensor::new(tensor),
        })
        .collect()
}

impl Prepared {
    pub(super) fn new(decoder: &Decoder) -> Self {
        let config = decoder.config();
        Self {
            sources: sources(decoder),
            embedding: HostTensor::new(decoder.model.embed_tokens.weight.val()),
            layers: decoder
                .model
                .layers
                .par_iter()
                .map(PreparedLayer::new)
                .collect(),
            norm: vector(&decoder.model.norm),
            head: Panels::pack(HostTensor::new(decoder.head_weight()).matrix().transposed())
                .narrowed(),
            eps: config.rms_norm_eps as f32,
            width: config.hidden_size,
        }
    }

    /// Bytes of all packed matrices: what a step of one row reads.
    pub(crate) fn bytes(&self) -> usize {
        let layers = self
            .layers
            .iter()
            .flat_map(|layer| [&layer.qkv, &layer.output, &layer.gate_up, &layer.down]);
        layers.chain([&self.head]).map(Panels::bytes).sum()
    }

    /// Whether these are the weights of `decoder`.
    pub(super) fn fits(&self, decoder: &Decoder) -> bool {
        let theirs = sources(decoder);
        self.sources.len() == theirs.len()
            && self
                .sources
                .iter()
                .zip(&theirs)
                .all(|(mine, theirs)| mine.shares_memory(theirs))
    }
}

fn vector(norm: &Norm) -> Vec<f32> {
    HostTensor::new(norm.weight.val()).values().to_vec()
}

impl PreparedLayer {
    fn new(layer: &Layer) -> Self {
        let attention = &layer.self_attn;
        let side_by_side = |parts: &[&Projection]| {
            let weights: Vec<HostTensor> = parts
                .iter()
                .map(|part| HostTensor::new(part.weight.val()))
                .collect();
            let columns: Vec<_> = weights.iter().map(|w| w.matrix().transposed()).collect();
            Panels::pack_side_by_side(&columns).narrowed()
        };
        let qkv = [&attention.q_proj, &attention.k_proj, &attention.v_proj];
        let biases = qkv.iter().filter_map(|part| part.bias.as_ref());
        Self {
            input_norm: vector(&layer.input_layernorm),
            qkv: side_by_side(&qkv),
            qkv_bias: biases
                .flat_map(|bias| HostTensor::new(bias.val()).values().to_vec())
                .collect(),
            query_norm: attention.q_norm.as_ref().map(vector),
            key_norm: attention.k_norm.as_ref().map(vector),
            output: side_by_side(&[&attention.o_proj]),
            mlp_norm: vector(&layer.post_attention_layernorm),
            gate_up: side_by_side(&[&layer.mlp.gate_proj, &layer.mlp.up_proj]),
            down: side_by_side(&[&layer.mlp.down_proj]),
        }
    }
}
