//! `leap doctor`: what this machine can do, and what is missing.

use std::time::Duration;

use anyhow::Result;
use model::device::{DeviceSpec, Finding, Report, State};
use model::hub::{Client, HubError};
use model::self_check::{Extent, Identity, Verdict};
use serde_json::json;

use super::ExitStatus;
use crate::cli::DoctorArgs;
use crate::devices;
use crate::output::Output;

/// How long a hub may take to answer.
const PATIENCE: Duration = Duration::from_secs(8);

pub(super) fn run(args: &DoctorArgs, output: &mut Output) -> Result<ExitStatus> {
    let spec: Option<DeviceSpec> = args.check.as_deref().map(str::parse).transpose()?;
    let mut report = Report::of_this_machine();
    report.findings.extend(disk());
    if !args.offline {
        report.findings.push(hub());
    }
    if !args.json {
        for finding in &report.findings {
            output.data(&sentence(finding));
        }
    }
    let verdict = match spec {
        None => None,
        Some(spec) => Some(check(spec, args.brief, output)?),
    };
    if args.json {
        let all = json!({ "findings": report.findings, "check": verdict });
        output.data(&serde_json::to_string_pretty(&all)?);
    } else if let Some(verdict) = &verdict {
        let right = verdict.checks.iter().filter(|check| check.passed()).count();
        output.data(&format!(
            "{right} of {} operations are right; attention in training: {}",
            verdict.checks.len(),
            verdict.attention
        ));
    }
    let wrong = verdict.is_some_and(|verdict| verdict.broken().next().is_some());
    Ok(match wrong || report.lacks_something() {
        true => ExitStatus::AnswerIsNo,
        false => ExitStatus::Done,
    })
}

fn check(spec: DeviceSpec, brief: bool, output: &mut Output) -> Result<Verdict> {
    let device = spec.open()?;
    let identity = Identity::of(spec, &device);
    let extent = match brief {
        true => Extent::Brief,
        false => Extent::Full,
    };
    let verdict = devices::check(&device, identity, extent, output);
    if extent == Extent::Full && spec != DeviceSpec::Cpu {
        devices::keep(&verdict, output);
    }
    Ok(verdict)
}

fn sentence(finding: &Finding) -> String {
    let mark = match finding.state {
        State::Ready => "ok     ",
        State::Absent => "-      ",
        State::Missing => "MISSING",
    };
    let text = &finding.text;
    match &finding.remedy {
        None => format!("{mark} {:<5} {text}", finding.subject),
        Some(remedy) => format!("{mark} {:<5} {text}: {remedy}", finding.subject),
    }
}

#[cfg(unix)]
fn disk() -> Option<Finding> {
    let folder = std::env::current_dir().ok()?;
    let disk = rustix::fs::statvfs(&folder).ok()?;
    let free = disk.f_bavail * disk.f_frsize;
    let text = format!(
        "{} GiB free for runs and checkpoints in the current folder",
        free >> 30
    );
    // A 7B model in bf16 takes 15 GB.
    Some(match free >> 30 {
        0..5 => Finding::missing("disk", text, "make room, or work in another folder"),
        _ => Finding::ready("disk", text),
    })
}

#[cfg(not(unix))]
fn disk() -> Option<Finding> {
    None
}

fn hub() -> Finding {
    let client = match Client::from_environment() {
        Ok(client) => client,
        Err(HubError::Offline) => {
            let remedy = "unset it to use `leap pull`";
            return Finding::absent("hub", "HF_HUB_OFFLINE is set", remedy);
        }
        Err(error) => {
            let remedy = "see HF_ENDPOINT, HF_TOKEN and SSL_CERT_FILE";
            return Finding::missing("hub", error.to_string(), remedy);
        }
    };
    let endpoint = client.endpoint().to_owned();
    match client.reach(PATIENCE) {
        Ok(status) if status < 500 => {
            let token = match client.has_token() {
                true => "with a token",
                false => "without a token, which public repositories do not need",
            };
            Finding::ready("hub", format!("{endpoint} answers, {token}"))
        }
        Ok(status) => Finding::absent(
            "hub",
            format!("{endpoint} answers with status {status}"),
            "try later, or name another one in HF_ENDPOINT",
        ),
        Err(reason) => Finding::absent(
            "hub",
            format!("{endpoint} cannot be reached ({reason})"),
            "name a mirror in HF_ENDPOINT, a proxy in HTTPS_PROXY, authorities in SSL_CERT_FILE; \
             local checkpoints need no hub",
        ),
    }
}
