//! Row-wise and element-wise parts: RMS norm, SwiGLU, bias, rotary embedding, gather and scatter.

use rayon::prelude::*;

use super::exp::sigmoid;
use super::multiversion;
use super::tile::LANES;

/// Rows that one task handles, and over which partial sums of weight gradients run. Fixed, so that
/// no sum depends on the number of threads.
pub(crate) const ROWS_PER_TASK: usize = 256;

/// Adds the products of two slices in 8 lanes, then the lanes.
#[inline(always)]
pub(crate) fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a_whole, a_rest) = a.as_chunks::<LANES>();
    let (b_whole, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_whole.iter().zip(b_whole) {
        for lane in 0..LANES {
            sums[lane] = super::multiply_add::<FMA>(a[lane], b[lane], sums[lane]);
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[lane] = super::multiply_add::<FMA>(*a, *b, sums[lane]);
    }
    fold(sums)
}

/// Sums 8 lanes pairwise.
#[inline(always)]
pub(crate) fn fold(l: [f32; LANES]) -> f32 {
    ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

#[inline(always)]
fn reciprocal_rms<const FMA: bool>(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot::<FMA>(x, x) / x.len() as f32 + eps).sqrt()
}

multiversion! {
    /// `y = w * x / rms(x)` for each row of `w.len()` elements.
    pub(crate) fn rms_norm_rows(x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) = rms_norm_body
}

#[inline(always)]
fn rms_norm_body<const FMA: bool>(x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) {
    for (x, y) in x.chunks_exact(w.len()).zip(y.chunks_exact_mut(w.len())) {
        let scale = reciprocal_rms::<FMA>(x, eps);
        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
            *y = w * (x * scale);
        }
    }
}

multiversion! {
    /// Gradients of [`rms_norm_rows`]: writes `dx`, adds to `dw`.
    fn rms_norm_backward_rows(
        x: &[f32], w: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], dw: &mut [f32]
    ) = rms_norm_backward_body
}

#[inline(always)]
fn rms_norm_backward_body<const FMA: bool>(
    x: &[f32],
    w: &[f32],
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
    dw: &mut [f32],
) {
    let width = w.len();
    let rows = x
        .chunks_exact(width)
        .zip(dy.chunks_exact(width))
        .zip(dx.chunks_exact_mut(width));
    for ((x, dy), dx) in rows {
        let scale = reciprocal_rms::<FMA>(x, eps);
        for ((dx, dy), w) in dx.iter_mut().zip(dy).zip(w) {
            *dx = dy * w;
        }
        let along = dot::<FMA>(x, dx) * scale * scale / width as f32;
        for (((dx, dy), x), dw) in dx.iter_mut().zip(dy).zip(x).zip(dw.iter_mut()) {
            *dx = scale * (*dx - x * along);
            *dw += dy * (x * scale);
        }
    }
}

/// RMS norm of many rows on all threads.
pub(crate) fn rms_norm(x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) {
    let task = ROWS_PER_TASK * w.len();
    y.par_chunks_mut(task)
        .zip(x.par_chunks(task))
        .for_each(|(y, x)| rms_norm_rows(x, w, eps, y));
}

/// Gradients of [`rms_norm`]: fills `dx`, returns the gradient of `w`.
pub(crate) fn rms_norm_backward(
    x: &[f32],
    w: &[f32],
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
) -> Vec<f32> {
    let task = ROWS_PER_TASK * w.len();
    let parts: Vec<Vec<f32>> = dx
        .par_chunks_mut(task)
        .zip(x.par_chunks(task).zip(dy.par_chunks(task)))
        .map(|(dx, (x, dy))| {
            let mut dw = vec![0.0; w.len()];
            rms_norm_backward_rows(x, w, eps, dy, dx, &mut dw);
            dw
        })
        .collect();
    sum_in_order(parts, w.len())
}

/// Adds vectors of `width` elements in the order given.
pub(crate) fn sum_in_order(parts: Vec<Vec<f32>>, width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    for part in parts {
        add_assign(&mut sum, &part);
    }
    sum
}

multiversion! {
    /// `a += b`.
    pub(crate) fn add_assign(a: &mut [f32], b: &[f32]) = add_assign_body
}

#[inline(always)]
fn add_assign_body<const FMA: bool>(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

/// Sums the rows of `dy`: the gradient of a bias.
pub(crate) fn sum_rows(dy: &[f32], width: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = dy
        .par_chunks(ROWS_PER_TASK * width)
        .map(|dy| {
            let mut sum = vec![0.0; width];
            for row in dy.chunks_exact(width) {
                add_assign(&mut sum, row);
            }
            sum
        })
        .collect();
    sum_in_order(parts, width)
}

/// Elements that one task of an element-wise operation handles.
const ELEMENTS_PER_TASK: usize = 32 * 1024;

/// [`swiglu`] on all threads.
pub(crate) fn swiglu_parallel(gate: &[f32], up: &[f32], y: &mut [f32]) {
    y.par_chunks_mut(ELEMENTS_PER_TASK)
        .zip(
            gate.par_chunks(ELEMENTS_PER_TASK)
                .zip(up.par_chunks(ELEMENTS_PER_TASK)),
        )
        .for_each(|(y, (gate, up))| swiglu(gate, up, y));
}

/// Gradients of [`swiglu`], on all threads.
pub(crate) fn swiglu_backward_parallel(
    gate: &[f32],
    up: &[f32],
    dy: &[f32],
    d_gate: &mut [f32],
    d_up: &mut [f32],
) {
    let task = ELEMENTS_PER_TASK;
    d_gate
        .par_chunks_mut(task)
        .zip(d_up.par_chunks_mut(task))
        .zip(
            gate.par_chunks(task)
                .zip(up.par_chunks(task))
                .zip(dy.par_chunks(task)),
        )
        .for_each(|((d_gate, d_up), ((gate, up), dy))| swiglu_backward(gate, up, dy, d_gate, d_up));
}

multiversion! {
    /// `y = gate * sigmoid(gate) * up`.
    pub(crate) fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) = swiglu_body
}

#[inline(always)]
fn swiglu_body<const FMA: bool>(gate: &[f32], up: &[f32], y: &mut [f32]) {
    for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
        *y = gate * sigmoid::<FMA>(*gate) * up;
    }
}

multiversion! {
    /// Gradients of [`swiglu`].
    fn swiglu_backward(
        gate: &[f32], up: &[f32], dy: &[f32], d_gate: &mut [f32], d_up: &mut [f32]
    ) = swiglu_backward_body
}

#[inline(always)]
fn swiglu_backward_body<const FMA: bool>(
    gate: &[f32],
    up: &[f32],
    dy: &[f32],
    d_gate: &mut [f32],
    d_up: &mut [f32],
) {
    let inputs = gate.iter().zip(up).zip(dy);
    for (((gate, up), dy), (d_gate, d_up)) in inputs.zip(d_gate.iter_mut().zip(d_up)) {
        let s = sigmoid::<FMA>(*gate);
        *d_up = dy * (gate * s);
        *d_gate = dy * up * (s * (1.0 + gate * (1.0 - s)));
    }
}

multiversion! {
    /// Turns one head by its position: `(a, b) -> (a cos - b sin, b cos + a sin)` for element `i`
    /// of the first half and element `i` of the second half.
    pub(crate) fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32]) = rotate_body
}

#[inline(always)]
pub(super) fn rotate_body<const FMA: bool>(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = x.split_at_mut(cos.len());
    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        let (x, y) = (*a, *b);
        *a = x * cos - y * sin;
        *b = y * cos + x * sin;
    }
}

/// Turns one head back: the inverse, and the transpose, of [`rotate`].
#[inline(always)]
pub(super) fn rotate_back_body<const FMA: bool>(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = x.split_at_mut(cos.len());
    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        let (x, y) = (*a, *b);
        *a = x * cos + y * sin;
        *b = y * cos - x * sin;
    }
}

/// The rows `ids` of a table with `width` columns.
pub(crate) fn gather(table: &[f32], width: usize, ids: &[u32], y: &mut [f32]) {
    for (id, y) in ids.iter().zip(y.chunks_exact_mut(width)) {
        let from = *id as usize * width;
        y.copy_from_slice(&table[from..from + width]);
    }
}

/// Adds each row of `dy` to the row of `table` that `ids` names, in the order of `ids`.
pub(crate) fn scatter_add(dy: &[f32], width: usize, ids: &[u32], table: &mut [f32]) {
    for (id, dy) in ids.iter().zip(dy.chunks_exact(width)) {
        let to = *id as usize * width;
        add_assign(&mut table[to..to + width], dy);
    }
}
