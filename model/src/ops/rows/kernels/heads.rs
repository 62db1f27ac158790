//! Rotary embedding, and the heads that one product makes.

use cubecl::prelude::*;

/// The rotary embedding: a unit for a vector of each first half and the same of the second. `half` is
/// half a head in vectors, `heads` heads make a row, a row of the tables is a head.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn turn<F: Float, N: Size>(
    x: &[Vector<F, N>],
    cos: &[Vector<f32, N>],
    sin: &[Vector<f32, N>],
    y: &mut [Vector<F, N>],
    half: usize,
    heads: usize,
    count: usize,
    #[comptime] back: bool,
    #[define(F)] _format: ElemType,
) {
    let unit = ABSOLUTE_POS;
    if unit < count {
        let (head, at) = (unit / half, unit % half);
        let table = head / heads * 2 * half + at;
        let place = head * 2 * half + at;
        let first = Vector::<f32, N>::cast_from(x[place]);
        let second = Vector::<f32, N>::cast_from(x[place + half]);
        // The table of sines has the sign of each half.
        let (mut to_first, mut to_second) = (sin[table], sin[table + half]);
        if comptime!(back) {
            to_first = sin[table + half];
            to_second = sin[table];
        }
        y[place] = Vector::<F, N>::cast_from(first * cos[table] + second * to_first);
        y[place + half] = Vector::<F, N>::cast_from(second * cos[table + half] + first * to_second);
    }
}

/// Queries, keys and values of one product: their bias added, the first two turned. A unit for a vector of
/// each first half of a head and the same of the second; `half` is half a head in vectors.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn part_heads<F: Float, N: Size>(
    x: &[Vector<F, N>],
    bias: &[Vector<F, N>],
    cos: &[Vector<f32, N>],
    sin: &[Vector<f32, N>],
    q: &mut [Vector<F, N>],
    k: &mut [Vector<F, N>],
    v: &mut [Vector<F, N>],
    half: usize,
    queries: usize,
    keys: usize,
    count: usize,
    #[define(F)] _format: ElemType,
) {
    let unit = ABSOLUTE_POS;
    if unit < count {
        let heads = queries + 2 * keys;
        let (head, at) = (unit / half, unit % half);
        let (row, head) = (head / heads, head % heads);
        let of_bias = head * 2 * half + at;
        let place = row * heads * 2 * half + of_bias;
        // Rounded, as the sum is where it is not turned.
        let first = x[place] + bias[of_bias];
        let second = x[place + half] + bias[of_bias + half];
        if head < queries + keys {
            let table = row * 2 * half + at;
            let (a, b) = (
                Vector::<f32, N>::cast_from(first),
                Vector::<f32, N>::cast_from(second),
            );
            let turned = Vector::<F, N>::cast_from(a * cos[table] + b * sin[table]);
            let other = Vector::<F, N>::cast_from(b * cos[table + half] + a * sin[table + half]);
            if head < queries {
                let to = (row * queries + head) * 2 * half + at;
                q[to] = turned;
                q[to + half] = other;
            } else {
                let to = (row * keys + head - queries) * 2 * half + at;
                k[to] = turned;
                k[to + half] = other;
            }
        } else {
            let to = (row * keys + head - queries - keys) * 2 * half + at;
            v[to] = first;
            v[to + half] = second;
        }
    }
}
