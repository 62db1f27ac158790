//! Launches over the cache's keys and values.

use burn::backend::TensorMetadata as _;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::features::MmaConfig;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

use super::super::kernels::{self, HEADS, LANES, PLANES};
use super::super::writing::Found;
use super::super::{Layout, WritingKernels};
use super::{CUBE, dense, format, own, room, rows, units, vector};

/// Cubes that are wanted for all texts together: a few for each multiprocessor, so that the last ones do not
/// run alone.
const CUBES: usize = 1024;

/// Fewest and most cubes of a text's head: texts differ in length, and parts have to be joined.
const SPLITS: [usize; 2] = [4, 64];

/// The logarithm of e to the base 2: kernels compute powers of 2.
const LOG2_E: f64 = std::f64::consts::LOG2_E;

/// Cubes for each head of a text: of the number of rows alone, never of their lengths.
fn splits(rows: usize, heads: usize) -> usize {
    CUBES
        .div_ceil(rows * heads)
        .next_power_of_two()
        .clamp(SPLITS[0], SPLITS[1])
}

/// Whether a card multiplies 16 x 16 by 16 x 8 numbers of bf16 in registers.
fn multiplies(x: &CubeTensor) -> bool {
    let float = ElemType::Float;
    let product = MmaConfig {
        a_type: float(FloatKind::BF16),
        b_type: float(FloatKind::BF16),
        cd_type: float(FloatKind::F32),
        m: 16,
        n: 8,
        k: 16,
    };
    x.client.properties().features.matmul.mma.contains(&product)
}

fn numbers(x: CubeTensor, count: usize) -> CubeTensor {
    assert_eq!(x.dtype, DType::I32, "integers as the toolkit makes them");
    assert_eq!(x.shape().num_elements(), count, "a number for each row");
    dense(x)
}

#[expect(unsafe_code, reason = "launches kernels without checks of bounds")]
impl WritingKernels for CubeBackend {
    fn write_heads(
        x: CubeTensor,
        bias: CubeTensor,
        cos: CubeTensor,
        sin: CubeTensor,
        keys: CubeTensor,
        values: CubeTensor,
        slots: CubeTensor,
        positions: CubeTensor,
        layout: Layout,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [x, bias, cos, sin] = [x, bias, cos, sin].map(dense);
        let (keys, values) = (own(keys), own(values));
        let Layout { heads, places, dim } = layout;
        let (count, width) = rows(&x);
        let (slots, positions) = (numbers(slots, count), numbers(positions, count));
        let queries = width / dim - 2 * heads;
        let (size, dtype) = (vector(DType::F32, dim / 2), x.dtype);
        let q = room(&x, [count, queries * dim], dtype);
        let half = dim / 2 / size;
        let count = count * width / 2 / size;
        if count > 0 {
            // SAFETY: a row of `x` and `bias` are `queries + 2 heads` heads of `dim` numbers, of the queries as
            // many as they are; the tables have a head for each row, and the cache has opened the slots
            // and reserved the positions.
            unsafe {
                kernels::write_heads::launch_unchecked(
                    &q.client,
                    units(count),
                    CUBE,
                    size,
                    x.into_buffer_arg(),
                    bias.into_buffer_arg(),
                    cos.into_buffer_arg(),
                    sin.into_buffer_arg(),
                    slots.into_buffer_arg(),
                    positions.into_buffer_arg(),
                    q.clone().into_buffer_arg(),
                    keys.clone().into_buffer_arg(),
                    values.clone().into_buffer_arg(),
                    half,
                    queries,
                    heads,
                    places,
                    count,
                    format(dtype),
                );
            }
        }
        (q, keys, values)
    }

    fn attend_texts(
        q: CubeTensor,
        keys: CubeTensor,
        values: CubeTensor,
        slots: CubeTensor,
        positions: CubeTensor,
        layout: Layout,
    ) -> CubeTensor {
        let [q, keys, values] = [q, keys, values].map(dense);
        let Layout { heads, places, dim } = layout;
        let (count, width) = rows(&q);
        let (slots, positions) = (numbers(slots, count), numbers(positions, count));
        let group = width / dim / heads;
        let splits = splits(count, heads);
        let dtype = q.dtype;
        let y = room(&q, q.shape(), dtype);
        if count == 0 {
            return y;
        }
        let parts = room(&q, [count * heads * splits * group, dim], DType::F32);
        let stats = room(&q, [count * heads * splits * group, 2], DType::F32);
        let grid = [splits, heads * group.div_ceil(HEADS), count];
        let grid = grid.map(|cubes| u32::try_from(cubes).expect("fewer than 2^32 cubes"));
        let grid = CubeCount::Static(grid[0], grid[1], grid[2]);
        let cube = CubeDim::new_1d((PLANES * LANES) as u32);
        let scale = (LOG2_E / (dim as f64).sqrt()) as f32;
        let client = y.client.clone();
        // SAFETY: `q` has `group` heads of `dim` numbers for each of `heads`, the cache's tensors `places` of
        // them for each of a slot's heads; slots and positions are the cache's. `parts` and `stats` have
        // room for what each cube writes.
        unsafe {
            if dtype == DType::BF16 && dim.is_multiple_of(64) && dim <= 256 && multiplies(&q) {
                kernels::attend_tiles::launch_unchecked(
                    &client,
                    grid,
                    cube,
                    4,
                    q.into_buffer_arg(),
                    keys.into_buffer_arg(),
                    values.into_buffer_arg(),
                    slots.clone().into_buffer_arg(),
                    positions.clone().into_buffer_arg(),
                    parts.clone().into_buffer_arg(),
                    stats.clone().into_buffer_arg(),
                    heads,
                    group,
                    places,
                    splits,
                    scale,
                    dim,
                );
            } else {
                let size = vector(DType::F32, dim);
                kernels::attend_places::launch_unchecked(
                    &client,
                    grid,
                    cube,
                    size,
                    size,
                    q.into_buffer_arg(),
                    keys.into_buffer_arg(),
                    values.into_buffer_arg(),
                    slots.clone().into_buffer_arg(),
                    positions.clone().into_buffer_arg(),
                    parts.clone().into_buffer_arg(),
                    stats.clone().into_buffer_arg(),
                    heads,
                    group,
                    places,
                    splits,
                    scale,
                    dim,
                    (dim / size).div_ceil(LANES),
                    format(dtype),
                );
            }
            let size = vector(DType::F32, dim);
            let width = dim / size;
            kernels::join_parts::launch_unchecked(
                &client,
                CubeCount::Static((heads * group) as u32, count as u32, 1),
                cube,
                size,
                parts.into_buffer_arg(),
                stats.into_buffer_arg(),
                slots.into_buffer_arg(),
                positions.into_buffer_arg(),
                y.clone().into_buffer_arg(),
                group,
                splits,
                width,
                PLANES * LANES / width,
                format(dtype),
            );
        }
        y
    }

    fn locate(x: CubeTensor, found: Found) -> CubeTensor {
        #[cfg(feature = "cuda")]
        crate::ops::product::cublas::locate(&x, found);
        #[cfg(not(feature = "cuda"))]
        let _ = found;
        x
    }
}
