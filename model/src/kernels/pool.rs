//! Memory of results, used again.
//!
//! A training step makes and drops the same few hundred megabytes of results each time. The
//! system's allocator gives large pieces back at once and must then have every page cleared anew,
//! which costs a third of a small model's step; so pieces are kept here. What a piece held before
//! never shows: every operation writes its whole result.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Elements below which a piece is left to the system's allocator.
const SMALLEST: usize = 16 * 1024;
/// Elements above which a piece is left to it, too: there are a few for each step, of a head as large
/// as a vocabulary, and they would be held through the whole backward pass.
const LARGEST: usize = 16 * 1024 * 1024;
/// Elements kept at most (1 GiB).
pub(crate) const MOST: usize = 256 * 1024 * 1024;

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

/// Elements of the piece for a result of `len` elements, if such pieces are kept.
pub(crate) fn kept_elements(len: usize) -> Option<usize> {
    (SMALLEST..=LARGEST).contains(&len).then(|| class(len))
}

/// Memory for a result of `len` elements that is about to be written in full; it may hold anything.
pub(crate) fn buffer(len: usize) -> Vec<f32> {
    let Some(class) = kept_elements(len) else {
        return vec![0.0; len];
    };
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

/// Whether a piece came from [`buffer`] and may be given back.
pub(crate) fn is_piece(values: &Vec<f32>) -> bool {
    kept_elements(values.len()) == Some(values.capacity())
}

/// Keeps a piece that nobody needs any more, unless there are enough; others are freed.
pub(crate) fn give_back(piece: Vec<f32>) {
    if !is_piece(&piece) {
        return;
    }
    let class = piece.capacity();
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.elements + class <= MOST {
        pool.elements += class;
        pool.pieces.entry(class).or_default().push(piece);
    }
}

/// Frees every piece that waits.
pub(crate) fn clear() {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    pool.pieces.clear();
    pool.elements = 0;
}
