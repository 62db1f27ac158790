//! Operands of products: matrices inside slices, and right operands packed into panels of 16
//! columns.

use std::ops::Deref;

use rayon::prelude::*;

use super::pool::{buffer, give_back};
use super::tile::{LANES, PANEL, Right};

/// A matrix inside a slice: element `(r, c)` lies at `r * row_stride + c * col_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A dense row-major matrix.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self {
            data,
            rows,
            cols,
            row_stride: cols,
            col_stride: 1,
        }
        .checked()
    }

    /// The same elements with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// Rows `first .. first + count`.
    pub(crate) fn row_range(self, first: usize, count: usize) -> Self {
        debug_assert!(first + count <= self.rows);
        let data = &self.data[(first * self.row_stride).min(self.data.len())..];
        Self {
            data,
            rows: count,
            ..self
        }
    }

    /// Columns `first .. first + count`.
    pub(crate) fn col_range(self, first: usize, count: usize) -> Self {
        self.transposed().row_range(first, count).transposed()
    }

    fn checked(self) -> Self {
        assert!(
            self.reach() <= self.data.len(),
            "a matrix must lie inside its slice"
        );
        self
    }

    /// One more than the largest index that the matrix touches.
    pub(super) fn reach(&self) -> usize {
        if self.rows == 0 || self.cols == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride + 1
    }
}

/// A right operand packed for [`product`]: `[ceil(cols / 16)][inner][16]`, zeros in the padding.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panels {
    /// The elements, unless they are in `halves`.
    data: Vec<f32>,
    /// The elements as bfloat16, see [`Panels::narrowed`].
    halves: Vec<u16>,
    pub(super) inner: usize,
    pub(super) cols: usize,
}

impl Panels {
    /// Packs `b` (`[inner, cols]`).
    pub(crate) fn pack(b: Matrix<'_>) -> Self {
        let mut panels = Self::default();
        panels.repack(b);
        panels
    }

    /// Packs `b` into the memory of an earlier packing.
    pub(crate) fn repack(&mut self, b: Matrix<'_>) {
        self.halves.clear();
        self.inner = b.rows;
        self.cols = b.cols;
        self.data
            .resize(b.cols.div_ceil(PANEL) * b.rows * PANEL, 0.0);
        if b.rows == 0 {
            return;
        }
        for (p, panel) in self.data.chunks_exact_mut(b.rows * PANEL).enumerate() {
            pack_panel(b, p * PANEL, panel);
        }
    }

    /// Packs several operands of the same inner length side by side.
    pub(crate) fn pack_side_by_side(parts: &[Matrix<'_>]) -> Self {
        let inner = parts.first().map_or(0, |part| part.rows);
        let cols: usize = parts.iter().map(|part| part.cols).sum();
        let whole = |part: &Matrix<'_>| part.cols.is_multiple_of(PANEL);
        if parts.iter().rev().skip(1).all(whole) {
            let mut data = Vec::with_capacity(cols.div_ceil(PANEL) * inner * PANEL);
            for part in parts {
                data.extend(Self::pack(*part).data);
            }
            return Self {
                data,
                inner,
                cols,
                ..Self::default()
            };
        }
        // A panel holds columns of two operands: pack a dense copy.
        let mut dense = vec![0.0; inner * cols];
        let mut first = 0;
        for part in parts {
            for k in 0..inner {
                for c in 0..part.cols {
                    dense[k * cols + first + c] =
                        part.data[k * part.row_stride + c * part.col_stride];
                }
            }
            first += part.cols;
        }
        Self::pack(Matrix::new(&dense, inner, cols))
    }

    /// The packed elements and the inner length.
    pub(crate) fn parts(&self) -> (&[f32], usize) {
        (&self.data, self.inner)
    }

    /// The same operand in half the memory if every element is a bfloat16, as those of most
    /// released checkpoints are; no bit of a product changes. Products of few rows are bound by
    /// reading this memory.
    pub(crate) fn narrowed(mut self) -> Self {
        if !self.data.iter().all(|x| x.to_bits() & 0xffff == 0) {
            return self;
        }
        self.halves = self
            .data
            .iter()
            .map(|x| (x.to_bits() >> 16) as u16)
            .collect();
        self.data = Vec::new();
        self
    }

    /// The elements from index `at` on.
    pub(super) fn from(&self, at: usize) -> Right {
        match self.halves.as_slice() {
            [] => Right::Single(self.data[at..].as_ptr()),
            halves => Right::Half(halves[at..].as_ptr()),
        }
    }

    /// Bytes of the packed elements.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.data.as_slice()) + size_of_val(self.halves.as_slice())
    }

    /// Columns of the packed operand.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Rows of the packed operand: the inner dimension of a product with it.
    pub(crate) fn inner(&self) -> usize {
        self.inner
    }

    pub(super) fn panels(&self) -> usize {
        self.cols.div_ceil(PANEL)
    }
}

/// A right operand packed for one product, in memory that is used again, on all threads.
#[derive(Debug)]
pub(crate) struct Passing(Panels);

impl Passing {
    /// Packs `b` (`[inner, cols]`).
    pub(crate) fn pack(b: Matrix<'_>) -> Self {
        let mut data = buffer(b.cols.div_ceil(PANEL) * b.rows * PANEL);
        if b.rows > 0 {
            let panels = data.par_chunks_exact_mut(b.rows * PANEL).enumerate();
            panels.for_each(|(p, panel)| pack_panel(b, p * PANEL, panel));
        }
        Self(Panels {
            data,
            halves: Vec::new(),
            inner: b.rows,
            cols: b.cols,
        })
    }
}

impl Deref for Passing {
    type Target = Panels;

    fn deref(&self) -> &Panels {
        &self.0
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.0.data));
    }
}

/// Packs columns `first ..` of `b` into one panel `[inner][16]`.
fn pack_panel(b: Matrix<'_>, first: usize, panel: &mut [f32]) {
    let width = PANEL.min(b.cols - first);
    if width < PANEL {
        panel.fill(0.0);
    }
    if b.col_stride == 1 && width == PANEL {
        for (k, row) in panel.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            let from = &b.data[k * b.row_stride + first..];
            *row = *from
                .first_chunk()
                .expect("a whole panel lies inside the matrix");
        }
        return;
    }
    if b.col_stride == 1 {
        for (k, row) in panel.chunks_exact_mut(PANEL).enumerate() {
            let from = k * b.row_stride + first;
            row[..width].copy_from_slice(&b.data[from..from + width]);
        }
        return;
    }
    // Columns that lie densely are turned in squares of 8.
    let (squares, halves) = match b.row_stride {
        1 => (b.rows / LANES, width / LANES),
        _ => (0, 0),
    };
    for half in 0..halves {
        let from = &b.data[(first + half * LANES) * b.col_stride..];
        for square in 0..squares {
            let to = &mut panel[square * LANES * PANEL + half * LANES..];
            transpose_square(&from[square * LANES..], b.col_stride, to, PANEL);
        }
    }
    for c in 0..width {
        let start = if c < halves * LANES {
            squares * LANES
        } else {
            0
        };
        for k in start..b.rows {
            panel[k * PANEL + c] = b.data[k * b.row_stride + (first + c) * b.col_stride];
        }
    }
}

/// `to[c][r] = from[r][c]` for 8 rows and columns, rows of `at_row` and `to_row` elements.
#[inline]
fn transpose_square(from: &[f32], at_row: usize, to: &mut [f32], to_row: usize) {
    assert!(from.len() >= 7 * at_row + LANES && to.len() >= 7 * to_row + LANES);
    #[cfg(target_arch = "x86_64")]
    if super::wide_vectors() {
        #[expect(
            unsafe_code,
            reason = "vector loads; the processor was just seen to have AVX2"
        )]
        // SAFETY: the assertion above covers all loads and stores.
        return unsafe { avx2_square(from.as_ptr(), at_row, to.as_mut_ptr(), to_row) };
    }
    for r in 0..LANES {
        for c in 0..LANES {
            to[c * to_row + r] = from[r * at_row + c];
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector loads from strided rows")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2_square(from: *const f32, at_row: usize, to: *mut f32, to_row: usize) {
    use std::arch::x86_64::{
        _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
        _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };
    // SAFETY: the caller vouches for 8 rows of 8 elements on both sides.
    unsafe {
        let row = |r: usize| _mm256_loadu_ps(from.add(r * at_row));
        let mut quads = [row(0); 8];
        for pair in 0..4 {
            let (a, b) = (row(2 * pair), row(2 * pair + 1));
            quads[2 * pair] = _mm256_unpacklo_ps(a, b);
            quads[2 * pair + 1] = _mm256_unpackhi_ps(a, b);
        }
        for half in 0..2 {
            let [a, b, c, d] = [
                quads[4 * half],
                quads[4 * half + 1],
                quads[4 * half + 2],
                quads[4 * half + 3],
            ];
            quads[4 * half] = _mm256_shuffle_ps::<0b01_00_01_00>(a, c);
            quads[4 * half + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(a, c);
            quads[4 * half + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(b, d);
            quads[4 * half + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(b, d);
        }
        for c in 0..4 {
            let low = _mm256_permute2f128_ps::<0x20>(quads[c], quads[4 + c]);
            let high = _mm256_permute2f128_ps::<0x31>(quads[c], quads[4 + c]);
            _mm256_storeu_ps(to.add(c * to_row), low);
            _mm256_storeu_ps(to.add((4 + c) * to_row), high);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::gemm::{Start, product};

    /// Values with few bits: exact as bfloat16.
    fn values(count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7919) % 255) as f32 / 64.0 - 2.0)
            .collect()
    }

    fn times(a: Matrix<'_>, b: &Panels) -> Vec<f32> {
        let mut c = vec![0.0; a.rows * b.cols()];
        product(a, b, &mut c, b.cols(), Start::Zero);
        c
    }

    #[test]
    fn narrowed_panels_change_no_bit() {
        for (rows, inner, cols) in [(1, 5, 3), (1, 300, 130), (8, 64, 48), (13, 31, 17)] {
            let (left, right) = (values(rows * inner), values(cols * inner));
            let a = Matrix::new(&left, rows, inner);
            let b = Matrix::new(&right, cols, inner).transposed();
            let plain = times(a, &Panels::pack(b));
            let narrowed = Panels::pack(b).narrowed();
            assert!(!narrowed.halves.is_empty());
            assert_eq!(times(a, &narrowed), plain);
        }
    }

    #[test]
    fn values_of_full_precision_are_not_narrowed() {
        let values = [1.0, 0.1, 2.0];
        let panels = Panels::pack(Matrix::new(&values, 1, 3)).narrowed();
        assert!(panels.halves.is_empty());
    }

    #[test]
    fn side_by_side_is_the_columns_of_each() {
        let values = values(7 * 60);
        for widths in [[16, 32, 5], [5, 16, 20]] {
            let mut first = 0;
            let parts: Vec<_> = widths
                .iter()
                .map(|width| {
                    let part = Matrix::new(&values, 7, 60).col_range(first, *width);
                    first += width;
                    part
                })
                .collect();
            let whole = Matrix::new(&values, 7, 60).col_range(0, first);
            let packed = Panels::pack_side_by_side(&parts);
            assert_eq!(packed.data, Panels::pack(whole).data);
        }
    }
}
