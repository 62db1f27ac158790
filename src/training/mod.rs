//! One fine-tuning in a folder of its own: `leap train`.
//!
//! The folder has the resolved recipe, a ledger, events, the curves, states of the trainer while it
//! works, and at the end a checkpoint or an adapter with its card, and a report.

mod card;
mod curves;
mod devices;
mod inputs;
mod obedience;
mod page;
mod planning;
mod view;
mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use model::device::{Device, DeviceSpec};
use model::lineage::Lineage;
use model::self_check::Identity;
use serde_json::json;
use train::{Computer, Interrupter, Job, Outcome, Place, Rehearsal};

use self::inputs::Inputs;
use self::obedience::Examiner;
use self::watch::Progressing;
use crate::commands::ExitStatus;
use crate::fault::Fault;
use crate::ledger::{self, Done};
use crate::output::{Output, count, size};
use crate::train_recipe::TrainRecipe;
use crate::{recipes, road};

pub(crate) use self::planning::plan;

/// States of the trainer, below the output folder.
const STATES: &str = "trainer";
/// Name of all of it in the ledger.
const STAGE: &str = "train";
/// The card, below the checkpoint.
const CARD: &str = "README.md";
/// The curves as a page.
const REPORT: &str = "report.html";

/// Trains, or goes on, or says that all is done.
///
/// # Errors
/// If inputs, folder or device cannot work, or the training fails.
pub(crate) fn run(
    recipe: &TrainRecipe,
    out: &Path,
    spec: &DeviceSpec,
    overwrite: bool,
    rehearsal: Rehearsal,
    output: &mut Output,
) -> Result<ExitStatus> {
    let device = crate::devices::open(spec, output)?;
    let inputs = Inputs::read(recipe)?;
    check_memory(recipe, &inputs, &device)?;
    let examiner = Examiner::new(recipe, &inputs)?;
    let essence = recipe.essence();
    let hash = recipes::hash(&essence)?;
    let base = model::checkpoint::hash(&inputs.folder)?;
    let reads = [base.as_str(), inputs.samples_hash.as_str()];
    let key = ledger::key("train", &essence, &reads)?;
    if overwrite {
        road::keep_inputs(recipe, out)?;
    }
    let (mut ledger, _lock) = road::open_folder(out, &hash, &spec.to_string(), overwrite)?;
    let made = made(recipe);
    let lineage = Lineage {
        base,
        samples: inputs.samples_hash.clone(),
        recipe: hash,
        ..Lineage::default()
    };
    if let Some(done) = ledger.stages.get_mut(STAGE).filter(|done| done.key == key) {
        if mended(done, out, recipe, &lineage)? {
            ledger.write(out)?;
        }
        clear(out, &key)?;
        output.note(&format!("`{}` is finished: nothing to do", out.display()));
        output.data(&out.join(made).display().to_string());
        return Ok(ExitStatus::Done);
    }
    if ledger.finished {
        return Err(Fault::new(
            format!(
                "`{}` holds a training of another model or other samples",
                out.display()
            ),
            "pass another --out DIR, or --overwrite to start anew",
        )
        .into());
    }
    write_recipe(recipe, out)?;
    // Without an entry in the ledger it is a half of this training, killed at its end.
    let target = out.join(made);
    if target.exists() {
        fs::remove_dir_all(&target)
            .with_context(|| format!("cannot replace `{}`", target.display()))?;
    }
    view::show(&inputs, recipe, output);
    let stop = Interrupter::new();
    let own_name = Identity::of(*spec, &device).device;
    let peak = devices::peak(&own_name, recipe.model.dtype);
    let states = out.join(STATES);
    let mut watch = Progressing::new(out, &states, &key, &stop, examiner, peak, output)?;
    let card = |finished: &train::Finished| card::text(recipe, &lineage, &inputs, finished);
    let job = Job {
        settings: &recipe.train,
        start: train::Start::Checkpoint(inputs.folder.clone()),
        dtype: recipe.model.dtype,
        samples: &inputs.samples,
        held_out: &inputs.held_out,
        seed: recipe.seed,
        tokenizer_hash: inputs.tokenizer.hash(),
        bos: inputs.bos(),
        files_from: &inputs.folder,
        out: &target,
        state: &states,
        device: &device,
        lineage: &lineage,
        rehearsal,
        card: Some(&card),
        stop: &stop,
    };
    let outcome = train::train(&job, &mut watch);
    let (outcome, curves) = watch.end(outcome)?;
    let Outcome::Done {
        checkpoint, steps, ..
    } = outcome
    else {
        output.hint("the same command continues it");
        return Ok(ExitStatus::Interrupted);
    };
    let curves = curves::finish(&curves, out)?;
    ledger::write_whole(
        &out.join(REPORT),
        page::html(recipe, &curves, &lineage).as_bytes(),
    )?;
    let done = Done {
        key: key.clone(),
        made: written(out, made)?,
    };
    ledger.stages.insert(STAGE.to_string(), done);
    ledger.finished = true;
    ledger.write(out)?;
    clear(out, &key)?;
    tell_memory(recipe, &inputs, &device, output)?;
    output.step(
        "Wrote",
        &format!(
            "{} after {}, weights hash {}",
            size(checkpoint.bytes),
            count(steps, "step"),
            &checkpoint.sha256[..12]
        ),
    );
    output.data(&target.display().to_string());
    Ok(ExitStatus::Done)
}

/// What the ledger holds of a finished training. The card is for people, who may edit it.
fn written(out: &Path, made: &str) -> Result<BTreeMap<String, String>> {
    let files = ledger::files_below(&out.join(made))?.into_iter();
    let files = files.filter(|(name, _)| name != CARD);
    let files = files.map(|(name, _)| format!("{made}/{name}"));
    let pages = [curves::FILE, REPORT].map(str::to_string);
    let hashed = |path: String| {
        let hash = ledger::hash_of(&out.join(&path))?;
        Ok((path, hash))
    };
    files.chain(pages).map(hashed).collect()
}

/// Makes again what can be made of the rest of a finished training; whether there was anything.
///
/// # Errors
/// If something else is not what was written, with its name.
fn mended(done: &mut Done, out: &Path, recipe: &TrainRecipe, lineage: &Lineage) -> Result<bool> {
    let changed: Vec<String> = done.changed(out).map(str::to_string).collect();
    if changed.is_empty() {
        return Ok(false);
    }
    if changed.iter().any(|path| path == curves::FILE) {
        curves::restore(out, &done.made[curves::FILE])?;
    }
    let lasting = |path: &&String| *path != curves::FILE && *path != REPORT;
    if let Some(path) = changed.iter().find(lasting) {
        return Err(lost(&out.join(path)));
    }
    let curves = curves::read(out)?;
    let page = page::html(recipe, &curves, lineage);
    ledger::write_whole(&out.join(REPORT), page.as_bytes())?;
    let hash = ledger::hash_of(&out.join(REPORT))?;
    done.made.insert(REPORT.to_string(), hash);
    Ok(true)
}

/// What a finished training made is no longer there, or no longer the same.
fn lost(path: &Path) -> anyhow::Error {
    let what = match path.exists() {
        true => "is not what was written: it was damaged or edited",
        false => "is no longer there",
    };
    Fault::new(
        format!("`{}` {what}", path.display()),
        "put a copy of it back, or pass --overwrite to train anew",
    )
    .into()
}

/// Removes what is needed only while it trains. A process can be killed between the ledger and this.
fn clear(out: &Path, key: &str) -> Result<()> {
    curves::clear(out, key)?;
    let states = out.join(STATES);
    if states.exists() {
        fs::remove_dir_all(&states)
            .with_context(|| format!("cannot remove `{}`", states.display()))?;
    }
    Ok(())
}

/// What would be done, in words.
///
/// # Errors
/// If the inputs cannot work.
pub(crate) fn describe(recipe: &TrainRecipe, out: &Path, output: &mut Output) -> Result<()> {
    let inputs = Inputs::read(recipe)?;
    let plan = train::plan(&recipe.train, &inputs.samples, recipe.seed)?;
    view::show(&inputs, recipe, output);
    output.note(&format!(
        "{} with {} of warm-up, {} in all, {} with loss; {} goes to `{}`",
        count(plan.steps, "step"),
        plan.warmup_steps,
        count(plan.tokens as usize, "token"),
        plan.trained_tokens,
        made(recipe),
        out.display()
    ));
    Ok(())
}

/// Prints which samples each step takes, before they are split into micro-batches.
///
/// # Errors
/// If the inputs cannot work.
pub(crate) fn order(recipe: &TrainRecipe, output: &mut Output) -> Result<ExitStatus> {
    let inputs = Inputs::read(recipe)?;
    let steps = train::order(&recipe.train, &inputs.samples, recipe.seed)?;
    for (step, indices) in (1..).zip(steps) {
        let ids = indices.iter().map(|index| &inputs.samples[*index].id);
        let ids: Vec<&String> = ids.collect();
        output.data(&json!({"step": step, "samples": ids}).to_string());
    }
    Ok(ExitStatus::Done)
}

/// What comes of it, below the output folder.
fn made(recipe: &TrainRecipe) -> &'static str {
    match recipe.train.lora {
        Some(_) => "adapter",
        None => "checkpoint",
    }
}

fn write_recipe(recipe: &TrainRecipe, out: &Path) -> Result<()> {
    let text = toml::to_string(recipe).context("cannot write the recipe as TOML")?;
    let header = format!(
        "# {}\n#\n#   leap train recipe.toml --out DIR\n\n",
        recipe.title
    );
    ledger::write_whole(&out.join("recipe.toml"), (header + &text).as_bytes())
}

/// Refuses a training that this process has no memory for, before anything is done.
fn check_memory(recipe: &TrainRecipe, inputs: &Inputs, device: &Device) -> Result<()> {
    let forecast = forecast(recipe, inputs, device)?;
    let needed = match DeviceSpec::is_cpu(device) {
        true => forecast.bytes(Place::Device) + forecast.bytes(Place::Host),
        false => forecast.bytes(Place::Host),
    };
    match model::memory::allowed_bytes() {
        Some(allowed) if needed > allowed => Err(Fault::new(
            format!(
                "the training needs {} of memory, and this process may have {}",
                size(needed),
                size(allowed)
            ),
            "`--plan` says what takes it, and which settings would fit",
        )
        .into()),
        _ => Ok(()),
    }
}

fn forecast(recipe: &TrainRecipe, inputs: &Inputs, device: &Device) -> Result<train::Forecast> {
    let work = planning::work(recipe, &inputs.samples)?;
    let (config, dtype) = (&inputs.config, recipe.model.dtype);
    let computer = match DeviceSpec::is_cpu(device) {
        true => Computer::Cpu,
        false => Computer::Card,
    };
    Ok(train::forecast(
        config,
        &recipe.train,
        dtype,
        computer,
        &work,
    ))
}

/// What was planned beside what was needed.
fn tell_memory(
    recipe: &TrainRecipe,
    inputs: &Inputs,
    device: &Device,
    output: &mut Output,
) -> Result<()> {
    let forecast = forecast(recipe, inputs, device)?;
    let planned = forecast.bytes(Place::Device) + forecast.bytes(Place::Host);
    if let Some(peak) = model::memory::peak_bytes() {
        let what = format!(
            "{} planned, {} at most in this process",
            size(planned),
            size(peak)
        );
        output.step("Memory", &what);
    }
    Ok(())
}
