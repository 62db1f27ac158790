//! The command line of `leap data-gen`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use infer::generation::Shard;

use super::ServerArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum DataGenCommand {
    Problems(ProblemsArgs),
    Traces(TracesArgs),
    Merge(MergeArgs),
    Samples(SamplesArgs),
    Inspect(InspectArgs),
    Export(ExportArgs),
}

/// Make a problems file: import or invent, name, drop copies and benchmark problems.
///
/// Reads JSONL, JSON, CSV, TSV, Parquet and data sets of the hub; the columns of usual data sets are
/// known. What is left out is written beside the file, with the reason and both texts.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leap data-gen problems AIME_1983_2024.csv --against aime24.jsonl \
                  --against aime25.jsonl --out problems.jsonl\n  leap data-gen problems --hub \
                  HuggingFaceH4/MATH-500 --out math.jsonl\n  leap data-gen problems --synthetic \
                  divisors=200 --synthetic lattice-choice=100 --out made.jsonl"
)]
pub(crate) struct ProblemsArgs {
    /// Files of problems.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    /// A data set of the hub, with a revision behind an @ if wanted; can be given several times.
    #[arg(long, value_name = "REPO[@REV]")]
    pub(crate) hub: Vec<String>,
    /// Which files of the data sets [default: all that hold tables].
    #[arg(long, value_name = "GLOB", requires = "hub")]
    pub(crate) pattern: Option<String>,
    /// So many problems of a family: remainder, divisors, lattice, system, recurrence, multiples,
    /// search, sum; with -choice behind the name, multiple choice. Can be given several times.
    #[arg(long, value_name = "FAMILY=COUNT")]
    pub(crate) synthetic: Vec<String>,
    /// Seed of the families.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Column of ids [default: a usual name, or ids made of what is asked].
    #[arg(long, value_name = "COLUMN")]
    pub(crate) id: Option<String>,
    /// Column of statements [default: a usual name].
    #[arg(long, value_name = "COLUMN")]
    pub(crate) problem: Option<String>,
    /// Column of answers [default: a usual name, or the last box of a solution].
    #[arg(long, value_name = "COLUMN")]
    pub(crate) answer: Option<String>,
    /// Column with a list of options, or a column for each [default: usual names].
    #[arg(long, value_name = "COLUMN", num_args = 1.., value_delimiter = ',')]
    pub(crate) choices: Vec<String>,
    /// How answers are read [default: by what they are].
    #[arg(long)]
    pub(crate) kind: Option<Kind>,
    /// Put the options of every question in an order of its own, drawn from this seed.
    #[arg(long, value_name = "SEED")]
    pub(crate) options_seed: Option<u64>,
    /// Benchmark problems that must not be among them; can be given several times.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) against: Vec<PathBuf>,
    /// Leave out what is known to be from this year or later; `none` keeps it.
    #[arg(long, value_name = "YEAR", default_value = "2024")]
    pub(crate) before: String,
    /// The file to write.
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
    /// Replace the file.
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// How answers are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Whole numbers.
    Integer,
    /// Any mathematical value.
    Math,
    /// The letter of an option.
    Choice,
}

/// Look at every path of recorded groups through all filters, and keep those that a recipe asks for.
///
/// Verdicts are written for all paths, so that nothing is lost; samples for those that pass what the
/// recipe requires. Everything that changes the result is in the recipe: `key=value` arguments edit
/// it. The same command does nothing on a finished output.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leap data-gen samples leap-t-samples problems=problems.jsonl \
                  traces.leap=traces.jsonl --out data\n  leap data-gen samples leap-t-samples-strict \
                  problems=problems.jsonl traces.leap=traces.jsonl traces.control=cot.jsonl \
                  filters.uptake=0.25 --out data"
)]
pub(crate) struct SamplesArgs {
    /// Name of a built-in recipe, or a TOML file.
    pub(crate) recipe: String,
    /// Changes to the recipe, such as leap.per_problem=2; KEY= without a value
    /// leaves the key out.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Output folder.
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
    /// Replace what the folder holds of another recipe or other traces.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Say what would be kept, and write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the account as JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show samples token by token: what each is, which carry loss, and where spans meet.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leap data-gen inspect data/samples.jsonl --tokenizer DIR\n  leap data-gen \
                  inspect data/samples.jsonl --tokenizer DIR --first 20 --html samples.html"
)]
pub(crate) struct InspectArgs {
    /// A samples file.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) samples: PathBuf,
    /// Folder with the tokenizer that the samples were made with.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) tokenizer: Option<PathBuf>,
    /// Only the sample with this id.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// How many samples are shown; all are counted.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) first: usize,
    /// Which tokens carry loss.
    #[arg(long, value_enum, default_value_t = Loss::Own)]
    pub(crate) train_on: Loss,
    /// Write a page to this file instead; it must not exist.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) html: Option<PathBuf>,
}

/// Which tokens carry loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Loss {
    /// Thoughts, summaries and answers.
    #[value(name = "own")]
    Own,
    /// The same and the triggers.
    #[value(name = "own+trigger")]
    OwnAndTrigger,
    /// All but the first token.
    #[value(name = "all")]
    All,
}

/// Write samples for trainers of others: ids with labels in Parquet, or messages in JSONL.
///
/// The folder gets a card, and for ids a script that trains on them with TRL; `leap push` sends it to
/// the hub.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leap data-gen export data --tokenizer DIR --out dataset\n  leap push \
                  dataset owner/leap-samples --dataset"
)]
pub(crate) struct ExportArgs {
    /// Folder that `leap data-gen samples` wrote, or a samples file.
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) samples: PathBuf,
    /// Folder with the tokenizer that the samples were made with.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) tokenizer: Option<PathBuf>,
    /// In which form.
    #[arg(long, value_enum, default_value_t = ExportForm::Tokens)]
    pub(crate) form: ExportForm,
    /// Which tokens carry loss, of ids.
    #[arg(long, value_enum, default_value_t = Loss::Own)]
    pub(crate) train_on: Loss,
    /// Where to; it must not exist.
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
}

/// Forms of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportForm {
    /// Parquet with `input_ids` and `labels`: exactly what `leap train` sees.
    Tokens,
    /// JSONL with `messages`: a chat template makes other ids of it, and the loss mask is lost.
    Messages,
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
    /// Changes to the recipe, such as traces.method=cot or traces.groups=2; KEY= without a value
    /// leaves the key out.
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
