//! `leap grade`: rows of answers, read and compared.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result};
use protocol::grade::row::Row;
use protocol::jsonl;

use super::ExitStatus;
use crate::cli::GradeArgs;
use crate::output::Output;

pub(super) fn run(args: &GradeArgs, output: &mut Output) -> Result<ExitStatus> {
    let name = args.jsonl.display();
    let from: Box<dyn Read> = match args.jsonl == Path::new("-") {
        true => Box::new(std::io::stdin()),
        false => Box::new(
            File::open(&args.jsonl).with_context(|| format!("cannot read the rows `{name}`"))?,
        ),
    };
    let rows: Vec<Row> =
        jsonl::read(BufReader::new(from)).with_context(|| format!("cannot grade `{name}`"))?;
    // All or nothing: rows that are printed are those of the whole file.
    let mut lines = Vec::with_capacity(rows.len());
    for (number, row) in rows.iter().enumerate() {
        let verdict = row
            .grade()
            .with_context(|| format!("cannot grade row {} of `{name}`", number + 1))?;
        lines.push(serde_json::to_string(&verdict)?);
    }
    if !lines.is_empty() {
        output.data(&lines.join("\n"));
    }
    Ok(ExitStatus::Done)
}
