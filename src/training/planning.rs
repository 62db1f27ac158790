//! `leap train --plan`: what a training will need, and whether it fits, from shapes alone.

use std::fmt::Write;

use anyhow::Result;
use model::config::ModelConfig;
use model::device::{DeviceSpec, Dtype};
use model::lora::{Linear, LoraSettings};
use protocol::Sample;
use serde_json::json;
use train::{Forecast, Place, Placement, Precision, Recompute, TrainSettings, Work, forecast};

use super::devices::{self, Device, share_of_peak};
use super::inputs;
use crate::commands::ExitStatus;
use crate::fault::Fault;
use crate::ledger;
use crate::output::{Output, size};
use crate::train_recipe::TrainRecipe;

/// What is worth telling of less memory, as a share of all.
const MUCH_LESS: f64 = 0.9;

/// Of a device's memory, what its allocator and its context leave for a training.
const USABLE: f64 = 0.92;

/// Prints the plan for the device called `on`, else for the one that `spec` names.
///
/// # Errors
/// If the device, the shape of the model or the size of the samples is not known.
pub(crate) fn plan(
    recipe: &TrainRecipe,
    on: Option<&str>,
    spec: &DeviceSpec,
    as_json: bool,
    output: &mut Output,
) -> Result<ExitStatus> {
    let device = match on {
        Some(name) => devices::find(name)?,
        None => devices::of(spec)?,
    };
    let config = recipe.shape()?;
    let samples = match &recipe.samples.file {
        Some(file) if file.is_file() => {
            ledger::check_listed(file)?;
            inputs::parted(file, recipe)?.0
        }
        _ => Vec::new(),
    };
    let work = work(recipe, &samples)?;
    let dtype = recipe.model.dtype;
    let found = forecast(&config, &recipe.train, dtype, device.computer(), &work);
    let verdict = verdict(&config, &recipe.train, dtype, &work, &device);
    let share = share_of_peak(recipe.train.lora.is_some());
    let rate = rate(&device, dtype, share)?;
    let hours = rate.map(|rate| found.executed_flops / rate / 3600.0);
    if as_json {
        let value = json!({
            "device": device.name,
            "forecast": found,
            "work": work,
            "hours": hours,
            "verdict": verdict.text(),
            "fits": verdict == Verdict::Fits,
        });
        output.data(&serde_json::to_string_pretty(&value)?);
    } else {
        output.data(&text(
            &found,
            &work,
            &device,
            hours.map(|hours| (hours, share)),
            &verdict,
        ));
    }
    Ok(match verdict {
        Verdict::No | Verdict::With { .. } => ExitStatus::AnswerIsNo,
        Verdict::Fits | Verdict::Unknown => ExitStatus::Done,
    })
}

/// What the training works on: the samples, or those that the recipe expects.
///
/// # Errors
/// If there are none, or the settings cannot work.
pub(super) fn work(recipe: &TrainRecipe, samples: &[Sample]) -> Result<Work> {
    let settings = &recipe.train;
    let expected;
    let samples = match (samples, recipe.samples.expected) {
        ([], Some(size)) => {
            expected = inputs::expected(size.count, size.tokens);
            expected.as_slice()
        }
        ([], None) => {
            return Err(Fault::new(
                "the size of the samples is not known",
                "give the file, samples.file=FILE, or what is expected: samples.expected.count=1000 \
                 samples.expected.tokens=16384",
            )
            .into());
        }
        (samples, _) => samples,
    };
    let plan = train::plan(settings, samples, recipe.seed)?;
    Ok(Work {
        steps: plan.steps as u64,
        tokens: plan.tokens,
        squares: plan.squares,
    })
}

/// Operations a second that a training reaches there, of a card this share of the best; `None` if that is not
/// known.
fn rate(device: &Device, dtype: Dtype, share: f64) -> Result<Option<f64>> {
    if device.is_host {
        let cpu = DeviceSpec::Cpu.open()?;
        let rate = model::memory::product_rate(&cpu, Dtype::F32, [1024; 3], 3);
        return Ok(rate.ok());
    }
    let peak = device.peak.map(|peak| devices::in_format(peak, dtype));
    Ok(peak.map(|peak| share * peak))
}

/// Whether a training fits.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    /// As it is.
    Fits,
    /// With these changes to the recipe.
    With {
        changes: Vec<String>,
        /// Bytes of host memory that it needs then, besides a card's.
        host: Option<u64>,
        /// The same with moments in 8 bits, where that is much less.
        host_8bit: Option<u64>,
    },
    /// Not with any.
    No,
    /// The memory is not known.
    Unknown,
}

impl Verdict {
    fn text(&self) -> String {
        match self {
            Self::Fits => "fits".to_string(),
            Self::With {
                changes,
                host,
                host_8bit,
            } => {
                let host = host.map(|bytes| format!(" and {} of host memory", size(bytes)));
                let less =
                    host_8bit.map(|bytes| format!(", or {} with train.moments=8bit", size(bytes)));
                format!(
                    "does not fit as it is; fits with {}{}{}",
                    changes.join(" "),
                    host.unwrap_or_default(),
                    less.unwrap_or_default()
                )
            }
            Self::No => "does not fit".to_string(),
            Self::Unknown => "not known: the system does not tell how much memory there is".into(),
        }
    }
}

/// The first of these that fits: as it is; computing layers again; moments in host memory; sums of
/// gradients there, too; smaller micro-batches; adapters.
fn verdict(
    config: &ModelConfig,
    settings: &TrainSettings,
    dtype: Dtype,
    work: &Work,
    device: &Device,
) -> Verdict {
    let Some(bytes) = device.bytes else {
        return Verdict::Unknown;
    };
    let needs =
        |settings: &TrainSettings| forecast(config, settings, dtype, device.computer(), work);
    let fits = |settings: &TrainSettings| {
        let found = needs(settings);
        let needed = match device.is_host {
            true => found.bytes(Place::Device) + found.bytes(Place::Host),
            false => found.bytes(Place::Device),
        };
        needed as f64 <= bytes as f64 * USABLE
    };
    let with = |settings: &TrainSettings, changes: Vec<String>| {
        let host = (!device.is_host).then(|| needs(settings).bytes(Place::Host));
        let eight = TrainSettings {
            moments: Precision::EightBit,
            ..settings.clone()
        };
        let host_8bit = host.filter(|_| settings.optimizer == Placement::Host);
        let host_8bit = host_8bit.and_then(|all| {
            let bytes = needs(&eight).bytes(Place::Host);
            (bytes as f64 <= MUCH_LESS * all as f64).then_some(bytes)
        });
        Verdict::With {
            changes,
            host,
            host_8bit,
        }
    };
    let mut settings = settings.clone();
    if fits(&settings) {
        return Verdict::Fits;
    }
    let mut changes = Vec::new();
    if settings.recompute == Recompute::None {
        settings.recompute = Recompute::Blocks;
        changes.push("train.recompute=blocks".to_string());
        if fits(&settings) {
            return with(&settings, changes);
        }
    }
    if settings.optimizer == Placement::Device && !device.is_host {
        settings.optimizer = Placement::Host;
        changes.push("train.optimizer=host".to_string());
        if fits(&settings) {
            return with(&settings, changes);
        }
    }
    let host = (Placement::Device, Placement::Host);
    if (settings.sums, settings.optimizer) == host && !device.is_host {
        settings.sums = Placement::Host;
        changes.push("train.sums=host".to_string());
        if fits(&settings) {
            return with(&settings, changes);
        }
    }
    if settings.tokens_per_micro_batch > settings.max_tokens {
        settings.tokens_per_micro_batch = settings.max_tokens;
        changes.push(format!(
            "train.tokens_per_micro_batch={}",
            settings.max_tokens
        ));
        if fits(&settings) {
            return with(&settings, changes);
        }
    }
    if settings.lora.is_none() {
        settings.lora = Some(LoraSettings {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            targets: Linear::ALL.to_vec(),
        });
        changes.push("train.lora.rank=16 train.lora.alpha=32 train.lora.dropout=0.0".to_string());
        if fits(&settings) {
            return with(&settings, changes);
        }
    }
    Verdict::No
}

/// The plan as it is printed; `hours` with the share of a card's best rate that they are reckoned at.
fn text(
    found: &Forecast,
    work: &Work,
    device: &Device,
    hours: Option<(f64, f64)>,
    verdict: &Verdict,
) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<30} {value}");
    };
    row("parameters", found.parameters.to_string());
    row("trained", found.trained.to_string());
    row("steps", work.steps.to_string());
    row("tokens", work.tokens.to_string());
    row(
        "tokens a step",
        (work.tokens / work.steps.max(1)).to_string(),
    );
    row(
        "attention, sum of lengths^2",
        format!("{:.3e}", work.squares as f64),
    );
    row(
        "operations",
        format!(
            "{:.3e} of the model, {:.3e} executed",
            found.model_flops, found.executed_flops
        ),
    );
    for (place, name) in [
        (Place::Device, format!("memory on {}", device.name)),
        (Place::Host, "host memory".to_string()),
    ] {
        let parts = found.parts.iter().filter(|part| part.place == place);
        for part in parts.clone() {
            row(&format!("  {}", part.what), size(part.bytes));
        }
        if parts.count() > 0 {
            let of = match (device.bytes, place == Place::Device && !device.is_host) {
                (Some(bytes), true) => format!(" of {}", size(bytes)),
                _ => String::new(),
            };
            row(&name, format!("{}{of}", size(found.bytes(place))));
        }
    }
    if device.is_host
        && let Some(bytes) = device.bytes
    {
        let all = found.bytes(Place::Device) + found.bytes(Place::Host);
        row(
            "memory of this machine",
            format!("{} of {}", size(all), size(bytes)),
        );
    }
    row(
        "hours",
        match (hours, device.is_host) {
            (None, _) => "not known: the rate of this device is not".to_string(),
            (Some((hours, _)), true) => format!("{hours:.1} at the rate of a product measured now"),
            (Some((hours, share)), false) => {
                let share = 100.0 * share;
                let measured = match found.trained == found.parameters {
                    true => "all of 1.5B and of 7B",
                    false => "adapters of 7B",
                };
                format!(
                    "{hours:.1} at {share}% of the best rate, as an H100 reached with {measured}"
                )
            }
        },
    );
    row("verdict", verdict.text());
    text
}
