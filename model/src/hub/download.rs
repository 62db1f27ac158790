//! One file from the hub to the disk: continued where it broke off, and checked.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use super::client::{Answer, Client, TRIES, again, pause};
use super::digest::{Digests, digests, is_hex};
use super::error::io;
use super::repo::encoded_path;
use super::request::Request;
use super::{Event, HubError, ListedHash, RemoteFile, Repo, Watch, tell};

/// How often a file is fetched anew because its content was wrong.
const WRONG_TRIES: u32 = 3;
/// A try that brought so much was no failure: the next one goes on from there.
const PROGRESS: u64 = 1 << 20;

impl Client {
    /// Fetches a file of a commit to `part`, going on with what is there, until its size and hash
    /// are the listed ones.
    ///
    /// # Errors
    /// [`HubError::WrongHash`] if the content is wrong each time (`part` is deleted), and what hub
    /// and disk say (`part` is kept).
    pub(super) fn fetch(
        &self,
        repo: &Repo,
        commit: &str,
        file: &RemoteFile,
        part: &Path,
        watch: &mut Watch<'_>,
    ) -> Result<Digests, HubError> {
        let path = format!(
            "{}/resolve/{commit}/{}",
            repo.page(),
            encoded_path(&file.name)
        );
        let mut tries = 1;
        loop {
            let linked = self.bytes(repo, &self.url(&path), file, part, watch)?;
            let listed = match (&file.hash, linked) {
                // A mirror may list no hash, and give it with the file.
                (ListedHash::None, Some(linked)) => ListedHash::Sha256(linked),
                (listed, _) => listed.clone(),
            };
            let found = digests(part, watch)?;
            if found.is(file.bytes, &listed) {
                return Ok(found);
            }
            fs::remove_file(part).map_err(io(part))?;
            let error = HubError::WrongHash {
                name: file.name.clone(),
                found: found.like(&listed).to_owned(),
                expected: listed.text().to_owned(),
                tries,
            };
            if tries == WRONG_TRIES {
                return Err(error);
            }
            again(watch, &file.name, &error, pause(tries))?;
            tries += 1;
        }
    }

    /// Fetches bytes until `part` has as many as listed. Returns the hash that came with them.
    fn bytes(
        &self,
        repo: &Repo,
        url: &str,
        file: &RemoteFile,
        part: &Path,
        watch: &mut Watch<'_>,
    ) -> Result<Option<String>, HubError> {
        let (mut tries, mut linked) = (1, None);
        let mut output = open(part)?;
        loop {
            let mut have = output.metadata().map_err(io(part))?.len();
            if have > file.bytes {
                output.set_len(0).map_err(io(part))?;
                have = 0;
            }
            if have == file.bytes {
                output.sync_all().map_err(io(part))?;
                return Ok(linked);
            }
            let mut request = Request::get(url.to_owned());
            if have > 0 {
                request = request.with("range", format!("bytes={have}-"));
            }
            // The first question has retries of its own; what comes here is a connection that
            // breaks while the content is on its way.
            let answer = self.ask(&request, watch)?;
            if answer.status() == 416 {
                output.set_len(0).map_err(io(part))?;
            } else {
                let answer = answer.done(self, repo)?;
                if answer.status() != 206 || start(&answer) != Some(have) {
                    // The server sends the whole file, whatever it was asked for.
                    output.set_len(0).map_err(io(part))?;
                    have = 0;
                    if answer.status() == 206 {
                        continue_later(&mut tries, watch, file, url, "it sends another part")?;
                        continue;
                    }
                }
                linked = linked.or_else(|| hash_in(&answer));
                match copy(answer, &mut output, part, file, have, watch)? {
                    Ok(()) => continue,
                    Err(problem) => {
                        let now = output.metadata().map_err(io(part))?.len();
                        if now.saturating_sub(have) >= PROGRESS {
                            tries = 0;
                        }
                        continue_later(&mut tries, watch, file, url, &problem)?;
                        continue;
                    }
                }
            }
            continue_later(&mut tries, watch, file, url, "it has no such part")?;
        }
    }
}

/// Counts a failure and waits, or gives up.
fn continue_later(
    tries: &mut u32,
    watch: &mut Watch<'_>,
    file: &RemoteFile,
    url: &str,
    problem: &str,
) -> Result<(), HubError> {
    let error = HubError::Unreachable {
        url: url.to_owned(),
        problem: problem.to_owned(),
        tries: *tries,
    };
    if *tries == TRIES {
        return Err(error);
    }
    *tries += 1;
    again(watch, &file.name, &error, pause(*tries - 1))
}

/// Copies an answer's body to the end of a file. The inner error is the network's: what came
/// before is kept.
fn copy(
    answer: Answer,
    output: &mut File,
    part: &Path,
    file: &RemoteFile,
    mut have: u64,
    watch: &mut Watch<'_>,
) -> Result<Result<(), String>, HubError> {
    let body = answer.response.into_body().into_with_config();
    // No more than the listing says: a server that goes on for ever fills no disk.
    let mut body = body.limit(u64::MAX).reader().take(file.bytes - have);
    let mut buffer = vec![0; 1 << 18];
    while have < file.bytes {
        let event = Event::Bytes {
            name: &file.name,
            done: have,
            of: file.bytes,
        };
        tell(watch, event)?;
        match body.read(&mut buffer) {
            Ok(0) => return Ok(Err("the content ends too early".to_owned())),
            Ok(count) => {
                output.write_all(&buffer[..count]).map_err(io(part))?;
                have += count as u64;
            }
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
    Ok(Ok(()))
}

/// Opens a file to be continued; never through a link.
fn open(part: &Path) -> Result<File, HubError> {
    match fs::symlink_metadata(part) {
        Ok(found) if !found.is_file() => {
            return Err(HubError::NotPlain {
                path: part.to_owned(),
            });
        }
        _ => {}
    }
    let file = OpenOptions::new().create(true).append(true).open(part);
    file.map_err(io(part))
}

/// Where the part begins that a 206 brings.
fn start(answer: &Answer) -> Option<u64> {
    let range = answer.header("content-range")?;
    let range = range.trim().strip_prefix("bytes ")?;
    range.split('-').next()?.parse().ok()
}

/// The SHA-256 that came with a file, if any.
fn hash_in(answer: &Answer) -> Option<String> {
    let etag = answer.linked_etag.as_deref()?;
    let etag = etag.trim_start_matches("W/").trim_matches('"');
    is_hex(etag, 64).then(|| etag.to_owned())
}
