//! What a recipe leaves out of `[protocol]` and `prompts` comes from its preset.
//!
//! This happens on the table, before it is read: so the resolved recipe that is kept beside the
//! results has every key written out, and needs neither this build's presets nor a prompt file.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use protocol::preset::{OFFICIAL_PROMPTS, Preset};
use protocol::{Method, PromptSet};
use serde::Deserialize;
use toml::{Table, Value};

use crate::fault::Fault;
use crate::recipe::Protocol;
use crate::recipes;

/// Fills `[protocol]` from its preset, and replaces the name of a prompt set by the set.
///
/// # Errors
/// If there is no such preset or prompt set, or a prompt file cannot be read.
pub(crate) fn expand(recipe: &mut Table) -> Result<()> {
    let given = match recipe.remove("protocol") {
        None => Table::new(),
        Some(Value::Table(table)) => table,
        Some(_) => {
            return Err(Fault::new(
                "`protocol` is no table",
                "write its keys as protocol.paths=8, or below [protocol]",
            )
            .into());
        }
    };
    let preset = named(&given)?;
    let mut protocol = defaults(preset)?;
    overlay(&mut protocol, given);
    recipe.insert("protocol".into(), Value::Table(protocol));
    let prompts = recipe.remove("prompts");
    let prompts = match prompts.unwrap_or_else(|| preset.prompts().into()) {
        Value::String(name) => Value::try_from(prompt_set(&name)?)?,
        table => table,
    };
    recipe.insert("prompts".into(), prompts);
    Ok(())
}

/// The keys of `[protocol]` that a recipe may leave out, as dotted paths with what its preset stands for.
pub(crate) fn keys(preset: Preset) -> Result<Vec<(String, String)>> {
    fn walk(prefix: &str, table: &Table, found: &mut Vec<(String, String)>) {
        for (key, value) in table {
            let path = format!("{prefix}.{key}");
            match value {
                Value::Table(inner) => walk(&path, inner, found),
                value => found.push((path, value.to_string())),
            }
        }
    }
    let mut found = Vec::new();
    walk("protocol", &defaults(preset)?, &mut found);
    // Of all keys only this one has no default value.
    found.push(("protocol.turns".into(), "none".into()));
    Ok(found)
}

/// Refuses to leave out what no call could set.
fn is_known(key: &str) -> Result<()> {
    let keys = keys(Preset::Default)?;
    let names = keys.iter().map(|(name, _)| name.as_str());
    let below = format!("{key}.");
    if key == "prompts"
        || names
            .clone()
            .any(|name| name == key || name.starts_with(&below))
    {
        return Ok(());
    }
    let short = |name: &str| name.trim_start_matches("protocol.").to_owned();
    let known: Vec<String> = names.map(short).collect();
    Err(Fault::new(
        format!("there is no setting `{}` to leave out", short(key)),
        format!("known are prompts, {}", known.join(", ")),
    )
    .into())
}

/// Whether an override names a preset.
pub(crate) fn is_asked_for(item: &str) -> bool {
    let Some((key, value)) = item.split_once('=') else {
        return false;
    };
    matches!(key.trim(), "protocol.preset" | "preset") && !value.trim().is_empty()
}

/// The keys of `[protocol]` that a preset stands for.
fn defaults(preset: Preset) -> Result<Table> {
    let mut table = Table::try_from(preset.settings(Method::LeapT))?;
    table.remove("method");
    table.insert("preset".into(), preset.name().into());
    Ok(table)
}

/// The preset that a table of `[protocol]` names.
///
/// # Errors
/// If there is no such preset.
pub(crate) fn named(protocol: &Table) -> Result<Preset> {
    let Some(name) = protocol.get("preset") else {
        return Ok(Preset::Default);
    };
    let known = |preset: &Preset| Some(preset.name()) == name.as_str();
    Preset::ALL.into_iter().find(known).ok_or_else(|| {
        let names = Preset::ALL.map(Preset::name).join(", ");
        Fault::new(
            format!("there is no preset {name}"),
            format!("there are {names}; `leap recipe presets` shows what they stand for"),
        )
        .into()
    })
}

/// Puts what is given over what is there, table by table.
pub(crate) fn overlay(table: &mut Table, given: Table) {
    for (key, value) in given {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => overlay(inner, value),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

/// The built-in prompt set of this name, or the one in a TOML file.
///
/// # Errors
/// If there is neither, or the file is no prompt set.
pub(crate) fn prompt_set(name: &str) -> Result<PromptSet> {
    if name == "clean" {
        return Ok(PromptSet::clean());
    }
    if Path::new(name)
        .extension()
        .is_none_or(|ending| ending != "toml")
    {
        return Err(Fault::new(
            format!("there is no prompt set `{name}`"),
            "the built-in set is `clean`; a set of your own is a file that ends in .toml: begin \
             with `leap prompts cat clean`",
        )
        .into());
    }
    let text = std::fs::read_to_string(name).map_err(|error| {
        let missing = error.kind() == ErrorKind::NotFound && name == OFFICIAL_PROMPTS;
        let read = format!("cannot read the prompt set `{name}`: {error}");
        match missing {
            true => anyhow::Error::new(Fault::new(
                read,
                format!(
                    "the authors' wording is not part of this toolkit: `leap prompts import \
                     CHECKOUT -o {OFFICIAL_PROMPTS}` reads it from a checkout of their code; or \
                     take ours with prompts=clean"
                ),
            )),
            false => anyhow::anyhow!(read),
        }
    })?;
    let set: PromptSet = toml::from_str(&text).with_context(|| format!("prompt set `{name}`"))?;
    set.check()?;
    Ok(set)
}

/// The method of this name.
///
/// # Errors
/// If there is none.
pub(crate) fn method(name: &str) -> Result<Method> {
    let known = Method::ALL.into_iter().find(|method| method.name() == name);
    known.ok_or_else(|| {
        let names = Method::ALL.map(Method::name).join(", ");
        Fault::new(
            format!("there is no method `{name}`"),
            format!("choose one of {names}"),
        )
        .into()
    })
}

/// `[protocol]` and `prompts` of a command that has no recipe: `table`, edited by `key=value`.
///
/// # Errors
/// If a key or value is wrong, or a sentence cannot work.
pub(crate) fn of_call(mut table: Table, overrides: &[String]) -> Result<(Protocol, PromptSet)> {
    #[derive(Deserialize)]
    struct Given {
        protocol: Protocol,
        prompts: PromptSet,
    }
    for item in overrides {
        let Some((key, value)) = item.split_once('=') else {
            return Err(Fault::new(
                format!("`{item}` is no setting"),
                "write it as key=value, for instance router=random; key= without a value leaves a key \
                 out; a text of several words needs quotes",
            )
            .into());
        };
        let key = match key.trim() {
            "prompts" => "prompts".to_owned(),
            key => format!("protocol.{key}"),
        };
        match value.trim() {
            "" if recipes::remove(&mut table, &key) => {}
            "" => is_known(&key)?,
            value => recipes::set(&mut table, &key, recipes::parse_value(&key, value)?)?,
        }
    }
    expand(&mut table)?;
    let given: Given = recipes::read(&table, "what this call sets")?;
    given.prompts.check()?;
    Ok((given.protocol, given.prompts))
}
