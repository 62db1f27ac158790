//! `leap data-gen problems`: rows of others to problems that can be trained on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result};
use data_gen::choices::{check_spread, shuffle};
use data_gen::collection::{Collection, collect_until, name, plain_answers};
use data_gen::contamination::Benchmarks;
use data_gen::import::{self, Columns, Imported};
use data_gen::left_out::{LeftOut, Why};
use data_gen::problems::{self, ProblemsError};
use data_gen::synthetic::Order;
use protocol::grade::AnswerKind;

use super::super::ExitStatus;
use super::super::hub::tables;
use crate::cli::{Kind, ProblemsArgs};
use crate::fault::Fault;
use crate::lock::Lock;
use crate::output::{Output, count};
use crate::road::write_records;
use crate::{interrupt, ledger};

/// Benchmark hits that are shown; the file has all of them.
const SHOWN: usize = 5;

pub(super) fn run(args: &ProblemsArgs, output: &mut Output) -> Result<ExitStatus> {
    interrupt::listen()?;
    let left_out_file = beside(&args.out)?;
    if args.out.exists() && !args.overwrite {
        return Err(exists(&args.out).into());
    }
    let _lock = Lock::output(&args.out)?;
    let before = before(&args.before)?;
    let Some(rows) = rows(args, output)? else {
        output.note("stopped: nothing was written");
        return Ok(ExitStatus::Interrupted);
    };
    let benchmarks = benchmarks(&args.against, output)?;
    let read = rows.len();
    let Some(mut made) = collect_until(rows, before, &benchmarks, &interrupt::asked) else {
        output.note("stopped: nothing was written");
        return Ok(ExitStatus::Interrupted);
    };
    if let Some(seed) = args.options_seed {
        shuffle(&mut made.problems, seed);
    }
    tell(&made, read, output);
    if made.problems.is_empty() {
        write_left_out(&left_out_file, &made.left_out, args.overwrite)?;
        output.note("no problem is left");
        if made.left_out.iter().any(|one| one.why == Why::Year) {
            output.hint("--before none keeps problems of every year");
        }
        output.data(&left_out_file.display().to_string());
        return Ok(ExitStatus::AnswerIsNo);
    }
    problems::check(&made.problems, &args.out).map_err(|error| match error {
        ProblemsError::Fault {
            fault: problems::Fault::Doubled,
            ..
        } => Fault::new(
            error.to_string(),
            "--id names a column with an id for each row; in a file whose columns have other names than \
             usual for ids, ids are made of what is asked",
        )
        .into(),
        error => anyhow::Error::new(error),
    })?;
    check_spread(&made.problems).map_err(|error| {
        Fault::new(
            error.to_string(),
            "--options-seed 1 puts the options of every question in an order of its own",
        )
    })?;
    // The problems last: when they are there, all is.
    write_left_out(&left_out_file, &made.left_out, args.overwrite)?;
    write_records(&args.out, &made.problems)?;
    output.data(&args.out.display().to_string());
    Ok(ExitStatus::Done)
}

/// Writes what was left out. A call that was cut off before the problems has left the same bytes there;
/// anything else is refused, unless it may be overwritten.
fn write_left_out(to: &Path, left_out: &[LeftOut], overwrite: bool) -> Result<()> {
    let mut bytes = Vec::new();
    for one in left_out {
        protocol::jsonl::write(&mut bytes, one)?;
    }
    match fs::read(to) {
        Ok(there) if there == bytes => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        _ if overwrite => {}
        _ => return Err(exists(to).into()),
    }
    ledger::write_whole(to, &bytes)
}

fn exists(file: &Path) -> Fault {
    Fault::new(
        format!("`{}` exists", file.display()),
        "nothing is overwritten: choose another name, or pass --overwrite",
    )
}

/// Where what was left out goes: `problems.left-out.jsonl`.
fn beside(out: &Path) -> Result<PathBuf> {
    if out.extension().is_none_or(|ending| ending != "jsonl") {
        return Err(Fault::new(
            format!("`{}` does not end with .jsonl", out.display()),
            "a problems file has one JSON object a line: --out problems.jsonl",
        )
        .into());
    }
    Ok(out.with_extension("left-out.jsonl"))
}

fn before(text: &str) -> Result<Option<u32>> {
    match text {
        "none" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| {
            Fault::new(
                format!("`--before {text}` is no year"),
                "write a year, such as 2024, or none",
            )
            .into()
        }),
    }
}

/// Rows of everything that was named, in this order: files, data sets, families. `None` if a download
/// was stopped.
fn rows(args: &ProblemsArgs, output: &mut Output) -> Result<Option<Vec<Imported>>> {
    let columns = Columns {
        id: args.id.clone(),
        problem: args.problem.clone(),
        answer: args.answer.clone(),
        choices: args.choices.clone(),
        kind: args.kind.map(|kind| match kind {
            Kind::Integer => AnswerKind::Integer,
            Kind::Math => AnswerKind::Math,
            Kind::Choice => AnswerKind::Choice,
        }),
    };
    let mut files = args.files.clone();
    for name in &args.hub {
        match tables(name, args.pattern.clone().into_iter().collect(), output)? {
            Some(found) => files.extend(found),
            None => return Ok(None),
        }
    }
    if files.is_empty() && args.synthetic.is_empty() {
        return Err(Fault::new(
            "there is nothing to make problems of",
            "name files, --hub OWNER/NAME, or --synthetic FAMILY=COUNT",
        )
        .into());
    }
    let mut all = Vec::new();
    for file in files {
        let mut rows = import::rows(std::slice::from_ref(&file), &columns)?;
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        for row in &mut rows {
            name(row, &stem);
        }
        plain_answers(&mut rows, columns.kind.is_some())
            .with_context(|| format!("`{}`", file.display()))?;
        output.step(
            "Reading",
            &format!("`{}`: {}", file.display(), count(rows.len(), "problem")),
        );
        all.extend(rows);
    }
    for text in &args.synthetic {
        let order: Order = text
            .parse()
            .map_err(|error: data_gen::synthetic::OrderError| {
                Fault::new(
                    error.to_string(),
                    "`leap data-gen problems --help` shows an example",
                )
            })?;
        let made = order
            .problems(args.seed)
            .with_context(|| format!("--synthetic {text}"))?;
        output.step("Making", &order.to_string());
        all.extend(made.into_iter().map(|problem| Imported {
            problem,
            id_given: true,
            year: None,
        }));
    }
    Ok(Some(all))
}

fn benchmarks(files: &[PathBuf], output: &mut Output) -> Result<Benchmarks> {
    let mut benchmarks = Benchmarks::default();
    for file in files {
        let rows = import::rows(std::slice::from_ref(file), &Columns::default())
            .with_context(|| format!("the benchmark `{}`", file.display()))?;
        let problems: Vec<_> = rows.into_iter().map(|row| row.problem).collect();
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        benchmarks.add(&stem, &problems);
        output.step(
            "Against",
            &format!("`{}`: {}", file.display(), count(problems.len(), "problem")),
        );
    }
    Ok(benchmarks)
}

fn tell(made: &Collection, read: usize, output: &mut Output) {
    let mut reasons: BTreeMap<Why, usize> = BTreeMap::new();
    for one in &made.left_out {
        *reasons.entry(one.why).or_default() += 1;
    }
    let reasons: Vec<String> = reasons
        .iter()
        .map(|(why, count)| format!("{count} {}", why.name()))
        .collect();
    let rest = match reasons.is_empty() {
        true => String::new(),
        false => format!("; left out: {}", reasons.join(", ")),
    };
    output.step(
        "Keeping",
        &format!(
            "{} of {}{rest}",
            made.problems.len(),
            count(read, "problem")
        ),
    );
    let hits: Vec<&LeftOut> = made
        .left_out
        .iter()
        .filter(|one| one.like.is_some() && one.why.is_contamination())
        .collect();
    for hit in hits.iter().take(SHOWN) {
        let Some(like) = &hit.like else { continue };
        let name = hit.benchmark.as_deref().unwrap_or_default();
        output.step(
            "Hit",
            &format!(
                "`{}` is {name} `{}` ({:.2})",
                hit.problem.id, like.id, hit.value
            ),
        );
        for told in [&hit.problem, like] {
            output.note(&format!("{:>12} {}", "|", shortened(&told.text)));
        }
    }
    if hits.len() > SHOWN {
        output.note(&format!(
            "{:>12} and {} more in the file",
            "",
            hits.len() - SHOWN
        ));
    }
}

/// The beginning of a text, in a line.
fn shortened(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(100) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}
