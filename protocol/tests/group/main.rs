//! Groups driven by a fake engine, through the crate's public surface.

mod blocks;
mod driver;
#[path = "../fixtures/mod.rs"]
mod fixtures;
mod methods;
mod parity;
mod properties;
mod reactions;
mod replay;
mod seams;
mod trap;
mod turns;
