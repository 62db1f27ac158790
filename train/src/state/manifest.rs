//! The manifest of a state: what it is and where the training stands, with a hash by which a change
//! of either is seen. It knows nothing of tensors but the hash of their file.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Standing, StateError, hex, io_error};

/// The file's name in a state's folder.
pub(super) const MANIFEST: &str = "manifest.json";
const VERSION: u32 = 3;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    version: u32,
    /// That of the training.
    pub(super) key: String,
    pub(super) standing: Standing,
    pub(super) tensors_sha256: String,
    /// That of all else.
    manifest_sha256: String,
}

/// What manifests of all versions have.
#[derive(Debug, Deserialize)]
struct Versioned {
    version: u32,
}

impl Manifest {
    pub(super) fn new(key: &str, standing: &Standing, tensors_sha256: String) -> Self {
        let mut manifest = Self {
            version: VERSION,
            key: key.to_owned(),
            standing: standing.clone(),
            tensors_sha256,
            manifest_sha256: String::new(),
        };
        manifest.manifest_sha256 = manifest.sha256();
        manifest
    }

    /// That of the state in `folder`.
    ///
    /// # Errors
    /// If there is none, it is of another version, or it does not say what was written.
    pub(super) fn read(folder: &Path) -> Result<Self, StateError> {
        let path = folder.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
        let parsed = |source| StateError::Manifest {
            path: path.clone(),
            source,
        };
        // The version first: another one may have other fields.
        let Versioned { version } = serde_json::from_str(&text).map_err(parsed)?;
        if version != VERSION {
            return Err(StateError::Version {
                path,
                found: version,
                expected: VERSION,
            });
        }
        let manifest: Self = serde_json::from_str(&text).map_err(parsed)?;
        let found = manifest.sha256();
        if found != manifest.manifest_sha256 {
            return Err(StateError::Changed {
                path,
                found,
                expected: manifest.manifest_sha256,
            });
        }
        Ok(manifest)
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("a manifest is plain data") + "\n"
    }

    /// The hash of what it says, however it is laid out: of the fields' values as JSON without blanks,
    /// in their order. A number that was written and read is written in the same digits.
    fn sha256(&self) -> String {
        let Self {
            version,
            key,
            standing,
            tensors_sha256,
            manifest_sha256: _,
        } = self;
        let said = serde_json::to_vec(&(version, key, standing, tensors_sha256));
        hex(&Sha256::digest(said.expect("a manifest is plain data")))
    }
}
