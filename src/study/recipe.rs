//! The recipe of a study: one road with several seeds, and rows on the students of each.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use infer::local::LocalSettings;
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::evaluation::recipe::{
    EvalEngine, EvalJob, EvalModel, EvalProblems, EvalRecipe, EvalRows,
};
use crate::fault::Fault;
use crate::recipe::{RunRecipe, Trained};
use crate::recipes::{self, Source};
use crate::{presets, road};

/// A recipe of several runs that differ in their seeds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StudyRecipe {
    /// What the recipe is for.
    pub(crate) job: StudyJob,
    /// One line for the report.
    pub(crate) title: String,
    /// Seeds of the runs; each has problems, a base and students of its own.
    pub(crate) seeds: Vec<u64>,
    /// The recipe that [road] edits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<String>,
    /// The recipe of each run: keys over those of `run`, or all of them.
    #[serde(default)]
    pub(crate) road: Table,
    /// The rows, run on each seed's test problems.
    pub(crate) eval: EvalRows,
    /// Which rows are held against which.
    #[serde(default)]
    pub(crate) claims: Vec<Claim>,
}

/// What a recipe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StudyJob {
    /// A study.
    Study,
}

/// A row that is claimed to be better than another.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    /// Name of the row.
    pub(crate) row: String,
    /// Name of the row it is held against.
    pub(crate) against: String,
}

impl StudyRecipe {
    /// The recipe with everything in it that `run` names, so that it stands alone.
    ///
    /// # Errors
    /// If there is no such recipe.
    pub(crate) fn whole(mut self) -> Result<Self> {
        if let Some(name) = self.run.take() {
            let source = recipes::find(&name)?;
            source.is_for("run")?;
            let mut table: Table = source.text.parse().context("the recipe that `run` names")?;
            presets::overlay(&mut table, self.road);
            self.road = table;
        }
        Ok(self)
    }

    /// The road of one seed.
    ///
    /// # Errors
    /// If [road] is no recipe of a run.
    pub(crate) fn road(&self, seed: u64) -> Result<RunRecipe> {
        let source = Source {
            name: "road".to_owned(),
            text: toml::to_string(&self.road).context("cannot write [road] as TOML")?,
        };
        source.resolve(&[format!("seed={seed}")])
    }

    /// The rows of one seed, whose run lies in `folder` and whose test problems in `problems`.
    ///
    /// # Errors
    /// If [road] is no recipe of a run.
    pub(crate) fn rows(&self, seed: u64, folder: &Path, problems: PathBuf) -> Result<EvalRecipe> {
        let road = self.road(seed)?;
        let checkpoint = |name: &Path| folder.join("checkpoints").join(name);
        let mut eval = self.eval.clone();
        for row in &mut eval.rows {
            let name = row.checkpoint.take();
            let name = name.unwrap_or_else(|| Trained::Base.name().into());
            row.checkpoint = Some(match (&road.model.checkpoint, name.as_path()) {
                (Some(base), name) if name == Path::new(Trained::Base.name()) => base.clone(),
                (_, name) => checkpoint(name),
            });
        }
        Ok(EvalRecipe {
            job: EvalJob::Eval,
            title: format!("{}, seed {seed}", self.title),
            seed,
            model: EvalModel {
                engine: EvalEngine::Local,
                checkpoint: None,
                dtype: road.model.dtype,
                simulated: road.teacher.simulated,
                remote: None,
            },
            problems: EvalProblems {
                file: Some(problems),
                ..EvalProblems::default()
            },
            prompts: road.prompts,
            protocol: road.protocol,
            engine: LocalSettings { ..road.engine },
            eval,
        })
    }

    /// Checks what types cannot: combinations and ranges.
    ///
    /// # Errors
    /// The first thing that cannot work, with what to do.
    pub(crate) fn check(&self) -> Result<()> {
        let fault = |message: String, hint: &str| Err(Fault::new(message, hint).into());
        let Some(first) = self.seeds.first() else {
            return fault(
                "`seeds` is empty".to_owned(),
                "a study has at least one seed",
            );
        };
        if let Some(seed) = self
            .seeds
            .iter()
            .enumerate()
            .find_map(|(at, seed)| self.seeds[..at].contains(seed).then_some(seed))
        {
            return fault(format!("seed {seed} is there twice"), "give each once");
        }
        let road = self.road(*first)?;
        road.check()?;
        let students: Vec<&str> = road.students.iter().map(|it| it.name.as_str()).collect();
        let mut known = vec![Trained::Base.name(), Trained::LeapT.name()];
        known.extend(
            road.train
                .control
                .is_some()
                .then_some(Trained::Control.name()),
        );
        known.extend(students);
        for row in &self.eval.rows {
            let named = row.checkpoint.as_ref().map(|name| name.to_string_lossy());
            if let Some(name) = named.filter(|name| !known.contains(&&**name)) {
                return fault(
                    format!(
                        "row `{}` is on checkpoint `{name}`, which no run makes",
                        row.name
                    ),
                    &format!("there are {}", known.join(", ")),
                );
            }
        }
        let folder = PathBuf::from("seed");
        let rows = self.rows(*first, &folder, PathBuf::from("test.jsonl"))?;
        rows.check()?;
        let names = rows.row_names();
        for name in self
            .claims
            .iter()
            .flat_map(|claim| [&claim.row, &claim.against])
        {
            if !names.contains(name) {
                return fault(
                    format!("a claim names row `{name}`, which the study does not have"),
                    &format!("its rows are {}", names.join(", ")),
                );
            }
        }
        Ok(())
    }
}

/// Where the run of a seed lies in the study's folder.
pub(crate) fn seed_folder(out: &Path, seed: u64) -> PathBuf {
    out.join(format!("seed-{seed}"))
}

/// The test problems of a run, as a file of their own.
///
/// # Errors
/// If a file cannot be read or written.
pub(crate) fn write_test_problems(folder: &Path) -> Result<PathBuf> {
    let all: Vec<protocol::Problem> = road::read_records(&folder.join("problems.jsonl"))?;
    let test: Vec<protocol::Problem> = all
        .into_iter()
        .filter(|problem| problem.split.as_deref() == Some("test"))
        .collect();
    let file = folder.join("test.jsonl");
    road::write_records(&file, &test)?;
    Ok(file)
}
