//! Stage 1: problems from files or the synthetic family, in one file, train before test.

use anyhow::{Context, Result};
use protocol::{Problem, Stream};

use super::{Flow, Road, read_records, write_records};
use crate::fault::Fault;
use crate::ledger;
use crate::recipe::{ProblemSet, RunRecipe};

/// The file this stage makes.
pub(crate) const FILE: &str = "problems.jsonl";

/// Training and test problems, as the stage wrote them.
pub(crate) struct Splits {
    pub(crate) train: Vec<Problem>,
    pub(crate) test: Vec<Problem>,
}

pub(super) fn stage(road: &mut Road<'_>, worked: &mut bool) -> Result<Flow> {
    let recipe = road.recipe;
    let mut reads = Vec::new();
    for set in [&recipe.problems.train, &recipe.problems.test] {
        if let Some(file) = &set.file {
            let hash = ledger::hash_of(file)
                .with_context(|| format!("cannot read the problems file `{}`", file.display()))?;
            reads.push(hash);
        }
    }
    let reads: Vec<&str> = reads.iter().map(String::as_str).collect();
    // The files are in the key by their contents, wherever they lie.
    let families = (&recipe.problems.search, &recipe.problems.sum);
    let counts = (recipe.problems.train.count, recipe.problems.test.count);
    let settings = (recipe.seed, families, counts);
    road.stage("problems", &settings, &reads, &[FILE], worked, |road, _| {
        let splits = make(road.recipe)?;
        let mut all = splits.train;
        let train = all.len();
        all.extend(splits.test);
        write_records(&road.out.join(FILE), &all)?;
        road.output.step(
            "Problems",
            &format!("{train} to train on, {} to test", all.len() - train),
        );
        Ok(Flow::Done)
    })
}

/// Whether the problems can be read or made.
pub(super) fn check(recipe: &RunRecipe) -> Result<()> {
    make(recipe).map(drop)
}

/// The problems of the run, split again.
pub(crate) fn read(road: &Road<'_>) -> Result<Splits> {
    let all: Vec<Problem> = read_records(&road.out.join(FILE))?;
    let (train, test) = all
        .into_iter()
        .partition(|problem| problem.split.as_deref() == Some(TRAIN));
    Ok(Splits { train, test })
}

const TRAIN: &str = "train";
const TEST: &str = "test";

fn make(recipe: &RunRecipe) -> Result<Splits> {
    let problems = &recipe.problems;
    let wanted = |set: &ProblemSet| if set.file.is_some() { 0 } else { set.count };
    let counts = [
        (TRAIN, wanted(&problems.train)),
        (TEST, wanted(&problems.test)),
    ];
    let stream = Stream::of_run(recipe.seed).named("problems");
    let mut synthetic = match (&problems.search, &problems.sum) {
        (Some(family), _) => family.splits(&counts, &stream)?,
        (_, Some(family)) => family.splits(&counts, &stream)?,
        (None, None) => vec![Vec::new(), Vec::new()],
    };
    let mut pick = |set: &ProblemSet, index: usize, name: &str| -> Result<Vec<Problem>> {
        let mut found = match &set.file {
            Some(file) => {
                let mut found = data_gen::problems::read(file)?;
                if set.count > 0 {
                    found.truncate(set.count);
                }
                found
            }
            None => std::mem::take(&mut synthetic[index]),
        };
        for problem in &mut found {
            problem.split = Some(name.to_string());
        }
        Ok(found)
    };
    let splits = Splits {
        train: pick(&problems.train, 0, TRAIN)?,
        test: pick(&problems.test, 1, TEST)?,
    };
    disjoint(&splits)?;
    Ok(splits)
}

/// No problem may be trained on and tested, by id or by text.
fn disjoint(splits: &Splits) -> Result<()> {
    for test in &splits.test {
        let same = |train: &&Problem| {
            train.id == test.id || train.question.text.trim() == test.question.text.trim()
        };
        if let Some(train) = splits.train.iter().find(same) {
            return Err(Fault::new(
                format!(
                    "test problem `{}` is training problem `{}`",
                    test.id, train.id
                ),
                "take it out of one of the two files",
            )
            .into());
        }
    }
    Ok(())
}
