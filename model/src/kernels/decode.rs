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

/// Most rows of scores at a time: query heads of a group, for several tokens.
const ROWS: usize = 4 * MAX_ROWS;
/// Scores that stay in the second cache.
const SCORES: usize = 1 << 16;

/// How many consecutive tokens are best attended together, if `group` query heads share a
/// key-value head and the last of the tokens sees `seen`.
pub(crate) fn tokens_together(group: usize, seen: usize) -> usize {
    let rows = ROWS.min(SCORES / seen.max(1)).max(MAX_ROWS);
    (rows / group).max(1)
}

/// Consecutive tokens of one text, of which the first sees `seen` tokens, the next one more, and so
/// on.
#[derive(Clone, Copy)]
pub(crate) struct Queries<'a> {
    /// The queries (`[heads, D]`, already turned) of the tokens, `stride` apart.
    pub(crate) data: &'a [f32],
    pub(crate) stride: usize,
    /// Elements of a token's queries.
    pub(crate) width: usize,
    pub(crate) tokens: usize,
    pub(crate) seen: usize,
}

/// Writes into `out` (`[tokens, heads, D]`) the attention of the queries over `text` in `layer`.
///
/// What a token does not see yet has the weight 0: tokens that are attended together have the bits
/// they have alone.
pub(crate) fn attend(
    text: &Text,
    sizes: &Sizes,
    layer: usize,
    queries: Queries<'_>,
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let Queries { tokens, width, .. } = queries;
    let group = width / sizes.dim / sizes.kv_heads;
    let padded = sizes.padded();
    let seen = queries.seen + tokens - 1;
    let row = seen.next_multiple_of(BLOCK);
    let scale = 1.0 / (sizes.dim as f32).sqrt();
    let rows = tokens * group;
    scratch
        .scores
        .resize((rows * row).max(scratch.scores.len()), 0.0);
    scratch
        .out
        .resize((rows * padded).max(scratch.out.len()), 0.0);
    for kv_head in 0..sizes.kv_heads {
        let range = kv_head * group * sizes.dim..(kv_head + 1) * group * sizes.dim;
        scratch.queries.clear();
        for token in 0..tokens {
            let own = &queries.data[token * queries.stride..][range.clone()];
            scratch.queries.extend_from_slice(own);
        }
        let place = sizes.place(layer, kv_head);
        let work = Work {
            text,
            sizes,
            place,
            seen,
            rows,
            row,
            padded,
        };
        work.scores(&scratch.queries, &mut scratch.scores);
        scratch.inverses.clear();
        for (index, scores) in scratch.scores.chunks_exact_mut(row).take(rows).enumerate() {
            let own = queries.seen + index / group;
            let shift = highest(&scores[..own]) * scale;
            let sum = exponentials(&mut scores[..own], scale, shift);
            scores[own..seen].fill(0.0);
            scratch.inverses.push(1.0 / sum);
        }
        work.mix(&scratch.scores, &mut scratch.out);
        let mixed = scratch.out.chunks_exact(padded).zip(&scratch.inverses);
        for (index, (mixed, inverse)) in mixed.enumerate() {
            let head = range.start + index % group * sizes.dim;
            let out = &mut out[index / group * width + head..][..sizes.dim];
            for (out, mixed) in out.iter_mut().zip(mixed) {
                *out = mixed * inverse;
            }
        }
    }
}

/// One key-value head of one text, and the rows of queries that share it.
struct Work<'a> {
    text: &'a Text,
    sizes: &'a Sizes,
    place: (usize, usize),
    seen: usize,
    rows: usize,
    row: usize,
    padded: usize,
}

impl Work<'_> {
    #[expect(
        unsafe_code,
        reason = "calls the vector tile on addresses inside the buffers"
    )]
    fn scores(&self, queries: &[f32], scores: &mut [f32]) {
        let wide = super::vectors();
        let dim = self.sizes.dim;
        assert!(queries.len() >= self.rows * dim && scores.len() >= self.rows * self.row);
        for (index, block) in self.text.blocks().iter().enumerate() {
            let first = index * BLOCK;
            if first >= self.seen {
                break;
            }
            let keys = &block[self.place.0..self.place.0 + self.sizes.keys()];
            if let Some(next) = self.text.blocks().get(index + 1) {
                fetch(&next[self.place.0..self.place.0 + self.sizes.keys()]);
            }
            let mut head = 0;
            while head < self.rows {
                let rows = MAX_ROWS.min(self.rows - head);
                let vectors = max_vectors(rows, wide).min(BLOCK / LANES);
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
                        late: false,
                    };
                    // SAFETY: `keys` holds all panels of the block, a row of scores holds whole
                    // blocks, and both have room for `head + rows` rows.
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
        let wide = super::vectors();
        let padded = self.padded;
        assert!(scores.len() >= self.rows * self.row && out.len() >= self.rows * padded);
        for (index, block) in self.text.blocks().iter().enumerate() {
            let first = index * BLOCK;
            if first >= self.seen {
                break;
            }
            let inner = BLOCK.min(self.seen - first);
            let values = &block[self.place.1..self.place.1 + BLOCK * padded];
            if let Some(next) = self.text.blocks().get(index + 1) {
                fetch(&next[self.place.1..self.place.1 + BLOCK * padded]);
            }
            let mut head = 0;
            while head < self.rows {
                let rows = MAX_ROWS.min(self.rows - head);
                let mut at = 0;
                while at < padded {
                    let (most, left) = (max_vectors(rows, wide), (padded - at) / LANES);
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
                        late: false,
                    };
                    // SAFETY: `values` holds `BLOCK` padded rows, the scores `inner` columns from
                    // `first` on, and `out` `head + rows` padded rows.
                    unsafe { tile(rows, vectors, wide, &x) };
                    at += vectors * LANES;
                }
                head += rows;
            }
        }
    }
}

/// Asks for memory that is read soon. A block holds a few kilobytes for a head, too little for the
/// processor to see the stream by itself.
#[inline]
#[cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "a hint to the processor reads and writes nothing"
    )
)]
fn fetch(part: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in part.chunks(64 / size_of::<f32>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch of an address inside a slice has no effect that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    let _ = part;
}
