//! Problems, traces and samples: everything between a list of questions and a training set.
//!
//! ```text
//! file, benchmark | synthetic family -> Problem -> (infer: groups on an engine) -> Trace
//!                                                Trace + Gold -> verdicts -> Sample
//! ```
//!
//! This crate knows no tensors: whatever writes the traces is handed in as an engine.

pub mod benchmark;
pub mod choices;
pub mod filters;
pub mod import;
pub mod official;
pub mod problems;
pub mod python;
pub mod samples;
pub mod synthetic;
