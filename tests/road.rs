//! The whole road in small: finished, repeated, repaired, and killed at any moment.

mod bench;

use std::thread::sleep;
use std::time::Duration;

use bench::{Bench, artefacts, micro};

#[test]
fn the_road_ends_with_every_artefact_and_does_nothing_a_second_time() {
    let bench = Bench::new();
    let ran = bench.leap(&micro("out")).succeeds();
    for row in ["base", "+SFT", "+LeaP", "LeaP-T"] {
        assert!(ran.stdout.contains(row), "no {row} in {}", ran.stdout);
    }
    for file in [
        "recipe.toml",
        "problems.jsonl",
        "traces.jsonl",
        "samples.jsonl",
        "checkpoints/base/model.safetensors",
        "checkpoints/leap-t/config.json",
        "checkpoints/control/tokenizer.json",
        "reports/leap-t/groups.jsonl",
        "reports/leap-t/summary.json",
        "report.html",
        "timing.json",
        "events.jsonl",
    ] {
        assert!(bench.path("out").join(file).is_file(), "no {file}");
    }
    let first = artefacts(&bench.path("out"));
    let again = bench.leap(&micro("out")).succeeds();
    assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);
    assert_eq!(again.stdout, ran.stdout);
    assert!(
        artefacts(&bench.path("out")) == first,
        "a second run changed something"
    );

    // The resolved recipe runs as it is, and gives the same.
    let rerun = bench
        .leap(&["run", "out/recipe.toml", "--out", "again"])
        .succeeds();
    assert_eq!(rerun.stdout, ran.stdout);
    assert!(
        artefacts(&bench.path("again")) == first,
        "the resolved recipe gives another run"
    );

    // What is deleted is made again, and nothing else is.
    std::fs::remove_file(bench.path("out/reports/leap-t/summary.json")).expect("deleted");
    let repaired = bench.leap(&micro("out")).succeeds();
    assert!(
        repaired.stderr.contains("Fresh train base"),
        "{}",
        repaired.stderr
    );
    assert!(
        !repaired.stderr.contains("Fresh score leap-t\n"),
        "{}",
        repaired.stderr
    );
    assert!(
        artefacts(&bench.path("out")) == first,
        "the repaired run differs"
    );

    // Another recipe is refused by name; --overwrite starts anew.
    let mut other = micro("out");
    other.push("seed=2");
    bench.leap(&other).fails("holds a run of another recipe");
    assert!(
        artefacts(&bench.path("out")) == first,
        "a refused run changed something"
    );
    let listed = bench.leap(&["runs", "."]).succeeds().stdout;
    assert!(listed.contains("out  finished"), "{listed}");
    other.push("--overwrite");
    bench.write("out/checkpoints/mine/notes.md", "mine");
    bench.leap(&other).succeeds();
    assert!(bench.path("out/checkpoints/mine/notes.md").is_file());
    std::fs::remove_dir_all(bench.path("out/checkpoints/mine")).expect("removed");
    assert!(
        artefacts(&bench.path("out")) != first,
        "another seed gives another run"
    );
}

#[test]
fn a_run_that_is_killed_at_any_moment_ends_with_the_same_bytes() {
    let bench = Bench::new();
    let started = std::time::Instant::now();
    bench.leap(&micro("undisturbed")).succeeds();
    let whole = started.elapsed();
    let expected = artefacts(&bench.path("undisturbed"));
    let kills = 12;
    for kill in 0..kills {
        let mut child = bench.start(&micro("killed"));
        // Spread over the run; each attempt gets further than the one before.
        sleep(Duration::from_millis(30) + whole.mul_f64(0.4 * f64::from(kill) / f64::from(kills)));
        child.kill().expect("killed");
        child.wait().expect("gone");
    }
    bench.leap(&micro("killed")).succeeds();
    let found = artefacts(&bench.path("killed"));
    let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&found), names(&expected));
    for (found, expected) in found.iter().zip(&expected) {
        assert!(found.1 == expected.1, "{} differs", found.0);
    }
}

#[test]
fn a_second_process_in_the_same_folder_is_refused() {
    let bench = Bench::new();
    // Longer than the test can take; killed below.
    let mut long = micro("out");
    long.push("model.scratch.train.tokens=1000000000");
    let mut child = bench.start(&long);
    // Written by the process that holds the folder.
    while !bench.path("out/recipe.toml").is_file() {
        assert_eq!(child.try_wait().expect("its state"), None, "it ended early");
        sleep(Duration::from_millis(5));
    }
    let second = bench.leap(&long);
    child.kill().expect("killed");
    child.wait().expect("gone");
    second.fails("another process is working");
}

#[test]
fn a_run_that_rolls_back_behind_a_loss_that_is_no_number_ends_with_a_report() {
    let bench = Bench::new();
    let mut args = micro("out");
    // The first update breaks all weights; the second step goes back to those before it.
    args.extend([
        "train.leap_t.tokens=",
        "train.leap_t.steps=2",
        "train.leap_t.lr=1e30",
        "train.leap_t.warmup=0",
        "train.leap_t.save_every_steps=0",
        "train.leap_t.guard.spike=5",
        "train.leap_t.guard.then=roll-back",
        "train.leap_t.guard.anchor_every_steps=1",
        "train.leap_t.guard.most=1",
    ]);
    bench.leap(&args).succeeds();
    let losses = std::fs::read_to_string(bench.path("out/losses-leap-t.jsonl")).expect("losses");
    assert!(losses.contains("{\"step\":2,\"loss\":\"NaN\"}"), "{losses}");
    let again = bench.leap(&args).succeeds();
    assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);
}
