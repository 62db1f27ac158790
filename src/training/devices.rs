//! Devices that a training is planned for.

use anyhow::Result;
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

/// Name, memory in GiB, dense bf16 and f32 TFLOP/s by the data sheets.
const KNOWN: [(&str, u64, f64, f64); 4] = [
    ("rtx-4090-24gb", 24, 165.2, 82.6),
    ("a100-80gb", 80, 312.0, 19.5),
    ("h100-80gb", 80, 989.4, 66.9),
    ("h200-141gb", 141, 989.4, 66.9),
];

/// The share of the best rate that a training reaches: what is published of dense models of 7B to
/// 13B in bf16 on H100s lies between 35 and 46 percent. It is not a measurement of this toolkit.
pub(super) const SHARE_OF_PEAK: f64 = 0.42;

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
    if let Some((name, gib, bf16, f32)) = KNOWN.iter().find(|known| known.0 == name) {
        return Ok(Device {
            name: (*name).to_string(),
            bytes: Some(gib * GIB),
            peak: Some((bf16 * 1e12, f32 * 1e12)),
            is_host: false,
        });
    }
    if let Ok(bytes) = crate::commands::bytes(name) {
        return Ok(Device {
            name: name.to_string(),
            bytes: Some(bytes),
            peak: None,
            is_host: false,
        });
    }
    let mut names: Vec<&str> = KNOWN.iter().map(|known| known.0).collect();
    names.push("cpu");
    let known = names.join(", ");
    let hint = match recipes::nearest(name, &names) {
        Some(near) => format!("did you mean `{near}`? known are {known}, and sizes such as 48GB"),
        None => format!("known are {known}, and sizes such as 48GB"),
    };
    Err(Fault::new(format!("there is no device `{name}`"), hint).into())
}
