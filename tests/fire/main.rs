//! Under fire: what is killed, torn, full, hostile or endless, and what is left of the work.
//!
//! Every row prints its figures and fails on any loss. `cargo test --test fire` is the short
//! version; `LEAP_FIRE=long cargo test --release --test fire` the long one, whose figures stand in
//! docs/RELIABILITY.md.

#[path = "../bench/mod.rs"]
mod bench;
mod row;

mod checkpoints;
mod crash;
mod fuzz;
mod security;
mod soak;
