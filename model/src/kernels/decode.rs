//! Attention of new tokens over the cached keys and values of one text.
//!
//! The order of every sum depends on the text alone, and is that of `attention`, so that neither
//! the other texts of a batch nor how a text was cut into steps changes a bit.

use super::exp::{exponentials, highest};
use super::tile::{LANES, MAX_ROWS, Operands, PANEL, Right, max_vectors, tile};
use crate::kv_cache::{BLOCK, Sizes, Text};

/// Room for the scores of a group of query heads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    queries: Vec<f32>,
    scores: Vec<f32>,
    inverses: Vec<f32>,
    out: Vec<f32>,
}

/// Writes into `out` (`[heads, D]`) the attention of one token's queries (`[heads, D]`, already
/// turned) over the first `seen` tokens of `text` in `layer`.
pub(crate) fn attend(
    text: &Text,
    sizes: &Sizes,
    layer: usize,
    seen: usize,
    queries: &[f32],
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let heads = queries.len() / sizes.dim;
    let group = heads / sizes.kv_heads;
    let padded = sizes.padded();
    let row = seen.next_multiple_of(BLOCK);
    let scale = 1.0 / (sizes.dim as f32).sqrt();
    scratch
        .scores
        .resize((group * row).max(scratch.scores.len()), 0.0);
    scratch
        .out
        .resize((group * padded).max(scratch.out.len()), 0.0);
    for kv_head in 0..sizes.kv_heads {
        let range = kv_head * group * sizes.dim..(kv_head + 1) * group * sizes.dim;
        scratch.queries.clear();
        scratch.queries.extend_from_slice(&queries[range.clone()]);
        let place = sizes.place(layer, kv_head);
        let work = Work {
            text,
            sizes,
            place,
            seen,
            group,
            row,
            padded,
        };
        work.scores(&scratch.queries, &mut scratch.scores);
        scratch.inverses.clear();
        for scores in scratch.scores.chunks_exact_mut(row).take(group) {
            let shift = highest(&scores[..seen]) * scale;
            let sum = exponentials(&mut scores[..seen], scale, shift);
            scratch.inverses.push(1.0 / sum);
        }
        work.mix(&scratch.scores, &mut scratch.out);
        let heads = out[range].chunks_exact_mut(sizes.dim);
        let mixed = scratch.out.chunks_exact(padded).zip(&scratch.inverses);
        for (out, (mixed, inverse)) in heads.zip(mixed) {
            for (out, mixed) in out.iter_mut().zip(mixed) {
                *out = mixed * inverse;
            }
        }
    }
}

/// One key-value head of one text, and the query heads that share it.
struct Work<'a> {
    text: &'a Text,
    sizes: &'a Sizes,
    place: (usize, usize),
    seen: usize,
    group: usize,
    row: usize,
    padded: usize,
}

impl Work<'_> {
    #[expect(
        unsafe_code,
        reason = "calls the vector tile on addresses inside the buffers"
    )]
    fn scores(&self, queries: &[f32], scores: &mut [f32]) {
        let wide = super::wide_vectors();
        let dim = self.sizes.dim;
        assert!(queries.len() >= self.group * dim && scores.len() >= self.group * self.row);
        for (index, block) in self.text.blocks().iter().enumerate() {
            let first = index * BLOCK;
            if first >= self.seen {
                break;
            }
            let keys = &block[self.place.0..self.place.0 + self.sizes.keys()];
            let mut head = 0;
            while head < self.group {
                let rows = MAX_ROWS.min(self.group - head);
                let vectors = max_vectors(rows).min(BLOCK / LANES);
                for panel in (0..BLOCK / PANEL).step_by(vectors * LANES / PANEL) {
                    let x = Operands {
                        inner: dim,
                        a: queries[head * dim..].as_ptr(),
                        a_row: dim,
                        a_inner: 1,
                        b: Right::Single(keys[panel * dim * PANEL..].as_ptr()),
                        b_inner: PANEL,
                        b_panel: dim * PANEL,
                        c: scores[head * self.row + first + panel * PANEL..].as_mut_ptr(),
                        c_row: self.row,
                        start: std::ptr::null(),
                        start_row: 0,
                    };
                    // SAFETY: `keys` holds all panels of the block, a row of scores holds whole
                    // blocks, and both have room for `head + rows <= group` rows.
                    unsafe { tile(rows, vectors, wide, &x) };
                }
                head += rows;
            }
        }
    }

    #[expect(
        unsafe_code,
        reason = "calls the vector tile on addresses inside the buffers"
    )]
    fn mix(&self, scores: &[f32], out: &mut [f32]) {
        let wide = super::wide_vectors();
        let padded = self.padded;
        assert!(scores.len() >= self.group * self.row && out.len() >= self.group * padded);
        for (index, block) in self.text.blocks().iter().enumerate() {
            let first = index * BLOCK;
            if first >= self.seen {
                break;
            }
            let inner = BLOCK.min(self.seen - first);
            let values = &block[self.place.1..self.place.1 + BLOCK * padded];
            let mut head = 0;
            while head < self.group {
                let rows = MAX_ROWS.min(self.group - head);
                let mut at = 0;
                while at < padded {
                    let (most, left) = (max_vectors(rows), (padded - at) / LANES);
                    let vectors = [8, 4, 2, 1]
                        .into_iter()
                        .find(|n| *n <= most && *n <= left)
                        .unwrap_or(1);
                    let sums = out[head * padded + at..].as_mut_ptr();
                    let x = Operands {
                        inner,
                        a: scores[head * self.row + first..].as_ptr(),
                        a_row: self.row,
                        a_inner: 1,
                        b: Right::Single(values[at..].as_ptr()),
                        b_inner: padded,
                        b_panel: PANEL,
                        c: sums,
                        c_row: padded,
                        start: if index > 0 { sums } else { std::ptr::null() },
                        start_row: padded,
                    };
                    // SAFETY: `values` holds `BLOCK` padded rows, the scores `inner` columns from
                    // `first` on, and `out` `head + rows <= group` padded rows.
                    unsafe { tile(rows, vectors, wide, &x) };
                    at += vectors * LANES;
                }
                head += rows;
            }
        }
    }
}
