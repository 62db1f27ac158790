//! Tables of the rotary position embedding.
//!
//! Angles are computed in f64 and rounded once: `position * frequency` in f32 is off by 2e-3 at
//! position 32,767.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Llama3Scaling, ModelConfig};

/// Cosines and sines of the first `positions` positions, `[positions, head_dim / 2]` each.
///
/// Pair `i` of a head is made of elements `i` and `i + head_dim / 2` (the layout of Hugging Face
/// checkpoints) and is turned by `position * frequency[i]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RopeTable {
    /// Cosines.
    pub cos: Vec<f32>,
    /// Sines.
    pub sin: Vec<f32>,
}

/// The frequencies of a model, with a table that grows as longer texts come.
#[derive(Clone, Debug)]
pub struct Rope {
    frequencies: Arc<[f64]>,
    table: Arc<Mutex<Arc<RopeTable>>>,
}

impl Rope {
    /// The rotary embedding that `config` asks for, Llama-3 scaling included.
    pub fn new(config: &ModelConfig) -> Self {
        let dim = config.head_dim;
        let plain = (0..dim / 2).map(|i| config.rope_theta.powf(-((2 * i) as f64) / dim as f64));
        let frequencies = match &config.rope_scaling {
            Some(scaling) => plain.map(|f| scaled(f, scaling)).collect(),
            None => plain.collect(),
        };
        Self {
            frequencies,
            table: Arc::default(),
        }
    }

    /// Radians per position of each pair, `[head_dim / 2]`.
    pub fn frequencies(&self) -> &[f64] {
        &self.frequencies
    }

    /// A table of at least `positions` positions.
    pub fn table(&self, positions: usize) -> Arc<RopeTable> {
        let half = self.frequencies.len();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.cos.len() < positions * half {
            let positions = positions.next_power_of_two().max(64);
            let mut grown = RopeTable::clone(&table);
            let known = grown.cos.len().checked_div(half).unwrap_or(0);
            for position in known..positions {
                for frequency in self.frequencies.iter() {
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    grown.cos.push(cos as f32);
                    grown.sin.push(sin as f32);
                }
            }
            *table = Arc::new(grown);
        }
        Arc::clone(&table)
    }
}

/// Llama 3's rule: frequencies that turn often within the original context stay, those that turn
/// seldom are divided by `factor`, and between the two bounds the result is interpolated.
fn scaled(frequency: f64, scaling: &Llama3Scaling) -> f64 {
    let turns = scaling.original_max_position_embeddings as f64 * frequency / std::f64::consts::TAU;
    let (low, high) = (scaling.low_freq_factor, scaling.high_freq_factor);
    if turns < low {
        frequency / scaling.factor
    } else if turns > high {
        frequency
    } else {
        let share = (turns - low) / (high - low);
        (1.0 - share) * frequency / scaling.factor + share * frequency
    }
}
