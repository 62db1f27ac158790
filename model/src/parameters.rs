//! The weights of a decoder by their checkpoint names: building, listing, replacing, drawing anew.

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{DType, Device, Tensor, TensorData};
use half::bf16;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::config::ModelConfig;
use crate::decoder::{Decoder, Embedding, Layer, Mlp, Norm, Projection, SelfAttention, Trunk};
use crate::device::Dtype;

/// One weight of a decoder.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name in a checkpoint, such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// What Burn's gradients and optimizers know it by.
    pub id: ParamId,
    /// Its values; shared with the decoder, not copied.
    pub values: ParameterValues,
}

/// The values of a weight by rank.
#[derive(Clone, Debug)]
pub enum ParameterValues {
    /// A norm's weight or a bias.
    Vector(Tensor<1>),
    /// The weight of a linear map `[out, in]`, or the embedding `[V, d]`.
    Matrix(Tensor<2>),
}

/// Values for a weight, in row-major order, as a checkpoint or a formula has them.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// In f32; a decoder in bf16 rounds them, to the even one of two that are as near.
    F32(Vec<f32>),
    /// In bf16; a decoder in f32 holds the same values.
    Bf16(Vec<bf16>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// As a device is given them. Converted by all processors: one alone takes three nanoseconds for a number,
    /// most of a minute for 14B.
    fn in_format<const D: usize>(self, shape: [usize; D], dtype: DType) -> TensorData {
        match (self, dtype) {
            (Self::F32(values), DType::BF16) => {
                let rounded = values.into_par_iter().map(bf16::from_f32);
                TensorData::new(rounded.collect::<Vec<bf16>>(), shape)
            }
            (Self::F32(values), _) => TensorData::new(values, shape),
            (Self::Bf16(values), DType::BF16) => TensorData::new(values, shape),
            (Self::Bf16(values), _) => {
                let widened = values.into_par_iter().map(bf16::to_f32);
                TensorData::new(widened.collect::<Vec<f32>>(), shape)
            }
        }
    }
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        Self::F32(values)
    }
}

impl Parameter {
    /// Its shape.
    pub fn shape(&self) -> Vec<usize> {
        match &self.values {
            ParameterValues::Vector(tensor) => tensor.dims().to_vec(),
            ParameterValues::Matrix(tensor) => tensor.dims().to_vec(),
        }
    }

    /// A copy of its values on the host.
    pub fn data(&self) -> TensorData {
        match &self.values {
            ParameterValues::Vector(tensor) => tensor.to_data(),
            ParameterValues::Matrix(tensor) => tensor.to_data(),
        }
    }
}

impl Decoder {
    /// A decoder with fresh weights: matrices normal with mean 0 and standard deviation
    /// `initializer_range`, norms 1, biases 0.
    ///
    /// The values are a function of `config` and `seed` alone, the same on every machine.
    pub fn init(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        let mut stream = 0;
        let source = |name: &str, shape: &[usize]| {
            let count = shape.iter().product();
            stream += 1;
            Ok::<_, std::convert::Infallible>(if shape.len() == 2 {
                normal(seed, stream, config.initializer_range, count)
            } else if name.ends_with("bias") {
                vec![0.0; count]
            } else {
                vec![1.0; count]
            })
        };
        match build(config, device, Dtype::F32, source) {
            Ok(decoder) => decoder,
            Err(never) => match never {},
        }
    }

    /// All weights, in the order of a Hugging Face checkpoint: embedding, layers, final norm,
    /// and the output projection unless it is tied to the embedding.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut list = List::default();
        list.matrix(
            "model.embed_tokens.weight".into(),
            &self.model.embed_tokens.weight,
        );
        for (index, layer) in self.model.layers.iter().enumerate() {
            let prefix = format!("model.layers.{index}");
            let attention = &layer.self_attn;
            for (name, projection) in [
                ("self_attn.q_proj", &attention.q_proj),
                ("self_attn.k_proj", &attention.k_proj),
                ("self_attn.v_proj", &attention.v_proj),
                ("self_attn.o_proj", &attention.o_proj),
                ("mlp.gate_proj", &layer.mlp.gate_proj),
                ("mlp.up_proj", &layer.mlp.up_proj),
                ("mlp.down_proj", &layer.mlp.down_proj),
            ] {
                list.projection(format!("{prefix}.{name}"), projection);
            }
            for (name, norm) in [
                ("self_attn.q_norm", attention.q_norm.as_ref()),
                ("self_attn.k_norm", attention.k_norm.as_ref()),
                ("input_layernorm", Some(&layer.input_layernorm)),
                (
                    "post_attention_layernorm",
                    Some(&layer.post_attention_layernorm),
                ),
            ] {
                if let Some(norm) = norm {
                    list.vector(format!("{prefix}.{name}.weight"), &norm.weight);
                }
            }
        }
        list.vector("model.norm.weight".into(), &self.model.norm.weight);
        if let Some(head) = &self.lm_head {
            list.projection("lm_head".into(), head);
        }
        list.0
    }

    /// Replaces the weights for which `values` gives new values; ids, gradients' need, device and
    /// number format stay as they are.
    ///
    /// # Panics
    /// If the number of values does not fit the shape.
    pub fn with_values(self, values: impl FnMut(&str, &[usize]) -> Option<Vec<f32>>) -> Self {
        self.map(&mut Replace {
            path: Vec::new(),
            values,
        })
    }
}

#[derive(Default)]
pub(crate) struct List(pub(crate) Vec<Parameter>);

impl List {
    pub(crate) fn matrix(&mut self, name: String, param: &Param<Tensor<2>>) {
        let values = ParameterValues::Matrix(param.val());
        self.0.push(Parameter {
            name,
            id: param.id,
            values,
        });
    }

    fn vector(&mut self, name: String, param: &Param<Tensor<1>>) {
        let values = ParameterValues::Vector(param.val());
        self.0.push(Parameter {
            name,
            id: param.id,
            values,
        });
    }

    fn projection(&mut self, name: String, projection: &Projection) {
        self.matrix(format!("{name}.weight"), &projection.weight);
        if let Some(bias) = &projection.bias {
            self.vector(format!("{name}.bias"), bias);
        }
    }
}

struct Replace<F> {
    path: Vec<String>,
    values: F,
}

impl<F: FnMut(&str, &[usize]) -> Option<Vec<f32>>> ModuleMapper for Replace<F> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.dims();
        let Some(values) = (self.values)(&self.path.join("."), &shape) else {
            return param;
        };
        let (id, old, mapper) = param.consume();
        let options = (&old.device(), old.dtype());
        let new = Tensor::<D>::from_data(TensorData::new(values, shape), options);
        Param::from_mapped_value(id, new.set_require_grad(old.is_require_grad()), mapper)
    }
}

/// Builds a decoder, asking `source` for each weight in the order of [`Decoder::parameters`].
pub(crate) fn build<E, V: Into<Values>>(
    config: &ModelConfig,
    device: &Device,
    dtype: Dtype,
    source: impl FnMut(&str, &[usize]) -> Result<V, E>,
) -> Result<Decoder, E> {
    let mut builder = Builder {
        source,
        device,
        dtype: dtype.tensors(),
    };
    let (d, vocabulary) = (config.hidden_size, config.vocab_size);
    let embed_tokens = Embedding {
        weight: builder.matrix("model.embed_tokens.weight", [vocabulary, d])?,
    };
    let layers = (0..config.num_hidden_layers)
        .map(|index| builder.layer(&format!("model.layers.{index}"), config))
        .collect::<Result<Vec<_>, E>>()?;
    let norm = builder.norm("model.norm", d)?;
    let lm_head = match config.tie_word_embeddings {
        true => None,
        false => Some(builder.projection("lm_head", [vocabulary, d], false)?),
    };
    Ok(Decoder::assemble(
        Trunk {
            embed_tokens,
            layers,
            norm,
        },
        lm_head,
        config,
    ))
}

struct Builder<'a, F> {
    source: F,
    device: &'a Device,
    dtype: DType,
}

impl<E, V, F> Builder<'_, F>
where
    V: Into<Values>,
    F: FnMut(&str, &[usize]) -> Result<V, E>,
{
    fn tensor<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Param<Tensor<D>>, E> {
        let values: Values = (self.source)(name, &shape)?.into();
        let count: usize = shape.iter().product();
        assert_eq!(values.len(), count, "`{name}` has the shape {shape:?}");
        let (device, dtype) = (self.device, self.dtype);
        let data = values.in_format(shape, dtype);
        // Weights stay: kept apart from memory that comes and goes.
        Ok(device.memory_persistent_allocations(data, |data| {
            Param::from_tensor(Tensor::from_data(data, (device, dtype)))
        }))
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Param<Tensor<2>>, E> {
        self.tensor(name, shape)
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<Norm, E> {
        Ok(Norm {
            weight: self.tensor(&format!("{name}.weight"), [width])?,
        })
    }

    fn projection(&mut self, name: &str, shape: [usize; 2], bias: bool) -> Result<Projection, E> {
        let weight = self.matrix(&format!("{name}.weight"), shape)?;
        let bias = match bias {
            true => Some(self.tensor(&format!("{name}.bias"), [shape[0]])?),
            false => None,
        };
        Ok(Projection {
            weight,
            bias,
            adapter: None,
        })
    }

    fn layer(&mut self, prefix: &str, config: &ModelConfig) -> Result<Layer, E> {
        let (d, inner, dim) = (
            config.hidden_size,
            config.intermediate_size,
            config.head_dim,
        );
        let q = config.num_attention_heads * dim;
        let kv = config.num_key_value_heads * dim;
        let at = |name: &str| format!("{prefix}.{name}");
        let q_proj = self.projection(&at("self_attn.q_proj"), [q, d], config.attention_bias)?;
        let k_proj = self.projection(&at("self_attn.k_proj"), [kv, d], config.attention_bias)?;
        let v_proj = self.projection(&at("self_attn.v_proj"), [kv, d], config.attention_bias)?;
        let o_proj = self.projection(&at("self_attn.o_proj"), [d, q], false)?;
        let mlp = Mlp {
            gate_proj: self.projection(&at("mlp.gate_proj"), [inner, d], false)?,
            up_proj: self.projection(&at("mlp.up_proj"), [inner, d], false)?,
            down_proj: self.projection(&at("mlp.down_proj"), [d, inner], false)?,
        };
        let (q_norm, k_norm) = match config.qk_norm {
            true => (
                Some(self.norm(&at("self_attn.q_norm"), dim)?),
                Some(self.norm(&at("self_attn.k_norm"), dim)?),
            ),
            false => (None, None),
        };
        let self_attn = SelfAttention {
            q_proj,
            k_proj,
            v_proj,
            o_proj,
            q_norm,
            k_norm,
        };
        Ok(Layer {
            self_attn,
            mlp,
            input_layernorm: self.norm(&at("input_layernorm"), d)?,
            post_attention_layernorm: self.norm(&at("post_attention_layernorm"), d)?,
        })
    }
}

/// `count` normal values from stream `stream` of `seed`, by Box and Muller's transform. The
/// logarithm and the cosine are pure Rust: a system's own differ in the last bit.
fn normal(seed: u64, stream: u64, deviation: f64, count: usize) -> Vec<f32> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = ChaCha8Rng::from_seed(key);
    random.set_stream(stream);
    // In (0, 1), with 53 bits.
    let mut uniform = move || ((random.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = deviation * (-2.0 * libm::log(uniform())).sqrt();
        let (sin, cos) = libm::sincos(std::f64::consts::TAU * uniform());
        values.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    values.truncate(count);
    values
}
