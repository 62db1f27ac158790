//! `leap recipe`: the built-in recipes and what is wrong with one's own.

use std::fs;

use anyhow::{Context, Result};
use protocol::Method;
use protocol::preset::Preset;

use super::ExitStatus;
use crate::cli::RecipeCommand;
use crate::evaluation::recipe::EvalRecipe;
use crate::fault::Fault;
use crate::generation::recipe::TracesRecipe;
use crate::output::Output;
use crate::presets;
use crate::recipe::RunRecipe;
use crate::recipes::{self, BUILT_IN, Source};
use crate::sample_recipe::SampleRecipe;
use crate::study::recipe::StudyRecipe;
use crate::train_recipe::{OPTIONAL_KEYS, TrainRecipe};

pub(super) fn run(command: RecipeCommand, output: &mut Output) -> Result<ExitStatus> {
    match command {
        RecipeCommand::Ls => {
            for (name, text) in BUILT_IN {
                let about = text
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .trim_start_matches("# ");
                output.data(&format!("{name:<16} {about}"));
            }
        }
        RecipeCommand::Cat { recipe } => output.data(&recipes::find(&recipe)?.text),
        RecipeCommand::Cp { recipe, to } => {
            let source = recipes::find(&recipe)?;
            if to.exists() {
                return Err(Fault::new(
                    format!("`{}` exists", to.display()),
                    "nothing is overwritten: choose another name",
                )
                .into());
            }
            fs::write(&to, source.text)
                .with_context(|| format!("cannot write `{}`", to.display()))?;
            output.data(&to.display().to_string());
        }
        RecipeCommand::Check { recipes } => return Ok(check(&recipes, output)),
        RecipeCommand::Presets => presets(output),
        RecipeCommand::Keys { recipe, prefix } => {
            let source = recipes::find(&recipe)?;
            let mut keys = recipes::keys(&source.text);
            let left_out = match (source.is_training(), source.has_presets()) {
                (true, _) => OPTIONAL_KEYS
                    .iter()
                    .map(|(key, value)| ((*key).to_string(), (*value).to_string()))
                    .collect(),
                (false, false) => Vec::new(),
                (false, true) => presets::keys()?
                    .into_iter()
                    .map(|(key, value)| {
                        let value = format!("{value}   # left out: from the preset `default`");
                        (key, value)
                    })
                    .collect::<Vec<_>>(),
            };
            for (key, value) in left_out {
                if !keys.iter().any(|(known, _)| *known == key) {
                    keys.push((key, value));
                }
            }
            for (key, value) in keys.iter().filter(|(key, _)| key.starts_with(&prefix)) {
                output.data(&format!("{key} = {value}"));
            }
        }
    }
    Ok(ExitStatus::Done)
}

fn presets(output: &mut Output) {
    for preset in Preset::ALL {
        let settings = preset.settings(Method::LeapT);
        output.data(&format!(
            "{}: N = {}, T = {}, k = {}, {} tokens, prompts {}",
            preset.name(),
            settings.paths,
            settings.turn_tokens,
            settings.peers,
            settings.max_tokens,
            preset.prompts()
        ));
        for line in preset.differences() {
            output.data(&format!("  {:<14} {}", line.key, line.why));
        }
    }
}

fn check_one(source: &Source, overrides: &[String]) -> Result<()> {
    match source.job().as_deref() {
        Some("eval") => source.resolve::<EvalRecipe>(overrides)?.check(),
        Some("data-gen samples") => source.resolve::<SampleRecipe>(overrides)?.check(),
        Some("data-gen traces") => source.resolve::<TracesRecipe>(overrides)?.check(),
        Some("train") => source.resolve::<TrainRecipe>(overrides)?.check(),
        Some("study") => source.resolve::<StudyRecipe>(overrides)?.whole()?.check(),
        _ => source.resolve::<RunRecipe>(overrides)?.check(),
    }
}

fn check(items: &[String], output: &mut Output) -> ExitStatus {
    let (overrides, names): (Vec<String>, Vec<String>) =
        items.iter().cloned().partition(|item| item.contains('='));
    let mut status = ExitStatus::Done;
    for name in &names {
        let checked = recipes::find(name).and_then(|source| check_one(&source, &overrides));
        match checked {
            Ok(()) => output.data(&format!("{name}: valid")),
            Err(error) => {
                output.error(&error);
                status = ExitStatus::AnswerIsNo;
            }
        }
    }
    status
}
