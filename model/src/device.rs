//! Which hardware runs the tensors, and in which number format the weights are held.
//!
//! The rest of the workspace names a device by [`DeviceSpec`] (what a user writes) and holds a
//! [`Device`] (what Burn computes on); nothing outside this crate names a Burn backend.

use std::fmt;
use std::str::FromStr;

pub use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// A device as a user writes it: `cpu` or `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceSpec {
    /// The processor, through Burn's `flex` backend.
    Cpu,
    /// The N-th CUDA card. Needs the feature `cuda`.
    Cuda(usize),
}

/// Why a device could not be named or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The text is neither `cpu` nor `cuda:N`.
    #[error("unknown device `{text}`: write `cpu` or `cuda:N`")]
    Unknown {
        /// What was written.
        text: String,
    },
    /// The binary holds no code for this device.
    #[error("device `{spec}` needs a build with feature `{feature}`")]
    NotBuilt {
        /// The device asked for.
        spec: DeviceSpec,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
}

impl FromStr for DeviceSpec {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown {
            text: text.to_owned(),
        };
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let index = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                index.parse().map(Self::Cuda).map_err(|_| unknown())
            }
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl DeviceSpec {
    /// Opens the device for plain (gradient-free) tensors; `device.autodiff()` gives the one for
    /// training.
    ///
    /// # Errors
    /// [`DeviceError::NotBuilt`] if the binary was built without the feature the device needs.
    pub fn open(&self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            Self::Cuda(_) => Err(DeviceError::NotBuilt {
                spec: *self,
                feature: "cuda",
            }),
        }
    }
}

/// The number format of the weights.
///
/// On the CPU all arithmetic and all weights are f32 whatever the checkpoint holds: widening bf16
/// to f32 is exact, and Burn's bf16 products on the CPU convert the whole weight at each call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}
