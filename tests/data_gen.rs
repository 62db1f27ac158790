//! `leap data-gen`: problems in, clean samples out, by the command.

mod bench;
mod hub_server;

use bench::{Bench, check_error, micro};
use hub_server::{Hub, TOKEN};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("one JSON object")
}

fn lines(bench: &Bench, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(bench.path(file)).expect(file);
    text.lines().map(json).collect()
}

fn ids(records: &[Value]) -> Vec<&str> {
    records
        .iter()
        .map(|record| record["id"].as_str().expect("an id"))
        .collect()
}

const TABLE: &str = "ID,Year,Question,Answer\n\
    1990-1,1990,\"Find the number of ways to colour the faces of a cube with three colours, up to turning it.\",057\n\
    1990-2,1990,What is $6 \\cdot 7$?,42\n\
    1991-1,1991,what is 6*7 ?,42\n\
    2024-I-1,2024,What is 8 * 9?,72\n\
    1991-2,1991,How many primes are below 100?,25\n";

#[test]
fn problems_are_imported_named_and_cleaned_with_a_reason_for_each_that_is_left_out() {
    let bench = Bench::new();
    bench.write("aime.csv", TABLE);
    bench.write("plain.csv", "problem,answer\nWhat is 11 * 11?,121\n");
    bench.write(
        "bench.jsonl",
        r#"{"id": "b1", "problem": "Find the number of ways to color the faces of a cube with $3$ colors, up to turning it.", "answer": 57}"#,
    );
    let args = [
        "data-gen",
        "problems",
        "aime.csv",
        "plain.csv",
        "--synthetic",
        "divisors=3",
        "--synthetic",
        "sum-choice=2",
        "--against",
        "bench.jsonl",
        "--out",
        "p.jsonl",
    ];
    let made = bench.leap(&args).succeeds();
    assert_eq!(made.stdout, "p.jsonl\n");
    for said in [
        "Keeping 8 of 11 problems",
        "1 copies",
        "1 too recent",
        "Hit `1990-1` is bench `b1`",
        "colour the faces",
    ] {
        assert!(made.stderr.contains(said), "no `{said}` in {}", made.stderr);
    }
    let problems = lines(&bench, "p.jsonl");
    let ids = ids(&problems);
    assert_eq!(ids[..2], ["1990-2", "1991-2"]);
    assert!(
        ids[2].starts_with("plain-")
            && ids[3].starts_with("divisors-")
            && ids[6].starts_with("sum-choice-"),
        "{ids:?}"
    );
    let left_out = lines(&bench, "p.left-out.jsonl");
    let of = |why: &str| {
        left_out
            .iter()
            .find(|one| one["why"] == why)
            .unwrap_or_else(|| panic!("no {why}"))
    };
    assert_eq!(of("year")["value"], 2024.0);
    assert_eq!(
        (&of("copy")["problem"]["id"], &of("copy")["like"]["id"]),
        (&"1991-1".into(), &"1990-2".into())
    );
    let hit = left_out
        .iter()
        .find(|one| one["benchmark"] == "bench")
        .expect("a hit");
    assert!(
        hit["problem"]["text"].as_str() != hit["like"]["text"].as_str()
            && hit["like"]["id"] == "b1"
    );

    bench.leap(&args).fails("`p.jsonl` exists");
    let mut again = args.to_vec();
    again.push("--overwrite");
    bench.leap(&again).succeeds();
    assert_eq!(lines(&bench, "p.jsonl"), problems);
    // All of a benchmark is too recent.
    bench.write(
        "new.csv",
        "id,year,problem,answer\na,2025,What is 1 + 2?,3\n",
    );
    let none = bench.leap(&["data-gen", "problems", "new.csv", "--out", "none.jsonl"]);
    assert_eq!(
        (none.code, none.stdout.as_str()),
        (Some(1), "none.left-out.jsonl\n"),
        "{}",
        none.stderr
    );
    assert!(
        none.stderr.contains("--before none keeps"),
        "{}",
        none.stderr
    );
    bench
        .leap(&[
            "data-gen",
            "problems",
            "new.csv",
            "--before",
            "none",
            "--out",
            "kept.jsonl",
        ])
        .succeeds();
}

#[test]
fn what_cannot_be_read_as_problems_is_named_with_advice() {
    let bench = Bench::new();
    let fails = |name: &str, text: &str, more: &[&str], message: &str| {
        bench.write(name, text);
        let mut args = vec!["data-gen", "problems", name, "--out", "out.jsonl"];
        args.extend(more);
        bench.leap(&args).fails(message);
        assert!(!bench.path("out.jsonl").exists() && !bench.path("out.left-out.jsonl").exists());
    };
    fails(
        "a.csv",
        "text,key\nWhat?,4\n",
        &[],
        "has no column that is known to hold the statement",
    );
    fails(
        "b.csv",
        "text,key\nWhat?,4\n",
        &["--problem", "text", "--answer", "kye"],
        "has no column `kye`",
    );
    fails(
        "c.csv",
        "id,problem,answer\na,What?,4\na,Which?,5\n",
        &[],
        "appears twice",
    );
    fails(
        "d.csv",
        "problem,answer\nWhat?,a few\n",
        &["--kind", "integer"],
        "does not even equal itself",
    );
    fails("e.jsonl", "{\"id\": \"a\"\n", &[], "line 1");
    let gpqa: String = (0..40).map(|n| format!("Why {n}?,a{n},b,c,d\n")).collect();
    let gpqa = format!(
        "Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\n{gpqa}"
    );
    fails("g.csv", &gpqa, &[], "right options stand at A");
    let shuffled = [
        "data-gen",
        "problems",
        "g.csv",
        "--options-seed",
        "1",
        "--out",
        "g.jsonl",
    ];
    bench.leap(&shuffled).succeeds();
    check_error(
        &["data-gen", "problems", "--out", "x.jsonl"],
        "nothing to make problems of",
        "--synthetic",
    );
    check_error(
        &[
            "data-gen",
            "problems",
            "--synthetic",
            "primes=3",
            "--out",
            "x.jsonl",
        ],
        "no order for problems",
        "example",
    );
    check_error(
        &[
            "data-gen",
            "problems",
            "--synthetic",
            "sum=3",
            "--before",
            "soon",
            "--out",
            "x.jsonl",
        ],
        "is no year",
        "2024",
    );
    check_error(
        &[
            "data-gen",
            "problems",
            "--synthetic",
            "sum=3",
            "--out",
            "x.json",
        ],
        "does not end with .jsonl",
        "problems.jsonl",
    );
}

#[test]
fn problems_come_from_the_hub() {
    let hub = Hub::start();
    hub.commit(
        "datasets/owner/sums",
        &[("sums.csv", b"problem,answer\nWhat is 2 + 3?,5\n")],
    );
    let bench = Bench::new();
    let args = [
        "data-gen",
        "problems",
        "--hub",
        "owner/sums",
        "--out",
        "p.jsonl",
    ];
    let output = bench
        .hub_command(&hub.endpoint, "", &args)
        .output()
        .expect("leap starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(lines(&bench, "p.jsonl")[0]["answer"], "5");
}

/// A small run of the road: problems, traces with exchange and without, a tokenizer.
fn run() -> Bench {
    let bench = Bench::new();
    bench.leap(&micro("out")).succeeds();
    bench
}

const SAMPLES: [&str; 6] = [
    "data-gen",
    "samples",
    "leap-t-samples",
    "problems=out/problems.jsonl",
    "traces.leap=out/traces.jsonl",
    "--out",
];

fn samples<'a>(more: &[&'a str], out: &'a str) -> Vec<&'a str> {
    let mut args = SAMPLES[..5].to_vec();
    args.extend(more);
    args.extend(["--out", out]);
    args
}

#[test]
fn traces_become_the_samples_that_a_run_makes_of_them_and_a_control() {
    let bench = run();
    // What `leap run` asks for, by name.
    let rule =
        "leap.require=[\"finished\", \"answer\", \"answer_ended\", \"summaries\", \"length\"]";
    let made = bench
        .leap(&samples(&[rule, "filters.max_tokens=480"], "data"))
        .succeeds();
    assert_eq!(made.stdout, "data/samples.jsonl\n");
    assert!(
        made.stderr.contains("required") && made.stderr.contains("pass_rate"),
        "{}",
        made.stderr
    );
    let of_run = lines(&bench, "out/samples.jsonl");
    let own: Vec<&Value> = of_run
        .iter()
        .filter(|sample| !sample["id"].as_str().expect("an id").contains(':'))
        .collect();
    assert!(own.len() > 10, "{}", own.len());
    assert_eq!(
        lines(&bench, "data/samples.jsonl")
            .iter()
            .collect::<Vec<_>>(),
        own
    );
    assert_eq!(lines(&bench, "data/verdicts.jsonl").len(), 72);

    // The same command has nothing to do; another recipe is not mixed in.
    let again = bench
        .leap(&samples(&[rule, "filters.max_tokens=480"], "data"))
        .succeeds();
    assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);
    bench
        .leap(&samples(&["seed=2"], "data"))
        .fails("another recipe or other traces");
    let more = [
        "traces.control=out/traces-control.jsonl",
        "plain_share=0.25",
        "held_out=0.3",
        "--overwrite",
    ];
    bench.leap(&samples(&more, "data")).succeeds();
    let report =
        json(&std::fs::read_to_string(bench.path("data/samples-report.json")).expect("a report"));
    let all = lines(&bench, "data/samples.jsonl");
    let mixed = all
        .iter()
        .filter(|sample| {
            sample["id"]
                .as_str()
                .expect("an id")
                .starts_with("control:")
        })
        .count();
    let leap = report["leap"]["samples"].as_u64().expect("a number");
    assert_eq!(
        (mixed as u64, all.len() - mixed),
        (
            report["mixed_in"].as_u64().expect("a number"),
            leap as usize
        )
    );
    assert_eq!(mixed as f64, (leap as f64 / 3.0).round());
    let problem = |sample: &Value| sample["problem"].as_str().expect("a problem").to_owned();
    let trained: std::collections::BTreeSet<String> = all.iter().map(problem).collect();
    for held_out in ["data/held-out.jsonl", "data/held-out-control.jsonl"] {
        let held_out = lines(&bench, held_out);
        assert!(
            !held_out.is_empty()
                && held_out
                    .iter()
                    .all(|sample| !trained.contains(&problem(sample)))
        );
    }
    let control = lines(&bench, "data/samples-control.jsonl").len() as u64;
    assert!(control <= leap && control == report["control"]["samples"].as_u64().expect("a number"));
    // Its recipe makes the same set; one without a control leaves none of its files.
    let again = ["data-gen", "samples", "data/recipe.toml", "--out", "data-2"];
    bench.leap(&again).succeeds();
    let read = |file: &str| std::fs::read(bench.path(file)).expect(file);
    for file in [
        "samples.jsonl",
        "samples-control.jsonl",
        "verdicts.jsonl",
        "held-out.jsonl",
        "samples-report.json",
    ] {
        assert_eq!(
            read(&format!("data/{file}")),
            read(&format!("data-2/{file}")),
            "{file}"
        );
    }
    bench.leap(&samples(&["--overwrite"], "data-2")).succeeds();
    assert!(!bench.path("data-2/samples-control.jsonl").exists());
    let hidden = std::fs::read_dir(bench.path("data-2"))
        .expect("a folder")
        .filter(|entry| {
            let name = entry.as_ref().expect("an entry").file_name();
            name.to_string_lossy().starts_with('.') && name != ".lock"
        });
    assert_eq!(hidden.count(), 0);

    // Cut off between two names: the same command does it again, another one does not.
    let report = read("data-2/samples-report.json");
    let key = json(&String::from_utf8(report.clone()).expect("UTF-8"))["key"]
        .as_str()
        .expect("a key")
        .to_owned();
    std::fs::remove_file(bench.path("data-2/samples-report.json")).expect("removed");
    bench
        .leap(&samples(&[], "data-2"))
        .fails("another recipe or other traces");
    bench.write("data-2/.key", &key);
    bench
        .leap(&samples(&["seed=9"], "data-2"))
        .fails("another recipe or other traces");
    bench.leap(&samples(&[], "data-2")).succeeds();
    assert_eq!(read("data-2/samples-report.json"), report);

    // What another command made is left alone, and methods are not mixed up.
    let before = read("out/recipe.toml");
    for out in ["out", "."] {
        bench
            .leap(&samples(&["--overwrite"], out))
            .fails("holds something else than samples");
    }
    assert_eq!(read("out/recipe.toml"), before);
    bench
        .leap(&samples(&["traces.leap=out/traces-control.jsonl"], "mixed"))
        .fails("is a trace of method `cot`");
    bench
        .leap(&samples(&["traces.control=out/traces.jsonl"], "mixed"))
        .fails("is a trace of method `leap-t`");
    let more = [
        "traces.control=out/traces-control.jsonl",
        "plain_share=0.99",
    ];
    let made = bench.leap(&samples(&more, "short")).succeeds();
    assert!(
        made.stderr
            .contains("warning: `plain_share` is 0.99, and 0."),
        "{}",
        made.stderr
    );

    // A look without a file, and a set that nothing passes.
    let dry = bench
        .leap(&samples(&["--dry-run", "--json"], "dry"))
        .succeeds();
    assert_eq!(json(&dry.stdout)["leap"]["paths"], 72);
    assert!(!bench.path("dry").exists());
    let none = bench.leap(&samples(&["leap.require=[\"substance\"]"], "none"));
    assert_eq!(none.code, Some(1), "{}", none.stderr);
    assert!(none.stderr.contains("no path passes") && bench.path("none/verdicts.jsonl").exists());

    // The samples train.
    let train = [
        "train",
        "sft-tiny",
        "model.checkpoint=out/checkpoints/base",
        "samples.file=data/samples.jsonl",
        "samples.held_out=data/held-out.jsonl",
        "samples.hold_out_problems=0",
        "--dry-run",
        "--out",
        "trained",
    ];
    bench.leap(&train).succeeds();
}

#[test]
fn samples_are_inspected_and_exported() {
    let bench = run();
    bench.leap(&samples(&["held_out=0.2"], "data")).succeeds();
    let inspect = |more: &[&str]| {
        let mut args = vec!["data-gen", "inspect", "data/samples.jsonl"];
        args.extend(more);
        bench.leap(&args)
    };
    inspect(&[]).fails("the samples need the tokenizer");
    inspect(&["--tokenizer", "out/tokenizer", "--id", "nobody"]).fails("is `nobody`");
    bench.golden_model();
    inspect(&["--tokenizer", "nowhere"]).fails("there is no model folder");
    let shown = inspect(&["--tokenizer", "out/tokenizer"]).succeeds().stdout;
    for part in [
        "comment | ",
        "tokens, no loss",
        "borders",
        "|| <summarize>",
        "with loss",
    ] {
        assert!(shown.contains(part), "no `{part}` in {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "colours in a pipe");
    let page = [
        "--tokenizer",
        "out/tokenizer",
        "--first",
        "3",
        "--html",
        "page.html",
    ];
    assert_eq!(inspect(&page).succeeds().stdout, "page.html\n");
    let html = std::fs::read_to_string(bench.path("page.html")).expect("a page");
    assert_eq!(html.matches("<h2>").count(), 3);
    inspect(&page).fails("`page.html` exists");

    let export = |more: &[&str]| {
        let mut args = vec!["data-gen", "export", "data", "--tokenizer", "out/tokenizer"];
        args.extend(more);
        bench.leap(&args)
    };
    assert_eq!(export(&["--out", "tokens"]).succeeds().stdout, "tokens\n");
    let mut names: Vec<String> = std::fs::read_dir(bench.path("tokens"))
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["README.md", "test.parquet", "train.parquet", "train_trl.py"]
    );
    let card = std::fs::read_to_string(bench.path("tokens/README.md")).expect("a card");
    assert!(
        card.contains("| answer | yes |") && card.contains("path: test.parquet"),
        "{card}"
    );
    export(&["--out", "tokens"]).fails("`tokens` exists");
    let hub = Hub::start();
    let push = ["push", "tokens", "owner/samples", "--dataset"];
    let pushed = bench.hub_command(&hub.endpoint, TOKEN, &push).output();
    let pushed = pushed.expect("leap starts");
    assert!(
        pushed.status.success(),
        "{}",
        String::from_utf8_lossy(&pushed.stderr)
    );
    export(&["--form", "messages", "--out", "messages"]).succeeds();
    let (messages, samples) = (
        lines(&bench, "messages/train.jsonl"),
        lines(&bench, "data/samples.jsonl"),
    );
    assert_eq!(ids(&messages), ids(&samples));
    let user = messages[0]["messages"][0]["content"]
        .as_str()
        .expect("a text");
    assert!(
        user.starts_with("Find x from") && !user.contains("<think>"),
        "{user}"
    );
    bench.write("empty.jsonl", "");
    bench
        .leap(&["data-gen", "export", "empty.jsonl", "--out", "x"])
        .fails("holds no sample");
    let unfinished = ["data-gen", "export", "out/reports", "--out", "x"];
    bench.leap(&unfinished).fails("samples-report.json");
    // The folder of a run has samples, too.
    let of_run = [
        "data-gen",
        "export",
        "out",
        "--tokenizer",
        "out/tokenizer",
        "--form",
        "messages",
        "--out",
        "of-run",
    ];
    bench.leap(&of_run).succeeds();
    assert_eq!(
        ids(&lines(&bench, "of-run/train.jsonl")),
        ids(&lines(&bench, "out/samples.jsonl"))
    );
}

#[test]
fn a_file_that_holds_no_samples_is_told_for_what_it_is() {
    let bench = Bench::new();
    let sample = |version: &str| {
        format!(
            "{{\"version\":{version},\"id\":\"a\",\"problem\":\"a\",\"tokenizer\":\"bytes\",\"spans\":[]}}"
        )
    };
    for (file, text, message, advice) in [
        (
            "later.jsonl",
            format!("{}\n{}\n", sample("1"), sample("9")),
            "`later.jsonl`, line 2: the sample has version 9, but this build reads version 1",
            "leap data-gen samples",
        ),
        (
            "chat.jsonl",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n".to_owned(),
            "`chat.jsonl` is no samples file: line 1 is a conversation",
            "only traces of this toolkit can be trained on",
        ),
        (
            "trace.jsonl",
            "{\"version\":1,\"origin\":{},\"paths\":[]}\n".to_owned(),
            "`trace.jsonl` is no samples file: line 1 is a trace",
            "leap data-gen samples",
        ),
        (
            "other.jsonl",
            "\n{\"text\":\"hi\"}\n".to_owned(),
            "`other.jsonl` is no samples file: line 2 has no `version`",
            "leap data-gen samples",
        ),
        (
            "torn.jsonl",
            format!("{}\n{{\"versi", sample("1")),
            "line 2 is not a valid record",
            "",
        ),
    ] {
        bench.write(file, &text);
        for args in [
            vec!["data-gen", "inspect", file],
            vec!["data-gen", "export", file, "--out", "exported"],
            vec![
                "train",
                "leap-t-1.5b",
                &format!("samples.file={file}"),
                "--plan",
                "--on",
                "h100-80gb",
            ],
        ] {
            // The first line alone decides whether an export begins.
            if args[1] == "export" && text.contains(&sample("1")) {
                continue;
            }
            let ran = bench.leap(&args).fails(message);
            assert!(ran.stderr.contains(advice), "{}", ran.stderr);
            assert!(
                ran.stderr.matches("missing field").count() <= 1,
                "{}",
                ran.stderr
            );
        }
    }
}

#[test]
fn an_answer_that_is_no_integer_is_refused_with_the_kind_that_takes_it() {
    let bench = Bench::new();
    let line = r#"{"id": "a", "problem": "half?", "answer": "1/2"}"#;
    bench.write("half.jsonl", &format!("{line}\n"));
    let make = |more: &[&str]| {
        let args = ["data-gen", "problems", "half.jsonl", "--out", "p.jsonl"];
        bench.leap(&[&args[..], more].concat())
    };
    let refused = make(&[]).fails("problem `a` has the answer `1/2`, which is no integer");
    assert!(
        refused.stderr.contains("\"kind\": \"math\"") && refused.stderr.contains("--kind math"),
        "{}",
        refused.stderr
    );
    make(&["--kind", "math"]).succeeds();
    let kind = r#""answer": "1/2", "kind": "math"}"#;
    bench.write("half.jsonl", &line.replace(r#""answer": "1/2"}"#, kind));
    make(&["--overwrite"]).succeeds();
}

#[test]
fn recipes_of_samples_are_checked_like_others() {
    let bench = Bench::new();
    let valid = bench
        .leap(&["recipe", "check", "leap-t-samples", "leap-t-samples-strict"])
        .succeeds();
    assert_eq!(
        valid.stdout,
        "leap-t-samples: valid; to be given: problems=FILE traces.leap=FILE\n\
         leap-t-samples-strict: valid; to be given: problems=FILE traces.leap=FILE\n"
    );
    let check = |change: &str, message: &str| {
        let checked = bench.leap(&["recipe", "check", "leap-t-samples", change]);
        assert_eq!(checked.code, Some(1));
        assert!(checked.stderr.contains(message), "{}", checked.stderr);
    };
    check("filters.uptake=2", "`uptake` is 2");
    check("filters.loops=2", "has no key `loops`");
    check("leap.require=[\"anwser\"]", "unknown variant `anwser`");
    check("held_out=1", "from 0 to below 1");
    check("leap.per_problem=0", "there would be no sample");
    check_error(
        &["data-gen", "samples", "tiny", "--out", "x"],
        "is not for `leap data-gen samples`",
        "leap run tiny",
    );
    check_error(
        &["data-gen", "samples", "leap-t-samples", "--out", "x"],
        "names no `problems`",
        "problems=FILE",
    );
    let keys = bench
        .leap(&["recipe", "keys", "leap-t-samples", "filters."])
        .succeeds()
        .stdout;
    assert!(
        keys.contains("filters.uptake = 0.5") && !keys.contains("protocol"),
        "{keys}"
    );
}

#[test]
fn the_rate_of_data_is_one_json_object() {
    let args = [
        "bench",
        "data-gen",
        "--groups",
        "40",
        "--problems",
        "60",
        "--threads",
        "1",
    ];
    let found = json(&Bench::new().leap(&args).succeeds().stdout);
    assert_eq!(
        (&found["filters"]["groups"], &found["problems"]["kept"]),
        (&40.into(), &60.into())
    );
    assert!(found["filters"]["megabytes_per_s"].as_f64() > Some(0.0));
    check_error(
        &["bench", "data-gen", "--groups", "0"],
        "nothing to measure",
        "at least 1",
    );
}

#[test]
fn samples_of_an_untrained_teacher_begin_with_the_prompt_of_its_student() {
    let bench = Bench::new();
    let traces = |method: &str, out: &str| {
        let method = format!("traces.method={method}");
        let args = [
            "data-gen",
            "traces",
            "teacher-simulated",
            "problems.count=4",
            &method,
            "--out",
            out,
        ];
        bench.leap(&args).succeeds();
    };
    traces("leap", "leap");
    traces("leap-t", "leap-t");
    let prompts = |from: &str| -> std::collections::BTreeMap<String, Value> {
        let (problems, traces) = (
            format!("problems={from}/problems.jsonl"),
            format!("traces.leap={from}/traces.jsonl"),
        );
        let out = format!("{from}-samples");
        let args = [
            "data-gen",
            "samples",
            "leap-t-samples",
            &problems,
            &traces,
            "leap.require=[\"finished\"]",
            "--out",
            &out,
        ];
        bench.leap(&args).succeeds();
        let samples = lines(&bench, &format!("{out}/samples.jsonl"));
        let prompt = |sample: &Value| {
            let problem = sample["problem"].as_str().expect("a problem").to_owned();
            (problem, sample["spans"][0].clone())
        };
        samples.iter().map(prompt).collect()
    };
    assert_eq!(prompts("leap"), prompts("leap-t"));
    let untrained = lines(&bench, "leap/traces.jsonl");
    assert!(
        untrained[0]["paths"][0]["spans"][0]["text"]
            .to_string()
            .contains("Others work")
    );

    // Traces of earlier builds do not hold that prompt.
    let text = std::fs::read_to_string(bench.path("leap/traces.jsonl")).expect("traces");
    let old: String = text
        .lines()
        .map(|line| {
            let mut trace = json(line);
            trace
                .as_object_mut()
                .expect("an object")
                .remove("plain_prompt");
            trace.to_string() + "\n"
        })
        .collect();
    bench.write("old.jsonl", &old);
    let args = [
        "data-gen",
        "samples",
        "leap-t-samples",
        "problems=leap/problems.jsonl",
        "traces.leap=old.jsonl",
        "--out",
        "old",
    ];
    let ran = bench.leap(&args).fails("(method `leap`)");
    assert!(
        ran.stderr.contains("have the traces written again"),
        "{}",
        ran.stderr
    );
}

#[test]
fn ids_that_are_there_twice_come_with_what_can_be_done() {
    let bench = Bench::new();
    bench.write(
        "twice.csv",
        "id,problem,answer\na,What is 1 + 1?,2\na,Name a prime below 3.,2\n",
    );
    let args = ["data-gen", "problems", "twice.csv", "--out", "p.jsonl"];
    let ran = bench.leap(&args).fails("appears twice");
    assert!(
        ran.stderr
            .contains("--id names a column with an id for each row"),
        "{}",
        ran.stderr
    );
}
