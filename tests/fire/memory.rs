//! A limit of memory: what cannot fit is refused before it begins, and nothing is written.

use std::process::Command;

use crate::bench::Bench;
use crate::row::tell;
use crate::works::works;

/// Kilobytes that the process may hold: enough to start, to read the samples and to plan.
const LIMIT: u64 = 200_000;

#[test]
fn a_training_that_cannot_fit_is_refused_before_it_begins() {
    let bench = Bench::new();
    let (_, works) = works(&bench);
    let train = works.iter().find(|work| work.name == "train");
    let within = train.expect("a training").command(&bench, 1);
    let limited = |more: &[&str]| {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("ulimit -d {LIMIT}; exec \"$0\" \"$@\""))
            .arg(within.get_program())
            .args(within.get_args())
            .args(more)
            .current_dir(bench.path(""));
        command.output().expect("sh starts")
    };
    // All samples in one micro-batch, whose attention alone is larger.
    let ran = limited(&[
        "train.tokens_per_micro_batch=1000000",
        "train.samples_per_step=4000",
        "train.warmup=0",
    ]);
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(2), "{told}");
    assert!(told.contains("and this process may have"), "{told}");
    assert!(told.contains("hint: `--plan`"), "{told}");
    assert!(!bench.path("1").exists(), "something was written");
    let ran = limited(&[]);
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{told}");
    tell(
        "a training under a limit of memory",
        &[
            ("kB", &LIMIT),
            ("refused before it began", &1),
            ("that fits", &1),
        ],
    );
}
