//! Shards put together: the folder that a call without shards would have left.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use infer::generation::Shard;
use infer::merge::{MergeError, merge_files};
use protocol::Problem;

use super::recipe::TracesRecipe;
use super::{PROBLEMS, PROBLEMS_STEP, TRACES, TRACES_STEP, finished, open_folder};
use crate::fault::Fault;
use crate::ledger::{self, Ledger};
use crate::output::{Output, count};
use crate::recipes;
use crate::road::read_records;

/// Merges the shards in these folders into `out`.
///
/// # Errors
/// If a shard is not finished, is of another recipe, is missing, is named twice, or holds files that
/// are not those of its ledger.
pub(crate) fn merge(shards: &[PathBuf], out: &Path, output: &mut Output) -> Result<()> {
    let read = |folder: &Path, name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))
    };
    let mut ledgers: Vec<Ledger> = Vec::new();
    for folder in shards {
        ledgers.push(finished(folder)?);
    }
    let (Some(first), Some(ledger)) = (shards.first(), ledgers.first()) else {
        anyhow::bail!("no shard is named");
    };
    // Where files lie differs from machine to machine; what is in them is in the key.
    let recipe_of = |folder: &Path| -> Result<(TracesRecipe, String)> {
        let path = folder.join("recipe.toml");
        let recipe: TracesRecipe = toml::from_str(&read(folder, "recipe.toml")?)
            .with_context(|| format!("`{}`", path.display()))?;
        let mut placeless = recipe.clone();
        placeless.teacher.folder = None;
        placeless.problems.file = None;
        Ok((recipe, recipes::hash(&placeless)?))
    };
    let (recipe, hash) = recipe_of(first)?;
    let key = |ledger: &Ledger| ledger.stages.get(TRACES_STEP).map(|done| done.key.clone());
    let whole = key(ledger).with_context(|| format!("`{}` has no traces", first.display()))?;
    for (folder, other) in shards.iter().zip(&ledgers) {
        let unlike = recipe_of(folder)?.1 != hash || key(other).as_ref() != Some(&whole);
        if unlike || other.device != ledger.device {
            return Err(Fault::new(
                format!(
                    "`{}` was made by another recipe, teacher or device than `{}`",
                    folder.display(),
                    first.display()
                ),
                "merge shards of one recipe",
            )
            .into());
        }
    }
    let mut of_problems: Option<String> = None;
    for (folder, ledger) in shards.iter().zip(&ledgers) {
        let hashes = [(PROBLEMS_STEP, PROBLEMS), (TRACES_STEP, TRACES)]
            .map(|(step, file)| unchanged(folder, ledger, step, file));
        let [problems, traces] = hashes;
        traces?;
        let problems = problems?;
        if *of_problems.get_or_insert_with(|| problems.clone()) != problems {
            return Err(Fault::new(
                format!(
                    "`{}` holds other problems than `{}`",
                    folder.display(),
                    first.display()
                ),
                "merge shards of one recipe",
            )
            .into());
        }
    }
    let problems: Vec<Problem> = read_records(&first.join(PROBLEMS))?;
    let groups = recipe.traces.groups;
    let units = problems
        .iter()
        .flat_map(|problem| (0..groups).map(move |group| (problem.id.as_str(), group)));
    let files: BTreeSet<PathBuf> = shards.iter().map(|folder| folder.join(TRACES)).collect();
    if files.len() < shards.len() {
        let hint = "name each folder once";
        return Err(Fault::new("a shard is named twice", hint).into());
    }
    let files: Vec<PathBuf> = files.into_iter().collect();

    let mut folder = open_folder(&recipe, out, Shard::WHOLE, &ledger.device, false)?;
    let target = out.join(TRACES);
    merge_files(&files, units, &whole, &target).map_err(|error| match error {
        MergeError::Missing { .. } => anyhow::Error::from(Fault::new(
            error.to_string(),
            "name the folders of all shards",
        )),
        MergeError::Twice { .. } => anyhow::Error::from(Fault::new(
            error.to_string(),
            "two of the folders hold the same shard, or shards of different divisions",
        )),
        error => error.into(),
    })?;
    ledger::write_whole(&out.join(PROBLEMS), read(first, PROBLEMS)?.as_bytes())?;
    for (step, made) in [(PROBLEMS_STEP, PROBLEMS), (TRACES_STEP, TRACES)] {
        let key = ledger.stages.get(step).map(|done| done.key.clone());
        let key = key.with_context(|| format!("`{}` has no step `{step}`", first.display()))?;
        folder.take(step, key, made)?;
    }
    folder.finish()?;
    let groups = count(problems.len() * groups as usize, "group");
    output.step(
        "Merged",
        &format!(
            "{}: {groups} of {}",
            target.display(),
            count(shards.len(), "shard")
        ),
    );
    Ok(())
}

/// The hash of a shard's file, which is what its ledger lists.
fn unchanged(folder: &Path, ledger: &Ledger, step: &str, file: &str) -> Result<String> {
    let listed = ledger.stages.get(step).and_then(|done| done.made.get(file));
    let path = folder.join(file);
    let found = ledger::checked_hash(&path)?;
    match listed {
        Some(listed) if *listed == found => Ok(found),
        _ => Err(Fault::new(
            format!(
                "the ledger of `{}` does not list this `{file}`",
                folder.display()
            ),
            "the command that made the shard makes it again",
        )
        .into()),
    }
}
