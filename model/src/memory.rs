//! What memory the process uses, and how fast it can be read: what bounds decoding on a CPU.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;

/// Sets how many threads the kernels use. Has to come before the first of them runs.
///
/// # Errors
/// If threads run already, or cannot be started.
pub fn use_threads(count: usize) -> Result<(), rayon::ThreadPoolBuildError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(count)
        .build_global()
}

/// Threads the kernels use.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Most bytes the process has held at a time; None where the system does not tell.
pub fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Bytes per second at which all threads together read `bytes` of memory; the best of `repeat`.
///
/// Take far more bytes than the caches hold.
///
/// # Panics
/// If `repeat` is 0 or `bytes` is less than one number for each thread.
pub fn read_bandwidth(bytes: usize, repeat: usize) -> f64 {
    const LANES: usize = 32;
    let numbers = bytes / size_of::<f32>();
    let data = vec![1f32; numbers];
    let part = (numbers / threads()).next_multiple_of(LANES).max(LANES);
    let pass = || {
        let started = Instant::now();
        let sum: f32 = data
            .par_chunks(part)
            .map(|part| {
                // Independent sums, so that additions do not wait for each other.
                let mut sums = [0f32; LANES];
                for chunk in part.as_chunks::<LANES>().0 {
                    for (sum, value) in sums.iter_mut().zip(chunk) {
                        *sum += value;
                    }
                }
                sums.iter().sum::<f32>()
            })
            .sum();
        black_box(sum);
        started.elapsed().as_secs_f64()
    };
    let best = (0..repeat).map(|_| pass()).reduce(f64::min);
    (numbers * size_of::<f32>()) as f64 / best.expect("at least one pass")
}
