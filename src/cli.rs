//! The command line: types only; their doc comments are the help text.

mod bench;
mod data_gen;
mod eval;
mod servers;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use model::device::Dtype;

pub(crate) use self::bench::{
    BenchCommand, BenchDataGen, BenchDecode, BenchGpu, BenchLeap, BenchModel, BenchPrefill,
    BenchRecompute, BenchRemote, BenchRoute, BenchTrain, GpuRow, GpuTrained,
};
pub(crate) use self::data_gen::{
    DataGenCommand, ExportArgs, ExportForm, InspectArgs, Kind, Loss, MergeArgs, ProblemsArgs,
    SamplesArgs, TracesArgs,
};
pub(crate) use self::eval::{EvalArgs, GradeArgs, ReportArgs, ReportFormat, ScoreArgs};
pub(crate) use self::servers::ServerArgs;

/// Generate LeaP traces, fine-tune LeaP-T models on them, evaluate the checkpoints.
///
/// Paths that reason about one problem in parallel tell each other where they stand, as
/// "Learning from Peers in Reasoning Models" (arXiv 2505.07787) describes. Start with `leap run tiny`.
#[derive(Debug, Parser)]
#[command(name = "leap", version = VERSION, max_term_width = 100, propagate_version = false)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Say only what is wrong, and the result.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Plain lines instead of a progress line that is redrawn.
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
}

const VERSION: &str = env!("LEAP_VERSION");

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(RunArgs),
    /// Make data: problems, traces of a teacher, and samples of them; look at them, hand them on.
    #[command(subcommand)]
    DataGen(DataGenCommand),
    Train(TrainArgs),
    Eval(EvalArgs),
    Report(ReportArgs),
    Score(ScoreArgs),
    Grade(GradeArgs),
    Infer(InferArgs),
    Pull(PullArgs),
    Push(PushArgs),
    /// Look at checkpoint folders: show, verify, compare, write in another number format.
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Read the built-in recipes: list, print, copy, check, explain their keys.
    ///
    /// Commands that take a recipe take key=value changes to it behind its name: seed=2 sets a key,
    /// train.lora.rank=8 one in a table, eval.rows.1.method=leap-t one in the second entry of a list.
    /// KEY= without a value leaves the key out (problems.benchmark= for problems of your own), and
    /// KEY='"none"' is a text.
    #[command(subcommand)]
    Recipe(RecipeCommand),
    Trap(TrapArgs),
    /// Look at recorded groups: word by word, driven again, counted.
    #[command(subcommand)]
    Trace(TraceCommand),
    /// The sentences of the protocol: print, check, import the authors'.
    #[command(subcommand)]
    Prompts(PromptsCommand),
    Runs(RunsArgs),
    Schema(SchemaArgs),
    /// Measure how fast a part is; prints one JSON object.
    #[command(subcommand)]
    Bench(BenchCommand),
    Doctor(DoctorArgs),
    Completions(CompletionsArgs),
}

/// Walk the whole road of a recipe: problems, traces, samples, training, evaluation, report.
///
/// The same command continues an unfinished output, and does nothing on a finished one. Everything
/// that changes a number is in the recipe: `key=value` arguments edit it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leap run tiny\n  leap run smollm2 model.checkpoint=DIR \
                        problems.test.file=mine.jsonl --out runs/mine"
)]
pub(crate) struct RunArgs {
    /// Name of a built-in recipe, or a TOML file.
    pub(crate) recipe: String,
    /// Changes to the recipe, such as seed=2; KEY= without a value leaves the key out.
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
    /// Say what would be done, and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Fine-tune a checkpoint on samples: all weights, or adapters.
///
/// The same command continues what was cut off, with the same bytes, and does nothing on a finished
/// output. Everything that changes a number is in the recipe: `key=value` arguments edit it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leap train leap-t-1.5b --plan --on h100-80gb\n  leap train \
                        leap-t-1.5b model.checkpoint=DIR samples.file=samples.jsonl\n  leap train \
                        leap-t-7b-lora model.checkpoint=DIR samples.file=samples.jsonl train.lr=5e-5 \
                        --out runs/mine"
)]
pub(crate) struct TrainArgs {
    /// Name of a built-in recipe, or a TOML file.
    pub(crate) recipe: String,
    /// Changes to the recipe, such as seed=2 or train.epochs=3; KEY= without a value leaves the key
    /// out.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Output folder [default: runs/NAME].
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
    /// Where to compute: cpu, or cuda:N or wgpu:N in a build with that feature.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
    /// Remove what another training has written to the output folder, and start anew; what else lies there
    /// stays.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Say what would be done, and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Say what it will need: memory by purpose, operations, hours, and whether it fits. Neither
    /// weights nor samples have to be there. Exit code 1 if it does not fit as it is.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Print the ids of the samples of each step, one JSON line a step, and stop.
    #[arg(long, conflicts_with_all = ["plan", "dry_run"])]
    pub(crate) order: bool,
    /// What --plan plans for: cpu, rtx-4090-24gb, a100-80gb, h100-80gb, h200-141gb, or a size such
    /// as 48GB [default: what --device names].
    #[arg(long, value_name = "DEVICE", requires = "plan")]
    pub(crate) on: Option<String>,
    /// Print the plan as JSON.
    #[arg(long, requires = "plan")]
    pub(crate) json: bool,
    /// Compute the largest micro-batch once before the first step.
    #[arg(long)]
    pub(crate) try_worst: bool,
}

/// Solve one problem with a checkpoint, and show the exchange as it happens.
///
/// The voted answer goes to stdout, the exchange to stderr.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leap infer DIR \"How many positive divisors does 360 have?\" \
                        --paths 4\n  echo \"What is 17 * 23?\" | leap infer DIR - --method cot\n  \
                        leap infer DIR \"...\" --method moa --paths 3 moa.layers=2\n  \
                        leap infer DIR \"...\" --server http://localhost:8000"
)]
pub(crate) struct InferArgs {
    /// Folder with config.json, tokenizer.json and safetensors; with --server, the tokenizer is
    /// enough.
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) checkpoint: PathBuf,
    /// The problem; `-` reads it from stdin.
    pub(crate) problem: String,
    /// Other settings, as below [protocol] in a recipe, such as router=random, preset=paper or
    /// prompts=FILE; KEY= without a value leaves a key out.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// How paths work together: cot, leap, leap-t for a model trained on LeaP traces, leap-s, moa.
    #[arg(long, default_value = "leap")]
    pub(crate) method: String,
    /// Paths in the group; agents of a layer, under moa.
    #[arg(long, default_value_t = 4)]
    pub(crate) paths: usize,
    /// Thought tokens between two blocks [default: 128, or the preset's].
    #[arg(long)]
    pub(crate) turn_tokens: Option<usize>,
    /// Tokens a path may sample for thoughts and summaries [default: 384, or the preset's].
    #[arg(long)]
    pub(crate) max_tokens: Option<usize>,
    /// Most tokens of a summary [default: 64, or the preset's].
    #[arg(long)]
    pub(crate) summary_tokens: Option<usize>,
    /// Most tokens of an answer [default: 64, or the preset's].
    #[arg(long)]
    pub(crate) answer_tokens: Option<usize>,
    /// Peers a path hears in a block [default: 3, or the preset's].
    #[arg(long)]
    pub(crate) peers: Option<usize>,
    /// Sampling temperature; 0 is greedy [default: 0.6].
    #[arg(long)]
    pub(crate) temperature: Option<f32>,
    /// Seed of the run.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where to compute: cpu, or cuda:N or wgpu:N in a build with that feature.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
    /// Weights in memory [default: f32 on the CPU, bf16 where the device computes in it].
    #[arg(long)]
    pub(crate) dtype: Option<ComputeDtype>,
    /// Print the whole trace as JSON instead of the answer.
    #[arg(long)]
    pub(crate) json: bool,
    /// Name of the model at the servers [default: the only one they list].
    #[arg(long, value_name = "NAME", requires = "servers")]
    pub(crate) served_model: Option<String>,
    #[command(flatten)]
    pub(crate) servers: ServerArgs,
}

/// Fetch a model or a data set from the hub.
///
/// Every file is checked against the hash that the hub lists; the same command continues what was
/// cut off, and does nothing if all is there. A model is verified. HF_ENDPOINT is another hub,
/// HF_TOKEN (or the file that logging in writes) says who asks.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leap pull HuggingFaceTB/SmolLM2-135M-Instruct\n  \
                        leap pull owner/problems@v1.0 --dataset --include '*.jsonl' --to problems"
)]
pub(crate) struct PullArgs {
    /// OWNER/NAME, with a branch, tag or commit behind an @ if it is not the newest state.
    #[arg(value_name = "REPO[@REV]")]
    pub(crate) repo: String,
    /// Folder [default: checkpoints/NAME, or datasets/NAME].
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) to: Option<PathBuf>,
    /// It is a data set, not a model.
    #[arg(long)]
    pub(crate) dataset: bool,
    /// Only files that match one of these patterns [default: what a checkpoint needs, or a whole
    /// data set].
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    pub(crate) include: Vec<String>,
}

/// Send a checkpoint or a data set to the hub, as one commit.
///
/// The repository is made if it is not there; files that the hub has are not sent again. A
/// checkpoint is verified first. Hidden files and pull.json stay here.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leap push runs/mine/checkpoints/leap-t owner/leap-t-1.5b --private\n  \
                        leap push data owner/problems --dataset --message \"300 problems\""
)]
pub(crate) struct PushArgs {
    /// The folder.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
    /// OWNER/NAME.
    pub(crate) repo: String,
    /// It is a data set, not a model.
    #[arg(long)]
    pub(crate) dataset: bool,
    /// Nobody else may see it; a public repository of this name is refused.
    #[arg(long)]
    pub(crate) private: bool,
    /// What the commit says.
    #[arg(long, default_value = "Upload with leap push")]
    pub(crate) message: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Say what a folder holds and what it was made from.
    Show {
        /// The checkpoint folder.
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        folder: PathBuf,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Look for all that is wrong with a folder; exit code 1 if something is.
    Verify {
        /// The checkpoint folder.
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
    /// Compare two folders: config, tensors, tokenizer, template; exit code 1 if they differ.
    Diff {
        /// One checkpoint folder.
        #[arg(value_hint = ValueHint::DirPath)]
        a: PathBuf,
        /// The other.
        #[arg(value_hint = ValueHint::DirPath)]
        b: PathBuf,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write a base model and an adapter as one checkpoint.
    ///
    /// Products are added to the weights in f32, and rounded once.
    #[command(after_help = "Example:\n  leap checkpoint merge BASE ADAPTER OUT --dtype bf16")]
    Merge {
        /// Folder of the model that the adapter was trained on.
        #[arg(value_hint = ValueHint::DirPath)]
        base: PathBuf,
        /// Folder with adapter_config.json and adapter_model.safetensors.
        #[arg(value_hint = ValueHint::DirPath)]
        adapter: PathBuf,
        /// Where to; it must not exist.
        #[arg(value_hint = ValueHint::DirPath)]
        out: PathBuf,
        /// Number format of the weights.
        #[arg(long)]
        dtype: ExportDtype,
        /// Most bytes of tensors in one file, such as 500MB.
        #[arg(long, value_name = "SIZE", default_value = "5GB")]
        shard_size: String,
    },
    /// Write a folder in another number format.
    #[command(after_help = "Example:\n  leap checkpoint export DIR OUT --dtype bf16")]
    Export {
        /// The checkpoint folder.
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        folder: PathBuf,
        /// Where to; it must not exist.
        #[arg(value_hint = ValueHint::DirPath)]
        out: PathBuf,
        /// Number format of the weights.
        #[arg(long)]
        dtype: ExportDtype,
        /// Most bytes of tensors in one file, such as 500MB.
        #[arg(long, value_name = "SIZE", default_value = "5GB")]
        shard_size: String,
    },
}

/// Number formats that a model is computed in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ComputeDtype {
    /// 8 bits of exponent, 23 of fraction.
    F32,
    /// 8 bits of exponent, 7 of fraction. On the CPU the values are rounded to it and held as f32.
    Bf16,
}

impl From<ComputeDtype> for Dtype {
    fn from(dtype: ComputeDtype) -> Self {
        match dtype {
            ComputeDtype::F32 => Self::F32,
            ComputeDtype::Bf16 => Self::Bf16,
        }
    }
}

/// Number formats that weights can be written in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ExportDtype {
    /// 8 bits of exponent, 7 of fraction.
    Bf16,
    /// 5 bits of exponent, 10 of fraction: values beyond 65504 do not fit.
    F16,
    /// 8 bits of exponent, 23 of fraction.
    F32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RecipeCommand {
    /// List the built-in recipes.
    Ls,
    /// Print a recipe.
    Cat {
        /// Name of a built-in recipe, or a TOML file.
        recipe: String,
    },
    /// Copy a built-in recipe to a file of your own.
    Cp {
        /// Name of a built-in recipe.
        recipe: String,
        /// Where to; it must not exist.
        #[arg(value_hint = ValueHint::FilePath)]
        to: PathBuf,
    },
    /// Check recipes; exit code 1 if one is not valid.
    Check {
        /// Names of built-in recipes, TOML files, or key=value changes to all of them.
        #[arg(required = true)]
        recipes: Vec<String>,
    },
    /// List the presets of [protocol], and in what they differ from the default.
    Presets,
    /// List the keys of a recipe with their values and what they mean.
    Keys {
        /// Name of a built-in recipe, or a TOML file.
        recipe: String,
        /// Only keys that begin like this.
        #[arg(default_value = "")]
        prefix: String,
    },
}

/// Measure what a bad beginning costs, and what peers repair: the prefix dominance trap.
///
/// From stored groups without exchange, one wrong (or right) response is chosen on each of some
/// problems. New paths go on from its first tokens, once independently and once with LeaP. The
/// table goes to stdout, everything else below --out; the same command continues what was cut off.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leap trap runs/tiny/reports/base/groups.jsonl --problems \
                        runs/tiny/problems.jsonl --checkpoint runs/tiny/checkpoints/leap-t \
                        --method leap-t --out runs/trap\n  leap trap groups.jsonl --problems \
                        aime24.jsonl --checkpoint DIR --beginnings right --out runs/trap-right"
)]
pub(crate) struct TrapArgs {
    /// Groups of independent paths (method cot) on the problems.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) groups: PathBuf,
    /// Settings that differ from those of the stored groups, as below [protocol] in a recipe.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// The problems of the groups.
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub(crate) problems: PathBuf,
    /// Folder of the model that goes on; it needs the tokenizer of the groups.
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub(crate) checkpoint: PathBuf,
    /// Where groups and results go.
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
    /// How paths exchange: leap, or leap-t for a model trained on LeaP traces.
    #[arg(long, default_value = "leap")]
    pub(crate) method: String,
    /// The groups may be another model's: a gap is then the beginning's and the model's together.
    #[arg(long)]
    pub(crate) other_model: bool,
    /// Which responses paths go on from.
    #[arg(long, value_enum, default_value = "wrong")]
    pub(crate) beginnings: WhichBeginnings,
    /// Share of a response that is kept.
    #[arg(long, default_value_t = 0.15)]
    pub(crate) share: f64,
    /// Most problems.
    #[arg(long, default_value_t = 10)]
    pub(crate) most: usize,
    /// Paths that go on from each beginning.
    #[arg(long, default_value_t = 16)]
    pub(crate) continuations: usize,
    /// Seed of the choice and of the paths.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where to compute: cpu, or cuda:N or wgpu:N in a build with that feature.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
    /// Weights in memory [default: f32 on the CPU, bf16 where the device computes in it].
    #[arg(long)]
    pub(crate) dtype: Option<ComputeDtype>,
    /// Remove what --out holds of another call.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which responses of stored groups.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum WhichBeginnings {
    /// With a wrong answer, or none.
    Wrong,
    /// With the right answer.
    Right,
}

/// Groups of a file.
#[derive(Debug, Args)]
pub(crate) struct TraceFilter {
    /// A traces.jsonl or groups.jsonl.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Only groups on this problem.
    #[arg(long, value_name = "ID")]
    pub(crate) problem: Option<String>,
    /// Only groups of this number.
    #[arg(long, value_name = "N")]
    pub(crate) group: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TraceCommand {
    /// Print a group: who heard whom, and every path span by span.
    Show {
        #[command(flatten)]
        which: TraceFilter,
        /// Only this path, counted from 0.
        #[arg(long)]
        path: Option<usize>,
        /// Whole texts, the prompt included.
        #[arg(long)]
        full: bool,
    },
    /// Drive the groups again with their recorded completions: the same requests, spans and routes
    /// must come out. Exit code 1 if they do not.
    Replay {
        #[command(flatten)]
        which: TraceFilter,
        /// Folder with the tokenizer and the chat template that the traces were made with.
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        tokenizer: Option<PathBuf>,
    },
    /// Count tokens by kind, rounds, cut summaries, and how readers reacted to what they heard.
    Stats {
        #[command(flatten)]
        which: TraceFilter,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PromptsCommand {
    /// Print a prompt set as TOML.
    Cat {
        /// `clean`, or a file.
        #[arg(default_value = "clean")]
        set: String,
    },
    /// Check prompt sets; exit code 1 if one cannot work.
    Check {
        /// Files.
        #[arg(required = true)]
        sets: Vec<String>,
    },
    /// Read the authors' wording out of a checkout of their code; their code is not run.
    Import {
        /// Folder of a checkout of github.com/tongxuluo/LeaP.
        #[arg(value_hint = ValueHint::DirPath)]
        checkout: PathBuf,
        /// The TOML file to write; it must not exist.
        #[arg(short, long, value_hint = ValueHint::FilePath)]
        out: PathBuf,
    },
}

/// Print the JSON Schema of a file format.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Which format.
    pub(crate) of: SchemaOf,
}

/// A file format.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SchemaOf {
    /// A line of problems.jsonl.
    Problem,
    /// A line of traces.jsonl and groups.jsonl.
    Trace,
    /// A line of samples.jsonl.
    Sample,
    /// A line of verdicts.jsonl.
    Verdicts,
    /// A line of a .left-out.jsonl.
    LeftOut,
    /// summary.json.
    Summary,
    /// A prompt set, as JSON.
    Prompts,
}

/// List the runs below a folder, with their state.
#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// The folder.
    #[arg(default_value = "runs", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
}

/// Say what this machine can compute on, and what is missing; exit code 1 if something that should
/// work does not.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leap doctor\n  leap doctor --check cuda:0\n  leap doctor --json --offline"
)]
pub(crate) struct DoctorArgs {
    /// Compare this device's arithmetic with the CPU's, forward and backward, and keep the verdict.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) check: Option<String>,
    /// A case or two of each kind, where kernels take minutes to compile; the verdict is not kept.
    #[arg(long, requires = "check")]
    pub(crate) brief: bool,
    /// Do not ask whether the hub can be reached.
    #[arg(long)]
    pub(crate) offline: bool,
    /// One JSON object instead of sentences.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the completion script of a shell.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  leap completions bash > ~/.local/share/bash-completion/completions/leap"
)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: Shell,
}
