//! Uploads of large files by the LFS protocol: batch, basic transfer, verify.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::client::Client;
use super::request::Request;
use super::{Event, HubError, Repo, Watch, tell};

const KIND: &str = "application/vnd.git-lfs+json";
/// Objects asked for at a time.
const BATCH: usize = 100;
/// What storage takes in one request.
const LIMIT: u64 = 5 << 30;

/// A file that is sent to the hub's large storage.
pub(super) struct Object<'a> {
    pub(super) name: &'a str,
    pub(super) path: &'a Path,
    pub(super) bytes: u64,
    pub(super) sha256: &'a str,
}

#[derive(Deserialize)]
struct Batch {
    objects: Vec<Granted>,
}

#[derive(Deserialize)]
struct Granted {
    oid: String,
    #[serde(default)]
    actions: Actions,
    error: Option<Refusal>,
}

#[derive(Default, Deserialize)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

impl Client {
    /// Uploads the objects that the hub does not have. Returns how many those were.
    pub(super) fn upload(
        &self,
        repo: &Repo,
        objects: &[Object<'_>],
        watch: &mut Watch<'_>,
    ) -> Result<usize, HubError> {
        if let Some(large) = objects.iter().find(|object| object.bytes > LIMIT) {
            return Err(HubError::TooLarge {
                name: large.name.to_owned(),
                bytes: large.bytes,
                limit: LIMIT,
            });
        }
        let mut sent = 0;
        for objects in objects.chunks(BATCH) {
            let listed: Vec<_> = objects
                .iter()
                .map(|object| json!({"oid": object.sha256, "size": object.bytes}))
                .collect();
            let body = json!({
                "operation": "upload", "transfers": ["basic"], "hash_algo": "sha256",
                "objects": listed,
            });
            let url = self.url(&format!("{}.git/info/lfs/objects/batch", repo.page()));
            let request = Request::post(url, KIND, body.to_string().into_bytes());
            let answer = self.ask(&request.with("accept", KIND), watch)?;
            let answer = answer.done(self, repo)?;
            let url = answer.url.clone();
            let batch: Batch = answer.json()?;
            for object in objects {
                let granted = batch.objects.iter().find(|one| one.oid == object.sha256);
                let granted = granted.ok_or_else(|| HubError::Answer {
                    url: url.clone(),
                    problem: format!("it says nothing about `{}`", object.name),
                })?;
                sent += usize::from(self.send(repo, object, granted, watch)?);
                tell(watch, Event::Whole { name: object.name })?;
            }
        }
        Ok(sent)
    }

    /// Uploads one object if the hub asks for it.
    fn send(
        &self,
        repo: &Repo,
        object: &Object<'_>,
        granted: &Granted,
        watch: &mut Watch<'_>,
    ) -> Result<bool, HubError> {
        let refused = |problem: String| HubError::Upload {
            name: object.name.to_owned(),
            problem,
        };
        if let Some(refusal) = &granted.error {
            let message = self.said(&refusal.message);
            return Err(refused(format!("{message} ({})", refusal.code)));
        }
        let Some(upload) = &granted.actions.upload else {
            return Ok(false);
        };
        let mut request = Request::put(upload.href.clone(), object.name, object.path, object.bytes);
        for (name, value) in &upload.header {
            request = request.with(name, value.as_str());
        }
        let answer = self.ask(&request, watch)?;
        if !answer.response.status().is_success() {
            return Err(refused(format!("its storage answers {}", answer.status())));
        }
        if let Some(verify) = &granted.actions.verify {
            let body = json!({"oid": object.sha256, "size": object.bytes}).to_string();
            let mut request = Request::post(verify.href.clone(), KIND, body.into_bytes());
            for (name, value) in &verify.header {
                request = request.with(name, value.as_str());
            }
            self.ask(&request, watch)?.done(self, repo)?;
        }
        Ok(true)
    }
}
