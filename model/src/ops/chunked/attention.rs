//! Causal attention in chunks of queries: scores exist for one chunk at a time, forward and
//! backward, and are computed anew in the backward pass from a number per query that is kept.
//!
//! A chunk's queries meet all keys up to its last; which of them each sees is up to the softmax
//! ([`ScoreKernels`]). Softmax and sums over chunks are f32 whatever the tensors hold; products, scores and
//! shares are in the format of the tensors.
//!
//! Legend: H query heads, K key-value heads, G = H / K, S tokens, D head size, c queries of a chunk.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::FloatDType;
use std::ops::Range;

use super::array::Array;
use crate::ops::product::ProductOps;
use crate::ops::rows::{ScoreKernels, Seen};

/// Scores of a chunk: as many as take half a gigabyte in f32, a quarter in bf16.
const SCORES: usize = 1 << 27;

/// Queries of one chunk: a multiple of 64, or all of them.
pub(super) fn rows_of_chunk(heads: usize, tokens: usize) -> usize {
    let fit = SCORES / (heads * tokens).max(1);
    (fit / 64 * 64).clamp(64, 1024)
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
pub(super) struct Saved<B: Backend> {
    pub(super) q: FloatTensor<B>,
    pub(super) k: FloatTensor<B>,
    pub(super) v: FloatTensor<B>,
    pub(super) out: FloatTensor<B>,
    /// The log of the sum of the exponentials of each query's scores, `[K, G, S, 1]` in f32.
    pub(super) log_sums: FloatTensor<B>,
    pub(super) rows: usize,
}

/// The chunks of `tokens` queries.
fn chunks(tokens: usize, rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..tokens)
        .step_by(rows)
        .map(move |first| first..(first + rows).min(tokens))
}

/// Sizes of one call.
#[derive(Clone, Copy)]
struct Sizes {
    kv_heads: usize,
    group: usize,
    tokens: usize,
    dim: usize,
}

impl Sizes {
    fn of<B: Backend>(q: &Array<B>, k: &Array<B>) -> Self {
        let [heads, tokens, dim] = q.dims();
        let [kv_heads, _, _] = k.dims();
        Self {
            kv_heads,
            group: heads / kv_heads,
            tokens,
            dim,
        }
    }

    /// `[H, S, x]` as `[K, G, S, x]`.
    fn grouped<B: Backend>(&self, x: Array<B>, width: usize) -> Array<B> {
        x.reshape([self.kv_heads, self.group, self.tokens, width])
    }

    /// A chunk of `[K, G, S, x]` with the queries of a group as rows: `[K, G * c, x]`.
    fn chunk<B: Backend>(&self, x: &Array<B>, rows: &Range<usize>) -> Array<B> {
        let [_, _, _, width] = x.dims();
        x.rows(rows.clone())
            .reshape([self.kv_heads, self.group * rows.len(), width])
    }

    /// Which keys a chunk's queries see.
    fn seen(&self, rows: &Range<usize>) -> Seen {
        Seen {
            period: rows.len(),
            first: rows.start,
            scale: 1.0 / (self.dim as f64).sqrt(),
        }
    }

    /// The way back.
    fn unchunk<B: Backend>(&self, x: Array<B>, rows: usize) -> Array<B> {
        let [_, _, width] = x.dims();
        x.reshape([self.kv_heads, self.group, rows, width])
    }
}

/// Attention of rotated queries and keys, and the log-sums that the backward pass needs.
///
/// # Shapes
/// `q: [H, S, D]`, `k, v: [K, S, D]`, result `[H, S, D]` and `[K, G, S, 1]`.
pub(super) fn forward<B: ProductOps + ScoreKernels>(
    q: &Array<B>,
    k: &Array<B>,
    v: &Array<B>,
    rows: usize,
) -> (Array<B>, Array<B>) {
    let sizes = Sizes::of(q, k);
    let dtype = q.float();
    let [heads, tokens, dim] = q.dims();
    let grouped = sizes.grouped(q.clone(), dim);
    let mut out = sizes.grouped(q.zeros_f32([heads, tokens, dim]).cast(dtype), dim);
    let mut log_sums = q.zeros_f32([sizes.kv_heads, sizes.group, tokens, 1]);
    for rows in chunks(tokens, rows) {
        let (k, v) = (k.rows(0..rows.end), v.rows(0..rows.end));
        let scores = sizes.chunk(&grouped, &rows).matmul(k.transpose());
        let (shares, sums) = B::shares(scores.0, sizes.seen(&rows));
        let mixed = Array::<B>(shares).matmul(v);
        out = out.with_rows(rows.clone(), sizes.unchunk(mixed, rows.len()));
        let sums = sizes.unchunk(Array(sums), rows.len());
        log_sums = log_sums.with_rows(rows, sums);
    }
    (out.reshape([heads, tokens, dim]), log_sums)
}

/// Gradients by queries, keys and values.
///
/// # Shapes
/// `dy: [H, S, D]`, results as `q`, `k`, `v`.
pub(super) fn backward<B: ProductOps + ScoreKernels>(
    saved: Saved<B>,
    dy: FloatTensor<B>,
) -> [Array<B>; 3] {
    let [q, k, v, out, log_sums, dy] =
        [saved.q, saved.k, saved.v, saved.out, saved.log_sums, dy].map(Array::<B>);
    let sizes = Sizes::of(&q, &k);
    let ([heads, tokens, dim], dtype) = (q.dims(), q.float());
    let [q, out, dy] = [q, out, dy].map(|x| sizes.grouped(x, dim));
    let mut dq = sizes.grouped(q.zeros_f32([heads, tokens, dim]).cast(dtype), dim);
    // Many chunks add to a key: their sum is kept in f32.
    let mut dk = k.zeros_f32([sizes.kv_heads, tokens, dim]);
    let mut dv = dk.clone();
    for rows in chunks(tokens, saved.rows) {
        let [q, out, dy, log_sums] = [&q, &out, &dy, &log_sums].map(|x| sizes.chunk(x, &rows));
        let keys = 0..rows.end;
        let (k, v) = (k.rows(keys.clone()), v.rows(keys.clone()));
        let scores = q.clone().matmul(k.clone().transpose());
        let d_shares = dy.clone().matmul(v.transpose());
        let (shares, d_scores) = B::shares_backward(
            scores.0,
            d_shares.0,
            log_sums.0,
            out.0,
            dy.clone().0,
            sizes.seen(&rows),
        );
        let (shares, d_scores) = (Array::<B>(shares), Array::<B>(d_scores));
        let add = |sum: Array<B>, values: Array<B>| {
            let values = sum.rows(keys.clone()).add(values.cast(FloatDType::F32));
            sum.with_rows(keys.clone(), values)
        };
        dv = add(dv, shares.transpose().matmul(dy));
        dk = add(dk, d_scores.clone().transpose().matmul(q));
        let values = sizes.unchunk(d_scores.matmul(k), rows.len());
        dq = dq.with_rows(rows, values);
    }
    [
        dq.reshape([heads, tokens, dim]),
        dk.cast(dtype),
        dv.cast(dtype),
    ]
}
