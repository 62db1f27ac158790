//! Does a device compute what the CPU computes? Asked once for each device, driver and Burn release,
//! and remembered.
//!
//! A kernel that returns a wrong gradient shows in no loss curve, so none is trusted unseen: each
//! operation of the decoder runs on the device and on the CPU with the same numbers, forward and
//! backward. The verdict says which attention kernels training may use (see
//! [`AttentionKernel`]) and names what is wrong.

mod cases;
mod memory;
mod shortlists;
mod writing;

use std::fmt;

use burn::tensor::Device;
use serde::{Deserialize, Deserializer, Serialize};

pub use self::memory::{Identity, remember, remembered};
use crate::ops::portable::AttentionKernel;

/// How many cases of attention are run; everything else is run whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// A case or two of each kind: for devices on which kernels take minutes to compile.
    Brief,
    /// Groups of 1, 5, 6 and 7 queries to a key, heads of 64 and 128, 1 to 160 tokens.
    Full,
}

/// How an operation did on a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The operation and its number format, such as `chunked attention f32`.
    pub name: String,
    /// Cases run.
    pub cases: usize,
    /// The largest difference to the CPU's f32, as a share of the largest value of its tensor;
    /// infinite, and `null` in JSON, where a case gave no number or could not run.
    #[serde(deserialize_with = "infinite_if_null")]
    pub worst: f64,
    /// The most that is allowed.
    pub limit: f64,
    /// Where the worst difference was, or why a case could not run.
    pub at: String,
}

/// JSON knows no infinity: it is written as `null`.
fn infinite_if_null<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let value = Option::<f64>::deserialize(from)?;
    Ok(value.unwrap_or(f64::INFINITY))
}

impl Check {
    /// Whether the device computes what the CPU computes.
    pub fn passed(&self) -> bool {
        self.worst <= self.limit
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            cases,
            worst,
            limit,
            at,
        } = self;
        let verdict = match self.passed() {
            true => "right",
            false => "WRONG",
        };
        write!(
            f,
            "{name}: {verdict}, off by {worst:.1e} (limit {limit:.0e}, {cases} cases, worst: {at})"
        )
    }
}

/// What was found out about a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The device, its driver and the releases that were asked.
    pub identity: Identity,
    /// How attention is computed in training.
    pub attention: AttentionKernel,
    /// All that was compared.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// The operations without which nothing can be computed on the device, and that are wrong.
    pub fn broken(&self) -> impl Iterator<Item = &Check> {
        self.failed().filter(|check| !cases::can_be_spared(check))
    }

    /// Why kernels of attention are not used that the device has, if there are such.
    pub fn against_kernels(&self) -> impl Iterator<Item = &Check> {
        self.failed().filter(|check| cases::can_be_spared(check))
    }

    fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.passed())
    }
}

/// Runs all checks on a device; `seen` is told of each as soon as it is done.
///
/// A panic or an error of the device counts as wrong, so that the checks behind it still run.
pub fn run(
    device: &Device,
    identity: Identity,
    extent: Extent,
    mut seen: impl FnMut(&Check),
) -> Verdict {
    let device = device.clone().inner();
    let checks: Vec<Check> = cases::all(&device, extent)
        .into_iter()
        .map(|case| {
            let check = case.run();
            seen(&check);
            check
        })
        .collect();
    let right = |name: &str| {
        let mut of_kernel = checks
            .iter()
            .filter(|check| check.name.starts_with(name))
            .peekable();
        of_kernel.peek().is_some() && of_kernel.all(Check::passed)
    };
    Verdict {
        attention: match (right(cases::CUDNN), right(cases::FUSED)) {
            (true, _) => AttentionKernel::Cudnn,
            (false, true) => AttentionKernel::Fused,
            (false, false) => AttentionKernel::Chunked,
        },
        identity,
        checks,
    }
}
