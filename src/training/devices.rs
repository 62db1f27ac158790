//! Devices that a training is planned for.

use anyhow::Result;
use model::device::{DeviceSpec, Dtype};
use model::self_check::Identity;
use train::Computer;

use crate::fault::Fault;
use crate::recipes;

/// A device by what a plan needs to know of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Device {
    pub(super) name: String,
    /// Memory in bytes, if it is known.
    pub(super) bytes: Option<u64>,
    /// Operations a second at best, in bf16 and in f32, if they are known.
    pub(super) peak: Option<(f64, f64)>,
    /// Whether host memory is its memory.
    pub(super) is_host: bool,
}

impl Device {
    /// What computes there.
    pub(super) fn computer(&self) -> Computer {
        match self.is_host {
            true => Computer::Cpu,
            false => Computer::Card,
        }
    }
}

const GIB: u64 = 1 << 30;

/// A card that is known.
struct Known {
    name: &'static str,
    /// What such cards call themselves. Others of the same series have other rates.
    own_names: &'static [&'static str],
    memory_gib: u64,
    /// Dense TFLOP/s in bf16 and in f32 by the data sheet.
    peak: (f64, f64),
}

const KNOWN: [Known; 4] = [
    Known {
        name: "rtx-4090-24gb",
        own_names: &["NVIDIA GeForce RTX 4090"],
        memory_gib: 24,
        peak: (165.2, 82.6),
    },
    Known {
        name: "a100-80gb",
        own_names: &["NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe"],
        memory_gib: 80,
        peak: (312.0, 19.5),
    },
    Known {
        name: "h100-80gb",
        own_names: &["NVIDIA H100 80GB HBM3"],
        memory_gib: 80,
        peak: (989.4, 66.9),
    },
    Known {
        name: "h200-141gb",
        own_names: &["NVIDIA H200"],
        memory_gib: 141,
        peak: (989.4, 66.9),
    },
];

/// Operations a second at best of a card that calls itself so, in this number format, if it is known.
pub(super) fn peak(own_name: &str, dtype: Dtype) -> Option<f64> {
    let known = KNOWN
        .iter()
        .find(|known| known.own_names.contains(&own_name))?;
    Some(1e12 * in_format(known.peak, dtype))
}

/// The rate for a number format, of those for bf16 and f32.
pub(super) fn in_format((bf16, f32): (f64, f64), dtype: Dtype) -> f64 {
    match dtype {
        Dtype::Bf16 => bf16,
        Dtype::F32 => f32,
    }
}

/// The share of the best rate that a training of all weights reaches, of the operations that are executed. Measured
/// on an H100 (docs/BENCHMARKS.md): 0.37, 0.44 and 0.46 for a 1.5B shape at 4,096, 8,192 and 16,384 tokens, and 0.52 for
/// 7B at 16,384, with the optimizer in host memory and 16 micro-batches a step; on an H200 0.52 for 14B in the same way.
const SHARE_OF_ALL: f64 = 0.49;

/// The share that a training of adapters reaches: 0.44, 0.45 and 0.47 for a 7B shape at the same lengths, and on an H200
/// 0.47, 0.50 and 0.49 for 14B.
const SHARE_OF_ADAPTERS: f64 = 0.475;

/// The share of the best rate that a training reaches.
pub(super) fn share_of_peak(adapters: bool) -> f64 {
    match adapters {
        true => SHARE_OF_ADAPTERS,
        false => SHARE_OF_ALL,
    }
}

impl Known {
    fn device(&self) -> Device {
        Device {
            name: self.name.to_string(),
            bytes: Some(self.memory_gib * GIB),
            peak: Some((self.peak.0 * 1e12, self.peak.1 * 1e12)),
            is_host: false,
        }
    }
}

/// What computes under the name that `--device` takes.
///
/// # Errors
/// If it is a card that cannot be opened, or none that is known; with how to name one.
pub(super) fn of(spec: &DeviceSpec) -> Result<Device> {
    if *spec == DeviceSpec::Cpu {
        return find("cpu");
    }
    let hint = format!(
        "say what to plan for: --on {}, or its memory, such as --on 48GB",
        KNOWN.map(|known| known.name).join(", --on ")
    );
    let card = match spec.open() {
        Ok(card) => Identity::of(*spec, &card).device,
        Err(error) => return Err(Fault::new(error.to_string(), hint).into()),
    };
    let known = KNOWN
        .iter()
        .find(|known| known.own_names.contains(&card.as_str()));
    match known {
        Some(known) => Ok(known.device()),
        None => Err(Fault::new(
            format!("what `{spec}` ({card}) holds and computes is not known"),
            hint,
        )
        .into()),
    }
}

/// The device of this name, or one of so many bytes.
///
/// # Errors
/// If it is neither; with the nearest name.
pub(super) fn find(name: &str) -> Result<Device> {
    if name == "cpu" {
        return Ok(Device {
            name: "cpu".to_string(),
            bytes: model::memory::machine_bytes().map(|(all, _)| all),
            peak: None,
            is_host: true,
        });
    }
    if let Some(known) = KNOWN.iter().find(|known| known.name == name) {
        return Ok(known.device());
    }
    if let Ok(bytes) = crate::commands::bytes(name) {
        return Ok(Device {
            name: name.to_string(),
            bytes: Some(bytes),
            peak: None,
            is_host: false,
        });
    }
    let mut names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
    names.push("cpu");
    let known = names.join(", ");
    let hint = match recipes::nearest(name, &names) {
        Some(near) => format!("did you mean `{near}`? known are {known}, and sizes such as 48GB"),
        None => format!("known are {known}, and sizes such as 48GB"),
    };
    Err(Fault::new(format!("there is no device `{name}`"), hint).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_rate_is_known_of_cards_that_are_named_exactly() {
        for (name, dtype, expected) in [
            ("NVIDIA H100 80GB HBM3", Dtype::Bf16, Some(1e12 * 989.4)),
            ("NVIDIA H100 80GB HBM3", Dtype::F32, Some(1e12 * 66.9)),
            ("NVIDIA H200", Dtype::Bf16, Some(1e12 * 989.4)),
            ("NVIDIA H200 NVL", Dtype::Bf16, None),
            ("NVIDIA H100 PCIe", Dtype::Bf16, None),
            ("cpu", Dtype::F32, None),
        ] {
            assert_eq!(peak(name, dtype), expected, "{name} {dtype}");
        }
    }
}
