//! Launches of the kernels on a card's tensors.

mod attention;
mod dropout;
mod scores;
mod shortlists;
mod sums;
mod updates;

use burn::backend::TensorMetadata as _;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_std::Shape as Sizes;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

#[cfg(feature = "cuda")]
pub(in crate::ops) use self::sums::row_product;
use self::sums::{SUMMING, parts_of, sum_of_columns};
use super::kernels::{self, COLUMNS, UNITS};
use super::{RowKernels, STRETCH};

/// Bytes that a unit reads at once.
const BYTES: usize = 16;

/// A tensor that lies row by row.
fn dense(x: CubeTensor) -> CubeTensor {
    into_contiguous(x)
}

/// The tensor itself, row by row, where nothing else holds its memory, else a copy that lies so.
pub(in crate::ops) fn own(x: CubeTensor) -> CubeTensor {
    let x = dense(x);
    if x.can_mut() {
        return x;
    }
    // As one row: Burn pads each row of a copy to a width that suits the card.
    let (shape, dtype) = (x.shape(), x.dtype);
    let row = CubeTensor::new_contiguous(
        x.client,
        x.device,
        Shape::new([shape.num_elements()]),
        x.handle,
        dtype,
    );
    let copy = row.copy();
    CubeTensor::new_contiguous(copy.client, copy.device, shape, copy.handle, dtype)
}

/// Room like a tensor's, in another shape and format.
fn room(like: &CubeTensor, shape: impl Into<Sizes>, dtype: DType) -> CubeTensor {
    let shape: Shape = shape.into();
    let handle = like.client.empty(shape.num_elements() * dtype.size());
    CubeTensor::new_contiguous(
        like.client.clone(),
        like.device.clone(),
        shape,
        handle,
        dtype,
    )
}

fn format(dtype: DType) -> ElemType {
    burn::backend::cubecl::dtype_to_storage_type(dtype)
}

/// Elements that a unit reads at once of rows of this width.
fn vector(dtype: DType, width: usize) -> usize {
    let most = BYTES / dtype.size();
    (0..=most.ilog2())
        .rev()
        .map(|power| 1 << power)
        .find(|size| width.is_multiple_of(*size))
        .unwrap_or(1)
}

/// Units for a row of so many vectors: all of a cube where rows are few and each is waited for; fewer where
/// there are many, so that more rows are under way at a time.
fn units_of_row(rows: usize, width: usize) -> u32 {
    match (rows, width) {
        (0..MANY, _) => UNITS,
        (_, 0..=256) => UNITS / 4,
        (_, 0..=1024) => UNITS / 2,
        _ => UNITS,
    }
}

/// Rows that fill a card.
const MANY: usize = 2048;

/// Vectors that each of some units keeps of a row of so many; 0 if they are too many for its registers. Powers
/// of two, so that few kernels are compiled.
fn held(units: u32, width: usize) -> usize {
    match width.div_ceil(units as usize).next_power_of_two() {
        held if held <= 8 => held,
        _ => 0,
    }
}

/// Rows and their width.
fn rows(x: &CubeTensor) -> (usize, usize) {
    let shape = x.shape();
    let width = shape[shape.num_dims() - 1];
    let count = shape.num_elements();
    assert!(
        u32::try_from(count).is_ok(),
        "kernels count to 2^32, a tensor has {count} numbers"
    );
    (count / width.max(1), width)
}

fn cubes(count: usize) -> CubeCount {
    CubeCount::Static(count as u32, 1, 1)
}

/// Cubes for a unit each of `count`.
fn units(count: usize) -> CubeCount {
    cubes(count.div_ceil(UNITS as usize))
}

const CUBE: CubeDim = CubeDim::new_1d(UNITS);

/// A cube for each row.
fn row_cube(rows: usize, width: usize) -> CubeDim {
    CubeDim::new_1d(units_of_row(rows, width))
}

#[expect(unsafe_code, reason = "launches kernels without checks of bounds")]
impl RowKernels for CubeBackend {
    fn norm_rows(x: CubeTensor, weight: CubeTensor, eps: f64) -> CubeTensor {
        let (x, weight) = (dense(x), dense(weight));
        let (count, width) = rows(&x);
        let y = room(&x, x.shape(), x.dtype);
        let (size, dtype) = (vector(x.dtype, width), x.dtype);
        if count > 0 {
            // SAFETY: `weight` is a row, `y` lies as `x`.
            unsafe {
                kernels::norm::launch_unchecked(
                    &y.client,
                    cubes(count),
                    row_cube(count, width / size),
                    size,
                    x.into_buffer_arg(),
                    weight.into_buffer_arg(),
                    y.clone().into_buffer_arg(),
                    width / size,
                    eps as f32,
                    format(dtype),
                );
            }
        }
        y
    }

    fn norm_rows_backward(
        x: CubeTensor,
        weight: CubeTensor,
        dy: CubeTensor,
        eps: f64,
    ) -> (CubeTensor, CubeTensor) {
        let [x, weight, dy] = [x, weight, dy].map(dense);
        let (count, width) = rows(&x);
        let (size, dtype) = (vector(x.dtype, width), x.dtype);
        let dx = room(&x, x.shape(), dtype);
        let scales = room(&x, [count], DType::F32);
        let d_weight = room(&x, [width], dtype);
        let (part, parts) = parts_of(count);
        let sums = room(&x, [parts, width], DType::F32);
        let width = width / size;
        let across = (width as u32).div_ceil(UNITS);
        // SAFETY: `weight` is a row, `dy` and `dx` lie as `x`, `scales` has a number for each row, `sums` a
        // row for each part.
        unsafe {
            if count > 0 {
                kernels::norm_backward::launch_unchecked(
                    &dx.client,
                    cubes(count),
                    row_cube(count, width),
                    size,
                    x.clone().into_buffer_arg(),
                    weight.into_buffer_arg(),
                    dy.clone().into_buffer_arg(),
                    dx.clone().into_buffer_arg(),
                    scales.clone().into_buffer_arg(),
                    width,
                    eps as f32,
                    format(dtype),
                );
                kernels::norm_weight_parts::launch_unchecked(
                    &dx.client,
                    CubeCount::Static(across, parts as u32, 1),
                    CUBE,
                    size,
                    x.into_buffer_arg(),
                    dy.into_buffer_arg(),
                    scales.into_buffer_arg(),
                    sums.clone().into_buffer_arg(),
                    width,
                    part,
                    count,
                    format(dtype),
                );
            }
            kernels::sum_of_rows::launch_unchecked(
                &dx.client,
                cubes(width.div_ceil(COLUMNS)),
                SUMMING,
                size,
                sums.into_buffer_arg(),
                d_weight.clone().into_buffer_arg(),
                width,
                parts,
                format(dtype),
            );
        }
        (dx, d_weight)
    }

    fn turn_rows(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, back: bool) -> CubeTensor {
        let [x, cos, sin] = [x, cos, sin].map(dense);
        let ((count, width), (_, dim)) = (rows(&x), rows(&cos));
        let y = room(&x, x.shape(), x.dtype);
        let (size, dtype) = (vector(DType::F32, dim / 2), x.dtype);
        let half = dim / 2 / size;
        let count = count * width / 2 / size;
        if count > 0 {
            // SAFETY: a row of `x` is heads of `dim` numbers, a row of the tables one, for each row of
            // `x`; `y` lies as `x`.
            unsafe {
                kernels::turn::launch_unchecked(
                    &y.client,
                    units(count),
                    CUBE,
                    size,
                    x.into_buffer_arg(),
                    cos.into_buffer_arg(),
                    sin.into_buffer_arg(),
                    y.clone().into_buffer_arg(),
                    half,
                    width / dim,
                    count,
                    back,
                    format(dtype),
                );
            }
        }
        y
    }

    fn gate_rows(gate: CubeTensor, up: CubeTensor) -> CubeTensor {
        let (gate, up) = (dense(gate), dense(up));
        let (count, width) = rows(&gate);
        let y = room(&gate, gate.shape(), gate.dtype);
        let (size, dtype) = (vector(gate.dtype, width), gate.dtype);
        let count = count * width / size;
        if count > 0 {
            // SAFETY: all three lie alike.
            unsafe {
                kernels::gate::launch_unchecked(
                    &y.client,
                    units(count),
                    CUBE,
                    size,
                    gate.into_buffer_arg(),
                    up.into_buffer_arg(),
                    y.clone().into_buffer_arg(),
                    count,
                    format(dtype),
                );
            }
        }
        y
    }

    fn gate_rows_backward(
        gate: CubeTensor,
        up: CubeTensor,
        dy: CubeTensor,
    ) -> (CubeTensor, CubeTensor) {
        let [gate, up, dy] = [gate, up, dy].map(dense);
        let (count, width) = rows(&gate);
        let (size, dtype) = (vector(gate.dtype, width), gate.dtype);
        let d_gate = room(&gate, gate.shape(), dtype);
        let d_up = room(&gate, gate.shape(), dtype);
        let count = count * width / size;
        if count > 0 {
            // SAFETY: all five lie alike.
            unsafe {
                kernels::gate_backward::launch_unchecked(
                    &d_up.client,
                    units(count),
                    CUBE,
                    size,
                    gate.into_buffer_arg(),
                    up.into_buffer_arg(),
                    dy.into_buffer_arg(),
                    d_gate.clone().into_buffer_arg(),
                    d_up.clone().into_buffer_arg(),
                    count,
                    format(dtype),
                );
            }
        }
        (d_gate, d_up)
    }

    fn add_norm_rows(
        x: CubeTensor,
        y: CubeTensor,
        weight: CubeTensor,
        eps: f64,
    ) -> (CubeTensor, CubeTensor) {
        let [x, y, weight] = [x, y, weight].map(dense);
        let (count, width) = rows(&x);
        let (size, dtype) = (vector(x.dtype, width), x.dtype);
        let sums = room(&x, x.shape(), dtype);
        let normed = room(&x, x.shape(), dtype);
        if count > 0 {
            // SAFETY: `weight` is a row, the others lie alike.
            unsafe {
                kernels::add_norm::launch_unchecked(
                    &sums.client,
                    cubes(count),
                    row_cube(count, width / size),
                    size,
                    x.into_buffer_arg(),
                    y.into_buffer_arg(),
                    weight.into_buffer_arg(),
                    sums.clone().into_buffer_arg(),
                    normed.clone().into_buffer_arg(),
                    width / size,
                    eps as f32,
                    format(dtype),
                );
            }
        }
        (sums, normed)
    }

    fn gate_both_rows(both: CubeTensor) -> CubeTensor {
        let both = dense(both);
        let (count, width) = rows(&both);
        let width = width / 2;
        let (size, dtype) = (vector(both.dtype, width), both.dtype);
        let y = room(&both, [count, width], dtype);
        let width = width / size;
        let count = count * width;
        if count > 0 {
            // SAFETY: a row of `y` is half one of `both`.
            unsafe {
                kernels::gate_both::launch_unchecked(
                    &y.client,
                    units(count),
                    CUBE,
                    size,
                    both.into_buffer_arg(),
                    y.clone().into_buffer_arg(),
                    width,
                    count,
                    format(dtype),
                );
            }
        }
        y
    }

    fn sum_rows(x: CubeTensor) -> CubeTensor {
        sum_of_columns(x)
    }

    fn squares(x: CubeTensor) -> CubeTensor {
        let x = dense(x);
        let (_, count) = rows(&x);
        let (size, dtype) = (vector(x.dtype, count), x.dtype);
        let sums = room(&x, super::stretches(&x.shape()), DType::F32);
        if count > 0 {
            // SAFETY: `sums` has a number for each stretch of `x`.
            unsafe {
                kernels::squares::launch_unchecked(
                    &sums.client,
                    cubes(count.div_ceil(STRETCH)),
                    CUBE,
                    size,
                    x.into_buffer_arg(),
                    sums.clone().into_buffer_arg(),
                    STRETCH / size,
                    count / size,
                    format(dtype),
                );
            }
        }
        sums
    }

    fn largest(x: CubeTensor) -> CubeTensor {
        let x = dense(x);
        let (count, width) = rows(&x);
        let (size, dtype) = (vector(x.dtype, width), x.dtype);
        let places = room(&x, [count], DType::I32);
        if count > 0 {
            // SAFETY: `places` has a number for each row of `x`.
            unsafe {
                kernels::largest::launch_unchecked(
                    &places.client,
                    cubes(count),
                    CUBE,
                    size,
                    x.into_buffer_arg(),
                    places.clone().into_buffer_arg(),
                    width / size,
                    format(dtype),
                );
            }
        }
        places
    }
}
