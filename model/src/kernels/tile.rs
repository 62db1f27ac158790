//! The innermost product: a tile of a few rows and a few vectors of 8 columns; with the registers of
//! AVX-512 of twice as many rows, and of vectors taken two at a time.
//!
//! Each element of the result is one chain of (fused) multiply-adds over the inner dimension in
//! ascending order, that goes on from the start or is added to it, see [`Operands::late`]. Hence its
//! bits do not depend on how many rows or columns are computed together, which is what makes a row of
//! a batch independent of the others.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m512, _mm_loadu_si128, _mm256_add_ps, _mm256_broadcast_ss, _mm256_castsi256_ps,
    _mm256_cvtepu16_epi32, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_setzero_ps,
    _mm256_slli_epi32, _mm256_storeu_ps, _mm512_add_ps, _mm512_castsi512_ps, _mm512_cvtepu16_epi32,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32,
    _mm512_storeu_ps,
};

use super::Vectors;

/// The most rows a tile has on every processor.
pub(crate) const MAX_ROWS: usize = 6;
/// The most rows a tile has on any processor, see [`max_rows`].
pub(crate) const MOST_ROWS: usize = 12;
/// Columns of one panel of the right operand: two vectors.
pub(crate) const PANEL: usize = 16;
/// Columns of one vector.
pub(crate) const LANES: usize = 8;

/// The right operand's elements.
#[derive(Clone, Copy)]
pub(crate) enum Right {
    /// 32-bit floats.
    Single(*const f32),
    /// bfloat16, widened (which is exact) as they are read.
    Half(*const u16),
}

/// Where the operands of a tile lie; all strides count elements.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    /// Length of the inner dimension.
    pub(crate) inner: usize,
    /// First element of the left operand.
    pub(crate) a: *const f32,
    /// From one row of the left operand to the next.
    pub(crate) a_row: usize,
    /// From one inner index of the left operand to the next.
    pub(crate) a_inner: usize,
    /// First element of the right operand; vectors of one panel are adjacent.
    pub(crate) b: Right,
    /// From one inner index of the right operand to the next.
    pub(crate) b_inner: usize,
    /// From one panel of the right operand to the next.
    pub(crate) b_panel: usize,
    /// First element of the result; columns are adjacent.
    pub(crate) c: *mut f32,
    /// From one row of the result to the next.
    pub(crate) c_row: usize,
    /// First element of what the sums start from, or null for zeros. May be the result itself.
    pub(crate) start: *const f32,
    /// From one row of the start to the next; 0 repeats one row.
    pub(crate) start_row: usize,
    /// Whether the chain begins at zero and the start is added to its end. Sums of many products are
    /// nearer to the truth so: a short chain's rounding is that of its own size.
    pub(crate) late: bool,
}

impl Operands {
    /// The start, where the chain goes on from it.
    #[inline]
    fn begins_with(&self) -> Option<*const f32> {
        (!self.late && !self.start.is_null()).then_some(self.start)
    }

    /// The start, where it is added to the chain's end.
    #[inline]
    fn ends_with(&self) -> Option<*const f32> {
        (self.late && !self.start.is_null()).then_some(self.start)
    }
}

/// Computes a tile of `rows` rows (1 to [`max_rows`]) and `vectors` vectors of 8 columns (1 or an
/// even number, at most [`max_vectors`]).
///
/// # Safety
/// The operands must be readable, and the result writable, at all addresses that the strides and
/// counts reach: `a[r * a_row + k * a_inner]`, `b[(v / 2) * b_panel + k * b_inner + (v % 2) * 8 ..][..8]`,
/// `c[r * c_row + v * 8 ..][..8]`, and `start` like `c` with its own row stride.
#[expect(unsafe_code, reason = "vector loads from strided operands")]
#[inline]
pub(crate) unsafe fn tile(rows: usize, vectors: usize, wide: Vectors, x: &Operands) {
    // SAFETY: passed on to the caller; `wide` comes from the check of the processor's features.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if wide == Vectors::Avx512 && vectors > 1 {
            return match (x.b, x.a_row == 1) {
                (Right::Single(b), false) => by_size_512::<Single, false>(rows, vectors, b, x),
                (Right::Single(b), true) => by_size_512::<Single, true>(rows, vectors, b, x),
                (Right::Half(b), false) => by_size_512::<Half, false>(rows, vectors, b, x),
                (Right::Half(b), true) => by_size_512::<Half, true>(rows, vectors, b, x),
            };
        }
        // Half a panel: as on processors without the wider vectors.
        if rows > MAX_ROWS {
            tile(MAX_ROWS, vectors, wide, x);
            let x = Operands {
                a: x.a.wrapping_add(MAX_ROWS * x.a_row),
                c: x.c.wrapping_add(MAX_ROWS * x.c_row),
                start: match x.start.is_null() {
                    true => x.start,
                    false => x.start.wrapping_add(MAX_ROWS * x.start_row),
                },
                ..*x
            };
            return tile(rows - MAX_ROWS, vectors, wide, &x);
        }
        #[cfg(target_arch = "x86_64")]
        if wide >= Vectors::Avx2 {
            // Of a packed left operand the rows are adjacent, which spares address arithmetic.
            return match (x.b, x.a_row == 1) {
                (Right::Single(b), false) => by_size::<Single, false>(rows, vectors, b, x),
                (Right::Single(b), true) => by_size::<Single, true>(rows, vectors, b, x),
                (Right::Half(b), false) => by_size::<Half, false>(rows, vectors, b, x),
                (Right::Half(b), true) => by_size::<Half, true>(rows, vectors, b, x),
            };
        }
        let _ = wide;
        match x.b {
            Right::Single(b) => portable(rows, vectors, b, x, |b| b),
            Right::Half(b) => portable(rows, vectors, b, x, |b| f32::from_bits(u32::from(b) << 16)),
        }
    }
}

/// How many rows a tile has at most, so that the accumulators of two vectors (of two panels with
/// AVX-512) fill the registers.
#[inline]
pub(crate) fn max_rows(wide: Vectors) -> usize {
    match wide {
        Vectors::Avx512 => MOST_ROWS,
        Vectors::Avx2 | Vectors::Portable => MAX_ROWS,
    }
}

/// How many vectors a tile of this many rows takes at most, so that the accumulators fill the
/// registers.
#[inline]
pub(crate) fn max_vectors(rows: usize, wide: Vectors) -> usize {
    match (rows, wide) {
        (1, _) | (..=6, Vectors::Avx512) => 8,
        (2 | 3, _) | (_, Vectors::Avx512) => 4,
        _ => 2,
    }
}

/// How elements of the right operand are read.
#[cfg(target_arch = "x86_64")]
trait Element: Copy {
    type Of: Copy;

    /// # Safety
    /// 8 elements must be readable, on a processor with AVX2.
    #[expect(unsafe_code, reason = "vector loads")]
    unsafe fn load(from: *const Self::Of) -> __m256;

    /// # Safety
    /// 16 elements must be readable, on a processor with AVX-512.
    #[expect(unsafe_code, reason = "vector loads")]
    unsafe fn load_panel(from: *const Self::Of) -> __m512;
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Single;

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Half;

#[cfg(target_arch = "x86_64")]
impl Element for Single {
    type Of = f32;

    #[expect(unsafe_code, reason = "vector loads")]
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: passed on to the caller.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[expect(unsafe_code, reason = "vector loads")]
    #[inline(always)]
    unsafe fn load_panel(from: *const f32) -> __m512 {
        // SAFETY: passed on to the caller.
        unsafe { _mm512_loadu_ps(from) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Element for Half {
    type Of = u16;

    #[expect(unsafe_code, reason = "vector loads")]
    #[inline(always)]
    unsafe fn load(from: *const u16) -> __m256 {
        // SAFETY: passed on to the caller.
        unsafe {
            let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
        }
    }

    #[expect(unsafe_code, reason = "vector loads")]
    #[inline(always)]
    unsafe fn load_panel(from: *const u16) -> __m512 {
        // SAFETY: passed on to the caller.
        unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "calls vector code")]
unsafe fn by_size<E: Element, const PACKED: bool>(
    rows: usize,
    vectors: usize,
    b: *const E::Of,
    x: &Operands,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        match (rows, vectors) {
            (6, 2) => avx2::<E, PACKED, 6, 2>(b, x),
            (5, 2) => avx2::<E, PACKED, 5, 2>(b, x),
            (4, 2) => avx2::<E, PACKED, 4, 2>(b, x),
            (3, 2) => avx2::<E, PACKED, 3, 2>(b, x),
            (2, 2) => avx2::<E, PACKED, 2, 2>(b, x),
            (1, 2) => avx2::<E, PACKED, 1, 2>(b, x),
            (6, 1) => avx2::<E, PACKED, 6, 1>(b, x),
            (5, 1) => avx2::<E, PACKED, 5, 1>(b, x),
            (4, 1) => avx2::<E, PACKED, 4, 1>(b, x),
            (3, 1) => avx2::<E, PACKED, 3, 1>(b, x),
            (2, 1) => avx2::<E, PACKED, 2, 1>(b, x),
            (1, 1) => avx2::<E, PACKED, 1, 1>(b, x),
            (3, 4) => avx2::<E, PACKED, 3, 4>(b, x),
            (2, 4) => avx2::<E, PACKED, 2, 4>(b, x),
            (1, 4) => avx2::<E, PACKED, 1, 4>(b, x),
            (1, 8) => avx2::<E, PACKED, 1, 8>(b, x),
            _ => unreachable!("tile of {rows} rows and {vectors} vectors"),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector loads from strided operands")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<E: Element, const PACKED: bool, const ROWS: usize, const VECTORS: usize>(
    mut b: *const E::Of,
    x: &Operands,
) {
    // SAFETY: the caller vouches for every address formed here.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); VECTORS]; ROWS];
        if let Some(start) = x.begins_with() {
            for (r, row) in sums.iter_mut().enumerate() {
                for (v, sum) in row.iter_mut().enumerate() {
                    *sum = _mm256_loadu_ps(start.add(r * x.start_row + v * LANES));
                }
            }
        }
        let mut a = x.a;
        let a_row = if PACKED { 1 } else { x.a_row };
        for _ in 0..x.inner {
            // The smaller side is held, the other one streams by: 16 registers have to do.
            if ROWS < VECTORS {
                let mut left = [_mm256_setzero_ps(); ROWS];
                for (r, left) in left.iter_mut().enumerate() {
                    *left = _mm256_broadcast_ss(&*a.add(r * a_row));
                }
                for v in 0..VECTORS {
                    let lane = E::load(b.add((v / 2) * x.b_panel + (v % 2) * LANES));
                    for (row, left) in sums.iter_mut().zip(left) {
                        row[v] = _mm256_fmadd_ps(left, lane, row[v]);
                    }
                }
            } else {
                let mut right = [_mm256_setzero_ps(); VECTORS];
                for (v, lane) in right.iter_mut().enumerate() {
                    *lane = E::load(b.add((v / 2) * x.b_panel + (v % 2) * LANES));
                }
                for (r, row) in sums.iter_mut().enumerate() {
                    let left = _mm256_broadcast_ss(&*a.add(r * a_row));
                    for (sum, lane) in row.iter_mut().zip(right) {
                        *sum = _mm256_fmadd_ps(left, lane, *sum);
                    }
                }
            }
            a = a.wrapping_add(x.a_inner);
            b = b.wrapping_add(x.b_inner);
        }
        if let Some(start) = x.ends_with() {
            for (r, row) in sums.iter_mut().enumerate() {
                for (v, sum) in row.iter_mut().enumerate() {
                    let start = _mm256_loadu_ps(start.add(r * x.start_row + v * LANES));
                    *sum = _mm256_add_ps(start, *sum);
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                _mm256_storeu_ps(x.c.add(r * x.c_row + v * LANES), *sum);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "calls vector code")]
unsafe fn by_size_512<E: Element, const PACKED: bool>(
    rows: usize,
    vectors: usize,
    b: *const E::Of,
    x: &Operands,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        match (rows, vectors) {
            (12, 2) => avx512::<E, PACKED, 12, 1>(b, x),
            (11, 2) => avx512::<E, PACKED, 11, 1>(b, x),
            (10, 2) => avx512::<E, PACKED, 10, 1>(b, x),
            (9, 2) => avx512::<E, PACKED, 9, 1>(b, x),
            (8, 2) => avx512::<E, PACKED, 8, 1>(b, x),
            (7, 2) => avx512::<E, PACKED, 7, 1>(b, x),
            (6, 2) => avx512::<E, PACKED, 6, 1>(b, x),
            (5, 2) => avx512::<E, PACKED, 5, 1>(b, x),
            (4, 2) => avx512::<E, PACKED, 4, 1>(b, x),
            (3, 2) => avx512::<E, PACKED, 3, 1>(b, x),
            (2, 2) => avx512::<E, PACKED, 2, 1>(b, x),
            (1, 2) => avx512::<E, PACKED, 1, 1>(b, x),
            (12, 4) => avx512::<E, PACKED, 12, 2>(b, x),
            (11, 4) => avx512::<E, PACKED, 11, 2>(b, x),
            (10, 4) => avx512::<E, PACKED, 10, 2>(b, x),
            (9, 4) => avx512::<E, PACKED, 9, 2>(b, x),
            (8, 4) => avx512::<E, PACKED, 8, 2>(b, x),
            (7, 4) => avx512::<E, PACKED, 7, 2>(b, x),
            (6, 4) => avx512::<E, PACKED, 6, 2>(b, x),
            (5, 4) => avx512::<E, PACKED, 5, 2>(b, x),
            (4, 4) => avx512::<E, PACKED, 4, 2>(b, x),
            (3, 4) => avx512::<E, PACKED, 3, 2>(b, x),
            (2, 4) => avx512::<E, PACKED, 2, 2>(b, x),
            (1, 4) => avx512::<E, PACKED, 1, 2>(b, x),
            (6, 8) => avx512::<E, PACKED, 6, 4>(b, x),
            (5, 8) => avx512::<E, PACKED, 5, 4>(b, x),
            (4, 8) => avx512::<E, PACKED, 4, 4>(b, x),
            (3, 8) => avx512::<E, PACKED, 3, 4>(b, x),
            (2, 8) => avx512::<E, PACKED, 2, 4>(b, x),
            (1, 8) => avx512::<E, PACKED, 1, 4>(b, x),
            _ => unreachable!("tile of {rows} rows and {vectors} vectors"),
        }
    }
}

/// The same chains as [`avx2`], a panel to a register.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector loads from strided operands")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<E: Element, const PACKED: bool, const ROWS: usize, const PANELS: usize>(
    mut b: *const E::Of,
    x: &Operands,
) {
    // SAFETY: the caller vouches for every address formed here.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); PANELS]; ROWS];
        if let Some(start) = x.begins_with() {
            for (r, row) in sums.iter_mut().enumerate() {
                for (p, sum) in row.iter_mut().enumerate() {
                    *sum = _mm512_loadu_ps(start.add(r * x.start_row + p * PANEL));
                }
            }
        }
        let mut a = x.a;
        let a_row = if PACKED { 1 } else { x.a_row };
        for _ in 0..x.inner {
            let mut right = [_mm512_setzero_ps(); PANELS];
            for (p, panel) in right.iter_mut().enumerate() {
                *panel = E::load_panel(b.add(p * x.b_panel));
            }
            for (r, row) in sums.iter_mut().enumerate() {
                let left = _mm512_set1_ps(*a.add(r * a_row));
                for (sum, panel) in row.iter_mut().zip(right) {
                    *sum = _mm512_fmadd_ps(left, panel, *sum);
                }
            }
            a = a.wrapping_add(x.a_inner);
            b = b.wrapping_add(x.b_inner);
        }
        if let Some(start) = x.ends_with() {
            for (r, row) in sums.iter_mut().enumerate() {
                for (p, sum) in row.iter_mut().enumerate() {
                    let start = _mm512_loadu_ps(start.add(r * x.start_row + p * PANEL));
                    *sum = _mm512_add_ps(start, *sum);
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (p, sum) in row.iter().enumerate() {
                _mm512_storeu_ps(x.c.add(r * x.c_row + p * PANEL), *sum);
            }
        }
    }
}

#[expect(unsafe_code, reason = "strided operands")]
unsafe fn portable<T: Copy>(
    rows: usize,
    vectors: usize,
    right: *const T,
    x: &Operands,
    widen: impl Fn(T) -> f32,
) {
    for r in 0..rows {
        for v in 0..vectors {
            // SAFETY: the caller vouches for every address formed here.
            unsafe {
                let mut sums = [0.0_f32; LANES];
                let at = r * x.start_row + v * LANES;
                if let Some(start) = x.begins_with() {
                    for (lane, sum) in sums.iter_mut().enumerate() {
                        *sum = *start.add(at + lane);
                    }
                }
                let mut a = x.a.add(r * x.a_row);
                let mut b = right.add((v / 2) * x.b_panel + (v % 2) * LANES);
                for _ in 0..x.inner {
                    let left = *a;
                    for (lane, sum) in sums.iter_mut().enumerate() {
                        *sum += left * widen(*b.add(lane));
                    }
                    a = a.wrapping_add(x.a_inner);
                    b = b.wrapping_add(x.b_inner);
                }
                if let Some(start) = x.ends_with() {
                    for (lane, sum) in sums.iter_mut().enumerate() {
                        *sum += *start.add(at + lane);
                    }
                }
                let c = x.c.add(r * x.c_row + v * LANES);
                for (lane, sum) in sums.iter().enumerate() {
                    *c.add(lane) = *sum;
                }
            }
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// A tile of `rows` rows and `columns` columns over 37 inner indices, made by tiles that `wide`
    /// vectors allow; the left operand is packed or lies by rows.
    fn product(rows: usize, columns: usize, packed: bool, late: bool, wide: Vectors) -> Vec<f32> {
        const INNER: usize = 37;
        let number = |at: usize| ((at * 2_654_435_761) % 1009) as f32 / 97.0 - 5.0;
        let a: Vec<f32> = (0..rows * INNER).map(number).collect();
        let panels = columns.div_ceil(PANEL);
        let b: Vec<f32> = (0..panels * INNER * PANEL)
            .map(|at| number(at + 7))
            .collect();
        let mut c = vec![0.5; rows * columns];
        let start = c.clone();
        let (a_row, a_inner) = if packed { (1, rows) } else { (INNER, 1) };
        for first in (0..rows).step_by(max_rows(wide)) {
            let height = max_rows(wide).min(rows - first);
            let most = max_vectors(height, wide);
            let mut column = 0;
            while column < columns {
                let vectors = [8, 4, 2, 1].into_iter();
                let vectors = vectors
                    .filter(|n| *n <= most && *n <= (columns - column) / LANES)
                    .max();
                let vectors = vectors.expect("whole vectors");
                let at = first * columns + column;
                let x = Operands {
                    inner: INNER,
                    a: a[first * a_row..].as_ptr(),
                    a_row,
                    a_inner,
                    b: Right::Single(b[column / PANEL * INNER * PANEL..].as_ptr()),
                    b_inner: PANEL,
                    b_panel: INNER * PANEL,
                    c: c[at..].as_mut_ptr(),
                    c_row: columns,
                    start: start[at..].as_ptr(),
                    start_row: columns,
                    late,
                };
                #[expect(unsafe_code, reason = "the tile under test")]
                // SAFETY: the vectors hold all rows, inner indices and columns.
                unsafe {
                    tile(height, vectors, wide, &x);
                }
                column += vectors * LANES;
            }
        }
        c
    }

    #[test]
    fn wider_vectors_change_no_bit() {
        // Nothing to compare on processors without AVX-512.
        if crate::kernels::vectors() < Vectors::Avx512 {
            return;
        }
        for rows in 1..=25 {
            for columns in [8, 16, 24, 32, 40, 64, 72, 128] {
                for packed in [false, true] {
                    // Packed rows lie side by side within one tile.
                    if packed && rows > MAX_ROWS {
                        continue;
                    }
                    for late in [false, true] {
                        let wide = product(rows, columns, packed, late, Vectors::Avx512);
                        let narrow = product(rows, columns, packed, late, Vectors::Avx2);
                        assert!(
                            wide == narrow,
                            "{rows} rows, {columns} columns, {packed}, {late}"
                        );
                    }
                }
            }
        }
    }
}
