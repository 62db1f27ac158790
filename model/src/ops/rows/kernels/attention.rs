//! Attention of one query per text over keys and values as they lie in the cache.
//!
//! A text's places are dealt out to `splits` cubes, these deal theirs out to their planes, and each plane
//! keeps a softmax of what it has seen: its largest score, the sum of exponentials and the weighted sum
//! of values. A cube joins those of its planes, and a second kernel those of a text's cubes. Where a text
//! lies and how long it is comes from the card's memory, so that a launch depends on neither.
//!
//! Scores are in units of log 2: the card has an instruction for powers of 2.
//!
//! Legend: R texts, K key-value heads, G queries of one, C places of a slot, D head size.

mod places;
#[cfg(test)]
mod tests;
mod tiles;

use cubecl::prelude::*;

pub(in crate::ops::rows) use self::places::attend_places;
pub(in crate::ops::rows) use self::tiles::attend_tiles;

/// Planes of a cube, each with a share of the cube's places.
pub(in crate::ops::rows) const PLANES: usize = 4;

/// Units of a plane: the kernels are for CUDA cards.
pub(in crate::ops::rows) const LANES: usize = 32;

/// Queries that share what is read of a text: columns of a card's smallest product.
pub(in crate::ops::rows) const HEADS: usize = 8;

/// Places that a plane takes at a time: the depth of that product.
pub(in crate::ops::rows) const TILE: usize = 16;

/// Below every score.
const LOWEST: f32 = -1e30;

/// Where a text's keys and values lie and how they are dealt out.
#[derive(CubeType, Clone, Copy)]
struct Share {
    /// Places of the text with the new token; 0: there is no such text.
    length: usize,
    /// The first place of its head, in heads.
    base: usize,
    /// Tiles of this cube: from `first` to before `end`.
    first: usize,
    end: usize,
}

/// Places of a text, with the new one.
#[cube]
fn length_of(slot: i32, position: i32) -> usize {
    let mut length = 0usize;
    if slot >= 0 {
        length = usize::cast_from(position) + 1;
    }
    length
}

/// Tiles that a cube takes of so many: each plane has one at least.
#[cube]
fn tiles_of_cube(tiles: usize, splits: usize) -> usize {
    max(tiles.div_ceil(splits), comptime!(PLANES).runtime())
}

/// The share of the cube `CUBE_POS_X` of `splits`.
#[cube]
fn share_of(
    slots: &[i32],
    positions: &[i32],
    row: usize,
    head: usize,
    heads: usize,
    places: usize,
    splits: usize,
) -> Share {
    let slot = slots[row];
    let length = length_of(slot, positions[row]);
    let tiles = length.div_ceil(TILE);
    let many = tiles_of_cube(tiles, splits);
    let first = CUBE_POS_X as usize * many;
    Share {
        length,
        base: (usize::cast_from(max(slot, 0)) * heads + head) * places,
        first,
        end: min(first + many, tiles),
    }
}

/// 2 to the power of x.
#[cube]
fn power(x: f32) -> f32 {
    let d: f32;
    gpu_asm!(
        "ex2.approx.ftz.f32 {d}, {a};",
        a = in(_) f32::reinterpret(x), d = out(_) d,
        options(pure, nomem),
    );
    d
}

/// Writes what a cube has seen: the sum of what its planes left in shared memory, each weighed by its
/// largest score.
#[cube]
#[expect(
    clippy::too_many_arguments,
    reason = "what planes left, and where it goes"
)]
fn write_part<M: Size>(
    mixed: &Shared<[f32]>,
    tops: &Shared<[f32]>,
    sums: &Shared<[f32]>,
    parts: &mut [Vector<f32, M>],
    stats: &mut [f32],
    to: usize,
    heads: usize,
    #[comptime] dim: usize,
) {
    let size = M::value().comptime();
    let width = comptime!(dim / size);
    let mut at = UNIT_POS as usize;
    while at < heads * width {
        let (head, column) = (at / width, at % width);
        let mut most = tops[head];
        #[unroll]
        for plane in 1..PLANES {
            most = max(most, tops[plane * HEADS + head]);
        }
        let mut total = Vector::<f32, M>::new(0.0f32);
        let mut sum = 0.0f32;
        #[unroll]
        for plane in 0..PLANES {
            let from = plane * HEADS + head;
            let weight = power(tops[from] - most);
            sum += weight * sums[from];
            let mut value = Vector::<f32, M>::new(0.0f32);
            #[unroll]
            for i in 0..size {
                value.insert(i, mixed[from * dim + column * size + i]);
            }
            total += value * Vector::<f32, M>::new(weight);
        }
        parts[(to + head) * width + column] = total;
        if column == 0 {
            stats[(to + head) * 2] = most;
            stats[(to + head) * 2 + 1] = sum;
        }
        at += CUBE_DIM as usize;
    }
}

/// Attention from the parts of a text's cubes: a cube for each query, whose units take parts in turn. `width`
/// is a head in vectors.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn join_parts<F: Float, M: Size>(
    parts: &[Vector<f32, M>],
    stats: &[f32],
    slots: &[i32],
    positions: &[i32],
    y: &mut [Vector<F, M>],
    group: usize,
    splits: usize,
    #[comptime] width: usize,
    #[comptime] turns: usize,
    #[define(F)] _format: ElemType,
) {
    let (query, row) = (CUBE_POS_X as usize, CUBE_POS_Y as usize);
    let queries = CUBE_COUNT_X as usize;
    let tiles = length_of(slots[row], positions[row]).div_ceil(TILE);
    let used = tiles.div_ceil(tiles_of_cube(tiles, splits));
    // The part of the text's cube s.
    let first = (row * queries + query / group * group) * splits + query % group;
    let mut most = LOWEST.runtime();
    let mut s = UNIT_POS as usize % LANES;
    while s < used {
        most = max(most, stats[(first + s * group) * 2]);
        s += LANES;
    }
    let most = plane_max(most);

    let (column, turn) = (UNIT_POS as usize % width, UNIT_POS as usize / width);
    let mut total = Vector::<f32, M>::new(0.0f32);
    let mut sum = 0.0f32;
    let mut totals = Shared::<[Vector<f32, M>]>::new_slice(comptime!(turns * width));
    let mut sums = Shared::<[f32]>::new_slice(turns);
    if turn < turns {
        let mut s = turn;
        while s < used {
            let from = first + s * group;
            let weight = power(stats[from * 2] - most);
            sum += weight * stats[from * 2 + 1];
            total += parts[from * width + column] * Vector::<f32, M>::new(weight);
            s += turns;
        }
        totals[turn * width + column] = total;
        if column == 0 {
            sums[turn] = sum;
        }
    }
    sync_cube();
    if turn == 0 {
        #[unroll]
        for other in 1..turns {
            total += totals[other * width + column];
            sum += sums[other];
        }
        let mut mixed = Vector::<f32, M>::new(0.0f32);
        if sum > 0.0f32 {
            mixed = total / Vector::<f32, M>::new(sum);
        }
        y[(row * queries + query) * width + column] = Vector::<F, M>::cast_from(mixed);
    }
}
