//! Launches that sum over rows or along one.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::super::kernels::{self, COLUMNS, SHARING, UNITS};
use super::{CUBE, cubes, dense, format, room, rows, vector};

/// Rows whose say about a weight is summed by one unit.
const PART: usize = 32;

/// `x weightᵀ` for a single row: a plane for each number of the result.
///
/// # Shapes
/// `x: [1, k]`, `weight: [n, k]`, both lying row by row; result `[1, n]`.
#[cfg(feature = "cuda")]
#[expect(unsafe_code, reason = "launches kernels without checks of bounds")]
pub(in crate::ops) fn row_product(x: CubeTensor, weight: CubeTensor) -> CubeTensor {
    let ((_, width), (count, _)) = (rows(&x), rows(&weight));
    let y = room(&x, [1, count], x.dtype);
    let (size, dtype) = (vector(x.dtype, width), x.dtype);
    let plane = y.client.properties().hardware.plane_size_min;
    // SAFETY: a row of `weight` is as long as `x`, `y` has a number for each.
    unsafe {
        kernels::row_product::launch_unchecked(
            &y.client,
            cubes(count.div_ceil((UNITS / plane) as usize)),
            CUBE,
            size,
            x.into_buffer_arg(),
            weight.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            width / size,
            count,
            format(dtype),
        );
    }
    y
}

/// The cubes of [`kernels::sum_of_rows`].
pub(super) const SUMMING: CubeDim = CubeDim::new_1d((COLUMNS * SHARING) as u32);

/// Rows of a part and how many parts there are: a grid has at most 65,535 of them.
pub(super) fn parts_of(count: usize) -> (usize, usize) {
    let rows = PART.max(count.div_ceil(65_535));
    (rows, count.div_ceil(rows))
}

/// Sums of columns, by parts of some rows and then of these.
#[expect(unsafe_code, reason = "launches kernels without checks of bounds")]
pub(super) fn sum_of_columns(x: CubeTensor) -> CubeTensor {
    let x = dense(x);
    let (count, width) = rows(&x);
    let (size, dtype) = (vector(x.dtype, width), x.dtype);
    let sums = room(&x, [width], dtype);
    let (part, parts) = parts_of(count);
    let of_parts = room(&x, [parts, width], DType::F32);
    let width = width / size;
    let across = (width as u32).div_ceil(UNITS);
    // SAFETY: `of_parts` has a row for each part of `x`, `sums` is a row.
    unsafe {
        if count > 0 {
            kernels::parts_of_rows::launch_unchecked(
                &sums.client,
                CubeCount::Static(across, parts as u32, 1),
                CUBE,
                size,
                x.into_buffer_arg(),
                of_parts.clone().into_buffer_arg(),
                width,
                part,
                count,
                format(dtype),
            );
        }
        kernels::sum_of_rows::launch_unchecked(
            &sums.client,
            cubes(width.div_ceil(COLUMNS)),
            SUMMING,
            size,
            of_parts.into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            width,
            parts,
            format(dtype),
        );
    }
    sums
}
