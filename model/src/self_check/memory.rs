//! Verdicts on disk, one small file for each device, driver and release.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Verdict;
use crate::device::DeviceSpec;

/// The release of the kernels: raised with every one that is new or changed between releases of the crate, so
/// that none is trusted on the word of an earlier check.
const KERNELS: u32 = 4;

/// What a verdict holds for: nothing of it may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The device as it names itself.
    pub device: String,
    /// What its kernels are compiled for.
    pub target: String,
    /// The driver, as far as it tells.
    pub driver: String,
    /// What multiplies matrices: `cuBLAS` and its release, or `Burn`.
    pub products: String,
    /// What attends where documents are packed: `cuDNN` and its release, or empty.
    #[serde(default)]
    pub packed: String,
    /// The release of Burn.
    pub burn: String,
    /// The release of this crate and of its kernels, which are checked as well.
    pub toolkit: String,
}

impl Identity {
    /// Of a device that is open.
    pub fn of(spec: DeviceSpec, device: &Device) -> Self {
        let (name, target) = named(device);
        Self {
            device: name,
            target,
            driver: crate::device::driver_version(spec),
            products: crate::ops::product::library_on(device),
            packed: packed_by(device),
            burn: crate::BURN.to_owned(),
            toolkit: format!("{}, kernels {KERNELS}", env!("CARGO_PKG_VERSION")),
        }
    }

    fn file(&self, folder: &Path) -> PathBuf {
        let text = serde_json::to_vec(self).expect("an identity is plain data");
        let digest = Sha256::digest(&text);
        let name: String = digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        folder.join(format!("device-{name}.json"))
    }
}

fn packed_by(device: &Device) -> String {
    #[cfg(feature = "cuda")]
    if crate::ops::flash::is_used_on(device) {
        return crate::ops::flash::cudnn::release();
    }
    let _ = device;
    String::new()
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn named(device: &Device) -> (String, String) {
    match device.identity() {
        Some(identity) => (identity.name, identity.fingerprint),
        None => ("cpu".to_owned(), String::new()),
    }
}

#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
fn named(_: &Device) -> (String, String) {
    ("cpu".to_owned(), String::new())
}

/// What `folder` remembers of this device; None if it was not checked yet, or if what is remembered
/// cannot be read.
pub fn remembered(folder: &Path, identity: &Identity) -> Option<Verdict> {
    let text = fs::read(identity.file(folder)).ok()?;
    let verdict: Verdict = serde_json::from_slice(&text).ok()?;
    (verdict.identity == *identity).then_some(verdict)
}

/// Keeps a verdict in `folder`; the file that is written.
///
/// # Errors
/// If the folder or the file cannot be written.
pub fn remember(folder: &Path, verdict: &Verdict) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let path = verdict.identity.file(folder);
    let text = serde_json::to_vec_pretty(verdict).expect("a verdict is plain data");
    let partial = path.with_extension("part");
    fs::write(&partial, text)?;
    fs::rename(&partial, &path)?;
    Ok(path)
}
