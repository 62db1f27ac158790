//! Products of a block of query rows with what they may see, and no more.

use crate::kernels::panels::Panels;
use crate::kernels::tile::{LANES, MAX_ROWS, Operands, PANEL, Right, max_vectors, tile};

/// Scores of query rows `start .. end` against all keys they may see, into rows of `row` elements.
/// Elements right of the diagonal are unspecified.
#[expect(
    unsafe_code,
    reason = "calls the vector tile on addresses inside the buffers"
)]
pub(super) fn causal_scores(
    left: &[f32],
    left_row: usize,
    right: &Panels,
    start: usize,
    end: usize,
    scores: &mut [f32],
    row: usize,
) {
    let wide = crate::kernels::vectors();
    let (data, inner) = right.parts();
    assert!(left.len() >= (end - start) * left_row && left_row >= inner);
    assert!(scores.len() >= (end - start) * row && row >= end.next_multiple_of(PANEL));
    assert!(data.len() >= end.div_ceil(PANEL) * inner * PANEL);
    for panel in 0..end.div_ceil(PANEL) {
        // Rows before the panel's first key see none of it.
        let mut i = start.max(panel * PANEL);
        while i < end {
            let rows = MAX_ROWS.min(end - i);
            let x = Operands {
                inner,
                a: left[(i - start) * left_row..].as_ptr(),
                a_row: left_row,
                a_inner: 1,
                b: Right::Single(data[panel * inner * PANEL..].as_ptr()),
                b_inner: PANEL,
                b_panel: 0,
                c: scores[(i - start) * row + panel * PANEL..].as_mut_ptr(),
                c_row: row,
                start: std::ptr::null(),
                start_row: 0,
                late: false,
            };
            // SAFETY: the asserts above cover rows `i .. i + rows` and the panel's 16 columns.
            unsafe { tile(rows, PANEL / LANES, wide, &x) };
            i += rows;
        }
    }
}

/// `out[start .. end] = weights * right` where row `i` of `weights` ends at column `i`: the rows
/// of `right` (`[S, padded]`) after it are not read.
#[expect(
    unsafe_code,
    reason = "calls the vector tile on addresses inside the buffers"
)]
pub(super) fn causal_rows(
    weights: &[f32],
    row: usize,
    right: &[f32],
    padded: usize,
    start: usize,
    end: usize,
    out: &mut [f32],
) {
    let wide = crate::kernels::vectors();
    assert!(weights.len() >= (end - start) * row && row >= end);
    assert!(right.len() >= end * padded && out.len() >= end * padded);
    let mut i = start;
    while i < end {
        let rows = MAX_ROWS.min(end - i);
        for_vectors(rows, padded, |at, vectors| {
            let x = Operands {
                inner: i + rows,
                a: weights[(i - start) * row..].as_ptr(),
                a_row: row,
                a_inner: 1,
                b: Right::Single(right[at..].as_ptr()),
                b_inner: padded,
                b_panel: PANEL,
                c: out[i * padded + at..].as_mut_ptr(),
                c_row: padded,
                start: std::ptr::null(),
                start_row: 0,
                late: false,
            };
            // SAFETY: the asserts above cover `i + rows <= end` rows of both operands, and
            // `for_vectors` stays inside a padded row.
            unsafe { tile(rows, vectors, wide, &x) };
        });
        i += rows;
    }
}

/// `out[.. end] += weightsᵀ * right` where `weights` has rows `start .. end` (row `i` ends at
/// column `i`, zeros after it) and `right` is `[end - start, padded]`.
#[expect(
    unsafe_code,
    reason = "calls the vector tile on addresses inside the buffers"
)]
pub(super) fn causal_columns(
    weights: &[f32],
    row: usize,
    right: &[f32],
    padded: usize,
    start: usize,
    end: usize,
    out: &mut [f32],
) {
    let wide = crate::kernels::vectors();
    assert!(weights.len() >= (end - start) * row && row >= end);
    assert!(right.len() >= (end - start) * padded && out.len() >= end * padded);
    let mut j = 0;
    while j < end {
        let rows = MAX_ROWS.min(end - j);
        // Queries before key `j` do not see it.
        let from = j.max(start);
        for_vectors(rows, padded, |at, vectors| {
            let sums = out[j * padded + at..].as_mut_ptr();
            let x = Operands {
                inner: end - from,
                a: weights[(from - start) * row + j..].as_ptr(),
                a_row: 1,
                a_inner: row,
                b: Right::Single(right[(from - start) * padded + at..].as_ptr()),
                b_inner: padded,
                b_panel: PANEL,
                c: sums,
                c_row: padded,
                start: sums,
                start_row: padded,
                late: false,
            };
            // SAFETY: the asserts above cover columns `j + rows <= end` and rows `from .. end`.
            unsafe { tile(rows, vectors, wide, &x) };
        });
        j += rows;
    }
}

/// Calls `f(column, vectors)` for groups of vectors that fill a row of `padded` columns and that
/// a tile of this many rows can take.
#[inline]
fn for_vectors(rows: usize, padded: usize, mut f: impl FnMut(usize, usize)) {
    let most = max_vectors(rows, crate::kernels::vectors());
    let mut at = 0;
    while at < padded {
        let left = (padded - at) / LANES;
        let vectors = [8, 4, 2, 1]
            .into_iter()
            .find(|n| *n <= most && *n <= left)
            .unwrap_or(1);
        f(at, vectors);
        at += vectors * LANES;
    }
}
