//! Asks a model: engines that continue paths, what drives groups of paths with them, and what
//! their answers are worth.
//!
//! ```text
//! Question -> Group <-> Engine (local | remote | simulated | scripted) -> Trace -> Summary -> report
//! ```
//!
//! This crate does not know where problems come from, and it never trains.

pub use model::foreign;

pub mod engine;
pub mod generation;
pub mod journal;
pub mod lines;
pub mod local;
pub mod merge;
pub mod planted;
pub mod remote;
pub mod report;
pub mod score;
pub mod scripted;
pub mod simulated;
pub mod solve;
pub mod units;
pub mod vocab;
pub mod waves;
