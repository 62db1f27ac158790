//! A disk that is full, read-only, forbidden, failing or of two parts: a message that says what, where
//! and what to do, nothing half under a final name, and the same command goes on.

use crate::bench::Bench;
use crate::crash::{SPAN, cut_through};
use crate::disk::{self, How};
use crate::row::{scale, tell};
use crate::work::{Files, Work};
use crate::works::works;

/// Fails a work at each of its changes, or at some of them, each time from nothing.
fn fail_at_changes(
    bench: &Bench,
    work: &Work,
    expected: &Files,
    changes: u64,
    how: How,
    most: u64,
) -> usize {
    let step = changes.div_ceil(most).max(1);
    let mut failed = 0;
    for at in (1..=changes).step_by(step as usize) {
        let number = 501;
        let ended = disk::run(bench, work, number, how, at);
        ended.check_told(work, how);
        work.check_nothing_half(bench, number, expected);
        if !ended.status.success() {
            failed += 1;
            let again = disk::run(bench, work, number, how, 0);
            assert!(
                again.status.success() || again.finds_it_done(),
                "{}: {}",
                work.name,
                again.told
            );
        }
        work.check_same(bench, number, expected);
        std::fs::remove_dir_all(bench.path(&number.to_string())).expect("removed");
    }
    failed
}

const HOWS: [How; 5] = [How::Full, How::Io, How::ReadOnly, How::Denied, How::Device];

#[test]
fn the_road_goes_on_from_every_failure_of_the_disk() {
    let bench = Bench::new();
    let (road, _) = works(&bench);
    let expected = road.made(&bench, 0);
    let runs = scale(1, 20);
    let failures: usize = (1..=runs)
        .map(|number| cut_through(&bench, &road, number, &expected, &HOWS, SPAN))
        .sum();
    tell(
        "the road on a disk that fails",
        &[("failures", &failures), ("runs", &runs), ("lost", &0)],
    );
}

#[test]
fn every_command_with_an_output_goes_on_from_failures_of_the_disk() {
    let bench = Bench::new();
    let (_, works) = works(&bench);
    for work in works {
        let (expected, _) = work.undisturbed(&bench);
        let changes = disk::run(&bench, &work, 500, How::Io, 0).changes;
        let changes = changes.expect("it ends by itself");
        let most = scale(3, 20);
        let failed: usize = HOWS
            .into_iter()
            .map(|how| fail_at_changes(&bench, &work, &expected, changes, how, most))
            .sum();
        tell(
            &format!("{} on a disk that fails", work.name),
            &[("failures", &failed), ("lost", &0)],
        );
    }
}

#[test]
fn every_command_with_an_output_goes_on_from_kills_at_changes_of_the_disk() {
    let bench = Bench::new();
    let (_, works) = works(&bench);
    for work in works {
        let (expected, _) = work.undisturbed(&bench);
        let changes = disk::run(&bench, &work, 500, How::Kill, 0).changes;
        // A little more than all of them: what is kept only when it is whole comes to its end, too.
        let span = SPAN.min(changes.expect("it ends by itself") as usize * 5 / 4);
        let runs = scale(2, 30);
        let hows = [How::Kill, How::Torn];
        let kills: usize = (1..=runs)
            .map(|number| cut_through(&bench, &work, number, &expected, &hows, span))
            .sum();
        tell(
            &format!("{} killed or torn at a change of the disk", work.name),
            &[("kills", &kills), ("runs", &runs), ("lost", &0)],
        );
    }
}
