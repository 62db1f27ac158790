//! The folder of `leap data-gen samples`: what is in it, and how it becomes whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data_gen::training_set::{Account, Sinks};
use protocol::{Sample, jsonl};
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::ledger::{self, Done, Ledger};
use crate::lock::{self, Lock};
use crate::sample_recipe::SampleRecipe;

/// What was done, written last.
pub(super) const REPORT: &str = "samples-report.json";
pub(super) const SAMPLES: &str = "samples.jsonl";
pub(super) const HELD_OUT: &str = "held-out.jsonl";
const RECIPE: &str = "recipe.toml";
/// The one stage of the ledger.
const STAGE: &str = "samples";
/// The key of what is being written, while it is.
const STARTED: &str = ".key";
pub(super) const LEAP: Names = Names {
    verdicts: "verdicts.jsonl",
    samples: SAMPLES,
    held_out: HELD_OUT,
};
pub(super) const CONTROL: Names = Names {
    verdicts: "verdicts-control.jsonl",
    samples: "samples-control.jsonl",
    held_out: "held-out-control.jsonl",
};

/// Files of one kind of traces.
pub(super) struct Names {
    verdicts: &'static str,
    pub(super) samples: &'static str,
    held_out: &'static str,
}

/// `samples-report.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    /// Version of this format.
    pub(super) version: u32,
    /// Hash of the recipe and of what was read.
    pub(super) key: String,
    /// Title of the recipe.
    pub(super) title: String,
    /// Of the traces with exchange.
    pub(super) leap: Account,
    /// Of those without; none if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) control: Option<Account>,
    /// Samples without exchange in the LeaP-T set.
    pub(super) mixed_in: u64,
}

/// The output folder. Files appear under their names when all are whole.
pub(super) struct Folder {
    path: PathBuf,
    /// Whether what is asked for is there.
    pub(super) finished: bool,
    key: String,
    made: Vec<&'static str>,
    _lock: Lock,
}

impl Folder {
    pub(super) fn open(path: &Path, overwrite: bool, key: &str) -> Result<Self> {
        if holds_something_else(path)? {
            return Err(Fault::new(
                format!(
                    "`{}` holds something else than samples of `leap data-gen samples`",
                    path.display()
                ),
                "choose a folder of its own with --out: nothing of others is overwritten",
            )
            .into());
        }
        let lock = Lock::folder(path)?;
        let report = path.join(REPORT);
        let old = match fs::read_to_string(&report) {
            Ok(text) => Some(serde_json::from_str::<Report>(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read `{}`", report.display()));
            }
        };
        let same = matches!(&old, Some(Some(report)) if report.key == key);
        // Cut off while files got their names: it is done again.
        let begun = fs::read_to_string(path.join(STARTED)).is_ok_and(|begun| begun == key);
        let foreign = old.is_none() && path.join(SAMPLES).exists() && !begun;
        if (old.is_some() && !same || foreign) && !overwrite {
            return Err(Fault::new(
                format!(
                    "`{}` holds samples of another recipe or other traces",
                    path.display()
                ),
                "choose another folder with --out, or pass --overwrite",
            )
            .into());
        }
        // A ledger that is damaged vouches for nothing.
        let ledger = Ledger::read(path).ok().flatten();
        let whole = ledger.is_some_and(|ledger| ledger.valid(path, STAGE, key).is_some());
        let finished = same && whole && !overwrite;
        if !finished {
            ledger::write_whole(&path.join(STARTED), key.as_bytes())?;
        }
        Ok(Self {
            path: path.to_owned(),
            finished,
            key: key.to_owned(),
            made: Vec::new(),
            _lock: lock,
        })
    }

    fn part(&self, name: &str) -> PathBuf {
        self.path.join(format!(".{name}.part"))
    }

    fn create(&mut self, name: &'static str) -> Result<BufWriter<Named>> {
        let path = self.part(name);
        let file =
            File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
        self.made.push(name);
        Ok(BufWriter::with_capacity(1 << 20, Named { path, file }))
    }

    /// Leaves the samples of a file that stay.
    pub(super) fn leave(&self, names: &Names, stay: &[bool]) -> Result<()> {
        let (from, to) = (
            self.part(names.samples),
            self.part(&format!("{}.left", names.samples)),
        );
        let write = || -> io::Result<()> {
            let mut out = BufWriter::new(File::create(&to)?);
            let lines = BufReader::new(File::open(&from)?).split(b'\n');
            for (line, stay) in lines.zip(stay) {
                let line = line?;
                if *stay {
                    out.write_all(&line)?;
                    out.write_all(b"\n")?;
                }
            }
            out.flush()?;
            fs::rename(&to, &from)
        };
        write().with_context(|| format!("cannot write `{}`", from.display()))
    }

    /// Puts those samples of the control that go with them behind those with exchange.
    pub(super) fn mix(&self, go: &[bool]) -> Result<()> {
        let (from, to) = (self.part(CONTROL.samples), self.part(LEAP.samples));
        let write = || -> Result<()> {
            let control = jsonl::records::<Sample>(BufReader::new(File::open(&from)?));
            let mut out = BufWriter::new(File::options().append(true).open(&to)?);
            for (sample, go) in control.zip(go) {
                let sample = sample?;
                if !go {
                    continue;
                }
                // The two sets number their groups alike, and an id is there once.
                let id = format!("control:{}", sample.id);
                jsonl::write(&mut out, &Sample { id, ..sample })?;
            }
            Ok(out.flush()?)
        };
        write().with_context(|| format!("cannot write `{}`", to.display()))
    }

    /// Gives every file its name; the report comes last.
    pub(super) fn keep(&self, recipe: &SampleRecipe, report: &Report) -> Result<()> {
        let _ = fs::remove_file(self.path.join(REPORT));
        for names in [&LEAP, &CONTROL] {
            for name in [names.verdicts, names.samples, names.held_out] {
                let (part, path) = (self.part(name), self.path.join(name));
                let keep = || match self.made.contains(&name) {
                    true => {
                        File::open(&part)?.sync_data()?;
                        fs::rename(&part, &path)
                    }
                    // Of an earlier recipe with a control.
                    false if path.exists() => fs::remove_file(&path),
                    false => Ok(()),
                };
                keep().with_context(|| format!("cannot write `{}`", path.display()))?;
            }
        }
        let text = toml::to_string_pretty(recipe)?;
        ledger::write_whole(&self.path.join(RECIPE), text.as_bytes())?;
        let text = serde_json::to_string_pretty(report)? + "\n";
        ledger::write_whole(&self.path.join(REPORT), text.as_bytes())?;
        self.note(report)?;
        fs::remove_file(self.path.join(STARTED))
            .context("cannot remove what says that it is under way")
    }
}

/// Whether there is anything in the folder, and it is not this command's: neither its report nor its
/// ledger, nor what says that it was under way.
fn holds_something_else(path: &Path) -> Result<bool> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read `{}`", path.display()));
        }
    };
    let mut empty = true;
    for entry in entries {
        let name = entry.with_context(|| format!("cannot read `{}`", path.display()))?;
        // What a killed or failed call leaves before anything has its name.
        let name = name.file_name().to_string_lossy().into_owned();
        let half = name.starts_with('.') && [".tmp", ".part"].iter().any(|end| name.ends_with(end));
        empty &= half || name == lock::FILE;
    }
    let ledger = Ledger::read(path).ok().flatten();
    if let Some(ledger) = ledger {
        let mut stages = ledger.stages.keys();
        return Ok(stages.any(|stage| stage != STAGE) || ledger.stages.is_empty());
    }
    let report = fs::read(path.join(REPORT)).ok();
    let report = report.is_some_and(|text| serde_json::from_slice::<Report>(&text).is_ok());
    Ok(!empty && !report && !path.join(STARTED).exists())
}

impl Folder {
    /// Writes the ledger, by which damage is noticed.
    fn note(&self, report: &Report) -> Result<()> {
        let mut made = BTreeMap::new();
        for name in self.made.iter().copied().chain([REPORT]) {
            let path = self.path.join(name);
            let hash = ledger::hash_of(&path);
            let hash = hash.with_context(|| format!("cannot read `{}`", path.display()))?;
            made.insert(name.to_owned(), hash);
        }
        let key = self.key.clone();
        Ledger {
            version: Ledger::VERSION,
            recipe: report.key.clone(),
            device: String::new(),
            finished: true,
            stages: BTreeMap::from([(STAGE.to_owned(), Done { key, made })]),
        }
        .write(&self.path)
    }
}

/// A file whose errors say which it is: those who write into it do not know.
struct Named {
    path: PathBuf,
    file: File,
}

impl Write for Named {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|error| {
            let path = self.path.display();
            io::Error::new(error.kind(), format!("cannot write `{path}`: {error}"))
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the lines of one set go.
pub(super) struct Writers {
    verdicts: Box<dyn Write>,
    samples: Box<dyn Write>,
    held_out: Box<dyn Write>,
}

impl Writers {
    pub(super) fn create(folder: &mut Folder, names: &Names) -> Result<Self> {
        Ok(Self {
            verdicts: Box::new(folder.create(names.verdicts)?),
            samples: Box::new(folder.create(names.samples)?),
            held_out: Box::new(folder.create(names.held_out)?),
        })
    }

    pub(super) fn nowhere() -> Self {
        Self {
            verdicts: Box::new(io::sink()),
            samples: Box::new(io::sink()),
            held_out: Box::new(io::sink()),
        }
    }

    pub(super) fn sinks(&mut self) -> Sinks<'_> {
        Sinks {
            verdicts: &mut *self.verdicts,
            samples: &mut *self.samples,
            held_out: &mut *self.held_out,
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.verdicts.flush()?;
        self.samples.flush()?;
        self.held_out.flush()
    }
}
