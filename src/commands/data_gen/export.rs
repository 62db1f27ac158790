//! `leap data-gen export`: samples for trainers of others, with a card.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data_gen::export::card::Card;
use data_gen::export::messages::Template;
use data_gen::export::tokens::TokenWriter;
use data_gen::inspect::Counts;
use protocol::{Vocab, jsonl};
use serde::Deserialize;
use serde_json::Value;

use super::super::ExitStatus;
use super::folder::{HELD_OUT, REPORT, Report, SAMPLES};
use super::{tokenizer, weight};
use crate::cli::{ExportArgs, ExportForm};
use crate::fault::Fault;
use crate::lock::Lock;
use crate::output::{Output, count};
use crate::{ledger, sample_file};

/// Trains on exported ids with TRL.
const SCRIPT: &str = include_str!("../../../scripts/train_trl.py");

/// What is exported.
struct Source {
    samples: PathBuf,
    held_out: Option<PathBuf>,
    /// Of a folder of `leap data-gen samples`.
    report: Option<Report>,
    /// Samples without exchange among them.
    mixed_in: u64,
}

/// `samples-report.json` of `leap run`, whose accounts are of another form.
#[derive(Deserialize)]
struct RunReport {
    #[serde(rename = "fill")]
    _fill: Value,
    mixed_in: u64,
}

pub(super) fn run(args: &ExportArgs, output: &mut Output) -> Result<ExitStatus> {
    if args.out.exists() {
        return Err(Fault::new(
            format!("`{}` exists", args.out.display()),
            "nothing is overwritten: choose another folder with --out",
        )
        .into());
    }
    let _lock = Lock::output(&args.out)?;
    let source = Source::find(&args.samples)?;
    let name = || format!("`{}`", source.samples.display());
    for file in [Some(&source.samples), source.held_out.as_ref()]
        .into_iter()
        .flatten()
    {
        ledger::check_listed(file)?;
    }
    let first = sample_file::records(&source.samples)?.next();
    let Some(first) = first.transpose()? else {
        return Err(Fault::new(
            format!("{} holds no sample", name()),
            "`leap data-gen samples` says which filter rejects what",
        )
        .into());
    };
    let vocab = tokenizer(&first.tokenizer, args.tokenizer.as_deref())?;
    // Under another name until all of it is there.
    let part = args.out.with_file_name(format!(
        ".{}.part",
        args.out.file_name().unwrap_or_default().to_string_lossy()
    ));
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("cannot remove `{}`", part.display()))?;
    }
    fs::create_dir_all(&part).with_context(|| format!("cannot make `{}`", part.display()))?;
    let ending = match args.form {
        ExportForm::Tokens => "parquet",
        ExportForm::Messages => "jsonl",
    };
    let mut files = Vec::new();
    let mut counted = Vec::new();
    for (split, from) in [
        ("train", Some(&source.samples)),
        ("test", source.held_out.as_ref()),
    ] {
        let Some(from) = from else { continue };
        let file = format!("{split}.{ending}");
        let counts = write(from, &part.join(&file), args, vocab.as_ref())
            .with_context(|| format!("cannot export `{}`", from.display()))?;
        output.step(
            "Writing",
            &format!("{file}: {}", count(counts.samples as usize, "sample")),
        );
        files.push((split, file));
        counted.push(counts);
    }
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(split, file)| (*split, file.as_str()))
        .collect();
    let card = Card {
        title: source
            .report
            .as_ref()
            .map_or("LeaP samples", |report| &report.title),
        tokenizer: vocab.hash(),
        toolkit: env!("LEAP_VERSION"),
        files: &files,
        ids: args.form == ExportForm::Tokens,
        counts: &counted[0],
        held_out: counted.get(1).map_or(0, |counts| counts.samples),
        mixed_in: source.mixed_in,
        account: source.report.as_ref().map(|report| &report.leap),
    };
    ledger::write_whole(&part.join("README.md"), card.text().as_bytes())?;
    if args.form == ExportForm::Tokens {
        ledger::write_whole(&part.join("train_trl.py"), SCRIPT.as_bytes())?;
    }
    fs::rename(&part, &args.out)
        .with_context(|| format!("cannot make `{}`", args.out.display()))?;
    output.data(&args.out.display().to_string());
    Ok(ExitStatus::Done)
}

impl Source {
    fn find(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Ok(Self {
                samples: path.to_owned(),
                held_out: None,
                report: None,
                mixed_in: 0,
            });
        }
        let report = path.join(REPORT);
        let text = fs::read_to_string(&report).map_err(|error| {
            Fault::new(
                format!("cannot read `{}`: {error}", report.display()),
                "give a folder that `leap data-gen samples` or `leap run` has finished, or a samples \
                 file",
            )
        })?;
        if let Ok(RunReport { mixed_in, .. }) = serde_json::from_str(&text) {
            return Ok(Self {
                samples: path.join(SAMPLES),
                held_out: None,
                report: None,
                mixed_in,
            });
        }
        let report: Report = serde_json::from_str(&text)
            .with_context(|| format!("`{}` is damaged", report.display()))?;
        Ok(Self {
            samples: path.join(SAMPLES),
            held_out: (report.leap.held_out > 0).then(|| path.join(HELD_OUT)),
            mixed_in: report.mixed_in,
            report: Some(report),
        })
    }
}

fn write(from: &Path, to: &Path, args: &ExportArgs, vocab: &dyn Vocab) -> Result<Counts> {
    let weight = weight(args.train_on);
    let mut counts = Counts::default();
    match args.form {
        ExportForm::Tokens => {
            let mut writer = TokenWriter::create(to, vocab.hash())?;
            for sample in sample_file::records(from)? {
                let sample = sample?;
                counts.add(&sample, &weight);
                writer.write(&sample, &|kind| weight(kind) > 0.0)?;
            }
            writer.finish()?;
        }
        ExportForm::Messages => {
            let template = Template::of(vocab)?;
            let mut file = BufWriter::new(File::create(to)?);
            for sample in sample_file::records(from)? {
                let sample = sample?;
                counts.add(&sample, &weight);
                jsonl::write(&mut file, &template.conversation(&sample, vocab)?)?;
            }
            file.flush()?;
        }
    }
    Ok(counts)
}
