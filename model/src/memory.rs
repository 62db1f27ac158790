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

/// Whether the memory of this device is that of the host.
pub fn is_host(device: &burn::tensor::Device) -> bool {
    use burn::backend::DispatchDevice;
    matches!(
        device.clone().inner().as_dispatch(),
        DispatchDevice::Flex(_)
    )
}

/// Bytes per second at which all threads together read `bytes` of memory; the best of `repeat`.
///
/// Take far more bytes than the caches hold.
///
/// # Panics
/// If `repeat` is 0.
pub fn read_bandwidth(bytes: usize, repeat: usize) -> f64 {
    let numbers = bytes / size_of::<f32>();
    let data = vec![1_f32; numbers];
    let part = numbers.div_ceil(threads()).max(1);
    let pass = || {
        let started = Instant::now();
        let sum: f32 = data.par_chunks(part).map(sum).sum();
        black_box(sum);
        started.elapsed().as_secs_f64()
    };
    let best = (0..repeat).map(|_| pass()).reduce(f64::min);
    (numbers * size_of::<f32>()) as f64 / best.expect("at least one pass")
}

/// The sum of numbers that are read at several places at a time: one stream of reads does not keep
/// the memory busy.
fn sum(part: &[f32]) -> f32 {
    const STREAMS: usize = 8;
    const LANES: usize = 16;
    let stream = part.len() / STREAMS / LANES;
    let streams: [&[[f32; LANES]]; STREAMS] =
        std::array::from_fn(|s| part[s * stream * LANES..][..stream * LANES].as_chunks().0);
    let mut sums = [0_f32; LANES];
    for at in 0..stream {
        for stream in &streams {
            for (sum, value) in sums.iter_mut().zip(&stream[at]) {
                *sum += value;
            }
        }
    }
    let rest = &part[STREAMS * stream * LANES..];
    sums.iter().chain(rest).sum()
}
