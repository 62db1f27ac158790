//! The problems of an evaluation: fetched, read, checked, options shuffled.

use std::path::PathBuf;

use anyhow::{Context, Result};
use data_gen::choices::{check_spread, shuffle};
use data_gen::import;
use protocol::{Problem, Stream};

use super::recipe::EvalProblems;
use crate::commands::hub::tables;
use crate::fault::Fault;
use crate::ledger;
use crate::output::Output;

/// Reads or makes the problems that a recipe asks for; `None` if the download was stopped.
///
/// # Errors
/// If they cannot be had, or are not what the recipe says they are.
pub(crate) fn load(
    asked: &EvalProblems,
    seed: u64,
    output: &mut Output,
) -> Result<Option<Vec<Problem>>> {
    let stream = Stream::of_run(seed).named("problems");
    let counts = [("test", asked.count)];
    let mut problems = match (&asked.file, &asked.search, &asked.sum) {
        (Some(file), ..) => {
            ledger::check_listed(file)?;
            import::read(std::slice::from_ref(file), &asked.columns)?
        }
        (_, Some(family), _) => family.splits(&counts, &stream)?.remove(0),
        (_, _, Some(family)) => family.splits(&counts, &stream)?.remove(0),
        (None, None, None) => match fetch(asked, output)? {
            Some(files) => import::read(&files, &asked.columns)?,
            None => return Ok(None),
        },
    };
    if let Some(seed) = asked.options_seed {
        shuffle(&mut problems, seed);
    }
    let advice = |error: &dyn std::fmt::Display| {
        Fault::new(
            error.to_string(),
            "problems.options_seed=1 puts the options of every question in an order of its own",
        )
    };
    match asked.benchmark {
        Some(benchmark) => benchmark.check(&problems).map_err(|error| match error {
            data_gen::benchmark::BenchmarkError::NotSpread(error) => advice(&error),
            error => Fault::new(
                error.to_string(),
                "take the whole benchmark (problems.count asks a part of it); for problems of your own \
                 leave the benchmark out: `problems.benchmark=` without a value",
            ),
        })?,
        None => check_spread(&problems).map_err(|error| advice(&error))?,
    }
    if asked.count > problems.len() {
        return Err(Fault::new(
            format!(
                "`problems.count` is {}, but there are {} problems",
                asked.count,
                problems.len()
            ),
            "problems.count=0 asks all of them",
        )
        .into());
    }
    if asked.count > 0 {
        problems.truncate(asked.count);
    }
    Ok(Some(problems))
}

/// The files of a data set, fetched where they are not there yet.
fn fetch(asked: &EvalProblems, output: &mut Output) -> Result<Option<Vec<PathBuf>>> {
    let place = asked.usual_place();
    let name = match (&asked.hub, &place) {
        (Some(name), _) => name.clone(),
        (None, Some(place)) => place.repo.to_owned(),
        (None, None) => anyhow::bail!("the recipe names no problems"),
    };
    // The usual files belong to the usual place.
    let usual = place.filter(|place| name.starts_with(place.repo));
    let files = asked
        .files
        .clone()
        .or(usual.map(|place| place.files.to_owned()));
    tables(&name, files.into_iter().collect(), output)
}

/// Hash of a problems file that the recipe names, so that a changed file is a changed evaluation.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn file_hash(asked: &EvalProblems) -> Result<String> {
    match &asked.file {
        None => Ok(String::new()),
        Some(file) => crate::ledger::hash_of(file)
            .with_context(|| format!("cannot read the problems file `{}`", file.display())),
    }
}
