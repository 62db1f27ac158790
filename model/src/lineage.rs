//! What a checkpoint was made from.
//!
//! Identities only: no clock, path or host, so that the same inputs give the same bytes.

use serde::{Deserialize, Serialize};

/// What a checkpoint was made from. An empty text means that there was none (a model from scratch
/// has no base).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lineage {
    /// Identity of the checkpoint that training began from (see [`crate::checkpoint::hash`]).
    pub base: String,
    /// Hash of the samples it was trained on.
    pub samples: String,
    /// Hash of the settings it was trained with.
    pub recipe: String,
    /// Optimizer steps since the base.
    pub step: u64,
    /// Version of the toolkit that wrote it.
    pub toolkit: String,
    /// If it was not trained but exported: what from. The other keys are then those of its source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exported: Option<Exported>,
    /// If an adapter was merged into it: which. The other keys are then those of the adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merged: Option<Merged>,
}

/// How a checkpoint was made from a base and an adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merged {
    /// Identity of the base (see [`crate::checkpoint::hash`]).
    pub base: String,
    /// Identity of the adapter's matrices; empty if the adapter has no lineage.
    pub adapter: String,
    /// Number format of the weights as they were written: `bf16`, `f16` or `f32`.
    pub dtype: String,
}

/// How a checkpoint was made from another without training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exported {
    /// Identity of the source (see [`crate::checkpoint::hash`]).
    pub from: String,
    /// Identity of the source's weights.
    pub from_weights: String,
    /// Number format of the weights as they were written: `bf16`, `f16` or `f32`.
    pub dtype: String,
}

impl Default for Lineage {
    fn default() -> Self {
        Self {
            base: String::new(),
            samples: String::new(),
            recipe: String::new(),
            step: 0,
            toolkit: env!("CARGO_PKG_VERSION").to_owned(),
            exported: None,
            merged: None,
        }
    }
}

/// The content of `lineage.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of this format: 1.
    pub schema: u32,
    /// Identity of the weights beside it (see [`crate::checkpoint::weights_hash`]): tells a damaged
    /// or exchanged file.
    pub weights: String,
    /// What they were made from.
    pub made_from: Lineage,
}

impl Record {
    /// Name of the file in a checkpoint folder.
    pub const FILE: &'static str = "lineage.json";

    /// A record of `weights` in the present format.
    pub fn new(weights: String, made_from: Lineage) -> Self {
        Self {
            schema: 1,
            weights,
            made_from,
        }
    }
}
