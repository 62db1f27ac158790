//! Attention in any format, one place at a time.

use cubecl::prelude::*;

use super::{HEADS, LANES, LOWEST, PLANES, TILE, power, share_of, write_part};

/// Parts of attention in any format, a plane for one place at a time, whose units share each head.
/// `width` is a head in vectors, `held` those of a unit; `scale` is in units of log 2.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn attend_places<F: Float, N: Size, M: Size>(
    q: &[Vector<F, N>],
    keys: &[Vector<F, N>],
    values: &[Vector<F, N>],
    slots: &[i32],
    positions: &[i32],
    parts: &mut [Vector<f32, M>],
    stats: &mut [f32],
    heads: usize,
    group: usize,
    places: usize,
    splits: usize,
    scale: f32,
    #[comptime] dim: usize,
    #[comptime] held: usize,
    #[define(F)] _format: ElemType,
) {
    let chunks = group.div_ceil(HEADS);
    let (row, head) = (CUBE_POS_Z as usize, CUBE_POS_Y as usize / chunks);
    let first_query = CUBE_POS_Y as usize % chunks * HEADS;
    let share = share_of(slots, positions, row, head, heads, places, splits);
    if share.first < share.end {
        let size = N::value().comptime();
        let width = comptime!(dim / size);
        let (lane, plane) = (UNIT_POS as usize % LANES, UNIT_POS as usize / LANES);
        let pair = row * heads + head;
        let queries = min(group - first_query, HEADS.runtime());

        let mut query = Array::<Vector<f32, N>>::new(comptime!(HEADS * held));
        let mut mixed = Array::<Vector<f32, N>>::new(comptime!(HEADS * held));
        let mut top = Array::<f32>::new(HEADS);
        let mut sum = Array::<f32>::new(HEADS);
        #[unroll]
        for h in 0..HEADS {
            top[h] = LOWEST.runtime();
            sum[h] = 0.0f32;
            #[unroll]
            for i in 0..held {
                let at = lane + i * LANES;
                let mut part = Vector::<f32, N>::new(0.0f32);
                if h < queries && at < width {
                    let from = (pair * group + first_query + h) * width + at;
                    part = Vector::<f32, N>::cast_from(q[from]);
                }
                query[h * held + i] = part;
                mixed[h * held + i] = Vector::<f32, N>::new(0.0f32);
            }
        }

        let end = min(share.end * TILE, share.length);
        let mut place = share.first * TILE + plane;
        while place < end {
            let from = (share.base + place) * width;
            let mut key = Array::<Vector<f32, N>>::new(held);
            let mut value = Array::<Vector<f32, N>>::new(held);
            #[unroll]
            for i in 0..held {
                let at = lane + i * LANES;
                key[i] = Vector::<f32, N>::new(0.0f32);
                value[i] = Vector::<f32, N>::new(0.0f32);
                if at < width {
                    key[i] = Vector::<f32, N>::cast_from(keys[from + at]);
                    value[i] = Vector::<f32, N>::cast_from(values[from + at]);
                }
            }
            #[unroll]
            for h in 0..HEADS {
                let mut products = Vector::<f32, N>::new(0.0f32);
                #[unroll]
                for i in 0..held {
                    products += query[h * held + i] * key[i];
                }
                let score = plane_sum(products.vector_sum()) * scale;
                let most = max(top[h], score);
                let factor = power(top[h] - most);
                let weight = power(score - most);
                top[h] = most;
                sum[h] = sum[h] * factor + weight;
                #[unroll]
                for i in 0..held {
                    mixed[h * held + i] = mixed[h * held + i] * Vector::<f32, N>::new(factor)
                        + value[i] * Vector::<f32, N>::new(weight);
                }
            }
            place += PLANES;
        }

        let mut all_mixed = Shared::<[f32]>::new_slice(comptime!(PLANES * HEADS * dim));
        let mut tops = Shared::<[f32]>::new_slice(comptime!(PLANES * HEADS));
        let mut sums = Shared::<[f32]>::new_slice(comptime!(PLANES * HEADS));
        #[unroll]
        for h in 0..HEADS {
            if lane == 0 {
                tops[plane * HEADS + h] = top[h];
                sums[plane * HEADS + h] = sum[h];
            }
            #[unroll]
            for i in 0..held {
                let at = lane + i * LANES;
                if at < width {
                    let part = mixed[h * held + i];
                    #[unroll]
                    for n in 0..size {
                        all_mixed[(plane * HEADS + h) * dim + at * size + n] = part.extract(n);
                    }
                }
            }
        }
        sync_cube();
        let to = (pair * splits + CUBE_POS_X as usize) * group + first_query;
        write_part::<M>(&all_mixed, &tops, &sums, parts, stats, to, queries, dim);
    }
}
