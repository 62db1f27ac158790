//! The arithmetic of the decoder on plain f32 slices, for the processor.
//!
//! Nothing here knows of Burn, tensors or the model: slices in, slices out. Every result is a
//! function of its inputs alone: work is split over threads only where the pieces are disjoint, and
//! sums run in an order that depends on no thread count and no batch size.

pub(crate) mod attention;
pub(crate) mod decode;
mod disjoint;
pub(crate) mod elementwise;
pub(crate) mod exp;
pub(crate) mod gemm;
pub(crate) mod loss;
pub(crate) mod panels;
pub(crate) mod pool;
pub(crate) mod tile;

/// Runs a kernel body compiled for AVX2 and FMA where the processor has them, and the portable
/// build of the same body elsewhere. The body is generic over `const FMA: bool`.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$meta])*
        #[inline]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide($($arg: $ty),*) $(-> $ret)? {
                    $body::<true>($($arg),*)
                }
                if $crate::kernels::wide_vectors() {
                    #[expect(unsafe_code, reason = "the processor was just seen to have AVX2 and FMA")]
                    // SAFETY: `wide_vectors` checked the features that `wide` is compiled with.
                    return unsafe { wide($($arg),*) };
                }
            }
            $body::<false>($($arg),*)
        }
    };
}
pub(crate) use multiversion;

/// The vectors a processor computes with. Which ones they are changes no bit between the last two:
/// an element of a product is the same chain of fused multiply-adds in either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "other processors have only the first")
)]
pub(crate) enum Vectors {
    /// Whatever the compiler makes of plain loops.
    Portable,
    /// 8 numbers, with fused multiply-adds.
    Avx2,
    /// 16 numbers and twice the registers.
    Avx512,
}

/// The widest vectors of the processor that the kernels know.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn vectors() -> Vectors {
    let avx2 =
        std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
    match avx2 {
        true if std::arch::is_x86_feature_detected!("avx512f") => Vectors::Avx512,
        true => Vectors::Avx2,
        false => Vectors::Portable,
    }
}

/// Other processors run the portable form of the kernels.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn vectors() -> Vectors {
    Vectors::Portable
}

/// Whether the processor has AVX2 and FMA.
#[inline]
pub(crate) fn wide_vectors() -> bool {
    vectors() >= Vectors::Avx2
}

/// `a * b + c`, fused when the surrounding body is compiled for FMA.
#[inline(always)]
pub(crate) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}
