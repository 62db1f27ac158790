//! Hashes of files, as the hub lists them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::error::io;
use super::{Event, HubError, ListedHash, Watch, tell};

/// Both hashes by which a hub may know a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// SHA-1 as git counts it: over a header with the length, and the content.
    pub(super) git: String,
}

impl Digests {
    /// Whether the content is the listed one. Without a listed hash only the size can tell.
    pub(super) fn is(&self, bytes: u64, hash: &ListedHash) -> bool {
        self.bytes == bytes
            && match hash {
                ListedHash::Sha256(listed) => *listed == self.sha256,
                ListedHash::Git(listed) => *listed == self.git,
                ListedHash::None => true,
            }
    }

    /// The hash that is compared with a listed one.
    pub(super) fn like(&self, hash: &ListedHash) -> &str {
        match hash {
            ListedHash::Git(_) => &self.git,
            ListedHash::Sha256(_) | ListedHash::None => &self.sha256,
        }
    }
}

/// Files from which on hashing takes a while.
const LARGE: u64 = 64 << 20;

/// Hashes a file that is there already; of a large one it tells how far it is.
pub(super) fn known_digests(
    path: &Path,
    name: &str,
    watch: &mut Watch<'_>,
) -> Result<Digests, HubError> {
    let of = path.metadata().map_err(io(path))?.len();
    if of < LARGE {
        return digests(path, watch);
    }
    let mut done = 0;
    let found = read(path, &mut |count| {
        done += count;
        tell(watch, Event::Bytes { name, done, of })
    })?;
    tell(watch, Event::Whole { name })?;
    Ok(found)
}

/// Reads a file once and hashes it.
pub(super) fn digests(path: &Path, watch: &mut Watch<'_>) -> Result<Digests, HubError> {
    read(path, &mut |_| tell(watch, Event::Waiting))
}

fn read(
    path: &Path,
    hear: &mut dyn FnMut(u64) -> Result<(), HubError>,
) -> Result<Digests, HubError> {
    let mut file = File::open(path).map_err(io(path))?;
    let length = file.metadata().map_err(io(path))?.len();
    let (mut sha256, mut git) = (Sha256::new(), Sha1::new());
    git.update(format!("blob {length}\0"));
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer).map_err(io(path))? {
            0 => break,
            count => {
                hear(count as u64)?;
                bytes += count as u64;
                sha256.update(&buffer[..count]);
                git.update(&buffer[..count]);
            }
        }
    }
    Ok(Digests {
        bytes,
        sha256: hex(&sha256.finalize()),
        git: hex(&git.finalize()),
    })
}

/// Bytes in lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a text is so many lower-case hex digits.
pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == digits && text.bytes().all(digit)
}
