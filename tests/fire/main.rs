//! Under fire: what is killed, torn, full, hostile or endless, and what is left of the work.
//!
//! Every row prints its figures and fails on any loss. `cargo test --test fire` is the short
//! version; `LEAP_FIRE=long cargo test --release --test fire` the long one, whose figures stand in
//! docs/RELIABILITY.md.

#[path = "../bench/mod.rs"]
mod bench;
mod row;

mod checkpoints;
mod fuzz;
mod security;
mod soak;

#[cfg(target_os = "linux")]
mod crash;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod full;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
#[path = "../../infer/tests/server/mod.rs"]
mod server;
#[cfg(target_os = "linux")]
mod servers;
#[cfg(target_os = "linux")]
mod torn;
#[cfg(target_os = "linux")]
mod two;
#[cfg(target_os = "linux")]
mod work;
#[cfg(target_os = "linux")]
mod works;
