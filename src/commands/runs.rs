//! `leap runs`: what lies below a folder.

use std::fs;

use anyhow::{Context, Result};

use super::ExitStatus;
use crate::cli::RunsArgs;
use crate::output::Output;
use crate::road;

pub(super) fn run(args: &RunsArgs, output: &mut Output) -> Result<ExitStatus> {
    let folder = &args.folder;
    let entries = fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder `{}`", folder.display()))?;
    let mut folders = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("cannot read the folder `{}`", folder.display()))?;
    folders.retain(|path| path.is_dir());
    folders.sort();
    let mut found = 0;
    for path in folders {
        let name = path.display();
        match road::standing(&path) {
            Ok(None) => continue,
            Ok(Some(standing)) => {
                let state = if standing.finished {
                    "finished"
                } else {
                    "unfinished"
                };
                let recipe = standing.recipe.get(..12).unwrap_or(&standing.recipe);
                let stages = standing.stages;
                output.data(&format!(
                    "{name}  {state}, {stages} stages done, recipe {recipe}"
                ));
            }
            Err(error) => output.data(&format!("{name}  damaged: {error:#}")),
        }
        found += 1;
    }
    if found == 0 {
        output.note(&format!("no runs below `{}`", folder.display()));
    }
    Ok(ExitStatus::Done)
}
