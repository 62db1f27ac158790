//! `leap prompts`: the sentences of the protocol, ours, one's own and the authors'.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result};
use data_gen::official::{self, OfficialError};
use protocol::PromptSet;

use super::ExitStatus;
use crate::cli::PromptsCommand;
use crate::fault::Fault;
use crate::output::Output;
use crate::presets;

/// The file with the sentences, below a checkout of the authors' code.
const PROMPTS: &str = "leap/prompts.py";
/// The file with what a lonely path reads.
const UTIL: &str = "leap/utils/util.py";

pub(super) fn run(command: PromptsCommand, output: &mut Output) -> Result<ExitStatus> {
    match command {
        PromptsCommand::Cat { set } => {
            let set = presets::prompt_set(&set)?;
            output.data(&toml::to_string_pretty(&set)?);
        }
        PromptsCommand::Check { sets } => return Ok(check(&sets, output)),
        PromptsCommand::Import { checkout, out } => import(&checkout, &out, output)?,
    }
    Ok(ExitStatus::Done)
}

fn check(sets: &[String], output: &mut Output) -> ExitStatus {
    let mut status = ExitStatus::Done;
    for name in sets {
        match presets::prompt_set(name) {
            Ok(_) => output.data(&format!("{name}: valid")),
            Err(error) => {
                output.error(&error);
                status = ExitStatus::AnswerIsNo;
            }
        }
    }
    status
}

fn import(checkout: &Path, out: &Path, output: &mut Output) -> Result<()> {
    let path = checkout.join(PROMPTS);
    let prompts = fs::read_to_string(&path).map_err(|error| {
        Fault::new(
            format!("cannot read `{}`: {error}", path.display()),
            "give the folder of a checkout of github.com/tongxuluo/LeaP at commit 589ff64",
        )
    })?;
    let path = checkout.join(UTIL);
    let util = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            output.note(&format!(
                "`{}` is not there: what a path reads when it is alone stays our wording",
                path.display()
            ));
            None
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read `{}`", path.display()));
        }
    };
    let set = official::prompt_set(&prompts, util.as_deref()).map_err(|error| {
        let hint = match error {
            OfficialError::Changed { .. } => {
                "check out commit 589ff64: only its wording is what published numbers were made with"
            }
            _ => "this does not look like the authors' leap/prompts.py",
        };
        Fault::new(error.to_string(), hint)
    })?;
    write_new(out, &set)?;
    output.note(
        "its worked examples are problem I-1 of AIME 2025 and item 0 of GPQA Diamond: leave both \
         out of what you report",
    );
    output.data(&out.display().to_string());
    Ok(())
}

fn write_new(out: &Path, set: &PromptSet) -> Result<()> {
    let text = toml::to_string_pretty(set)?;
    let file = OpenOptions::new().write(true).create_new(true).open(out);
    let mut file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Fault::new(
                format!("`{}` exists", out.display()),
                "nothing is overwritten: choose another name",
            )
            .into());
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot write `{}`", out.display()));
        }
    };
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write `{}`", out.display()))
}
