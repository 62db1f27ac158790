//! Matrix products on tiles, with the right operand packed into panels of 16 columns.
//!
//! An element is the start and the sums of each 256 inner indices (see `tile`), added one after the
//! other, which is nearer to the truth than one chain over all of them. Its bits depend on its row of the
//! left operand and its column of the right one alone: neither on the number of rows or columns, nor
//! on how the work was split.

use std::ops::Range;

use rayon::prelude::*;

use super::panels::{Matrix, Panels, Passing};
use super::tile::{LANES, MAX_ROWS, MOST_ROWS, Operands, PANEL, max_rows, max_vectors, tile};
use super::{Vectors, vectors};

/// Inner indices handled at once: a panel of the right operand (16 KB) stays in the first cache. Also
/// the length of the chains that a sum is made of.
const INNER_BLOCK: usize = 256;
/// Rows handled at once: their part of the left operand stays in the second cache.
const ROW_BLOCK: usize = 96;
/// Tokens of which a right operand is packed at once for a gradient by weights: bounds the memory.
const TOKENS_PACKED: usize = 2048;
/// Panels that a block of the left operand must meet for packing it to pay.
const PANELS_WORTH_PACKING: usize = 8;
/// Tiles up to which the left operand stays in the cache whole: the right operand is better read
/// panel by panel in one go.
const FEW_TILES: usize = 2;
/// Multiply-adds below which splitting over threads costs more than it saves.
const PARALLEL_WORK: usize = 1 << 18;

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'a> {
    /// Nothing: the result is the product.
    Zero,
    /// What the result holds already.
    Current,
    /// One row, added to every row.
    Bias(&'a [f32]),
    /// Rows laid out as those of the result.
    Rows(&'a [f32]),
}

impl Start<'_> {
    /// The start of the result's rows from `first` on.
    fn at_row(self, first: usize, c_row: usize) -> Self {
        match self {
            Self::Rows(rows) => Self::Rows(&rows[first * c_row..]),
            other => other,
        }
    }
}

/// `c = start + a b` on one thread; `c` has rows of `c_row` elements, of which the first
/// `b.cols()` are written.
pub(crate) fn product(a: Matrix<'_>, b: &Panels, c: &mut [f32], c_row: usize, start: Start<'_>) {
    panel_range(a, b, 0..b.panels(), c, c_row, start);
}

/// As [`product`], on all threads of the pool.
pub(crate) fn product_parallel(
    a: Matrix<'_>,
    b: &Panels,
    c: &mut [f32],
    c_row: usize,
    start: Start<'_>,
) {
    let threads = rayon::current_num_threads();
    if threads == 1 || a.rows * b.cols * b.inner < PARALLEL_WORK {
        return product(a, b, c, c_row, start);
    }
    if a.rows >= 8 * MAX_ROWS {
        let rows = a
            .rows
            .div_ceil(4 * threads)
            .next_multiple_of(max_rows(vectors()))
            .min(ROW_BLOCK);
        c.par_chunks_mut(rows * c_row)
            .enumerate()
            .for_each(|(chunk, c)| {
                let first = chunk * rows;
                if first < a.rows {
                    let a = a.row_range(first, rows.min(a.rows - first));
                    product(a, b, c, c_row, start.at_row(first, c_row));
                }
            });
        return;
    }
    // Few rows: each thread takes a range of columns and the parts are put together afterwards.
    let per_part = b.panels().div_ceil(2 * threads);
    column_parts(b.cols, per_part, |col, width| {
        let mut part = vec![0.0; a.rows * width];
        for (r, part) in part.chunks_exact_mut(width).enumerate() {
            match start {
                Start::Zero => {}
                Start::Current => part.copy_from_slice(&c[r * c_row + col..][..width]),
                Start::Bias(bias) => part.copy_from_slice(&bias[col..][..width]),
                Start::Rows(rows) => part.copy_from_slice(&rows[r * c_row + col..][..width]),
            }
        }
        let first = col / PANEL;
        let panels = first..first + width.div_ceil(PANEL);
        panel_range(a, b, panels, &mut part, width, Start::Current);
        part
    })
    .into_iter()
    .for_each(|(col, width, part)| {
        for (r, part) in part.chunks_exact(width).enumerate() {
            c[r * c_row + col..][..width].copy_from_slice(part);
        }
    });
}

/// `c = aᵀ b` (or `+=` with [`Start::Current`]) for `a: [T, M]`, `b: [T, N]`, `c: [M, N]` dense,
/// on all threads: the form of weight gradients.
pub(crate) fn product_transposed_left(
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: &mut [f32],
    start: Start<'_>,
) {
    assert_eq!(a.rows, b.rows, "both operands have one row per token");
    let (rows, cols) = (a.cols, b.cols);
    assert_eq!(
        c.len(),
        rows * cols,
        "the result has one element per pair of columns"
    );
    if a.rows == 0 && matches!(start, Start::Zero) {
        c.fill(0.0);
    }
    let mut start = start;
    for first in (0..a.rows).step_by(TOKENS_PACKED) {
        let count = TOKENS_PACKED.min(a.rows - first);
        let panels = Passing::pack(b.row_range(first, count));
        let left = a.row_range(first, count).transposed();
        product_parallel(left, &panels, c, cols, start);
        start = Start::Current;
    }
}

/// Computes parts of `per_part` panels of columns in parallel: first column, width and result.
fn column_parts(
    cols: usize,
    per_part: usize,
    part: impl Fn(usize, usize) -> Vec<f32> + Sync,
) -> Vec<(usize, usize, Vec<f32>)> {
    let step = per_part * PANEL;
    (0..cols.div_ceil(step))
        .into_par_iter()
        .map(|index| {
            let col = index * step;
            let width = step.min(cols - col);
            (col, width, part(col, width))
        })
        .collect()
}

/// The product with a range of panels of `b`; the first of them is written to column 0 of `c`.
fn panel_range(
    a: Matrix<'_>,
    b: &Panels,
    range: Range<usize>,
    c: &mut [f32],
    c_row: usize,
    start: Start<'_>,
) {
    assert_eq!(a.cols, b.inner, "inner dimensions must agree");
    let cols = (range.end * PANEL).min(b.cols) - (range.start * PANEL).min(b.cols);
    if a.rows == 0 || cols == 0 {
        return;
    }
    assert!(
        a.reach() <= a.data.len(),
        "the left operand must lie inside its slice"
    );
    assert!(
        cols <= c_row && (a.rows - 1) * c_row + cols <= c.len(),
        "the result must have room"
    );
    match start {
        Start::Zero | Start::Current => {}
        Start::Bias(bias) => assert!(bias.len() >= cols, "one bias per column"),
        Start::Rows(rows) => assert!(
            rows.len() >= (a.rows - 1) * c_row + cols,
            "rows to start from"
        ),
    }
    let few = a.rows <= FEW_TILES * max_rows(vectors());
    let inner_block = if few { b.inner.max(1) } else { INNER_BLOCK };
    let mut packed = Vec::new();
    for inner in (0..b.inner.max(1)).step_by(inner_block) {
        let count = inner_block.min(b.inner - inner);
        for row in (0..a.rows).step_by(ROW_BLOCK) {
            let rows = ROW_BLOCK.min(a.rows - row);
            let part = a.row_range(row, rows).col_range(inner, count);
            let left = match !few && range.len() >= PANELS_WORTH_PACKING {
                true => Left::Packed(pack(part, &mut packed)),
                false => Left::Plain(part),
            };
            let start = if inner > 0 {
                Start::Current
            } else {
                start.at_row(row, c_row)
            };
            block_product(
                left,
                b,
                (range.clone(), inner),
                &mut c[row * c_row..],
                c_row,
                start,
            );
        }
    }
}

/// A block of the left operand.
#[derive(Clone, Copy)]
enum Left<'a> {
    /// As it lies.
    Plain(Matrix<'a>),
    /// Tile after tile; in each, the rows of an inner index lie side by side.
    Packed(Packed<'a>),
}

/// See [`Left::Packed`].
#[derive(Clone, Copy)]
struct Packed<'a> {
    data: &'a [f32],
    rows: usize,
    inner: usize,
}

impl Left<'_> {
    fn sizes(self) -> (usize, usize) {
        match self {
            Self::Plain(part) => (part.rows, part.cols),
            Self::Packed(part) => (part.rows, part.inner),
        }
    }

    /// Where `rows` rows from `row` on begin at inner index `inner`, and their strides.
    fn at(self, row: usize, rows: usize, inner: usize) -> (*const f32, usize, usize) {
        match self {
            Self::Plain(part) => {
                let at = row * part.row_stride + inner * part.col_stride;
                (part.data[at..].as_ptr(), part.row_stride, part.col_stride)
            }
            Self::Packed(part) => {
                let at = row * part.inner + inner * rows;
                (part.data[at..].as_ptr(), 1, rows)
            }
        }
    }
}

/// The heights of the tiles that share `rows` rows: how many there are, their height, and how many
/// of them are one row taller.
fn heights(rows: usize) -> (usize, usize, usize) {
    let tiles = rows.div_ceil(max_rows(vectors()));
    (tiles, rows / tiles, rows % tiles)
}

/// Packs a block of the left operand for its tiles.
fn pack<'a>(part: Matrix<'_>, packed: &'a mut Vec<f32>) -> Packed<'a> {
    packed.clear();
    packed.resize(part.rows * part.cols, 0.0);
    let (tiles, height, taller) = heights(part.rows);
    let (mut row, mut rest) = (0, packed.as_mut_slice());
    for t in 0..tiles {
        let rows = height + usize::from(t < taller);
        let (tile, behind) = rest.split_at_mut(rows * part.cols);
        rest = behind;
        let part = part.row_range(row, rows);
        match rows {
            _ if part.row_stride == 1 => {
                for (k, to) in tile.chunks_exact_mut(rows).enumerate() {
                    to.copy_from_slice(&part.data[k * part.col_stride..][..rows]);
                }
            }
            12 => pack_tile::<12>(part, tile),
            11 => pack_tile::<11>(part, tile),
            10 => pack_tile::<10>(part, tile),
            9 => pack_tile::<9>(part, tile),
            8 => pack_tile::<8>(part, tile),
            7 => pack_tile::<7>(part, tile),
            6 => pack_tile::<6>(part, tile),
            5 => pack_tile::<5>(part, tile),
            4 => pack_tile::<4>(part, tile),
            3 => pack_tile::<3>(part, tile),
            2 => pack_tile::<2>(part, tile),
            _ => pack_tile::<1>(part, tile),
        }
        row += rows;
    }
    Packed {
        data: packed,
        rows: part.rows,
        inner: part.cols,
    }
}

/// Packs the rows of one tile.
fn pack_tile<const ROWS: usize>(part: Matrix<'_>, tile: &mut [f32]) {
    let rows: [&[f32]; ROWS] = std::array::from_fn(|r| &part.data[r * part.row_stride..]);
    for (k, to) in tile.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
        for (to, row) in to.iter_mut().zip(rows) {
            *to = row[k * part.col_stride];
        }
    }
}

/// The product of a block of the left operand with inner indices `inner ..` of some panels.
#[expect(
    unsafe_code,
    reason = "calls the vector tile on addresses checked by `panel_range`"
)]
fn block_product(
    a: Left<'_>,
    b: &Panels,
    (range, inner): (Range<usize>, usize),
    c: &mut [f32],
    c_row: usize,
    start: Start<'_>,
) {
    let wide = vectors();
    let (all_rows, all_inner) = a.sizes();
    let (tiles, height, taller) = heights(all_rows);
    let group = max_vectors(height + usize::from(taller > 0), wide).div_ceil(2);
    let b_panel = b.inner * PANEL;
    let mut panel = range.start;
    while panel < range.end {
        let col = (panel - range.start) * PANEL;
        let whole = (b.cols / PANEL).min(range.end).saturating_sub(panel);
        // A group of 1, 2 or 4 whole panels, or the last, partly filled one.
        let taken = [4, 2, 1]
            .into_iter()
            .find(|n| *n <= group && *n <= whole)
            .unwrap_or(0);
        let width = if taken == 0 {
            b.cols - panel * PANEL
        } else {
            taken * PANEL
        };
        // A stretch of the panel is read by each tile before the next one.
        for first in (0..all_inner.max(1)).step_by(INNER_BLOCK) {
            let count = INNER_BLOCK.min(all_inner - first);
            let start = if first > 0 { Start::Current } else { start };
            let mut row = 0;
            for t in 0..tiles {
                let rows = height + usize::from(t < taller);
                let at = row * c_row + col;
                let to = c[at..].as_mut_ptr();
                let (from, start_row) = match start {
                    Start::Zero => (std::ptr::null(), 0),
                    Start::Current => (to.cast_const(), c_row),
                    Start::Bias(bias) => (bias[col..].as_ptr(), 0),
                    Start::Rows(rows) => (rows[at..].as_ptr(), c_row),
                };
                let (left, a_row, a_inner) = a.at(row, rows, first);
                let x = Operands {
                    inner: count,
                    a: left,
                    a_row,
                    a_inner,
                    b: b.from(panel * b_panel + (inner + first) * PANEL),
                    b_inner: PANEL,
                    b_panel,
                    c: to,
                    c_row,
                    start: from,
                    start_row,
                    late: true,
                };
                // SAFETY: `panel_range` checked that operands, result and start hold all rows and
                // columns of this block; a packed operand holds `rows` times `inner` elements for
                // each tile; the panels are padded to 16 columns.
                unsafe {
                    if width.is_multiple_of(LANES) {
                        tile(rows, width / LANES, wide, &x);
                    } else {
                        edge_tile(rows, width, wide, x);
                    }
                }
                row += rows;
            }
        }
        panel += taken.max(1);
    }
}

/// A tile whose columns do not fill its vectors: goes through a buffer that holds whole vectors.
///
/// # Safety
/// As [`tile`], for `width` columns of result and start.
#[expect(
    unsafe_code,
    reason = "reads and writes rows by address, like the tile"
)]
unsafe fn edge_tile(rows: usize, width: usize, wide: Vectors, x: Operands) {
    let mut edge = [[0.0_f32; PANEL]; MOST_ROWS];
    let (to, c_row) = (x.c, x.c_row);
    // SAFETY: the caller vouches for `rows` rows of `width` columns; `edge` holds a whole tile.
    unsafe {
        if !x.start.is_null() {
            for (r, edge) in edge.iter_mut().take(rows).enumerate() {
                x.start
                    .add(r * x.start_row)
                    .copy_to_nonoverlapping(edge.as_mut_ptr(), width);
            }
        }
        let edges = edge.as_mut_ptr().cast::<f32>();
        let x = Operands {
            c: edges,
            c_row: PANEL,
            start: edges,
            start_row: PANEL,
            ..x
        };
        tile(rows, width.div_ceil(LANES), wide, &x);
        for r in 0..rows {
            edges
                .add(r * PANEL)
                .copy_to_nonoverlapping(to.add(r * c_row), width);
        }
    }
}
