//! `leap data-gen samples`: traces through filters into a training set and its control.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data_gen::filters::Filter;
use data_gen::training_set::{Account, Choice, Of, Pass, Plan, SetError, rounds};
use protocol::{Problem, Sample};

use super::super::ExitStatus;
use super::folder::{CONTROL, Folder, LEAP, Names, Report, SAMPLES, Writers};
use crate::cli::SamplesArgs;
use crate::output::{Output, count, size};
use crate::recipes::Gap;
use crate::sample_recipe::{ControlSize, SampleRecipe};
use crate::{interrupt, ledger, recipes};

pub(super) fn run(args: &SamplesArgs, output: &mut Output) -> Result<ExitStatus> {
    let source = recipes::find(&args.recipe)?;
    source.is_for("data-gen samples")?;
    let recipe: SampleRecipe = source.resolve(&args.overrides)?;
    recipe.check()?;
    Gap::refuse(recipe.gaps())?;
    let problems_file = recipe.problems.as_ref();
    let problems_file = problems_file.context("the recipe names no `problems`")?;
    let key = key(&recipe, problems_file)?;
    let mut to = match args.dry_run {
        true => None,
        false => Some(Folder::open(&args.out, args.overwrite, &key)?),
    };
    if to.as_ref().is_some_and(|folder| folder.finished) {
        output.note(&format!(
            "nothing to do: `{}` is finished",
            args.out.display()
        ));
        output.data(&args.out.join(SAMPLES).display().to_string());
        return Ok(ExitStatus::Done);
    }
    interrupt::listen()?;
    let problems = data_gen::problems::read(problems_file)?;
    let problems: BTreeMap<&str, &Problem> = problems
        .iter()
        .map(|problem| (problem.id.as_str(), problem))
        .collect();
    let work = Work {
        recipe: &recipe,
        problems: &problems,
    };
    match work.sets(key, to.as_mut(), output) {
        Ok(report) => conclude(args, &recipe, &report, to, output),
        Err(error) if matches!(error.downcast_ref(), Some(SetError::Stopped)) => {
            output.note("stopped: nothing was kept");
            output.hint("the same command begins again");
            Ok(ExitStatus::Interrupted)
        }
        Err(error) => Err(error),
    }
}

/// Everything that decides the result; files are in it by their contents.
fn key(recipe: &SampleRecipe, problems: &Path) -> Result<String> {
    let traces = recipe.traces.leap.iter().chain(&recipe.traces.control);
    let mut hashes = Vec::new();
    for file in [problems].into_iter().chain(traces.map(PathBuf::as_path)) {
        hashes.push(ledger::checked_hash(file)?);
    }
    let mut settings = recipe.clone();
    settings.problems = None;
    let counts = (settings.traces.leap.len(), settings.traces.control.len());
    settings.traces = Default::default();
    let hashes: Vec<&str> = hashes.iter().map(String::as_str).collect();
    ledger::key("samples", &(settings, counts, Sample::MAKING), &hashes)
}

struct Work<'a> {
    recipe: &'a SampleRecipe,
    problems: &'a BTreeMap<&'a str, &'a Problem>,
}

impl Work<'_> {
    fn sets(
        &self,
        key: String,
        mut to: Option<&mut Folder>,
        output: &mut Output,
    ) -> Result<Report> {
        let recipe = self.recipe;
        let leap = self.set(
            (&LEAP, Of::Exchange),
            &recipe.traces.leap,
            &recipe.leap,
            to.as_deref_mut(),
            output,
        )?;
        let taken = leap.taken();
        let leap = leap.finish();
        let (mut control, mut mixed_in) = (None, 0);
        if !recipe.traces.control.is_empty() {
            let choice = recipe.control.choice();
            let mut pass = self.set(
                (&CONTROL, Of::Independent),
                &recipe.traces.control,
                &choice,
                to.as_deref_mut(),
                output,
            )?;
            // The control is to be on the problems of LeaP-T, and on as many.
            if recipe.control.size == ControlSize::AsLeap {
                let stay = pass.deal(leap.samples as usize, &taken);
                if let Some(folder) = to.as_deref_mut() {
                    folder.leave(&CONTROL, &stay)?;
                }
            }
            let go = rounds(&pass.problems(), plain(recipe, &leap) as usize, &taken);
            mixed_in = go.iter().filter(|go| **go).count() as u64;
            if let Some(folder) = to.filter(|_| mixed_in > 0) {
                folder.mix(&go)?;
            }
            control = Some(pass.finish());
        }
        Ok(Report {
            version: 1,
            key,
            title: recipe.title.clone(),
            leap,
            control,
            mixed_in,
        })
    }

    fn set<'b>(
        &'b self,
        (names, of): (&Names, Of),
        files: &[PathBuf],
        choice: &'b Choice,
        to: Option<&mut Folder>,
        output: &mut Output,
    ) -> Result<Pass<'b>> {
        let mut pass = Pass::new(Plan {
            problems: self.problems,
            filters: &self.recipe.filters,
            choice,
            held_out: self.recipe.held_out,
            seed: self.recipe.seed,
            of,
        });
        let mut writers = match to {
            Some(folder) => Writers::create(folder, names)?,
            None => Writers::nowhere(),
        };
        let total: u64 = files
            .iter()
            .filter_map(|file| fs::metadata(file).ok())
            .map(|meta| meta.len())
            .sum();
        let mut progress = output.progress("Filtering", names.samples);
        let mut last = Default::default();
        for file in files {
            let name = || format!("`{}`", file.display());
            let from = BufReader::with_capacity(1 << 20, File::open(file).with_context(name)?);
            pass.read(from, &mut writers.sinks(), &mut |now| {
                last = now;
                let groups = format!("{} groups", now.groups);
                progress.show(
                    now.bytes / 1_000_000,
                    total.div_ceil(1_000_000),
                    "MB",
                    &groups,
                );
                match interrupt::asked() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })
            .map_err(|error| match error {
                SetError::Stopped => anyhow::Error::new(error),
                error => anyhow::Error::new(error).context(name()),
            })?;
        }
        writers.flush()?;
        progress.finish(&format!(
            "{}, {}",
            count(last.groups as usize, "group"),
            size(last.bytes)
        ));
        Ok(pass)
    }
}

/// Samples without exchange that make the share of the LeaP-T set that is asked for.
fn plain(recipe: &SampleRecipe, leap: &Account) -> u64 {
    let share = recipe.plain_share;
    (leap.samples as f64 * share / (1.0 - share)).round() as u64
}

fn conclude(
    args: &SamplesArgs,
    recipe: &SampleRecipe,
    report: &Report,
    to: Option<Folder>,
    output: &mut Output,
) -> Result<ExitStatus> {
    match args.json {
        true => output.data(&serde_json::to_string_pretty(report)?),
        false => {
            let mut sets = vec![("with exchange", &report.leap)];
            sets.extend(report.control.as_ref().map(|account| ("without", account)));
            for (name, account) in sets {
                output.note(&table(name, account));
            }
        }
    }
    if report.mixed_in > 0 {
        output.step(
            "Mixing",
            &format!(
                "{} without exchange in",
                count(report.mixed_in as usize, "sample")
            ),
        );
    }
    if report.mixed_in < plain(recipe, &report.leap) {
        let all = report.leap.samples + report.mixed_in;
        output.note(&format!(
            "warning: `plain_share` is {}, and {:.3} is reached: no more samples without exchange are there",
            recipe.plain_share,
            report.mixed_in as f64 / all.max(1) as f64
        ));
    }
    let Some(folder) = to else {
        return Ok(ExitStatus::Done);
    };
    folder.keep(recipe, report)?;
    if report.leap.samples == 0 {
        output.note("no path passes every required filter");
        output.hint(
            "the table counts what each filter rejects: `alone` are paths that it alone keeps out",
        );
        return Ok(ExitStatus::AnswerIsNo);
    }
    if !args.json {
        output.data(&args.out.join(SAMPLES).display().to_string());
    }
    Ok(ExitStatus::Done)
}

/// What each filter rejects.
fn table(name: &str, account: &Account) -> String {
    let share = |part: u64| 100.0 * part as f64 / account.paths.max(1) as f64;
    let mut lines = vec![
        format!(
            "\n{} paths {name}, in {} groups",
            account.paths, account.groups
        ),
        format!(
            "{:<14} {:>9} {:>9} {:>9}  required",
            "filter", "fails", "", "alone"
        ),
    ];
    for filter in Filter::ALL {
        let Some(rejections) = account.filters.get(&filter) else {
            continue;
        };
        lines.push(format!(
            "{:<14} {:>9} {:>8.1}% {:>9}  {}",
            filter.name(),
            rejections.fails,
            share(rejections.fails),
            rejections.alone,
            if rejections.required { "yes" } else { "" }
        ));
    }
    lines.push(format!(
        "{} paths pass ({:.1}%): {} samples to train on, {} held out, {} over the cap of a problem, {} over the \
         size of the set; {} problems",
        account.passed,
        share(account.passed),
        account.samples,
        account.held_out,
        account.over_cap,
        account.over_most,
        account.problems
    ));
    lines.join("\n")
}
