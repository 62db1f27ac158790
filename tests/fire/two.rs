//! Two processes on one output: the second is refused by name, and changes nothing.

use std::process::Stdio;
use std::thread::sleep;

use crate::bench::Bench;
use crate::row::tell;
use crate::works::works;

#[test]
fn a_second_process_on_one_output_is_refused_by_name() {
    let bench = Bench::new();
    let (road, mut works) = works(&bench);
    works.insert(0, road);
    let (mut refused, mut tried) = (0, 0);
    for work in works {
        let (expected, whole) = work.undisturbed(&bench);
        for number in 1..=4 {
            let start = || {
                let mut command = work.command(&bench, number);
                command.stderr(Stdio::piped()).spawn().expect("leap starts")
            };
            let first = start();
            sleep(whole.mul_f64(0.15 * f64::from(number as u32)));
            let second = start();
            tried += 1;
            for process in [first, second] {
                let ended = process.wait_with_output().expect("it ends");
                let told = String::from_utf8_lossy(&ended.stderr);
                let what = format!("{}: {told}", work.name);
                assert!(!told.contains("panicked"), "{what}");
                if !ended.status.success() {
                    assert_eq!(ended.status.code(), Some(2), "{what}");
                    // Or the first was done when the second came, and nothing is overwritten.
                    let busy = told.contains("another process is");
                    let there = ["exists", "is there already"];
                    let there = there.iter().any(|words| told.contains(words));
                    assert!(busy && told.contains("hint: ") || there, "{what}");
                    refused += usize::from(busy);
                }
            }
            work.check_same(&bench, number, &expected);
        }
    }
    assert!(refused > 0, "no second process was ever refused");
    tell(
        "two processes on one output",
        &[
            ("pairs", &tried),
            ("refused", &refused),
            ("outputs that differ", &0),
        ],
    );
}
