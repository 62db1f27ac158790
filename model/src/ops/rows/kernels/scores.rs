//! Softmax of scores that count, its gradient, and the loss.

use cubecl::prelude::*;

use super::cube::{max_of_cube, max_of_vector, sum_of_cube};

/// Scores of a row that count, as numbers of f32 times `scale`; the others are far below all.
#[cube]
fn seen<F: Float, N: Size>(
    scores: Vector<F, N>,
    scale: f32,
    first: usize,
    visible: usize,
) -> Vector<f32, N> {
    let all = Vector::<f32, N>::cast_from(scores) * Vector::<f32, N>::new(scale);
    let mut kept = Vector::<f32, N>::new(f32::new(-1e30));
    #[unroll]
    for i in 0..N::value().comptime() {
        if first + i < visible {
            kept.insert(i, all.extract(i));
        }
    }
    kept
}

/// The largest score of a row and the sum of the exponentials of all, less the largest.
#[cube]
fn peak_and_sum<F: Float, N: Size>(
    scores: &[Vector<F, N>],
    start: usize,
    width: usize,
    visible: usize,
    scale: f32,
) -> (f32, f32) {
    let mut most = f32::new(-1e30);
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = seen::<F, N>(scores[start + at], scale, at * N::value(), visible);
        most = max(most, max_of_vector::<N>(value));
        at += CUBE_DIM as usize;
    }
    let most = max_of_cube(most);
    let mut sum = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = seen::<F, N>(scores[start + at], scale, at * N::value(), visible);
        sum += (value - Vector::<f32, N>::new(most)).exp().vector_sum();
        at += CUBE_DIM as usize;
    }
    (most, sum_of_cube(sum))
}

/// Writes the softmax of `scale` times the first `visible` scores of a row, 0 behind them; the log of its
/// sum. A row of up to `held` vectors for each unit is read once and kept; `held` 0: it is read anew.
#[cube]
fn softmax_of_row<F: Float, N: Size>(
    scores: &[Vector<F, N>],
    shares: &mut [Vector<F, N>],
    width: usize,
    visible: usize,
    scale: f32,
    #[comptime] held: usize,
) -> f32 {
    let start = CUBE_POS * width;
    if comptime!(held > 0) {
        let mut kept = Array::<Vector<f32, N>>::new(held);
        let mut most = f32::new(-1e30);
        #[unroll]
        for i in 0..held {
            let at = UNIT_POS as usize + i * CUBE_DIM as usize;
            let mut value = Vector::<f32, N>::new(f32::new(-1e30));
            if at < width {
                value = seen::<F, N>(scores[start + at], scale, at * N::value(), visible);
            }
            most = max(most, max_of_vector::<N>(value));
            kept[i] = value;
        }
        let most = max_of_cube(most);
        let mut sum = 0.0f32;
        #[unroll]
        for i in 0..held {
            let value = (kept[i] - Vector::<f32, N>::new(most)).exp();
            sum += value.vector_sum();
            kept[i] = value;
        }
        let sum = sum_of_cube(sum);
        #[unroll]
        for i in 0..held {
            let at = UNIT_POS as usize + i * CUBE_DIM as usize;
            if at < width {
                let share = kept[i] / Vector::<f32, N>::new(sum);
                shares[start + at] = Vector::<F, N>::cast_from(share);
            }
        }
        most + sum.ln()
    } else {
        let (most, sum) = peak_and_sum::<F, N>(scores, start, width, visible, scale);
        let mut at = UNIT_POS as usize;
        while at < width {
            let value = seen::<F, N>(scores[start + at], scale, at * N::value(), visible);
            let share = (value - Vector::<f32, N>::new(most)).exp() / Vector::<f32, N>::new(sum);
            shares[start + at] = Vector::<F, N>::cast_from(share);
            at += CUBE_DIM as usize;
        }
        most + sum.ln()
    }
}

/// The softmax of `scale` times the first places of each row, and the log of its sum. How many places
/// count: `first` and one more for each row up to `period` rows, from where it begins anew.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn shares<F: Float, N: Size>(
    scores: &[Vector<F, N>],
    shares: &mut [Vector<F, N>],
    log_sums: &mut [f32],
    width: usize,
    period: usize,
    first: usize,
    scale: f32,
    #[comptime] held: usize,
    #[define(F)] _format: ElemType,
) {
    let visible = CUBE_POS % period + first + 1;
    let log_sum = softmax_of_row::<F, N>(scores, shares, width, visible, scale, held);
    if UNIT_POS == 0 {
        log_sums[CUBE_POS] = log_sum;
    }
}

/// Shares anew from their log-sums, and the gradients by scores from those by shares: what a row's
/// result and its gradient have in common is taken from both, rows of `dim` vectors.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn shares_backward<F: Float, N: Size, D: Size>(
    scores: &[Vector<F, N>],
    d_shares: &[Vector<F, N>],
    log_sums: &[f32],
    out: &[Vector<F, D>],
    dy: &[Vector<F, D>],
    shares: &mut [Vector<F, N>],
    d_scores: &mut [Vector<F, N>],
    width: usize,
    dim: usize,
    period: usize,
    first: usize,
    scale: f32,
    #[define(F)] _format: ElemType,
) {
    let row = CUBE_POS;
    let mut common = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < dim {
        let result = Vector::<f32, D>::cast_from(out[row * dim + at]);
        let slope = Vector::<f32, D>::cast_from(dy[row * dim + at]);
        common += (result * slope).vector_sum();
        at += CUBE_DIM as usize;
    }
    let common = Vector::<f32, N>::new(sum_of_cube(common));
    let (start, log_sum) = (row * width, Vector::<f32, N>::new(log_sums[row]));
    let visible = row % period + first + 1;
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = seen::<F, N>(scores[start + at], scale, at * N::value(), visible);
        let share = (value - log_sum).exp();
        let slope = Vector::<f32, N>::cast_from(d_shares[start + at]);
        shares[start + at] = Vector::<F, N>::cast_from(share);
        d_scores[start + at] =
            Vector::<F, N>::cast_from(share * (slope - common) * Vector::<f32, N>::new(scale));
        at += CUBE_DIM as usize;
    }
}

/// The loss of each row of logits, times its weight, and the gradient by the logits.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn losses<F: Float, N: Size>(
    logits: &[Vector<F, N>],
    targets: &[i32],
    weights: &[f32],
    losses: &mut [f32],
    slopes: &mut [Vector<F, N>],
    width: usize,
    #[define(F)] _format: ElemType,
) {
    let start = CUBE_POS * width;
    let all = width * N::value();
    let (most, sum) = peak_and_sum::<F, N>(logits, start, width, all, 1.0f32);
    let (target, weight) = (usize::cast_from(targets[CUBE_POS]), weights[CUBE_POS]);
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = Vector::<f32, N>::cast_from(logits[start + at]);
        let share = (value - Vector::<f32, N>::new(most)).exp() / Vector::<f32, N>::new(sum);
        let mut slope = share * Vector::<f32, N>::new(weight);
        #[unroll]
        for i in 0..N::value().comptime() {
            if at * N::value() + i == target {
                losses[CUBE_POS] = (sum.ln() + most - value.extract(i)) * weight;
                slope.insert(i, (share.extract(i) - 1.0) * weight);
            }
        }
        slopes[start + at] = Vector::<F, N>::cast_from(slope);
        at += CUBE_DIM as usize;
    }
}
