//! Memory of results, used again.
//!
//! A training step makes and drops the same few hundred megabytes of results each time. The
//! system's allocator gives large pieces back at once and must then have every page cleared anew,
//! which costs a third of a small model's step; so pieces are kept here. What a piece held before
//! never shows: every operation writes its whole result.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};

use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes};

/// Elements below which a piece is left to the system's allocator.
const SMALLEST: usize = 16 * 1024;
/// Elements kept at most (1 GiB).
const MOST: usize = 256 * 1024 * 1024;

/// Pieces that wait to be used again, by size class.
struct Pool {
    pieces: BTreeMap<usize, Vec<Vec<f32>>>,
    elements: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    pieces: BTreeMap::new(),
    elements: 0,
});

/// The size class of `len`: eighths of a power of two, so that batches of slightly different
/// lengths share pieces.
fn class(len: usize) -> usize {
    len.next_multiple_of((len.next_power_of_two() / 16).max(1))
}

/// Memory for a result of `len` elements that is about to be written in full; it may hold anything.
pub(super) fn buffer(len: usize) -> Vec<f32> {
    if len < SMALLEST {
        return vec![0.0; len];
    }
    let class = class(len);
    let found = {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        let piece = pool.pieces.get_mut(&class).and_then(Vec::pop);
        if piece.is_some() {
            pool.elements -= class;
        }
        piece
    };
    match found {
        Some(mut piece) => {
            piece.resize(len, 0.0);
            piece
        }
        None => {
            let mut piece = vec![0.0; class];
            piece.truncate(len);
            piece
        }
    }
}

/// Gives `values` to a tensor, and back to the pool when the tensor is dropped.
pub(super) fn bytes(values: Vec<f32>) -> Bytes {
    if values.len() < SMALLEST || values.capacity() != class(values.len()) {
        return Bytes::from_elems(values);
    }
    let len = size_of_val(values.as_slice());
    #[expect(unsafe_code, reason = "hands memory that is used again to a tensor")]
    // SAFETY: the controller holds exactly `len` initialised bytes.
    unsafe {
        Bytes::from_controller(Box::new(Piece(values)), len)
    }
}

/// A piece of memory while a tensor has it.
struct Piece(Vec<f32>);

impl Drop for Piece {
    fn drop(&mut self) {
        let piece = std::mem::take(&mut self.0);
        let class = piece.capacity();
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.elements + class <= MOST {
            pool.elements += class;
            pool.pieces.entry(class).or_default().push(piece);
        }
    }
}

#[expect(
    unsafe_code,
    reason = "the interface speaks of bytes that may be uninitialised"
)]
impl AllocationController for Piece {
    fn alloc_align(&self) -> usize {
        align_of::<f32>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(
        &mut self,
        _: AccessPolicy,
    ) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let (start, len) = (self.0.as_mut_ptr(), size_of_val(self.0.as_slice()));
        // SAFETY: initialised floats seen as bytes; the caller writes initialised data only.
        Ok(unsafe { std::slice::from_raw_parts_mut(start.cast(), len) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let (start, len) = (self.0.as_ptr(), size_of_val(self.0.as_slice()));
        // SAFETY: initialised floats seen as bytes.
        Ok(unsafe { std::slice::from_raw_parts(start.cast(), len) })
    }
}
