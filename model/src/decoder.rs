//! The decoder of Qwen2, Qwen3 and Llama models as a Burn module.
//!
//! The names of fields are the names of checkpoints (`model.layers.0.self_attn.q_proj.weight`),
//! weights are `[out, in]` as there. Training and whole-text evaluation go through
//! [`Decoder::hidden`]; writing text token by token is in `step`. It reads no file and knows no
//! loss.
//!
//! Legend: T tokens of a packed batch, d width, V vocabulary, H query heads, K key-value heads,
//! D head size.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Gradients, Tensor};

use crate::config::ModelConfig;
use crate::device::Dtype;
use crate::lora::{Adapter, Dropout, Linear, LoraSettings};
use crate::ops::{self, Attended, Heads};
use crate::packed::Packed;
use crate::parameters::Values;
use crate::rope::Rope;

/// A decoder with its weights.
#[derive(Module, Debug)]
pub struct Decoder {
    pub(crate) model: Trunk,
    /// The output projection; absent if it is the embedding.
    pub(crate) lm_head: Option<Projection>,
    #[module(skip)]
    config: ModelConfig,
    #[module(skip)]
    rope: Rope,
    /// How the adapters were made, if there are any.
    #[module(skip)]
    pub(crate) lora: Option<LoraSettings>,
    /// The weights of layers joined, see [`Decoder::for_writing`].
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    #[module(skip)]
    pub(crate) joined: Option<Vec<crate::step::Joined>>,
}

/// Everything before the output projection.
#[derive(Module, Debug)]
pub(crate) struct Trunk {
    pub(crate) embed_tokens: Embedding,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Norm,
}

/// The rows of the vocabulary.
#[derive(Module, Debug)]
pub(crate) struct Embedding {
    pub(crate) weight: Param<Tensor<2>>, // [V, d]
}

/// One layer: attention and MLP, each behind a norm and added to the residual stream.
#[derive(Module, Debug)]
pub(crate) struct Layer {
    pub(crate) self_attn: SelfAttention,
    pub(crate) mlp: Mlp,
    pub(crate) input_layernorm: Norm,
    pub(crate) post_attention_layernorm: Norm,
}

/// The projections of attention.
#[derive(Module, Debug)]
pub(crate) struct SelfAttention {
    pub(crate) q_proj: Projection, // [H * D, d]
    pub(crate) k_proj: Projection, // [K * D, d]
    pub(crate) v_proj: Projection, // [K * D, d]
    pub(crate) o_proj: Projection, // [d, H * D]
    pub(crate) q_norm: Option<Norm>,
    pub(crate) k_norm: Option<Norm>,
}

/// The gated MLP.
#[derive(Module, Debug)]
pub(crate) struct Mlp {
    pub(crate) gate_proj: Projection,
    pub(crate) up_proj: Projection,
    pub(crate) down_proj: Projection,
}

/// A linear map.
#[derive(Module, Debug)]
pub(crate) struct Projection {
    pub(crate) weight: Param<Tensor<2>>, // [out, in]
    pub(crate) bias: Option<Param<Tensor<1>>>,
    pub(crate) adapter: Option<Adapter>,
}

/// The weight of an RMS norm.
#[derive(Module, Debug)]
pub(crate) struct Norm {
    pub(crate) weight: Param<Tensor<1>>,
}

/// What adapters do not see in a pass through one layer.
#[derive(Clone, Copy)]
pub(crate) struct Dropping<'a> {
    dropout: &'a Dropout,
    layer: usize,
}

/// What the pass with a graph through a layer takes over from the one without: see [`Decoder::layer_gradients`].
#[derive(Clone, Debug)]
pub struct Kept(Option<Attended>);

impl Projection {
    pub(crate) fn apply(
        &self,
        x: Tensor<2>,
        which: Linear,
        dropping: Option<Dropping<'_>>,
    ) -> Tensor<2> {
        let y = ops::linear(
            x.clone(),
            self.weight.val(),
            self.bias.as_ref().map(Param::val),
        );
        self.adapted(y, x, which, dropping)
    }

    /// `residual + x weightᵀ`; the projections into the residual stream have no bias.
    pub(crate) fn add_to(
        &self,
        residual: Tensor<2>,
        x: Tensor<2>,
        which: Linear,
        dropping: Option<Dropping<'_>>,
    ) -> Tensor<2> {
        let y = ops::linear_residual(x.clone(), self.weight.val(), residual);
        self.adapted(y, x, which, dropping)
    }

    /// The gradients of [`Projection::add_to`] without its numbers.
    fn add_to_unread(
        &self,
        residual: Tensor<2>,
        x: Tensor<2>,
        which: Linear,
        dropping: Option<Dropping<'_>>,
    ) -> Tensor<2> {
        let y = ops::linear_residual_unread(x.clone(), self.weight.val(), residual);
        match &self.adapter {
            Some(adapter) => adapter.add_to_unread(y, seen(x, which, dropping)),
            None => y,
        }
    }

    fn adapted(
        &self,
        y: Tensor<2>,
        x: Tensor<2>,
        which: Linear,
        dropping: Option<Dropping<'_>>,
    ) -> Tensor<2> {
        match &self.adapter {
            Some(adapter) => adapter.add_to(y, seen(x, which, dropping)),
            None => y,
        }
    }
}

/// What an adapter sees of its input.
fn seen(x: Tensor<2>, which: Linear, dropping: Option<Dropping<'_>>) -> Tensor<2> {
    match dropping {
        Some(of) => of.dropout.apply(x, of.layer, which),
        None => x,
    }
}

impl Norm {
    pub(crate) fn apply(&self, x: Tensor<2>, eps: f64) -> Tensor<2> {
        ops::rms_norm(x, self.weight.val(), eps)
    }

    /// Normalises each head of `x: [T, heads * D]`.
    fn apply_to_heads(&self, x: Tensor<2>, eps: f64) -> Tensor<2> {
        let [tokens, width] = x.dims();
        let [dim] = self.weight.dims();
        self.apply(x.reshape([tokens * width / dim, dim]), eps)
            .reshape([tokens, width])
    }
}

impl SelfAttention {
    /// Queries `[T, H * D]`, keys and values `[T, K * D]` of normalised states, before rotation.
    pub(crate) fn project(
        &self,
        x: Tensor<2>,
        eps: f64,
        dropping: Option<Dropping<'_>>,
    ) -> [Tensor<2>; 3] {
        let normed = |norm: &Option<Norm>, x: Tensor<2>| match norm {
            Some(norm) => norm.apply_to_heads(x, eps),
            None => x,
        };
        let q = self.q_proj.apply(x.clone(), Linear::Query, dropping);
        let k = self.k_proj.apply(x.clone(), Linear::Key, dropping);
        let v = self.v_proj.apply(x, Linear::Value, dropping);
        [normed(&self.q_norm, q), normed(&self.k_norm, k), v]
    }

    /// Attention's addition to the residual stream, added; and what can be kept of it. What was kept before is not
    /// computed again.
    fn add_to(
        &self,
        residual: Tensor<2>,
        x: Tensor<2>,
        of: &Decoder,
        lengths: &[usize],
        dropping: Option<Dropping<'_>>,
        kept: Option<Attended>,
    ) -> (Tensor<2>, Kept) {
        let qkv = self.project(x, of.config.rms_norm_eps, dropping);
        let (heads, rope) = (of.heads(), &of.rope);
        let (mixed, kept) = match kept {
            Some(kept) => (ops::attention_again(qkv, heads, lengths, rope, kept), None),
            None => ops::attention_kept(qkv, heads, lengths, rope),
        };
        let hidden = self
            .o_proj
            .add_to(residual, mixed, Linear::Output, dropping);
        (hidden, Kept(kept))
    }
}

impl Mlp {
    pub(crate) fn add_to(
        &self,
        residual: Tensor<2>,
        x: Tensor<2>,
        dropping: Option<Dropping<'_>>,
    ) -> Tensor<2> {
        let inner = self.inner(x, dropping);
        self.down_proj
            .add_to(residual, inner, Linear::Down, dropping)
    }

    /// The gradients of [`Mlp::add_to`] without its numbers.
    fn add_to_unread(
        &self,
        residual: Tensor<2>,
        x: Tensor<2>,
        dropping: Option<Dropping<'_>>,
    ) -> Tensor<2> {
        let inner = self.inner(x, dropping);
        self.down_proj
            .add_to_unread(residual, inner, Linear::Down, dropping)
    }

    fn inner(&self, x: Tensor<2>, dropping: Option<Dropping<'_>>) -> Tensor<2> {
        let gate = self.gate_proj.apply(x.clone(), Linear::Gate, dropping);
        let up = self.up_proj.apply(x, Linear::Up, dropping);
        ops::swiglu(gate, up)
    }
}

impl Layer {
    fn forward(
        &self,
        hidden: Tensor<2>,
        of: &Decoder,
        lengths: &[usize],
        dropping: Option<Dropping<'_>>,
        again: Option<Kept>,
    ) -> (Tensor<2>, Kept) {
        let eps = of.config.rms_norm_eps;
        let x = self.input_layernorm.apply(hidden.clone(), eps);
        let unread = again.is_some();
        let kept = again.and_then(|Kept(kept)| kept);
        let (hidden, kept) = self
            .self_attn
            .add_to(hidden, x, of, lengths, dropping, kept);
        let x = self.post_attention_layernorm.apply(hidden.clone(), eps);
        let hidden = match unread {
            true => self.mlp.add_to_unread(hidden, x, dropping),
            false => self.mlp.add_to(hidden, x, dropping),
        };
        (hidden, kept)
    }
}

impl Decoder {
    /// Puts a decoder together from the values that `source` gives for each parameter name and
    /// shape, asked for in the order of [`Decoder::parameters`] and rounded to `dtype`.
    ///
    /// # Errors
    /// The first error of `source`.
    ///
    /// # Panics
    /// If `source` gives a number of values that does not fit the shape.
    pub fn from_source<E, V: Into<Values>>(
        config: &ModelConfig,
        device: &Device,
        dtype: Dtype,
        source: impl FnMut(&str, &[usize]) -> Result<V, E>,
    ) -> Result<Self, E> {
        crate::parameters::build(config, device, dtype, source)
    }

    pub(crate) fn assemble(
        model: Trunk,
        lm_head: Option<Projection>,
        config: &ModelConfig,
    ) -> Self {
        Self {
            model,
            lm_head,
            config: config.clone(),
            rope: Rope::new(config),
            lora: None,
            #[cfg(any(feature = "cuda", feature = "wgpu"))]
            joined: None,
        }
    }

    /// The same decoder, made ready to write text: on a card the weights that read the same input are
    /// joined, so that a step takes fewer products. The joined ones take their place, so memory stays the
    /// same. Elsewhere, and with adapters or norms of queries and keys, nothing changes.
    #[must_use]
    pub fn for_writing(self) -> Self {
        #[cfg(any(feature = "cuda", feature = "wgpu"))]
        {
            let plain = self.lora.is_none() && !self.config.qk_norm && self.joined.is_none();
            let device = self.device();
            if plain && !device.is_autodiff() && ops::rows::run_on(&device) {
                let mut decoder = self;
                decoder.joined = Some(crate::step::join_layers(&mut decoder.model.layers));
                return decoder;
            }
        }
        self
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device of the weights; of an autodiff decoder the autodiff device.
    pub fn device(&self) -> Device {
        self.model.embed_tokens.weight.val().device()
    }

    /// The number format of the weights.
    pub fn dtype(&self) -> DType {
        self.model.embed_tokens.weight.val().dtype()
    }

    /// The heads of each attention layer.
    pub fn heads(&self) -> Heads {
        Heads {
            query: self.config.num_attention_heads,
            key_value: self.config.num_key_value_heads,
            dim: self.config.head_dim,
        }
    }

    pub(crate) fn rope(&self) -> &Rope {
        &self.rope
    }

    /// The hidden state of each token after the final norm, `[T, d]`.
    ///
    /// Attention is causal inside each document of the batch and positions restart there. On an
    /// autodiff device the result carries gradients to the weights.
    ///
    /// # Panics
    /// If the lengths do not sum to the number of ids, or an id is not in the vocabulary.
    pub fn hidden(&self, batch: &Packed) -> Tensor<2> {
        self.hidden_with(batch, None)
    }

    /// [`Decoder::hidden`] while adapters are trained: `dropout` says what they do not see.
    ///
    /// # Panics
    /// Those of [`Decoder::hidden`].
    pub fn hidden_with(&self, batch: &Packed, dropout: Option<&Dropout>) -> Tensor<2> {
        let mut hidden = self.embedded(batch);
        for layer in 0..self.layers() {
            hidden = self.layer(layer, hidden, batch, dropout);
        }
        self.normed(hidden)
    }

    /// What goes into the first layer: the embedding of each token, `[T, d]`.
    ///
    /// # Panics
    /// Those of [`Decoder::hidden`].
    pub fn embedded(&self, batch: &Packed) -> Tensor<2> {
        let total: usize = batch.lengths.iter().sum();
        assert_eq!(
            total,
            batch.ids.len(),
            "the lengths of a packed batch sum to its ids"
        );
        self.check_ids(&batch.ids);
        ops::embedding(self.model.embed_tokens.weight.val(), &batch.ids)
    }

    /// How many layers there are.
    pub fn layers(&self) -> usize {
        self.model.layers.len()
    }

    /// What layer `index` makes of `hidden: [T, d]`, the same shape.
    ///
    /// # Panics
    /// If there is no such layer, or `hidden` does not fit `batch`.
    pub fn layer(
        &self,
        index: usize,
        hidden: Tensor<2>,
        batch: &Packed,
        dropout: Option<&Dropout>,
    ) -> Tensor<2> {
        self.layer_keeping(index, hidden, batch, dropout).0
    }

    /// [`Decoder::layer`], and what [`Decoder::layer_gradients`] can take over from it: what attention gave, as large
    /// as queries and in their format, and a number per token and query head in f32. Nothing where attention is not one
    /// operation: on other devices than the CPU and CUDA cards, in other formats than f32 and bf16 there.
    ///
    /// # Panics
    /// Those of [`Decoder::layer`].
    pub fn layer_keeping(
        &self,
        index: usize,
        hidden: Tensor<2>,
        batch: &Packed,
        dropout: Option<&Dropout>,
    ) -> (Tensor<2>, Kept) {
        self.through(index, hidden, batch, dropout, None)
    }

    /// Gradients of what layer `index` depends on, where `incoming` is the gradient by its result. `kept` is that of the
    /// same pass without a graph, so that what is known from there is not computed again: the result, and attention.
    ///
    /// # Shapes
    /// `hidden` and `incoming`: `[T, d]`, the second without a graph.
    ///
    /// # Panics
    /// Those of [`Decoder::layer`].
    pub fn layer_gradients(
        &self,
        index: usize,
        hidden: Tensor<2>,
        batch: &Packed,
        dropout: Option<&Dropout>,
        kept: Kept,
        incoming: Tensor<2>,
    ) -> Gradients {
        let (output, _) = self.through(index, hidden, batch, dropout, Some(kept));
        ops::gradients_from(output, incoming)
    }

    /// Gradients of the embedding, where `incoming` is the gradient by [`Decoder::embedded`].
    ///
    /// # Panics
    /// Those of [`Decoder::hidden`].
    pub fn embedding_gradients(&self, batch: &Packed, incoming: Tensor<2>) -> Gradients {
        ops::gradients_from(self.embedded(batch), incoming)
    }

    /// A pass through a layer for its result; or, with what was kept, again for its gradients alone.
    fn through(
        &self,
        index: usize,
        hidden: Tensor<2>,
        batch: &Packed,
        dropout: Option<&Dropout>,
        again: Option<Kept>,
    ) -> (Tensor<2>, Kept) {
        let dropping = dropout.map(|dropout| Dropping {
            dropout,
            layer: index,
        });
        let layer = &self.model.layers[index];
        layer.forward(hidden, self, &batch.lengths, dropping, again)
    }

    /// The final norm of what comes out of the last layer, `[T, d]`.
    pub fn normed(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.model.norm.apply(hidden, self.config.rms_norm_eps)
    }

    pub(crate) fn check_ids(&self, ids: &[u32]) {
        let size = self.config.vocab_size;
        if let Some(id) = ids.iter().find(|id| **id as usize >= size) {
            panic!("id {id} is outside the vocabulary of {size}");
        }
    }

    /// The output projection `[V, d]`; the embedding when the two are tied.
    pub fn head_weight(&self) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => head.weight.val(),
            None => self.model.embed_tokens.weight.val(),
        }
    }

    /// Logits `[T, V]` of hidden states `[T, d]`.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        ops::linear(hidden, self.head_weight(), None)
    }
}
