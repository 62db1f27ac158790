//! What this machine can compute on, and what it lacks, in sentences.

use std::fs;

use crate::kernels::Vectors;
use crate::memory;

/// How a part of the machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It can be used.
    Ready,
    /// It is not there, and this build does not need it.
    Absent,
    /// It is needed for what this build or this machine has, and does not work.
    Missing,
}

/// One thing found out about the machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What it is about: `cpu`, `cuda`, `wgpu`.
    pub subject: String,
    /// How it stands.
    pub state: State,
    /// A sentence.
    pub text: String,
    /// What to do, if there is something to do.
    pub remedy: Option<String>,
}

impl Finding {
    /// A thing that can be used.
    pub fn ready(subject: &str, text: impl Into<String>) -> Self {
        Self::new(subject, State::Ready, text, None)
    }

    /// A thing that is not there, with what brings it.
    pub fn absent(subject: &str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(subject, State::Absent, text, Some(remedy.into()))
    }

    /// A thing that should work and does not, with what to do.
    pub fn missing(subject: &str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(subject, State::Missing, text, Some(remedy.into()))
    }

    fn new(subject: &str, state: State, text: impl Into<String>, remedy: Option<String>) -> Self {
        Self {
            subject: subject.to_owned(),
            state,
            text: text.into(),
            remedy,
        }
    }
}

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// In the order in which a person would ask.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Looks at processor, CUDA and graphics adapters. Opens devices, but computes nothing on them.
    pub fn of_this_machine() -> Self {
        let mut findings = vec![build(), cpu()];
        findings.extend(cuda());
        findings.extend(wgpu());
        Self { findings }
    }

    /// Whether something that should work does not.
    pub fn lacks_something(&self) -> bool {
        let missing = |finding: &Finding| finding.state == State::Missing;
        self.findings.iter().any(missing)
    }
}

fn build() -> Finding {
    let mut devices = vec!["cpu"];
    if cfg!(feature = "cuda") {
        devices.push("cuda");
    }
    if cfg!(feature = "wgpu") {
        devices.push("wgpu");
    }
    let text = format!(
        "built on Burn {} for the devices {}",
        crate::BURN,
        devices.join(", ")
    );
    Finding::ready("build", text)
}

fn cpu() -> Finding {
    let vectors = match crate::kernels::vectors() {
        Vectors::Avx512 => "with AVX-512",
        Vectors::Avx2 => "with AVX2 and FMA",
        Vectors::Portable => "without AVX2: the kernels run several times slower",
    };
    let memory = memory::machine_bytes().map_or_else(String::new, |(total, free)| {
        format!(", {} of {} GiB memory free", gib(free), gib(total))
    });
    let threads = memory::threads();
    Finding::ready(
        "cpu",
        format!("`cpu` computes in f32 on {threads} threads {vectors}{memory}"),
    )
}

/// A card that the kernel's driver knows, whatever this binary was built with.
fn kernel_driver() -> Option<String> {
    let text = fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Vec<Finding> {
    let remedy = "cargo build --release --features cuda";
    vec![match kernel_driver() {
        Some(driver) => Finding::missing(
            "cuda",
            format!("this machine has an NVIDIA driver ({driver}), but this build has no CUDA"),
            remedy,
        ),
        None => Finding::absent(
            "cuda",
            "this build has no CUDA, and no NVIDIA driver is here",
            remedy,
        ),
    }]
}

#[cfg(feature = "cuda")]
fn cuda() -> Vec<Finding> {
    use super::cuda::{self, Lack};
    let lacks = |lack: Lack, needed: bool| match needed {
        true => Finding::missing("cuda", lack.problem, lack.remedy),
        false => Finding::absent("cuda", lack.problem, lack.remedy),
    };
    let mut findings = Vec::new();
    let mut card_is_there = kernel_driver().is_some();
    match cuda::driver() {
        Ok(((major, minor), cards)) => {
            findings.push(Finding::ready(
                "cuda",
                format!("the NVIDIA driver runs CUDA up to {major}.{minor}"),
            ));
            if (major, minor) < (13, 0) {
                findings.push(Finding::missing(
                    "cuda",
                    format!("this build asks for the functions of CUDA 13.0, the driver has {major}.{minor}"),
                    format!(
                        "update the driver, or build with \
                         `CUDARC_CUDA_VERSION={major}{minor:02}0 cargo build --release --features cuda`"
                    ),
                ));
            }
            card_is_there = !cards.is_empty();
            for (index, card) in cards.iter().enumerate() {
                let (major, minor) = card.capability;
                findings.push(Finding::ready(
                    "cuda",
                    format!(
                        "`cuda:{index}` is {}, {} GiB, compute capability {major}.{minor}{}",
                        card.name,
                        gib(card.memory as u64),
                        match major >= 8 {
                            true => "",
                            false => ": bf16 needs 8.0",
                        }
                    ),
                ));
            }
            if cards.is_empty() {
                findings.push(Finding::absent(
                    "cuda",
                    "the driver sees no card",
                    "see CUDA_VISIBLE_DEVICES, and `--gpus` of a container",
                ));
            }
        }
        Err(lack) => findings.push(lacks(lack, card_is_there)),
    }
    match cuda::headers() {
        Ok(include) => {
            findings.push(Finding::ready(
                "cuda",
                format!("CUDA headers are in {}", include.display()),
            ));
            findings.push(match cuda::compiler(&include) {
                Ok((major, minor)) => Finding::ready(
                    "cuda",
                    format!("NVRTC {major}.{minor} compiles kernels with them"),
                ),
                Err(lack) => lacks(lack, card_is_there),
            });
        }
        Err(lack) => findings.push(lacks(lack, card_is_there)),
    }
    findings.push(match crate::ops::product::cublas::is_there() {
        true => Finding::ready("cuda", "cuBLAS multiplies matrices"),
        false => lacks(
            Lack {
                problem: "libcublas.so was not found: matrices are multiplied several times slower"
                    .to_owned(),
                remedy: "put its folder on LD_LIBRARY_PATH: lib64 of a CUDA toolkit, or with \
                         `pip install nvidia-cublas` site-packages/nvidia/cu13/lib"
                    .to_owned(),
            },
            card_is_there,
        ),
    });
    findings.push(match crate::ops::flash::cudnn::is_there() {
        true => Finding::ready("cuda", "cuDNN attends where texts are trained on"),
        false => lacks(
            Lack {
                problem: "libcudnn.so was not found: training on long texts is slower".to_owned(),
                remedy: "put the folder of libcudnn.so.9 on LD_LIBRARY_PATH; `pip install \
                         nvidia-cudnn-cu13` brings it in site-packages/nvidia/cudnn/lib"
                    .to_owned(),
            },
            card_is_there,
        ),
    });
    findings
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Vec<Finding> {
    vec![Finding::absent(
        "wgpu",
        "this build has no Vulkan, Metal or DirectX",
        "cargo build --release --features wgpu",
    )]
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Vec<Finding> {
    use super::wgpu;
    let adapters = match wgpu::adapters() {
        Ok(adapters) => adapters,
        Err(reason) => {
            let text = format!("graphics adapters cannot be listed: {reason}");
            return vec![Finding::missing(
                "wgpu",
                text,
                "see the driver's installation",
            )];
        }
    };
    if adapters.is_empty() {
        return vec![Finding::absent(
            "wgpu",
            "no graphics adapter was found",
            "install a Vulkan driver (a software one: Debian's `mesa-vulkan-drivers`)",
        )];
    }
    let one = |(index, device)| {
        Finding::ready("wgpu", format!("`wgpu:{index}` is {}", wgpu::name(device)))
    };
    adapters.iter().enumerate().map(one).collect()
}

/// Gibibytes, rounded down.
fn gib(bytes: u64) -> u64 {
    bytes >> 30
}
