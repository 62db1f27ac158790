//! The command line of `leap bench`.

use std::path::PathBuf;

use super::ComputeDtype;
use clap::{Args, Subcommand, ValueEnum, ValueHint};

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    Decode(BenchDecode),
    Prefill(BenchPrefill),
    Leap(BenchLeap),
    Train(BenchTrain),
    Route(BenchRoute),
    DataGen(BenchDataGen),
    Remote(BenchRemote),
    Gpu(BenchGpu),
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
    /// Where to compute: cpu, or cuda:N or wgpu:N in a build with that feature.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
    /// Weights in memory [default: f32 on the CPU, bf16 where the device computes in it].
    #[arg(long)]
    pub(crate) dtype: Option<ComputeDtype>,
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

/// Tokens per second of whole optimizer steps, and the most memory they held.
///
/// A step is forward, backward, clipping and AdamW, by the loop that `leap train` runs. Peak memory is
/// the process's, so `--recompute none` and `blocks` are compared by two calls.
#[derive(Debug, Args)]
pub(crate) struct BenchTrain {
    #[command(flatten)]
    pub(crate) model: BenchModel,
    /// Tokens that are computed at once, and of the longest sample.
    #[arg(long, default_value_t = 512)]
    pub(crate) tokens: usize,
    /// Times so many tokens in one step.
    #[arg(long, default_value_t = 1)]
    pub(crate) rows: usize,
    /// Samples of many lengths, packed, instead of full rows: from an eighth of the tokens to all.
    #[arg(long)]
    pub(crate) ragged: bool,
    /// What is computed a second time, to hold less.
    #[arg(long, default_value = "none")]
    pub(crate) recompute: BenchRecompute,
}

/// What the backward pass computes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchRecompute {
    /// Nothing.
    None,
    /// Each layer, from its input.
    Blocks,
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

/// Bytes of traces per second through all filters into samples, and memory; problems per second
/// through the search for copies and benchmark problems.
#[derive(Debug, Args)]
pub(crate) struct BenchDataGen {
    /// Groups, on a tenth as many problems.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) groups: usize,
    /// Problems of the search for copies.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) problems: usize,
    /// Threads [default: as many as there are cores].
    #[arg(long)]
    pub(crate) threads: Option<usize>,
}

/// Requests per second that the remote engine carries to servers that answer at once, and its memory.
///
/// The servers are threads of this process, so both sides share its cores.
#[derive(Debug, Args)]
pub(crate) struct BenchRemote {
    /// Paths, each with one request in flight.
    #[arg(long, default_value_t = 512)]
    pub(crate) paths: usize,
    /// Ids of each prompt.
    #[arg(long, default_value_t = 2048)]
    pub(crate) prompt: usize,
    /// Ids of each answer.
    #[arg(long, default_value_t = 64)]
    pub(crate) new: usize,
    /// Servers.
    #[arg(long, default_value_t = 1)]
    pub(crate) servers: usize,
    /// Seconds that are measured, in each of `--repeat` parts.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Parts.
    #[arg(long, default_value_t = 3)]
    pub(crate) repeat: usize,
}

/// Whether a device is right, and how fast it is: the whole check of a card, row by row.
///
/// Each row is written to its own file as soon as it is done, and a row that fails lets the others
/// run. Exit code 1 if a row failed or found the device wrong.
#[derive(Debug, Args)]
#[command(
    after_help = "Rows:\n  roof          memory bandwidth and products per second, measured\n  \
                  products      the products of a 7B model by rows, as a share of both\n  \
                  self-check    every operation against the CPU, forward and backward\n  \
                  logits        a small model's logits against the CPU's f32\n  \
                  training      20 steps of a small model against the CPU's f32\n  \
                  decode        tokens per second of 1.5B, 7B and 14B shapes at 1, 16 and 64 rows\n  \
                  engine        tokens per second of the engine on these, with tokens drawn\n  \
                  train         tokens per second of training steps at 4K, 8K and 16K tokens: all of\n                \
                  1.5B, adapters and all of 7B and 14B\n  \
                  growth        memory after 300 steps\n\nExample:\n  leap bench gpu --device cuda:0 \
                  --only self-check,decode"
)]
pub(crate) struct BenchGpu {
    /// Where to compute.
    #[arg(long, default_value = "cuda:0")]
    pub(crate) device: String,
    /// Rows to run [default: all].
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<GpuRow>,
    /// Shapes of the models that are measured [default: all].
    #[arg(long, value_delimiter = ',', value_parser = ["1.5b", "7b", "14b"])]
    pub(crate) shapes: Vec<String>,
    /// What row `train` trains of them [default: all that is measured of a shape].
    #[arg(long, value_delimiter = ',')]
    pub(crate) trained: Vec<GpuTrained>,
    /// Micro-batches of a step of row `train` where the optimizer lies in host memory: its update takes the same
    /// time for any number of them. The default is that of the recipes.
    #[arg(long, default_value_t = 16, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub(crate) micro_batches: usize,
    /// Folder for one JSON file a row; files of earlier calls are replaced.
    #[arg(long, default_value = "runs/bench-gpu", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
    /// Models of a few layers and short texts, for trying the command where nothing is to be
    /// measured.
    #[arg(long)]
    pub(crate) small: bool,
}

/// What is trained of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GpuTrained {
    Adapters,
    Weights,
}

/// A row of `leap bench gpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GpuRow {
    Roof,
    Products,
    SelfCheck,
    Logits,
    Training,
    Decode,
    Engine,
    Train,
    Growth,
}
