//! Work that is disturbed: commands with an output, what an undisturbed call makes of it, and what a
//! disturbed one may leave.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::bench::{Bench, artefacts};

/// Files by name, below the output.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// A command that ends with an output in the bench's folder; `OUT` in its arguments is the output.
pub(crate) struct Work {
    pub(crate) name: &'static str,
    args: Vec<String>,
    /// What the output is called.
    out: &'static str,
}

/// What stands in the arguments for the output.
const OUT: &str = "OUT";
/// Files that tell of clocks.
const CLOCKS: [&str; 2] = ["timing.json", "events.jsonl"];

impl Work {
    /// `out` is the name of the output without a number, such as `run` or `problems.jsonl`.
    pub(crate) fn new(name: &'static str, args: &[&str], out: &'static str) -> Self {
        Self {
            name,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            out,
        }
    }

    /// The whole road with the recipe `micro`; some of its keys changed.
    pub(crate) fn road(keys: &[&str]) -> Self {
        let args = [&["run", "micro"], keys, &["--no-progress", "--out", OUT]];
        Self::new("run micro", &args.concat(), "run")
    }

    /// The output with this number, relative to the bench's folder.
    pub(crate) fn out(&self, number: usize) -> String {
        format!("{number}/{}", self.out)
    }

    /// The command for the output with this number.
    pub(crate) fn command(&self, bench: &Bench, number: usize) -> Command {
        let out = self.out(number);
        let args: Vec<&str> = self
            .args
            .iter()
            .map(|arg| if arg == OUT { &out } else { arg })
            .map(String::as_str)
            .collect();
        let mut command = bench.command(&args);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Runs it undisturbed as number 0: what it makes, and how long it takes.
    pub(crate) fn undisturbed(&self, bench: &Bench) -> (Files, Duration) {
        let started = Instant::now();
        self.finish(bench, 0);
        let made = self.made(bench, 0);
        assert!(!made.is_empty(), "{} makes nothing", self.name);
        (made, started.elapsed())
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn finish(&self, bench: &Bench, number: usize) {
        let told = self.command(bench, number).output().expect("leap starts");
        let told_text = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success(), "{}: {told_text}", self.name);
    }

    /// What lies under the names of finished files.
    pub(crate) fn made(&self, bench: &Bench, number: usize) -> Files {
        let out = bench.path(&self.out(number));
        if !out.exists() {
            return Files::new();
        }
        if out.is_file() {
            let bytes = std::fs::read(&out).expect("a file");
            return Files::from([(self.out.to_owned(), bytes)]);
        }
        let whole = |name: &str| {
            let hidden = Path::new(name)
                .iter()
                .any(|part| part.to_string_lossy().starts_with('.'));
            !hidden && !CLOCKS.contains(&name) && !name.starts_with("trainer/")
        };
        let found = artefacts(&out).into_iter();
        found.filter(|(name, _)| whole(name)).collect()
    }

    /// Checks that nothing looks whole that is not: what has its final name has its final bytes. The
    /// ledger grows, and is whole at any time.
    #[track_caller]
    pub(crate) fn check_nothing_half(&self, bench: &Bench, number: usize, expected: &Files) {
        for (name, bytes) in self.made(bench, number) {
            if name == "stages.json" {
                let parsed = serde_json::from_slice::<serde_json::Value>(&bytes);
                assert!(parsed.is_ok(), "{}: the ledger is torn", self.name);
                continue;
            }
            let known = expected.get(&name);
            assert!(known.is_some(), "{}: {name} is left", self.name);
            assert!(known == Some(&bytes), "{}: {name} is not whole", self.name);
        }
    }

    /// Checks that the output is that of an undisturbed call.
    #[track_caller]
    pub(crate) fn check_same(&self, bench: &Bench, number: usize, expected: &Files) {
        let found = self.made(bench, number);
        let names = |files: &Files| -> Vec<String> { files.keys().cloned().collect() };
        assert_eq!(names(&found), names(expected), "{}", self.name);
        // The ledger last: it holds hashes, which say less.
        let (ledger, rest): (Vec<_>, Vec<_>) =
            found.iter().partition(|(name, _)| *name == "stages.json");
        for (name, bytes) in rest.into_iter().chain(ledger) {
            let other = &expected[name];
            let alike = bytes.iter().zip(other).take_while(|(a, b)| a == b).count();
            let around = |bytes: &[u8]| {
                let stretch = &bytes[alike.saturating_sub(80)..(alike + 80).min(bytes.len())];
                String::from_utf8_lossy(stretch).into_owned()
            };
            assert!(
                other == bytes,
                "{}: {name} differs at byte {alike}:\n{}\nand undisturbed:\n{}",
                self.name,
                around(bytes),
                around(other)
            );
        }
    }
}
