//! The command line of `leap bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    Decode(BenchDecode),
    Prefill(BenchPrefill),
    Leap(BenchLeap),
    Route(BenchRoute),
}

/// A model that is measured.
#[derive(Debug, Args)]
pub(crate) struct BenchModel {
    /// Folder with config.json, tokenizer.json and safetensors.
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) checkpoint: PathBuf,
    /// Threads [default: as many as there are cores].
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Times it is measured.
    #[arg(long, default_value_t = 3)]
    pub(crate) repeat: usize,
    /// Where to compute.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
}

/// Tokens per second of rows that sample side by side, prompts not counted, and the share of the
/// memory bandwidth that is reached.
#[derive(Debug, Args)]
pub(crate) struct BenchDecode {
    #[command(flatten)]
    pub(crate) model: BenchModel,
    /// Rows, one measurement for each number.
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    pub(crate) batch: Vec<usize>,
    /// Tokens of each prompt.
    #[arg(long, default_value_t = 32)]
    pub(crate) prompt: usize,
    /// Tokens sampled by each row, greedily.
    #[arg(long, default_value_t = 64)]
    pub(crate) new: usize,
}

/// Tokens per second at which a prompt is fed.
#[derive(Debug, Args)]
pub(crate) struct BenchPrefill {
    #[command(flatten)]
    pub(crate) model: BenchModel,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 512)]
    pub(crate) tokens: usize,
}

/// What an exchange costs: LeaP against independent paths that sample as many tokens.
///
/// The ratio is LeaP's time over that of independent paths and of feeding the injected tokens at the
/// rate at which prompts are fed.
#[derive(Debug, Args)]
pub(crate) struct BenchLeap {
    #[command(flatten)]
    pub(crate) model: BenchModel,
    /// Paths in a group.
    #[arg(long, default_value_t = 8)]
    pub(crate) paths: usize,
    /// Thought tokens between two blocks.
    #[arg(long, default_value_t = 128)]
    pub(crate) turn_tokens: usize,
    /// Most tokens of a summary.
    #[arg(long, default_value_t = 32)]
    pub(crate) summary_tokens: usize,
    /// Blocks.
    #[arg(long, default_value_t = 5)]
    pub(crate) blocks: usize,
    /// Groups in flight.
    #[arg(long, default_value_t = 4)]
    pub(crate) problems: usize,
}

/// Similarities of all pairs of summaries, and dispersed routing, on one core.
#[derive(Debug, Args)]
pub(crate) struct BenchRoute {
    /// Summaries, one of each path.
    #[arg(long, default_value_t = 32)]
    pub(crate) summaries: usize,
    /// Characters of each.
    #[arg(long, default_value_t = 1000)]
    pub(crate) chars: usize,
    /// Times it is measured.
    #[arg(long, default_value_t = 20)]
    pub(crate) repeat: usize,
}
