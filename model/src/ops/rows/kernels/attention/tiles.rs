//! Attention in bf16 by the card's products of small matrices.
//!
//! What goes into an instruction is reinterpreted as what it is: CubeCL would hand over the address of a variable.

use cubecl::prelude::*;

use super::{HEADS, LANES, LOWEST, PLANES, TILE, power, share_of, write_part};

/// A product of 16 x 16 and 16 x 8 numbers of bf16, added to one of f32: what lies in which unit is NVIDIA's
/// order for `mma.m16n8k16`. Unit 4 g + t has of the first factor rows g and g + 8, columns 2 t and 2 t + 1
/// and the same 8 behind; of the second those as rows, column g; of the result rows g and g + 8, columns 2 t
/// and 2 t + 1.
#[cube]
fn product(
    a: Vector<u32, Const<4>>,
    b: Vector<u32, Const<2>>,
    c: Vector<f32, Const<4>>,
) -> Vector<f32, Const<4>> {
    let d: Vector<f32, Const<4>>;
    gpu_asm!(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {d}, {a}, {b}, {c};",
        a = in(_) Vector::<u32, Const<4>>::reinterpret(a),
        b = in(_) Vector::<u32, Const<2>>::reinterpret(b),
        c = in(_) Vector::<f32, Const<4>>::reinterpret(c),
        d = out(_) d,
        options(pure, nomem),
    );
    d
}

/// The lower halves of two words, or with the selector 0x7632 the upper ones.
#[cube]
fn halves(a: u32, b: u32, #[comptime] selector: u32) -> u32 {
    let d: u32;
    gpu_asm!(
        "prmt.b32 {d}, {a}, {b}, {selector};",
        a = in(_) u32::reinterpret(a), b = in(_) u32::reinterpret(b), d = out(_) d,
        options(pure, nomem),
    );
    d
}

/// Two numbers rounded to bf16, the first in the lower half.
#[cube]
fn rounded(first: f32, second: f32) -> u32 {
    let d: u32;
    gpu_asm!(
        "cvt.rn.bf16x2.f32 {d}, {b}, {a};",
        a = in(_) f32::reinterpret(first), b = in(_) f32::reinterpret(second), d = out(_) d,
        options(pure, nomem),
    );
    d
}

/// A score, if its place is one of the text.
#[cube]
fn seen(score: f32, place: usize, length: usize) -> f32 {
    let mut kept = LOWEST.runtime();
    if place < length {
        kept = score;
    }
    kept
}

/// Parts of attention in bf16 by the card's products, a plane for 16 places at a time. The queries of a group
/// are rows of the first product and columns of the second, so that what the first leaves in a unit is what
/// the second wants there. Nothing passes through shared memory: a unit reads 16 bytes of a key or value at
/// a time, and both products sum over whatever order that gives.
///
/// For heads of 128 a plane takes 16 loads, 24 products, 32 permutations and about 100 other instructions
/// for the 8 KiB of a tile, some 170 in all: a tenth of what a card can issue while it reads them.
///
/// `q`, `keys` and `values` are bf16, seen as vectors of 4 words; `scale` is in units of log 2.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn attend_tiles<N: Size>(
    q: &[Vector<u32, N>],
    keys: &[Vector<u32, N>],
    values: &[Vector<u32, N>],
    slots: &[i32],
    positions: &[i32],
    parts: &mut [Vector<f32, N>],
    stats: &mut [f32],
    heads: usize,
    group: usize,
    places: usize,
    splits: usize,
    scale: f32,
    #[comptime] dim: usize,
) {
    let chunks = group.div_ceil(HEADS);
    let (row, head) = (CUBE_POS_Z as usize, CUBE_POS_Y as usize / chunks);
    let first_query = CUBE_POS_Y as usize % chunks * HEADS;
    let share = share_of(slots, positions, row, head, heads, places, splits);
    if share.first < share.end {
        let wide = comptime!(dim / 8); // vectors of a head
        let of_key = comptime!(dim / 32); // of them, those of a unit
        let of_value = comptime!(dim / 64);
        let (lane, plane) = (UNIT_POS as usize % LANES, UNIT_POS as usize / LANES);
        let (g, t) = (lane / 4, lane % 4);
        let pair = row * heads + head;
        let zero = Vector::<f32, Const<4>>::new(0.0f32);

        let mut query = Array::<Vector<u32, N>>::new(of_key);
        #[unroll]
        for j in 0..of_key {
            let mut words = Vector::<u32, N>::new(0u32);
            if first_query + g < group {
                words = q[(pair * group + first_query + g) * wide + j * 4 + t];
            }
            query[j] = words;
        }
        let mut mixed = Array::<Vector<f32, Const<4>>>::new(comptime!(dim / 16));
        #[unroll]
        for i in 0..comptime!(dim / 16) {
            mixed[i] = zero;
        }
        let mut top = LOWEST.runtime();
        let mut sum = 0.0f32;

        let mut tile = share.first + plane;
        while tile < share.end {
            let start = tile * TILE;
            // Places behind the text are read as its last one and count nothing.
            let last = share.length - 1;
            let mut k = Array::<Vector<u32, N>>::new(comptime!(2 * of_key));
            #[unroll]
            for i in 0..2usize {
                let place = share.base + min(start + g + 8 * i, last);
                #[unroll]
                for j in 0..of_key {
                    k[i * of_key + j] = keys[place * wide + j * 4 + t];
                }
            }
            let mut v = Array::<Vector<u32, N>>::new(comptime!(4 * of_value));
            #[unroll]
            for i in 0..4usize {
                let place = share.base + min(start + 2 * t + i % 2 + i / 2 * 8, last);
                #[unroll]
                for j in 0..of_value {
                    v[i * of_value + j] = values[place * wide + j * 8 + g];
                }
            }

            // Scores of query g at places 2 t, 2 t + 1, and 8 behind.
            let mut near = zero;
            let mut far = zero;
            #[unroll]
            for j in 0..of_key {
                #[unroll]
                for h in 0..2usize {
                    let mut a = Vector::<u32, Const<4>>::new(0u32);
                    a.insert(0usize, query[j].extract(2 * h));
                    a.insert(2usize, query[j].extract(2 * h + 1));
                    let mut b = Vector::<u32, Const<2>>::new(0u32);
                    b.insert(0usize, k[j].extract(2 * h));
                    b.insert(1usize, k[j].extract(2 * h + 1));
                    near = product(a, b, near);
                    let mut b = Vector::<u32, Const<2>>::new(0u32);
                    b.insert(0usize, k[of_key + j].extract(2 * h));
                    b.insert(1usize, k[of_key + j].extract(2 * h + 1));
                    far = product(a, b, far);
                }
            }
            let place = start + 2 * t;
            let s0 = seen(near.extract(0usize) * scale, place, share.length);
            let s1 = seen(near.extract(1usize) * scale, place + 1, share.length);
            let s2 = seen(far.extract(0usize) * scale, place + 8, share.length);
            let s3 = seen(far.extract(1usize) * scale, place + 9, share.length);
            let most = max(max(s0, s1), max(s2, s3));
            let most = max(most, plane_shuffle_xor(most, 1u32));
            let most = max(max(most, plane_shuffle_xor(most, 2u32)), top);
            let factor = power(top - most);
            top = most;
            let (p0, p1, p2, p3) = (
                power(s0 - most),
                power(s1 - most),
                power(s2 - most),
                power(s3 - most),
            );
            sum = sum * factor + (p0 + p1) + (p2 + p3);
            let mut shares = Vector::<u32, Const<2>>::new(0u32);
            shares.insert(0usize, rounded(p0, p1));
            shares.insert(1usize, rounded(p2, p3));

            // Queries 2 t and 2 t + 1 are columns of the sums.
            let even = plane_shuffle(factor, (8 * t) as u32);
            let odd = plane_shuffle(factor, (8 * t + 4) as u32);
            let mut factors = Vector::<f32, Const<4>>::new(even);
            factors.insert(1usize, odd);
            factors.insert(3usize, odd);
            #[unroll]
            for j in 0..of_value {
                #[unroll]
                for w in 0..4usize {
                    let (v0, v1) = (v[j].extract(w), v[of_value + j].extract(w));
                    let (v2, v3) = (
                        v[2 * of_value + j].extract(w),
                        v[3 * of_value + j].extract(w),
                    );
                    let mut a = Vector::<u32, Const<4>>::new(0u32);
                    a.insert(0usize, halves(v0, v1, 0x5410u32));
                    a.insert(1usize, halves(v0, v1, 0x7632u32));
                    a.insert(2usize, halves(v2, v3, 0x5410u32));
                    a.insert(3usize, halves(v2, v3, 0x7632u32));
                    mixed[j * 4 + w] = product(a, shares, mixed[j * 4 + w] * factors);
                }
            }
            tile += PLANES;
        }

        sum += plane_shuffle_xor(sum, 1u32);
        sum += plane_shuffle_xor(sum, 2u32);
        let mut all_mixed = Shared::<[f32]>::new_slice(comptime!(PLANES * HEADS * dim));
        let mut tops = Shared::<[f32]>::new_slice(comptime!(PLANES * HEADS));
        let mut sums = Shared::<[f32]>::new_slice(comptime!(PLANES * HEADS));
        if t == 0 {
            tops[plane * HEADS + g] = top;
            sums[plane * HEADS + g] = sum;
        }
        let of_query = (plane * HEADS + 2 * t) * dim;
        #[unroll]
        for j in 0..of_value {
            #[unroll]
            for w in 0..4usize {
                let to = of_query + (j * 8 + g) * 8 + 2 * w;
                let value = mixed[j * 4 + w];
                all_mixed[to] = value.extract(0usize);
                all_mixed[to + dim] = value.extract(1usize);
                all_mixed[to + 1] = value.extract(2usize);
                all_mixed[to + dim + 1] = value.extract(3usize);
            }
        }
        sync_cube();
        let to = (pair * splits + CUBE_POS_X as usize) * group + first_query;
        let queries = min(group - first_query, HEADS.runtime());
        write_part::<N>(&all_mixed, &tops, &sums, parts, stats, to, queries, dim);
    }
}
