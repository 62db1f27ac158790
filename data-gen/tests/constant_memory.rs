//! Memory of filters and training sets, by a counting allocator: it does not grow with the number of
//! groups.
//!
//! One test in a program of its own: nothing else allocates meanwhile.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::io::{BufReader, sink};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use data_gen::filters::{Filter, FilterSettings};
use data_gen::rehearsal::Rehearsal;
use data_gen::training_set::{Account, Choice, Of, Pass, Plan, Sinks};
use protocol::Problem;

/// The system's allocator, counted.
struct Counted;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

#[expect(
    unsafe_code,
    reason = "the interface of allocators; every call is passed on as it is"
)]
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the system's.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// Groups of two paths on fifty problems through all filters; and the peak while it lasted.
fn pass(groups: usize) -> (Account, usize) {
    let traces = Rehearsal::new(groups, groups / 50, 2, 240);
    let problems = traces.problems();
    let by_id: BTreeMap<&str, &Problem> = problems
        .iter()
        .map(|problem| (problem.id.as_str(), problem))
        .collect();
    let filters = FilterSettings {
        max_tokens: 16_384,
        summary_tokens: 256,
        summary_least: 4,
        progress: 0.95,
        copying: 0.98,
        repetition: 0.5,
        hesitation: 40.0,
        language: 0.01,
        uptake: 0.5,
        pass_rate: [0.1, 0.9],
        all_right: 0.2,
    };
    let choice = Choice {
        require: vec![
            Filter::Answer,
            Filter::Summaries,
            Filter::Grammar,
            Filter::Comments,
        ],
        per_problem: usize::MAX,
    };
    let mut pass = Pass::new(Plan {
        problems: &by_id,
        filters: &filters,
        choice: &choice,
        held_out: 0.1,
        seed: 1,
        of: Of::Exchange,
    });
    PEAK.store(LIVE.load(Ordering::Relaxed), Ordering::Relaxed);
    let before = LIVE.load(Ordering::Relaxed);
    let (mut verdicts, mut samples, mut held_out) = (sink(), sink(), sink());
    let to = &mut Sinks {
        verdicts: &mut verdicts,
        samples: &mut samples,
        held_out: &mut held_out,
    };
    pass.read(BufReader::new(traces), to, &mut |_| {
        ControlFlow::Continue(())
    })
    .expect("sound traces");
    let peak = PEAK.load(Ordering::Relaxed) - before;
    (pass.finish(), peak)
}

#[test]
fn a_hundred_thousand_groups_take_no_more_memory_than_two_thousand() {
    // Pools of threads are made once.
    pass(100);
    let (few, small) = pass(2_000);
    let (many, large) = pass(100_000);
    assert_eq!((few.groups, many.groups), (2_000, 100_000));
    assert_eq!(many.paths, 200_000);
    assert!(
        many.samples > 10_000 && many.held_out > 0,
        "{} samples",
        many.samples
    );
    // What differs is how the batches of the two cores lie in time.
    let bound = small + small / 4 + (1 << 20);
    assert!(
        large <= bound,
        "{large} bytes, but {small} for a fiftieth of the groups"
    );
    assert!(large < 64 << 20, "{large} bytes");
}
