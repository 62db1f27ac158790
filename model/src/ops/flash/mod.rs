//! Attention of packed documents by cuDNN, where it is in use: scores are never written to memory.
//!
//! In [`super::chunked`] a card writes and reads each score several times, which takes half of a training
//! step of long texts (docs/BENCHMARKS.md, "Cards"). NVIDIA's kernels keep them in registers; they take documents of any lengths in one
//! call, in bf16. Gradients by queries are added up there in an order that changes from run to run, so
//! that a training repeated on a card is not the same to the bit; `LEAP_ATTENTION=chunked` asks for the
//! attention that is.

#[cfg(feature = "cuda")]
pub(crate) mod cudnn;
#[cfg(feature = "cuda")]
mod descriptor;
mod documents;
mod graph;
#[cfg(feature = "cuda")]
mod packed;
#[cfg(feature = "cuda")]
mod plan;

#[cfg(feature = "cuda")]
pub(crate) use self::packed::{
    attention, attention_again, is_used_on, refusal, serves, start, why_not,
};
