//! Devices as a user meets them: what is missing is said, and the check of a card is one command.

#![expect(clippy::unwrap_used, reason = "a test fails on what cannot be had")]

use std::process::{Command, Output};

use serde_json::Value;

fn leap(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_leap"))
        .args(arguments)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn doctor_says_what_is_here_and_what_brings_the_rest() {
    let output = leap(&["doctor"]);
    let text = stdout(&output);
    for subject in ["build", "cpu", "cuda", "wgpu", "disk", "hub"] {
        let line = text
            .lines()
            .find(|line| line.split_whitespace().nth(1) == Some(subject));
        assert!(line.is_some(), "a line about {subject} in:\n{text}");
    }
    assert!(text.contains("HF_HUB_OFFLINE is set"), "{text}");
    let findings = leap(&["doctor", "--json", "--offline"]);
    let report: Value = serde_json::from_slice(&findings.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let missing = findings.iter().any(|finding| finding["state"] == "missing");
    assert_eq!(output.status.code(), Some(i32::from(missing)));
    for finding in findings
        .iter()
        .filter(|finding| finding["state"] != "ready")
    {
        assert!(finding["remedy"].is_string(), "{finding} says what to do");
    }
}

#[test]
fn doctor_checks_arithmetic() {
    let output = leap(&["doctor", "--check", "cpu", "--brief", "--json", "--offline"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["check"]["checks"].as_array().unwrap();
    assert!(checks.len() >= 18, "{} checks", checks.len());
    for check in checks {
        let (worst, limit) = (&check["worst"], &check["limit"]);
        assert!(
            worst.as_f64().unwrap() <= limit.as_f64().unwrap(),
            "{check}"
        );
    }
}

#[test]
fn devices_that_cannot_be_used_are_errors_and_say_what_to_do() {
    for (device, says) in [
        ("gpu", "write `cpu`, `cuda:N` or `wgpu:N`"),
        ("cpu:0", "write `cpu`, `cuda:N` or `wgpu:N`"),
        ("cuda:x", "write `cpu`, `cuda:N` or `wgpu:N`"),
        ("cuda:97", "cuda"),
        ("wgpu:97", "wgpu"),
    ] {
        for command in [
            vec!["doctor", "--offline", "--check", device],
            vec![
                "bench", "gpu", "--small", "--only", "logits", "--device", device,
            ],
            vec!["run", "tiny", "--out", "never/made", "--device", device],
        ] {
            let output = leap(&command);
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{command:?}: {text}");
            assert!(text.contains(says), "{command:?}: {text}");
            assert!(!text.contains("panicked"), "{command:?}: {text}");
        }
    }
    assert!(!std::path::Path::new("never/made").exists());
}

#[test]
fn the_check_of_a_card_writes_each_row() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let output = leap(&[
        "bench",
        "gpu",
        "--device",
        "cpu",
        "--small",
        "--out",
        out,
        "--only",
        "roof,logits,training,decode,train,growth",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = all["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let name = row["row"].as_str().unwrap();
        let file = std::fs::read(folder.path().join(format!("{name}.json"))).unwrap();
        assert_eq!(*row, serde_json::from_slice::<Value>(&file).unwrap());
        assert_eq!(row["result"]["right"], true, "{row}");
    }
    let figures = |name: &str| {
        let row = rows.iter().find(|row| row["row"] == name).unwrap();
        row["result"]["figures"].clone()
    };
    assert_eq!(
        figures("training")[0]["losses"].as_array().unwrap().len(),
        20
    );
    // Three shapes at three batches; all weights of one at two lengths, adapters of two at two lengths, and all
    // their weights, with the optimizer in host memory, at one.
    assert_eq!(figures("decode").as_array().unwrap().len(), 9);
    assert_eq!(figures("train").as_array().unwrap().len(), 8);
}
