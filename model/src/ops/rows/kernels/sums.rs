//! Sums of columns and of squares, the place of the largest, and the product of a row.

use cubecl::prelude::*;

use super::cube::{PLANES, max_of_cube, sum_of_cube};

/// Sums over `rows` rows each: a unit for each column of a part.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn parts_of_rows<F: Float, N: Size>(
    x: &[Vector<F, N>],
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
            sum += Vector::<f32, N>::cast_from(x[row * width + column]);
        }
        parts[part * width + column] = sum;
    }
}

/// Columns of [`sum_of_rows`] that a cube sees to.
pub(in crate::ops::rows) const COLUMNS: usize = 32;

/// Units that share a column's rows there.
pub(in crate::ops::rows) const SHARING: usize = 16;

/// The sum of `rows` rows: a cube for [`COLUMNS`] columns, whose rows are added up by [`SHARING`] units each.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn sum_of_rows<F: Float, N: Size>(
    parts: &[Vector<f32, N>],
    sums: &mut [Vector<F, N>],
    width: usize,
    rows: usize,
    #[define(F)] _format: ElemType,
) {
    let lane = UNIT_POS as usize % COLUMNS;
    let share = UNIT_POS as usize / COLUMNS;
    let column = CUBE_POS * COLUMNS + lane;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    if column < width {
        let mut row = share;
        while row < rows {
            sum += parts[row * width + column];
            row += SHARING;
        }
    }
    let mut all = Shared::<[Vector<f32, N>]>::new_slice(COLUMNS * SHARING);
    all[UNIT_POS as usize] = sum;
    sync_cube();
    if share == 0 && column < width {
        let mut total = all[lane];
        for other in 1..SHARING {
            total += all[other * COLUMNS + lane];
        }
        sums[column] = Vector::<F, N>::cast_from(total);
    }
}

/// The sum of the squares of `width` vectors, a cube for each such stretch; the last may be shorter.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn squares<F: Float, N: Size>(
    x: &[Vector<F, N>],
    sums: &mut [f32],
    width: usize,
    count: usize,
    #[define(F)] _format: ElemType,
) {
    let start = CUBE_POS * width;
    let end = min(start + width, count);
    let mut sum = 0.0f32;
    let mut at = start + UNIT_POS as usize;
    while at < end {
        let value = Vector::<f32, N>::cast_from(x[at]);
        sum += (value * value).vector_sum();
        at += CUBE_DIM as usize;
    }
    let sum = sum_of_cube(sum);
    if UNIT_POS == 0 {
        sums[CUBE_POS] = sum;
    }
}

/// Where the largest number of each row is; of equal ones the first.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn largest<F: Float, N: Size>(
    x: &[Vector<F, N>],
    places: &mut [i32],
    width: usize,
    #[define(F)] _format: ElemType,
) {
    let start = CUBE_POS * width;
    let mut best = f32::new(-3e38);
    let mut place = 0u32;
    let mut at = UNIT_POS as usize;
    while at < width {
        let value = Vector::<f32, N>::cast_from(x[start + at]);
        #[unroll]
        for i in 0..N::value().comptime() {
            if value.extract(i) > best {
                best = value.extract(i);
                place = (at * N::value() + i) as u32;
            }
        }
        at += CUBE_DIM as usize;
    }
    if best != max_of_cube(best) {
        place = u32::MAX;
    }
    let mut all = Shared::<[u32]>::new_slice(PLANES);
    let first = plane_min(place);
    if UNIT_POS_PLANE == 0 {
        all[(UNIT_POS / PLANE_DIM) as usize] = first;
    }
    sync_cube();
    if UNIT_POS == 0 {
        let mut found = all[0];
        for plane in 1..CUBE_DIM / PLANE_DIM {
            found = min(found, all[plane as usize]);
        }
        places[CUBE_POS] = found as i32;
    }
}

/// The products of a row with each row of `weight`, a plane for each: read once, four vectors under way.
#[cfg(feature = "cuda")]
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn row_product<F: Float, N: Size>(
    x: &[Vector<F, N>],
    weight: &[Vector<F, N>],
    y: &mut [F],
    width: usize,
    count: usize,
    #[define(F)] _format: ElemType,
) {
    let row = CUBE_POS * (CUBE_DIM / PLANE_DIM) as usize + (UNIT_POS / PLANE_DIM) as usize;
    if row < count {
        let (start, step) = (row * width, PLANE_DIM as usize);
        let mut sum = Vector::<f32, N>::new(0.0f32);
        let mut at = UNIT_POS_PLANE as usize;
        while at + 3 * step < width {
            let mut four = Array::<Vector<F, N>>::new(4usize);
            #[unroll]
            for i in 0..4 {
                four[i] = weight[start + at + i * step];
            }
            #[unroll]
            for i in 0..4 {
                sum += Vector::<f32, N>::cast_from(four[i])
                    * Vector::<f32, N>::cast_from(x[at + i * step]);
            }
            at += 4 * step;
        }
        while at < width {
            sum += Vector::<f32, N>::cast_from(weight[start + at])
                * Vector::<f32, N>::cast_from(x[at]);
            at += step;
        }
        let total = plane_sum(sum.vector_sum());
        if UNIT_POS_PLANE == 0 {
            y[row] = F::cast_from(total);
        }
    }
}
