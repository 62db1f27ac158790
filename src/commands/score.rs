//! `leap score`: stored groups graded again, without a model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data_gen::import::{self, Columns};
use infer::report;
use infer::score::{self, Row};
use protocol::{Problem, Trace};

use super::ExitStatus;
use crate::cli::ScoreArgs;
use crate::fault::Fault;
use crate::ledger;
use crate::output::Output;
use crate::road::read_records;

pub(super) fn run(args: &ScoreArgs, output: &mut Output) -> Result<ExitStatus> {
    if let Some(out) = args.out.as_ref().filter(|out| out.exists()) {
        return Err(Fault::new(
            format!("`{}` exists", out.display()),
            "nothing is overwritten: choose another name",
        )
        .into());
    }
    let mut traces: Vec<Trace> = Vec::new();
    for file in &args.groups {
        ledger::check_listed(file)?;
        traces.extend(read_records::<Trace>(file)?);
    }
    let problems = problems(args, &traces)?;
    let about = Row {
        name: args.name.clone(),
        title: "graded again".to_owned(),
        settings: traces.first().map(|trace| trace.setup.settings.clone()),
    };
    let summary = score::score(&about, &problems, traces.into_iter())?;
    let text = serde_json::to_string_pretty(&summary)? + "\n";
    if let Some(out) = &args.out {
        ledger::write_whole(out, text.as_bytes())?;
    }
    match args.json {
        true => output.data(&text),
        false => output.data(&report::table(std::slice::from_ref(&summary))),
    }
    Ok(ExitStatus::Done)
}

/// The problems that are named, or those of the run that the groups lie in.
fn problems(args: &ScoreArgs, traces: &[Trace]) -> Result<Vec<Problem>> {
    if let Some(file) = &args.problems {
        ledger::check_listed(file)?;
        return Ok(import::read(
            std::slice::from_ref(file),
            &Columns::default(),
        )?);
    }
    let found = args.groups.first().and_then(|groups| of_run(groups));
    let Some(file) = found else {
        return Err(Fault::new(
            "nothing says what the right answers are",
            "name the problems: --problems FILE",
        )
        .into());
    };
    let mut problems: Vec<Problem> = read_records(&file)
        .with_context(|| format!("the problems `{}` of the run", file.display()))?;
    // A run's file also holds the problems it was trained on.
    let asked = |problem: &Problem| {
        problem.split.as_deref() != Some("train")
            || traces.iter().any(|trace| trace.problem == problem.id)
    };
    problems.retain(asked);
    Ok(problems)
}

/// problems.jsonl beside the groups, or up to two folders above.
fn of_run(groups: &Path) -> Option<PathBuf> {
    let folder = std::path::absolute(groups).ok()?;
    let mut folders = folder.ancestors().skip(1).take(3);
    folders
        .find(|folder| folder.join("problems.jsonl").is_file())
        .map(|folder| folder.join("problems.jsonl"))
}
