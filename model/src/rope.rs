//! Tables of the rotary position embedding.
//!
//! Angles are computed in f64 and rounded once: `position * frequency` in f32 is off by 2e-3 at
//! position 32,767.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{DType, Device, Tensor, TensorData};

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

/// The frequencies of a model, with tables that grow as longer texts come.
#[derive(Clone, Debug)]
pub struct Rope {
    frequencies: Arc<[f64]>,
    table: Arc<Mutex<Arc<RopeTable>>>,
    on_device: Arc<Mutex<Option<OnDevice>>>,
}

/// A table as it was last wanted on a device.
#[derive(Debug)]
struct OnDevice {
    device: Device,
    positions: usize,
    turns: Turns,
}

/// What turns heads on a device: `x * cos + halves_swapped(x) * sin`.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    /// The cosine of each pair, for both of its elements: `[positions, head_dim]` in f32.
    pub(crate) cos: Tensor<2>,
    /// Its sine, negative for the first one.
    pub(crate) sin: Tensor<2>,
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
            on_device: Arc::default(),
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

impl Rope {
    /// What turns heads at so many positions from 0 on, without a graph. Kept for the device that was
    /// asked for last, so that layers and steps do not bring it there anew.
    pub(crate) fn turns(&self, positions: usize, device: &Device) -> Turns {
        let device = device.clone().inner();
        let mut kept = self
            .on_device
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let kept = match kept.take() {
            Some(known) if known.device == device && known.positions >= positions => {
                kept.insert(known)
            }
            _ => kept.insert(self.brought(positions.next_power_of_two().max(64), device)),
        };
        let rows = |table: &Tensor<2>| match positions == kept.positions {
            true => table.clone(),
            false => table.clone().narrow(0, 0, positions),
        };
        Turns {
            cos: rows(&kept.turns.cos),
            sin: rows(&kept.turns.sin),
        }
    }

    fn brought(&self, positions: usize, device: Device) -> OnDevice {
        let (table, half) = (self.table(positions), self.frequencies.len());
        let brought = |values: &[f32], sign: f32| {
            let rows = values[..positions * half].chunks_exact(half);
            let both: Vec<f32> = rows
                .flat_map(|row| row.iter().map(move |x| sign * x).chain(row.iter().copied()))
                .collect();
            let data = TensorData::new(both, [positions, 2 * half]);
            Tensor::from_data(data, (&device, DType::F32))
        };
        let turns = Turns {
            cos: brought(&table.cos, 1.0),
            sin: brought(&table.sin, -1.0),
        };
        OnDevice {
            device,
            positions,
            turns,
        }
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
