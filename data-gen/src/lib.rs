//! Problems, traces and samples: everything between a list of questions and a training set.
//!
//! ```text
//! files, hub, synthetic families -> import -> without copies -> without benchmarks -> Problem
//!                                                Problem -> (infer: groups on an engine) -> Trace
//!                                                Trace + Gold -> filters: columns -> Sample
//!                                                                Sample -> export: messages, ids
//! ```
//!
//! This crate knows no tensors: whatever writes the traces is handed in as an engine.

pub mod benchmark;
pub mod choices;
pub mod collection;
pub mod contamination;
pub mod duplicates;
pub mod export;
pub mod filters;
mod identity;
pub mod import;
pub mod inspect;
pub mod left_out;
pub mod ngrams;
pub mod official;
pub mod problems;
pub mod python;
pub mod rehearsal;
pub mod samples;
pub mod stream;
pub mod synthetic;
pub mod training_set;
pub mod wording;
