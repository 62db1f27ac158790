//! `leap data-gen traces` and `merge`: groups of a teacher, kept as they come, in shards.

mod accepted;
mod forecast;
mod merge;
pub(crate) mod recipe;
mod work;

use std::path::Path;

use anyhow::{Context, Result};
use infer::generation::Shard;
use infer::units::Units;
use infer::vocab::TokenizerVocab;
use model::device::DeviceSpec;
use protocol::{Origin, Problem, Stream};
use serde_json::json;

use self::forecast::Forecast;
pub(crate) use self::merge::merge;
use self::recipe::{TracesRecipe, WriterEngine};
use self::work::{Teacher, Work};
use crate::cli::ServerArgs;
use crate::commands::ExitStatus;
use crate::evaluation::folder::Folder;
use crate::evaluation::questions;
use crate::fault::Fault;
use crate::ledger::{self, Ledger};
use crate::output::Output;
use crate::road::{self, model_folder};
use crate::{devices, recipes, servers};

/// The problems, as they were asked.
const PROBLEMS: &str = "problems.jsonl";
/// The groups.
const TRACES: &str = "traces.jsonl";
/// Names of the steps in the ledger.
const PROBLEMS_STEP: &str = "problems";
const TRACES_STEP: &str = "traces";

/// What is asked of a generation besides its recipe.
pub(crate) struct Call<'a> {
    pub(crate) out: &'a Path,
    pub(crate) shard: Shard,
    pub(crate) device: &'a DeviceSpec,
    pub(crate) overwrite: bool,
    pub(crate) servers: &'a ServerArgs,
}

/// Runs a recipe, or what is left of it.
///
/// # Errors
/// If the folder belongs to another recipe or another process, the teacher cannot be used, or a file
/// cannot be written.
pub(crate) fn run(
    recipe: &TracesRecipe,
    call: &Call<'_>,
    output: &mut Output,
) -> Result<ExitStatus> {
    check(recipe, call)?;
    if recipe.teacher.engine == WriterEngine::Remote {
        servers::are_named(call.servers)?;
    }
    let given = questions::file_hash(&recipe.problems)?;
    if recipe.problems.file.is_some() {
        // A mistake in the file leaves nothing behind.
        questions::load(&recipe.problems, recipe.seed, output)?;
    }
    let device = devices::open(call.device, output)?;
    let folder = open_folder(
        recipe,
        call.out,
        call.shard,
        &place(recipe, call),
        call.overwrite,
    )?;
    if recipe.teacher.engine == WriterEngine::Local && !folder.is_finished() {
        let dtype = recipe.teacher.dtype;
        devices::tell_format(dtype, call.device, &device, "teacher.dtype", output);
    }
    let mut work = Work {
        recipe,
        call,
        folder,
        output,
        problems: Vec::new(),
    };
    match work.walk(&given, &device) {
        Ok(Some(worked)) => {
            work.folder.finish()?;
            let file = call.out.join(TRACES);
            match worked {
                true => work.output.step("Traces", &file.display().to_string()),
                false => work.output.note(&format!(
                    "`{}` is finished: nothing to do",
                    call.out.display()
                )),
            }
            Ok(ExitStatus::Done)
        }
        Ok(None) => {
            work.folder.event("stopped", &json!({}));
            work.output
                .note("stopped; everything that was said is kept");
            work.output.hint("the same command continues it");
            Ok(ExitStatus::Interrupted)
        }
        Err(error) => {
            let text = format!("{error:#}");
            work.folder.event("failed", &json!({ "error": text }));
            Err(error)
        }
    }
}

/// Says what a recipe would do.
///
/// # Errors
/// If it cannot work, or its problems cannot be read.
pub(crate) fn describe(
    recipe: &TracesRecipe,
    call: &Call<'_>,
    output: &mut Output,
) -> Result<Vec<String>> {
    check(recipe, call)?;
    let hash = recipes::hash(recipe)?;
    let mut lines = vec![
        recipe.title.clone(),
        format!(
            "recipe {}, seed {}, device {}, output {}",
            &hash[..12],
            recipe.seed,
            place(recipe, call),
            call.out.display()
        ),
    ];
    if call.shard != Shard::WHOLE {
        lines.push(format!("shard {} of {}", call.shard.index, call.shard.of));
    }
    let problems = &recipe.problems;
    let here =
        problems.hub.is_none() && (problems.file.is_some() || problems.usual_place().is_none());
    let count = match here {
        true => match questions::load(problems, recipe.seed, output)? {
            Some(problems) => {
                check_fit(recipe, &problems, call.shard)?;
                Some(problems.len())
            }
            None => None,
        },
        false => problems.benchmark.map(|benchmark| benchmark.problems()),
    };
    match count {
        Some(count) => lines.push(Forecast::of(recipe, count, call.shard).words(None)),
        None => lines.push("the problems are fetched when it starts".to_owned()),
    }
    Ok(lines)
}

/// Checks that the teacher can be asked every problem of a shard.
fn check_fit(recipe: &TracesRecipe, problems: &[Problem], shard: Shard) -> Result<()> {
    let Some(positions) = recipe.positions()? else {
        return Ok(());
    };
    let vocab = Teacher::vocab(recipe)?;
    let mine = problems.iter().enumerate();
    let mine: Vec<&Problem> = mine
        .filter_map(|(place, problem)| shard.has(place).then_some(problem))
        .collect();
    let settings = recipe.settings();
    let units = Units {
        problems: &mine,
        groups: 1,
        prompts: &recipe.prompts,
        settings: &|_| settings.clone(),
        beginnings: &|_| Vec::new(),
        planted: 0,
        stream: Stream::of_run(recipe.seed),
        origin: Origin {
            seed: recipe.seed,
            recipe: String::new(),
            model: String::new(),
            tokenizer: String::new(),
            device: String::new(),
        },
    };
    let fit = units.check(0..units.count(), positions, vocab.get());
    fit.map_err(|error| servers::unfit(&error))
}

/// What the ledger calls the place of computation.
fn place(recipe: &TracesRecipe, call: &Call<'_>) -> String {
    match recipe.teacher.engine {
        WriterEngine::Local => call.device.to_string(),
        WriterEngine::Remote => "servers".to_owned(),
        WriterEngine::Simulated => "simulated".to_owned(),
    }
}

/// Checks what can be checked before anything is opened.
fn check(recipe: &TracesRecipe, call: &Call<'_>) -> Result<()> {
    recipe.check()?;
    if recipe.teacher.engine != WriterEngine::Remote {
        servers::are_not_named(call.servers, "teacher")?;
    }
    if let Some(folder) = &recipe.teacher.folder {
        TokenizerVocab::load(&model_folder(folder)?)?;
    }
    Ok(())
}

/// The output folder, with the recipe in it.
fn open_folder(
    recipe: &TracesRecipe,
    out: &Path,
    shard: Shard,
    place: &str,
    overwrite: bool,
) -> Result<Folder> {
    let hash = match shard {
        Shard::WHOLE => recipes::hash(recipe)?,
        Shard { index, of } => recipes::hash(&(recipe, index, of))?,
    };
    let mut folder = Folder::open(out, &hash, place, overwrite)?;
    let text = toml::to_string(recipe).context("cannot write the recipe as TOML")?;
    let header = format!(
        "# {}\n#\n#   leap data-gen traces recipe.toml --out DIR\n\n",
        recipe.title
    );
    ledger::write_whole(&out.join("recipe.toml"), (header + &text).as_bytes())?;
    folder.event("start", &json!({ "recipe": hash, "device": place }));
    Ok(folder)
}

/// The folder of a shard, or of the whole, as it was left.
fn finished(folder: &Path) -> Result<Ledger> {
    let standing = road::standing(folder)?;
    let found = Ledger::read(folder)?;
    match (standing, found) {
        (Some(standing), Some(ledger)) if standing.finished => Ok(ledger),
        (Some(_), _) => Err(Fault::new(
            format!("`{}` is not finished", folder.display()),
            "run its command again until it is",
        )
        .into()),
        _ => Err(Fault::new(
            format!(
                "`{}` holds no traces of `leap data-gen traces`",
                folder.display()
            ),
            "name the folders that it made",
        )
        .into()),
    }
}
