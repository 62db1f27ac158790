//! Causal attention inside each document of a packed batch, grouped queries, with the rotary
//! embedding applied on the way in.
//!
//! Legend: S tokens of one document, D head size, G query heads that share a key-value head.
//! One task is one document and one key-value head. It holds a block of query rows of scores,
//! never more; for the backward pass only the log-sum-exp of each row is kept.

mod backward;
mod causal;
mod heads;

use rayon::prelude::*;

pub(crate) use self::backward::{Saved, backward};
use self::causal::{causal_rows, causal_scores};
pub(crate) use self::heads::Layout;
use self::heads::{columns, put_head, take_head, take_turned};
use super::disjoint::Disjoint;
use super::exp::{exponentials, highest};
use super::panels::{Matrix, Panels};
use super::tile::{LANES, PANEL};

/// Query rows whose scores are held at once: a multiple of the tile's 6 rows.
const QUERY_BLOCK: usize = 48;

/// Memory that one task after the other uses.
#[derive(Default)]
struct Scratch {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    outputs: Vec<f32>,
    d_outputs: Vec<f32>,
    d_queries: Vec<f32>,
    d_keys: Vec<f32>,
    d_values: Vec<f32>,
    weights: Vec<f32>,
    d_scores: Vec<f32>,
    key_columns: Panels,
    value_columns: Panels,
}

/// Elements of the memory of a task in the backward pass over a document of `length` tokens.
pub(crate) fn scratch_elements(length: usize, dim: usize) -> usize {
    let rows = length * dim.next_multiple_of(LANES);
    // Eight by token, keys and values by column, and two blocks of scores.
    10 * rows + 2 * QUERY_BLOCK * length.next_multiple_of(PANEL)
}

/// Attention output `[T, heads * D]` and the log-sum-exp of the scores `[heads, T]`.
///
/// `q` is `[T, heads * D]`, `k` and `v` are `[T, kv_heads * D]`, all before the rotary embedding.
#[expect(unsafe_code, reason = "tasks write to disjoint columns of shared rows")]
pub(crate) fn forward(
    q: Matrix<'_>,
    k: Matrix<'_>,
    v: Matrix<'_>,
    layout: &Layout<'_>,
    out: &mut [f32],
    log_sums: &mut [f32],
) {
    let group = layout.heads / layout.kv_heads;
    let (tokens, width) = (q.rows, layout.heads * layout.dim);
    let (out, log_sums) = (Disjoint::new(out), Disjoint::new(log_sums));
    layout
        .tasks()
        .par_iter()
        .for_each_init(Scratch::default, |scratch, &task| {
            let Scratch {
                queries,
                keys,
                values,
                outputs,
                weights,
                key_columns,
                ..
            } = scratch;
            take_turned(k, task, task.kv_head, layout, keys);
            take_head(v, task, task.kv_head, layout, values);
            columns(keys, layout, key_columns);
            for head in task.kv_head * group..(task.kv_head + 1) * group {
                take_turned(q, task, head, layout, queries);
                // SAFETY: no other task has this document and head.
                let sums = unsafe { log_sums.part(head * tokens + task.first, task.length) };
                head_forward(queries, key_columns, values, layout, weights, outputs, sums);
                put_head(outputs, task, head, layout, &out, width);
            }
        });
}

/// One head of one document: rows of `out` and the log-sum-exp of each row.
fn head_forward(
    queries: &[f32],
    keys: &Panels,
    values: &[f32],
    layout: &Layout<'_>,
    weights: &mut Vec<f32>,
    out: &mut Vec<f32>,
    log_sums: &mut [f32],
) {
    let (length, padded) = (log_sums.len(), layout.padded());
    let row = length.next_multiple_of(PANEL);
    weights.resize(QUERY_BLOCK * row, 0.0);
    out.resize(length * padded, 0.0);
    for start in (0..length).step_by(QUERY_BLOCK) {
        let end = (start + QUERY_BLOCK).min(length);
        let queries = &queries[start * padded..end * padded];
        causal_scores(queries, padded, keys, start, end, weights, row);
        let mut inverses = [0.0; QUERY_BLOCK];
        for i in start..end {
            let (scores, rest) = weights[(i - start) * row..][..end].split_at_mut(i + 1);
            let shift = highest(scores) * layout.scale();
            let sum = exponentials(scores, layout.scale(), shift);
            rest.fill(0.0);
            inverses[i - start] = 1.0 / sum;
            log_sums[i] = shift + sum.ln();
        }
        causal_rows(weights, row, values, padded, start, end, out);
        let rows = out[start * padded..end * padded].chunks_exact_mut(padded);
        for (row, inverse) in rows.zip(inverses) {
            row.iter_mut().for_each(|x| *x *= inverse);
        }
    }
}
