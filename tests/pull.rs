//! `leap pull` against a hub on this machine: what arrives, what is refused, and what goes on.

mod bench;
mod hub_server;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bench::{Bench, Ran, artefacts};
use hub_server::{Act, Hub, TOKEN, sha256};
use serde_json::Value;

const MODEL: &str = "models/owner/small-model";

/// A checkpoint that can be loaded.
fn golden(name: &str) -> Vec<u8> {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/model/tests/golden/qwen2-tied/"
    );
    fs::read(format!("{folder}{name}")).expect("a golden file")
}

/// A hub with a model: what a checkpoint needs, and more.
fn hub() -> (Hub, Bench) {
    let hub = Hub::start();
    let (config, weights) = (golden("config.json"), golden("model.safetensors"));
    hub.commit(
        MODEL,
        &[
            (".gitattributes", b"*.safetensors filter=lfs\n"),
            ("LICENSE", b"free\n"),
            ("README.md", b"# A model\n"),
            ("config.json", &config),
            ("consolidated.safetensors", b"the same once more"),
            ("model.safetensors", &weights),
            ("onnx/model.bin", b"something else"),
            ("training_args.bin", b"not needed"),
        ],
    );
    (hub, Bench::new())
}

fn command(bench: &Bench, endpoint: &str, args: &[&str]) -> Command {
    bench.hub_command(endpoint, "", args)
}

fn run(mut command: Command) -> Ran {
    let output = command.output().expect("leap starts");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

fn leap(bench: &Bench, hub: &Hub, args: &[&str]) -> Ran {
    run(command(bench, &hub.endpoint, args))
}

fn pull(bench: &Bench, hub: &Hub) -> Ran {
    leap(bench, hub, &["pull", "owner/small-model"])
}

/// The text holds all of these.
#[track_caller]
fn check_words(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no `{word}` in {text}");
    }
}

fn names(bench: &Bench, folder: &str) -> Vec<String> {
    artefacts(&bench.path(folder))
        .into_iter()
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn a_model_arrives_whole_and_checked_and_a_second_pull_does_nothing() {
    let (hub, bench) = hub();
    let first = pull(&bench, &hub).succeeds();
    assert_eq!(first.stdout, "checkpoints/small-model\n");
    check_words(
        &first.stderr,
        &[
            "4 files",
            "Verified good",
            "Leaving out",
            "consolidated.safetensors",
            "training_args.bin",
        ],
    );
    let expected = [
        "LICENSE",
        "README.md",
        "config.json",
        "model.safetensors",
        "pull.json",
    ];
    assert_eq!(names(&bench, "checkpoints/small-model"), expected);
    let folder = bench.path("checkpoints/small-model");
    let weights = golden("model.safetensors");
    assert!(fs::read(folder.join("model.safetensors")).expect("weights") == weights);
    let record = fs::read(folder.join("pull.json")).expect("the record");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    let commit = hub.state().repos[MODEL].newest().id.clone();
    assert_eq!(record["commit"], commit.as_str());
    assert_eq!(record["repo"], "owner/small-model");
    assert_eq!(
        (&record["revision"], &record["complete"]),
        (&"main".into(), &true.into())
    );
    assert_eq!(
        record["files"]["model.safetensors"]["sha256"],
        sha256(&weights).as_str()
    );
    assert_eq!(
        record["files"]["README.md"]["sha256"],
        sha256(b"# A model\n").as_str()
    );

    let before = artefacts(&folder);
    hub.forget();
    let second = pull(&bench, &hub).succeeds();
    check_words(&second.stderr, &["nothing to do", "Verified good"]);
    assert_eq!((hub.served(), second.stdout), (0, first.stdout));
    assert_eq!(artefacts(&folder), before);
    let shown = leap(
        &bench,
        &hub,
        &["checkpoint", "show", "checkpoints/small-model"],
    )
    .succeeds();
    check_words(
        &shown.stdout,
        &["pulled from `owner/small-model`", &commit[..12]],
    );
}

#[test]
fn the_token_goes_to_the_hub_alone_and_is_never_shown() {
    let (hub, bench) = hub();
    bench.write("hf-home/token", &format!("{TOKEN}\n"));
    let saved = |command: &mut Command| {
        command.env_remove("HF_TOKEN");
    };
    let given = |command: &mut Command| {
        command.env("HF_TOKEN", TOKEN);
    };
    hub.fault("/tree/", 1, Act::Status(503, "retry-after: 0"));
    for (to, token) in [("a", &saved as &dyn Fn(&mut Command)), ("b", &given)] {
        hub.state().seen.clear();
        hub.state().repos.get_mut(MODEL).expect("the model").private = true;
        let mut command = command(
            &bench,
            &hub.endpoint,
            &["pull", "owner/small-model", "--to", to],
        );
        token(&mut command);
        command.env("RUST_LOG", "trace");
        let ran = run(command).succeeds();
        assert!(
            !ran.stderr.contains("canary") && !ran.stdout.contains("canary"),
            "{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("signature"), "{}", ran.stderr);
        for (name, content) in artefacts(&bench.path(to)) {
            let text = String::from_utf8_lossy(&content).into_owned();
            assert!(!text.contains("canary"), "the token is in {name}");
        }
        let seen = hub.state().seen.clone();
        let bearer = format!("Bearer {TOKEN}");
        assert!(
            seen.iter().any(|seen| seen.content),
            "weights come from another address"
        );
        for seen in seen {
            assert_eq!(seen.token.is_some(), !seen.content, "{seen:?}");
            assert!(seen.token.is_none_or(|token| token == bearer));
        }
    }
    // What a refusal prints does not hold it either.
    let mut refused = command(&bench, &hub.endpoint, &["pull", "owner/nothing"]);
    refused.env("HF_TOKEN", TOKEN);
    let refused = run(refused).fails("no model `owner/nothing`");
    assert!(!refused.stderr.contains("canary"), "{}", refused.stderr);
    // A token that cannot be one is not shown, and one that would go in the clear is not sent.
    let mut broken = command(&bench, &hub.endpoint, &["pull", "owner/small-model"]);
    broken.env("HF_TOKEN", "hf_canary with blanks");
    let broken = run(broken).fails("the token from HF_TOKEN cannot be used");
    assert!(!broken.stderr.contains("canary"), "{}", broken.stderr);
    let mut clear = command(&bench, "http://hub.example", &["pull", "owner/small-model"]);
    clear.env("HF_TOKEN", TOKEN);
    let clear = run(clear).fails("would go in the clear to `http://hub.example`");
    assert!(!clear.stderr.contains("canary"), "{}", clear.stderr);
}

#[test]
fn an_interrupted_pull_goes_on_where_it_was() {
    let (hub, bench) = hub();
    let all = golden("model.safetensors").len();
    hub.fault("/large/", usize::MAX, Act::Truncate(20_000));
    let ran = pull(&bench, &hub).fails("cannot be reached (4 tries)");
    check_words(&ran.stderr, &["the same command continues", "HF_ENDPOINT"]);
    let folder = bench.path("checkpoints/small-model");
    assert!(
        !folder.join("model.safetensors").exists(),
        "half a file has no name"
    );
    let record = fs::read_to_string(folder.join("pull.json")).expect("the record");
    check_words(&record, &["\"complete\": false", "config.json"]);
    hub.forget();
    pull(&bench, &hub).succeeds();
    // 20,000 bytes came with each of four tries.
    assert_eq!(hub.served(), all - 80_000);
    let seen = hub.state().seen.clone();
    let last = seen.iter().rfind(|seen| seen.content).expect("weights");
    assert_eq!(
        (last.status, last.range.as_deref()),
        (206, Some("bytes=80000-"))
    );
    assert!(
        fs::read(folder.join("model.safetensors")).expect("weights") == golden("model.safetensors")
    );
    assert!(!folder.join(".pull").exists());
}

#[test]
fn a_hub_that_ignores_ranges_sends_all_again() {
    let (hub, bench) = hub();
    hub.fault("/large/", 1, Act::Truncate(20_000));
    hub.fault("/large/", 1, Act::WholeAlways);
    pull(&bench, &hub).succeeds();
    let weights = bench.path("checkpoints/small-model/model.safetensors");
    assert!(fs::read(weights).expect("weights") == golden("model.safetensors"));
    assert!(hub.served() > golden("model.safetensors").len() + 20_000);
}

#[test]
fn a_busy_hub_is_asked_again_but_not_for_ever() {
    let (hub, bench) = hub();
    hub.fault("/revision/", 1, Act::Status(503, "retry-after: 0"));
    hub.fault("/tree/", 2, Act::Status(429, "ratelimit: \"api\";r=0;t=0"));
    hub.fault("/large/", 1, Act::Status(504, "x-none: x"));
    let ran = pull(&bench, &hub).succeeds();
    check_words(&ran.stderr, &["503", "429", "504", "tried again"]);
    hub.forget();
    hub.fault("/revision/", usize::MAX, Act::Status(429, "retry-after: 0"));
    let ran = pull(&bench, &hub).fails("answers 429 (4 tries)");
    check_words(&ran.stderr, &["HF_TOKEN"]);
    assert_eq!(hub.state().seen.len(), 4);
    // More than a quota's window is not waited for.
    hub.forget();
    hub.fault(
        "/revision/",
        usize::MAX,
        Act::Status(503, "retry-after: 9999"),
    );
    let started = Instant::now();
    pull(&bench, &hub).fails("answers 503 (1 try)");
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn wrong_content_is_deleted_fetched_again_and_then_refused() {
    let (hub, bench) = hub();
    hub.fault("/large/", 2, Act::Change);
    hub.fault("/resolve/", 1, Act::Change);
    let ran = pull(&bench, &hub).succeeds();
    check_words(&ran.stderr, &["arrives with hash", "Verified good"]);
    for (path, name) in [("/large/", "model.safetensors"), ("/README", "README.md")] {
        hub.forget();
        let bench = Bench::new();
        hub.fault(path, usize::MAX, Act::Change);
        let ran = pull(&bench, &hub).fails(&format!("`{name}` arrives with hash"));
        check_words(&ran.stderr, &["(3 tries)", "the file was deleted"]);
        let folder = bench.path("checkpoints/small-model");
        assert!(!folder.join(name).exists());
        let parts = fs::read_dir(folder.join(".pull")).expect("the work folder");
        assert!(
            parts
                .into_iter()
                .all(|part| part.expect("an entry").file_name() == "lock")
        );
    }
}

/// `leap pull` of `repo` fails with this message and this advice.
#[track_caller]
fn check_refusal(hub: &Hub, repo: &str, token: &str, message: &str, advice: &str) {
    let bench = Bench::new();
    let mut command = command(&bench, &hub.endpoint, &["pull", repo]);
    command.env("HF_TOKEN", token);
    let ran = run(command).fails(message);
    check_words(&ran.stderr, &[advice]);
    assert!(!bench.path("checkpoints").exists(), "nothing is made");
}

#[test]
fn refusals_say_what_to_do() {
    let (hub, _) = hub();
    check_refusal(
        &hub,
        "owner/none",
        "",
        "does not show `owner/none` without a token",
        "set HF_TOKEN",
    );
    check_refusal(
        &hub,
        "owner/none",
        "hf_wrong",
        "does not show `owner/none` to this token",
        "is valid",
    );
    check_refusal(
        &hub,
        "owner/none",
        TOKEN,
        "has no model `owner/none`",
        "--dataset",
    );
    let missing = "owner/small-model@nowhere";
    check_refusal(
        &hub,
        missing,
        "",
        "`owner/small-model` has no revision `nowhere`",
        "a tag",
    );
    check_refusal(
        &hub,
        "https://h/owner/name",
        "",
        "is no repository",
        "OWNER/NAME",
    );
    check_refusal(&hub, "a/b/c", "", "`a/b/c` is no repository", "OWNER/NAME");
    check_refusal(
        &hub,
        "../etc",
        "",
        "`../etc` is no repository",
        "OWNER/NAME",
    );
    check_refusal(
        &hub,
        "owner/..",
        "",
        "`owner/..` is no repository",
        "OWNER/NAME",
    );
    check_refusal(
        &hub,
        "owner/small-model@a..b",
        "",
        "`a..b` is no revision",
        "@REVISION",
    );
    hub.commit(
        "models/owner/pickle",
        &[("pytorch_model.bin", b"weights"), ("config.json", b"{}")],
    );
    check_refusal(
        &hub,
        "owner/pickle",
        "",
        "`owner/pickle` has no weights in safetensors",
        "--include",
    );
    hub.state().repos.get_mut(MODEL).expect("the model").gated = true;
    let page = format!("{}/owner/small-model", hub.endpoint);
    check_refusal(
        &hub,
        "owner/small-model",
        "",
        "is gated: Access to it is restricted.\n",
        &page,
    );
}

#[test]
fn a_hub_that_is_not_there_is_named() {
    let bench = Bench::new();
    let gone = Hub::start();
    let endpoint = gone.endpoint.clone();
    drop(gone);
    let ran = run(command(&bench, &endpoint, &["pull", "owner/name"])).fails("cannot be reached");
    check_words(&ran.stderr, &[&endpoint, "HF_ENDPOINT", "(4 tries)"]);
    for endpoint in [
        "hub.example",
        "ftp://hub.example",
        "https://",
        "https://me:secret@hub.example",
    ] {
        run(command(&bench, endpoint, &["pull", "owner/name"])).fails("is no address of a hub");
    }
    let mut offline = command(&bench, &endpoint, &["pull", "owner/name"]);
    offline.env("HF_HUB_OFFLINE", "1");
    run(offline).fails("HF_HUB_OFFLINE is set");
    bench.write("roots.pem", "nothing");
    for (roots, message) in [
        ("roots.pem", "it holds no certificate"),
        ("none.pem", "none.pem"),
    ] {
        let mut command = command(&bench, &endpoint, &["pull", "owner/name"]);
        command.env("SSL_CERT_FILE", roots);
        run(command).fails(message);
    }
    let pattern = ["pull", "owner/name", "--include", "[a"];
    run(command(&bench, &endpoint, &pattern)).fails("`[a` is no pattern");
}

#[test]
fn names_that_leave_the_folder_are_refused_and_named() {
    let (hub, bench) = hub();
    for name in [
        "../evil.safetensors",
        "a/../../evil.safetensors",
        "/tmp/evil.safetensors",
        "..\\evil.safetensors",
        "C:evil.safetensors",
        "C:/evil.safetensors",
        "a/./evil.safetensors",
        "a//evil.safetensors",
        "evil\0.safetensors",
        "evil\u{1b}[2J.safetensors",
        "",
    ] {
        hub.state().repos.get_mut(MODEL).expect("the model").names = vec![name.to_owned()];
        let ran = pull(&bench, &hub).fails(&format!("lists the file {name:?}, which is refused"));
        assert!(!ran.stderr.contains('\u{1b}'), "{}", ran.stderr);
        let args = ["pull", "owner/small-model", "--include", "config.json"];
        leap(&bench, &hub, &args).fails("which is refused");
    }
    assert!(!bench.path("checkpoints").exists(), "nothing was written");
    // The names of pulling itself are left out.
    let own = vec![
        "pull.json".to_owned(),
        ".pull/lock".to_owned(),
        "PULL.json".to_owned(),
    ];
    hub.state().repos.get_mut(MODEL).expect("the model").names = own;
    pull(&bench, &hub).succeeds();
    let record = fs::read_to_string(bench.path("checkpoints/small-model/pull.json")).expect("ours");
    assert!(
        !record.contains("\"pull.json\"") && !record.contains(".pull"),
        "{record}"
    );
}

#[cfg(unix)]
#[test]
fn links_in_the_folder_are_not_followed() {
    use std::os::unix::fs::symlink;
    let (hub, _) = hub();
    hub.commit("datasets/owner/d", &[("data/a.txt", b"a")]);
    let model = ["pull", "owner/small-model"].as_slice();
    let set = ["pull", "owner/d", "--dataset"].as_slice();
    for (link, target, args) in [
        (
            "checkpoints/small-model/config.json",
            "outside/new.json",
            model,
        ),
        ("checkpoints/small-model/.pull", "outside", model),
        ("datasets/d/data", "outside", set),
    ] {
        let bench = Bench::new();
        bench.write("outside/keep.txt", "kept");
        let path = bench.path(link);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        symlink(bench.path(target), &path).expect("a link");
        leap(&bench, &hub, args).fails("is a link or no plain file");
        assert_eq!(names(&bench, "outside"), ["keep.txt"]);
    }
}

#[test]
fn files_of_others_are_not_overwritten_and_own_ones_are_brought_up_to_date() {
    let (hub, bench) = hub();
    let folder = "checkpoints/small-model";
    bench.write(&format!("{folder}/README.md"), "mine");
    bench.write(&format!("{folder}/config.json"), "mine too");
    let ran = pull(&bench, &hub).fails("has other content than the hub's");
    check_words(&ran.stderr, &["README.md", "config.json", "--to"]);
    assert_eq!(hub.served(), 0, "nothing was fetched");
    assert_eq!(names(&bench, folder), ["README.md", "config.json"]);
    assert_eq!(
        fs::read_to_string(bench.path(folder).join("README.md")).expect("mine"),
        "mine"
    );
    // A file with the hub's content is everybody's; notes beside it are nobody's business.
    bench.write(&format!("{folder}/README.md"), "# A model\n");
    fs::remove_file(bench.path(folder).join("config.json")).expect("the file");
    bench.write(&format!("{folder}/notes.txt"), "mine");
    let ran = pull(&bench, &hub).succeeds();
    check_words(&ran.stderr, &["3 files", "(1 there already)"]);

    // A new commit: one file changes, one goes.
    let (config, weights) = (golden("config.json"), golden("model.safetensors"));
    let first = hub.state().repos[MODEL].newest().id.clone();
    let next: [(&str, &[u8]); 3] = [
        ("README.md", b"# Better\n"),
        ("config.json", &config),
        ("model.safetensors", &weights),
    ];
    let second = hub.commit(MODEL, &next);
    hub.forget();
    let ran = pull(&bench, &hub).succeeds();
    check_words(
        &ran.stderr,
        &["1 file, 9 B (2 there already)", "Removing LICENSE"],
    );
    assert_eq!(hub.served(), 9);
    let expected = [
        "README.md",
        "config.json",
        "model.safetensors",
        "notes.txt",
        "pull.json",
    ];
    assert_eq!(names(&bench, folder), expected);
    let record = fs::read_to_string(bench.path(folder).join("pull.json")).expect("the record");
    assert!(record.contains(&second) && !record.contains(&first) && !record.contains("LICENSE"));

    // The first commit again, by its id and by its tag; but not over a file that was changed.
    let by_id = format!("owner/small-model@{first}");
    leap(&bench, &hub, &["pull", &by_id]).succeeds();
    leap(&bench, &hub, &["pull", "owner/small-model@v1.0"]).succeeds();
    let readme = fs::read_to_string(bench.path(folder).join("README.md")).expect("a file");
    assert_eq!(readme, "# A model\n");
    bench.write(&format!("{folder}/LICENSE"), "changed");
    pull(&bench, &hub).fails("has other content than the hub's `LICENSE`");
    assert_eq!(
        fs::read_to_string(bench.path(folder).join("LICENSE")).expect("mine"),
        "changed"
    );
    // Nor does another repository of the same name go into the folder.
    hub.commit("models/other/small-model", &next);
    leap(&bench, &hub, &["pull", "other/small-model"])
        .fails("holds the model `owner/small-model`, not the model `other/small-model`");
}

#[test]
fn a_data_set_comes_whole_or_in_part() {
    let (hub, bench) = hub();
    let files: [(&str, &[u8]); 5] = [
        (".gitattributes", b""),
        ("README.md", b"problems"),
        ("data/part 1.parquet", b"rows"),
        ("data/train.jsonl", b"{}\n{}\n"),
        ("empty.txt", b""),
    ];
    hub.commit("datasets/owner/problems", &files);
    let args = [
        "pull",
        "owner/problems",
        "--dataset",
        "--include",
        "*.jsonl",
        "README*",
    ];
    let ran = leap(&bench, &hub, &args).succeeds();
    assert_eq!(ran.stdout, "datasets/problems\n");
    assert!(!ran.stderr.contains("Verified"), "{}", ran.stderr);
    assert_eq!(
        names(&bench, "datasets/problems"),
        ["README.md", "data/train.jsonl", "pull.json"]
    );
    let ran = leap(&bench, &hub, &["pull", "owner/problems", "--dataset"]).succeeds();
    check_words(
        &ran.stderr,
        &["(2 there already)", "Leaving out .gitattributes"],
    );
    let expected = [
        "README.md",
        "data/part 1.parquet",
        "data/train.jsonl",
        "empty.txt",
        "pull.json",
    ];
    assert_eq!(names(&bench, "datasets/problems"), expected);
    // A part again does not forget the rest.
    leap(&bench, &hub, &args).succeeds();
    let record = fs::read_to_string(bench.path("datasets/problems/pull.json")).expect("the record");
    check_words(
        &record,
        &["data/part 1.parquet", "\"dataset\"", "\"complete\": true"],
    );
    let none = ["pull", "owner/problems", "--dataset", "--include", "*.csv"];
    leap(&bench, &hub, &none).fails("`owner/problems` has no file that matches *.csv");
    leap(&bench, &hub, &["pull", "owner/problems"]).fails("does not show `owner/problems`");
}

#[test]
fn a_model_that_is_damaged_at_the_hub_is_said_to_be() {
    let (hub, bench) = hub();
    let mut weights = golden("model.safetensors");
    let length = weights.len();
    // The last number becomes a NaN, in bf16 and in f32.
    weights[length - 2..].copy_from_slice(&[0xff, 0x7f]);
    hub.commit(
        MODEL,
        &[
            ("config.json", &golden("config.json")),
            ("model.safetensors", &weights),
        ],
    );
    let ran = pull(&bench, &hub);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    check_words(&ran.stderr, &["Damaged model.safetensors", "NaN"]);
    assert_eq!(ran.stdout, "checkpoints/small-model\n");
    let parts = [
        "pull",
        "owner/small-model",
        "--include",
        "config.json",
        "--to",
        "part",
    ];
    let ran = leap(&bench, &hub, &parts).succeeds();
    check_words(&ran.stderr, &["no whole checkpoint"]);
}

/// Starts a pull that takes its time, and waits until bytes of the weights have arrived.
#[cfg(unix)]
fn slow_pull(bench: &Bench, hub: &Hub) -> Child {
    hub.fault("/large/", usize::MAX, Act::Slow);
    let mut command = command(bench, &hub.endpoint, &["pull", "owner/small-model"]);
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("leap starts");
    let part = format!("{}.part", sha256(&golden("model.safetensors")));
    let part = bench.path("checkpoints/small-model/.pull").join(part);
    let started = Instant::now();
    while fs::metadata(&part).map_or(0, |found| found.len()) < 4_000 {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "no byte arrives"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_is_there_and_a_folder_has_one_pull_at_a_time() {
    let (hub, bench) = hub();
    let child = slow_pull(&bench, &hub);
    pull(&bench, &hub).fails("another process is pulling into `checkpoints/small-model`");
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .expect("kill")
            .success()
    );
    let output = child.wait_with_output().expect("leap ends");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    check_words(&stderr, &["stopped", "hint: the same command continues"]);
    hub.forget();
    pull(&bench, &hub).succeeds();
    let all = golden("model.safetensors").len();
    assert!(hub.served() <= all - 4_000, "{} of {all}", hub.served());

    // A process that is killed leaves the same.
    let (hub, bench) = self::hub();
    let mut child = slow_pull(&bench, &hub);
    child.kill().expect("kill");
    child.wait().expect("leap ends");
    hub.forget();
    pull(&bench, &hub).succeeds();
    assert!(hub.served() <= all - 4_000, "{} of {all}", hub.served());
}

#[test]
fn what_the_machines_cache_holds_is_not_downloaded_again_but_checked() {
    let (hub, bench) = hub();
    let weights = golden("model.safetensors");
    let commit = hub.state().repos[MODEL].newest().id.clone();
    let cached = format!("hf-home/hub/models--owner--small-model/snapshots/{commit}");
    fs::create_dir_all(bench.path(&cached)).expect("a folder");
    let file = bench.path(&cached).join("model.safetensors");
    fs::write(&file, &weights).expect("a cached file");
    let first = pull(&bench, &hub).succeeds();
    check_words(
        &first.stderr,
        &["1 file came from this machine's cache", "Verified good"],
    );
    assert!(
        hub.served() < weights.len(),
        "{} bytes were served",
        hub.served()
    );

    // A damaged copy is passed over.
    let mut damaged = weights.clone();
    damaged[1000] ^= 1;
    fs::write(&file, &damaged).expect("a damaged file");
    hub.forget();
    let again = ["pull", "owner/small-model", "--to", "other"];
    let again = leap(&bench, &hub, &again).succeeds();
    assert!(!again.stderr.contains("cache"), "{}", again.stderr);
    assert!(hub.served() >= weights.len());
    assert!(fs::read(bench.path("other/model.safetensors")).expect("weights") == weights);
}
