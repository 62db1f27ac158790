//! Evaluations of a checkpoint in this process, on problems of a hub, cut off by a signal.

mod bench;
mod hub_server;

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use bench::{Bench, artefacts, micro};
use hub_server::Hub;

/// A bench with a trained model in `out`, an evaluation of it in `eval.toml`, and a hub with its
/// problems as CSV.
fn prepared() -> (Bench, Hub) {
    let bench = Bench::new();
    bench.leap(&micro("out")).succeeds();
    let read = |name: &str| std::fs::read_to_string(bench.path(name)).expect("a file");
    let recipe: toml::Table = read("out/recipe.toml").parse().expect("TOML");
    let mut eval = toml::Table::new();
    for key in ["seed", "prompts", "protocol", "engine"] {
        eval.insert(key.into(), recipe[key].clone());
    }
    let rest = "job = \"eval\"\ntitle = \"a small model\"\n[model]\nengine = \"local\"\n\
                checkpoint = \"out/checkpoints/leap-t\"\ndtype = \"f32\"\n[problems]\ncount = 0\n\
                hub = \"owner/sums\"\n[eval]\ngroups = 2\nbaseline = \"budget-matched\"\n\
                [[eval.rows]]\nname = \"base\"\ntitle = \"base\"\nmethod = \"cot\"\n\
                checkpoint = \"out/checkpoints/control\"\n\
                [[eval.rows]]\nname = \"alone\"\ntitle = \"LeaP-T alone\"\nmethod = \"cot\"\n\
                [[eval.rows]]\nname = \"leap-t\"\ntitle = \"LeaP-T\"\nmethod = \"leap-t\"\n";
    let rest: toml::Table = rest.parse().expect("TOML");
    eval.extend(rest);
    bench.write("eval.toml", &toml::to_string(&eval).expect("TOML"));
    let problems = read("out/problems.jsonl");
    let problems = problems
        .lines()
        .map(|line| -> serde_json::Value { serde_json::from_str(line).expect("a problem") });
    let mut csv = "id,question,answer\n".to_owned();
    for problem in problems.filter(|problem| problem["split"] == "test") {
        let text = |key: &str| problem[key].as_str().expect("text").to_owned();
        csv += &format!(
            "{},\"{}\",{}\n",
            text("id"),
            text("problem"),
            text("answer")
        );
    }
    let hub = Hub::start();
    let files: [(&str, &[u8]); 2] = [("README.md", b"# Sums\n"), ("test.csv", csv.as_bytes())];
    hub.commit("datasets/owner/sums", &files);
    (bench, hub)
}

fn eval(bench: &Bench, hub: &Hub, out: &str) -> Command {
    bench.hub_command(&hub.endpoint, "", &["eval", "eval.toml", "--out", out])
}

#[test]
fn a_checkpoint_is_evaluated_on_problems_of_a_hub_and_goes_on_after_a_signal() {
    let (bench, hub) = prepared();
    let started = std::time::Instant::now();
    let output = eval(&bench, &hub, "whole").output().expect("leap starts");
    let whole = started.elapsed();
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{stderr}");
    for text in [
        "Problems 6",
        "tokens/s, measured now, at most",
        "Running LeaP-T alone",
    ] {
        assert!(stderr.contains(text), "no `{text}` in {stderr}");
    }
    let expected = artefacts(&bench.path("whole"));
    assert!(
        expected
            .iter()
            .any(|(name, _)| name == "reports/leap-t-matched/summary.json")
    );
    // Stopped by a signal again and again, it ends with the same bytes.
    let mut stopped = 0;
    for attempt in 0..40 {
        let mut child = eval(&bench, &hub, "stopped")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("leap starts");
        sleep(Duration::from_millis(100) + whole.mul_f64(0.04 * f64::from(attempt)));
        let pid = child.id().to_string();
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("a signal");
        match child.wait().expect("gone").code() {
            Some(130) => stopped += 1,
            Some(0) => break,
            // Before it listens, the signal ends it at once.
            None => {}
            code => panic!("exit code {code:?}"),
        }
    }
    assert!(stopped > 0, "it was never stopped");
    eval(&bench, &hub, "stopped").output().expect("leap starts");
    assert!(artefacts(&bench.path("stopped")) == expected);
}
