//! Which hardware runs the tensors, and in which number format the weights are held.
//!
//! The rest of the workspace names a device by [`DeviceSpec`] (what a user writes) and holds a
//! [`Device`] (what Burn computes on); nothing outside this crate names a Burn backend. What a
//! device lacks is found out before Burn is asked to use it, because Burn panics where a driver, a
//! library or a header is missing.

mod answer;
#[cfg(feature = "cuda")]
mod cuda;
mod report;
#[cfg(feature = "wgpu")]
mod wgpu;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub use burn::tensor::{Device, TensorData};
use serde::{Deserialize, Serialize};

pub(crate) use self::answer::quietly;
pub use self::report::{Finding, Report, State};

/// A device as a user writes it: `cpu`, `cuda:N` or `wgpu:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceSpec {
    /// The processor, through Burn's `flex` backend.
    Cpu,
    /// The N-th CUDA card. Needs the feature `cuda`.
    Cuda(usize),
    /// The N-th graphics adapter: Vulkan, Metal or DirectX 12. Needs the feature `wgpu`.
    Wgpu(usize),
}

/// Why a device could not be named or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The text names no device.
    #[error("unknown device `{text}`: write `cpu`, `cuda:N` or `wgpu:N`")]
    Unknown {
        /// What was written.
        text: String,
    },
    /// The binary holds no code for this device.
    #[error(
        "device `{spec}` needs a build with feature `{feature}`: \
         `cargo build --release --features {feature}`"
    )]
    NotBuilt {
        /// The device asked for.
        spec: DeviceSpec,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
    /// Something that the device needs is not on this machine.
    #[error("device `{spec}` cannot be used: {problem}; {remedy}")]
    Missing {
        /// The device asked for.
        spec: DeviceSpec,
        /// What is missing.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// A variable of the environment that chooses a library has a value that chooses nothing.
    #[error(
        "{variable} is `{value}`: the only value it takes is `{only}`; unset it for the library"
    )]
    Setting {
        /// Its name.
        variable: &'static str,
        /// What it was set to.
        value: String,
        /// What it can be set to.
        only: &'static str,
    },
    /// There is no device of this number.
    #[error("there is no device `{spec}`; this machine has {}", list(.found))]
    NoSuch {
        /// The device asked for.
        spec: DeviceSpec,
        /// Those of its kind that are there, as `cuda:0 (name)`.
        found: Vec<String>,
    },
    /// The device is there, but failed a first computation.
    #[error("device `{spec}` failed a first computation: {reason}; `leap doctor` tells more")]
    Failed {
        /// The device asked for.
        spec: DeviceSpec,
        /// What it said.
        reason: String,
    },
}

fn list(found: &[String]) -> String {
    match found {
        [] => "none of its kind".to_owned(),
        found => found.join(", "),
    }
}

impl FromStr for DeviceSpec {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, index.parse().ok()),
            None => (text, Some(0)),
        };
        match (kind, index) {
            ("cpu", Some(0)) if text == "cpu" => Ok(Self::Cpu),
            ("cuda", Some(index)) => Ok(Self::Cuda(index)),
            ("wgpu", Some(index)) => Ok(Self::Wgpu(index)),
            _ => Err(DeviceError::Unknown {
                text: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Wgpu(index) => write!(f, "wgpu:{index}"),
        }
    }
}

impl DeviceSpec {
    /// Opens the device for plain (gradient-free) tensors; `device.autodiff()` gives the one for
    /// training.
    ///
    /// Anything but the CPU is made to compute something first, so that a device which cannot is
    /// found here.
    ///
    /// # Errors
    /// [`DeviceError`]: a build without the feature, a missing driver, library or header, a number
    /// that no device has, a device that fails, or a choice of libraries (`LEAP_PRODUCTS`, `LEAP_ATTENTION`) that is none.
    pub fn open(&self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => {
                let products = is_set("LEAP_PRODUCTS", "burn")?;
                let attention = is_set("LEAP_ATTENTION", "chunked")?;
                configure_kernels();
                cuda::check(*self, *index)?;
                let device = answer::asked(*self, Device::cuda(*index))?;
                if !products {
                    crate::ops::product::start(*index);
                }
                if !attention {
                    crate::ops::flash::start(*index);
                }
                Ok(device)
            }
            #[cfg(feature = "wgpu")]
            Self::Wgpu(index) => {
                configure_kernels();
                answer::asked(*self, wgpu::device(*self, *index)?)
            }
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(self.not_built("cuda")),
            #[cfg(not(feature = "wgpu"))]
            Self::Wgpu(_) => Err(self.not_built("wgpu")),
        }
    }

    /// Whether a device that is open is the processor.
    pub fn is_cpu(device: &Device) -> bool {
        crate::ops::is_cpu(device)
    }

    #[cfg(not(all(feature = "cuda", feature = "wgpu")))]
    fn not_built(self, feature: &'static str) -> DeviceError {
        DeviceError::NotBuilt {
            spec: self,
            feature,
        }
    }
}

/// Whether a variable of the environment does without a library: it takes one value, and nothing else is meant.
#[cfg(feature = "cuda")]
fn is_set(variable: &'static str, only: &'static str) -> Result<bool, DeviceError> {
    chooses(variable, std::env::var_os(variable), only)
}

/// [`is_set`] of a value.
#[cfg(any(feature = "cuda", test))]
fn chooses(
    variable: &'static str,
    value: Option<std::ffi::OsString>,
    only: &'static str,
) -> Result<bool, DeviceError> {
    match value {
        None => Ok(false),
        Some(value) if value.is_empty() => Ok(false),
        Some(value) if value == only => Ok(true),
        Some(value) => Err(DeviceError::Setting {
            variable,
            value: value.to_string_lossy().into_owned(),
            only,
        }),
    }
}

/// Where what is found out of a device is kept: `LEAP_CACHE`, else `leap-t` in the user's cache folder;
/// None if neither of these nor a home is set.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("LEAP_CACHE").map(PathBuf::from).or_else(|| {
        let cache = set("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
        Some(cache.join("leap-t"))
    })
}

/// Says how kernels are made, before the first of them.
///
/// Products of f32 stay in f32: by default CubeK rounds their factors to tf32, 10 bits of fraction,
/// where a card multiplies those faster; who wants speed takes bf16. Compiled kernels, and which of
/// them are fastest for a shape, are kept in [`cache_folder`] between runs; a `cubecl.toml` that names
/// another place is heeded.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn configure_kernels() {
    use cubecl::config::cache::CacheConfig;
    use cubecl::config::streaming::StreamingConfig;
    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig as _};
    use cubek_std::config::{CubekConfig, MatmulConfig};
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let matmul = MatmulConfig { allow_tf32: false };
        // What an application around us has set stays.
        let _ = CubekConfig::try_set(CubekConfig { matmul });
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        // One queue of work, which products by cuBLAS can join; nothing here would use a second.
        if config.streaming.max_streams == StreamingConfig::default().max_streams {
            config.streaming.max_streams = 1;
        }
        if let (CacheConfig::Target, Some(folder)) = (&config.environment.path, cache_folder()) {
            config.environment.path = CacheConfig::Directory(folder.join("kernels"));
            config.compilation.cache = true;
        }
        let _ = CubeClRuntimeConfig::try_set(config);
    });
}

/// Why products on a device are Burn's own, several times slower than cuBLAS; None where cuBLAS
/// multiplies, where it has no part, and where `LEAP_PRODUCTS=burn` asks for Burn's.
pub fn without_cublas(device: &Device) -> Option<String> {
    crate::ops::product::why_not(device)
}

/// Why attention in training on a device is not cuDNN's; None where it is, where cuDNN has no part, and where
/// `LEAP_ATTENTION=chunked` asks for attention in chunks.
pub fn without_cudnn(device: &Device) -> Option<String> {
    #[cfg(feature = "cuda")]
    return crate::ops::flash::why_not(device);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = device;
        None
    }
}

/// The version of the driver behind a device, as far as it tells; empty where there is none.
pub(crate) fn driver_version(spec: DeviceSpec) -> String {
    match spec {
        #[cfg(feature = "cuda")]
        DeviceSpec::Cuda(_) => match cuda::driver() {
            Ok(((major, minor), _)) => format!("CUDA {major}.{minor}"),
            Err(_) => String::new(),
        },
        _ => String::new(),
    }
}

/// Bytes of the memory of a CUDA card; None of other devices, and where the driver does not tell.
pub fn card_bytes(spec: DeviceSpec) -> Option<u64> {
    match spec {
        #[cfg(feature = "cuda")]
        DeviceSpec::Cuda(index) => {
            let (_, cards) = cuda::driver().ok()?;
            Some(cards.get(index)?.memory as u64)
        }
        _ => None,
    }
}

/// The number format of the weights.
///
/// On the CPU all arithmetic and all weights are f32 whatever the checkpoint holds: widening bf16
/// to f32 is exact, and Burn's bf16 products on the CPU convert the whole weight at each call.
/// Elsewhere bf16 weights stay bf16; norms, the rotary embedding, softmax and the loss are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
}

impl Dtype {
    /// Whether a device computes in this format.
    pub fn is_supported_by(self, device: &Device) -> bool {
        device.supports_dtype(self.tensors())
    }

    /// The format of tensors.
    pub(crate) fn tensors(self) -> burn::tensor::DType {
        match self {
            Self::F32 => burn::tensor::DType::F32,
            Self::Bf16 => burn::tensor::DType::BF16,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{DeviceError, chooses};

    #[test]
    fn a_choice_of_libraries_takes_one_value() {
        let of = |value: Option<&str>| chooses("LEAP_PRODUCTS", value.map(Into::into), "burn");
        assert_eq!(of(None), Ok(false));
        assert_eq!(of(Some("")), Ok(false));
        assert_eq!(of(Some("burn")), Ok(true));
        let wrong = of(Some("Burn")).expect_err("it is no value");
        assert!(matches!(wrong, DeviceError::Setting { .. }));
        let text = wrong.to_string();
        assert!(
            text.contains("LEAP_PRODUCTS") && text.contains("`Burn`") && text.contains("`burn`"),
            "{text}"
        );
    }
}
