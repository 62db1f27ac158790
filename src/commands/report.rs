//! `leap report`: what a run or an evaluation came to, alone or against another one.

use anyhow::Result;
use infer::report::{self, Report};

use super::ExitStatus;
use crate::cli::{ReportArgs, ReportFormat};
use crate::fault::Fault;
use crate::ledger;
use crate::output::Output;
use crate::results::Results;

pub(super) fn run(args: &ReportArgs, output: &mut Output) -> Result<ExitStatus> {
    let format = format(args)?;
    let found = Results::open(&args.folder)?;
    if !found.is_finished() {
        output.note("this run is not finished: only rows that have scores are shown");
    }
    let against = args.against.as_deref().map(Results::open).transpose()?;
    let report = found.report(against.as_ref())?;
    let text = written(&report, format);
    match &args.out {
        Some(out) => {
            ledger::write_whole(out, text.as_bytes())?;
            output.step("Report", &out.display().to_string());
        }
        None => output.data(&text),
    }
    Ok(ExitStatus::Done)
}

fn format(args: &ReportArgs) -> Result<ReportFormat> {
    let ending = args.out.as_ref().and_then(|out| out.extension());
    let ending = ending.map(|ending| ending.to_string_lossy().into_owned());
    match (args.format, ending.as_deref()) {
        (Some(format), _) => Ok(format),
        (None, Some("html" | "htm")) => Ok(ReportFormat::Html),
        (None, Some("md")) => Ok(ReportFormat::Markdown),
        (None, Some("json")) => Ok(ReportFormat::Json),
        (None, Some("txt")) => Ok(ReportFormat::Text),
        (None, None) if args.out.is_none() => Ok(ReportFormat::Text),
        (None, _) => Err(Fault::new(
            "the ending of --out tells no format",
            "end it in .html, .md, .json or .txt, or say --format",
        )
        .into()),
    }
}

fn written(report: &Report, format: ReportFormat) -> String {
    match format {
        ReportFormat::Text => report::text(report),
        ReportFormat::Markdown => report::document(report),
        ReportFormat::Json => report::json(&report.rows, &report.comparisons),
        ReportFormat::Html => report::html(report),
    }
}
