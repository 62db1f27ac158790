//! What of CUDA is on this machine: driver, cards, the run-time compiler and the headers it reads.

use std::path::{Path, PathBuf};

use cudarc::driver::result as driver;
use cudarc::nvrtc::safe::{CompileOptions, compile_ptx_with_opts};

use super::answer::quietly;
use super::{DeviceError, DeviceSpec};

/// Compiled to learn whether the compiler and the headers of CubeCL's kernels are there.
const KERNEL: &str = r#"
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <mma.h>
#include <cooperative_groups.h>
extern "C" __global__ void probe(float *x) { x[0] = __bfloat162float(__float2bfloat16(1.0f)); }
"#;

/// A card.
#[derive(Clone, Debug)]
pub(super) struct Card {
    pub(super) name: String,
    /// Bytes of its memory.
    pub(super) memory: usize,
    /// Compute capability, such as (9, 0).
    pub(super) capability: (i32, i32),
}

/// Why a part of CUDA is not there, and what to do.
#[derive(Clone, Debug)]
pub(super) struct Lack {
    pub(super) problem: String,
    pub(super) remedy: String,
}

/// The driver's version, such as (13, 0), and its cards.
pub(super) fn driver() -> Result<((i32, i32), Vec<Card>), Lack> {
    let lack = |problem: String, remedy: &str| Lack {
        problem,
        remedy: remedy.to_owned(),
    };
    if !is_driver_there() {
        return Err(lack(
            "no NVIDIA driver was found (libcuda.so.1)".into(),
            "install the driver, or in a container pass the card through (docker: `--gpus all`); \
             if it lies in an unusual place, put that on LD_LIBRARY_PATH",
        ));
    }
    let asked = quietly(|| {
        driver::init()?;
        let version = version()?;
        let count = driver::device::get_count()?;
        let cards = (0..count).map(card).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, driver::DriverError>((version, cards))
    });
    let remedy = "see whether `nvidia-smi` works; a new driver needs a restart";
    match asked {
        Ok(Ok((version, cards))) => Ok(((version / 1000, version % 1000 / 10), cards)),
        Ok(Err(error)) => Err(lack(format!("the NVIDIA driver answers {error:?}"), remedy)),
        Err(panic) => Err(lack(
            format!("the NVIDIA driver is not usable: {panic}"),
            remedy,
        )),
    }
}

#[expect(
    unsafe_code,
    reason = "opens the driver's library to see whether it is there"
)]
fn is_driver_there() -> bool {
    // SAFETY: loading libcuda runs its initialisers, as any use of CUDA does.
    unsafe { cudarc::driver::sys::is_culib_present() }
}

#[expect(unsafe_code, reason = "a query of the driver")]
fn version() -> Result<i32, driver::DriverError> {
    let mut version = 0;
    // SAFETY: writes one number to a place that outlives the call.
    unsafe { cudarc::driver::sys::cuDriverGetVersion(&raw mut version) }.result()?;
    Ok(version)
}

#[expect(unsafe_code, reason = "queries of the driver")]
fn card(index: i32) -> Result<Card, driver::DriverError> {
    use cudarc::driver::sys::CUdevice_attribute as Attribute;
    let device = driver::device::get(index)?;
    let name = driver::device::get_name(device)?;
    // SAFETY: `device` was just given by the driver; the queries read properties.
    let (memory, major, minor) = unsafe {
        (
            driver::device::total_mem(device)?,
            driver::device::get_attribute(
                device,
                Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            )?,
            driver::device::get_attribute(
                device,
                Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )?,
        )
    };
    Ok(Card {
        name,
        memory,
        capability: (major, minor),
    })
}

/// Where the headers are looked for: `CUDA_PATH`, else the usual folders; the same places, in the
/// same order, as CubeCL's.
pub(super) fn root() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CUDA_PATH") {
        return Some(path.into());
    }
    let folders = [
        ("/usr/local/cuda", "/usr/local/cuda"),
        ("/opt/cuda", "/opt/cuda"),
        ("/usr/bin/nvcc", "/usr"),
    ];
    let found = folders.iter().find(|(mark, _)| Path::new(mark).exists());
    found.map(|(_, root)| PathBuf::from(root))
}

/// The headers' folder, if it has what kernels include.
pub(super) fn headers() -> Result<PathBuf, Lack> {
    let remedy = "set CUDA_PATH to the folder whose `include` holds cuda_fp16.h: that of a CUDA \
                  toolkit, or with `pip install nvidia-cuda-runtime nvidia-cuda-nvrtc \
                  nvidia-cuda-cccl` the folder site-packages/nvidia/cu13"
        .to_owned();
    let Some(root) = root() else {
        let problem = "no CUDA headers were found".to_owned();
        return Err(Lack { problem, remedy });
    };
    let include = root.join("include");
    let wanted = [
        "cuda_fp16.h",
        "cuda_bf16.h",
        "mma.h",
        "cooperative_groups.h",
    ];
    let missing: Vec<&str> = wanted
        .into_iter()
        .filter(|name| !include.join(name).is_file())
        .collect();
    match missing.is_empty() {
        true => Ok(include),
        false => Err(Lack {
            problem: format!("{} has no {}", include.display(), missing.join(", no ")),
            remedy,
        }),
    }
}

/// Whether NVRTC is there and compiles a kernel with these headers; its version.
pub(super) fn compiler(include: &Path) -> Result<(i32, i32), Lack> {
    if !is_compiler_there() {
        return Err(Lack {
            problem: "the run-time compiler was not found (libnvrtc.so)".into(),
            remedy: "put its folder on LD_LIBRARY_PATH: lib64 of a CUDA toolkit, or with \
                     `pip install nvidia-cuda-nvrtc` site-packages/nvidia/cu13/lib"
                .into(),
        });
    }
    let remedy =
        "take NVRTC and headers of one CUDA release, no newer than the driver's".to_owned();
    let options = CompileOptions {
        include_paths: vec![
            include.display().to_string(),
            include.join("cccl").display().to_string(),
        ],
        ..Default::default()
    };
    let compiled = quietly(|| {
        let version = compiler_version();
        compile_ptx_with_opts(KERNEL, options).map(|_| version)
    });
    match compiled {
        Ok(Ok(version)) => Ok(version),
        Ok(Err(error)) => Err(Lack {
            problem: format!(
                "NVRTC cannot compile a kernel: {}",
                first_lines(&error.to_string())
            ),
            remedy,
        }),
        Err(panic) => Err(Lack {
            problem: format!("NVRTC is not usable: {panic}"),
            remedy,
        }),
    }
}

#[expect(
    unsafe_code,
    reason = "opens the compiler's library to see whether it is there"
)]
fn is_compiler_there() -> bool {
    // SAFETY: loading libnvrtc runs its initialisers, as any use of it does.
    unsafe { cudarc::nvrtc::sys::is_culib_present() }
}

#[expect(unsafe_code, reason = "a query of the compiler")]
fn compiler_version() -> (i32, i32) {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: writes two numbers to places that outlive the call.
    let _ = unsafe { cudarc::nvrtc::sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    (major, minor)
}

/// A compiler's log can be long; its beginning tells.
fn first_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .take(3)
        .collect();
    lines.join(" ")
}

/// Whether the card `cuda:index` can be used.
pub(super) fn check(spec: DeviceSpec, index: usize) -> Result<(), DeviceError> {
    let missing = |lack: Lack| DeviceError::Missing {
        spec,
        problem: lack.problem,
        remedy: lack.remedy,
    };
    let (_, cards) = driver().map_err(missing)?;
    if index >= cards.len() {
        let names = cards.iter().enumerate();
        let found = names
            .map(|(at, card)| format!("cuda:{at} ({})", card.name))
            .collect();
        return Err(DeviceError::NoSuch { spec, found });
    }
    compiler(&headers().map_err(missing)?).map_err(missing)?;
    Ok(())
}
