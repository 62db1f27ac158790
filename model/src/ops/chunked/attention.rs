//! Causal attention in chunks of queries: scores exist for one chunk at a time, forward and
//! backward, and are computed anew in the backward pass from a number per query that is kept.
//!
//! Keys before a chunk are seen by all its queries; only the square on the diagonal is masked.
//! Scores, softmax and sums over chunks are f32 whatever the tensors hold; products are taken in
//! the format of the tensors.
//!
//! Legend: H query heads, K key-value heads, G = H / K, S tokens, D head size, c queries of a chunk.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::FloatDType;
use std::ops::Range;

use super::array::Array;
use crate::ops::product::ProductOps;

/// Scores of a chunk: as many as take half a gigabyte in f32.
const SCORES: usize = 1 << 27;

/// Added to a score that is not seen: its exponential is 0.
const HIDDEN: f32 = -1e30;

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

    /// The way back.
    fn unchunk<B: Backend>(&self, x: Array<B>, rows: usize) -> Array<B> {
        let [_, _, width] = x.dims();
        x.reshape([self.kv_heads, self.group, rows, width])
    }
}

/// Added to the scores of the square on the diagonal, so that no query sees a later key: `[c, c]`.
fn mask<B: Backend>(x: &Array<B>, rows: usize) -> Array<B> {
    let hidden = |at: usize| match at % rows > at / rows {
        true => HIDDEN,
        false => 0.0,
    };
    x.upload((0..rows * rows).map(hidden).collect(), [rows, rows])
}

/// The scores of a chunk: of the keys before it, if there are any, and of its own.
struct Scores<B: Backend> {
    before: Option<Array<B>>,
    own: Array<B>,
}

impl<B: ProductOps> Scores<B> {
    fn new(q: &Array<B>, k: &Array<B>, rows: &Range<usize>, sizes: Sizes, mask: &Array<B>) -> Self {
        let scale = 1.0 / (sizes.dim as f64).sqrt();
        let with = |keys: Range<usize>| {
            q.clone()
                .matmul(k.rows(keys).transpose())
                .cast(FloatDType::F32)
                .scale(scale)
        };
        let count = rows.len();
        let mask = mask.rows(0..count).transpose().rows(0..count).transpose();
        let grouped = [sizes.kv_heads, sizes.group, count, count];
        let own = with(rows.clone())
            .reshape(grouped)
            .add(mask.reshape([1, 1, count, count]))
            .reshape([sizes.kv_heads, sizes.group * count, count]);
        Self {
            before: (rows.start > 0).then(|| with(0..rows.start)),
            own,
        }
    }

    fn map(self, mut f: impl FnMut(Array<B>) -> Array<B>) -> Self {
        Self {
            before: self.before.map(&mut f),
            own: f(self.own),
        }
    }

    /// Both parts made one number a row, and joined.
    fn fold(
        &self,
        f: impl Fn(Array<B>) -> Array<B>,
        join: impl Fn(Array<B>, Array<B>) -> Array<B>,
    ) -> Array<B> {
        let own = f(self.own.clone());
        match &self.before {
            Some(before) => join(f(before.clone()), own),
            None => own,
        }
    }
}

/// Attention of rotated queries and keys, and the log-sums that the backward pass needs.
///
/// # Shapes
/// `q: [H, S, D]`, `k, v: [K, S, D]`, result `[H, S, D]` and `[K, G, S, 1]`.
pub(super) fn forward<B: ProductOps>(
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
    let mask = mask(q, rows.min(tokens));
    for rows in chunks(tokens, rows) {
        let scores = Scores::new(&sizes.chunk(&grouped, &rows), k, &rows, sizes, &mask);
        let most = scores.fold(Array::max_rows, Array::max); // [K, G * c, 1]
        let shares = scores.map(|part| part.sub(most.clone()).exp());
        let sums = shares.fold(Array::sum_rows, Array::add);
        let own = shares.own.cast(dtype).matmul(v.rows(rows.clone()));
        let mixed = match shares.before {
            Some(before) => own.add(before.cast(dtype).matmul(v.rows(0..rows.start))),
            None => own,
        };
        let mixed = mixed.cast(FloatDType::F32).div(sums.clone()).cast(dtype);
        out = out.with_rows(rows.clone(), sizes.unchunk(mixed, rows.len()));
        let sums = sizes.unchunk(most.add(sums.log()), rows.len());
        log_sums = log_sums.with_rows(rows, sums);
    }
    (out.reshape([heads, tokens, dim]), log_sums)
}

/// Gradients by queries, keys and values.
///
/// # Shapes
/// `dy: [H, S, D]`, results as `q`, `k`, `v`.
pub(super) fn backward<B: ProductOps>(saved: Saved<B>, dy: FloatTensor<B>) -> [Array<B>; 3] {
    let [q, k, v, out, log_sums, dy] =
        [saved.q, saved.k, saved.v, saved.out, saved.log_sums, dy].map(Array::<B>);
    let sizes = Sizes::of(&q, &k);
    let ([heads, tokens, dim], dtype) = (q.dims(), q.float());
    let scale = 1.0 / (sizes.dim as f64).sqrt();
    let [q, out, dy] = [q, out, dy].map(|x| sizes.grouped(x, dim));
    let mut dq = sizes.grouped(q.zeros_f32([heads, tokens, dim]).cast(dtype), dim);
    // Many chunks add to a key: their sum is kept in f32.
    let mut dk = k.zeros_f32([sizes.kv_heads, tokens, dim]);
    let mut dv = dk.clone();
    let mask = mask(&q, saved.rows.min(tokens));
    for rows in chunks(tokens, saved.rows) {
        let [q, out, dy, log_sums] = [&q, &out, &dy, &log_sums].map(|x| sizes.chunk(x, &rows));
        let shares =
            Scores::new(&q, &k, &rows, sizes, &mask).map(|part| part.sub(log_sums.clone()).exp());
        // What each query's output and its gradient have in common.
        let common = out
            .cast(FloatDType::F32)
            .mul(dy.clone().cast(FloatDType::F32))
            .sum_rows();
        let mut dq_rows: Option<Array<B>> = None;
        let parts = [
            shares.before.map(|part| (0..rows.start, part)),
            Some((rows.clone(), shares.own)),
        ];
        for (keys, share) in parts.into_iter().flatten() {
            let add = |sum: Array<B>, values: Array<B>| {
                let values = sum.rows(keys.clone()).add(values.cast(FloatDType::F32));
                sum.with_rows(keys.clone(), values)
            };
            let of_values = share.clone().cast(dtype).transpose().matmul(dy.clone());
            dv = add(dv, of_values);
            let of_shares = dy
                .clone()
                .matmul(v.rows(keys.clone()).transpose())
                .cast(FloatDType::F32);
            let of_scores = share
                .mul(of_shares.sub(common.clone()))
                .scale(scale)
                .cast(dtype);
            dk = add(dk, of_scores.clone().transpose().matmul(q.clone()));
            let of_queries = of_scores.matmul(k.rows(keys.clone())).cast(FloatDType::F32);
            dq_rows = Some(match dq_rows {
                Some(sum) => sum.add(of_queries),
                None => of_queries,
            });
        }
        if let Some(values) = dq_rows {
            let values = sizes.unchunk(values.cast(dtype), rows.len());
            dq = dq.with_rows(rows, values);
        }
    }
    [
        dq.reshape([heads, tokens, dim]),
        dk.cast(dtype),
        dv.cast(dtype),
    ]
}
