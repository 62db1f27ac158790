//! Recipes as text: the built-in ones, overrides, and errors that name the nearest key.

use std::path::Path;

use anyhow::{Context, Result};
use protocol::Similarity;
use protocol::preset::Preset;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use crate::fault::Fault;
use crate::presets;

/// The recipes in the binary: name and text.
pub(crate) const BUILT_IN: &[(&str, &str)] = &[
    ("tiny", include_str!("../recipes/tiny.toml")),
    ("micro", include_str!("../recipes/micro.toml")),
    ("table2-mini", include_str!("../recipes/table2-mini.toml")),
    ("smollm2", include_str!("../recipes/smollm2.toml")),
    ("search", include_str!("../recipes/search.toml")),
    ("aime24", include_str!("../recipes/aime24.toml")),
    ("aime25", include_str!("../recipes/aime25.toml")),
    ("aimo25", include_str!("../recipes/aimo25.toml")),
    ("gpqa", include_str!("../recipes/gpqa.toml")),
    ("table1", include_str!("../recipes/table1.toml")),
    ("table2", include_str!("../recipes/table2.toml")),
    ("table2-1.5b", include_str!("../recipes/table2-1.5b.toml")),
    ("table2-7b", include_str!("../recipes/table2-7b.toml")),
    ("table2-14b", include_str!("../recipes/table2-14b.toml")),
    ("leap-s", include_str!("../recipes/leap-s.toml")),
    ("moa", include_str!("../recipes/moa.toml")),
    ("ablation-t", include_str!("../recipes/ablation-t.toml")),
    ("ablation-k", include_str!("../recipes/ablation-k.toml")),
    ("trap", include_str!("../recipes/trap.toml")),
    ("leap-t-1.5b", include_str!("../recipes/leap-t-1.5b.toml")),
    ("leap-t-7b", include_str!("../recipes/leap-t-7b.toml")),
    ("leap-t-14b", include_str!("../recipes/leap-t-14b.toml")),
    (
        "leap-t-1.5b-lora",
        include_str!("../recipes/leap-t-1.5b-lora.toml"),
    ),
    (
        "leap-t-7b-lora",
        include_str!("../recipes/leap-t-7b-lora.toml"),
    ),
    (
        "leap-t-14b-lora",
        include_str!("../recipes/leap-t-14b-lora.toml"),
    ),
    ("control-1.5b", include_str!("../recipes/control-1.5b.toml")),
    ("control-7b", include_str!("../recipes/control-7b.toml")),
    ("control-14b", include_str!("../recipes/control-14b.toml")),
    (
        "leap-t-samples",
        include_str!("../recipes/leap-t-samples.toml"),
    ),
    (
        "leap-t-samples-strict",
        include_str!("../recipes/leap-t-samples-strict.toml"),
    ),
    (
        "teacher-simulated",
        include_str!("../recipes/teacher-simulated.toml"),
    ),
    (
        "leap-t-teacher-32b",
        include_str!("../recipes/leap-t-teacher-32b.toml"),
    ),
    ("sft-tiny", include_str!("../recipes/sft-tiny.toml")),
    ("sft-smollm2", include_str!("../recipes/sft-smollm2.toml")),
];

/// A recipe before it is checked.
pub(crate) struct Source {
    /// Its name: the built-in name, or the file's name without ending.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
}

/// The built-in recipe of this name, or the file at this path.
///
/// # Errors
/// If there is neither; with the nearest name.
pub(crate) fn find(name: &str) -> Result<Source> {
    if let Some((name, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return Ok(Source {
            name: (*name).to_string(),
            text: (*text).to_string(),
        });
    }
    let path = Path::new(name);
    if path.extension().is_some_and(|ending| ending == "toml") || path.exists() {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the recipe `{name}`"))?;
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        return Ok(Source { name: stem, text });
    }
    let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    let hint = match nearest(name, &names) {
        Some(near) => format!("did you mean `{near}`? `leap recipe ls` lists them all"),
        None => "`leap recipe ls` lists the built-in recipes; a file needs the ending .toml".into(),
    };
    Err(Fault::new(format!("there is no recipe `{name}`"), hint).into())
}

impl Source {
    /// Whether it is for `leap train`; text that is no TOML is not.
    pub(crate) fn is_training(&self) -> bool {
        let table: Option<Table> = self.text.parse().ok();
        table.is_some_and(|table| is_training(&table))
    }

    /// Whether its recipe has a protocol, which a preset completes; text that is no TOML has none.
    pub(crate) fn has_presets(&self) -> bool {
        let table: Option<Table> = self.text.parse().ok();
        table.is_some_and(|table| has_presets(&table))
    }

    /// Applies `key=value` overrides, of which one without a value takes its key out, and reads the
    /// result as `T`.
    ///
    /// # Errors
    /// If the text is no TOML, an override has no `=`, or a key is unknown or has a wrong type.
    pub(crate) fn resolve<T: DeserializeOwned>(&self, overrides: &[String]) -> Result<T> {
        let mut table = self.table()?;
        let presets = has_presets(&table);
        // A preset asked for in the call replaces what the recipe says; other keys go over it.
        if presets && overrides.iter().any(|item| presets::is_asked_for(item)) {
            table.remove("protocol");
            table.remove("prompts");
        }
        for item in overrides {
            let (key, value) = item.split_once('=').ok_or_else(|| {
                Fault::new(
                    format!("`{item}` is no override"),
                    "write it as key=value, for instance seed=2; key= without a value leaves the \
                     key out",
                )
            })?;
            match (key.trim(), value.trim()) {
                (key, "") => self.leave_out::<T>(&mut table, key)?,
                (key, value) => set(&mut table, key, parse_value(key, value)?)?,
            }
        }
        if presets {
            presets::expand(&mut table)?;
        }
        read(&table, &format!("recipe `{}`", self.name))
    }

    /// Takes a key out. One that is not there must at least be a key that could be.
    fn leave_out<T: DeserializeOwned>(&self, table: &mut Table, key: &str) -> Result<()> {
        if remove(table, key) {
            return Ok(());
        }
        if let (Some(run), true) = (table.get("run"), key.starts_with("road.")) {
            return Err(Fault::new(
                format!("`{key}` cannot be left out: it is not here, but in recipe {run}"),
                "write the recipe that `run` names below [road] in a file of your own, without it",
            )
            .into());
        }
        let mut probe = table.clone();
        set(&mut probe, key, Value::String(String::new()))?;
        if has_presets(&probe) && presets::expand(&mut probe).is_err() {
            return Ok(());
        }
        match parse::<T>(&probe)? {
            Err(fault) if unknown_field(&fault.message).is_some() => {
                Err(fault.of(&format!("recipe `{}`", self.name), &probe).into())
            }
            _ => Ok(()),
        }
    }

    /// The names that a key can have as its value, if it is a choice between names; or one text that says
    /// what it can be.
    pub(crate) fn choices<T: DeserializeOwned>(&self, key: &str) -> Result<Vec<String>> {
        let mut table = self.table()?;
        // No key has this as a name.
        set(&mut table, key, Value::String("?".to_owned()))?;
        if has_presets(&table) && presets::expand(&mut table).is_err() {
            return Ok(Vec::new());
        }
        let fault = parse::<T>(&table)?.err();
        Ok(fault
            .and_then(|fault| variants(&fault.message))
            .unwrap_or_default())
    }

    /// The preset that completes its protocol.
    pub(crate) fn preset(&self) -> Result<Preset> {
        let table = self.table()?;
        match table.get("protocol").and_then(Value::as_table) {
            Some(protocol) => presets::named(protocol),
            None => Ok(Preset::Default),
        }
    }

    fn table(&self) -> Result<Table> {
        let table = self.text.parse();
        table.map_err(|error: toml::de::Error| self.fault(&error.to_string(), "").into())
    }

    /// What the recipe is for: its `job`, if it is TOML that says so.
    pub(crate) fn job(&self) -> Option<String> {
        let table: Table = self.text.parse().ok()?;
        Some(table.get("job")?.as_str()?.to_owned())
    }

    /// Refuses a recipe for another command.
    ///
    /// # Errors
    /// With the command that runs it.
    pub(crate) fn is_for(&self, job: &str) -> Result<()> {
        match self.job() {
            Some(other) if other != job => Err(Fault::new(
                format!("recipe `{}` is not for `leap {job}`", self.name),
                format!("`leap {} {}` runs it", command_of(&other), self.name),
            )
            .into()),
            _ => Ok(()),
        }
    }

    fn fault(&self, message: &str, line: &str) -> Fault {
        fault(&format!("recipe `{}`", self.name), message, line, "tiny")
    }
}

/// Reads a table as `T`; `what` names it in errors.
///
/// # Errors
/// If a key is unknown or has a wrong type; with the nearest key.
pub(crate) fn read<T: DeserializeOwned>(table: &Table, what: &str) -> Result<T> {
    parse(table)?.map_err(|fault| fault.of(what, table).into())
}

/// Why a table is no recipe.
struct Unreadable {
    /// What serde says.
    message: String,
    /// Where.
    line: String,
}

impl Unreadable {
    /// With advice; `what` names the table.
    fn of(&self, what: &str, table: &Table) -> Fault {
        fault(what, &self.message, &self.line, example(table))
    }
}

fn parse<T: DeserializeOwned>(table: &Table) -> Result<Result<T, Unreadable>> {
    // Through text, so that the error of a wrong key or type shows its line.
    let text = toml::to_string(table).context("cannot write the recipe as TOML")?;
    Ok(toml::from_str(&text).map_err(|error| {
        let line = error.span().map(|span| line_of(&text, span.start));
        Unreadable {
            message: error.message().to_owned(),
            line: line.unwrap_or_default(),
        }
    }))
}

/// Whether the recipe has a protocol, which a preset completes.
fn has_presets(table: &Table) -> bool {
    let job = table.get("job").and_then(Value::as_str);
    !matches!(job, Some("train" | "study" | "data-gen samples"))
}

fn is_training(table: &Table) -> bool {
    table.get("job").and_then(Value::as_str) == Some("train")
}

/// The command that runs recipes of a job.
fn command_of(job: &str) -> &str {
    match job {
        "study" => "run",
        job => job,
    }
}

/// A built-in recipe that has every key of such a one.
fn example(table: &Table) -> &'static str {
    match table.get("job").and_then(Value::as_str) {
        Some("train") => "leap-t-1.5b",
        Some("eval") => "search",
        Some("study") => "table2-mini",
        Some("data-gen samples") => "leap-t-samples",
        Some("data-gen traces") => "teacher-simulated",
        _ => "tiny",
    }
}

/// `like` is a recipe that has every key.
fn fault(what: &str, message: &str, line: &str, like: &str) -> Fault {
    let Some((unknown, known)) = unknown_field(message) else {
        // Of a key that is missing, only the table is known.
        let missing = message.trim().starts_with("missing field") && !line.starts_with('[');
        let place = match line.is_empty() || missing {
            true => String::new(),
            false => format!(" (at `{line}`)"),
        };
        let hint = match line.split_once(" = ") {
            Some((key, "\"none\"")) => format!(
                "where `none` is no value, `{key}=` without one leaves the key out; `leap recipe keys \
                 {like}` says what keys mean"
            ),
            _ => format!("`leap recipe keys {like}` lists all keys with what they mean"),
        };
        return Fault::new(
            format!("{what} is not valid: {}{place}", message.trim()),
            hint,
        );
    };
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let hint = match elsewhere(&unknown, &known).or_else(|| nearest(&unknown, &known)) {
        Some(near) => {
            format!("did you mean `{near}`? `leap recipe keys {like}` lists them all")
        }
        None => format!(
            "known here: {}; `leap recipe keys {like}` lists all keys",
            known.join(", ")
        ),
    };
    Fault::new(format!("{what} has no key `{unknown}`"), hint)
}

/// SHA-256 (hex) of a resolved recipe.
pub(crate) fn hash<T: serde::Serialize>(recipe: &T) -> Result<String> {
    let text = serde_json::to_vec(recipe).context("cannot write the recipe as JSON")?;
    Ok(hex(&Sha256::digest(text)))
}

/// What a recipe leaves to the command line.
pub(crate) struct Gap {
    /// What it does not name.
    pub(crate) message: String,
    /// How that is given.
    pub(crate) hint: &'static str,
    /// The same as an argument.
    pub(crate) argument: &'static str,
}

impl Gap {
    /// Refuses a recipe that leaves something out, by the first that it does.
    ///
    /// # Errors
    /// If there is a gap.
    pub(crate) fn refuse(gaps: Vec<Self>) -> Result<()> {
        match gaps.into_iter().next() {
            Some(gap) => Err(Fault::new(gap.message, gap.hint).into()),
            None => Ok(()),
        }
    }
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The value of a key as TOML reads it; what is no TOML value is text.
///
/// # Errors
/// If it is a whole number that TOML cannot hold.
pub(crate) fn parse_value(key: &str, text: &str) -> Result<Value> {
    let read = format!("v = {text}").parse::<Table>().ok();
    if let Some(value) = read.and_then(|mut table| table.remove("v")) {
        return Ok(value);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && text.parse::<i64>().is_err() {
        return Err(Fault::new(
            format!("`{key}` is {text}, which is out of range"),
            format!(
                "whole numbers of a recipe go from {} to {}; a text of digits needs quotes: \
                 {key}='\"{text}\"'",
                i64::MIN,
                i64::MAX
            ),
        )
        .into());
    }
    Ok(Value::String(text.to_string()))
}

pub(crate) fn set(table: &mut Table, key: &str, value: Value) -> Result<()> {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_string(), value);
        return Ok(());
    };
    let inner = table
        .entry(first)
        .or_insert_with(|| Value::Table(Table::new()));
    match inner {
        Value::Table(inner) => set(inner, rest, value),
        Value::Array(items) => {
            let (index, rest) = rest.split_once('.').unwrap_or((rest, ""));
            let item = index
                .parse::<usize>()
                .ok()
                .and_then(|index| items.get_mut(index));
            match item {
                Some(Value::Table(inner)) if !rest.is_empty() => set(inner, rest, value),
                Some(item) if rest.is_empty() => {
                    *item = value;
                    Ok(())
                }
                _ => Err(Fault::new(
                    format!("`{first}` is a list and has no entry `{index}`"),
                    "entries are counted from 0",
                )
                .into()),
            }
        }
        _ => Err(Fault::new(
            format!("`{first}` is a value, so `{key}` cannot be set"),
            "a dotted key goes through tables",
        )
        .into()),
    }
}

/// Takes a key out of a table, or an entry out of a list; whether it was there.
pub(crate) fn remove(table: &mut Table, key: &str) -> bool {
    let Some((first, rest)) = key.split_once('.') else {
        return table.remove(key).is_some();
    };
    match table.get_mut(first) {
        Some(Value::Table(inner)) => remove(inner, rest),
        Some(Value::Array(items)) => {
            let (index, rest) = rest.split_once('.').unwrap_or((rest, ""));
            let index = index.parse().unwrap_or(usize::MAX);
            match items.get_mut(index) {
                Some(_) if rest.is_empty() => {
                    items.remove(index);
                    true
                }
                Some(Value::Table(inner)) => remove(inner, rest),
                _ => false,
            }
        }
        _ => false,
    }
}

/// Names of keys in other toolkits, with ours.
const ELSEWHERE: &[(&str, &str)] = &[
    ("learning_rate", "lr"),
    ("batch_size", "samples_per_step"),
    ("global_batch_size", "samples_per_step"),
    ("train_batch_size", "samples_per_step"),
    ("micro_batch_size", "tokens_per_micro_batch"),
    ("num_train_epochs", "epochs"),
    ("max_steps", "steps"),
    ("save_steps", "save_every_steps"),
    ("save_total_limit", "keep"),
    ("max_length", "max_tokens"),
    ("max_seq_length", "max_tokens"),
    ("max_new_tokens", "max_tokens"),
    ("lr_scheduler_type", "schedule"),
    ("warmup_ratio", "warmup"),
    ("warmup_steps", "warmup"),
    ("max_grad_norm", "clip_norm"),
    ("adam_beta1", "beta1"),
    ("adam_beta2", "beta2"),
    ("adam_epsilon", "eps"),
    ("gradient_checkpointing", "recompute"),
    ("r", "rank"),
    ("lora_alpha", "alpha"),
    ("lora_dropout", "dropout"),
    ("target_modules", "targets"),
];

/// The key that another toolkit calls so, if it is one of those that are known here.
fn elsewhere<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let (_, ours) = ELSEWHERE.iter().find(|(theirs, _)| *theirs == name)?;
    known.iter().copied().find(|key| key == ours)
}

/// The names that a choice is between, or what else is expected in one text, out of serde's message.
fn variants(message: &str) -> Option<Vec<String>> {
    let message = message.trim();
    if let Some(expected) = message.strip_prefix("invalid value: string \"?\", expected ") {
        return Some(vec![expected.to_owned()]);
    }
    let rest = message.strip_prefix("unknown variant `?`, expected ")?;
    let names = rest.split('`').skip(1).step_by(2);
    Some(names.map(str::to_string).collect())
}

/// The unknown name and the expected ones, out of serde's message.
fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message.trim().strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    let known = rest
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_string)
        .collect();
    Some((unknown.to_string(), known))
}

fn line_of(text: &str, at: usize) -> String {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    text[start..]
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .to_string()
}

/// The candidate that is most alike, if one is alike at all.
pub(crate) fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let alike = |candidate: &str| Similarity::Indel.of(name, candidate);
    let best = candidates
        .iter()
        .copied()
        .max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(best) >= 0.5).then_some(best)
}

/// Every key of a recipe's text as a dotted path, with its value and its comment.
pub(crate) fn keys(text: &str) -> Vec<(String, String)> {
    let mut prefix = String::new();
    let mut keys = Vec::new();
    // The list whose entries are being read, and the number of the entry.
    let mut last: Option<(String, usize)> = None;
    for line in text.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let list = table.starts_with('[');
            let name = table
                .trim_start_matches('[')
                .split(']')
                .next()
                .unwrap_or_default()
                .trim();
            let inside = last
                .as_ref()
                .and_then(|(list, at)| Some((at, name.strip_prefix(list)?.strip_prefix('.')?)));
            prefix = match (list, inside) {
                (true, _) => {
                    let at = match &last {
                        Some((list, at)) if list == name => at + 1,
                        _ => 0,
                    };
                    last = Some((name.to_string(), at));
                    format!("{name}.{at}.")
                }
                (false, Some((at, rest))) => {
                    let list = &name[..name.len() - rest.len() - 1];
                    format!("{list}.{at}.{rest}.")
                }
                (false, None) => format!("{name}."),
            };
        } else if let Some((key, value)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            let entry = (format!("{prefix}{key}"), value.to_string());
            if !keys.iter().any(|(known, _)| *known == entry.0) {
                keys.push(entry);
            }
        }
    }
    keys
}
