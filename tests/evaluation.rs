//! Evaluations as a user meets them: run, cut off, graded again, compared, refused.

mod bench;

use std::thread::sleep;
use std::time::Duration;

use bench::{Bench, Ran, artefacts, check_error};
use serde_json::Value;

/// The recipe `search` in a second or two.
const SMALL: &[&str] = &[
    "eval",
    "search",
    "problems.count=8",
    "eval.groups=2",
    "engine.wave=5",
];

fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    SMALL.iter().copied().chain(more.iter().copied()).collect()
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
}

#[test]
fn an_evaluation_ends_with_every_artefact_and_does_nothing_a_second_time() {
    let bench = Bench::new();
    let ran = bench.leap(&small(&["--out", "out"])).succeeds();
    for text in [
        "base",
        "+LeaP",
        "base, same tokens",
        "Pass@1",
        "wrong to right",
        "over groups",
        "against",
    ] {
        assert!(ran.stdout.contains(text), "no `{text}` in {}", ran.stdout);
    }
    assert!(ran.stderr.contains("Forecast"), "{}", ran.stderr);
    let first = artefacts(&bench.path("out"));
    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    for name in [
        "problems.jsonl",
        "recipe.toml",
        "report.html",
        "report.json",
        "report.md",
        "reports/base/groups.jsonl",
        "reports/leap/summary.json",
        "reports/leap-matched/groups.jsonl",
    ] {
        assert!(names.contains(&name), "no {name} in {names:?}");
    }
    let again = bench.leap(&small(&["--out", "out"])).succeeds();
    assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);
    assert_eq!(again.stdout, ran.stdout);
    assert!(artefacts(&bench.path("out")) == first);
    // The resolved recipe gives the same.
    let rerun = bench
        .leap(&["eval", "out/recipe.toml", "--out", "again"])
        .succeeds();
    assert_eq!(rerun.stdout, ran.stdout);
    assert!(artefacts(&bench.path("again")) == first);
    // The baseline samples about what the row samples.
    let report: Value =
        serde_json::from_slice(&std::fs::read(bench.path("out/report.json")).expect("a report"))
            .expect("JSON");
    let sampled = |row: usize| -> u64 {
        let tokens = &report["rows"][row]["tokens"];
        let kinds = tokens["by_kind"].as_object().expect("kinds");
        ["thought", "summary", "answer"]
            .iter()
            .filter_map(|kind| kinds.get(*kind)?.as_u64())
            .chain(tokens["dropped"].as_u64())
            .sum()
    };
    let (leap, matched) = (sampled(1), sampled(2));
    let off = leap.abs_diff(matched) as f64 / leap as f64;
    assert!(off < 0.15, "{leap} and {matched}");
}

#[test]
fn a_dry_run_refuses_what_a_run_would_refuse() {
    let dry = ["--dry-run"];
    for more in [&dry[..], &[]] {
        let missing = ["eval", "aime24", "model.checkpoint=nowhere"];
        check_error(
            &[&missing[..], more].concat(),
            "there is no model folder `nowhere`",
            "leap pull",
        );
        let empty = ["eval", "aime24", "model.checkpoint=."];
        check_error(&[&empty[..], more].concat(), "config.json", "");
        let servers = ["eval", "search", "--server", "http://localhost:1"];
        check_error(
            &[&servers[..], more].concat(),
            "the recipe's `model.engine` is not \"remote\"",
            "model.engine=remote model.remote.model=NAME",
        );
        let servers = [
            "data-gen",
            "traces",
            "teacher-simulated",
            "--server",
            "http://localhost:1",
        ];
        check_error(
            &[&servers[..], more].concat(),
            "the recipe's `teacher.engine` is not \"remote\"",
            "teacher.engine=remote",
        );
    }
}

#[test]
fn an_evaluation_that_is_killed_at_any_moment_ends_with_the_same_bytes() {
    let bench = Bench::new();
    let started = std::time::Instant::now();
    bench.leap(&small(&["--out", "whole"])).succeeds();
    let whole = started.elapsed();
    let expected = artefacts(&bench.path("whole"));
    for kill in 0..10 {
        let mut child = bench.start(&small(&["--out", "killed"]));
        sleep(Duration::from_millis(20) + whole.mul_f64(0.05 * f64::from(kill)));
        child.kill().expect("killed");
        child.wait().expect("gone");
    }
    bench.leap(&small(&["--out", "killed"])).succeeds();
    assert!(artefacts(&bench.path("killed")) == expected);
    // Killed as it wrote what is not written again.
    bench.write("killed/.timing.json.tmp", "{\"sco");
    bench.leap(&small(&["--out", "killed"])).succeeds();
    assert!(artefacts(&bench.path("killed")) == expected);
}

#[test]
fn stored_groups_are_graded_again_in_any_order_and_any_shards() {
    let bench = Bench::new();
    bench.leap(&small(&["--out", "out"])).succeeds();
    let groups =
        std::fs::read_to_string(bench.path("out/reports/leap/groups.jsonl")).expect("groups");
    let mut lines: Vec<&str> = groups.lines().collect();
    assert_eq!(lines.len(), 16);
    lines.reverse();
    let (a, b) = lines.split_at(5);
    bench.write("a.jsonl", &(a.join("\n") + "\n"));
    bench.write("b.jsonl", &(b.join("\n") + "\n"));
    let whole = bench
        .leap(&["score", "out/reports/leap/groups.jsonl", "--json"])
        .succeeds();
    let problems = ["--problems", "out/problems.jsonl", "--json"];
    let shards = [&["score", "b.jsonl", "a.jsonl"][..], &problems].concat();
    assert_eq!(bench.leap(&shards).succeeds().stdout, whole.stdout);
    let run = std::fs::read_to_string(bench.path("out/reports/leap/summary.json")).expect("scores");
    let run: Value = serde_json::from_str(&run).expect("JSON");
    for key in ["scores", "by_problem", "tokens", "flips"] {
        assert_eq!(json(&whole)[key], run[key], "{key}");
    }
    bench
        .leap(&["score", "a.jsonl"])
        .fails("nothing says what the right answers are");
    bench
        .leap(&[
            "score",
            "a.jsonl",
            "a.jsonl",
            "--problems",
            "out/problems.jsonl",
        ])
        .fails("is there twice");
}

#[test]
fn a_report_is_text_markdown_json_or_a_page_and_compares_two_runs() {
    let bench = Bench::new();
    let ran = bench.leap(&small(&["--out", "one"])).succeeds();
    bench
        .leap(&small(&["protocol.peers=1", "--out", "two"]))
        .succeeds();
    let text = bench.leap(&["report", "one"]).succeeds();
    assert_eq!(text.stdout, ran.stdout);
    let markdown = bench
        .leap(&["report", "one", "--format", "markdown"])
        .succeeds();
    assert!(
        markdown.stdout.starts_with("# search"),
        "{}",
        markdown.stdout
    );
    let rows = json(
        &bench
            .leap(&["report", "one", "--format", "json"])
            .succeeds(),
    );
    assert_eq!(rows["rows"].as_array().map(Vec::len), Some(3));
    bench
        .leap(&["report", "one", "--against", "two", "--out", "both.html"])
        .succeeds();
    let page = std::fs::read_to_string(bench.path("both.html")).expect("the page");
    assert!(page.contains("+LeaP (against)"));
    for loaded in ["http:", "https:", "<link", "@import", "src=\""] {
        assert!(!page.contains(loaded), "the page loads something: {loaded}");
    }
    // Against itself nothing differs.
    let same = bench.leap(&["report", "one", "--against", "one", "--format", "json"]);
    let same = json(&same.succeeds());
    for comparison in same["comparisons"].as_array().expect("comparisons") {
        assert_eq!(comparison["difference"]["estimate"], 0.0);
        assert_eq!(comparison["better"], 0);
    }
    bench.leap(&["report", "nowhere"]).fails("holds no run");
    // Another seed asks other problems under the same ids.
    bench.leap(&small(&["seed=2", "--out", "other"])).succeeds();
    bench
        .leap(&["report", "one", "--against", "other"])
        .fails("is another one in `other`");
    bench
        .leap(&["report", "one", "--out", "x.doc"])
        .fails("tells no format");
}

#[test]
fn a_missed_requirement_is_exit_code_1() {
    let bench = Bench::new();
    let met = [
        "--out",
        "out",
        "--require",
        "base:pass@1>=0",
        "--require",
        "leap:cons<=1",
    ];
    bench.leap(&small(&met)).succeeds();
    let missed = bench.leap(&small(&["--out", "out", "--require", "pass@8>0.999"]));
    assert_eq!(missed.code, Some(1), "{}", missed.stderr);
    assert!(
        missed.stderr.contains("misses `pass@8>0.999`"),
        "{}",
        missed.stderr
    );
    for (condition, message) in [
        ("pass@1", "it has no relation"),
        ("passes>=0.3", "there is no metric `passes`"),
        ("pass@1>=30", "shares are from 0 to 1"),
        ("nobody:pass@1>=0.3", "names row `nobody`"),
    ] {
        bench
            .leap(&small(&["--out", "out", "--require", condition]))
            .fails(message);
    }
}

#[test]
fn a_trap_takes_its_beginnings_from_another_row() {
    let bench = Bench::new();
    let recipe = bench.leap(&["recipe", "cat", "search"]).succeeds().stdout;
    let trap = "\n[[eval.rows]]\nname = \"trap\"\ntitle = \"bad beginnings\"\nmethod = \"trap\"\n\
                [eval.rows.trap]\nfrom = \"base\"\nmethod = \"leap-t\"\ncontinuations = 4\n\
                [eval.rows.trap.choice]\nbeginnings = \"wrong\"\nproblems = 3\nshare = 0.3\n";
    bench.write("trap.toml", &(recipe + trap));
    for name in ["trap-alone", "trap-peers"] {
        let named = format!("eval.rows.1.name={name}");
        let same = bench.leap(&["recipe", "check", "trap.toml", &named]);
        assert_eq!(same.code, Some(1), "{}", same.stderr);
        let both = format!("both write the folder `{name}`");
        assert!(same.stderr.contains(&both), "{}", same.stderr);
    }
    let args = [
        "eval",
        "trap.toml",
        "problems.count=8",
        "eval.groups=1",
        "--out",
        "out",
    ];
    let ran = bench.leap(&args).succeeds();
    assert!(ran.stdout.contains("going on, leap-t"), "{}", ran.stdout);
    assert!(bench.path("out/reports/trap/trap.json").is_file());
    let report = std::fs::read_to_string(bench.path("out/report.md")).expect("the report");
    assert!(report.contains("peers repair"), "{report}");
    let first = artefacts(&bench.path("out"));
    let again = bench.leap(&args).succeeds();
    assert_eq!(again.stdout, ran.stdout);
    assert!(artefacts(&bench.path("out")) == first);
}

#[test]
fn problems_of_others_are_checked_before_anything_is_written() {
    let bench = Bench::new();
    let mut csv = "Record ID,Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,\
                   Incorrect Answer 3\n"
        .to_owned();
    for index in 0..198 {
        csv += &format!("r{index},Why {index}?,right,wrong,worse,worst\n");
    }
    bench.write("gpqa.csv", &csv);
    bench.golden_model();
    let args = [
        "eval",
        "gpqa",
        "model.checkpoint=model",
        "problems.file=gpqa.csv",
        "--dry-run",
    ];
    let ran = bench.leap(&args).succeeds();
    assert!(ran.stderr.contains("198 problems"), "{}", ran.stderr);
    bench.write(
        "plain.toml",
        &bench
            .leap(&["recipe", "cat", "gpqa"])
            .succeeds()
            .stdout
            .replace("options_seed = 1 ", "# "),
    );
    let args = [
        "eval",
        "plain.toml",
        "model.checkpoint=model",
        "problems.file=gpqa.csv",
    ];
    let ran = bench
        .leap(&args)
        .fails("198 of 198 right options stand at A");
    assert!(ran.stderr.contains("options_seed"), "{}", ran.stderr);
    assert!(!bench.path("runs").exists());
    bench.write(
        "few.jsonl",
        "{\"id\": \"a\", \"problem\": \"1+1?\", \"answer\": 2}\n",
    );
    bench
        .leap(&[
            "eval",
            "aime24",
            "model.checkpoint=model",
            "problems.file=few.jsonl",
        ])
        .fails("aime24 has 30 problems, and here are 1");
}

#[test]
fn a_recipe_that_cannot_work_is_refused() {
    check_error(
        &["run", "search"],
        "not for `leap run`",
        "`leap eval search` runs it",
    );
    check_error(
        &["eval", "tiny"],
        "not for `leap eval`",
        "`leap run tiny` runs it",
    );
    check_error(
        &["eval", "aime24"],
        "row `base` names no model",
        "model.checkpoint=DIR",
    );
    check_error(
        &["eval", "search", "eval.rows.1.protocol.piers=3"],
        "`protocol` of row `leap` has no key `piers`",
        "did you mean `peers`?",
    );
    check_error(
        &["eval", "search", "eval.rows.0.method=leap"],
        "nothing tells how long independent paths are",
        "eval.baseline=none",
    );
    check_error(
        &["eval", "search", "problems.file=x.jsonl"],
        "names problems in 2 ways",
        "`problems.search=` without a value",
    );
    check_error(
        &["eval", "aimo25", "model.checkpoint=x"],
        "the recipe names no problems",
        "problems.file=FILE",
    );
}

#[test]
fn every_built_in_recipe_of_an_evaluation_is_valid() {
    let bench = Bench::new();
    let listed = bench.leap(&["recipe", "ls"]).succeeds().stdout;
    let names = listed.lines().filter_map(|line| line.split(' ').next());
    let is_evaluation = |name: &&str| {
        let text = bench.leap(&["recipe", "cat", name]).succeeds().stdout;
        text.contains("\njob = \"eval\"")
    };
    let names: Vec<&str> = names.filter(is_evaluation).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let mut args = vec!["recipe", "check", name];
        if name != "search" {
            args.extend(["model.checkpoint=x", "problems.file=x.jsonl"]);
        }
        bench.leap(&args).succeeds();
    }
}

#[test]
fn rows_of_answers_are_graded_in_order() {
    let bench = Bench::new();
    bench.write(
        "rows.jsonl",
        "{\"id\": \"a\", \"kind\": \"integer\", \"gold\": 204, \"text\": \"\\\\boxed{204}\"}\n\
         {\"kind\": \"mcq\", \"gold\": \"C\", \"text\": \"<think>The answer is C.\"}\n\
         {\"kind\": \"fraction\", \"gold\": \"1/2\", \"pred\": \"0.5\"}\n",
    );
    let ran = bench.leap(&["grade", "--jsonl", "rows.jsonl"]).succeeds();
    let rows: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(
        rows,
        [
            serde_json::json!({"id": "a", "extracted": "204", "correct": true, "method": "boxed"}),
            serde_json::json!({"extracted": null, "correct": false, "method": "none"}),
            serde_json::json!({"extracted": "1/2", "correct": true, "method": "whole"}),
        ]
    );
    bench.write("bad.jsonl", "{\"kind\": \"essay\", \"pred\": \"x\"}\n");
    let ran = bench
        .leap(&["grade", "--jsonl", "bad.jsonl"])
        .fails("cannot grade row 1");
    assert!(
        ran.stderr.contains("there is no answer kind `essay`"),
        "{}",
        ran.stderr
    );
    bench
        .leap(&["grade", "--jsonl", "nowhere"])
        .fails("cannot read the rows");
}
