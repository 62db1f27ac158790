//! Killed at random times, and at changes of the disk: the work ends with the bytes of an
//! undisturbed run.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use protocol::Stream;

use crate::bench::Bench;
use crate::disk::{self, How};
use crate::row::{scale, tell};
use crate::work::{Files, Work};

/// What kills came to.
#[derive(Default)]
pub(crate) struct Killed {
    pub(crate) kills: usize,
    pub(crate) runs: usize,
    /// Stages that were under way when a kill came.
    stages: BTreeSet<String>,
}

/// Kills runs again and again at random moments of a window until they come to their end, and begins
/// others until there were so many kills.
pub(crate) fn kill_at_random(
    bench: &Bench,
    work: &Work,
    expected: &Files,
    window: Duration,
    least: usize,
) -> Killed {
    let stream = Stream::of_run(12).named(work.name);
    let mut found = Killed::default();
    let mut attempts = 0;
    while found.kills < least {
        found.runs += 1;
        let number = found.runs;
        loop {
            attempts += 1;
            let mut command = work.command(bench, number);
            let mut child = command.stderr(Stdio::null()).spawn().expect("leap starts");
            sleep(window.mul_f64(stream.uniform(attempts)) + Duration::from_millis(5));
            if let Some(status) = child.try_wait().expect("a state") {
                assert!(status.success(), "{}: {status}", work.name);
                break;
            }
            child.kill().expect("killed");
            child.wait().expect("gone");
            found.kills += 1;
            found.stages.extend(under_way(bench, work, number));
            work.check_nothing_half(bench, number, expected);
        }
        work.check_same(bench, number, expected);
        std::fs::remove_dir_all(bench.path(&number.to_string())).expect("removed");
    }
    found
}

/// The stage that events.jsonl has last begun and not ended.
fn under_way(bench: &Bench, work: &Work, number: usize) -> Option<String> {
    let events = bench.path(&work.out(number)).join("events.jsonl");
    let text = std::fs::read_to_string(events).ok()?;
    let mut told = text.lines().filter_map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        let stage = event["stage"].as_str()?.to_owned();
        Some((event["event"] == "stage").then_some(stage))
    });
    told.next_back().flatten()
}

/// Goes through a work in calls that are cut off at a change of the disk, each at one of the first
/// `span` changes, until one ends by itself. Returns calls that were cut off.
pub(crate) fn cut_through(
    bench: &Bench,
    work: &Work,
    number: usize,
    expected: &Files,
    hows: &[How],
    span: usize,
) -> usize {
    let stream = Stream::of_run(13).named(work.name).indexed(number as u64);
    for call in 0..1000 {
        let how = hows[call % hows.len()];
        let at = 1 + stream.below(2 * call as u64, span) as u64;
        let ended = disk::run(bench, work, number, how, at);
        work.check_nothing_half(bench, number, expected);
        match how.is_told() {
            true => ended.check_told(work, how),
            false => {
                let by_itself = ended.status.code();
                let well = by_itself.is_none_or(|code| code == 0) || ended.finds_it_done();
                assert!(well, "{}", ended.told);
            }
        }
        if ended.status.success() || ended.finds_it_done() {
            work.check_same(bench, number, expected);
            return call;
        }
    }
    panic!("{} never comes to its end", work.name);
}

#[test]
fn the_road_killed_at_random_times_has_the_bytes_of_an_undisturbed_run() {
    let bench = Bench::new();
    let work = Work::road(&[]);
    let (expected, whole) = work.undisturbed(&bench);
    // An attempt lives for a tenth of a run in the mean: about ten kills a run.
    let window = whole.mul_f64(0.2);
    let found = kill_at_random(&bench, &work, &expected, window, scale(20, 200));
    let seconds = format!("{:.1}", whole.as_secs_f64());
    tell(
        "the road, SIGKILL at random times",
        &[
            ("kills", &found.kills),
            ("runs", &found.runs),
            ("seconds undisturbed", &seconds),
            ("stages hit", &found.stages.len()),
            ("files that differ", &0),
        ],
    );
}

#[test]
fn the_road_killed_at_changes_of_the_disk_has_the_bytes_of_an_undisturbed_run() {
    let bench = Bench::new();
    let work = Work::road(SMALL);
    let (expected, _) = work.undisturbed(&bench);
    let changes = disk::run(&bench, &work, 1000, How::Kill, 0).changes;
    let runs = scale(1, 12);
    let kills: usize = (1..=runs)
        .map(|number| {
            cut_through(
                &bench,
                &work,
                number,
                &expected,
                &[How::Kill, How::Torn],
                SPAN,
            )
        })
        .sum();
    tell(
        "the road, killed or torn at a change of the disk",
        &[
            ("kills", &kills),
            ("runs", &runs),
            ("changes in a run", &changes.unwrap_or_default()),
            ("files that differ", &0),
        ],
    );
}

/// Changes within which a call is cut off: more than the longest row of them that belongs together, a
/// file of groups that is written as a whole.
pub(crate) const SPAN: usize = 160;

/// Budgets of a few seconds, in which every stage still saves something.
pub(crate) const SMALL: &[&str] = &[
    "problems.train.count=24",
    "problems.test.count=6",
    "model.scratch.train.tokens=4000",
    "model.scratch.layers=1",
    "model.scratch.hidden_size=32",
    "train.leap_t.tokens=1500",
    "train.control.tokens=1500",
    "engine.wave=4",
];
