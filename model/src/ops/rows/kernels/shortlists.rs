//! What a draw needs of a row of logits: `PARTS` cubes for each, in two passes.

use cubecl::prelude::*;

use super::cube::{max_of_cube, sum_of_cube};
use crate::ops::rows::shortlists::{
    BEST, IDS, LOGITS, NOT_FINITE, OVERFLOWS, PARTS, PLAINS, REACHES, ROOM, TOTALS, WORDS,
};

/// How much farther than asked for is looked, as a distance is rounded otherwise by who asks.
const FARTHER: f32 = 1.000_1;

/// Distances between lists.
const BORDERS: [f32; 3] = [
    REACHES[0] * FARTHER,
    REACHES[1] * FARTHER,
    REACHES[2] * FARTHER,
];

// The kernels below write out three lists, and a fourth for what is in none.
const _: () = assert!(REACHES.len() == 3, "as many lists as kernels make");

/// The place of a token for which there is no room.
const FULL: i64 = ROOM as i64;

/// Words of a row's lists.
const LISTED: usize = REACHES.len() * ROOM;

/// The largest logit of each part of a row, `stretch` vectors long; empties the row's lists.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn peaks<N: Size>(
    logits: &[Vector<f32, N>],
    peaks: &mut [f32],
    counts: &mut [i32],
    words: &mut [i32],
    width: usize,
    stretch: usize,
) {
    let (part, row) = (CUBE_POS_X as usize, CUBE_POS_Y as usize);
    let end = min(part * stretch + stretch, width);
    let mut best = f32::new(-3e38);
    let mut bad = 0.0f32;
    let mut at = part * stretch + UNIT_POS as usize;
    while at < end {
        let value = logits[row * width + at];
        #[unroll]
        for i in 0..N::value().comptime() {
            let one = value.extract(i);
            if one.abs() < NOT_FINITE {
                best = max(best, one);
            } else {
                bad = 1.0f32;
            }
        }
        at += CUBE_DIM as usize;
    }
    let best = max_of_cube(best);
    let bad = max_of_cube(bad);
    if UNIT_POS == 0 {
        if bad > 0.0f32 {
            peaks[row * PARTS + part] = NOT_FINITE;
        } else {
            peaks[row * PARTS + part] = best;
        }
    }
    if part == 0 {
        let mut at = UNIT_POS as usize;
        while at < LISTED {
            words[row * WORDS + IDS + at] = -1i32;
            at += CUBE_DIM as usize;
        }
        if UNIT_POS < 3 {
            counts[row * 3 + UNIT_POS as usize] = 0i32;
            words[row * WORDS + OVERFLOWS + UNIT_POS as usize] = 0i32;
        }
    }
}

/// The list that a token at a distance belongs to, from 0; as many as there are lists if to none.
#[cube]
fn list_of(distance: f32) -> usize {
    let mut list = 3usize;
    if distance <= BORDERS[2] {
        list = 2usize;
    }
    if distance <= BORDERS[1] {
        list = 1usize;
    }
    if distance <= BORDERS[0] {
        list = 0usize;
    }
    list
}

/// Sums of each part, and the tokens near the best one: a cube counts its own, asks for so many places at once,
/// and writes them if there are as many.
#[cube(launch_unchecked)]
pub(in crate::ops::rows) fn near_peak<N: Size>(
    logits: &[Vector<f32, N>],
    scales: &[f32],
    peaks: &[f32],
    counts: &[Atomic<i32>],
    words: &mut [i32],
    width: usize,
    stretch: usize,
) {
    let (part, row) = (CUBE_POS_X as usize, CUBE_POS_Y as usize);
    let mut best = peaks[row * PARTS];
    for other in 1..PARTS {
        best = max(best, peaks[row * PARTS + other]);
    }
    let scale = scales[row];
    let end = min(part * stretch + stretch, width);
    let mut total = 0.0f32;
    let mut plain = 0.0f32;
    let mut own = Array::<f32>::new(4usize);
    #[unroll]
    for list in 0..4 {
        own[list] = 0.0f32;
    }
    let mut at = part * stretch + UNIT_POS as usize;
    while at < end {
        let value = logits[row * width + at];
        #[unroll]
        for i in 0..N::value().comptime() {
            let below = value.extract(i) - best;
            total += (below * scale).exp();
            plain += below.exp();
            let list = list_of((0.0f32 - below) * scale);
            #[unroll]
            for other in 0..3 {
                if list == other {
                    own[other] += 1.0f32;
                }
            }
        }
        at += CUBE_DIM as usize;
    }
    let total = sum_of_cube(total);
    let plain = sum_of_cube(plain);
    let near = sum_of_cube(own[0]);
    let middle = sum_of_cube(own[1]);
    let far = sum_of_cube(own[2]);
    // Where each list goes on, and whether there is room for all; there is none behind the last list.
    let next = Shared::<[Atomic<i32>]>::new_slice(3usize);
    let mut fits = Shared::<[i32]>::new_slice(4usize);
    if UNIT_POS == 3 {
        fits[3] = 0i32;
    }
    if UNIT_POS < 3 {
        let mut asked = near;
        if UNIT_POS == 1 {
            asked = middle;
        }
        if UNIT_POS == 2 {
            asked = far;
        }
        let list = UNIT_POS as usize;
        let first = counts[row * 3 + list].fetch_add(i32::cast_from(asked));
        next[list].store(first);
        fits[list] = 1i32;
        if first + i32::cast_from(asked) > i32::new(FULL) {
            fits[list] = 0i32;
            words[row * WORDS + OVERFLOWS + list] = 1i32;
        }
    }
    sync_cube();
    if near + middle + far > 0.0f32 {
        let mut at = part * stretch + UNIT_POS as usize;
        while at < end {
            let value = logits[row * width + at];
            #[unroll]
            for i in 0..N::value().comptime() {
                let one = value.extract(i);
                let list = list_of((best - one) * scale);
                if fits[list] == 1i32 {
                    let place = next[list].fetch_add(1i32);
                    let entry = row * WORDS + list * ROOM + place as usize;
                    words[entry + IDS] = (at * N::value() + i) as i32;
                    words[entry + LOGITS] = i32::reinterpret(one);
                }
            }
            at += CUBE_DIM as usize;
        }
    }
    if UNIT_POS == 0 {
        words[row * WORDS + TOTALS + part] = i32::reinterpret(total);
        words[row * WORDS + PLAINS + part] = i32::reinterpret(plain);
        if part == 0 {
            words[row * WORDS + BEST] = i32::reinterpret(best);
        }
    }
}
