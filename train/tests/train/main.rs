//! Tests of the trainer through its public surface, as one program: it links once.
#![recursion_limit = "256"]

mod miniature;
mod parity;
mod plan;
mod resume;
mod samples;
mod schedule;
mod settings;
mod steps;
