//! What the hub answers to what.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::http::{Answer, Asked};
use super::{Act, Repository, State, TOKEN, git_blob, is_large, sha256};

/// Entries of a page of a listing.
const PAGE: usize = 3;

/// The fault that is due for a path, used up once.
pub(crate) fn fault(state: &mut State, path: &str) -> Option<Act> {
    let fits = |fault: &&mut super::Fault| fault.times > 0 && path.contains(fault.path);
    let fault = state.faults.iter_mut().find(fits)?;
    fault.times -= 1;
    Some(fault.act)
}

/// Answers a request. `content` is the address for large content.
pub(crate) fn answer(state: &mut State, asked: &Asked, content: bool, act: Option<Act>) -> Answer {
    let path = asked.path.trim_start_matches('/').to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    if content {
        return match (asked.method.as_str(), parts.as_slice()) {
            ("GET", ["large", hash]) => ranged(asked, state.storage.get(*hash), act),
            ("PUT", ["large", hash]) => {
                assert_eq!(
                    sha256(&asked.body),
                    *hash,
                    "what is uploaded is what was announced"
                );
                assert_eq!(
                    asked.header("x-signed"),
                    Some("yes"),
                    "the headers of the batch answer"
                );
                state.storage.insert((*hash).to_owned(), asked.body.clone());
                Answer::new(200, "")
            }
            _ => Answer::new(404, ""),
        };
    }
    let known = asked.header("authorization") == Some(&format!("Bearer {TOKEN}"));
    match (asked.method.as_str(), parts.as_slice()) {
        ("POST", ["api", "repos", "create"]) => create(state, asked, known),
        ("POST", ["api", "verify", hash]) => {
            let there = known && state.storage.contains_key(*hash);
            Answer::new(if there { 200 } else { 404 }, "{}")
        }
        (method, ["api", kind, owner, name, rest @ ..]) => {
            let key = format!("{kind}/{owner}/{name}");
            if let Some(refusal) = refusal(state, &key, known) {
                return refusal;
            }
            match (method, rest) {
                ("GET", ["revision", revision]) => revision_of(state, &key, revision),
                ("GET", ["tree", commit]) => tree(state, &key, commit, asked),
                ("POST", ["preupload", "main"]) if known => preupload(asked),
                ("POST", ["commit", "main"]) if known => commit(state, &key, asked, act),
                ("POST", _) => Answer::new(403, r#"{"error":"this token may only read"}"#),
                _ => Answer::new(404, ""),
            }
        }
        (method, parts) => {
            let (kind, parts) = match parts {
                ["datasets", rest @ ..] => ("datasets", rest),
                rest => ("models", rest),
            };
            let [owner, name, rest @ ..] = parts else {
                return Answer::new(404, "");
            };
            let key = format!("{kind}/{owner}/{}", name.trim_end_matches(".git"));
            if let Some(refusal) = refusal(state, &key, known) {
                return refusal;
            }
            match (method, rest) {
                ("GET", ["resolve", commit, name @ ..]) => {
                    file(state, &key, commit, &name.join("/"), asked, act)
                }
                ("POST", ["info", "lfs", "objects", "batch"]) if known => batch(state, asked),
                _ => Answer::new(404, ""),
            }
        }
    }
}

/// What somebody hears who may not see a repository.
fn refusal(state: &State, key: &str, known: bool) -> Option<Answer> {
    let code = |status, code: &str, message: &str| {
        Some(
            Answer::new(status, "")
                .with("x-error-code", code)
                .with("x-error-message", message),
        )
    };
    match state.repos.get(key) {
        None if known => code(404, "RepoNotFound", "Repository not found"),
        Some(repo) if repo.private && !known => {
            code(401, "RepoNotFound", "Invalid username or password.")
        }
        None => code(401, "RepoNotFound", "Invalid username or password."),
        Some(repo) if repo.gated => {
            // What a terminal would obey must not reach one.
            let body = r#"{"error":"Access to it is restricted.\u0007"}"#;
            Some(Answer::new(403, body).with("x-error-code", "GatedRepo"))
        }
        Some(_) => None,
    }
}

fn create(state: &mut State, asked: &Asked, known: bool) -> Answer {
    let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
    let text = |key: &str| body[key].as_str().expect("a text").to_owned();
    if !known {
        return Answer::new(401, "");
    }
    let key = format!(
        "{}s/{}/{}",
        text("type"),
        text("organization"),
        text("name")
    );
    if state.repos.contains_key(&key) {
        return Answer::new(409, "");
    }
    let mut repo = Repository {
        private: body["private"] == true,
        ..Repository::default()
    };
    repo.commit(
        "initial commit",
        [(
            ".gitattributes".to_owned(),
            b"*.safetensors filter=lfs\n".to_vec(),
        )]
        .into(),
    );
    state.repos.insert(key, repo);
    Answer::new(200, "{}")
}

fn revision_of(state: &State, key: &str, revision: &str) -> Answer {
    let repo = &state.repos[key];
    let found = match revision {
        "main" | "refs%2Fpr%2F1" => repo.commits.last(),
        // A tag of the first commit.
        "v1.0" => repo.commits.first(),
        id => repo.commits.iter().find(|commit| commit.id == id),
    };
    match found {
        Some(commit) => {
            let info =
                json!({"id": key, "sha": commit.id, "private": repo.private, "siblings": []});
            Answer::new(200, info.to_string())
        }
        None => Answer::new(404, "")
            .with("x-error-code", "RevisionNotFound")
            .with("x-error-message", "Invalid rev id"),
    }
}

fn tree(state: &State, key: &str, commit: &str, asked: &Asked) -> Answer {
    let repo = &state.repos[key];
    let commit = repo
        .commits
        .iter()
        .find(|known| known.id == commit)
        .expect("a commit");
    let mut entries =
        vec![json!({"type": "directory", "oid": "0", "size": 0, "path": "some-folder"})];
    for (name, content) in &commit.files {
        let mut entry =
            json!({"type": "file", "path": name, "size": content.len(), "oid": git_blob(content)});
        if is_large(name) {
            entry["oid"] = json!(git_blob(b"a pointer"));
            entry["lfs"] =
                json!({"oid": sha256(content), "size": content.len(), "pointerSize": 130});
        }
        entries.push(entry);
    }
    for name in &repo.names {
        entries.push(json!({"type": "file", "path": name, "size": 1, "oid": git_blob(b"x")}));
    }
    let cursor: usize = asked
        .query
        .split("cursor=")
        .nth(1)
        .map_or(0, |text| text.parse().expect("a number"));
    let page: Vec<&Value> = entries.iter().skip(cursor).take(PAGE).collect();
    let answer = Answer::new(200, json!(page).to_string());
    if cursor + PAGE < entries.len() {
        let next = cursor + PAGE;
        let next = format!(
            "<{}{}?recursive=true&cursor={next}>; rel=\"next\"",
            state.endpoint, asked.path
        );
        return answer.with("link", next);
    }
    answer
}

fn file(
    state: &State,
    key: &str,
    commit: &str,
    name: &str,
    asked: &Asked,
    act: Option<Act>,
) -> Answer {
    let commit = state.repos[key]
        .commits
        .iter()
        .find(|known| known.id == commit);
    let name = name.replace("%20", " ");
    match commit.and_then(|commit| commit.files.get(&name)) {
        None => Answer::new(404, "").with("x-error-code", "EntryNotFound"),
        Some(content) if is_large(&name) => {
            let hash = sha256(content);
            Answer::new(302, "")
                .with(
                    "location",
                    format!("{}/large/{hash}?signature=secret", state.content),
                )
                .with("x-linked-etag", format!("\"{hash}\""))
                .with("x-linked-size", content.len().to_string())
        }
        Some(content) => ranged(asked, Some(content), act),
    }
}

/// Content, or the part of it that was asked for.
fn ranged(asked: &Asked, content: Option<&Vec<u8>>, act: Option<Act>) -> Answer {
    let Some(content) = content else {
        return Answer::new(404, "");
    };
    let start = asked.header("range").and_then(|range| {
        let range = range.strip_prefix("bytes=")?.strip_suffix('-')?;
        range.parse::<usize>().ok()
    });
    match start {
        Some(start) if act != Some(Act::WholeAlways) => {
            let (end, all) = (content.len() - 1, content.len());
            Answer::new(206, &content[start..])
                .with("content-range", format!("bytes {start}-{end}/{all}"))
        }
        _ => Answer::new(200, content.clone()),
    }
}

fn preupload(asked: &Asked) -> Answer {
    let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
    let files = body["files"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|file| {
            let name = file["path"].as_str().expect("a name");
            let sample = STANDARD
                .decode(file["sample"].as_str().expect("a sample"))
                .expect("base64");
            assert!(sample.len() <= 512 && file["size"].as_u64().is_some());
            let mode = if is_large(name) { "lfs" } else { "regular" };
            json!({"path": name, "uploadMode": mode, "shouldIgnore": name.ends_with(".ignored")})
        });
    Answer::new(200, json!({"files": files.collect::<Vec<_>>()}).to_string())
}

fn batch(state: &State, asked: &Asked) -> Answer {
    assert_eq!(
        asked.header("content-type"),
        Some("application/vnd.git-lfs+json")
    );
    let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
    assert_eq!(body["operation"], "upload");
    let objects = body["objects"].as_array().expect("a list").iter().map(|object| {
        let oid = object["oid"].as_str().expect("a hash");
        assert_ne!(object["size"], 0, "nothing is no object");
        let mut granted = json!({"oid": oid, "size": object["size"]});
        if !state.storage.contains_key(oid) {
            granted["actions"] = json!({
                "upload": {"href": format!("{}/large/{oid}", state.content), "header": {"x-signed": "yes"}},
                "verify": {"href": format!("{}/api/verify/{oid}", state.endpoint)},
            });
        }
        granted
    });
    let objects: Vec<Value> = objects.collect();
    Answer::new(
        200,
        json!({"transfer": "basic", "objects": objects}).to_string(),
    )
}

fn commit(state: &mut State, key: &str, asked: &Asked, act: Option<Act>) -> Answer {
    assert_eq!(asked.header("content-type"), Some("application/x-ndjson"));
    let repo = state.repos.get_mut(key).expect("the repository");
    let mut files = repo.newest().files.clone();
    if act == Some(Act::Overtake) {
        repo.commit("somebody else's", files.clone());
    }
    let text = String::from_utf8(asked.body.clone()).expect("UTF-8");
    let mut message = String::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("a JSON object a line");
        let value = &line["value"];
        let name = || value["path"].as_str().expect("a name").to_owned();
        match line["key"].as_str() {
            Some("header") => {
                message = value["summary"].as_str().expect("a summary").to_owned();
                if value["parentCommit"] != json!(repo.newest().id) {
                    return Answer::new(412, r#"{"error":"A commit has happened since."}"#);
                }
            }
            Some("file") => {
                let content = value["content"].as_str().expect("content");
                files.insert(name(), STANDARD.decode(content).expect("base64"));
            }
            Some("lfsFile") => {
                let content = state.storage.get(value["oid"].as_str().expect("a hash"));
                files.insert(name(), content.expect("it was uploaded before").clone());
            }
            other => panic!("{other:?} is no part of a commit"),
        }
    }
    let id = repo.commit(&message, files);
    Answer::new(
        200,
        json!({"success": true, "commitOid": id, "commitUrl": ""}).to_string(),
    )
}
