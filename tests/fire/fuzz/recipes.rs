//! Recipes of every job and overrides, through the command that checks them: the code that reads
//! them is the command's own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::mutate::{Corpus, Lots};
use crate::bench::Bench;
use crate::row::{scale, tell};

const WORDS: &[&str] = &[
    "=",
    "[",
    "]",
    "[[",
    "]]",
    "\"",
    "\"\"\"",
    "'''",
    "\n",
    "{",
    "}",
    ".",
    "a.a.a.a.",
    "#",
    "inf",
    "nan",
    "-1",
    "0",
    "1e400",
    "9223372036854775807",
    "9223372036854775808",
    "true",
    "1979-05-27T07:32:00Z",
    "job = \"train\"\n",
    "job = \"eval\"\n",
    "job = \"study\"\n",
    "seed = -1\n",
    "[[students]]\n",
    "[[eval.rows]]\n",
    "[train.lora]\n",
    "\\u0000",
    "preset = \"paper\"\n",
    "\u{202e}",
    "\u{1b}[2J",
];

/// Checks files in one call; what went wrong with the call, if anything did.
fn check(bench: &Bench, names: &[String], more: &[String]) -> Result<(usize, Duration), String> {
    let mut args = vec!["recipe", "check"];
    args.extend(names.iter().map(String::as_str));
    args.extend(more.iter().map(String::as_str));
    let began = Instant::now();
    let ran = bench.leap(&args);
    let time = began.elapsed();
    let valid = ran
        .stdout
        .lines()
        .filter(|line| line.ends_with(": valid"))
        .count();
    let whole = matches!(ran.code, Some(0 | 1)) && !ran.stderr.contains("panicked");
    match whole && !ran.stderr.contains('\u{1b}') && !ran.stderr.contains('\u{202e}') {
        true => Ok((valid, time)),
        false => {
            let end: String = ran.stderr.chars().rev().take(600).collect();
            Err(format!(
                "code {:?}: {}",
                ran.code,
                end.chars().rev().collect::<String>()
            ))
        }
    }
}

#[test]
fn recipes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes");
    let mut valid = Vec::new();
    for entry in std::fs::read_dir(folder).expect("recipes") {
        let text = std::fs::read_to_string(entry.expect("a recipe").path()).expect("a recipe");
        // Comments are most of some of them, and leave no room.
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        valid.push(lines.collect::<Vec<_>>().join("\n").into_bytes());
    }
    assert!(valid.len() > 20, "only {} recipes", valid.len());
    valid.sort();
    let corpus = Corpus {
        valid,
        words: WORDS,
        json: false,
    };
    let inputs = scale(100_000, 1_000_000_u64);
    let at_once = 500;
    let next = AtomicU64::new(0);
    let work = || {
        let (mut taken, mut slowest, mut findings) = (0, Duration::ZERO, Vec::new());
        let bench = Bench::new();
        loop {
            let first = at_once * next.fetch_add(1, Ordering::Relaxed);
            if first >= inputs {
                return (taken, slowest, findings);
            }
            let names: Vec<String> = (0..at_once)
                .map(|number| format!("r{number}.toml"))
                .collect();
            for (name, number) in names.iter().zip(first..) {
                std::fs::write(bench.path(name), corpus.input(number)).expect("a recipe");
            }
            match check(&bench, &names, &[]) {
                Ok((valid, time)) => {
                    taken += valid;
                    slowest = slowest.max(time);
                }
                Err(_) => {
                    // Which of them it was.
                    for (name, number) in names.iter().zip(first..) {
                        if let Err(problem) = check(&bench, std::slice::from_ref(name), &[]) {
                            let input = corpus.input(number);
                            findings.push(format!("{problem}\n    b\"{}\"", input.escape_ascii()));
                        }
                    }
                }
            }
            assert!(
                slowest < Duration::from_secs(30),
                "{at_once} recipes took {slowest:?}"
            );
        }
    };
    let (mut taken, mut slowest, mut findings) = (0, Duration::ZERO, Vec::new());
    std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(work));
        for thread in threads {
            let (more, time, found) = thread.join().expect("every call ends in time");
            taken += more;
            slowest = slowest.max(time);
            findings.extend(found);
        }
    });
    tell(
        "fuzz recipes",
        &[
            ("inputs", &inputs),
            ("taken", &taken),
            ("findings", &findings.len()),
            (
                "slowest call of 500 in s",
                &format!("{:.2}", slowest.as_secs_f64()),
            ),
        ],
    );
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn overrides() {
    let keys = [
        "seed",
        "protocol.paths",
        "protocol.preset",
        "protocol.sampling.temperature",
        "prompts",
        "model.scratch",
        "model",
        "problems.train.count",
        "engine.wave",
        "train.leap_t.lora.rank",
        "students.0.name",
        "a",
        "",
        ".",
        "a..b",
        "seed.x",
        "protocol.",
    ];
    let values = [
        "1",
        "-1",
        "\"a\"",
        "[1,2]",
        "{a=1}",
        "nan",
        "1e999",
        "99999999999999999999",
        "true",
        "",
        "=",
        "[[[[",
        "\"\\u0000\"",
        "'''",
        "1\nb = 2",
        "\u{202e}x",
        "\u{1b}]52;c;AAAA\u{7}",
    ];
    let bench = Bench::new();
    let mut lots = Lots::new(7);
    let inputs = scale(300, 10_000);
    let (mut taken, mut findings) = (0, Vec::new());
    for _ in 0..inputs {
        let depth = lots.below(30);
        let key = match depth {
            0 => "a.".repeat(1500) + "b",
            _ => (*lots.one(&keys)).to_owned(),
        };
        let value = match lots.below(20) {
            0 => "[".repeat(2000),
            _ => (*lots.one(&values)).to_owned(),
        };
        let item = format!("{key}={value}");
        match check(&bench, &["tiny".to_owned()], std::slice::from_ref(&item)) {
            Ok((valid, _)) => taken += valid,
            Err(problem) => findings.push(format!("{problem}\n    {item:?}")),
        }
    }
    tell(
        "fuzz overrides",
        &[
            ("inputs", &inputs),
            ("taken", &taken),
            ("findings", &findings.len()),
        ],
    );
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}
