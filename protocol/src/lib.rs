//! The rules of LeaP: what a path says, what it hears, and what counts as right.
//!
//! ```text
//! Question -> Prompt -> Group -> Request  -> (engine)
//!                         ^   <- Completion <-+
//!                         v
//!                       Trace -> Sample            Trace + Gold -> Grade -> statistics
//! ```
//!
//! This crate has no tensors, files, network, clock or threads. It is the only place that knows
//! what LeaP is; engines only continue ids, and the trainer only sees spans.

pub mod cut;
pub mod grade;
mod group;
pub mod jsonl;
mod path;
pub mod preset;
mod problem;
mod prompt;
pub mod reaction;
pub mod replay;
mod request;
mod route;
mod rules;
mod sample;
mod seed;
mod settings;
mod setup;
mod similarity;
pub mod stats;
mod trace;
pub mod trace_stats;
pub mod trap;
mod vocab;

pub use group::{Group, Step};
pub use problem::{Gold, Problem, Question};
pub use prompt::{PromptSet, PromptSetError, SUMMARY_CLOSE, SUMMARY_OPEN, THINK_CLOSE, THINK_OPEN};
pub use request::{Completion, Finish, PathKey, Request, Sampling, Stop};
pub use route::{Route, Router};
pub use rules::{Closing, Rules};
pub use sample::{Sample, SampleSpan, WrongTokenizer};
pub use seed::Stream;
pub use settings::{Finished, Keep, Method, Moa, Settings, SettingsError, Single};
pub use setup::{Setup, SetupError};
pub use similarity::Similarity;
pub use trace::{Block, NoPlainPrompt, Origin, PathEnd, PathTrace, Span, SpanKind, Trace};
pub use vocab::{ByteVocab, Prompt, TemplateError, Vocab};
