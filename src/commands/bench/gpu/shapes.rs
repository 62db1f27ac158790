//! Shapes of the models that are measured, with weights that mean nothing.

use std::convert::Infallible;

use half::bf16;
use model::config::{Architecture, ModelConfig};
use model::decoder::Decoder;
use model::device::{Device, Dtype};
use model::parameters::Values;
use rayon::prelude::*;

/// A shape by name.
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) config: ModelConfig,
}

/// R1-Distill-Qwen 1.5B, 7B and 14B; `small` keeps their head groups and divides everything else.
pub(super) fn distilled(small: bool) -> Vec<Shape> {
    let shape = |name, hidden, inner, layers, heads, kv_heads, vocabulary| Shape {
        name,
        config: match small {
            false => config(hidden, inner, layers, (heads, kv_heads, 128), vocabulary),
            true => config(32 * heads, 64 * heads, 2, (heads, kv_heads, 32), 1024),
        },
    };
    vec![
        shape("1.5b", 1536, 8960, 28, 12, 2, 151_936),
        shape("7b", 3584, 18_944, 28, 28, 4, 152_064),
        shape("14b", 5120, 13_824, 48, 40, 8, 152_064),
    ]
}

/// A model that the CPU computes in a moment.
pub(super) fn tiny() -> ModelConfig {
    config(192, 512, 4, (6, 2, 32), 640)
}

fn config(
    hidden_size: usize,
    intermediate_size: usize,
    layers: usize,
    (heads, kv_heads, head_dim): (usize, usize, usize),
    vocab_size: usize,
) -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen2,
        vocab_size,
        hidden_size,
        intermediate_size,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: kv_heads,
        head_dim,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        rope_scaling: None,
        max_position_embeddings: 131_072,
        tie_word_embeddings: false,
        attention_bias: true,
        qk_norm: false,
        bos_token_id: None,
        eos_token_id: vec![0],
        initializer_range: 0.02,
    }
}

/// Numbers of noise before they come again. A prime: no two rows of a matrix are the same.
const STRETCH: usize = 1_000_003;

/// A decoder whose weights are noise of a sensible size, made quickly: a stretch of it again and
/// again, in the format that the device is given.
pub(super) fn noise(config: &ModelConfig, dtype: Dtype, device: &Device) -> Decoder {
    let mut state = 1_u32;
    let stretch: Vec<f32> = (0..STRETCH)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 * (0.07 / (1 << 24) as f32) - 0.035
        })
        .collect();
    let rounded: Vec<bf16> = stretch.iter().map(|value| bf16::from_f32(*value)).collect();
    let built = Decoder::from_source(config, device, dtype, |name, shape| {
        let count: usize = shape.iter().product();
        let ones = shape.len() == 1 && !name.ends_with("bias");
        Ok::<_, Infallible>(match dtype {
            _ if ones => Values::F32(vec![1.0; count]),
            Dtype::F32 => Values::F32(repeated(&stretch, count)),
            Dtype::Bf16 => Values::Bf16(repeated(&rounded, count)),
        })
    });
    match built {
        Ok(decoder) => decoder,
        Err(never) => match never {},
    }
}

/// So many values, those of the stretch again and again. By all processors: most of the time goes into touching
/// fresh memory.
fn repeated<T: Copy + Send + Sync>(stretch: &[T], count: usize) -> Vec<T> {
    let places = (0..count).into_par_iter();
    places.map(|at| stretch[at % STRETCH]).collect()
}

/// The same weights in another format or on another device.
pub(super) fn copied(from: &Decoder, dtype: Dtype, device: &Device) -> Decoder {
    let mut weights = from.parameters().into_iter();
    let built = Decoder::from_source(from.config(), device, dtype, |_, _| {
        let values = weights.next().expect("as many parameters").data();
        let values = values.convert::<f32>().try_into_vec::<f32>();
        Ok::<_, Infallible>(values.expect("they were made f32"))
    });
    match built {
        Ok(decoder) => decoder,
        Err(never) => match never {},
    }
}

/// Token ids that look random.
pub(super) fn ids(count: usize, seed: usize, config: &ModelConfig) -> Vec<u32> {
    let size = config.vocab_size;
    (0..count)
        .map(|at| ((at * 7919 + seed * 104_729 + at * at * 31) % size) as u32)
        .collect()
}
