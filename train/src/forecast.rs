//! What a training will need, from the shape of the model alone: bytes by what they are for, and
//! floating-point operations.
//!
//! Bytes are what is held at the worst moment of a step. On the CPU, where memory of results is this
//! project's own affair, the passes are gone through result by result ([`pass`]); on a card everything
//! that is ever held is added up, and what its allocator cannot use of its pages is a part of its own.
//! Legend: T tokens of a micro-batch, d width, V vocabulary, m width of the MLP, H query heads, K
//! key-value heads, D head size, L layers.

mod pass;

use model::checkpoint::tensors;
use model::config::ModelConfig;
use model::device::{Device, DeviceSpec, Dtype};
use model::lora::{Linear, LoraSettings};
use serde::Serialize;

use crate::eight;
use crate::fetched::{AT_ONCE, PIECE};
use crate::gradients::logit_rows;
use crate::settings::{Placement, Precision, Recompute, TrainSettings};

/// What all steps work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Optimizer steps.
    pub steps: u64,
    /// Tokens of all steps.
    pub tokens: u64,
    /// The sum over all documents of their length squared: what attention costs.
    pub squares: u64,
}

/// Where something lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// On the device that computes.
    Device,
    /// In host memory; on the CPU that is the same memory.
    Host,
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Computer {
    /// The processor, which holds weights of every number format in f32 and packs those of a
    /// product.
    Cpu,
    /// A card, which holds weights and results in the number format of the weights.
    Card,
}

impl Computer {
    /// What computes on a device.
    pub(crate) fn of(device: &Device) -> Self {
        match DeviceSpec::is_cpu(device) {
            true => Self::Cpu,
            false => Self::Card,
        }
    }
}

/// Bytes with one purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// What for.
    pub what: &'static str,
    /// Where.
    pub place: Place,
    /// How many.
    pub bytes: u64,
}

/// What a training will need.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Parameters of the model, adapters included.
    pub parameters: u64,
    /// Those of them that are trained.
    pub trained: u64,
    /// Memory by purpose.
    pub parts: Vec<Part>,
    /// Operations that the model asks for, in all steps: the measure of rates.
    pub model_flops: f64,
    /// Operations that are executed; more than the former with recomputation.
    pub executed_flops: f64,
}

impl Forecast {
    /// Bytes in one place.
    pub fn bytes(&self, place: Place) -> u64 {
        let parts = self.parts.iter().filter(|part| part.place == place);
        parts.map(|part| part.bytes).sum()
    }
}

/// Sizes of a model that memory and work depend on.
struct Sizes {
    all: u64,
    /// Linear weights of all layers.
    layers: u64,
    /// Those whose product ends a layer.
    last: u64,
    /// The output projection.
    head: u64,
    /// The largest part of the weights that gets its gradients at once, by layers.
    part: u64,
    adapters: u64,
    /// Elements of each tensor that is trained.
    trained: Vec<u64>,
}

impl Sizes {
    fn of(config: &ModelConfig, lora: Option<&LoraSettings>) -> Self {
        let elements = |shape: &[usize]| shape.iter().map(|n| *n as u64).product::<u64>();
        let list = tensors(config);
        let all = list.iter().map(|(_, shape)| elements(shape)).sum();
        let head = (config.vocab_size * config.hidden_size) as u64;
        let in_layers = || list.iter().filter(|(name, _)| name.contains(".layers."));
        let of_layer = in_layers().map(|(_, shape)| elements(shape)).sum::<u64>();
        let of_layer = of_layer / config.num_hidden_layers as u64;
        let matrices = in_layers().filter(|(_, shape)| shape.len() == 2);
        let layers = matrices.clone().map(|(_, shape)| elements(shape)).sum();
        let ends = |name: &str| name.contains(Linear::Down.name());
        let last = matrices.clone().filter(|(name, _)| ends(name));
        let last = last.map(|(_, shape)| elements(shape)).sum();
        let trained: Vec<u64> = match lora {
            None => list.iter().map(|(_, shape)| elements(shape)).collect(),
            Some(lora) => {
                let adapted = matrices.filter(|(name, _)| {
                    let mut targets = lora.targets.iter();
                    targets.any(|which| name.contains(which.name()))
                });
                let factors = |(_, shape): &(_, Vec<usize>)| [shape[0], shape[1]];
                let width = |width: usize| (lora.rank * width) as u64;
                adapted.flat_map(factors).map(width).collect()
            }
        };
        let adapters = lora.map_or(0, |_| trained.iter().sum());
        Self {
            all,
            layers,
            last,
            head,
            part: of_layer.max(head),
            adapters,
            trained,
        }
    }
}

/// Forecasts a training with these settings of a model of this shape.
///
/// # Panics
/// If the model has no layer.
pub fn forecast(
    config: &ModelConfig,
    settings: &TrainSettings,
    dtype: Dtype,
    computer: Computer,
    work: &Work,
) -> Forecast {
    let sizes = Sizes::of(config, settings.lora.as_ref());
    let full = settings.lora.is_none();
    let trained = if full { sizes.all } else { sizes.adapters };
    let format: u64 = match (dtype, computer) {
        (Dtype::F32, _) | (_, Computer::Cpu) => 4,
        (Dtype::Bf16, Computer::Card) => 2,
    };
    let kept = match settings.optimizer {
        Placement::Host => Place::Host,
        Placement::Device => Place::Device,
    };
    let mut parts = Vec::new();
    let mut part = |what, place, bytes| {
        if bytes > 0 {
            parts.push(Part { what, place, bytes });
        }
    };
    part("weights", Place::Device, format * sizes.all);
    part("adapters", Place::Device, 4 * sizes.adapters);
    // An optimizer in host memory beside a card keeps the weights there, too.
    let apart = computer == Computer::Card && settings.optimizer == Placement::Host;
    if apart || (dtype == Dtype::Bf16 && full) {
        part("f32 masters", kept, 4 * trained);
    }
    let moments = match settings.moments {
        Precision::F32 => 8 * trained,
        Precision::EightBit => 2 * sizes.trained.iter().map(|n| eight::bytes(*n)).sum::<u64>(),
    };
    part("moments", kept, moments);
    let crosses = apart && settings.sums == Placement::Host;
    match crosses {
        true => part("sums of gradients", Place::Host, 4 * trained),
        false => part("sums of gradients", Place::Device, 4 * trained),
    }
    if apart && !crosses {
        let largest = sizes.trained.iter().copied().max().unwrap_or(0);
        let pieces = AT_ONCE as u64 * largest.min(PIECE as u64);
        part("sums on their way", Place::Host, 4 * pieces.min(trained));
    }
    match computer {
        Computer::Cpu => {
            let (tokens, recompute) = (settings.tokens_per_micro_batch, settings.recompute);
            let worst = pass::worst(config, settings.lora.as_ref(), recompute, tokens);
            for (what, bytes) in pass::PURPOSES.into_iter().zip(worst) {
                part(what, Place::Device, bytes);
            }
        }
        Computer::Card => {
            let trained_format = if full { format } else { 4 };
            let held = on_card(config, settings, &sizes, [format, trained_format], crosses);
            let slack = held.iter().map(|(_, bytes)| bytes).sum::<u64>() / SLACK;
            for (what, bytes) in held {
                part(what, Place::Device, bytes);
            }
            part("slack of the allocator", Place::Device, slack);
        }
    }
    let model_flops = flops_of_model(config, settings, work.tokens, work.squares);
    let again = match settings.recompute {
        Recompute::None => 0.0,
        // One more forward pass of the layers, but for their last products, and for attention where it is kept.
        Recompute::Blocks => {
            let weights = 2.0 * (sizes.layers - sizes.last) as f64 * work.tokens as f64;
            match keeps_attention(format, computer) {
                true => weights,
                false => weights + 2.0 * attention(config, work.squares),
            }
        }
    };
    Forecast {
        parameters: sizes.all + sizes.adapters,
        trained,
        parts,
        model_flops,
        executed_flops: model_flops + again,
    }
}

/// The part of what a micro-batch holds on a card that its allocator takes in addition, as results of many sizes do
/// not fill its pages. Found between nothing and 18%, for 1.5B, 7B and 14B at 4K, 8K and 16K tokens
/// (docs/BENCHMARKS.md, "Cards"); with a sixteenth the plans are within 5% of what is reserved
/// by a driver without a card that counts it.
const SLACK: u64 = 16;

/// Whether what attention gave is kept where layers are computed again: on a card where cuDNN attends, which is in bf16.
fn keeps_attention(format: u64, computer: Computer) -> bool {
    computer == Computer::Cpu || format == 2
}

/// What a micro-batch holds on a card beside sums of gradients. Logits are gone before the layers' backward passes
/// begin, which take the same memory again; the rest is there at once. `crosses` says that sums are in host memory.
fn on_card(
    config: &ModelConfig,
    settings: &TrainSettings,
    sizes: &Sizes,
    [format, trained_format]: [u64; 2],
    crosses: bool,
) -> Vec<(&'static str, u64)> {
    let (tokens, layers) = (
        settings.tokens_per_micro_batch as u64,
        config.num_hidden_layers as u64,
    );
    let full = settings.lora.is_none();
    let trained = sizes.trained.iter().sum::<u64>();
    let width = config.hidden_size as u64;
    let dropped = settings
        .lora
        .as_ref()
        .map_or(0, |lora| dropped_by_layer(config, lora));
    let graph = format * tokens * (saved_by_layer(config) + dropped);
    let query_heads = config.num_attention_heads as u64;
    let attended = format * tokens * query_heads * config.head_dim as u64;
    let keeps = keeps_attention(format, Computer::Card);
    let boundary = format * tokens * width;
    let mut parts = match settings.recompute {
        Recompute::None => vec![
            ("gradients", trained_format * trained),
            ("saved for the backward pass", layers * graph + 2 * boundary),
        ],
        Recompute::Blocks => {
            // Those that are computed, and those that wait for the bus.
            let copies = if crosses { 2 } else { 1 };
            let at_once = copies * if full { sizes.part } else { trained / layers };
            let kept = match keeps {
                true => layers * (attended + 4 * tokens * query_heads),
                false => 0,
            };
            vec![
                ("gradients", trained_format * at_once),
                ("inputs of layers", (layers + 1) * boundary),
                ("results of attention", kept),
            ]
        }
    };
    // Gradients by what a layer computes: as large as its widest stretch, the MLP.
    let inner = config.intermediate_size as u64;
    let passing = format * tokens * (3 * inner + 2 * width);
    // In f32 and for each query head: gradients by queries, and by keys and values before they are added up.
    let heads = (config.num_attention_heads * config.head_dim) as u64;
    let attention = 12 * tokens * heads;
    let rows = (logit_rows(config.vocab_size, Computer::Card) as u64).min(tokens);
    let logits = 8 * rows * config.vocab_size as u64;
    let again = match settings.recompute {
        Recompute::None => 0,
        Recompute::Blocks if keeps => graph - attended,
        Recompute::Blocks => graph,
    };
    if logits > again + passing + attention {
        parts.push(("logits", logits));
        return parts;
    }
    if again > 0 {
        parts.push(("saved for the backward pass", again));
    }
    parts.push(("backward pass of a layer", passing));
    parts.push(("attention", attention));
    parts
}

/// Bytes of the largest result that a step makes on a card.
pub(crate) fn largest_on_card(config: &ModelConfig, settings: &TrainSettings, dtype: Dtype) -> u64 {
    let format = if dtype == Dtype::Bf16 { 2 } else { 4 };
    let tokens = settings.tokens_per_micro_batch as u64;
    let trained = Sizes::of(config, settings.lora.as_ref()).trained;
    let sum = 4 * trained.into_iter().max().unwrap_or(0);
    let rows = (logit_rows(config.vocab_size, Computer::Card) as u64).min(tokens);
    let logits = 4 * rows * config.vocab_size as u64;
    sum.max(logits)
        .max(format * tokens * config.intermediate_size as u64)
}

/// Floating-point operations that the model asks for in forward and backward passes over `tokens` in
/// documents the squares of whose lengths add up to `squares`; what is computed again is not counted.
///
/// Six for each weight and token, four with adapters, whose frozen weights get no gradient; attention
/// by its lower triangle.
pub fn flops_of_model(
    config: &ModelConfig,
    settings: &TrainSettings,
    tokens: u64,
    squares: u64,
) -> f64 {
    let sizes = Sizes::of(config, None);
    let of_weights = if settings.lora.is_none() { 6.0 } else { 4.0 };
    let weights = of_weights * (sizes.layers + sizes.head) as f64 * tokens as f64;
    weights + 6.0 * attention(config, squares)
}

/// Multiplications and additions of one of the two products of attention in all layers, one of each
/// for two: half of each square is left out.
fn attention(config: &ModelConfig, squares: u64) -> f64 {
    let heads = (config.num_attention_heads * config.head_dim) as f64;
    config.num_hidden_layers as f64 * heads * squares as f64
}

/// Numbers that one token leaves in one layer for the backward pass: inputs of both norms, what they
/// give, queries, keys, values, what attention gives, a number per head, gate, up and their product.
fn saved_by_layer(config: &ModelConfig) -> u64 {
    let (d, m) = (config.hidden_size, config.intermediate_size);
    let (heads, key_value) = (config.num_attention_heads, config.num_key_value_heads);
    let qk_norm = if config.qk_norm { heads + key_value } else { 0 };
    let attention = (2 * heads + 2 * key_value + qk_norm) * config.head_dim + heads;
    (4 * d + attention + 3 * m) as u64
}

/// Numbers that dropout adds to [`saved_by_layer`]: the input of each map that is adapted, with some of them dropped.
fn dropped_by_layer(config: &ModelConfig, lora: &LoraSettings) -> u64 {
    if lora.dropout == 0.0 {
        return 0;
    }
    let widths = lora.targets.iter().map(|which| match which {
        Linear::Query | Linear::Key | Linear::Value | Linear::Gate | Linear::Up => {
            config.hidden_size
        }
        Linear::Output => config.num_attention_heads * config.head_dim,
        Linear::Down => config.intermediate_size,
    });
    widths.sum::<usize>() as u64
}
