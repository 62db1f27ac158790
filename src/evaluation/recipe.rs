//! The recipe of an evaluation: everything that can change a number, and nothing else.

use std::path::PathBuf;

use anyhow::{Context, Result};
use data_gen::benchmark::Benchmark;
use data_gen::import::Columns;
use data_gen::synthetic::{SearchFamily, SumFamily};
use infer::local::LocalSettings;
use infer::simulated::Simulation;
use model::device::Dtype;
use protocol::trap::Trap;
use protocol::{Method, PromptSet, Settings};
use serde::{Deserialize, Serialize};
use toml::Table;

use super::{matched, trap};
use crate::fault::Fault;
use crate::recipe::Protocol;
use crate::recipes::Gap;
use crate::servers::Served;
use crate::{presets, recipes};

/// A recipe for `leap eval`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvalRecipe {
    /// What the recipe is for.
    pub(crate) job: EvalJob,
    /// One line for the report.
    pub(crate) title: String,
    /// Seed of everything random.
    pub(crate) seed: u64,
    /// Who answers.
    pub(crate) model: EvalModel,
    /// What is asked.
    pub(crate) problems: EvalProblems,
    /// The sentences of the protocol.
    pub(crate) prompts: PromptSet,
    /// How the paths of a group think and exchange, unless a row says otherwise.
    pub(crate) protocol: Protocol,
    /// How the local engine batches.
    pub(crate) engine: LocalSettings,
    /// The rows.
    pub(crate) eval: EvalRows,
}

/// What a recipe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EvalJob {
    /// An evaluation.
    Eval,
}

/// Who answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvalModel {
    pub(crate) engine: EvalEngine,
    /// Folder with config.json, tokenizer.json and safetensors; rows can name another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Weights in memory.
    pub(crate) dtype: Dtype,
    /// Settings of the simulated reasoner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) simulated: Option<Simulation>,
    /// What servers serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remote: Option<Served>,
}

/// An engine that can be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EvalEngine {
    /// A checkpoint in this process.
    Local,
    /// The simulated reasoner, on synthetic problems.
    Simulated,
    /// Servers; the checkpoint folder is where the tokenizer lies.
    Remote,
}

/// What is asked: a file, a data set of the hub, or a synthetic family.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvalProblems {
    /// The benchmark that the problems are, which is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) benchmark: Option<Benchmark>,
    /// A file: .jsonl, .json, .csv, .tsv or .parquet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<PathBuf>,
    /// A data set of the hub, as owner/name@revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hub: Option<String>,
    /// Which files of the data set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) files: Option<String>,
    /// Which column is what, where names do not tell.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) columns: Columns,
    /// Seed of the order of options; absent = the order of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) options_seed: Option<u64>,
    /// The first so many, or that many of the family; 0 = all.
    pub(crate) count: usize,
    /// The synthetic family `search`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) search: Option<SearchFamily>,
    /// The synthetic family `sum`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sum: Option<SumFamily>,
}

fn is_default(columns: &Columns) -> bool {
    *columns == Columns::default()
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvalRows {
    /// Independent groups on each problem (G).
    pub(crate) groups: u32,
    /// What every row in which paths work together is held against, besides the first row.
    pub(crate) baseline: Baseline,
    /// The rows of the table, in order.
    pub(crate) rows: Vec<EvalRow>,
}

/// A baseline that is added to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Baseline {
    /// None is added.
    None,
    /// As many independent paths as sample the same number of tokens.
    BudgetMatched,
}

/// One row: a method, and what differs from the recipe.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvalRow {
    /// Folder name under reports/.
    pub(crate) name: String,
    /// Name in the table.
    pub(crate) title: String,
    pub(crate) method: RowMethod,
    /// A checkpoint of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Keys of [protocol] that differ.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub(crate) protocol: Table,
    /// Paths of each group that the simulated reasoner of [model.simulated] writes and that claim a
    /// wrong answer in every summary; only the others are scored.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) liars: u32,
    /// A baseline of its own, instead of that of all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) baseline: Option<Baseline>,
    /// Of the method `trap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trap: Option<TrapRow>,
}

/// What a row does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RowMethod {
    Cot,
    Leap,
    LeapT,
    LeapS,
    Moa,
    /// The prefix dominance trap: bad beginnings out of another row, independently and with peers.
    Trap,
}

/// Where the beginnings of a trap row come from, and who goes on from them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrapRow {
    /// Name of a row with method `cot` above this one.
    pub(crate) from: String,
    /// How paths with peers exchange.
    pub(crate) method: Method,
    /// Paths that go on from each beginning.
    pub(crate) continuations: usize,
    /// Which beginnings.
    pub(crate) choice: Trap,
}

impl RowMethod {
    /// The method of its groups; none for a trap, which has two.
    pub(crate) fn method(self) -> Option<Method> {
        match self {
            Self::Cot => Some(Method::Cot),
            Self::Leap => Some(Method::Leap),
            Self::LeapT => Some(Method::LeapT),
            Self::LeapS => Some(Method::LeapS),
            Self::Moa => Some(Method::Moa),
            Self::Trap => None,
        }
    }
}

impl EvalProblems {
    /// Checks that problems are not named in two ways.
    ///
    /// # Errors
    /// What is wrong, with what to do.
    pub(crate) fn check(&self) -> Result<()> {
        let given = self.ways();
        let family = self.search.is_some() || self.sum.is_some();
        match given.as_slice() {
            [_] if family && self.count == 0 => fault(
                "`problems.count` is 0",
                "say how many problems of the family are asked",
            ),
            [] | [_] => Ok(()),
            [.., last] => fault(
                &format!(
                    "the recipe names problems in {} ways: {}",
                    given.len(),
                    given.join(", ")
                ),
                &format!("keep one; `{last}=` without a value leaves `{last}` out"),
            ),
        }
    }

    /// What the recipe leaves to the call.
    pub(crate) fn gap(&self) -> Option<Gap> {
        let given = self.hub.is_some() || self.usual_place().is_some() || !self.ways().is_empty();
        (!given).then(|| Gap {
            message: "the recipe names no problems".to_owned(),
            hint: "give a file: problems.file=FILE; or a data set: problems.hub=OWNER/NAME",
            argument: "problems.file=FILE",
        })
    }

    /// The keys that name problems.
    fn ways(&self) -> Vec<&'static str> {
        let ways = [
            ("problems.file", self.file.is_some()),
            ("problems.hub", self.hub.is_some()),
            ("problems.search", self.search.is_some()),
            ("problems.sum", self.sum.is_some()),
        ];
        let given = ways.into_iter().filter(|(_, given)| *given);
        given.map(|(key, _)| key).collect()
    }

    /// Where the benchmark usually lies, if nothing else is named.
    pub(crate) fn usual_place(&self) -> Option<data_gen::benchmark::Place> {
        let other = self.file.is_some() || self.search.is_some() || self.sum.is_some();
        self.benchmark.filter(|_| !other)?.place()
    }
}

impl EvalRecipe {
    /// The settings of a row's groups when they work by `method`.
    ///
    /// # Errors
    /// If the row's own keys are no keys of [protocol], or cannot work.
    pub(crate) fn settings(&self, row: &EvalRow, method: Method) -> Result<Settings> {
        let mut table = Table::try_from(&self.protocol)?;
        presets::overlay(&mut table, row.protocol.clone());
        let what = format!("`protocol` of row `{}`", row.name);
        let protocol: Protocol = recipes::read(&table, &what)?;
        let settings = protocol.settings(method);
        settings
            .check()
            .with_context(|| format!("row `{}`", row.name))?;
        Ok(settings)
    }

    /// The checkpoint folder of a row.
    pub(crate) fn checkpoint<'a>(&'a self, row: &'a EvalRow) -> Option<&'a PathBuf> {
        row.checkpoint.as_ref().or(self.model.checkpoint.as_ref())
    }

    /// Folder names of all rows that it makes, in order.
    pub(crate) fn row_names(&self) -> Vec<String> {
        let rows = self.eval.rows.iter();
        rows.flat_map(|row| self.scored_folders(row)).collect()
    }

    /// Those of one row.
    fn scored_folders(&self, row: &EvalRow) -> Vec<String> {
        let mut names = match row.trap {
            Some(_) => vec![trap::alone(row), trap::peers(row)],
            None => vec![row.name.clone()],
        };
        if self.is_matched(row) {
            names.push(matched::name(row));
        }
        names
    }

    /// All folders below reports/ that a row writes: what a trap came to lies in one of its own.
    fn folders(&self, row: &EvalRow) -> Vec<String> {
        let mut names = self.scored_folders(row);
        if row.trap.is_some() {
            names.push(row.name.clone());
        }
        names
    }

    /// The independent row that a row is held against: the first with the same checkpoint.
    pub(crate) fn independent(&self, row: &EvalRow) -> Option<&EvalRow> {
        let same = |other: &&EvalRow| {
            other.method == RowMethod::Cot && self.checkpoint(other) == self.checkpoint(row)
        };
        self.eval.rows.iter().find(same)
    }

    /// Whether the recipe adds a baseline of the same tokens to this row.
    pub(crate) fn is_matched(&self, row: &EvalRow) -> bool {
        let together = !matches!(row.method, RowMethod::Cot | RowMethod::Trap) && row.liars == 0;
        row.baseline.unwrap_or(self.eval.baseline) == Baseline::BudgetMatched && together
    }

    /// Checks that it can be run: nothing in it is wrong, and nothing is left to the call.
    ///
    /// # Errors
    /// The first thing that cannot work, with what to do.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_parts()?;
        Gap::refuse(self.gaps())
    }

    /// What the recipe leaves to the call.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let simulated = self.model.engine == EvalEngine::Simulated;
        let mut rows = self.eval.rows.iter();
        let row = rows.find(|row| !simulated && self.checkpoint(row).is_none());
        let model = row.map(|row| Gap {
            message: format!("row `{}` names no model", row.name),
            hint: "give a Hugging Face folder: model.checkpoint=DIR",
            argument: "model.checkpoint=DIR",
        });
        self.problems.gap().into_iter().chain(model).collect()
    }

    /// Checks what types cannot: combinations and ranges of what it names.
    ///
    /// # Errors
    /// The first thing that cannot work, with what to do.
    pub(crate) fn check_parts(&self) -> Result<()> {
        self.prompts.check()?;
        self.engine.check()?;
        self.problems.check()?;
        self.check_model()?;
        if self.eval.rows.is_empty() || self.eval.groups == 0 {
            return fault(
                "there is nothing to evaluate",
                "`eval.rows` and `eval.groups` must not be empty",
            );
        }
        for (index, row) in self.eval.rows.iter().enumerate() {
            self.check_row(index, row)?;
        }
        Ok(())
    }

    fn check_model(&self) -> Result<()> {
        let rows = &self.eval.rows;
        match self.model.engine {
            EvalEngine::Simulated if self.model.simulated.is_none() => fault(
                "the recipe has no table [model.simulated]",
                "copy the table from `leap recipe cat search`",
            ),
            EvalEngine::Remote if self.model.remote.is_none() => fault(
                "the recipe does not say what servers serve",
                "name it as they list it: model.remote.model=NAME, with the longest path in tokens: \
                 model.remote.positions=N",
            ),
            EvalEngine::Remote if rows.iter().any(|row| row.checkpoint.is_some()) => fault(
                "a row has a checkpoint of its own, but servers serve one model",
                "evaluate each model in a recipe of its own",
            ),
            EvalEngine::Local | EvalEngine::Remote | EvalEngine::Simulated => Ok(()),
        }
    }

    fn check_row(&self, index: usize, row: &EvalRow) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let name = &row.name;
        if name.is_empty() || !name.chars().all(plain) || name.ends_with(MATCHED) {
            return fault(
                &format!("`{name}` cannot name a row"),
                "a row's name is a folder name: letters, digits, - and _; names that end in \
                 -matched are those of baselines",
            );
        }
        let above = &self.eval.rows[..index];
        if above.iter().any(|other| other.name == *name) {
            return fault(
                &format!("two rows are named `{name}`"),
                "give each row its own name",
            );
        }
        for other in above {
            let taken = self.folders(other);
            if let Some(folder) = self.folders(row).iter().find(|name| taken.contains(name)) {
                return fault(
                    &format!(
                        "rows `{}` and `{name}` both write the folder `{folder}`",
                        other.name
                    ),
                    "give one of them another name: a trap row `t` writes `t`, `t-alone` and `t-peers`",
                );
            }
        }
        match (row.method.method(), &row.trap) {
            (Some(method), None) => {
                let settings = self.settings(row, method)?;
                self.check_liars(row, &settings)?;
            }
            (Some(_), Some(_)) => {
                return fault(
                    &format!("row `{name}` has a table `trap` and another method"),
                    "drop the table, or say method = \"trap\"",
                );
            }
            (None, None) => {
                return fault(
                    &format!("row `{name}` has no table `trap`"),
                    "`leap recipe cat trap` shows one",
                );
            }
            (None, Some(trap)) => self.check_trap(row, trap, above)?,
        }
        if self.is_matched(row) && self.independent(row).is_none() {
            return fault(
                &format!(
                    "nothing tells how long independent paths are that row `{name}` is held against"
                ),
                "add a row with method = \"cot\" and the same checkpoint, or say \
                 eval.baseline=none",
            );
        }
        Ok(())
    }

    fn check_liars(&self, row: &EvalRow, settings: &Settings) -> Result<()> {
        let (name, liars) = (&row.name, row.liars as usize);
        match () {
            () if liars == 0 => Ok(()),
            () if !matches!(row.method, RowMethod::Leap | RowMethod::LeapT) => fault(
                &format!("row `{name}` has liars, but nobody who hears them"),
                "liars are for the methods leap and leap-t",
            ),
            () if liars >= settings.paths => fault(
                &format!(
                    "row `{name}` has {liars} liars among {} paths",
                    settings.paths
                ),
                "at least one path must be the model's own",
            ),
            () if self.model.simulated.is_none() => fault(
                &format!("row `{name}` has liars, but the recipe has no table [model.simulated]"),
                "the simulated reasoner writes them: copy the table from `leap recipe cat search`",
            ),
            () => Ok(()),
        }
    }

    fn check_trap(&self, row: &EvalRow, trap: &TrapRow, above: &[EvalRow]) -> Result<()> {
        let name = &row.name;
        let from = above.iter().find(|other| other.name == trap.from);
        if from.is_none_or(|other| other.method != RowMethod::Cot) {
            return fault(
                &format!(
                    "row `{name}` takes beginnings from `{}`, which is no row above it with method cot",
                    trap.from
                ),
                "beginnings are cut from paths that worked alone",
            );
        }
        if !trap.method.exchanges() {
            return fault(
                &format!("paths do not exchange by `trap.method` of row `{name}`"),
                "the independent ones are always run: choose leap, leap-t or leap-s",
            );
        }
        self.settings(row, trap.method)?;
        if trap.continuations == 0 || trap.choice.problems == 0 {
            return fault(
                &format!("row `{name}` goes on from nothing"),
                "`trap.continuations` and `trap.choice.problems` must be at least 1",
            );
        }
        Ok(())
    }
}

/// How the name of a baseline ends.
pub(crate) const MATCHED: &str = "-matched";

fn fault(message: &str, hint: &str) -> Result<()> {
    Err(Fault::new(message, hint).into())
}
