//! What `--overwrite` removes: what runs have written, and nothing else that lies in their folder.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use crate::fault::Fault;
use crate::ledger::Ledger;

/// Files and folders that no ledger names.
const UNNAMED: [&str; 7] = [
    "events.jsonl",
    "timing.json",
    "report.html",
    "report.md",
    "report.json",
    "study.json",
    "trainer",
];

/// How names of half-done work end; they begin with a point.
const HALF_DONE: [&str; 4] = [".part", ".tmp", ".journal", ".partial"];

/// Refuses to clear `out` if anything that the recipe names lies in it.
///
/// Every text of the recipe that is the path of something is looked at, so that no key is forgotten.
///
/// # Errors
/// With the path, before anything is removed.
pub(crate) fn keep_inputs<T: Serialize>(recipe: &T, out: &Path) -> Result<()> {
    let recipe = serde_json::to_value(recipe).context("cannot write the recipe as JSON")?;
    let mut texts = Vec::new();
    collect(&recipe, &mut texts);
    keep_files(texts.into_iter().map(Path::new), out)
}

/// Refuses to clear `out` if one of these inputs lies in it.
///
/// # Errors
/// With the path, before anything is removed.
pub(crate) fn keep_files<'a>(inputs: impl Iterator<Item = &'a Path>, out: &Path) -> Result<()> {
    let Ok(whole) = out.canonicalize() else {
        return Ok(());
    };
    for input in inputs {
        // The folder itself is no input: a row may have its name.
        let lies_in_it = |path: PathBuf| path != whole && path.starts_with(&whole);
        if input.canonicalize().is_ok_and(lies_in_it) {
            return Err(Fault::new(
                format!(
                    "`{}` is read by this command and lies in `{}`, which --overwrite clears",
                    input.display(),
                    out.display()
                ),
                "pass another --out DIR, or put a copy of it elsewhere and name that",
            )
            .into());
        }
    }
    Ok(())
}

fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(map) => map.values().for_each(|item| collect(item, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Removes what the ledger of a run names, and half-done work; what else lies in the folder stays. Then
/// the ledger is nobody's, so that any recipe can take the folder. One that holds no run is left alone.
///
/// # Errors
/// If something cannot be removed.
pub(super) fn clear(out: &Path) -> Result<()> {
    let ledger = match Ledger::read(out) {
        Ok(None) => return Ok(()),
        Ok(Some(ledger)) => ledger,
        // A damaged one names nothing, and whoever makes a file anew replaces what is there.
        Err(_) => Ledger::nobodys(),
    };
    for path in ledger.stages.values().flat_map(|done| done.made.keys()) {
        let path = Path::new(path);
        // The ledger is a file that others may have written.
        let is_below = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if is_below && is_inside(out, path) {
            remove(&out.join(path))?;
            remove_empty_parents(out, path);
        }
    }
    for name in UNNAMED {
        remove(&out.join(name))?;
    }
    let reports = out.join("reports");
    for folder in [out.to_owned(), out.join("checkpoints")] {
        remove_half_done(&folder)?;
    }
    for row in folders_in(&reports)? {
        remove_half_done(&row)?;
        let _ = fs::remove_dir(&row);
    }
    let _ = fs::remove_dir(&reports);
    // The parts of a study are runs of their own.
    for folder in folders_in(out)? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if name == "rows" || name.starts_with("seed-") {
            clear(&folder)?;
        }
    }
    Ledger::nobodys().write(out)
}

/// Removes files of a run's own folder that a killed process has begun to write: some are not written a second time.
/// The folder's lock is held.
///
/// # Errors
/// If one cannot be removed.
pub(super) fn remove_half_written(out: &Path) -> Result<()> {
    for path in entries(out)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') && name.ends_with(".tmp") && path.is_file() {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Whether no folder on the way is a link that leads out.
fn is_inside(out: &Path, path: &Path) -> bool {
    let parent = out.join(path).parent().map(Path::canonicalize);
    match (parent, out.canonicalize()) {
        (Some(Ok(parent)), Ok(out)) => parent.starts_with(out),
        // There is nothing then.
        _ => false,
    }
}

fn remove_empty_parents(out: &Path, path: &Path) {
    for parent in path.ancestors().skip(1) {
        let is_top = parent.as_os_str().is_empty();
        if is_top || fs::remove_dir(out.join(parent)).is_err() {
            return;
        }
    }
}

fn remove_half_done(folder: &Path) -> Result<()> {
    for path in entries(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let hidden = name.starts_with('.') && HALF_DONE.iter().any(|end| name.ends_with(end));
        if hidden || name.starts_with(".state-") {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Folders, and no links to folders.
fn folders_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = entries(folder)?;
    found.retain(|path| path.symlink_metadata().is_ok_and(|about| about.is_dir()));
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot list `{}`", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error).with_context(cannot),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<Result<_, _>>().with_context(cannot)
}

/// Removes a file, a link or a folder, if it is there.
fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(error).with_context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}
