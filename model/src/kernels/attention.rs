//! Causal attention inside each document of a packed batch, grouped queries, with the rotary
//! embedding applied on the way in.
//!
//! Legend: S tokens of one document, D head size, G query heads that share a key-value head.
//! One task is one document and one key-value head. It holds a block of query rows of scores,
//! never more; for the backward pass only the log-sum-exp of each row is kept.

use rayon::prelude::*;

use super::disjoint::Disjoint;
use super::elementwise::{dot, rotate_back_body, rotate_body};
use super::exp::exponentials;
use super::multiversion;
use super::panels::{Matrix, Panels};
use super::tile::{LANES, MAX_ROWS, Operands, PANEL, Right, max_vectors, tile};

/// Query rows whose scores are held at once: a multiple of the tile's 6 rows.
const QUERY_BLOCK: usize = 48;

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
    fn padded(&self) -> usize {
        self.dim.next_multiple_of(LANES)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }

    fn tasks(&self) -> Vec<Task> {
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
struct Task {
    /// First row of the document in the batch.
    first: usize,
    /// Rows of the document.
    length: usize,
    kv_head: usize,
}

/// Memory that one task after the other uses.
#[derive(Default)]
struct Scratch {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    outputs: Vec<f32>,
    d_outputs: Vec<f32>,
    d_queries: Vec<f32>,
    d_keys: Vec<f32>,
    d_values: Vec<f32>,
    weights: Vec<f32>,
    d_scores: Vec<f32>,
    key_columns: Panels,
    value_columns: Panels,
}

/// Copies one head of one document into dense, padded rows `[S, padded D]`.
fn take_head(x: Matrix<'_>, task: Task, head: usize, layout: &Layout<'_>, rows: &mut Vec<f32>) {
    let (dim, padded) = (layout.dim, layout.padded());
    rows.resize(task.length * padded, 0.0);
    for (r, row) in rows.chunks_exact_mut(padded).enumerate() {
        let from = (task.first + r) * x.row_stride + head * dim;
        row[..dim].copy_from_slice(&x.data[from..from + dim]);
        row[dim..].fill(0.0);
    }
}

/// As [`take_head`], turned by the rotary embedding.
fn take_turned(x: Matrix<'_>, task: Task, head: usize, layout: &Layout<'_>, rows: &mut Vec<f32>) {
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
    fn turn_back(rows: &mut [f32], padded: usize, dim: usize, cos: &[f32], sin: &[f32]) = turn_back_body
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
fn columns(rows: &[f32], layout: &Layout<'_>, panels: &mut Panels) {
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
fn put_head(
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

/// Attention output `[T, heads * D]` and the log-sum-exp of the scores `[heads, T]`.
///
/// `q` is `[T, heads * D]`, `k` and `v` are `[T, kv_heads * D]`, all before the rotary embedding.
#[expect(unsafe_code, reason = "tasks write to disjoint columns of shared rows")]
pub(crate) fn forward(
    q: Matrix<'_>,
    k: Matrix<'_>,
    v: Matrix<'_>,
    layout: &Layout<'_>,
    out: &mut [f32],
    log_sums: &mut [f32],
) {
    let group = layout.heads / layout.kv_heads;
    let (tokens, width) = (q.rows, layout.heads * layout.dim);
    let (out, log_sums) = (Disjoint::new(out), Disjoint::new(log_sums));
    layout
        .tasks()
        .par_iter()
        .for_each_init(Scratch::default, |scratch, &task| {
            let Scratch {
                queries,
                keys,
                values,
                outputs,
                weights,
                key_columns,
                ..
            } = scratch;
            take_turned(k, task, task.kv_head, layout, keys);
            take_head(v, task, task.kv_head, layout, values);
            columns(keys, layout, key_columns);
            for head in task.kv_head * group..(task.kv_head + 1) * group {
                take_turned(q, task, head, layout, queries);
                // SAFETY: no other task has this document and head.
                let sums = unsafe { log_sums.part(head * tokens + task.first, task.length) };
                head_forward(queries, key_columns, values, layout, weights, outputs, sums);
                put_head(outputs, task, head, layout, &out, width);
            }
        });
}

/// One head of one document: rows of `out` and the log-sum-exp of each row.
fn head_forward(
    queries: &[f32],
    keys: &Panels,
    values: &[f32],
    layout: &Layout<'_>,
    weights: &mut Vec<f32>,
    out: &mut Vec<f32>,
    log_sums: &mut [f32],
) {
    let (length, padded) = (log_sums.len(), layout.padded());
    let row = length.next_multiple_of(PANEL);
    weights.resize(QUERY_BLOCK * row, 0.0);
    out.resize(length * padded, 0.0);
    for start in (0..length).step_by(QUERY_BLOCK) {
        let end = (start + QUERY_BLOCK).min(length);
        let queries = &queries[start * padded..end * padded];
        causal_scores(queries, padded, keys, start, end, weights, row);
        let mut inverses = [0.0; QUERY_BLOCK];
        for i in start..end {
            let (scores, rest) = weights[(i - start) * row..][..end].split_at_mut(i + 1);
            let shift = highest(scores) * layout.scale();
            let sum = exponentials(scores, layout.scale(), shift);
            rest.fill(0.0);
            inverses[i - start] = 1.0 / sum;
            log_sums[i] = shift + sum.ln();
        }
        causal_rows(weights, row, values, padded, start, end, out);
        let rows = out[start * padded..end * padded].chunks_exact_mut(padded);
        for (row, inverse) in rows.zip(inverses) {
            row.iter_mut().for_each(|x| *x *= inverse);
        }
    }
}

/// Scores of query rows `start .. end` against all keys they may see, into rows of `row` elements.
/// Elements right of the diagonal are unspecified.
#[expect(
    unsafe_code,
    reason = "calls the vector tile on addresses inside the buffers"
)]
fn causal_scores(
    left: &[f32],
    left_row: usize,
    right: &Panels,
    start: usize,
    end: usize,
    scores: &mut [f32],
    row: usize,
) {
    let wide = super::wide_vectors();
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
fn causal_rows(
    weights: &[f32],
    row: usize,
    right: &[f32],
    padded: usize,
    start: usize,
    end: usize,
    out: &mut [f32],
) {
    let wide = super::wide_vectors();
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
fn causal_columns(
    weights: &[f32],
    row: usize,
    right: &[f32],
    padded: usize,
    start: usize,
    end: usize,
    out: &mut [f32],
) {
    let wide = super::wide_vectors();
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
    let most = max_vectors(rows);
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

multiversion! {
    /// The largest element.
    pub(super) fn highest(row: &[f32]) -> f32 = highest_body
}

#[inline(always)]
fn highest_body<const FMA: bool>(row: &[f32]) -> f32 {
    let mut highest = [f32::NEG_INFINITY; LANES];
    let (whole, tail) = row.as_chunks::<LANES>();
    for chunk in whole {
        for (high, x) in highest.iter_mut().zip(chunk) {
            *high = if *x > *high { *x } else { *high };
        }
    }
    for (high, x) in highest.iter_mut().zip(tail) {
        *high = if *x > *high { *x } else { *high };
    }
    highest.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// The inputs that the backward pass needs.
pub(crate) struct Saved<'a> {
    pub(crate) q: Matrix<'a>,
    pub(crate) k: Matrix<'a>,
    pub(crate) v: Matrix<'a>,
    pub(crate) out: &'a [f32],
    pub(crate) log_sums: &'a [f32],
}

/// Gradients of [`forward`] by q, k and v, dense `[T, heads * D]` and `[T, kv_heads * D]`.
pub(crate) fn backward(
    saved: &Saved<'_>,
    d_out: &[f32],
    layout: &Layout<'_>,
    [dq, dk, dv]: [&mut [f32]; 3],
) {
    let gradients = Gradients {
        q: Disjoint::new(dq),
        k: Disjoint::new(dk),
        v: Disjoint::new(dv),
    };
    let d_out = Matrix::new(d_out, saved.q.rows, layout.heads * layout.dim);
    layout
        .tasks()
        .par_iter()
        .for_each_init(Scratch::default, |scratch, &task| {
            task_backward(saved, d_out, layout, task, &gradients, scratch);
        });
}

/// The results of the backward pass.
struct Gradients<'a> {
    q: Disjoint<'a>,
    k: Disjoint<'a>,
    v: Disjoint<'a>,
}

fn task_backward(
    saved: &Saved<'_>,
    d_out: Matrix<'_>,
    layout: &Layout<'_>,
    task: Task,
    gradients: &Gradients<'_>,
    scratch: &mut Scratch,
) {
    let Scratch {
        queries,
        keys,
        values,
        outputs,
        d_outputs,
        d_queries,
        d_keys,
        d_values,
        weights,
        d_scores,
        key_columns,
        value_columns,
    } = scratch;
    let Task {
        first,
        length,
        kv_head,
    } = task;
    let group = layout.heads / layout.kv_heads;
    let (dim, padded, tokens) = (layout.dim, layout.padded(), saved.q.rows);
    let (width, kv_width) = (layout.heads * dim, layout.kv_heads * dim);
    let out = Matrix::new(saved.out, tokens, width);
    take_turned(saved.k, task, kv_head, layout, keys);
    take_head(saved.v, task, kv_head, layout, values);
    columns(keys, layout, key_columns);
    columns(values, layout, value_columns);
    for gradient in [&mut *d_keys, d_values] {
        gradient.clear();
        gradient.resize(length * padded, 0.0);
    }
    d_queries.resize(length * padded, 0.0);
    let row = length.next_multiple_of(PANEL);
    weights.resize(QUERY_BLOCK * row, 0.0);
    d_scores.resize(QUERY_BLOCK * row, 0.0);
    for head in kv_head * group..(kv_head + 1) * group {
        take_turned(saved.q, task, head, layout, queries);
        take_head(out, task, head, layout, outputs);
        take_head(d_out, task, head, layout, d_outputs);
        let log_sums = &saved.log_sums[head * tokens + first..][..length];
        for start in (0..length).step_by(QUERY_BLOCK) {
            let end = (start + QUERY_BLOCK).min(length);
            let block = start * padded..end * padded;
            let (queries, d_outputs) = (&queries[block.clone()], &d_outputs[block.clone()]);
            causal_scores(queries, padded, key_columns, start, end, weights, row);
            causal_scores(d_outputs, padded, value_columns, start, end, d_scores, row);
            for i in start..end {
                let at = (i - start) * row;
                let within = (i - start) * padded..(i - start + 1) * padded;
                let along = (&outputs[i * padded..(i + 1) * padded], &d_outputs[within]);
                let (weights, rest) = weights[at..at + end].split_at_mut(i + 1);
                rest.fill(0.0);
                exponentials(weights, layout.scale(), log_sums[i]);
                let (d_scores, rest) = d_scores[at..at + end].split_at_mut(i + 1);
                rest.fill(0.0);
                softmax_backward(weights, d_scores, layout.scale(), along);
            }
            causal_rows(d_scores, row, keys, padded, start, end, d_queries);
            causal_columns(d_scores, row, queries, padded, start, end, d_keys);
            causal_columns(weights, row, d_outputs, padded, start, end, d_values);
        }
        turn_back(d_queries, padded, dim, layout.cos, layout.sin);
        put_head(d_queries, task, head, layout, &gradients.q, width);
    }
    turn_back(d_keys, padded, dim, layout.cos, layout.sin);
    put_head(d_keys, task, kv_head, layout, &gradients.k, kv_width);
    put_head(d_values, task, kv_head, layout, &gradients.v, kv_width);
}

multiversion! {
    /// From the gradients of a row's weights to those of its unscaled scores; `rows` are the row's
    /// output and the gradient of it.
    fn softmax_backward(
        weights: &[f32], d_scores: &mut [f32], scale: f32, rows: (&[f32], &[f32])
    ) = softmax_backward_body
}

#[inline(always)]
fn softmax_backward_body<const FMA: bool>(
    weights: &[f32],
    d_scores: &mut [f32],
    scale: f32,
    (out, d_out): (&[f32], &[f32]),
) {
    let mean = dot::<FMA>(out, d_out);
    for (weight, d_score) in weights.iter().zip(d_scores) {
        *d_score = weight * scale * (*d_score - mean);
    }
}
