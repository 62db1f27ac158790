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

/// Queries, keys and values of one product: their bias added, the first two turned, keys and values written
/// where they lie in the cache: `slots` and `positions` say where for each row. Rows whose slot is negative
/// are written nowhere. A unit for a vector of each first half of a head and the same of the second; `half`
/// is half a head in vectors.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn write_heads<F: Float, N: Size>(
    x: &[Vector<F, N>],
    bias: &[Vector<F, N>],
    cos: &[Vector<f32, N>],
    sin: &[Vector<f32, N>],
    slots: &[i32],
    positions: &[i32],
    q: &mut [Vector<F, N>],
    keys: &mut [Vector<F, N>],
    values: &mut [Vector<F, N>],
    half: usize,
    queries: usize,
    heads: usize,
    places: usize,
    count: usize,
    #[define(F)] _format: ElemType,
) {
    let unit = ABSOLUTE_POS;
    if unit < count {
        let all = queries + 2 * heads;
        let (head, at) = (unit / half, unit % half);
        let (row, head) = (head / all, head % all);
        let of_bias = head * 2 * half + at;
        let place = row * all * 2 * half + of_bias;
        // Rounded, as the sum is where it is not turned.
        let mut first = x[place] + bias[of_bias];
        let mut second = x[place + half] + bias[of_bias + half];
        if head < queries + heads {
            let table = row * 2 * half + at;
            let (a, b) = (
                Vector::<f32, N>::cast_from(first),
                Vector::<f32, N>::cast_from(second),
            );
            first = Vector::<F, N>::cast_from(a * cos[table] + b * sin[table]);
            second = Vector::<F, N>::cast_from(b * cos[table + half] + a * sin[table + half]);
        }
        if head < queries {
            let to = (row * queries + head) * 2 * half + at;
            q[to] = first;
            q[to + half] = second;
        } else if slots[row] >= 0 {
            let slot = usize::cast_from(slots[row]);
            let position = usize::cast_from(positions[row]);
            let place = (slot * heads + (head - queries) % heads) * places + position;
            let to = place * 2 * half + at;
            if head < queries + heads {
                keys[to] = first;
                keys[to + half] = second;
            } else {
                values[to] = first;
                values[to + half] = second;
            }
        }
    }
}
