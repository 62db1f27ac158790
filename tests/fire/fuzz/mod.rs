//! Input of strangers: seeded inputs of at most 4 KiB through everything that reads files, templates,
//! answers and replies of others.
//!
//! A target reads an input and tells whether it took it. It must not panic, must not take a second,
//! and must hold no more than a stated base and a stated multiple of the input. A finding is
//! printed with a smaller input that does the same.
//!
//! `LEAP_FIRE_INPUTS=N` sets how many inputs there are. What ends the whole program, such as a
//! stack that is too small, is found with `LEAP_FIRE_TRACE=1`, which prints every input before it is read.

mod checkpoint;
mod grading;
mod meter;
mod mutate;
pub(crate) mod network;
mod recipes;
mod records;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::row::{scale, tell};
use meter::{Cost, measure};
use mutate::Corpus;

/// An input may take so long.
const LONGEST: Duration = Duration::from_secs(1);
/// An input that takes so long will not end: its thread cannot be stopped, so the program is.
const ENDLESS: Duration = Duration::from_secs(60);
/// Findings that are told.
const MOST_TOLD: usize = 5;

/// What is fuzzed.
struct Target {
    name: &'static str,
    corpus: Corpus,
    /// Inputs of the short version and of the long one.
    inputs: [u64; 2],
    /// An input may hold `base + factor * bytes`.
    base: usize,
    factor: usize,
    /// Whether other threads do the work: then all of the program together may hold twice the base.
    elsewhere: bool,
}

/// A folder of a thread's own.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        // In memory where there is such a place: the disk is not what is tested.
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        Self(folder.expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("a file can be written");
        path
    }
}

struct Finding {
    input: Vec<u8>,
    what: String,
}

/// What is wrong with what an input cost.
fn fault(target: &Target, input: &[u8], cost: &Cost) -> Option<String> {
    let most = target.base + target.factor * input.len();
    match &cost.taken {
        Err(panic) => Some(format!("panic: {panic}")),
        Ok(_) if cost.time > LONGEST => Some(format!("took {:.1} s", cost.time.as_secs_f64())),
        Ok(_) if cost.peak > most => {
            Some(format!("held {} bytes, at most {most} may be", cost.peak))
        }
        Ok(_) => None,
    }
}

/// Runs all inputs of a target on two threads. `read` takes an input and tells whether it was good.
fn fuzz<S>(
    target: &Target,
    start: impl Fn() -> S + Sync,
    read: impl Fn(&mut S, &[u8]) -> bool + Sync,
) {
    // One target at a time: what others do to the clock is no fault of it.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    meter::keep_panics();
    let inputs = scale(target.inputs[0], target.inputs[1]);
    let inputs =
        std::env::var("LEAP_FIRE_INPUTS").map_or(inputs, |text| text.parse().expect("a number"));
    let seed = target.name.bytes().fold(1_u64, |seed, byte| {
        seed.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let (next, taken, contained) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (slowest, most) = (AtomicU64::new(0), AtomicUsize::new(0));
    let findings = Mutex::new(Vec::new());
    let threads = 2;
    let traced = std::env::var_os("LEAP_FIRE_TRACE").is_some();
    // Since when each thread is at its input, in milliseconds since the start; none: 0.
    let began = Instant::now();
    let since: Vec<AtomicU64> = (0..threads).map(|_| AtomicU64::new(0)).collect();
    let now = || began.elapsed().as_millis() as u64 + 1;
    let work = |thread: usize| {
        let mut state = start();
        // What is made once, at the first input, is no input's.
        measure(|| read(&mut state, &target.corpus.valid[0]));
        let mut look = |input: &[u8]| {
            since[thread].store(now(), Ordering::Relaxed);
            let cost = measure(|| read(&mut state, input));
            since[thread].store(0, Ordering::Relaxed);
            cost
        };
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= inputs {
                break;
            }
            let input = target
                .corpus
                .input(seed.wrapping_add(number.wrapping_mul(0x5851_F42D)));
            if traced {
                let line = format!("{thread} {}\n", printed(&input));
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
            let mut cost = look(&input);
            // On a busy machine a thread may have to wait: slow is what is slow three times.
            for _ in 0..2 {
                if cost.taken.is_ok() && cost.time > LONGEST {
                    cost = look(&input);
                }
            }
            if matches!(cost.taken, Ok(true)) {
                taken.fetch_add(1, Ordering::Relaxed);
            }
            contained.fetch_add(cost.contained as u64, Ordering::Relaxed);
            slowest.fetch_max(cost.time.as_micros() as u64, Ordering::Relaxed);
            most.fetch_max(cost.peak, Ordering::Relaxed);
            if let Some(what) = fault(target, &input, &cost) {
                let input = smaller(input, |input| fault(target, input, &look(input)).is_some());
                let what = fault(target, &input, &look(&input)).unwrap_or(what);
                let mut findings = findings.lock().unwrap_or_else(PoisonError::into_inner);
                findings.push(Finding { input, what });
                if findings.len() >= MOST_TOLD {
                    next.store(inputs, Ordering::Relaxed);
                }
            }
        }
        since[thread].store(u64::MAX, Ordering::Relaxed);
    };
    if target.elsewhere {
        meter::together(true);
    }
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            scope.spawn(move || work(thread));
        }
        while since
            .iter()
            .any(|since| since.load(Ordering::Relaxed) != u64::MAX)
        {
            std::thread::sleep(Duration::from_millis(20));
            for since in &since {
                let since = since.load(Ordering::Relaxed);
                let is_at = since != 0 && since != u64::MAX;
                if is_at && now() > since + ENDLESS.as_millis() as u64 {
                    tell(
                        target.name,
                        &[(
                            "an input does not end, near input",
                            &next.load(Ordering::Relaxed),
                        )],
                    );
                    std::process::abort();
                }
            }
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let findings = findings
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let slowest = slowest.load(Ordering::Relaxed) as f64 / 1e3;
    let most = match target.elsewhere {
        true => meter::together(false),
        false => most.load(Ordering::Relaxed),
    };
    let allowed = format!("(allowed {} + {} a byte)", target.base, target.factor);
    tell(
        &format!("fuzz {}", target.name),
        &[
            ("inputs", &inputs),
            ("taken", &taken.load(Ordering::Relaxed)),
            ("findings", &findings.len()),
            (
                "panics inside that became errors",
                &contained.load(Ordering::Relaxed),
            ),
            ("slowest ms", &format!("{slowest:.1}")),
            ("most bytes held", &format!("{most} {allowed}")),
            ("s", &format!("{seconds:.1}")),
        ],
    );
    let mut told = String::new();
    for finding in &findings {
        let _ = writeln!(told, "{}\n    {}", finding.what, printed(&finding.input));
    }
    assert!(
        !target.elsewhere || most <= 2 * target.base,
        "all threads held {most} bytes"
    );
    assert!(
        findings.is_empty(),
        "{} of {}:\n{told}",
        findings.len(),
        target.name
    );
}

fn printed(input: &[u8]) -> String {
    format!("b\"{}\"", input.escape_ascii())
}

/// The input with as much left out as can be while it still does it.
fn smaller(mut input: Vec<u8>, mut does: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let end = Instant::now() + Duration::from_secs(20);
    let mut size = input.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < input.len() && Instant::now() < end {
            let mut less = input.clone();
            less.drain(at..(at + size).min(input.len()));
            match does(&less) {
                true => input = less,
                false => at += size,
            }
        }
        size /= 2;
    }
    input
}
