//! A folder into a repository: one commit with what the hub does not have yet.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Client;
use super::digest::{Digests, digests};
use super::error::io;
use super::lfs::Object;
use super::request::Request;
use super::{HubError, RemoteFile, Repo, Revision, Watch, names};

/// Bytes of a file's beginning that the hub looks at to tell text from data.
const SAMPLE: usize = 512;
/// Files that the hub is asked about at a time.
const ASKED: usize = 250;

/// What is pushed, and where to.
#[derive(Clone, Debug)]
pub struct PushSettings {
    /// The repository; it is made if it is not there.
    pub repo: Repo,
    /// The folder.
    pub folder: PathBuf,
    /// Whether nobody else may see it.
    pub private: bool,
    /// What the commit says.
    pub message: String,
}

/// What a push did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Whether the repository was made.
    pub created: bool,
    /// The new commit; None if the hub had everything.
    pub commit: Option<String>,
    /// Files of the commit.
    pub sent: Vec<String>,
    /// Files that the hub had.
    pub there: usize,
    /// Files that the hub does not want, by its own list.
    pub ignored: Vec<String>,
    /// The repository's page.
    pub page: String,
}

/// A file of the folder.
struct Local {
    name: String,
    path: PathBuf,
    digests: Digests,
}

#[derive(Deserialize)]
struct Modes {
    files: Vec<Mode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mode {
    path: String,
    upload_mode: String,
    #[serde(default)]
    should_ignore: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Committed {
    commit_oid: String,
}

/// Pushes all files of a folder, those below it too, but hidden ones and `pull.json`. The hub sees
/// one commit, or none if it has everything.
///
/// # Errors
/// [`HubError`]: above all no token, a link in the folder, and a repository that is public when a
/// private one was asked for.
pub fn push(
    client: &Client,
    settings: &PushSettings,
    watch: &mut Watch<'_>,
) -> Result<Pushed, HubError> {
    let repo = &settings.repo;
    if repo.owner().is_none() {
        return Err(HubError::Repo {
            text: repo.name().to_owned(),
            problem: "write owner/name",
        });
    }
    if !client.has_token() {
        return Err(HubError::NoToken {
            repo: repo.name().to_owned(),
        });
    }
    let mut found = Vec::new();
    collect(&settings.folder, "", &mut found)?;
    if found.is_empty() {
        return Err(HubError::Empty {
            folder: settings.folder.clone(),
        });
    }
    let mut files = Vec::new();
    for (name, path) in found {
        let digests = digests(&path, watch)?;
        files.push(Local {
            name,
            path,
            digests,
        });
    }
    let (created, commit) = home(client, settings, watch)?;
    let listed = client.files(repo, &commit, watch)?;
    let same = |file: &Local, listed: &RemoteFile| {
        listed.name == file.name && file.digests.is(listed.bytes, &listed.hash)
    };
    let all = files.len();
    files.retain(|file| !listed.iter().any(|listed| same(file, listed)));
    let mut pushed = Pushed {
        created,
        commit: None,
        sent: Vec::new(),
        there: all - files.len(),
        ignored: Vec::new(),
        page: client.url(&repo.page()),
    };
    let (large, small) = modes(client, repo, &files, &mut pushed.ignored, watch)?;
    if large.is_empty() && small.is_empty() {
        return Ok(pushed);
    }
    let objects: Vec<Object<'_>> = large.iter().map(|file| file.object()).collect();
    client.upload(repo, &objects, watch)?;
    let body = commit_body(&settings.message, &commit, &large, &small)?;
    pushed.commit = Some(committed(client, repo, body, watch)?);
    pushed.sent = large
        .iter()
        .chain(&small)
        .map(|file| file.name.clone())
        .collect();
    Ok(pushed)
}

impl Local {
    fn object(&self) -> Object<'_> {
        Object {
            name: &self.name,
            path: &self.path,
            bytes: self.digests.bytes,
            sha256: &self.digests.sha256,
        }
    }
}

/// The plain files below a folder, by name; hidden ones and what pulling wrote stay here.
fn collect(
    folder: &Path,
    prefix: &str,
    found: &mut Vec<(String, PathBuf)>,
) -> Result<(), HubError> {
    let entries = fs::read_dir(folder).map_err(io(folder))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(io(folder))?;
    paths.sort();
    for path in paths {
        let own = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{prefix}{own}");
        if own.starts_with('.') || names::is_ours(&name) {
            continue;
        }
        let kind = path.symlink_metadata().map_err(io(&path))?;
        if kind.is_dir() {
            collect(&path, &format!("{name}/"), found)?;
        } else if kind.is_file() {
            names::check(&folder.display().to_string(), &name)?;
            found.push((name, path));
        } else {
            // What is behind a link may be anybody's.
            return Err(HubError::NotPlain { path });
        }
    }
    Ok(())
}

/// Finds or makes the repository. Returns whether it was made, and its newest commit.
fn home(
    client: &Client,
    settings: &PushSettings,
    watch: &mut Watch<'_>,
) -> Result<(bool, String), HubError> {
    let (repo, main) = (&settings.repo, Revision::main());
    match client.resolve(repo, &main, watch) {
        Ok(found) if settings.private && !found.private => Err(HubError::Public {
            repo: repo.name().to_owned(),
        }),
        Ok(found) => Ok((false, found.commit)),
        Err(HubError::NoRepo { .. }) => {
            let body = json!({
                "name": repo.short(), "organization": repo.owner(), "type": repo.kind.word(),
                "private": settings.private,
            });
            let url = client.url("api/repos/create");
            let body = body.to_string().into_bytes();
            let request = Request::post(url, "application/json", body);
            let answer = client.ask(&request, watch)?;
            // 409: a first try was heard though its answer was lost.
            if answer.status() != 409 {
                answer.done(client, repo)?;
            }
            let found = client.resolve(repo, &main, watch)?;
            match settings.private && !found.private {
                true => Err(HubError::Public {
                    repo: repo.name().to_owned(),
                }),
                false => Ok((true, found.commit)),
            }
        }
        Err(error) => Err(error),
    }
}

/// Asks the hub which files go to the large storage and which into the commit itself.
fn modes<'a>(
    client: &Client,
    repo: &Repo,
    files: &'a [Local],
    ignored: &mut Vec<String>,
    watch: &mut Watch<'_>,
) -> Result<(Vec<&'a Local>, Vec<&'a Local>), HubError> {
    let (mut large, mut small) = (Vec::new(), Vec::new());
    let url = client.url(&format!("api/{}/preupload/main", repo.api()));
    for files in files.chunks(ASKED) {
        let mut asked = Vec::new();
        for file in files {
            let sample = STANDARD.encode(beginning(&file.path)?);
            let size = file.digests.bytes;
            asked.push(json!({"path": file.name, "sample": sample, "size": size}));
        }
        let body = json!({"files": asked}).to_string().into_bytes();
        let request = Request::post(url.clone(), "application/json", body);
        let answer = client.ask(&request, watch)?.done(client, repo)?;
        let modes: Modes = answer.json()?;
        for file in files {
            let mode = modes.files.iter().find(|mode| mode.path == file.name);
            match mode {
                Some(mode) if mode.should_ignore => ignored.push(file.name.clone()),
                // There is no large storage for nothing.
                Some(_) if file.digests.bytes == 0 => small.push(file),
                Some(mode) if mode.upload_mode == "lfs" => large.push(file),
                Some(mode) if mode.upload_mode == "regular" => small.push(file),
                _ => {
                    return Err(HubError::Answer {
                        url: url.clone(),
                        problem: format!("it does not say how `{}` is uploaded", file.name),
                    });
                }
            }
        }
    }
    Ok((large, small))
}

fn beginning(path: &Path) -> Result<Vec<u8>, HubError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(io(path))?;
    file.take(SAMPLE as u64)
        .read_to_end(&mut bytes)
        .map_err(io(path))?;
    Ok(bytes)
}

/// The commit as the hub wants it: one JSON object a line.
fn commit_body(
    message: &str,
    parent: &str,
    large: &[&Local],
    small: &[&Local],
) -> Result<Vec<u8>, HubError> {
    let (summary, description) = message.split_once('\n').unwrap_or((message, ""));
    let mut lines = vec![json!({"key": "header", "value": {
        "summary": summary, "description": description.trim(), "parentCommit": parent,
    }})];
    for file in small {
        let content = fs::read(&file.path).map_err(io(&file.path))?;
        lines.push(json!({"key": "file", "value": {
            "path": file.name, "encoding": "base64", "content": STANDARD.encode(content),
        }}));
    }
    for file in large {
        lines.push(json!({"key": "lfsFile", "value": {
            "path": file.name, "algo": "sha256", "oid": file.digests.sha256,
            "size": file.digests.bytes,
        }}));
    }
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    Ok((lines.join("\n") + "\n").into_bytes())
}

fn committed(
    client: &Client,
    repo: &Repo,
    body: Vec<u8>,
    watch: &mut Watch<'_>,
) -> Result<String, HubError> {
    let url = client.url(&format!("api/{}/commit/main", repo.api()));
    let answer = client.ask(&Request::post(url, "application/x-ndjson", body), watch)?;
    // The commit names its parent, so that one that is sent twice is not made twice.
    if matches!(answer.status(), 409 | 412) {
        return Err(HubError::Moved {
            repo: repo.name().to_owned(),
        });
    }
    let committed: Committed = answer.done(client, repo)?.json()?;
    Ok(committed.commit_oid)
}
