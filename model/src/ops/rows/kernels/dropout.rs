//! Dropout: see `ops::dropout`, whose numbers these are.

use cubecl::prelude::*;

use crate::ops::dropout::VALUES;

/// The second word of a round, once the first is the sum of both.
#[cube]
fn mixed(sum: u32, word: u32, #[comptime] by: u32) -> u32 {
    ((word << by) | (word >> comptime!(32 - by))) ^ sum
}

/// Threefry-2x32 with 13 rounds; the second word is the high half.
#[cube]
fn threefry(key0: u32, key1: u32, counter0: u32, counter1: u32) -> u64 {
    let key2 = key0 ^ key1 ^ 0x1bd1_1bdau32;
    let mut a = counter0 + key0;
    let mut b = counter1 + key1;
    a += b;
    b = mixed(a, b, 13u32);
    a += b;
    b = mixed(a, b, 15u32);
    a += b;
    b = mixed(a, b, 26u32);
    a += b;
    b = mixed(a, b, 6u32);
    a += key1;
    b += key2 + 1u32;
    a += b;
    b = mixed(a, b, 17u32);
    a += b;
    b = mixed(a, b, 29u32);
    a += b;
    b = mixed(a, b, 16u32);
    a += b;
    b = mixed(a, b, 24u32);
    a += key2;
    b += key0 + 2u32;
    a += b;
    b = mixed(a, b, 13u32);
    a += b;
    b = mixed(a, b, 15u32);
    a += b;
    b = mixed(a, b, 26u32);
    a += b;
    b = mixed(a, b, 6u32);
    a += key0;
    b += key1 + 3u32;
    a += b;
    b = mixed(a, b, 17u32);
    (u64::cast_from(b) << 32u64) | u64::cast_from(a)
}

/// Drops some values and scales the others, a unit for each vector of a row of `width` vectors.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn drop_values<F: Float, N: Size>(
    x: &[Vector<F, N>],
    rows: &[u32],
    y: &mut [Vector<F, N>],
    width: usize,
    place: u32,
    dropped: u32,
    scale: f32,
    count: usize,
    #[define(F)] _format: ElemType,
) {
    let unit = ABSOLUTE_POS;
    if unit < count {
        let size = N::value().comptime();
        let row = unit / width;
        let start = unit % width * size;
        let (key0, key1) = (rows[3 * row], rows[3 * row + 1]);
        let numbers = (width * size).div_ceil(VALUES) as u32;
        let first = rows[3 * row + 2] * numbers;
        let mut left = Vector::<f32, N>::cast_from(x[unit]) * Vector::<f32, N>::new(scale);
        #[unroll]
        for group in 0..comptime!(size.div_ceil(VALUES)) {
            let column = start + group * VALUES;
            let bits = threefry(key0, key1, first + (column / VALUES) as u32, place);
            #[unroll]
            for j in 0..comptime!(if size < VALUES { size } else { VALUES }) {
                let shift = ((column + j) % VALUES * 16) as u64;
                let sixteen = u32::cast_from((bits >> shift) & 0xffffu64);
                if sixteen < dropped {
                    left.insert(group * VALUES + j, 0.0f32);
                }
            }
        }
        y[unit] = Vector::<F, N>::cast_from(left);
    }
}
