//! `leap checkpoint`: what lies in checkpoint folders, whether it is sound, and how two differ.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use model::checkpoint::{
    self, AdapterError, CheckpointError, Comparison, Damage, Description, ExportSettings, Presence,
    Saved, TensorType,
};
use model::config::ConfigError;
use model::hub::PullRecord;
use model::lineage::Record;
use serde_json::json;

use super::ExitStatus;
use crate::cli::{CheckpointCommand, ExportDtype};
use crate::fault::Fault;
use crate::lock::Lock;
use crate::output::{Output, count, size};

pub(super) fn run(command: CheckpointCommand, output: &mut Output) -> Result<ExitStatus> {
    match command {
        CheckpointCommand::Show { folder, json } => show(&folder, json, output),
        CheckpointCommand::Verify { folder } => verify(&folder, output),
        CheckpointCommand::Diff { a, b, json } => diff(&a, &b, json, output),
        CheckpointCommand::Export {
            folder,
            out,
            dtype,
            shard_size,
        } => {
            let written = |settings| checkpoint::export(&folder, &out, settings);
            write(written, &out, dtype, &shard_size, output)
        }
        CheckpointCommand::Merge {
            base,
            adapter,
            out,
            dtype,
            shard_size,
        } => {
            let written = |settings| checkpoint::merge(&base, &adapter, &out, settings);
            write(written, &out, dtype, &shard_size, output)
        }
    }
}

fn show(folder: &Path, json: bool, output: &mut Output) -> Result<ExitStatus> {
    if checkpoint::is_adapter(folder) {
        return show_adapter(folder, json, output);
    }
    let found = checkpoint::describe(folder).map_err(fault)?;
    let pulled = PullRecord::read(folder)?;
    if json {
        return show_json(&found, pulled.as_ref(), output);
    }
    for (what, text) in lines(&found, pulled.as_ref()) {
        output.data(&format!("{what:<14} {text}"));
    }
    Ok(ExitStatus::Done)
}

/// What was found, with where it was pulled from.
fn show_json(
    found: &impl serde::Serialize,
    pulled: Option<&PullRecord>,
    output: &mut Output,
) -> Result<ExitStatus> {
    let mut value = serde_json::to_value(found)?;
    if let Some(pulled) = pulled {
        value["pull"] = json!({"repo": pulled.repo, "commit": pulled.commit});
    }
    output.data(&serde_json::to_string_pretty(&value)?);
    Ok(ExitStatus::Done)
}

fn show_adapter(folder: &Path, json: bool, output: &mut Output) -> Result<ExitStatus> {
    let found = checkpoint::describe_adapter(folder).map_err(fault)?;
    let pulled = PullRecord::read(folder)?;
    if json {
        return show_json(&found, pulled.as_ref(), output);
    }
    let formats = formats(&found.tensors);
    let base = match (&found.lineage, &found.base) {
        (Some(record), _) if !record.made_from.base.is_empty() => {
            format!("checkpoint {}", short(&record.made_from.base))
        }
        (_, Some(name)) => format!("`{name}`, as its config says"),
        _ => "not known".to_owned(),
    };
    let origin = lineage(found.lineage.as_ref(), &found.weights_hash, pulled.as_ref());
    for (what, text) in [
        ("adapter", format!("LoRA of {} layers", found.layers)),
        (
            "rank",
            format!(
                "{}, alpha {}, dropout {}",
                found.rank, found.alpha, found.dropout
            ),
        ),
        ("targets", found.targets.join(", ")),
        ("parameters", found.parameters.to_string()),
        ("tensors", format!("{formats}; {}", size(found.bytes))),
        ("base", base),
        ("weights hash", found.weights_hash.clone()),
        ("lineage", origin),
    ] {
        output.data(&format!("{what:<14} {text}"));
    }
    output.hint(MERGE);
    Ok(ExitStatus::Done)
}

/// How an adapter becomes a model.
const MERGE: &str = "`leap checkpoint merge BASE ADAPTER OUT --dtype bf16` makes a model of an adapter \
                     and the checkpoint that it was trained on";

/// Tensors by number format, in words.
fn formats(tensors: &BTreeMap<&'static str, usize>) -> String {
    let formats: Vec<String> = tensors
        .iter()
        .map(|(format, count)| format!("{count} in {format}"))
        .collect();
    formats.join(", ")
}

fn lines(found: &Description, pulled: Option<&PullRecord>) -> Vec<(&'static str, String)> {
    let Description {
        architecture,
        parameters,
        layers,
        hidden,
        intermediate,
        heads,
        key_value_heads,
        head_dim,
        positions,
        ..
    } = found;
    let head = match found.tied {
        true => "output projection tied to the embedding",
        false => "output projection of its own",
    };
    let tokenizer = match (&found.tokenizer, found.tokenizer_vocab) {
        (Some(hash), Some(ids)) => format!("{ids} ids, hash {hash}"),
        _ => "none".to_owned(),
    };
    let template = match found.chat_template {
        true => "yes",
        false => "none",
    };
    vec![
        ("architecture", (*architecture).to_owned()),
        ("parameters", parameters.to_string()),
        (
            "layers",
            format!("{layers}, hidden {hidden}, intermediate {intermediate}"),
        ),
        (
            "heads",
            format!("{heads} query, {key_value_heads} key-value, size {head_dim}"),
        ),
        ("positions", positions.to_string()),
        ("vocabulary", format!("{}, {head}", found.vocab)),
        (
            "tensors",
            format!(
                "{}; {} in {}",
                formats(&found.tensors),
                size(found.bytes),
                count(found.files, "file")
            ),
        ),
        ("tokenizer", tokenizer),
        ("chat template", template.to_owned()),
        ("weights hash", found.weights_hash.clone()),
        ("hash", found.hash.clone()),
        (
            "lineage",
            lineage(found.lineage.as_ref(), &found.weights_hash, pulled),
        ),
    ]
}

/// What a checkpoint was made from, in words.
fn lineage(record: Option<&Record>, weights: &str, pulled: Option<&PullRecord>) -> String {
    let mut parts = Vec::new();
    if let Some(record) = record {
        parts.extend(history(record));
        if record.weights != weights {
            parts.push("but these are not the weights it was written for".to_owned());
        }
    }
    if let Some(pulled) = pulled {
        let commit = short(&pulled.commit);
        parts.push(format!("pulled from `{}` at {commit}", pulled.repo));
    }
    match parts.is_empty() {
        true => "not known: there is no lineage.json".to_owned(),
        false => parts.join("; "),
    }
}

fn history(record: &Record) -> Vec<String> {
    let made = &record.made_from;
    let mut parts = Vec::new();
    if made.step > 0 || !made.samples.is_empty() {
        let start = match made.base.as_str() {
            "" => "from scratch".to_owned(),
            base => format!("from checkpoint {}", short(base)),
        };
        parts.push(format!(
            "trained {start} for {} on samples {} with recipe {}",
            count(made.step as usize, "step"),
            short(&made.samples),
            short(&made.recipe)
        ));
    }
    if let Some(merged) = &made.merged {
        parts.push(format!(
            "merged as {} from base {} and adapter {}",
            merged.dtype,
            short(&merged.base),
            short(&merged.adapter)
        ));
    }
    if let Some(exported) = &made.exported {
        parts.push(format!(
            "exported as {} from checkpoint {}",
            exported.dtype,
            short(&exported.from)
        ));
    }
    parts.push(format!("written by version {}", made.toolkit));
    parts
}

/// The beginning of a hash, which is enough for people.
fn short(hash: &str) -> &str {
    match hash {
        "" => "unknown",
        hash => hash.get(..12).unwrap_or(hash),
    }
}

const TOKENIZER: &str = "tokenizer.json";

fn verify(folder: &Path, output: &mut Output) -> Result<ExitStatus> {
    if checkpoint::is_adapter(folder) {
        return match checkpoint::describe_adapter(folder) {
            Ok(_) => {
                output.data(&format!("{}: good, an adapter", folder.display()));
                Ok(ExitStatus::Done)
            }
            Err(error @ (CheckpointError::Io { .. } | CheckpointError::Outside { .. })) => {
                Err(fault(error))
            }
            Err(damage) => {
                output.data(&damage.to_string());
                output.note(&format!("{}: a damaged adapter", folder.display()));
                Ok(ExitStatus::AnswerIsNo)
            }
        };
    }
    let mut damages = checkpoint::damages(folder).map_err(fault)?;
    // Weights alone can be computed with, but every command that asks a model needs its words.
    if !folder.join(TOKENIZER).exists() {
        damages.push(Damage {
            file: TOKENIZER.to_owned(),
            problem: "it is not there, and no text can be read or written without it".to_owned(),
        });
    }
    if damages.is_empty() {
        output.data(&format!("{}: good", folder.display()));
        return Ok(ExitStatus::Done);
    }
    for Damage { file, problem } in &damages {
        output.data(&format!("{}: {problem}", folder.join(file).display()));
    }
    let problems = count(damages.len(), "problem");
    output.note(&format!("{}: damaged, {problems}", folder.display()));
    Ok(ExitStatus::AnswerIsNo)
}

fn diff(a: &Path, b: &Path, json: bool, output: &mut Output) -> Result<ExitStatus> {
    let found = checkpoint::compare(a, b).map_err(fault)?;
    if json {
        output.data(&serde_json::to_string_pretty(&found)?);
    } else {
        print_diff(&found, output);
    }
    Ok(match found.is_equal() {
        true => ExitStatus::Done,
        false => ExitStatus::AnswerIsNo,
    })
}

fn print_diff(found: &Comparison, output: &mut Output) {
    for difference in &found.config {
        let (key, a, b) = (&difference.key, &difference.a, &difference.b);
        output.data(&format!("config.json `{key}`: {a} and {b}"));
    }
    for name in &found.only_in_a {
        output.data(&format!("{name}: only in the first"));
    }
    for name in &found.only_in_b {
        output.data(&format!("{name}: only in the second"));
    }
    for tensor in &found.tensors {
        let mut parts = Vec::new();
        if tensor.shape_a != tensor.shape_b {
            parts.push(format!(
                "shape {:?} and {:?}",
                tensor.shape_a, tensor.shape_b
            ));
        }
        if tensor.stored_a != tensor.stored_b {
            parts.push(format!("{} and {}", tensor.stored_a, tensor.stored_b));
        }
        if let Some(max_abs) = tensor.max_abs {
            parts.push(format!(
                "max {max_abs:.3e}, relative {}",
                share(tensor.relative)
            ));
        }
        if tensor.not_finite > 0 {
            parts.push(format!("{} not finite", tensor.not_finite));
        }
        output.data(&format!("{}: {}", tensor.name, parts.join(", ")));
    }
    for (what, part) in [
        ("tokenizer", found.tokenizer),
        ("chat template", found.chat_template),
    ] {
        output.data(&format!(
            "{what}: {}",
            match part {
                Presence::Equal => "equal",
                Presence::Differs => "differs",
                Presence::OnlyInA => "only in the first",
                Presence::OnlyInB => "only in the second",
                Presence::Absent => "in neither",
            }
        ));
    }
    output.data(&format!(
        "tensors: {} equal, {} differ, max {:.3e}, relative {}",
        found.equal_tensors,
        found.tensors.len(),
        found.max_abs,
        share(found.relative)
    ));
}

fn share(relative: Option<f64>) -> String {
    relative.map_or_else(|| "unknown".to_owned(), |share| format!("{share:.3e}"))
}

/// Lets `written` write a checkpoint to `out`, and says what it is.
fn write(
    written: impl FnOnce(ExportSettings) -> Result<Saved, CheckpointError>,
    out: &Path,
    dtype: ExportDtype,
    shard_size: &str,
    output: &mut Output,
) -> Result<ExitStatus> {
    let settings = ExportSettings {
        stored: match dtype {
            ExportDtype::Bf16 => TensorType::Bf16,
            ExportDtype::F16 => TensorType::F16,
            ExportDtype::F32 => TensorType::F32,
        },
        shard_bytes: bytes(shard_size).context("--shard-size cannot be used")?,
    };
    let _lock = Lock::output(out)?;
    let saved = written(settings).map_err(|error| match error {
        CheckpointError::NotFinite { value, .. } if value.is_infinite() => Fault::new(
            error.to_string(),
            "the value is infinite, or too large for the number format: bf16 and f32 have room",
        )
        .into(),
        other => fault(other),
    })?;
    output.step(
        "Wrote",
        &format!(
            "{} in {}, weights hash {}",
            size(saved.bytes),
            count(saved.files.len(), "file"),
            saved.sha256
        ),
    );
    output.data(&out.display().to_string());
    Ok(ExitStatus::Done)
}

/// Reads a size such as `5GB`, `500MB` or `4GiB`.
pub(crate) fn bytes(text: &str) -> Result<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: Option<u64> = match text[digits.len()..].to_lowercase().as_str() {
        "" | "b" => Some(1),
        "kb" => Some(1_000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        "kib" => Some(1 << 10),
        "mib" => Some(1 << 20),
        "gib" => Some(1 << 30),
        _ => None,
    };
    let number: Option<u64> = digits.trim().parse().ok();
    number
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| {
            Fault::new(
                format!("`{text}` is no size"),
                "write a whole number and a unit, such as 5GB, 500MB or 4GiB",
            )
            .into()
        })
}

/// What to do about a folder that cannot be read.
pub(super) fn fault(error: CheckpointError) -> anyhow::Error {
    let hint = match &error {
        CheckpointError::Config(ConfigError::NotFound { path })
            if path.parent().is_some_and(checkpoint::is_adapter) =>
        {
            MERGE
        }
        CheckpointError::NoFolder { .. }
        | CheckpointError::NoWeights { .. }
        | CheckpointError::Config(ConfigError::NotFound { .. }) => {
            "a checkpoint folder holds config.json, tokenizer.json and *.safetensors; \
             `leap pull OWNER/NAME` fetches one"
        }
        CheckpointError::Config(_) => {
            "Qwen2, Qwen3 and Llama models are known; the file may be of another one"
        }
        CheckpointError::Adapter(AdapterError::OtherBase { .. }) => {
            "`leap checkpoint show DIR` says which checkpoint a folder holds, and what an adapter's \
             lineage.json names is its base"
        }
        CheckpointError::Adapter(_) => {
            "an adapter of `leap train` with [train.lora], or one that peft has saved, can be merged"
        }
        CheckpointError::Io { .. }
        | CheckpointError::Exists { .. }
        | CheckpointError::NotAName { .. } => return error.into(),
        _ => "`leap checkpoint verify DIR` names everything that is wrong",
    };
    Fault::new(error.to_string(), hint).into()
}
