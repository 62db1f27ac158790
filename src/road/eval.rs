//! Stage 7: each row's groups on the test problems, and their scores.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::{Context, Result};
use infer::score;
use protocol::{Problem, Trace};

use super::traces::Groups;
use super::{Flow, Road, checkpoint_path, problems, read_records};
use crate::ledger;
use crate::recipe::{Row, Trained};

/// Where a row's groups lie.
pub(crate) fn groups_file(row: &Row) -> String {
    format!("reports/{}/groups.jsonl", row.name)
}

/// Where a row's scores lie.
pub(crate) fn summary_file(row: &Row) -> String {
    format!("reports/{}/summary.json", row.name)
}

pub(super) fn stages(road: &mut Road<'_>, worked: &mut bool) -> Result<Flow> {
    let recipe = road.recipe;
    for row in &recipe.eval.rows {
        let (name, groups, summary) = (
            format!("evaluate {}", row.name),
            groups_file(row),
            summary_file(row),
        );
        let base = road.base_hash();
        let trained = checkpoint_path(row.checkpoint.name());
        let checkpoint = if row.checkpoint == Trained::Base {
            &base
        } else {
            &trained
        };
        let settings = (
            recipe.seed,
            &recipe.protocol,
            &recipe.prompts,
            &recipe.engine,
        );
        let settings = (settings, recipe.model.dtype, row.method, recipe.eval.groups);
        let reads = [problems::FILE, checkpoint.as_str()];
        let flow = road.stage(&name, &settings, &reads, &[&groups], worked, |road, key| {
            run(road, &name, row, key)
        })?;
        if flow == Flow::Stopped {
            return Ok(flow);
        }
        let reads = [problems::FILE, groups.as_str()];
        let flow = road.stage(
            &format!("score {}", row.name),
            &(row, &recipe.protocol),
            &reads,
            &[&summary],
            worked,
            |road, _| grade(road, row),
        )?;
        if flow == Flow::Stopped {
            return Ok(flow);
        }
    }
    Ok(Flow::Done)
}

fn run(road: &mut Road<'_>, name: &str, row: &Row, key: &str) -> Result<Flow> {
    let test = problems::read(road)?.test;
    let test: Vec<&Problem> = test.iter().collect();
    let folder = folder_of(road, row.checkpoint);
    let vocab = road.vocab()?;
    let mut engine = road.local_engine(&folder, &vocab)?;
    let model = match row.checkpoint {
        Trained::Base => road.base_hash(),
        trained => road.hash(&checkpoint_path(trained.name())).to_string(),
    };
    let settings = road.recipe.protocol.settings(row.method);
    let groups = Groups {
        what: name,
        // All rows draw the same noise, so that their differences are less noisy.
        stream: "evaluate",
        problems: &test,
        groups: road.recipe.eval.groups,
        file: &road.out.join(groups_file(row)),
        key,
        settings: &|_| settings.clone(),
    };
    groups.run(road, &mut engine, &vocab, model)
}

fn folder_of(road: &Road<'_>, checkpoint: Trained) -> PathBuf {
    match checkpoint {
        Trained::Base => road.base_folder(),
        trained => road.out.join(checkpoint_path(trained.name())),
    }
}

fn grade(road: &mut Road<'_>, row: &Row) -> Result<Flow> {
    let test = problems::read(road)?.test;
    let traces: Vec<Trace> = read_records(&road.out.join(groups_file(row)))?;
    let about = score::Row {
        name: row.title.clone(),
        title: format!(
            "{} checkpoint, method {}",
            row.checkpoint.name(),
            row.method.name()
        ),
        settings: Some(road.recipe.protocol.settings(row.method)),
    };
    let summary = score::score(&about, &test, traces.into_iter())
        .with_context(|| format!("cannot score `{}`", groups_file(row)))?;
    let text = serde_json::to_string_pretty(&summary)? + "\n";
    ledger::write_whole(&road.out.join(summary_file(row)), text.as_bytes())?;
    Ok(Flow::Done)
}

/// The scores of a row.
pub(crate) fn read_summary(road: &Road<'_>, row: &Row) -> Result<score::Summary> {
    let path = road.out.join(summary_file(row));
    let name = || format!("`{}`", path.display());
    let file = File::open(&path).with_context(name)?;
    serde_json::from_reader(BufReader::new(file)).with_context(name)
}
