//! `leap recipe`: the built-in recipes and what is wrong with one's own.

use std::fs;
use std::path::Path;

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
use crate::recipes::{self, BUILT_IN, Gap, Source};
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
        // Line ends of two characters mean the same in TOML, and one of the two steers a terminal.
        RecipeCommand::Cat { recipe } => {
            output.data(&recipes::find(&recipe)?.text.replace("\r\n", "\n"));
        }
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
        RecipeCommand::Check { recipes } => return check(&recipes, output),
        RecipeCommand::Presets => presets(output),
        RecipeCommand::Keys { recipe, prefix } => {
            let source = recipes::find(&recipe)?;
            let keys = keys(&source)?;
            let asked: Vec<&(String, String)> = keys
                .iter()
                .filter(|(key, _)| key.starts_with(&prefix))
                .collect();
            if asked.is_empty() {
                return Err(Fault::new(
                    format!("no key of recipe `{recipe}` begins with `{prefix}`"),
                    format!("`leap recipe keys {recipe}` lists them all"),
                )
                .into());
            }
            for (key, value) in asked {
                let value = with_choices(value, &choices(&source, key)?);
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

/// All keys of a recipe with their values, those that it leaves out behind the others.
fn keys(source: &Source) -> Result<Vec<(String, String)>> {
    let mut keys = recipes::keys(&source.text);
    let left_out = match (source.is_training(), source.has_presets()) {
        (true, _) => OPTIONAL_KEYS
            .iter()
            .map(|(key, value)| ((*key).to_string(), (*value).to_string()))
            .collect(),
        (false, false) => Vec::new(),
        (false, true) => {
            let preset = source.preset()?;
            let from = format!("left out: from the preset `{}`", preset.name());
            let keys = presets::keys(preset)?.into_iter();
            keys.map(|(key, value)| (key, format!("{value}   # {from}")))
                .collect::<Vec<_>>()
        }
    };
    for (key, value) in left_out {
        if !keys.iter().any(|(known, _)| *known == key) {
            keys.push((key, value));
        }
    }
    Ok(keys)
}

/// The names that a key can have as its value. What a recipe is for is no choice.
fn choices(source: &Source, key: &str) -> Result<Vec<String>> {
    match source.job().as_deref() {
        _ if key == "job" => Ok(Vec::new()),
        Some("eval") => source.choices::<EvalRecipe>(key),
        Some("data-gen samples") => source.choices::<SampleRecipe>(key),
        Some("data-gen traces") => source.choices::<TracesRecipe>(key),
        Some("train") => source.choices::<TrainRecipe>(key),
        Some("study") => source.choices::<StudyRecipe>(key),
        _ => source.choices::<RunRecipe>(key),
    }
}

/// A value with its comment, and what else it could be, where that is not told there.
fn with_choices(value: &str, choices: &[String]) -> String {
    let named = |name: &String| value.contains(&format!("\"{name}\""));
    if choices.iter().all(named) {
        return value.to_owned();
    }
    let sign = match value.contains('#') {
        true => "; ",
        false => "   # ",
    };
    match choices {
        [all] => format!("{value}{sign}{all}"),
        names => format!("{value}{sign}one of {}", names.join(", ")),
    }
}

/// What the recipe leaves to the call, if nothing in it is wrong.
fn check_one(source: &Source, overrides: &[String]) -> Result<Vec<Gap>> {
    Ok(match source.job().as_deref() {
        Some("eval") => {
            let recipe: EvalRecipe = source.resolve(overrides)?;
            recipe.check_parts()?;
            recipe.gaps()
        }
        Some("data-gen samples") => {
            let recipe: SampleRecipe = source.resolve(overrides)?;
            recipe.check()?;
            recipe.gaps()
        }
        Some("data-gen traces") => {
            let recipe: TracesRecipe = source.resolve(overrides)?;
            recipe.check_parts()?;
            recipe.gaps()
        }
        Some("train") => {
            let recipe: TrainRecipe = source.resolve(overrides)?;
            recipe.check()?;
            recipe.gaps()
        }
        Some("study") => {
            let recipe: StudyRecipe = source.resolve(overrides)?;
            recipe.whole()?.check()?;
            Vec::new()
        }
        _ => {
            let recipe: RunRecipe = source.resolve(overrides)?;
            recipe.check_parts()?;
            recipe.gaps()
        }
    })
}

/// Whether an argument names a recipe, and is no `key=value`: `prompts=mine.toml` is one of these, and
/// `runs/lr=1/recipe.toml` is not.
fn is_recipe(item: &str) -> bool {
    let Some((key, _)) = item.split_once('=') else {
        return true;
    };
    let in_keys = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_key = key.trim().chars().all(in_keys);
    Path::new(item).exists() || (item.ends_with(".toml") && !is_key)
}

fn check(items: &[String], output: &mut Output) -> Result<ExitStatus> {
    let (names, overrides): (Vec<String>, Vec<String>) =
        items.iter().cloned().partition(|item| is_recipe(item));
    if names.is_empty() {
        return Err(Fault::new(
            "there is no recipe to be checked",
            "name one before key=value; `leap recipe ls` lists the built-in recipes",
        )
        .into());
    }
    let mut status = ExitStatus::Done;
    for name in &names {
        let checked = recipes::find(name).and_then(|source| check_one(&source, &overrides));
        match checked {
            Ok(gaps) if gaps.is_empty() => output.data(&format!("{name}: valid")),
            Ok(gaps) => {
                let given: Vec<&str> = gaps.iter().map(|gap| gap.argument).collect();
                output.data(&format!("{name}: valid; to be given: {}", given.join(" ")));
            }
            Err(error) => {
                output.error(&error);
                status = ExitStatus::AnswerIsNo;
            }
        }
    }
    Ok(status)
}
