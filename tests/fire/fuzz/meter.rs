//! What one input costs: panics, time, and the most memory that was held.
//!
//! The allocator of the whole test program counts by thread, so that rows beside each other do not
//! mix; what a thread hands to another one counts where it was asked for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A single allocation above this is refused while an input is measured, which ends the program:
/// better than the machine's memory.
const MOST_AT_ONCE: usize = 2 << 30;

struct Counted;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static MEASURED: Cell<bool> = const { Cell::new(false) };
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Whether all threads are counted together, and what they hold since then.
static TOGETHER: AtomicBool = AtomicBool::new(false);
static LIVE_TOGETHER: AtomicIsize = AtomicIsize::new(0);
static PEAK_TOGETHER: AtomicIsize = AtomicIsize::new(0);

/// Begins to count all threads of the program together, or ends it; the most that they held meanwhile.
pub(crate) fn together(begins: bool) -> usize {
    TOGETHER.store(begins, Ordering::Relaxed);
    LIVE_TOGETHER.store(0, Ordering::Relaxed);
    usize::try_from(PEAK_TOGETHER.swap(0, Ordering::Relaxed)).unwrap_or_default()
}

fn grow(bytes: usize) {
    if TOGETHER.load(Ordering::Relaxed) {
        let live = LIVE_TOGETHER.fetch_add(bytes as isize, Ordering::Relaxed) + bytes as isize;
        PEAK_TOGETHER.fetch_max(live, Ordering::Relaxed);
    }
    // A thread that ends frees more after its locals are gone.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes as isize);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

fn shrink(bytes: usize) {
    if TOGETHER.load(Ordering::Relaxed) {
        LIVE_TOGETHER.fetch_sub(bytes as isize, Ordering::Relaxed);
    }
    let _ = LIVE.try_with(|live| live.set(live.get() - bytes as isize));
}

fn is_refused(bytes: usize) -> bool {
    bytes > MOST_AT_ONCE && MEASURED.try_with(Cell::get).unwrap_or(false)
}

#[expect(
    unsafe_code,
    reason = "the interface of allocators; every call is passed on as it is"
)]
// SAFETY: every call goes to the system's allocator; a refusal is a null pointer, as for no memory.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
            return std::ptr::null_mut();
        }
        grow(layout.size());
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
            return std::ptr::null_mut();
        }
        grow(layout.size());
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: the caller's promise is the system's.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_refused(size) {
            return std::ptr::null_mut();
        }
        // While it is moved, both are there.
        grow(size);
        shrink(layout.size());
        // SAFETY: the caller's promise is the system's.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// What one input did.
pub(crate) struct Cost {
    /// Whether it was taken; `Err` with the panic that got out.
    pub(crate) taken: Result<bool, String>,
    /// Panics that were caught inside and became errors.
    pub(crate) contained: usize,
    pub(crate) time: Duration,
    /// The most bytes that were held beside what was held before.
    pub(crate) peak: usize,
}

/// Panics of threads that a client of servers started.
static STRAY: AtomicUsize = AtomicUsize::new(0);

/// How many there were.
pub(crate) fn stray() -> usize {
    STRAY.load(Ordering::Relaxed)
}

/// Lets panics of threads that measure be kept instead of printed.
pub(crate) fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match MEASURED.get() {
            true => PANICS.with_borrow_mut(|panics| panics.push(panic.to_string())),
            false => {
                let name = std::thread::current().name().map(str::to_owned);
                if let Some("request" | "clock" | "servers") = name.as_deref() {
                    STRAY.fetch_add(1, Ordering::Relaxed);
                }
                print(panic);
            }
        }));
    });
}

/// Measures one call.
pub(crate) fn measure(call: impl FnOnce() -> bool) -> Cost {
    PANICS.with_borrow_mut(Vec::clear);
    let before = LIVE.get();
    PEAK.set(before);
    MEASURED.set(true);
    let began = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(call));
    let time = began.elapsed();
    let peak = usize::try_from(PEAK.get() - before).unwrap_or_default();
    MEASURED.set(false);
    let mut panics = PANICS.with_borrow_mut(std::mem::take);
    let taken = match result {
        Ok(taken) => Ok(taken),
        Err(_) => Err(panics.pop().unwrap_or_default()),
    };
    Cost {
        taken,
        contained: panics.len(),
        time,
        peak,
    }
}
