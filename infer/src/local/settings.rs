//! How the local engine batches, and what it counts.

use serde::{Deserialize, Serialize};

use crate::engine::EngineError;

/// How the local engine batches. None of it changes what a path says on the CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalSettings {
    /// Groups solved together; those who drive the engine read it, the engine does not.
    pub wave: usize,
    /// Requests served at a time, at least 1; others queue.
    pub max_rows: usize,
    /// Prompt and appended tokens fed in one step, at least 1. More is faster on a whole prompt,
    /// and lets paths that are sampling wait longer.
    pub prefill_tokens: usize,
    /// Memory for keys and values in MiB, at least 1. Requests queue until there is room for the longest
    /// their texts can become; on a device every text takes as much room as the longest.
    pub kv_mib: usize,
}

impl LocalSettings {
    /// Settings for one group of `paths` paths.
    pub fn for_one_group(paths: usize) -> Self {
        Self {
            wave: 1,
            max_rows: paths.max(1),
            prefill_tokens: 512,
            kv_mib: 4096,
        }
    }

    /// Checks the counts.
    ///
    /// # Errors
    /// [`EngineError::Setting`] names the first that is 0.
    pub fn check(&self) -> Result<(), EngineError> {
        let counts = [
            ("wave", self.wave),
            ("max_rows", self.max_rows),
            ("prefill_tokens", self.prefill_tokens),
            ("kv_mib", self.kv_mib),
        ];
        match counts.iter().find(|(_, count)| *count == 0) {
            None => Ok(()),
            Some(&(name, value)) => Err(EngineError::Setting {
                name,
                value,
                range: "at least 1",
            }),
        }
    }
}

/// What the engine did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalStats {
    /// Steps of the decoder over a batch of rows.
    pub forward_passes: u64,
    /// Prompt and appended tokens fed; a prompt that paths share counts once.
    pub prefilled: u64,
    /// Tokens fed again that had been fed before: 0 unless memory was so short that an idle path
    /// lost its keys and values, a path was rolled back with nothing appended, or one went on whose
    /// request had failed.
    pub refilled: u64,
    /// Tokens sampled.
    pub sampled: u64,
    /// Most requests in one step.
    pub most_rows: u64,
}
