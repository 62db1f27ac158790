//! The output folder of an evaluation: its ledger, its events, and which steps are done.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use crate::events::Events;
use crate::ledger::{self, Done, Ledger};
use crate::lock::Lock;
use crate::road;

/// An output folder that this process works in.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    ledger: Ledger,
    /// Hashes of what lies in it, by path.
    made: BTreeMap<String, String>,
    timing: BTreeMap<String, f64>,
    events: Events,
    _lock: Lock,
}

/// A step that is under way.
pub(crate) struct Step {
    name: String,
    /// Hash of its settings and of what it reads.
    pub(crate) key: String,
    makes: Vec<String>,
    started: Instant,
}

impl Folder {
    /// Makes the folder, or finds it made by the same recipe on the same device.
    ///
    /// # Errors
    /// If it belongs to another recipe, device or process.
    pub(crate) fn open(path: &Path, recipe: &str, device: &str, overwrite: bool) -> Result<Self> {
        let (ledger, lock) = road::open_folder(path, recipe, device, overwrite)?;
        let events = Events::open(path)?;
        let timing = fs::read_to_string(path.join("timing.json"))
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        Ok(Self {
            path: path.to_path_buf(),
            ledger,
            made: BTreeMap::new(),
            timing,
            events,
            _lock: lock,
        })
    }

    /// Begins a step; none if it is done already and what it made is unchanged.
    ///
    /// `reads` are paths in the folder that earlier steps made, or hashes given as they are.
    pub(crate) fn begin<T: Serialize>(
        &mut self,
        name: &str,
        settings: &T,
        reads: &[&str],
        makes: &[&str],
    ) -> Result<Option<Step>> {
        let hash = |read: &&str| {
            self.made
                .get(*read)
                .map_or((*read).to_owned(), String::clone)
        };
        let hashes: Vec<String> = reads.iter().map(hash).collect();
        let hashes: Vec<&str> = hashes.iter().map(String::as_str).collect();
        let key = ledger::key(name, settings, &hashes)?;
        if let Some(made) = self.ledger.valid(&self.path, name, &key) {
            self.made.extend(made.clone());
            return Ok(None);
        }
        if self.ledger.finished {
            self.ledger.finished = false;
            self.ledger.write(&self.path)?;
        }
        self.event("stage", &json!({ "stage": name, "key": key }));
        Ok(Some(Step {
            name: name.to_owned(),
            key,
            makes: makes.iter().map(|path| (*path).to_owned()).collect(),
            started: Instant::now(),
        }))
    }

    /// Notes that a step is done.
    pub(crate) fn end(&mut self, step: Step) -> Result<()> {
        let mut made = BTreeMap::new();
        for path in step.makes {
            let hash = ledger::hash_of(&self.path.join(&path))
                .with_context(|| format!("step `{}` has left no `{path}`", step.name))?;
            made.insert(path, hash);
        }
        self.made.extend(made.clone());
        let done = Done {
            key: step.key,
            made,
        };
        self.ledger.stages.insert(step.name.clone(), done);
        self.ledger.write(&self.path)?;
        *self.timing.entry(step.name.clone()).or_default() += step.started.elapsed().as_secs_f64();
        let timing = serde_json::to_string_pretty(&self.timing)? + "\n";
        ledger::write_whole(&self.path.join("timing.json"), timing.as_bytes())?;
        self.event("stage done", &json!({ "stage": step.name }));
        Ok(())
    }

    /// Notes a step that was done elsewhere under this key, and what lies here of it.
    pub(crate) fn take(&mut self, name: &str, key: String, made: &str) -> Result<()> {
        let hash = ledger::hash_of(&self.path.join(made))
            .with_context(|| format!("step `{name}` has left no `{made}`"))?;
        let made = BTreeMap::from([(made.to_owned(), hash)]);
        self.ledger
            .stages
            .insert(name.to_owned(), Done { key, made });
        self.ledger.write(&self.path)
    }

    /// Whether everything was done before this process came.
    pub(crate) fn is_finished(&self) -> bool {
        self.ledger.finished
    }

    /// Notes that everything is done.
    pub(crate) fn finish(&mut self) -> Result<()> {
        if !self.ledger.finished {
            self.ledger.finished = true;
            self.ledger.write(&self.path)?;
        }
        self.event("finished", &json!({}));
        Ok(())
    }

    /// Appends to events.jsonl.
    pub(crate) fn event(&mut self, kind: &str, what: &serde_json::Value) {
        self.events.tell(kind, what);
    }
}
