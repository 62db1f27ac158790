//! `leap push` against a hub on this machine, and the way back.

mod bench;
mod hub_server;

use std::collections::BTreeMap;
use std::fs;

use bench::{Bench, Ran, artefacts};
use hub_server::{Act, Hub, TOKEN};

const MODEL: &str = "models/owner/mine";

/// A folder with a checkpoint that can be loaded, and files that stay here.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.golden_model();
    bench.write("model/README.md", "# Mine\n");
    bench.write("model/.env", "SECRET=1");
    bench.write("model/pull.json", "{}");
    bench.write("model/log.ignored", "not wanted by the hub");
    bench
}

fn leap(bench: &Bench, hub: &Hub, token: &str, args: &[&str]) -> Ran {
    let mut command = bench.hub_command(&hub.endpoint, token, args);
    let output = command.output().expect("leap starts");
    let ran = Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    };
    assert!(
        !ran.stderr.contains("canary") && !ran.stdout.contains("canary"),
        "{}",
        ran.stderr
    );
    ran
}

fn push(bench: &Bench, hub: &Hub, more: &[&str]) -> Ran {
    leap(
        bench,
        hub,
        TOKEN,
        &[&["push", "model", "owner/mine"], more].concat(),
    )
}

fn requests(hub: &Hub, method: &str, path: &str) -> usize {
    let fits = |seen: &&hub_server::Seen| seen.method == method && seen.path.contains(path);
    hub.state().seen.iter().filter(fits).count()
}

#[test]
fn what_is_pushed_comes_back_the_same() {
    let (hub, bench) = (Hub::start(), bench());
    let ran = push(
        &bench,
        &hub,
        &["--private", "--message", "First\n\nAt last."],
    )
    .succeeds();
    assert_eq!(ran.stdout, format!("{}/owner/mine\n", hub.endpoint));
    let words = ["Made", "Leaving out log.ignored", "3 files", "Verifying"];
    assert!(
        words.iter().all(|word| ran.stderr.contains(word)),
        "{}",
        ran.stderr
    );
    {
        let state = hub.state();
        let repo = &state.repos[MODEL];
        assert!(repo.private);
        let commit = repo.newest();
        let names: Vec<&str> = commit.files.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                ".gitattributes",
                "README.md",
                "config.json",
                "model.safetensors"
            ]
        );
        assert_eq!((repo.commits.len(), commit.message.as_str()), (2, "First"));
        assert!(ran.stderr.contains(&commit.id));
    }
    let uploads = |hub: &Hub| {
        (
            requests(hub, "PUT", "/large/"),
            requests(hub, "POST", "/api/verify/"),
        )
    };
    assert_eq!(uploads(&hub), (1, 1));
    assert!(
        hub.state()
            .seen
            .iter()
            .all(|seen| seen.token.is_some() != seen.content)
    );

    leap(&bench, &hub, TOKEN, &["pull", "owner/mine", "--to", "back"]).succeeds();
    let content = |folder: &str| -> BTreeMap<String, Vec<u8>> {
        artefacts(&bench.path(folder)).into_iter().collect()
    };
    let (sent, back) = (content("model"), content("back"));
    for name in ["README.md", "config.json", "model.safetensors"] {
        assert!(sent[name] == back[name], "{name}");
    }
    let diff = leap(&bench, &hub, "", &["checkpoint", "diff", "model", "back"]);
    assert_eq!(diff.code, Some(0), "{}", diff.stdout);

    // Nothing new, then one small change: only that is sent.
    hub.forget();
    let ran = push(&bench, &hub, &[]).succeeds();
    assert!(ran.stderr.contains("nothing to do"), "{}", ran.stderr);
    assert_eq!(
        (
            requests(&hub, "POST", "/commit/"),
            hub.state().repos[MODEL].commits.len()
        ),
        (0, 2)
    );
    bench.write("model/README.md", "# Mine, and better\n");
    push(&bench, &hub, &[]).succeeds();
    assert_eq!(
        (uploads(&hub), requests(&hub, "POST", "/commit/")),
        ((0, 0), 1)
    );
    let newest = hub.state().repos[MODEL].newest().clone();
    assert_eq!(newest.files["README.md"], b"# Mine, and better\n");
    assert_eq!(
        (newest.files.len(), newest.message.as_str()),
        (4, "Upload with leap push")
    );
}

#[test]
fn a_data_set_is_pushed_with_its_folders() {
    let (hub, bench) = (Hub::start(), Bench::new());
    bench.write("set/data/train.jsonl", "{}\n");
    bench.write("set/data/rows 1.parquet", "rows");
    bench.write("set/data/.hidden", "no");
    bench.write("set/data/none.bin", "");
    let args = ["push", "set", "owner/set", "--dataset"];
    leap(&bench, &hub, TOKEN, &args).succeeds();
    leap(
        &bench,
        &hub,
        "",
        &["pull", "owner/set", "--dataset", "--to", "back"],
    )
    .succeeds();
    let names: Vec<String> = artefacts(&bench.path("back"))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        names,
        [
            "data/none.bin",
            "data/rows 1.parquet",
            "data/train.jsonl",
            "pull.json"
        ]
    );
    bench.write("none/.hidden", "no");
    let ran = leap(
        &bench,
        &hub,
        TOKEN,
        &["push", "none", "owner/none", "--dataset"],
    );
    ran.fails("`none` holds no file to push");
}

#[test]
fn a_push_that_fails_on_the_way_is_tried_again() {
    let (hub, bench) = (Hub::start(), bench());
    hub.fault("/large/", 1, Act::Status(500, "x-none: x"));
    hub.fault("/preupload/", 1, Act::Status(503, "retry-after: 0"));
    hub.fault("/commit/", 1, Act::Status(429, "retry-after: 0"));
    push(&bench, &hub, &[]).succeeds();
    assert_eq!(hub.state().repos[MODEL].commits.len(), 2);
    // Uploads that were not committed are not sent again.
    let (hub, bench) = (Hub::start(), self::bench());
    hub.fault("/commit/", usize::MAX, Act::Status(500, "retry-after: 0"));
    push(&bench, &hub, &[]).fails("answers 500 (4 tries)");
    hub.forget();
    push(&bench, &hub, &[]).succeeds();
    assert_eq!(requests(&hub, "PUT", "/large/"), 0);
}

#[test]
fn what_must_not_be_pushed_is_refused() {
    let (hub, bench) = (Hub::start(), bench());
    let none = leap(&bench, &hub, "", &["push", "model", "owner/mine"]).fails("needs a token");
    assert!(none.stderr.contains("set HF_TOKEN"), "{}", none.stderr);
    let wrong = leap(&bench, &hub, "hf_wrong", &["push", "model", "owner/mine"]);
    wrong.fails("does not show `owner/mine` to this token");
    leap(&bench, &hub, TOKEN, &["push", "model", "mine"]).fails("`mine` is no repository");
    leap(&bench, &hub, TOKEN, &["push", "model", "owner/mine@v1"]).fails("names a revision");
    leap(&bench, &hub, TOKEN, &["push", "nowhere", "owner/mine"])
        .fails("no checkpoint folder `nowhere`");
    let files = leap(
        &bench,
        &hub,
        TOKEN,
        &["push", "nowhere", "owner/mine", "--dataset"],
    );
    files.fails("nowhere");

    // Somebody else's commit in between is not overwritten.
    push(&bench, &hub, &[]).succeeds();
    bench.write("model/README.md", "# New\n");
    hub.fault("/commit/", 1, Act::Overtake);
    push(&bench, &hub, &[]).fails("was changed by somebody else meanwhile");
    // A public repository does not become private by a wish.
    push(&bench, &hub, &["--private"]).fails("`owner/mine` is there already, and it is public");

    let weights = bench.path("model/model.safetensors");
    let mut bytes = fs::read(&weights).expect("weights");
    let length = bytes.len();
    bytes[length - 2..].copy_from_slice(&[0xff, 0x7f]);
    fs::write(&weights, bytes).expect("weights");
    hub.forget();
    let ran =
        push(&bench, &hub, &[]).fails("`model` is damaged and is not pushed: model.safetensors");
    assert!(ran.stderr.contains("NaN"), "{}", ran.stderr);
    assert!(hub.state().seen.is_empty(), "the hub is not even asked");
}

#[cfg(unix)]
#[test]
fn links_are_not_pushed() {
    let (hub, bench) = (Hub::start(), bench());
    bench.write("secret", "secret");
    std::os::unix::fs::symlink(bench.path("secret"), bench.path("model/notes.txt"))
        .expect("a link");
    push(&bench, &hub, &[]).fails("notes.txt` is a link or no plain file");
    assert!(hub.state().repos.is_empty());
}

#[test]
fn an_adapter_is_pushed_as_it_is_and_not_if_it_is_damaged() {
    let (hub, bench) = (Hub::start(), Bench::new());
    let config = r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["q_proj"]}"#;
    bench.write("adapter/adapter_config.json", config);
    let name =
        |side: &str| format!("base_model.model.model.layers.0.self_attn.q_proj.lora_{side}.weight");
    let matrices = |bytes: &[u8]| {
        let a = serde_json::json!({"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]});
        let b = serde_json::json!({"dtype": "F32", "shape": [2, 1], "data_offsets": [8, 16]});
        let header = serde_json::json!({ name("A"): a, name("B"): b }).to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend(bytes);
        file
    };
    let path = bench.path("adapter/adapter_model.safetensors");
    let push = || leap(&bench, &hub, TOKEN, &["push", "adapter", "owner/mine"]);
    fs::write(&path, matrices(&[0xff; 16])).expect("a file");
    push().fails("holds NaN");
    assert!(!hub.state().repos.contains_key(MODEL));
    fs::write(&path, matrices(&[0; 16])).expect("a file");
    push().succeeds();
    let state = hub.state();
    let files = &state.repos[MODEL].newest().files;
    assert!(files.contains_key("adapter_model.safetensors"));
    assert!(files.contains_key("adapter_config.json"));
}
