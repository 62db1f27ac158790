//! Trace generation as a user meets it: cut off anywhere, in shards, behind servers that misbehave.

mod bench;
#[path = "../infer/tests/server/mod.rs"]
mod server;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bench::{Bench, artefacts, check_error, micro};
use protocol::{PathEnd, Stream, Trace};
use server::{Act, Kind, Quirk, Server};

/// All files that must be the same, and none that tells of work in progress.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let found = artefacts(folder);
    let journal = found.iter().find(|(name, _)| name.contains("journal"));
    assert!(journal.is_none(), "a journal is left");
    // A file that was cut off under a temporary name is work in progress, too.
    found
        .into_iter()
        .filter(|(name, _)| !name.starts_with('.'))
        .collect()
}

#[track_caller]
fn check_same(found: &Path, expected: &[(String, Vec<u8>)]) {
    let found = files(found);
    let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&found), names(expected));
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.1 == expected.1, "{} differs", found.0);
    }
}

/// Kills the command at this many moments drawn at random, and compares each end it comes to.
fn check_killed(bench: &Bench, args: &[&str], kills: u64) {
    let [undisturbed, killed_at] =
        ["undisturbed", "killed"].map(|out| [args, &["--out", out]].concat());
    let started = Instant::now();
    bench.leap(&undisturbed).succeeds();
    let whole = started.elapsed();
    let expected = files(&bench.path("undisturbed"));
    assert!(expected.iter().any(|(name, _)| name == "traces.jsonl"));
    let moments = Stream::of_run(11).named("moments");
    let (mut killed, mut ends) = (0, 0);
    while killed < kills {
        let told = fs::File::create(bench.path("told")).expect("a file");
        let mut command = bench.command(&killed_at);
        let mut child = command.stderr(told).spawn().expect("leap starts");
        // Most attempts are cut off, and every few of them come to an end.
        sleep(whole.mul_f64(0.7 * moments.uniform(killed + 1000 * ends)));
        match child.try_wait().expect("a state") {
            None => {
                child.kill().expect("killed");
                child.wait().expect("gone");
                killed += 1;
            }
            Some(status) => {
                let told = fs::read_to_string(bench.path("told")).expect("a file");
                assert!(status.success(), "{status}: {told}");
                check_same(&bench.path("killed"), &expected);
                fs::remove_dir_all(bench.path("killed")).expect("removed");
                ends += 1;
            }
        }
    }
    bench.leap(&killed_at).succeeds();
    check_same(&bench.path("killed"), &expected);
}

#[test]
fn traces_of_the_simulated_reasoner_killed_at_fifty_moments_have_the_same_bytes() {
    check_killed(
        &Bench::new(),
        &["data-gen", "traces", "teacher-simulated"],
        50,
    );
}

/// A recipe whose teacher is a small model that was trained here, greedy.
fn local_recipe(bench: &Bench) {
    bench.leap(&micro("out")).succeeds();
    let read = |name: &str| fs::read_to_string(bench.path(name)).expect("a file");
    let recipe: toml::Table = read("out/recipe.toml").parse().expect("TOML");
    let mut traces = toml::Table::new();
    for key in ["seed", "prompts", "protocol", "engine"] {
        traces.insert(key.into(), recipe[key].clone());
    }
    let rest = "job = \"data-gen traces\"\ntitle = \"a small model\"\n[teacher]\nengine = \"local\"\n\
                folder = \"out/checkpoints/leap-t\"\ndtype = \"f32\"\n[problems]\ncount = 6\n\
                file = \"problems.jsonl\"\n[traces]\nmethod = \"leap-t\"\ngroups = 2\n\
                max_tokens = 1000\n";
    let rest: toml::Table = rest.parse().expect("TOML");
    traces.extend(rest);
    bench.write("local.toml", &toml::to_string(&traces).expect("TOML"));
    bench.write("problems.jsonl", &read("out/problems.jsonl"));
}

#[test]
fn traces_of_a_greedy_local_model_killed_at_fifty_moments_have_the_same_bytes() {
    let bench = Bench::new();
    local_recipe(&bench);
    let args = [
        "data-gen",
        "traces",
        "local.toml",
        "protocol.sampling.temperature=0.0",
    ];
    check_killed(&bench, &args, 50);
    let bytes = fs::read(bench.path("killed/traces.jsonl")).expect("traces");
    let traces: Vec<Trace> = protocol::jsonl::read(&bytes[..]).expect("traces");
    assert_eq!(traces.len(), 12);
    assert_eq!(traces[0].origin.device, "cpu f32");
}

#[test]
fn a_folder_that_was_killed_as_it_was_made_is_begun_anew() {
    let bench = Bench::new();
    bench.write("out/.stages.json.tmp", "{\"vers");
    let args = [
        "data-gen",
        "traces",
        "teacher-simulated",
        "problems.count=2",
        "--out",
        "out",
    ];
    bench.leap(&args).succeeds();
    bench.write("mine/notes.txt", "mine");
    let args = ["data-gen", "traces", "teacher-simulated", "--out", "mine"];
    bench
        .leap(&args)
        .fails("`mine` is not empty and holds no run");
}

#[test]
fn shards_are_merged_into_the_bytes_of_one_call() {
    let bench = Bench::new();
    let args = [
        "data-gen",
        "traces",
        "teacher-simulated",
        "problems.count=10",
    ];
    let run = |more: &[&str]| bench.leap(&[&args, more].concat());
    run(&["--out", "whole"]).succeeds();
    let expected = files(&bench.path("whole"));
    for shard in ["1/3", "2/3", "3/3"] {
        run(&["--shard", shard]).succeeds();
    }
    let shards = [1, 2, 3].map(|index| format!("runs/teacher-simulated-{index}-of-3"));
    let [one, two, three] = shards.each_ref().map(String::as_str);
    bench
        .leap(&["data-gen", "merge", three, one, two, "--out", "merged"])
        .succeeds();
    check_same(&bench.path("merged"), &expected);
    // It is what the one call would have left: there is nothing to do for it.
    let again = run(&["--out", "merged"]).succeeds();
    assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);

    let merge = |shards: &[&str]| {
        let args = [&["data-gen", "merge"], shards, &["--out", "wrong"]].concat();
        bench.leap(&args)
    };
    merge(&[one, three]).fails("is in none of the files");
    merge(&[one, two, one, three]).fails("a shard is named twice");
    merge(&["whole", one]).fails("is there twice");
    merge(&["nowhere"]).fails("`nowhere` holds no traces");
    run(&["--shard", "1/3", "seed=2", "--out", "other"]).succeeds();
    merge(&["other", two, three]).fails("was made by another recipe");
    // The folder of one shard is not gone on with as another.
    run(&["--shard", "2/3", "--out", one]).fails("holds a run of another recipe");
    bench
        .leap(&["data-gen", "merge", one, "--out", "whole"])
        .fails("is in none of the files");
    check_same(&bench.path("whole"), &expected);
    // What was edited behind a ledger's back does not become official.
    for file in ["problems.jsonl", "traces.jsonl"] {
        let path = bench.path(&format!("{two}/{file}"));
        let text = fs::read_to_string(&path).expect(file);
        fs::write(&path, text.replacen("42", "43", 1) + "\n").expect(file);
        merge(&[one, two, three]).fails("it was damaged or edited");
        fs::write(&path, text).expect(file);
    }
    merge(&[one, two, three]).succeeds();
}

#[test]
fn a_forecast_of_more_than_can_be_counted_is_no_crash() {
    let bench = Bench::new();
    let args = [
        "data-gen",
        "traces",
        "teacher-simulated",
        "protocol.paths=9223372036854775807",
        "--dry-run",
    ];
    bench.leap(&args).succeeds();
}

/// Traces of six problems behind servers.
fn remote<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = [
        "data-gen",
        "traces",
        "teacher-simulated",
        "teacher.engine=remote",
        "teacher.folder=bytes",
        "teacher.remote.model=babbler",
        "teacher.remote.positions=20000",
        "problems.count=12",
        "protocol.paths=3",
        "protocol.sampling.top_k=0",
        "--in-flight",
        "8",
        "--out",
        out,
    ];
    [&args, more].concat()
}

#[test]
fn traces_behind_servers_that_misbehave_and_a_client_that_is_killed_are_the_same() {
    let bench = Bench::new();
    bench.byte_tokenizer();
    let servers = [Kind::Vllm; 2].map(Server::start);
    let [one, two] = servers.each_ref().map(Server::url);
    let both = format!("{one},{two}");
    let at = ["--server", both.as_str()];
    let ran = bench.leap(&remote("undisturbed", &at)).succeeds();
    for text in [
        "Servers 2 of 2 servers: babbler, vllm, ids",
        "measured now",
        "24 of 24 groups",
    ] {
        assert!(ran.stderr.contains(text), "no `{text}` in {}", ran.stderr);
    }
    let expected = files(&bench.path("undisturbed"));
    let acts = [
        Act::Status(500),
        Act::Busy("0.01"),
        Act::Half,
        Act::Torn,
        Act::Reset,
    ];
    for server in &servers {
        server.delay(Duration::from_millis(40));
    }
    let mut kills = 0;
    for attempt in 0..10 {
        let mut child = bench.start(&remote("killed", &at));
        sleep(Duration::from_millis(200 + 40 * attempt));
        // What asks servers what they can do has no second try.
        servers[0].acts(acts);
        sleep(Duration::from_millis(60));
        if child.try_wait().expect("a state").is_none() {
            child.kill().expect("killed");
            kills += 1;
        }
        child.wait().expect("gone");
        servers[0].forget_acts();
    }
    assert!(kills > 0, "it was never killed");
    bench.leap(&remote("killed", &at)).succeeds();
    check_same(&bench.path("killed"), &expected);
}

#[test]
fn a_key_that_expires_ends_the_command_and_the_same_command_goes_on() {
    let bench = Bench::new();
    bench.byte_tokenizer();
    let server = Server::start(Kind::Vllm);
    let url = server.url();
    let at = ["--server", &url, "--patience", "1"];
    bench.leap(&remote("undisturbed", &at)).succeeds();
    let expected = files(&bench.path("undisturbed"));
    server.delay(Duration::from_millis(10));
    let asked = server.completions();
    let mut child = bench.start(&remote("out", &at));
    while server.completions() < asked + 120 {
        sleep(Duration::from_millis(1));
    }
    server.quirk(Some(Quirk::Denies(401)));
    assert_eq!(child.wait().expect("gone").code(), Some(2));
    let ran = bench.leap(&remote("new", &at)).fails("denied: status 401");
    assert!(ran.stderr.contains("LEAP_API_KEY"), "{}", ran.stderr);
    server.quirk(None);
    let ran = bench.leap(&remote("out", &at)).succeeds();
    check_same(&bench.path("out"), &expected);
    // What is counted is the whole run.
    assert!(
        ran.stderr.contains("of 72 paths accepted"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_path_that_could_not_be_served_is_seen_and_asked_again_unless_it_is_dropped() {
    let bench = Bench::new();
    bench.byte_tokenizer();
    let server = Server::start(Kind::Vllm);
    let url = server.url();
    let at = ["--server", &url];
    bench.leap(&remote("undisturbed", &at)).succeeds();
    let expected = files(&bench.path("undisturbed"));
    // One request behind the forecast is refused.
    let refused = |more: &[&str]| {
        let asked = server.completions();
        server.delay(Duration::from_millis(5));
        let told = fs::File::create(bench.path("told")).expect("a file");
        let mut command = bench.command(&[&remote("out", &at)[..], more].concat());
        let mut child = command.stderr(told).spawn().expect("leap starts");
        while server.completions() < asked + 60 {
            sleep(Duration::from_millis(1));
        }
        server.acts([Act::Status(422)]);
        let code = child.wait().expect("gone").code();
        let told = fs::read_to_string(bench.path("told")).expect("a file");
        (code, told)
    };
    let (code, told) = refused(&[]);
    assert_eq!(code, Some(2), "{told}");
    for text in [
        "1 of 24 groups wait",
        "refused: status 422",
        "--drop-failed",
    ] {
        assert!(told.contains(text), "no `{text}` in {told}");
    }
    bench.leap(&remote("out", &at)).succeeds();
    check_same(&bench.path("out"), &expected);
    fs::remove_dir_all(bench.path("out")).expect("removed");
    let (code, told) = refused(&["--drop-failed"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("1 path failed and left"), "{told}");
    let bytes = fs::read(bench.path("out/traces.jsonl")).expect("traces");
    let traces: Vec<Trace> = protocol::jsonl::read(&bytes[..]).expect("traces");
    let paths = traces.iter().flat_map(|trace| &trace.paths);
    let failed = paths.filter(|path| matches!(path.end, PathEnd::Failed(_)));
    assert_eq!(failed.count(), 1);
}

#[test]
fn a_run_that_began_with_text_does_not_go_on_with_ids() {
    let bench = Bench::new();
    bench.byte_tokenizer();
    let [text, ids] = [Kind::Plain, Kind::Vllm].map(Server::start);
    let [text_url, ids_url] = [&text, &ids].map(Server::url);
    text.delay(Duration::from_millis(10));
    let mut child = bench.start(&remote("out", &["--server", &text_url]));
    while text.completions() < 120 {
        sleep(Duration::from_millis(1));
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    let ran = bench
        .leap(&remote("out", &["--server", &ids_url]))
        .fails("holds what was computed on `remote openai, text`, and not on `remote vllm, ids`");
    assert!(ran.stderr.contains("another --out"), "{}", ran.stderr);
    text.delay(Duration::ZERO);
    bench
        .leap(&remote("out", &["--server", &text_url]))
        .succeeds();
    // Nor are shards of both put together.
    for (shard, url) in [("1/2", &text_url), ("2/2", &ids_url)] {
        let out = &shard[..1];
        bench
            .leap(&remote(out, &["--server", url, "--shard", shard]))
            .succeeds();
    }
    bench
        .leap(&["data-gen", "merge", "1", "2", "--out", "merged"])
        .fails("`remote vllm, ids`");
}

#[test]
fn problems_that_do_not_fit_are_named_before_anything_is_asked() {
    let bench = Bench::new();
    bench.byte_tokenizer();
    let server = Server::start(Kind::Vllm);
    let url = server.url();
    let line = |id: &str, text: &str| {
        serde_json::json!({"id": id, "problem": text, "answer": 7}).to_string() + "\n"
    };
    let (short, long) = ("3+4?", "How long? ".repeat(2_500));
    let good = line("a", short) + &line("b", short);
    let run = |more: &[&str]| {
        let file = [
            "problems.file=mine.jsonl",
            "problems.search=",
            "problems.count=0",
            "teacher.remote.positions=20000",
            "--server",
            &url,
        ];
        bench.leap(&remote("out", &[&file, more].concat()))
    };
    bench.write(
        "mine.jsonl",
        &(good.clone() + &line("c", &long) + &line("d", &long)),
    );
    for more in [&["--dry-run"][..], &[]] {
        let ran =
            run(more).fails("no group can be made on 2 of 4 problems: `c` (the prompt has 25");
        assert!(ran.stderr.contains("`d` ("), "{}", ran.stderr);
        assert!(ran.stderr.contains("nothing was asked"), "{}", ran.stderr);
    }
    assert_eq!(server.completions(), 0);
    bench.write("mine.jsonl", &good);
    run(&[]).succeeds();
    // What was said to other problems is named.
    bench.write("out/.traces.jsonl.0123456789ab.journal", "");
    bench.write("mine.jsonl", &(good + &line("e", short)));
    let ran = run(&[]).succeeds();
    let named = "`out/.traces.jsonl.0123456789ab.journal` holds what was said to other problems";
    assert!(ran.stderr.contains(named), "{}", ran.stderr);
}

#[test]
fn a_number_that_no_recipe_holds_is_refused_with_the_range() {
    check_error(
        &[
            "data-gen",
            "traces",
            "teacher-simulated",
            "seed=9223372036854775808",
        ],
        "`seed` is 9223372036854775808, which is out of range",
        "to 9223372036854775807",
    );
}

#[test]
fn a_signal_waits_for_what_servers_are_at_and_nothing_is_asked_twice() {
    let bench = Bench::new();
    bench.byte_tokenizer();
    let server = Server::start(Kind::Vllm);
    let url = server.url();
    let at = ["--server", &url];
    bench.leap(&remote("undisturbed", &at)).succeeds();
    let expected = files(&bench.path("undisturbed"));
    server.delay(Duration::from_millis(40));
    let mut stopped = 0;
    for attempt in 0..30 {
        let mut child = bench
            .command(&remote("stopped", &at))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("leap starts");
        sleep(Duration::from_millis(300 + 50 * attempt));
        let pid = child.id().to_string();
        let signal = Command::new("kill").args(["-INT", &pid]).status();
        signal.expect("a signal");
        match child.wait().expect("gone").code() {
            Some(130) => stopped += 1,
            Some(0) => break,
            // Before it listens, the signal ends it at once.
            None => {}
            code => panic!("exit code {code:?}"),
        }
    }
    assert!(stopped > 0, "it was never stopped");
    bench.leap(&remote("stopped", &at)).succeeds();
    check_same(&bench.path("stopped"), &expected);
}

#[test]
fn a_trace_says_where_texts_went_to_and_fro() {
    let bench = Bench::new();
    bench.byte_tokenizer();
    let server = Server::start(Kind::Plain);
    let url = server.url();
    bench.leap(&remote("out", &["--server", &url])).succeeds();
    let bytes = fs::read(bench.path("out/traces.jsonl")).expect("traces");
    let traces: Vec<Trace> = protocol::jsonl::read(&bytes[..]).expect("traces");
    for trace in &traces {
        assert_eq!(trace.origin.device, "remote openai, text");
        assert_eq!(trace.origin.model, "babbler");
    }
    // They replay as any other.
    bench
        .leap(&[
            "trace",
            "replay",
            "out/traces.jsonl",
            "--tokenizer",
            "bytes",
        ])
        .succeeds();
}

#[test]
fn servers_answer_an_evaluation_and_a_single_problem() {
    let bench = Bench::new();
    bench.byte_tokenizer();
    let server = Server::start(Kind::Sglang);
    let url = server.url();
    let eval = [
        "eval",
        "search",
        "model.engine=remote",
        "model.checkpoint=bytes",
        "model.remote.model=babbler",
        "model.remote.positions=20000",
        "problems.count=3",
        "eval.groups=1",
        "protocol.sampling.top_k=0",
        "--out",
        "eval",
    ];
    bench.leap(&eval).fails("no server is named");
    let at = ["--server", &url];
    let ran = bench.leap(&[&eval[..], &at].concat()).succeeds();
    assert!(ran.stdout.contains("Pass@1"), "{}", ran.stdout);
    let again = bench.leap(&[&eval[..], &at].concat()).succeeds();
    assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);
    let infer = [
        "infer",
        "bytes",
        "What is 6 * 7?",
        "sampling.top_k=0",
        "--json",
        "--server",
        &url,
    ];
    let ran = bench.leap(&infer).succeeds();
    let trace: Trace = serde_json::from_str(&ran.stdout).expect("a trace");
    assert_eq!(trace.origin.device, "remote sglang, ids");
    assert_eq!(trace.paths.len(), 4);
}

#[test]
fn what_cannot_work_is_refused_with_advice() {
    check_error(
        &["data-gen", "traces", "leap-t-teacher-32b"],
        "the recipe names no problems",
        "problems.file=FILE",
    );
    check_error(
        &[
            "data-gen",
            "traces",
            "teacher-simulated",
            "teacher.engine=local",
        ],
        "names no folder of the teacher",
        "teacher.folder=DIR",
    );
    check_error(
        &[
            "data-gen",
            "traces",
            "teacher-simulated",
            "traces.methods=cot",
        ],
        "has no key `methods`",
        "did you mean `method`?",
    );
    check_error(
        &["data-gen", "traces", "tiny"],
        "not for `leap data-gen traces`",
        "`leap run tiny` runs it",
    );
    check_error(
        &["run", "teacher-simulated"],
        "not for `leap run`",
        "`leap data-gen traces teacher-simulated` runs it",
    );
    let bench = Bench::new();
    bench.byte_tokenizer();
    bench.leap(&remote("out", &[])).fails("no server is named");
    let gone = Server::start(Kind::Vllm);
    gone.die();
    let url = gone.url();
    let ran = bench
        .leap(&remote("out", &["--server", &url]))
        .fails("no server can be used");
    assert!(ran.stderr.contains(&url) && ran.stderr.contains("is the server running"));
    let server = Server::start(Kind::Vllm);
    let url = server.url();
    server.lock("hidden-key");
    let ran = bench
        .leap(&remote("out", &["--server", &url]))
        .fails("status 401");
    assert!(ran.stderr.contains("LEAP_API_KEY"), "{}", ran.stderr);
    let ran = bench
        .command(&remote("out", &["--server", &url]))
        .env("LEAP_API_KEY", "hidden-key")
        .output()
        .expect("leap starts");
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    // The key is in no message and no file.
    assert!(!String::from_utf8_lossy(&ran.stderr).contains("hidden-key"));
    for (name, bytes) in artefacts(&bench.path("out")) {
        assert!(
            !String::from_utf8_lossy(&bytes).contains("hidden-key"),
            "{name}"
        );
    }
    let events = fs::read_to_string(bench.path("out/events.jsonl")).expect("events");
    assert!(!events.contains("hidden-key"));
    // Ids of another tokenizer are found before anything is asked.
    bench.leap(&micro("run")).succeeds();
    let plain = Server::start(Kind::Vllm);
    let url = plain.url();
    let args = remote(
        "other",
        &["teacher.folder=run/checkpoints/base", "--server", &url],
    );
    bench.leap(&args).fails("another tokenizer");
}

#[test]
fn a_dry_run_tells_what_it_costs_at_most() {
    let bench = Bench::new();
    bench.byte_tokenizer();
    bench.write(
        "aime.jsonl",
        "{\"id\": \"a\", \"problem\": \"1+1?\", \"answer\": 2}\n{\"id\": \"b\", \"problem\": \"2+2?\", \"answer\": 4}\n",
    );
    let args = [
        "data-gen",
        "traces",
        "leap-t-teacher-32b",
        "teacher.folder=bytes",
        "problems.file=aime.jsonl",
        "traces.groups=3",
        "--dry-run",
    ];
    let ran = bench.leap(&args).succeeds();
    let expected = "6 groups, 192 paths, at most 3342 thousand tokens";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    assert!(!bench.path("runs").exists());
    let ran = bench
        .leap(&[&args[..], &["--shard", "2/2"]].concat())
        .succeeds();
    assert!(ran.stderr.contains("3 groups, 96 paths"), "{}", ran.stderr);
}
