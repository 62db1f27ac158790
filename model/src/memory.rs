//! What memory the process uses, and how fast it can be read: what bounds decoding on a CPU.

use std::hint::black_box;
use std::time::Instant;

use burn::tensor::{DType, Device, Distribution, Tensor};
use rayon::prelude::*;

use crate::device::Dtype;
use crate::ops::product::product_transposed;

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
    status("VmHWM:")
}

/// Bytes of memory that this process holds now; None where the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    status("VmRSS:")
}

fn status(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Bytes of the machine's memory, and of it free for use; None where the system does not tell.
pub fn machine_bytes() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some((kib("MemTotal:")? * 1024, kib("MemAvailable:")? * 1024))
}

/// Most bytes that this process may hold: the machine's memory, its control group's limit and its own
/// (`ulimit -d`, `ulimit -v`), whichever is least; None where the system does not tell.
pub fn allowed_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = machine_bytes().map(|(all, _)| all);
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let group = group.and_then(|group| {
        let limit = read(&format!(
            "/sys/fs/cgroup{}/memory.max",
            group.trim_end_matches('/')
        ));
        limit?.trim().parse().ok()
    });
    let limits = read("/proc/self/limits").unwrap_or_default();
    let own = limits.lines().filter_map(|line| {
        let rest = ["Max data size", "Max address space"]
            .into_iter()
            .find_map(|name| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse().ok()
    });
    machine.into_iter().chain(group).chain(own).min()
}

/// What a device's allocator holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DeviceMemory {
    /// Bytes of live tensors.
    pub in_use: u64,
    /// Bytes taken from the device: those, and pages kept for use again.
    pub reserved: u64,
}

/// What the allocator of `device` holds; None on the CPU, whose memory [`peak_bytes`] tells.
pub fn of_device(device: &Device) -> Option<DeviceMemory> {
    let usage = device.memory_pool_usage()?;
    Some(DeviceMemory {
        in_use: usage.bytes_in_use,
        reserved: usage.bytes_reserved,
    })
}

/// Lets the allocator of a card make its pages, from now on, large enough for a result of so many bytes.
///
/// It makes them as large as the largest result so far. Those that became too small in the midst of a work are
/// not filled again: held for nothing, beside what is needed, until their last result is gone.
pub fn take_pages_for(device: &Device, bytes: u64) {
    let elements = (bytes as usize / size_of::<f32>()).max(1);
    let result = Tensor::<1>::zeros([elements], (device, DType::F32));
    // It is made when something of it is read.
    drop(result.narrow(0, 0, 1).into_data());
}

/// Elements of the piece of memory in which a result of `elements` lies on the CPU, if such pieces are
/// kept to be used again; else the result takes what it needs and is freed.
pub fn kept_elements(elements: usize) -> Option<usize> {
    crate::kernels::pool::kept_elements(elements)
}

/// Bytes that the backward pass of attention works in on the CPU, on all threads, for a document of
/// `length` tokens.
pub fn attention_bytes(length: usize, head_dim: usize, key_value_heads: usize) -> u64 {
    let tasks = threads().min(key_value_heads);
    4 * (tasks * crate::kernels::attention::scratch_elements(length, head_dim)) as u64
}

/// Bytes that are kept to be used again at most.
pub const MOST_KEPT_BYTES: u64 = 4 * crate::kernels::pool::MOST as u64;

/// Gives memory of results that is kept to be used again back to the system.
///
/// What comes next takes a little longer. This is worth it between pieces of work that need results of
/// different sizes, such as a training and what its model then writes.
pub fn release() {
    crate::kernels::pool::clear();
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

/// Bytes per second at which a device copies `bytes` of memory, reading and writing counted; the
/// best of `repeat`.
///
/// # Errors
/// What the device said.
///
/// # Panics
/// If `repeat` is 0.
pub fn copy_bandwidth(device: &Device, bytes: usize, repeat: usize) -> Result<f64, String> {
    let numbers = (bytes / size_of::<f32>()).max(1);
    let data = Tensor::<1>::random([numbers], Distribution::Default, (device, DType::F32));
    let best = best_of(device, repeat, || data.clone() * 1.5)?;
    Ok((2 * numbers * size_of::<f32>()) as f64 / best)
}

/// Floating-point operations per second of the product `[m, k] x [n, k]ᵀ` of random numbers, as of
/// activations with the weight of a linear map; the best of `repeat`. The first products, which
/// choose and compile kernels, are not counted.
///
/// # Errors
/// What the device said.
///
/// # Panics
/// If `repeat` is 0.
pub fn product_rate(
    device: &Device,
    dtype: Dtype,
    [m, n, k]: [usize; 3],
    repeat: usize,
) -> Result<f64, String> {
    let matrix = |rows| {
        let options = (device, dtype.tensors());
        Tensor::<2>::random([rows, k], Distribution::Uniform(-1.0, 1.0), options)
    };
    let (a, b) = (matrix(m), matrix(n));
    let best = best_of(device, repeat, || product_transposed(a.clone(), b.clone()))?;
    Ok(2.0 * m as f64 * n as f64 * k as f64 / best)
}

/// The least seconds of `repeat` runs, after two that are not counted. Results are held until they are
/// computed: what nobody holds need not be.
fn best_of<T>(device: &Device, repeat: usize, run: impl Fn() -> T) -> Result<f64, String> {
    let wait = || device.sync().map_err(|error| error.to_string());
    let mut best = f64::INFINITY;
    for round in 0..repeat + 2 {
        wait()?;
        let started = Instant::now();
        let result = run();
        wait()?;
        if round >= 2 {
            best = best.min(started.elapsed().as_secs_f64());
        }
        drop(black_box(result));
    }
    assert!(best.is_finite(), "at least one run");
    Ok(best)
}
