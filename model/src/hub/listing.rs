//! What a repository holds at a commit.

use serde::Deserialize;

use super::client::Client;
use super::digest::is_hex;
use super::request::Request;
use super::{HubError, Repo, Revision, Watch, names};

/// A listing of ten million files would be no model.
const PAGES: usize = 10_000;

/// A file as the hub lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path in the repository, with `/` between parts.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its hash.
    pub hash: ListedHash,
}

/// The hash that a hub lists for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListedHash {
    /// SHA-256 of the content, of files that git does not hold itself.
    Sha256(String),
    /// SHA-1 of the content as a git blob.
    Git(String),
    /// None: only the size can be checked.
    None,
}

impl ListedHash {
    /// The hash in hex; empty if there is none.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Sha256(text) | Self::Git(text) => text,
            Self::None => "",
        }
    }
}

/// What a revision stands for at this moment.
pub(super) struct Resolved {
    pub(super) commit: String,
    pub(super) private: bool,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    private: bool,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    // The listing of a whole repository says `sha256`, that of a commit's tree `oid`.
    #[serde(alias = "sha256")]
    oid: String,
    size: u64,
}

impl Client {
    /// The commit that a revision stands for.
    pub(super) fn resolve(
        &self,
        repo: &Repo,
        revision: &Revision,
        watch: &mut Watch<'_>,
    ) -> Result<Resolved, HubError> {
        let path = format!("api/{}/revision/{}", repo.api(), revision.encoded());
        let answer = self.ask(&Request::get(self.url(&path)), watch)?;
        if answer.header("x-error-code").as_deref() == Some("RevisionNotFound") {
            return Err(HubError::NoRevision {
                repo: repo.name().to_owned(),
                revision: revision.as_str().to_owned(),
            });
        }
        let answer = answer.done(self, repo)?;
        let url = answer.url.clone();
        let info: Info = answer.json()?;
        match is_hex(&info.sha, 40) {
            true => Ok(Resolved {
                commit: info.sha,
                private: info.private,
            }),
            false => Err(HubError::Answer {
                url,
                problem: "its `sha` is no commit".to_owned(),
            }),
        }
    }

    /// The files of a commit, by name. A name that would leave a folder is refused.
    pub(super) fn files(
        &self,
        repo: &Repo,
        commit: &str,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<RemoteFile>, HubError> {
        let mut url = self.url(&format!("api/{}/tree/{commit}?recursive=true", repo.api()));
        let mut files = Vec::new();
        for _ in 0..PAGES {
            let answer = self.ask(&Request::get(url.clone()), watch)?;
            let answer = answer.done(self, repo)?;
            let next = answer.header("link").and_then(|link| following(&link));
            let entries: Vec<Entry> = answer.json()?;
            for entry in entries {
                if entry.kind != "file" {
                    // Folders come with the files in them; of anything else there is no content.
                    continue;
                }
                names::check(repo.name(), &entry.path)?;
                files.push(entry.into_file());
            }
            match next {
                Some(next) if next.starts_with(&format!("{}/", self.endpoint())) => url = next,
                Some(_) => {
                    return Err(HubError::Answer {
                        url: super::request::shown(&url),
                        problem: "its next page is on another host".to_owned(),
                    });
                }
                None => {
                    files.sort_by(|a, b| a.name.cmp(&b.name));
                    files.dedup_by(|a, b| a.name == b.name);
                    return Ok(files);
                }
            }
        }
        Err(HubError::Answer {
            url: super::request::shown(&url),
            problem: "the listing does not end".to_owned(),
        })
    }
}

impl Entry {
    fn into_file(self) -> RemoteFile {
        let (bytes, hash) = match self.lfs {
            Some(lfs) if is_hex(&lfs.oid, 64) => (lfs.size, ListedHash::Sha256(lfs.oid)),
            Some(lfs) => (lfs.size, ListedHash::None),
            None if is_hex(&self.oid, 40) => (self.size, ListedHash::Git(self.oid)),
            None => (self.size, ListedHash::None),
        };
        RemoteFile {
            name: self.path,
            bytes,
            hash,
        }
    }
}

/// The address behind `rel="next"` of a link header.
fn following(link: &str) -> Option<String> {
    link.split(',').find_map(|one| {
        let (address, rest) = one.trim().strip_prefix('<')?.split_once('>')?;
        rest.contains("rel=\"next\"").then(|| address.to_owned())
    })
}
