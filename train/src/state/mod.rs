//! Trainer states on disk: what is needed to go on as if nothing had happened.
//!
//! A state is a folder `step-00000040` with weights and moments in `trainer.safetensors` and a
//! `manifest.json`; one of a training that was stopped within a step, `step-00000040+3`, holds the sums
//! of its first micro-batches, too. It is written under another name and renamed when every byte is on the disk,
//! so that a folder of that name is whole; the manifest's hashes, of the tensors and of what it says
//! itself, find those that were damaged later.
//! A state belongs to a key, the hash of everything that decides the result.

mod manifest;
mod tensors;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use manifest::{MANIFEST, Manifest};
pub(crate) use tensors::{Format, Stored, Table, Values};

/// Why a trainer state cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system refused.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The manifest is no manifest.
    #[error("`{}` is not the manifest of a trainer state: {source}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A version this build does not read.
    #[error("`{}` has version {found}, and this build reads {expected}", path.display())]
    Version {
        /// The manifest.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that can be read.
        expected: u32,
    },
    /// It belongs to another training.
    #[error("`{}` belongs to another training: its key is {found}, not {expected}", path.display())]
    Foreign {
        /// The state's folder.
        path: PathBuf,
        /// Its key.
        found: String,
        /// The key of this training.
        expected: String,
    },
    /// The manifest names another moment than the folder.
    #[error("`{}` holds `{found}`", path.display())]
    Step {
        /// The state's folder.
        path: PathBuf,
        /// The folder's name by its manifest.
        found: String,
    },
    /// The tensors are not those of this model.
    #[error("`{}` does not hold the tensors of this model", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
    },
    /// The bytes are not those that were written.
    #[error("`{}` is damaged: its SHA-256 is {found}, but {expected} was written", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its hash.
        found: String,
        /// The hash in the manifest.
        expected: String,
    },
    /// The bytes were whole, and are others when they are read again to be used.
    #[error(
        "`{}` was whole when it was checked, and other bytes came when it was read again: something \
         writes to it, or its disk cannot be relied on",
        path.display()
    )]
    Unsteady {
        /// The file.
        path: PathBuf,
    },
    /// The manifest does not say what was written.
    #[error(
        "`{}` is damaged: the SHA-256 of what it says is {found}, but {expected} was written",
        path.display()
    )]
    Changed {
        /// The manifest.
        path: PathBuf,
        /// The hash of what it says.
        found: String,
        /// The hash in it.
        expected: String,
    },
    /// A training that goes back to this state cannot use it, and no other one will do.
    #[error(
        "cannot go back to `{}`: delete it and the states of later steps beside it, and the same \
         training goes on from the one before, or begins anew",
        path.display()
    )]
    Needed {
        /// The state's folder.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<StateError>,
    },
}

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    move |source| StateError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where a training stands, without its tensors.
///
/// There is no state of a random generator: every draw is a function of seed, step and sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Standing {
    /// Steps behind; the data position follows.
    pub(crate) step: usize,
    /// Tokens with loss so far.
    pub(crate) trained_tokens: u64,
    /// Steps that roll-backs passed over; the count of the bias correction is `step` less these.
    pub(crate) skipped: usize,
    /// Roll-backs so far.
    pub(crate) roll_backs: usize,
    /// The step to whose state a roll-back goes; 0 = the weights it began with.
    pub(crate) anchor: usize,
    /// The step whose state becomes the anchor once the next loss is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_anchor: Option<usize>,
    /// Losses of the last steps, oldest first.
    pub(crate) recent: Vec<f64>,
    /// The step of the last look at held-out samples.
    pub(crate) looked: Option<usize>,
    /// The best look.
    pub(crate) best: Option<Best>,
    /// Looks after it.
    pub(crate) looks_since_best: usize,
    /// The step under way, if some of its micro-batches are behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) within: Option<Within>,
}

/// How far a step is that was stopped between two micro-batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Within {
    /// Micro-batches behind.
    pub(crate) micro_batches: usize,
    /// Their share of the step's loss.
    pub(crate) loss: f64,
    /// Whether each parameter has got a gradient; those that have, have a sum in the state.
    pub(crate) reached: Vec<bool>,
}

/// The look with the lowest loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Best {
    pub(crate) step: usize,
    pub(crate) loss: f64,
}

impl Standing {
    /// Updates so far.
    pub(crate) fn updates(&self) -> usize {
        self.step - self.skipped
    }

    /// What the state's folder is named after.
    fn moment(&self) -> Moment {
        let within = self.within.as_ref();
        Moment {
            step: self.step,
            micro_batches: within.map_or(0, |within| within.micro_batches),
        }
    }

    /// Whether the state of `step` is needed however old it gets.
    fn needs(&self, step: usize) -> bool {
        let anchor = step == self.anchor || self.next_anchor == Some(step);
        anchor || self.best.is_some_and(|best| best.step == step)
    }
}

const TENSORS: &str = "trainer.safetensors";
const PREFIX: &str = "step-";
const WITHIN: char = '+';
const UNFINISHED: &str = ".unfinished";

/// A moment of a training: steps behind, and micro-batches of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    step: usize,
    micro_batches: usize,
}

impl Moment {
    /// The moment of a folder of this name, if it is one of a state.
    fn of(name: &str) -> Option<Self> {
        let (step, micro_batches) = match name.strip_prefix(PREFIX)?.split_once(WITHIN) {
            Some((step, micro_batches)) => (step, micro_batches.parse().ok()?),
            None => (name.strip_prefix(PREFIX)?, 0),
        };
        Some(Self {
            step: step.parse().ok()?,
            micro_batches,
        })
    }

    fn name(self) -> String {
        let Self {
            step,
            micro_batches,
        } = self;
        match micro_batches {
            0 => format!("{PREFIX}{step:08}"),
            _ => format!("{PREFIX}{step:08}{WITHIN}{micro_batches}"),
        }
    }
}

/// The states of one training, in one folder.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) folder: PathBuf,
    pub(crate) key: String,
}

/// The state to go on from, and those that were not fit.
pub(crate) struct Found {
    /// With its tensors, which are still on the disk.
    pub(crate) state: Option<(Standing, Stored)>,
    pub(crate) passed_over: Vec<(PathBuf, StateError)>,
}

impl Store {
    /// Looks for the newest whole state of this training, with the tensors of the table that belongs
    /// to its standing.
    ///
    /// # Errors
    /// If the folder cannot be listed. A state that cannot be used is passed over.
    pub(crate) fn newest(&self, table: &dyn Fn(&Standing) -> Table) -> Result<Found, StateError> {
        let mut found = Found {
            state: None,
            passed_over: Vec::new(),
        };
        for (moment, path) in self.list()?.into_iter().rev() {
            match self.open(moment, &path, table) {
                Ok(state) => {
                    found.state = Some(state);
                    break;
                }
                Err(error) => found.passed_over.push((path, error)),
            }
        }
        Ok(found)
    }

    /// The state after this step.
    ///
    /// # Errors
    /// If it is not there, or not whole: [`StateError::Needed`], unless the disk refuses.
    pub(crate) fn at(
        &self,
        step: usize,
        table: &dyn Fn(&Standing) -> Table,
    ) -> Result<(Standing, Stored), StateError> {
        let moment = Moment {
            step,
            micro_batches: 0,
        };
        let path = self.path(moment);
        self.open(moment, &path, table)
            .map_err(|error| match error {
                StateError::Io { ref source, .. } if source.kind() != io::ErrorKind::NotFound => {
                    error
                }
                error => StateError::Needed {
                    path,
                    source: Box::new(error),
                },
            })
    }

    fn path(&self, moment: Moment) -> PathBuf {
        self.folder.join(moment.name())
    }

    /// Writes a state, then removes all but the newest `keep` of this training and those that it
    /// still needs, and of those within a step all but this one; `values` gives the values of each
    /// tensor of `table`. States of later moments are left as they are: they were passed over, and stand for
    /// none of the `keep`.
    ///
    /// `before` is called before each operation on the disk; an error of its ends the save there,
    /// as a kill would, and leaves everything as it is at that moment.
    ///
    /// # Errors
    /// If the disk refuses. States written earlier stay whole, and what was written of this one is removed.
    pub(crate) fn save<'a>(
        &self,
        standing: &Standing,
        tensors: (&Table, &dyn Fn(usize) -> Values<'a>),
        keep: usize,
        before: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<PathBuf, StateError> {
        let killed = Cell::new(false);
        let mut at = |action, path: &Path| {
            let before = before().inspect_err(|_| killed.set(true));
            before.map_err(io_error(action, path))
        };
        let path = self.path(standing.moment());
        let unfinished = path.with_extension(&UNFINISHED[1..]);
        let made = self.make(standing, tensors, [&unfinished, &path], &mut at);
        if made.is_err() && !killed.get() {
            // On a full disk it is in the way of all else. The first error is what the caller has to know.
            let _ = fs::remove_dir_all(&unfinished);
        }
        made?;
        self.remove_old(standing, &path, keep, &mut at)?;
        Ok(path)
    }

    /// Writes a state to the folder `unfinished`, which then gets the name `path`.
    fn make<'a>(
        &self,
        standing: &Standing,
        (table, values): (&Table, &dyn Fn(usize) -> Values<'a>),
        [unfinished, path]: [&Path; 2],
        at: &mut dyn FnMut(&'static str, &Path) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        fs::create_dir_all(&self.folder).map_err(io_error("make", &self.folder))?;
        at("clear", &self.folder)?;
        self.clear_unfinished()?;
        at("make", unfinished)?;
        fs::create_dir(unfinished).map_err(io_error("make", unfinished))?;
        let tensors_sha256 = table.write(values, &unfinished.join(TENSORS), at)?;
        let text = Manifest::new(&self.key, standing, tensors_sha256).text();
        let manifest = unfinished.join(MANIFEST);
        at("write", &manifest)?;
        fs::write(&manifest, text).map_err(io_error("write", &manifest))?;
        sync(&manifest, at)?;
        sync(unfinished, at)?;
        // Only a damaged or foreign state can be there: a whole one would have been gone on from.
        if path.exists() {
            at("replace", path)?;
            remove(path)?;
        }
        at("rename", unfinished)?;
        fs::rename(unfinished, path).map_err(io_error("rename", unfinished))?;
        sync(&self.folder, at)
    }

    /// Removes what is of no use once the state with this standing is at `written`.
    fn remove_old(
        &self,
        standing: &Standing,
        written: &Path,
        keep: usize,
        at: &mut dyn FnMut(&'static str, &Path) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let states = self.list()?.into_iter();
        let own = states.filter(|(_, path)| self.owns(path));
        let (whole, within): (Vec<_>, Vec<_>) =
            own.partition(|(moment, _)| moment.micro_batches == 0);
        let until_now = whole
            .into_iter()
            .rev()
            .filter(|(moment, _)| *moment <= standing.moment());
        let old = until_now
            .skip(keep)
            .filter(|(moment, _)| !standing.needs(moment.step));
        let old = within.into_iter().chain(old);
        for (_, path) in old.filter(|(_, path)| path != written) {
            at("remove", &path)?;
            remove(&path)?;
        }
        Ok(())
    }

    /// All folders that are named as a state, oldest first.
    fn list(&self) -> Result<Vec<(Moment, PathBuf)>, StateError> {
        let failed = || io_error("list", &self.folder);
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed()(error)),
        };
        let mut states = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed())?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let moment = name.and_then(Moment::of);
            states.extend(moment.map(|moment| (moment, path)));
        }
        states.sort();
        Ok(states)
    }

    fn manifest(&self, folder: &Path) -> Result<Manifest, StateError> {
        let manifest = Manifest::read(folder)?;
        if manifest.key != self.key {
            return Err(StateError::Foreign {
                path: folder.to_owned(),
                found: manifest.key,
                expected: self.key.clone(),
            });
        }
        Ok(manifest)
    }

    fn owns(&self, folder: &Path) -> bool {
        self.manifest(folder).is_ok()
    }

    fn open(
        &self,
        moment: Moment,
        folder: &Path,
        table: &dyn Fn(&Standing) -> Table,
    ) -> Result<(Standing, Stored), StateError> {
        let manifest = self.manifest(folder)?;
        if manifest.standing.moment() != moment {
            return Err(StateError::Step {
                path: folder.to_owned(),
                found: manifest.standing.moment().name(),
            });
        }
        let table = table(&manifest.standing);
        let stored = table.open(&folder.join(TENSORS), &manifest.tensors_sha256)?;
        Ok((manifest.standing, stored))
    }

    fn clear_unfinished(&self) -> Result<(), StateError> {
        let failed = || io_error("list", &self.folder);
        for entry in fs::read_dir(&self.folder).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if name.starts_with(PREFIX) && name.ends_with(UNFINISHED) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Removes a state, the manifest first: what is half removed must not pass for whole.
fn remove(folder: &Path) -> Result<(), StateError> {
    match fs::remove_file(folder.join(MANIFEST)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove", folder)(error));
        }
        _ => {}
    }
    fs::remove_dir_all(folder).map_err(io_error("remove", folder))
}

/// Waits until a file or the entries of a folder are on the disk.
fn sync(
    path: &Path,
    at: &mut dyn FnMut(&'static str, &Path) -> Result<(), StateError>,
) -> Result<(), StateError> {
    at("sync", path)?;
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(io_error("sync", path))
}
