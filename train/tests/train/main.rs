//! Tests of the trainer through its public surface, as one program: it links once.
#![recursion_limit = "256"]

mod bf16;
mod guard;
mod held_out;
mod lora;
mod miniature;
mod moments;
mod optimizer;
mod parity;
mod plan;
mod recompute;
mod resume;
mod samples;
mod schedule;
mod settings;
mod steps;
