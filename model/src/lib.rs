//! A language model checkpoint: text to ids, ids to numbers, and the files it all lives in.
//!
//! One decoder for Qwen2, Qwen3 and Llama models on Burn, by config. This crate owns everything
//! that depends on a device or a number format, so that the rest of the toolkit names no backend.
//! It knows nothing of problems, peers or answers.
#![recursion_limit = "256"]

pub mod chat;
pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod device;
mod folder;
pub mod foreign;
pub mod hub;
mod kernels;
pub mod kv_cache;
pub mod lineage;
pub mod lora;
pub mod memory;
pub mod ops;
pub mod packed;
pub mod parameters;
pub mod rope;
pub mod self_check;
pub mod shapes;
pub mod shortlist;
pub mod step;
pub mod tokenizer;

/// The release of Burn that this crate is built on.
pub const BURN: &str = "0.23.0-pre.1";

pub use crate::config::{Architecture, ModelConfig};
pub use crate::decoder::Decoder;
pub use crate::device::{Device, DeviceSpec, Dtype};
pub use crate::packed::Packed;
