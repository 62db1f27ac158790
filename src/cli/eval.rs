//! The command line of evaluations: eval, score, report, grade.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::ServerArgs;

/// Evaluate a model: any method, on any problems, with error bars.
///
/// Everything that changes a number is in the recipe: `key=value` arguments edit it. Every finished
/// group is kept: the same command continues what was cut off, and does nothing on a finished
/// output. The table goes to stdout, groups, scores and reports below --out.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leap eval search\n  leap eval aime24 model.checkpoint=DIR \
                        --out runs/aime24\n  leap eval table1 model.checkpoint=DIR \
                        problems.file=aime24.jsonl --require \"dispersed-4:pass@1>=0.3\"\n  \
                        leap eval aime24 model.checkpoint=DIR model.engine=remote \
                        model.remote.model=NAME model.remote.positions=32768 --server URL"
)]
pub(crate) struct EvalArgs {
    /// Name of a built-in recipe, or a TOML file.
    pub(crate) recipe: String,
    /// Changes to the recipe, such as eval.groups=4; KEY= without a value leaves the key out.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Output folder [default: runs/NAME].
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
    /// Where to compute: cpu, or cuda:N or wgpu:N in a build with that feature.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
    /// Remove what another run has written to the output folder, and start anew; what else lies there stays.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Say what would be done and what it costs at most, and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Exit with 1 if a row misses this: [ROW:]METRIC>=SHARE, with pass@K, cons, shortest or
    /// no-answer.
    #[arg(long, value_name = "CONDITION")]
    pub(crate) require: Vec<String>,
    #[command(flatten)]
    pub(crate) servers: ServerArgs,
}

/// Grade stored groups again, without a model.
///
/// Several files are shards of one evaluation; their order does not matter.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leap score runs/tiny/reports/leap-t/groups.jsonl\n  leap score \
                        shard-*/groups.jsonl --problems aime24.jsonl --json"
)]
pub(crate) struct ScoreArgs {
    /// Files of groups.
    #[arg(required = true, value_hint = ValueHint::FilePath)]
    pub(crate) groups: Vec<PathBuf>,
    /// The problems with their answers [default: problems.jsonl in the run's folder].
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub(crate) problems: Option<PathBuf>,
    /// Name of the row.
    #[arg(long, default_value = "groups")]
    pub(crate) name: String,
    /// Print the summary as JSON instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write the summary to this file; it must not exist.
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}

/// Show what a run or an evaluation came to, alone or against another one.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leap report runs/aime24\n  leap report runs/new --against runs/old \
                        --out difference.html"
)]
pub(crate) struct ReportArgs {
    /// Folder that `leap eval` or `leap run` wrote.
    #[arg(value_name = "RUN", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
    /// Another such folder: rows of the same name are compared, problem by problem.
    #[arg(long, value_name = "RUN", value_hint = ValueHint::DirPath)]
    pub(crate) against: Option<PathBuf>,
    /// How to print it [default: as the ending of --out says, or text].
    #[arg(long, value_enum)]
    pub(crate) format: Option<ReportFormat>,
    /// Write it to this file instead of stdout.
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}

/// Forms of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// Aligned tables for a terminal.
    Text,
    /// Markdown tables.
    Markdown,
    /// Every score and verdict.
    Json,
    /// One page without network.
    Html,
}

/// Grade answers, one JSON object a line.
///
/// A row has `kind`, `gold`, and `text` (or `segments`) that a path wrote, or `pred` that is known
/// to state an answer. One row is printed for each, in order, with `extracted`, `correct` and
/// `method`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  echo '{\"kind\": \"integer\", \"gold\": 204, \"text\": \
                        \"\\\\boxed{204}\"}' | leap grade --jsonl -"
)]
pub(crate) struct GradeArgs {
    /// The rows; `-` reads stdin.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) jsonl: PathBuf,
}
