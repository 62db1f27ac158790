//! The command line: types only; their doc comments are the help text.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

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
    Infer(InferArgs),
    Pull(PullArgs),
    Push(PushArgs),
    /// Look at checkpoint folders: show, verify, compare, write in another number format.
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Read the built-in recipes: list, print, copy, check, explain their keys.
    #[command(subcommand)]
    Recipe(RecipeCommand),
    Runs(RunsArgs),
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
    /// Changes to the recipe, such as seed=2.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Output folder [default: runs/NAME].
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
    /// Where to compute: cpu, or cuda:N in a build with that feature.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
    /// Remove what the output folder holds of another run, and start anew.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Say what would be done, and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Solve one problem with a checkpoint, and show the exchange as it happens.
///
/// The voted answer goes to stdout, the exchange to stderr.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leap infer DIR \"How many positive divisors does 360 have?\" \
                        --paths 4\n  echo \"What is 17 * 23?\" | leap infer DIR - --method cot"
)]
pub(crate) struct InferArgs {
    /// Folder with config.json, tokenizer.json and safetensors.
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) checkpoint: PathBuf,
    /// The problem; `-` reads it from stdin.
    pub(crate) problem: String,
    /// How paths work together: cot, leap, or leap-t for a model trained on LeaP traces.
    #[arg(long, default_value = "leap")]
    pub(crate) method: String,
    /// Paths in the group.
    #[arg(long, default_value_t = 4)]
    pub(crate) paths: usize,
    /// Thought tokens between two blocks.
    #[arg(long, default_value_t = 128)]
    pub(crate) turn_tokens: usize,
    /// Tokens a path may sample for thoughts and summaries.
    #[arg(long, default_value_t = 384)]
    pub(crate) max_tokens: usize,
    /// Most tokens of a summary.
    #[arg(long, default_value_t = 64)]
    pub(crate) summary_tokens: usize,
    /// Most tokens of an answer.
    #[arg(long, default_value_t = 64)]
    pub(crate) answer_tokens: usize,
    /// Peers a path hears in a block.
    #[arg(long, default_value_t = 3)]
    pub(crate) peers: usize,
    /// Sampling temperature; 0 is greedy.
    #[arg(long, default_value_t = 0.6)]
    pub(crate) temperature: f32,
    /// Seed of the run.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where to compute.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
    /// Print the whole trace as JSON instead of the answer.
    #[arg(long)]
    pub(crate) json: bool,
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
    /// List the keys of a recipe with their values and what they mean.
    Keys {
        /// Name of a built-in recipe, or a TOML file.
        recipe: String,
        /// Only keys that begin like this.
        #[arg(default_value = "")]
        prefix: String,
    },
}

/// List the runs below a folder, with their state.
#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// The folder.
    #[arg(default_value = "runs", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
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
