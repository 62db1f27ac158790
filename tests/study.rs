//! `leap run` on a study: several seeds, students and rows put together.

mod bench;

use bench::{Bench, artefacts, check_error};

/// A study of seconds.
const SMALL: &str = r#"
job = "study"
title = "a small study"
seeds = [3, 4]
run = "tiny"

[road.problems]
train.count = 24
test.count = 6

[road.model.scratch]
layers = 1
hidden_size = 32
intermediate_size = 64
train.tokens = 4000

[road.train]
leap_t.tokens = 6000
control.tokens = 6000

[road.engine]
wave = 4

[road.protocol]
paths = 3

[road.eval]
rows = []

[[road.students]]
name = "all-tokens"
train = { train_on = "all" }

[[road.students]]
name = "cut"
protocol = { summary_tokens = 2 }
select = { cut_summaries = true, right_only = false }

[eval]
groups = 1
baseline = "none"

[[eval.rows]]
name = "base"
title = "base"
method = "cot"

[[eval.rows]]
name = "leap-t"
title = "LeaP-T"
checkpoint = "leap-t"
method = "leap-t"

[[eval.rows]]
name = "all-tokens"
title = "all tokens"
checkpoint = "all-tokens"
method = "leap-t"

[[eval.rows]]
name = "liars"
title = "a liar"
checkpoint = "cut"
method = "leap-t"
liars = 1

[[claims]]
row = "leap-t"
against = "base"
"#;

/// All files whose bytes must not depend on how often the study was cut off.
fn kept(bench: &Bench, out: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = artefacts(&bench.path(out));
    let clocks = ["timing.json", "events.jsonl", ".lock"];
    found.retain(|(name, _)| !clocks.iter().any(|clock| name.ends_with(clock)));
    found
}

#[test]
fn a_study_puts_its_seeds_together_and_goes_on_where_it_was_killed() {
    let bench = Bench::new();
    bench.write("small.toml", SMALL);
    let started = std::time::Instant::now();
    let ran = bench
        .leap(&["run", "small.toml", "--out", "whole"])
        .succeeds();
    let took = started.elapsed();
    for text in [
        "LeaP-T against base",
        "with seed 3",
        "with seed 4",
        "pooled",
    ] {
        assert!(ran.stdout.contains(text), "no `{text}` in {}", ran.stdout);
    }
    let found = std::fs::read(bench.path("whole/study.json")).expect("study.json");
    let found: serde_json::Value = serde_json::from_slice(&found).expect("JSON");
    let rows = found["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 4);
    for row in rows {
        assert_eq!(row["problems"], 12, "6 of each seed");
        assert_eq!(row["by_seed"].as_array().expect("seeds").len(), 2);
    }
    assert_eq!(
        [&rows[1]["paths"], &rows[3]["paths"]],
        [3, 2],
        "a liar is not scored"
    );
    let claim = &found["claims"][0];
    let mean: f64 = claim["by_seed"]
        .as_array()
        .expect("seeds")
        .iter()
        .map(|seed| seed["difference"]["estimate"].as_f64().expect("a number") / 2.0)
        .sum();
    let pooled = claim["pooled"]["difference"]["estimate"].as_f64();
    assert!(
        (pooled.expect("a number") - mean).abs() < 1e-9,
        "seeds have as many problems"
    );
    let asked = bench.leap(&["report", "whole"]).fails("is a study");
    assert!(asked.stderr.contains("leap report whole/seed-N/rows"));
    bench.leap(&["report", "whole/seed-3/rows"]).succeeds();
    // The recipe in the folder stands alone, and a finished study has nothing to do.
    let whole = kept(&bench, "whole");
    bench
        .leap(&["run", "whole/recipe.toml", "--out", "whole"])
        .succeeds();
    assert!(kept(&bench, "whole") == whole);
    // Killed here and there, it comes to the same bytes.
    let bench = Bench::new();
    bench.write("small.toml", SMALL);
    for part in [0.15, 0.4, 0.6, 0.8] {
        let mut child = bench.start(&["run", "small.toml", "--out", "whole"]);
        std::thread::sleep(took.mul_f64(part));
        child.kill().expect("killed");
        child.wait().expect("gone");
    }
    bench
        .leap(&["run", "small.toml", "--out", "whole"])
        .succeeds();
    for ((name, found), (known, expected)) in kept(&bench, "whole").iter().zip(&whole) {
        assert_eq!(name, known);
        assert!(found == expected, "{name} differs");
    }
}

#[test]
fn mistakes_are_named_before_anything_is_done() {
    let wrong = |item: &'static str, message: &str, advice: &str| {
        check_error(&["run", "table2-mini", item], message, advice);
    };
    wrong("seeds=[]", "`seeds` is empty", "at least one seed");
    wrong("seeds=[1, 2, 1]", "seed 1 is there twice", "give each once");
    wrong(
        "claims=[{row = \"leap-t\", against = \"nobody\"}]",
        "a claim names row `nobody`",
        "its rows are base, leap, sft",
    );
    wrong(
        "eval.rows=[{name = \"a\", title = \"a\", method = \"cot\", checkpoint = \"b\"}]",
        "row `a` is on checkpoint `b`, which no run makes",
        "there are base, leap-t, control, all-tokens, cut-summaries",
    );
    wrong(
        "eval.rows=[{name = \"a\", title = \"a\", method = \"leap-t\", liars = 8}]",
        "row `a` has 8 liars among 8 paths",
        "at least one path",
    );
    wrong(
        "eval.rows=[{name = \"a\", title = \"a\", method = \"cot\", liars = 1}]",
        "row `a` has liars, but nobody who hears them",
        "leap and leap-t",
    );
    wrong(
        "road.students=[{name = \"base\"}]",
        "`base` cannot name a student",
        "are taken",
    );
    wrong(
        "road.students=[{name = \"a\", train = {train_off = 1}}]",
        "`train` of student `a`",
        "",
    );
}
