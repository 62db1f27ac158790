//! The innermost product: a tile of at most 6 rows and a few vectors of 8 columns.
//!
//! Each element of the result is one chain of (fused) multiply-adds over the inner dimension in
//! ascending order. Hence its bits do not depend on how many rows or columns are computed together,
//! which is what makes a row of a batch independent of the others.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, _mm_loadu_si128, _mm256_broadcast_ss, _mm256_castsi256_ps, _mm256_cvtepu16_epi32,
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_slli_epi32, _mm256_storeu_ps,
};

/// The most rows a tile has.
pub(crate) const MAX_ROWS: usize = 6;
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
}

/// Computes a tile of `rows` rows (1 to 6) and `vectors` vectors of 8 columns.
///
/// # Safety
/// The operands must be readable, and the result writable, at all addresses that the strides and
/// counts reach: `a[r * a_row + k * a_inner]`, `b[(v / 2) * b_panel + k * b_inner + (v % 2) * 8 ..][..8]`,
/// `c[r * c_row + v * 8 ..][..8]`, and `start` like `c` with its own row stride.
#[expect(unsafe_code, reason = "vector loads from strided operands")]
#[inline]
pub(crate) unsafe fn tile(rows: usize, vectors: usize, wide: bool, x: &Operands) {
    // SAFETY: passed on to the caller; `wide` comes from the check of the processor's features.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if wide {
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

/// How many vectors a tile of this many rows takes at most, so that the accumulators fill the
/// registers.
#[inline]
pub(crate) fn max_vectors(rows: usize) -> usize {
    match rows {
        1 => 8,
        2 | 3 => 4,
        _ => 2,
    }
}

/// How 8 elements of the right operand are read.
#[cfg(target_arch = "x86_64")]
trait Element: Copy {
    type Of: Copy;

    /// # Safety
    /// 8 elements must be readable, on a processor with AVX2.
    #[expect(unsafe_code, reason = "vector loads")]
    unsafe fn load(from: *const Self::Of) -> __m256;
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
        if !x.start.is_null() {
            for (r, row) in sums.iter_mut().enumerate() {
                for (v, sum) in row.iter_mut().enumerate() {
                    *sum = _mm256_loadu_ps(x.start.add(r * x.start_row + v * LANES));
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
        for (r, row) in sums.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                _mm256_storeu_ps(x.c.add(r * x.c_row + v * LANES), *sum);
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
                if !x.start.is_null() {
                    let start = x.start.add(r * x.start_row + v * LANES);
                    for (lane, sum) in sums.iter_mut().enumerate() {
                        *sum = *start.add(lane);
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
                let c = x.c.add(r * x.c_row + v * LANES);
                for (lane, sum) in sums.iter().enumerate() {
                    *c.add(lane) = *sum;
                }
            }
        }
    }
}
