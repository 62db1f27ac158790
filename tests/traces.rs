//! What can be done with recorded groups: show, replay, count, set a trap.

mod bench;

use bench::{Bench, artefacts, micro};
use serde_json::Value;

fn run() -> Bench {
    let bench = Bench::new();
    bench.leap(&micro("out")).succeeds();
    bench
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("one JSON object")
}

#[test]
fn recorded_groups_are_shown_counted_and_driven_again() {
    let bench = run();
    let traces = "out/traces.jsonl";
    let shown = bench.leap(&["trace", "show", traces]).succeeds();
    for part in [
        "problem search-train-00000 group 0",
        "path 2:",
        "hears",
        "summary 0 |",
    ] {
        assert!(shown.stdout.contains(part), "no {part} in {}", shown.stdout);
    }
    assert!(shown.stderr.contains("23 more groups"), "{}", shown.stderr);
    let one = [
        "trace",
        "show",
        traces,
        "--problem",
        "search-train-00003",
        "--path",
        "1",
        "--full",
    ];
    let one = bench.leap(&one).succeeds().stdout;
    assert!(
        one.contains("path 1:") && !one.contains("path 0: "),
        "{one}"
    );
    assert!(one.contains("prompt | Find x from"), "{one}");
    let nobody = ["trace", "show", traces, "--problem", "x"];
    bench.leap(&nobody).fails("none of the 24 groups");
    let beyond = ["trace", "show", traces, "--path", "3"];
    bench.leap(&beyond).fails("there is no path 3");

    let counted = bench.leap(&["trace", "stats", traces, "--json"]).succeeds();
    let counted = json(&counted.stdout);
    assert_eq!(
        (&counted["groups"], &counted["paths"]),
        (&24.into(), &72.into())
    );
    assert!(counted["tokens"]["comment"].as_u64() > Some(0));
    let table = bench.leap(&["trace", "stats", traces]).succeeds().stdout;
    assert!(
        table.contains("influenced") && table.contains("longest path"),
        "{table}"
    );

    bench
        .leap(&["trace", "replay", traces])
        .fails("need the tokenizer");
    let replay = ["trace", "replay", traces, "--tokenizer", "out/tokenizer"];
    let replayed = bench.leap(&replay).succeeds().stdout;
    assert!(replayed.starts_with("24 of 24 groups replay"), "{replayed}");

    // One changed word in one comment is found and named.
    let text = std::fs::read_to_string(bench.path(traces)).expect("traces");
    let changed = text.replacen("Peer 1: \\\"", "Peer 1: \\\"!", 1);
    assert_ne!(changed, text);
    bench.write("changed.jsonl", &changed);
    let replay = [
        "trace",
        "replay",
        "changed.jsonl",
        "--tokenizer",
        "out/tokenizer",
    ];
    let refused = bench.leap(&replay);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("does not replay"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("differs"), "{}", refused.stderr);
    assert!(refused.stdout.starts_with("23 of 24"), "{}", refused.stdout);

    // A group that names a path which is not there is refused before anything is read of it.
    let broken = text.replacen("\"counted\":[0", "\"counted\":[9", 1);
    bench.write("broken.jsonl", &broken);
    bench
        .leap(&["trace", "stats", "broken.jsonl"])
        .fails("record 1: the trace names path 9");
}

#[test]
fn a_trap_is_set_continued_and_not_mixed_with_another() {
    let bench = run();
    // The simulated reasoner's groups hold right and wrong paths; the model goes on from them.
    let leap_t = ["--method", "leap-t"];
    let trap = |out: &'static str, more: &[&'static str]| {
        let mut args = vec![
            "trap",
            "out/traces-control.jsonl",
            "--problems",
            "out/problems.jsonl",
            "--checkpoint",
            "out/checkpoints/base",
            "--most",
            "4",
            "--continuations",
            "3",
            "--out",
            out,
        ];
        args.extend(more);
        bench.leap(&args)
    };
    // Two models are not compared without a word.
    trap("trap", &leap_t).fails("was written by model simulated");
    let trap =
        |out: &'static str, more: &[&'static str]| trap(out, &[more, &["--other-model"]].concat());
    let table = trap("trap", &leap_t).succeeds().stdout;
    for part in [
        "stored, unconstrained",
        "going on, independent",
        "going on, leap-t",
        "repair",
    ] {
        assert!(table.contains(part), "no {part} in {table}");
    }
    let found = artefacts(&bench.path("trap"));
    let again = trap("trap", &["--method", "leap-t", "--json"]).succeeds();
    let outcome = json(&again.stdout);
    assert!(
        artefacts(&bench.path("trap")) == found,
        "a second call changed something"
    );
    let problems = outcome["by_problem"].as_array().expect("a list");
    assert!((1..=4).contains(&problems.len()));
    for problem in problems {
        let stored = problem["unconstrained"].as_f64().expect("a share");
        assert!(stored > 0.0 && stored < 1.0, "{problem}");
    }
    let gap = outcome["gap_independent"]["estimate"]
        .as_f64()
        .expect("a number");
    let mean = |key: &str| outcome[key]["estimate"].as_f64().expect("a number");
    assert!((gap - (mean("independent") - mean("unconstrained"))).abs() < 1e-9);

    // Every path begins with the first tokens of its response, and they are not its own.
    let line = std::fs::read_to_string(bench.path("trap/with-peers/groups.jsonl")).expect("groups");
    let group = json(line.lines().next().expect("a group"));
    for path in group["paths"].as_array().expect("paths") {
        assert_eq!(path["spans"][1]["kind"], "beginning");
        assert_eq!(path["spans"][1]["ids"], group["setup"]["beginnings"][0]);
    }
    let replay = [
        "trace",
        "replay",
        "trap/with-peers/groups.jsonl",
        "--tokenizer",
        "out/tokenizer",
    ];
    bench.leap(&replay).succeeds();

    trap("trap", &["--share", "0.3"]).fails("holds the trap of another call");
    trap("trap", &["--share", "0.3", "--overwrite"]).succeeds();
    assert!(
        artefacts(&bench.path("trap")) != found,
        "another share gives another result"
    );
    trap("other", &["--share", "1.5"]).fails("`share` is 1.5");
    trap("other", &["--method", "cot"]).fails("do not exchange");
}

#[test]
fn a_model_is_measured() {
    let bench = run();
    let measure = |what: &str, more: &[&str]| {
        let mut args = vec!["bench", what, "out/checkpoints/base", "--repeat", "1"];
        args.extend(more);
        json(&bench.leap(&args).succeeds().stdout)
    };
    let decode = measure("decode", &["--batch", "1,3", "--prompt", "5", "--new", "8"]);
    assert_eq!(decode["runs"].as_array().map(Vec::len), Some(2));
    assert!(decode["runs"][1]["tokens_per_s_best"].as_f64() > Some(0.0));
    assert!(decode["runs"][0]["weight_bytes_per_step"].as_u64() > Some(1000));
    let prefill = measure("prefill", &["--tokens", "40", "--threads", "1"]);
    assert_eq!(
        (&prefill["tokens"], &prefill["machine"]["threads"]),
        (&40.into(), &1.into())
    );
    let leap = measure(
        "leap",
        &[
            "--paths",
            "2",
            "--turn-tokens",
            "12",
            "--summary-tokens",
            "6",
            "--blocks",
            "2",
            "--problems",
            "2",
        ],
    );
    let round = &leap["rounds"][0];
    assert_eq!(round["refilled_tokens"], 0);
    // Every path of every group: three turns, two summaries, one token of answer.
    assert_eq!(round["sampled_tokens"], 4 * (3 * 12 + 2 * 6 + 1));
    assert!(leap["ratio_median"].as_f64() > Some(0.0));
}
