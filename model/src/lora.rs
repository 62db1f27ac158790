//! Low-rank adapters beside the linear maps of a decoder (LoRA): the maps stay as they are, and the
//! product of two narrow matrices is added to what they compute.
//!
//! Names, shapes and the first values are those of `peft`. Burn can attach a low-rank product to a
//! parameter, but it makes the whole adapted weight at each use; here only the narrow matrices are
//! multiplied. Files of adapters are read and written in [`crate::checkpoint`].

use burn::module::{Module, Param};
use burn::tensor::{DType, FloatDType, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::decoder::{Decoder, Layer, Projection};
use crate::ops::Dropping;
use crate::parameters::{List, Parameter};

/// The linear maps of a layer, by the names of checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Linear {
    /// Into queries.
    #[serde(rename = "q_proj")]
    Query,
    /// Into keys.
    #[serde(rename = "k_proj")]
    Key,
    /// Into values.
    #[serde(rename = "v_proj")]
    Value,
    /// Out of attention.
    #[serde(rename = "o_proj")]
    Output,
    /// The gate of the MLP.
    #[serde(rename = "gate_proj")]
    Gate,
    /// Into the MLP.
    #[serde(rename = "up_proj")]
    Up,
    /// Out of the MLP.
    #[serde(rename = "down_proj")]
    Down,
}

impl Linear {
    /// All of them, in the order of a checkpoint.
    pub const ALL: [Self; 7] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Output,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// Its name, as in `target_modules` of `peft`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "q_proj",
            Self::Key => "k_proj",
            Self::Value => "v_proj",
            Self::Output => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// Its name below a layer, such as `self_attn.q_proj`.
    pub fn path(self) -> String {
        let part = match self {
            Self::Query | Self::Key | Self::Value | Self::Output => "self_attn",
            Self::Gate | Self::Up | Self::Down => "mlp",
        };
        format!("{part}.{}", self.name())
    }

    fn in_layer(self, layer: &Layer) -> &Projection {
        match self {
            Self::Query => &layer.self_attn.q_proj,
            Self::Key => &layer.self_attn.k_proj,
            Self::Value => &layer.self_attn.v_proj,
            Self::Output => &layer.self_attn.o_proj,
            Self::Gate => &layer.mlp.gate_proj,
            Self::Up => &layer.mlp.up_proj,
            Self::Down => &layer.mlp.down_proj,
        }
    }

    fn in_layer_mut(self, layer: &mut Layer) -> &mut Projection {
        match self {
            Self::Query => &mut layer.self_attn.q_proj,
            Self::Key => &mut layer.self_attn.k_proj,
            Self::Value => &mut layer.self_attn.v_proj,
            Self::Output => &mut layer.self_attn.o_proj,
            Self::Gate => &mut layer.mlp.gate_proj,
            Self::Up => &mut layer.mlp.up_proj,
            Self::Down => &mut layer.mlp.down_proj,
        }
    }

    /// All of them.
    pub fn all() -> Vec<Self> {
        Self::ALL.to_vec()
    }
}

/// How adapters are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraSettings {
    /// Rows of the first narrow matrix and columns of the second, at least 1.
    pub rank: usize,
    /// The product is multiplied by `alpha / rank`; above 0.
    pub alpha: f64,
    /// Share of an adapter's inputs that is dropped while it is trained, 0 to below 1; what is kept
    /// is scaled up.
    pub dropout: f64,
    /// Which linear maps get an adapter; left out: all of them.
    #[serde(default = "Linear::all")]
    pub targets: Vec<Linear>,
}

/// Settings that cannot work.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LoraError {
    /// A rank of 0.
    #[error("`lora.rank` is 0, but must be at least 1")]
    Rank,
    /// A scale that is not above 0: the adapter would do nothing.
    #[error("`lora.alpha` is {0}, but must be a finite number above 0")]
    Alpha(f64),
    /// A share that is none.
    #[error("`lora.dropout` is {0}, but must be at least 0 and below 1")]
    Dropout(f64),
    /// No map, or one twice.
    #[error("`lora.targets` names {0}")]
    Targets(String),
}

impl LoraSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first key that cannot work.
    pub fn check(&self) -> Result<(), LoraError> {
        if self.rank == 0 {
            return Err(LoraError::Rank);
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(LoraError::Alpha(self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(LoraError::Dropout(self.dropout));
        }
        let mut sorted = self.targets.clone();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(LoraError::Targets(format!("`{}` twice", pair[0].name())));
        }
        match self.targets.is_empty() {
            true => Err(LoraError::Targets("no linear map".to_owned())),
            false => Ok(()),
        }
    }

    /// What the product of the two matrices is multiplied by.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }
}

/// What `peft` puts before the name of a weight.
pub const PEFT_PREFIX: &str = "base_model.model.";

/// The names of the two matrices of an adapter.
pub(crate) fn names(layer: usize, which: Linear) -> [String; 2] {
    ["lora_A", "lora_B"].map(|part| {
        format!(
            "{PEFT_PREFIX}model.layers.{layer}.{}.{part}.weight",
            which.path()
        )
    })
}

/// The two narrow matrices beside a linear map.
#[derive(Module, Debug)]
pub(crate) struct Adapter {
    pub(crate) lora_a: Param<Tensor<2>>, // [rank, in]
    pub(crate) lora_b: Param<Tensor<2>>, // [out, rank]
    #[module(skip)]
    scale: f64,
}

impl Adapter {
    /// `y + scale x Aᵀ Bᵀ`, in the number format of `y`: on a card whose weights are bf16 the adapter, which is
    /// kept in f32, is rounded for the product, as automatic mixed precision does. In its own format `x` and
    /// `y` would be cast, and cross the memory several times more.
    pub(crate) fn add_to(&self, y: Tensor<2>, x: Tensor<2>) -> Tensor<2> {
        let (narrow, b) = self.factors(&y, x);
        crate::ops::linear_residual(narrow, b, y)
    }

    /// The gradients of [`Adapter::add_to`] without its numbers.
    pub(crate) fn add_to_unread(&self, y: Tensor<2>, x: Tensor<2>) -> Tensor<2> {
        let (narrow, b) = self.factors(&y, x);
        crate::ops::linear_residual_unread(narrow, b, y)
    }

    /// `scale x Aᵀ` and `B` in the number format of `y`.
    fn factors(&self, y: &Tensor<2>, x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let format = FloatDType::from(y.dtype());
        let [a, b] = [&self.lora_a, &self.lora_b].map(|factor| factor.val().cast(format));
        (crate::ops::linear(x, a, None) * self.scale, b) // [T, rank], [out, rank]
    }
}

/// What adapters do not see in a pass: a function of the document, the place in the model and the
/// position, so that it does not depend on which documents are computed together.
#[derive(Clone, Debug)]
pub struct Dropout(Dropping);

impl Dropout {
    /// Of a batch of documents of these lengths, each with its key; `rate` is the share that is dropped, above 0
    /// and below 1, in steps of 1/65,536.
    ///
    /// # Panics
    /// If there is not a key for each length, or the rate is none.
    pub fn new(rate: f64, documents: &[u64], lengths: &[usize]) -> Self {
        Self(Dropping::new(rate, documents, lengths))
    }

    /// `x: [T, in]` of an adapter with some values 0 and the others scaled up.
    pub(crate) fn apply(&self, x: Tensor<2>, layer: usize, which: Linear) -> Tensor<2> {
        let place = Linear::ALL.iter().position(|linear| *linear == which);
        let place = layer * Linear::ALL.len() + place.expect("all are listed");
        crate::ops::dropout(x, &self.0.at(place as u32))
    }
}

impl Decoder {
    /// Puts adapters beside the linear maps and freezes everything else; `source` gives the values
    /// of each matrix by its name in `peft` and its shape.
    ///
    /// # Errors
    /// The first error of `source`.
    ///
    /// # Panics
    /// If the number of values does not fit, or there are adapters already.
    pub fn with_adapters<E>(
        self,
        settings: &LoraSettings,
        mut source: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        assert!(self.lora.is_none(), "a decoder has one set of adapters");
        let device = self.device();
        let mut decoder = self.no_grad();
        for (index, layer) in decoder.model.layers.iter_mut().enumerate() {
            for which in Linear::ALL {
                if !settings.targets.contains(&which) {
                    continue;
                }
                let projection = which.in_layer_mut(layer);
                let [out, inputs] = projection.weight.dims();
                let [a, b] = names(index, which);
                let mut matrix = |name: &str, shape: [usize; 2]| {
                    let data = TensorData::new(source(name, &shape)?, shape);
                    let values = Tensor::from_data(data, (&device, DType::F32));
                    Ok(Param::from_tensor(values))
                };
                projection.adapter = Some(Adapter {
                    lora_a: matrix(&a, [settings.rank, inputs])?,
                    lora_b: matrix(&b, [out, settings.rank])?,
                    scale: settings.scale(),
                });
            }
        }
        decoder.lora = Some(settings.clone());
        Ok(decoder)
    }

    /// [`Decoder::with_adapters`] with fresh ones, a function of the seed: the first matrix uniform
    /// within `1 / sqrt(in)`, the second 0, so that nothing is changed yet.
    pub fn with_fresh_adapters(self, settings: &LoraSettings, seed: u64) -> Self {
        let mut stream = 0;
        let source = |name: &str, shape: &[usize]| {
            let count = shape.iter().product();
            stream += 1;
            Ok::<_, std::convert::Infallible>(match name.contains("lora_A") {
                true => uniform(seed, stream, 1.0 / (shape[1] as f64).sqrt(), count),
                false => vec![0.0; count],
            })
        };
        match self.with_adapters(settings, source) {
            Ok(decoder) => decoder,
            Err(never) => match never {},
        }
    }

    /// How the adapters were made, if there are any.
    pub fn lora(&self) -> Option<&LoraSettings> {
        self.lora.as_ref()
    }

    /// The matrices of the adapters by their names in `peft`, layer by layer; empty if there are
    /// none.
    pub fn adapter_parameters(&self) -> Vec<Parameter> {
        let mut list = List::default();
        for (index, layer) in self.model.layers.iter().enumerate() {
            for which in Linear::ALL {
                if let Some(adapter) = &which.in_layer(layer).adapter {
                    let [a, b] = names(index, which);
                    list.matrix(a, &adapter.lora_a);
                    list.matrix(b, &adapter.lora_b);
                }
            }
        }
        list.0
    }

    /// What training changes: the adapters if there are any, else all weights.
    pub fn trained_parameters(&self) -> Vec<Parameter> {
        match self.lora {
            Some(_) => self.adapter_parameters(),
            None => self.parameters(),
        }
    }

    /// The same function without adapters: their products are added to the weights.
    ///
    /// The result lies on the same device, and its weights need no gradient.
    pub fn merged(&self) -> Self {
        let Some(settings) = &self.lora else {
            return self.clone();
        };
        let mut decoder = self.clone();
        let values = |matrix: &Param<Tensor<2>>| {
            let values = matrix.val().into_data().try_into_vec_as::<f32>();
            values.expect("float data converts to f32")
        };
        for layer in &mut decoder.model.layers {
            for which in Linear::ALL {
                let projection = which.in_layer_mut(layer);
                let Some(adapter) = projection.adapter.take() else {
                    continue;
                };
                let shape = projection.weight.dims();
                let mut weight = values(&projection.weight);
                let (a, b) = (values(&adapter.lora_a), values(&adapter.lora_b));
                add_product(&mut weight, &a, &b, settings.rank, settings.scale());
                let (id, old, mapper) = projection.weight.clone().consume();
                let new = TensorData::new(weight, shape);
                let new = Tensor::<2>::from_data(new, (&old.device(), old.dtype()));
                let new = new.set_require_grad(false);
                projection.weight = Param::from_mapped_value(id, new, mapper);
            }
        }
        decoder.lora = None;
        decoder
    }
}

/// `weight += scale * b a`, in f32.
///
/// # Shapes
/// `weight: [out, in]`, `a: [rank, in]`, `b: [out, rank]`.
pub(crate) fn add_product(weight: &mut [f32], a: &[f32], b: &[f32], rank: usize, scale: f64) {
    use rayon::prelude::*;
    let inputs = a.len() / rank;
    let rows = weight.par_chunks_mut(inputs).zip(b.par_chunks(rank));
    rows.for_each_init(
        || vec![0_f32; inputs],
        |sum, (row, b)| {
            sum.fill(0.0);
            for (b, a) in b.iter().zip(a.chunks_exact(inputs)) {
                for (sum, a) in sum.iter_mut().zip(a) {
                    *sum += b * a;
                }
            }
            for (value, sum) in row.iter_mut().zip(sum.iter()) {
                *value += scale as f32 * sum;
            }
        },
    );
}

/// `count` values between `-bound` and `bound` from stream `stream` of `seed`.
fn uniform(seed: u64, stream: u64, bound: f64, count: usize) -> Vec<f32> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    // Another key than that of fresh weights with this seed.
    key[8] = 1;
    let mut random = ChaCha8Rng::from_seed(key);
    random.set_stream(stream);
    let share = |bits: u64| (bits >> 11) as f64 / (1_u64 << 53) as f64;
    (0..count)
        .map(|_| ((2.0 * share(random.next_u64()) - 1.0) * bound) as f32)
        .collect()
}
