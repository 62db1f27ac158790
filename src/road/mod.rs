//! The road of `leap run`: from problems to a report, one stage after the other.
//!
//! A stage has a key, the hash of its settings and of the files it reads. Where the ledger holds
//! the key and what the stage made is unchanged, the stage is passed over. Killed at any moment
//! and run again, the road ends with the same bytes.

mod base;
mod clear;
mod eval;
mod problems;
mod report;
mod samples;
mod students;
mod traces;
mod training;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use model::device::{Device, DeviceSpec};
use serde::Serialize;
use serde_json::json;

use crate::commands::ExitStatus;
use crate::events::Events;
use crate::fault::Fault;
use crate::ledger::{self, Done, Ledger};
use crate::lock::{self, Lock};
use crate::output::Output;
use crate::recipe::RunRecipe;
use crate::{devices, recipes};

pub(crate) use self::base::open_local;
pub(crate) use self::clear::{keep_files, keep_inputs};

/// Whether a stage came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It did.
    Done,
    /// It was asked to stop, and has kept what it finished.
    Stopped,
}

/// One run in its folder.
pub(crate) struct Road<'a> {
    pub(crate) recipe: &'a RunRecipe,
    pub(crate) out: &'a Path,
    pub(crate) device: Device,
    pub(crate) device_name: String,
    pub(crate) output: &'a mut Output,
    ledger: Ledger,
    /// Hashes of what lies in the run's folder, by path.
    made: BTreeMap<String, String>,
    timing: BTreeMap<String, f64>,
    events: Events,
    _lock: Lock,
}

/// Where a run stands, as `leap runs` tells.
pub(crate) struct Standing {
    pub(crate) recipe: String,
    pub(crate) finished: bool,
    pub(crate) stages: usize,
}

/// Reads where the run in `folder` stands; `None` if there is no run.
pub(crate) fn standing(folder: &Path) -> Result<Option<Standing>> {
    let ledger = Ledger::read(folder)?;
    Ok(ledger.map(|ledger| Standing {
        recipe: ledger.recipe,
        finished: ledger.finished,
        stages: ledger.stages.len(),
    }))
}

/// Walks the whole road, or what is left of it, and prints the table.
///
/// # Errors
/// If the folder belongs to another recipe or another process, or a stage fails.
pub(crate) fn run(
    recipe: &RunRecipe,
    out: &Path,
    spec: &DeviceSpec,
    overwrite: bool,
    output: &mut Output,
) -> Result<ExitStatus> {
    walk(recipe, out, spec, overwrite, output, &mut report::print)
}

/// As [`run`], and prints no table.
///
/// # Errors
/// Those of [`run`].
pub(crate) fn run_part(
    recipe: &RunRecipe,
    out: &Path,
    spec: &DeviceSpec,
    overwrite: bool,
    output: &mut Output,
) -> Result<ExitStatus> {
    walk(recipe, out, spec, overwrite, output, &mut |_| Ok(()))
}

fn walk(
    recipe: &RunRecipe,
    out: &Path,
    spec: &DeviceSpec,
    overwrite: bool,
    output: &mut Output,
    conclude: &mut dyn FnMut(&mut Road<'_>) -> Result<()>,
) -> Result<ExitStatus> {
    recipe.check()?;
    preflight(recipe)?;
    let hash = recipes::hash(recipe)?;
    let device = devices::open(spec, output)?;
    let device_name = spec.to_string();
    if overwrite {
        keep_inputs(recipe, out)?;
    }
    let (ledger, lock) = open_folder(out, &hash, &device_name, overwrite)?;
    let events = Events::open(out)?;
    let text = toml::to_string(recipe).context("cannot write the recipe as TOML")?;
    let header = format!(
        "# {}\n#\n#   leap run recipe.toml --out DIR\n\n",
        recipe.title
    );
    ledger::write_whole(&out.join("recipe.toml"), (header + &text).as_bytes())?;
    let timing = fs::read_to_string(out.join("timing.json"))
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let was_finished = ledger.finished;
    let mut road = Road {
        recipe,
        out,
        device,
        device_name,
        output,
        ledger,
        made: BTreeMap::new(),
        timing,
        events,
        _lock: lock,
    };
    road.event(
        "start",
        json!({ "recipe": hash, "device": road.device_name }),
    );
    let mut worked = false;
    match road.walk(&mut worked) {
        Ok(Flow::Done) => {}
        Ok(Flow::Stopped) => {
            road.event("stopped", json!({}));
            let done = road.ledger.stages.len();
            road.output.note(&format!(
                "stopped after {done} finished stages; nothing is lost"
            ));
            road.output.hint("the same command continues it");
            return Ok(ExitStatus::Interrupted);
        }
        Err(error) => {
            road.event("failed", json!({ "error": format!("{error:#}") }));
            if let Some(refusal) = error.downcast_ref::<NothingAccepted>() {
                let refusal = refusal.clone();
                road.output.error(&anyhow::Error::new(refusal));
                return Ok(ExitStatus::AnswerIsNo);
            }
            return Err(error);
        }
    }
    if !road.ledger.finished {
        road.ledger.finished = true;
        road.ledger.write(out)?;
    }
    road.event("finished", json!({}));
    if was_finished && !worked {
        road.output
            .note(&format!("`{}` is finished: nothing to do", out.display()));
    }
    conclude(&mut road)?;
    Ok(ExitStatus::Done)
}

/// A run that cannot go on because no path was good enough to train on.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no path is good enough to train on: {0}")]
pub(crate) struct NothingAccepted(pub(crate) String);

impl Road<'_> {
    fn walk(&mut self, worked: &mut bool) -> Result<Flow> {
        type Stage = for<'a, 'b, 'c> fn(&'a mut Road<'b>, &'c mut bool) -> Result<Flow>;
        let stages: [Stage; 8] = [
            problems::stage,
            base::stages,
            traces::stages,
            samples::stages,
            training::stages,
            students::stages,
            eval::stages,
            report::stage,
        ];
        for stage in stages {
            if stage(self, worked)? == Flow::Stopped {
                return Ok(Flow::Stopped);
            }
        }
        Ok(Flow::Done)
    }

    /// Runs a stage unless it is done already.
    ///
    /// `reads` are paths in the run's folder that earlier stages made, or hashes given as they are;
    /// `makes` are the paths that the work leaves behind.
    pub(crate) fn stage<T: Serialize>(
        &mut self,
        name: &str,
        settings: &T,
        reads: &[&str],
        makes: &[&str],
        worked: &mut bool,
        work: impl FnOnce(&mut Self, &str) -> Result<Flow>,
    ) -> Result<Flow> {
        let hashes: Vec<&str> = reads
            .iter()
            .map(|read| self.made.get(*read).map_or(*read, String::as_str))
            .collect();
        let key = ledger::key(name, settings, &hashes)?;
        if let Some(made) = self.ledger.valid(self.out, name, &key) {
            self.made.extend(made.clone());
            self.output.step("Fresh", name);
            return Ok(Flow::Done);
        }
        *worked = true;
        if self.ledger.finished {
            self.ledger.finished = false;
            self.ledger.write(self.out)?;
        }
        self.event("stage", json!({ "stage": name, "key": key }));
        let started = std::time::Instant::now();
        if work(self, &key)? == Flow::Stopped {
            return Ok(Flow::Stopped);
        }
        let mut made = BTreeMap::new();
        for path in makes {
            let hash = ledger::hash_of(&self.out.join(path))
                .with_context(|| format!("stage `{name}` has left no `{path}`"))?;
            made.insert((*path).to_string(), hash);
        }
        self.made.extend(made.clone());
        self.ledger
            .stages
            .insert(name.to_string(), Done { key, made });
        self.ledger.write(self.out)?;
        *self.timing.entry(name.to_string()).or_default() += started.elapsed().as_secs_f64();
        let timing = serde_json::to_string_pretty(&self.timing)? + "\n";
        ledger::write_whole(&self.out.join("timing.json"), timing.as_bytes())?;
        self.event("stage done", json!({ "stage": name }));
        // A Ctrl-C between two pieces of work is heard here.
        Ok(if crate::interrupt::asked() {
            Flow::Stopped
        } else {
            Flow::Done
        })
    }

    /// Hash of a file or folder that an earlier stage made.
    pub(crate) fn hash(&self, path: &str) -> &str {
        self.made.get(path).map_or("", String::as_str)
    }

    /// Appends to events.jsonl.
    pub(crate) fn event(&mut self, kind: &str, what: serde_json::Value) {
        self.events.tell(kind, &what);
    }
}

/// Reads what the recipe names before anything is written, so that a mistake leaves nothing behind.
fn preflight(recipe: &RunRecipe) -> Result<()> {
    problems::check(recipe)?;
    if let Some(folder) = &recipe.model.checkpoint {
        let folder = weights_folder(folder)?;
        let config = model::config::ModelConfig::read(&folder)?;
        model::tokenizer::Tokenizer::load(&folder)?.check_fits(&config)?;
        infer::vocab::TokenizerVocab::load(&folder)?;
    }
    Ok(())
}

/// Takes a run's folder: makes it, or finds it made by the same recipe on the same device.
///
/// # Errors
/// If another process works in it, or it holds something else.
pub(crate) fn open_folder(
    out: &Path,
    hash: &str,
    device: &str,
    overwrite: bool,
) -> Result<(Ledger, Lock)> {
    let name = out.display();
    if !out.join(ledger::FILE).exists() && out.is_dir() && holds_something(out)? {
        return Err(Fault::new(
            format!("`{name}` is not empty and holds no run"),
            "pass another --out DIR",
        )
        .into());
    }
    // Before anything is read: what another process is about to write is no basis.
    let lock = Lock::folder(out)?;
    if overwrite {
        clear::clear(out)?;
    }
    if let Some(ledger) = Ledger::read(out)?.filter(|ledger| !ledger.is_nobodys()) {
        let other = |what: &str, there: &str, here: &str| {
            Fault::new(
                format!("`{name}` holds a run of another {what}: {there}, and this is {here}"),
                "pass another --out DIR, or --overwrite to start anew",
            )
        };
        if ledger.version != Ledger::VERSION {
            let (there, here) = (ledger.version.to_string(), Ledger::VERSION.to_string());
            return Err(other("format version", &there, &here).into());
        }
        if ledger.recipe != hash {
            return Err(other(
                "recipe",
                &ledger.recipe[..12.min(ledger.recipe.len())],
                &hash[..12],
            )
            .into());
        }
        if ledger.device != device {
            return Err(other("device", &ledger.device, device).into());
        }
        clear::remove_half_written(out)?;
        return Ok((ledger, lock));
    }
    let ledger = Ledger {
        version: Ledger::VERSION,
        recipe: hash.to_string(),
        device: device.to_string(),
        finished: false,
        stages: BTreeMap::new(),
    };
    ledger.write(out)?;
    Ok((ledger, lock))
}

/// Whether there is anything but what a process leaves that was killed as it made the folder.
fn holds_something(out: &Path) -> Result<bool> {
    let unfinished = format!(".{}.tmp", ledger::FILE);
    for entry in fs::read_dir(out)? {
        let name = entry?.file_name();
        if name != lock::FILE && name != unfinished.as_str() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads a file of the run's folder as records.
pub(crate) fn read_records<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let name = || format!("`{}`", path.display());
    let file = File::open(path).with_context(name)?;
    protocol::jsonl::read(std::io::BufReader::new(file)).with_context(name)
}

/// Writes records to a file that is whole at any moment.
pub(crate) fn write_records<T: Serialize>(path: &Path, records: &[T]) -> Result<()> {
    let mut bytes = Vec::new();
    for record in records {
        protocol::jsonl::write(&mut bytes, record)?;
    }
    ledger::write_whole(path, &bytes)
}

/// Where a checkpoint of this run lies.
pub(crate) fn checkpoint_path(name: &str) -> String {
    Path::new("checkpoints")
        .join(name)
        .to_string_lossy()
        .into_owned()
}

/// The folder of a user's model whose weights are needed: not that of an adapter.
pub(crate) fn weights_folder(path: &Path) -> Result<PathBuf> {
    let folder = model_folder(path)?;
    match model::checkpoint::is_adapter(&folder) {
        false => Ok(folder),
        true => Err(Fault::new(
            format!("`{}` holds an adapter, and no model", path.display()),
            "`leap checkpoint merge BASE ADAPTER OUT --dtype bf16` makes a model of it and the \
             checkpoint that it was trained on",
        )
        .into()),
    }
}

/// The folder of a user's model, checked to be there.
pub(crate) fn model_folder(path: &Path) -> Result<PathBuf> {
    match path.is_dir() {
        true => Ok(path.to_path_buf()),
        false => Err(Fault::new(
            format!("there is no model folder `{}`", path.display()),
            "a model folder holds config.json, tokenizer.json and *.safetensors; `leap pull \
             OWNER/NAME` brings one from the hub",
        )
        .into()),
    }
}
