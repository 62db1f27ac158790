//! Counter-based random streams: a draw depends on its key and position, on nothing else.
//!
//! Because no generator carries state, the numbers a path sees do not depend on what else is in
//! the batch, on the number of threads or on the point where a run was resumed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A stream of random numbers that is addressed by position.
///
/// The key is SHA-256 over the run seed and labels such as problem, group, path and purpose; the
/// generator behind it is ChaCha with 8 rounds, read at `position`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Stream {
    key: [u8; 32],
}

impl From<Stream> for String {
    fn from(stream: Stream) -> Self {
        stream
            .key
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl TryFrom<String> for Stream {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut key = [0; 32];
        let digits = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !digits {
            return Err(format!(
                "`{text}` is no random stream: 64 hex digits are expected"
            ));
        }
        for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digit = |at: usize| (digits[at] as char).to_digit(16).unwrap_or_default() as u8;
            *byte = digit(0) << 4 | digit(1);
        }
        Ok(Self { key })
    }
}

impl Stream {
    /// The stream of a run: every other stream of that run derives from it.
    pub fn of_run(seed: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"leap-t stream 1");
        hash.update(seed.to_le_bytes());
        Self {
            key: hash.finalize().into(),
        }
    }

    /// A stream of its own for `label` (a purpose, a problem id).
    pub fn named(&self, label: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update([0]);
        hash.update(label.as_bytes());
        Self {
            key: hash.finalize().into(),
        }
    }

    /// A stream of its own for `index` (a group, a path, a block).
    pub fn indexed(&self, index: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update([1]);
        hash.update(index.to_le_bytes());
        Self {
            key: hash.finalize().into(),
        }
    }

    /// 64 random bits at `position`.
    pub fn bits(&self, position: u64) -> u64 {
        let mut rng = ChaCha8Rng::from_seed(self.key);
        // A block of ChaCha has 16 words of 32 bits; one block a position keeps draws apart.
        rng.set_word_pos(u128::from(position) * 16);
        rng.next_u64()
    }

    /// A number in `[0, 1)` with 53 random bits at `position`.
    pub fn uniform(&self, position: u64) -> f64 {
        (self.bits(position) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An index below `n` at `position`.
    ///
    /// The bias of the multiplication is below `n / 2^64`.
    ///
    /// # Panics
    /// If `n` is 0: there is nothing to choose from, a bug of the caller.
    pub fn below(&self, position: u64, n: usize) -> usize {
        assert!(n > 0, "a choice needs at least one candidate");
        ((u128::from(self.bits(position)) * n as u128) >> 64) as usize
    }

    /// `items` in random order (Fisher-Yates), reading positions `0..items.len()`.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64, last + 1));
        }
    }
}
