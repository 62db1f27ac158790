//! A repository into a folder: planned first, then fetched file by file.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::cache;
use super::client::Client;
use super::digest::{Digests, known_digests};
use super::error::io;
use super::names::{self, WORK};
use super::record::{PullRecord, PulledFile};
use super::{Event, HubError, Kind, RemoteFile, Repo, Revision, Watch, tell};

/// What is pulled, and where to.
#[derive(Clone, Debug)]
pub struct PullSettings {
    /// The repository.
    pub repo: Repo,
    /// The state of it that is wanted.
    pub revision: Revision,
    /// The folder.
    pub folder: PathBuf,
    /// Patterns of the files that are wanted; empty: what a checkpoint needs, or a whole data set.
    pub include: Vec<String>,
}

/// What a pull will do.
#[derive(Debug)]
pub struct Plan {
    /// The commit that the revision stands for.
    pub commit: String,
    /// Files that will be fetched.
    pub fetch: Vec<RemoteFile>,
    /// Files that are there already, with the content that the hub lists.
    pub there: Vec<RemoteFile>,
    /// Files of the repository that nobody asked for.
    pub left_out: Vec<RemoteFile>,
    /// Files of an earlier commit that this one does not have; they are removed.
    pub outdated: Vec<String>,
    settings: PullSettings,
    known: BTreeMap<String, PulledFile>,
    recorded: bool,
    _lock: File,
}

/// What a pull did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The commit.
    pub commit: String,
    /// Files that were fetched.
    pub fetched: usize,
    /// Those of them that came from the machine's cache instead of the network.
    pub cached: usize,
    /// Files that were there.
    pub there: usize,
}

impl Plan {
    /// Bytes of the files that will be fetched.
    pub fn bytes(&self) -> u64 {
        self.fetch.iter().map(|file| file.bytes).sum()
    }

    /// Whether the folder is as it should be.
    pub fn nothing_to_do(&self) -> bool {
        self.fetch.is_empty() && self.outdated.is_empty() && self.recorded
    }
}

/// Asks the hub what the repository holds, and looks at what the folder holds already. The folder
/// is made, and kept from other processes that pull, as long as the plan lives.
///
/// # Errors
/// [`HubError`]: above all a name that would leave the folder, and a file in the folder that
/// neither is the hub's nor was pulled before.
pub fn plan(
    client: &Client,
    settings: &PullSettings,
    watch: &mut Watch<'_>,
) -> Result<Plan, HubError> {
    let (repo, folder) = (&settings.repo, settings.folder.as_path());
    // Patterns are read before the network is asked.
    names::choose(repo.kind, &settings.include, Vec::new())?;
    let record = PullRecord::read(folder)?;
    if let Some(record) = &record
        && (record.repo != repo.name() || record.kind != repo.kind)
    {
        return Err(HubError::OtherRepo {
            folder: folder.to_owned(),
            holds: format!("{} `{}`", record.kind.word(), record.repo),
            asked: repo.to_string(),
        });
    }
    let resolved = client.resolve(repo, &settings.revision, watch)?;
    let files = client.files(repo, &resolved.commit, watch)?;
    let (wanted, left_out) = names::choose(repo.kind, &settings.include, files)?;
    check_choice(settings, &wanted, &left_out)?;
    let lock = lock(folder)?;
    let mut plan = Plan {
        commit: resolved.commit,
        fetch: Vec::new(),
        there: Vec::new(),
        left_out,
        outdated: Vec::new(),
        settings: settings.clone(),
        known: BTreeMap::new(),
        recorded: false,
        _lock: lock,
    };
    let looked = plan.look(wanted, record, watch);
    if let Err(error) = looked {
        // A refusal leaves no trace; only a folder that holds parts stays.
        let work = folder.join(WORK);
        let _ = fs::remove_file(work.join("lock")).and_then(|()| fs::remove_dir(&work));
        return Err(error);
    }
    Ok(plan)
}

impl Plan {
    /// Compares what is wanted with what is there.
    fn look(
        &mut self,
        wanted: Vec<RemoteFile>,
        record: Option<PullRecord>,
        watch: &mut Watch<'_>,
    ) -> Result<(), HubError> {
        let folder = self.settings.folder.clone();
        let pulled = record
            .as_ref()
            .map(|record| record.files.clone())
            .unwrap_or_default();
        let mut foreign = Vec::new();
        for file in wanted {
            match present(&folder, &file.name, watch)? {
                None => self.fetch.push(file),
                Some(found) if found.is(file.bytes, &file.hash) => {
                    self.known.insert(file.name.clone(), found.into());
                    self.there.push(file);
                }
                Some(found) if pulled.get(&file.name) == Some(&found.clone().into()) => {
                    self.fetch.push(file);
                }
                Some(_) => foreign.push(file.name),
            }
        }
        let same_commit = record
            .as_ref()
            .is_some_and(|record| record.commit == self.commit);
        let mine = |name: &String| {
            self.known.contains_key(name) || self.fetch.iter().any(|file| file.name == *name)
        };
        let others = pulled.iter().filter(|(name, _)| !mine(name));
        let others: Vec<(String, PulledFile)> = others
            .map(|(name, file)| (name.clone(), file.clone()))
            .collect();
        for (name, file) in others {
            match present(&folder, &name, watch)? {
                None => {}
                // Of this very commit, by another pattern.
                Some(_) if same_commit => drop(self.known.insert(name, file)),
                // A folder with files of two commits would be neither.
                Some(found) if PulledFile::from(found.clone()) == file => self.outdated.push(name),
                Some(_) => foreign.push(name),
            }
        }
        if !foreign.is_empty() {
            return Err(HubError::Foreign {
                folder,
                names: foreign,
            });
        }
        self.recorded = record.as_ref() == Some(&self.record(true));
        Ok(())
    }

    fn record(&self, complete: bool) -> PullRecord {
        PullRecord {
            version: 1,
            repo: self.settings.repo.name().to_owned(),
            kind: self.settings.repo.kind,
            revision: self.settings.revision.as_str().to_owned(),
            commit: self.commit.clone(),
            complete,
            files: self.known.clone(),
        }
    }
}

/// Does what was planned. Files appear under their names when they are whole and checked; what has
/// been fetched is kept when the pull is stopped or fails, and a new plan goes on from there.
///
/// # Errors
/// [`HubError`].
pub fn pull(client: &Client, mut plan: Plan, watch: &mut Watch<'_>) -> Result<Pulled, HubError> {
    let folder = plan.settings.folder.clone();
    let work = folder.join(WORK);
    let mut pulled = Pulled {
        commit: plan.commit.clone(),
        fetched: plan.fetch.len(),
        cached: 0,
        there: plan.there.len(),
    };
    if !plan.nothing_to_do() {
        for name in std::mem::take(&mut plan.outdated) {
            let path = folder.join(&name);
            fs::remove_file(&path).map_err(io(&path))?;
        }
        plan.record(false).write(&folder)?;
        for file in std::mem::take(&mut plan.fetch) {
            // Named by content, so that the half of another commit's file is never gone on with.
            let part = match file.hash.text() {
                "" => work.join(format!("{}-{}.part", plan.commit, plan.known.len())),
                hash => work.join(format!("{hash}.part")),
            };
            let repo = &plan.settings.repo;
            let found = match cache::copy(repo, &plan.commit, &file, &part, watch)? {
                Some(found) => {
                    pulled.cached += 1;
                    found
                }
                None => client.fetch(repo, &plan.commit, &file, &part, watch)?,
            };
            let path = place(&folder, &file.name)?;
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(io(parent))?;
            }
            fs::rename(&part, &path).map_err(io(&path))?;
            plan.known.insert(file.name.clone(), found.into());
            plan.record(false).write(&folder)?;
            tell(watch, Event::Whole { name: &file.name })?;
        }
        plan.record(true).write(&folder)?;
    }
    fs::remove_dir_all(&work).map_err(io(&work))?;
    Ok(pulled)
}

impl From<Digests> for PulledFile {
    fn from(found: Digests) -> Self {
        Self {
            bytes: found.bytes,
            sha256: found.sha256,
        }
    }
}

/// A model needs weights that can be read; patterns have to fit something.
fn check_choice(
    settings: &PullSettings,
    wanted: &[RemoteFile],
    left_out: &[RemoteFile],
) -> Result<(), HubError> {
    let repo = settings.repo.name().to_owned();
    let own = !settings.include.is_empty();
    if own && wanted.is_empty() {
        return Err(HubError::NoMatch {
            repo,
            patterns: settings.include.clone(),
        });
    }
    let weights = |file: &&RemoteFile| file.name.ends_with(".safetensors");
    if !own && settings.repo.kind == Kind::Model && !wanted.iter().any(|file| weights(&file)) {
        let has = wanted.iter().chain(left_out).map(|file| file.name.clone());
        let mut has: Vec<String> = has.take(8).collect();
        if has.is_empty() {
            has.push("no file".to_owned());
        }
        return Err(HubError::NoWeights { repo, has });
    }
    Ok(())
}

/// Makes the folder and its place for work in progress, and keeps others out.
fn lock(folder: &Path) -> Result<File, HubError> {
    fs::create_dir_all(folder).map_err(io(folder))?;
    place(folder, &format!("{WORK}/lock"))?;
    let work = folder.join(WORK);
    fs::create_dir_all(&work).map_err(io(&work))?;
    let path = work.join("lock");
    let file = File::create(&path).map_err(io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(HubError::Locked {
            folder: folder.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(io(&path)(error)),
    }
}

/// Hashes of the file of this name, if it is there.
fn present(folder: &Path, name: &str, watch: &mut Watch<'_>) -> Result<Option<Digests>, HubError> {
    let path = place(folder, name)?;
    match path.symlink_metadata() {
        Ok(_) => known_digests(&path, name, watch).map(Some),
        Err(_) => Ok(None),
    }
}

/// Where a file of this name lies. Nothing on the way to it may be a link, which could lead out of
/// the folder.
fn place(folder: &Path, name: &str) -> Result<PathBuf, HubError> {
    let mut path = folder.to_owned();
    let mut parts = name.split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        let last = parts.peek().is_none();
        match path.symlink_metadata() {
            Ok(found) if last && found.is_file() => {}
            Ok(found) if !last && found.is_dir() => {}
            Ok(_) => return Err(HubError::NotPlain { path }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(&path)(error)),
        }
    }
    Ok(path)
}
