//! Heads as dense rows: taken from a packed batch, turned by their positions, and put back.

use crate::kernels::disjoint::Disjoint;
use crate::kernels::elementwise::{rotate_back_body, rotate_body};
use crate::kernels::multiversion;
use crate::kernels::panels::{Matrix, Panels};
use crate::kernels::tile::LANES;

/// How the heads of a packed batch are laid out and turned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout<'a> {
    /// Query heads.
    pub(crate) heads: usize,
    /// Key-value heads; divides `heads`.
    pub(crate) kv_heads: usize,
    /// Head size D.
    pub(crate) dim: usize,
    /// Length of each document.
    pub(crate) lengths: &'a [usize],
    /// Cosines `[positions, D / 2]` of the rotary embedding.
    pub(crate) cos: &'a [f32],
    /// Sines `[positions, D / 2]` of the rotary embedding.
    pub(crate) sin: &'a [f32],
}

impl Layout<'_> {
    /// Rows of D elements, padded to whole vectors.
    pub(super) fn padded(&self) -> usize {
        self.dim.next_multiple_of(LANES)
    }

    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }

    pub(super) fn tasks(&self) -> Vec<Task> {
        let mut tasks = Vec::with_capacity(self.lengths.len() * self.kv_heads);
        let mut first = 0;
        for &length in self.lengths {
            tasks.extend((0..self.kv_heads).map(|kv_head| Task {
                first,
                length,
                kv_head,
            }));
            first += length;
        }
        tasks
    }
}

/// Where one task works: a document and one of its key-value heads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    /// First row of the document in the batch.
    pub(super) first: usize,
    /// Rows of the document.
    pub(super) length: usize,
    pub(super) kv_head: usize,
}

/// Copies one head of one document into dense, padded rows `[S, padded D]`.
pub(super) fn take_head(
    x: Matrix<'_>,
    task: Task,
    head: usize,
    layout: &Layout<'_>,
    rows: &mut Vec<f32>,
) {
    let (dim, padded) = (layout.dim, layout.padded());
    rows.resize(task.length * padded, 0.0);
    for (r, row) in rows.chunks_exact_mut(padded).enumerate() {
        let from = (task.first + r) * x.row_stride + head * dim;
        row[..dim].copy_from_slice(&x.data[from..from + dim]);
        row[dim..].fill(0.0);
    }
}

/// As [`take_head`], turned by the rotary embedding.
pub(super) fn take_turned(
    x: Matrix<'_>,
    task: Task,
    head: usize,
    layout: &Layout<'_>,
    rows: &mut Vec<f32>,
) {
    take_head(x, task, head, layout, rows);
    turn(rows, layout.padded(), layout.dim, layout.cos, layout.sin);
}

multiversion! {
    /// Turns rows of `padded` elements, the first `dim` of which are a head, by positions 0, 1, ...
    fn turn(rows: &mut [f32], padded: usize, dim: usize, cos: &[f32], sin: &[f32]) = turn_body
}

#[inline(always)]
fn turn_body<const FMA: bool>(
    rows: &mut [f32],
    padded: usize,
    dim: usize,
    cos: &[f32],
    sin: &[f32],
) {
    let half = dim / 2;
    let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
    for (row, (cos, sin)) in rows.chunks_exact_mut(padded).zip(angles) {
        rotate_body::<FMA>(&mut row[..dim], cos, sin);
    }
}

multiversion! {
    /// The inverse of [`turn`].
    pub(super) fn turn_back(rows: &mut [f32], padded: usize, dim: usize, cos: &[f32], sin: &[f32]) = turn_back_body
}

#[inline(always)]
fn turn_back_body<const FMA: bool>(
    rows: &mut [f32],
    padded: usize,
    dim: usize,
    cos: &[f32],
    sin: &[f32],
) {
    let half = dim / 2;
    let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
    for (row, (cos, sin)) in rows.chunks_exact_mut(padded).zip(angles) {
        rotate_back_body::<FMA>(&mut row[..dim], cos, sin);
    }
}

/// Packs rows `[S, padded D]` as the right operand of a product over D.
pub(super) fn columns(rows: &[f32], layout: &Layout<'_>, panels: &mut Panels) {
    let padded = layout.padded();
    let by_row = Matrix {
        data: rows,
        rows: rows.len() / padded,
        cols: layout.dim,
        row_stride: padded,
        col_stride: 1,
    };
    panels.repack(by_row.transposed());
}

/// Writes the rows of one head into its columns of `out`, rows of `width` elements.
#[expect(unsafe_code, reason = "tasks write to disjoint columns of shared rows")]
pub(super) fn put_head(
    rows: &[f32],
    task: Task,
    head: usize,
    layout: &Layout<'_>,
    out: &Disjoint<'_>,
    width: usize,
) {
    for (r, row) in rows.chunks_exact(layout.padded()).enumerate() {
        let at = (task.first + r) * width + head * layout.dim;
        // SAFETY: no other task has this document and head.
        let out = unsafe { out.part(at, layout.dim) };
        out.copy_from_slice(&row[..layout.dim]);
    }
}
