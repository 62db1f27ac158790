//! The command line of `leap data-gen`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use infer::generation::Shard;

use super::ServerArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum DataGenCommand {
    Traces(TracesArgs),
    Merge(MergeArgs),
}

/// Let a teacher write groups on problems: traces.jsonl.
///
/// The teacher is a checkpoint in this process, a model behind servers, or the simulated reasoner.
/// Every completion is kept as it comes: whatever ends the command, the same command goes on with
/// every group where it was. Ctrl-C waits for what servers are at; a second one leaves at once, and
/// loses only that.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leap data-gen traces teacher-simulated\n  leap data-gen traces \
                        leap-t-teacher-32b teacher.folder=DIR problems.file=aime.jsonl --server \
                        http://10.0.0.1:8000,http://10.0.0.2:8000\n  leap data-gen traces RECIPE \
                        --shard 2/8"
)]
pub(crate) struct TracesArgs {
    /// Name of a built-in recipe, or a TOML file.
    pub(crate) recipe: String,
    /// Changes to the recipe, such as traces.method=cot or traces.groups=2.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Output folder [default: runs/NAME, or runs/NAME-I-of-N of a shard].
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
    /// Only every Nth problem, beginning with number I; `leap data-gen merge` puts shards together.
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Shard>,
    /// Where to compute, for a teacher in this process: cpu, or cuda:N or wgpu:N in a build with
    /// that feature.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
    /// Remove what the output folder holds of another call, and start anew.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Say what would be done and what it costs at most, and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) servers: ServerArgs,
}

/// Put shards together: the same files as those of a call without shards, byte for byte.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  leap data-gen merge runs/teacher-simulated-*-of-8 --out runs/teacher"
)]
pub(crate) struct MergeArgs {
    /// Folders of all shards, in any order.
    #[arg(required = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) shards: Vec<PathBuf>,
    /// Where to; it must not exist, or be left by this command when it was cut off.
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
}
