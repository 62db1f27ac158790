//! The exponential as a short polynomial that compilers turn into vector code.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::__m256;

use super::elementwise::fold;
use super::tile::LANES;
use super::{multiply_add, multiversion};

const LOG2_E: f32 = std::f32::consts::LOG2_E;
// ln 2 in two parts, the first exact in few bits, so that k * LN2_HIGH is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;
const LOWEST: f32 = -87.0;
const HIGHEST: f32 = 88.0;
/// Taylor's, from the highest power down.
const COEFFICIENTS: [f32; 8] = [
    1.0 / 5040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// `e^x` to about 1e-7 of its value; 0 for `x` below -87 and capped at `x` = 88.
///
/// Splits `x = k ln 2 + r` with `|r| <= ln 2 / 2` and takes the Taylor polynomial of degree 7 at
/// `r`, whose remainder there is below 1e-8.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    let clamped = x.clamp(LOWEST, HIGHEST);
    let rounded = multiply_add::<FMA>(clamped, LOG2_E, ROUND);
    let k = rounded - ROUND;
    let r = multiply_add::<FMA>(k, -LN2_HIGH, clamped);
    let r = multiply_add::<FMA>(k, -LN2_LOW, r);
    let mut p = COEFFICIENTS[0];
    for coefficient in &COEFFICIENTS[1..] {
        p = multiply_add::<FMA>(p, r, *coefficient);
    }
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    if x < LOWEST { 0.0 } else { p * power }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

multiversion! {
    /// The largest element.
    pub(crate) fn highest(row: &[f32]) -> f32 = highest_body
}

#[inline(always)]
fn highest_body<const FMA: bool>(row: &[f32]) -> f32 {
    let mut highest = [f32::NEG_INFINITY; LANES];
    let (whole, tail) = row.as_chunks::<LANES>();
    for chunk in whole {
        for (high, x) in highest.iter_mut().zip(chunk) {
            *high = if *x > *high { *x } else { *high };
        }
    }
    for (high, x) in highest.iter_mut().zip(tail) {
        *high = if *x > *high { *x } else { *high };
    }
    highest.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Elements whose sum is taken on its own. Where a row has one element near 1 and very many that are
/// below 2^-24, those that share a lane with it would be lost one by one: with a vocabulary of 49,152
/// and sums over whole rows, losses were low by 1e-5.
const STRETCH: usize = 512;

/// Replaces each `x` by `e^(scale * x - shift)` and returns their sum: 8 lanes in each stretch, then
/// the lanes, then the stretches in f64.
///
/// Written with vector instructions: compilers split the loop into halves of a vector.
pub(crate) fn exponentials(row: &mut [f32], scale: f32, shift: f32) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if super::wide_vectors() {
        #[expect(
            unsafe_code,
            reason = "the processor was just seen to have AVX2 and FMA"
        )]
        // SAFETY: `wide_vectors` checked the features that the function is compiled with.
        return sum_of_stretches(row, |row| unsafe { wide_exponentials(row, scale, shift) });
    }
    sum_of_stretches(row, |row| {
        let mut sums = [0.0_f32; LANES];
        for chunk in row.chunks_mut(LANES) {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *x = exp::<false>(*x * scale - shift);
                *sum += *x;
            }
        }
        fold(sums)
    })
}

#[inline(always)]
fn sum_of_stretches(row: &mut [f32], sum: impl Fn(&mut [f32]) -> f32) -> f32 {
    let sums = row.chunks_mut(STRETCH).map(|row| f64::from(sum(row)));
    sums.sum::<f64>() as f32
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn wide_exponentials(row: &mut [f32], scale: f32, shift: f32) -> f32 {
    use std::arch::x86_64::{_mm256_add_ps, _mm256_fmsub_ps, _mm256_set1_ps, _mm256_setzero_ps};
    let (scale, shift) = (_mm256_set1_ps(scale), _mm256_set1_ps(shift));
    let mut sums = _mm256_setzero_ps();
    let (whole, tail) = row.as_chunks_mut::<LANES>();
    for chunk in whole {
        let x = wide_exp(_mm256_fmsub_ps(load(chunk), scale, shift));
        sums = _mm256_add_ps(sums, x);
        store(chunk, x);
    }
    if !tail.is_empty() {
        // The missing lanes count for nothing.
        let mut chunk = [0.0; LANES];
        chunk[..tail.len()].copy_from_slice(tail);
        let x = wide_exp(_mm256_fmsub_ps(load(&chunk), scale, shift));
        store(&mut chunk, x);
        chunk[tail.len()..].fill(0.0);
        tail.copy_from_slice(&chunk[..tail.len()]);
        sums = _mm256_add_ps(sums, load(&chunk));
    }
    let mut lanes = [0.0; LANES];
    store(&mut lanes, sums);
    fold(lanes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[inline]
fn load(from: &[f32; LANES]) -> __m256 {
    #[expect(unsafe_code, reason = "a vector load")]
    // SAFETY: the array holds 8 elements.
    unsafe {
        std::arch::x86_64::_mm256_loadu_ps(from.as_ptr())
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[inline]
fn store(to: &mut [f32; LANES], x: __m256) {
    #[expect(unsafe_code, reason = "a vector store")]
    // SAFETY: the array holds 8 elements.
    unsafe {
        std::arch::x86_64::_mm256_storeu_ps(to.as_mut_ptr(), x);
    }
}

/// [`exp`] of 8 lanes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[inline]
fn wide_exp(x: __m256) -> __m256 {
    use std::arch::x86_64::{
        _CMP_NLT_UQ, _mm256_add_epi32, _mm256_and_ps, _mm256_castps_si256, _mm256_castsi256_ps,
        _mm256_cmp_ps, _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_max_ps, _mm256_min_ps,
        _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_sub_ps,
    };
    let all = |value: f32| _mm256_set1_ps(value);
    let clamped = _mm256_min_ps(_mm256_max_ps(x, all(LOWEST)), all(HIGHEST));
    let rounded = _mm256_fmadd_ps(clamped, all(LOG2_E), all(ROUND));
    let k = _mm256_sub_ps(rounded, all(ROUND));
    let r = _mm256_fnmadd_ps(k, all(LN2_HIGH), clamped);
    let r = _mm256_fnmadd_ps(k, all(LN2_LOW), r);
    let mut p = all(COEFFICIENTS[0]);
    for coefficient in &COEFFICIENTS[1..] {
        p = _mm256_fmadd_ps(p, r, all(*coefficient));
    }
    let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(rounded));
    let power = _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(127 << 23)));
    let kept = _mm256_cmp_ps::<_CMP_NLT_UQ>(x, all(LOWEST));
    _mm256_and_ps(_mm256_mul_ps(p, power), kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate() {
        for i in -8700..=8700 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            for value in [exp::<false>(x), exp::<true>(x)] {
                let error = (f64::from(value) / exact - 1.0).abs();
                assert!(error < 2e-7, "exp({x}) = {value}, off by {error:e}");
            }
        }
        assert_eq!(exp::<true>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp::<true>(0.0), 1.0);
    }

    #[test]
    fn exponentials_of_a_row() {
        for length in [0, 1, 7, 8, 9, 100] {
            let scores: Vec<f32> = (0..length).map(|i| i as f32 * 0.7 - 90.0).collect();
            let mut row = scores.clone();
            let sum = exponentials(&mut row, 0.5, 3.0);
            let expected: f64 = scores
                .iter()
                .map(|x| (f64::from(*x) * 0.5 - 3.0).exp())
                .sum();
            assert!((f64::from(sum) - expected).abs() <= 1e-6 * expected);
            for (x, y) in scores.iter().zip(row) {
                let exact = (f64::from(*x) * 0.5 - 3.0).exp();
                // The argument itself is rounded: 50 in f32 is good to 4e-6.
                assert!((f64::from(y) - exact).abs() <= 8e-6 * exact);
            }
        }
    }

    #[test]
    fn very_many_small_exponentials_count_beside_a_large_one() {
        // 1, and 50,000 times 2e-8: together 1.001.
        let mut row = vec![-17.72_f32; 50_001];
        row[7] = 0.0;
        let exact: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
        let sum = f64::from(exponentials(&mut row, 1.0, 0.0));
        assert!((sum / exact - 1.0).abs() < 2e-6, "{sum} {exact}");
    }

    #[test]
    fn sigmoid_has_its_limits() {
        assert_eq!(sigmoid::<true>(200.0), 1.0);
        assert!(sigmoid::<true>(-200.0) < 1e-38);
        assert_eq!(sigmoid::<true>(0.0), 0.5);
    }
}
