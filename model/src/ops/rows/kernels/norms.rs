//! Norms of rows.

use cubecl::prelude::*;

use super::cube::sum_of_cube;

/// `1 / sqrt(mean(x²) + eps)` of a row that begins at `start`.
#[cube]
fn scale_of_row<F: Float, N: Size>(
    x: &[Vector<F, N>],
    start: usize,
    width: usize,
    eps: f32,
) -> f32 {
    let mut squares = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = Vector::<f32, N>::cast_from(x[start + at]);
        squares += (value * value).vector_sum();
        at += CUBE_DIM as usize;
    }
    let count = f32::cast_from(width * N::value());
    1.0 / (sum_of_cube(squares) / count + eps).sqrt()
}

#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn norm<F: Float, N: Size>(
    x: &[Vector<F, N>],
    weight: &[Vector<F, N>],
    y: &mut [Vector<F, N>],
    width: usize,
    eps: f32,
    #[define(F)] _format: ElemType,
) {
    let start = CUBE_POS * width;
    let scale = Vector::<f32, N>::new(scale_of_row::<F, N>(x, start, width, eps));
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = Vector::<f32, N>::cast_from(x[start + at]);
        // Rounded before the weight, as transformers does.
        y[start + at] = Vector::<F, N>::cast_from(value * scale) * weight[at];
        at += CUBE_DIM as usize;
    }
}

/// The gradient by the input; the scale of each row goes to `scales`.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn norm_backward<F: Float, N: Size>(
    x: &[Vector<F, N>],
    weight: &[Vector<F, N>],
    dy: &[Vector<F, N>],
    dx: &mut [Vector<F, N>],
    scales: &mut [f32],
    width: usize,
    eps: f32,
    #[define(F)] _format: ElemType,
) {
    let start = CUBE_POS * width;
    let scale = scale_of_row::<F, N>(x, start, width, eps);
    let mut common = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = Vector::<f32, N>::cast_from(x[start + at]);
        let slope =
            Vector::<f32, N>::cast_from(dy[start + at]) * Vector::<f32, N>::cast_from(weight[at]);
        common += (value * slope).vector_sum();
        at += CUBE_DIM as usize;
    }
    let count = f32::cast_from(width * N::value());
    let common = sum_of_cube(common) * scale * scale / count;
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = Vector::<f32, N>::cast_from(x[start + at]);
        let slope =
            Vector::<f32, N>::cast_from(dy[start + at]) * Vector::<f32, N>::cast_from(weight[at]);
        let change = slope - value * Vector::<f32, N>::new(common);
        dx[start + at] = Vector::<F, N>::cast_from(change * Vector::<f32, N>::new(scale));
        at += CUBE_DIM as usize;
    }
    if UNIT_POS == 0 {
        scales[CUBE_POS] = scale;
    }
}

/// Sums over `rows` rows each of what they say about the weight: a unit for each column of a part.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn norm_weight_parts<F: Float, N: Size>(
    x: &[Vector<F, N>],
    dy: &[Vector<F, N>],
    scales: &[f32],
    parts: &mut [Vector<f32, N>],
    width: usize,
    rows: usize,
    all_rows: usize,
    #[define(F)] _format: ElemType,
) {
    let column = ABSOLUTE_POS_X as usize;
    let part = CUBE_POS_Y as usize;
    if column < width {
        let mut sum = Vector::<f32, N>::new(0.0f32);
        let first = part * rows;
        let end = min(first + rows, all_rows);
        for row in first..end {
            let at = row * width + column;
            let value = Vector::<f32, N>::cast_from(x[at]) * Vector::<f32, N>::new(scales[row]);
            // Rounded as the forward pass has rounded it.
            let value = Vector::<f32, N>::cast_from(Vector::<F, N>::cast_from(value));
            sum += value * Vector::<f32, N>::cast_from(dy[at]);
        }
        parts[part * width + column] = sum;
    }
}

/// The sum of two rows, and its norm.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn add_norm<F: Float, N: Size>(
    x: &[Vector<F, N>],
    y: &[Vector<F, N>],
    weight: &[Vector<F, N>],
    sums: &mut [Vector<F, N>],
    normed: &mut [Vector<F, N>],
    width: usize,
    eps: f32,
    #[define(F)] _format: ElemType,
) {
    let start = CUBE_POS * width;
    let mut squares = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < width {
        let sum = x[start + at] + y[start + at];
        sums[start + at] = sum;
        let value = Vector::<f32, N>::cast_from(sum);
        squares += (value * value).vector_sum();
        at += CUBE_DIM as usize;
    }
    let count = f32::cast_from(width * N::value());
    let scale = Vector::<f32, N>::new(1.0 / (sum_of_cube(squares) / count + eps).sqrt());
    let mut at = UNIT_POS as usize;
    while at < width {
        // What this unit has written itself.
        let value = Vector::<f32, N>::cast_from(sums[start + at]);
        normed[start + at] = Vector::<F, N>::cast_from(value * scale) * weight[at];
        at += CUBE_DIM as usize;
    }
}
