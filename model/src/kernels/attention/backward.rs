//! Gradients of attention: the weights are computed again from the scores and the log-sum-exp.

use rayon::prelude::*;

use super::causal::{causal_columns, causal_rows, causal_scores};
use super::heads::{Layout, Task, columns, put_head, take_head, take_turned, turn_back};
use super::{QUERY_BLOCK, Scratch};
use crate::kernels::disjoint::Disjoint;
use crate::kernels::elementwise::dot;
use crate::kernels::exp::exponentials;
use crate::kernels::multiversion;
use crate::kernels::panels::Matrix;
use crate::kernels::tile::PANEL;

/// The inputs that the backward pass needs.
pub(crate) struct Saved<'a> {
    pub(crate) q: Matrix<'a>,
    pub(crate) k: Matrix<'a>,
    pub(crate) v: Matrix<'a>,
    pub(crate) out: &'a [f32],
    pub(crate) log_sums: &'a [f32],
}

/// Gradients of [`forward`] by q, k and v, dense `[T, heads * D]` and `[T, kv_heads * D]`.
pub(crate) fn backward(
    saved: &Saved<'_>,
    d_out: &[f32],
    layout: &Layout<'_>,
    [dq, dk, dv]: [&mut [f32]; 3],
) {
    let gradients = Gradients {
        q: Disjoint::new(dq),
        k: Disjoint::new(dk),
        v: Disjoint::new(dv),
    };
    let d_out = Matrix::new(d_out, saved.q.rows, layout.heads * layout.dim);
    layout
        .tasks()
        .par_iter()
        .for_each_init(Scratch::default, |scratch, &task| {
            task_backward(saved, d_out, layout, task, &gradients, scratch);
        });
}

/// The results of the backward pass.
struct Gradients<'a> {
    q: Disjoint<'a>,
    k: Disjoint<'a>,
    v: Disjoint<'a>,
}

fn task_backward(
    saved: &Saved<'_>,
    d_out: Matrix<'_>,
    layout: &Layout<'_>,
    task: Task,
    gradients: &Gradients<'_>,
    scratch: &mut Scratch,
) {
    let Scratch {
        queries,
        keys,
        values,
        outputs,
        d_outputs,
        d_queries,
        d_keys,
        d_values,
        weights,
        d_scores,
        key_columns,
        value_columns,
    } = scratch;
    let Task {
        first,
        length,
        kv_head,
    } = task;
    let group = layout.heads / layout.kv_heads;
    let (dim, padded, tokens) = (layout.dim, layout.padded(), saved.q.rows);
    let (width, kv_width) = (layout.heads * dim, layout.kv_heads * dim);
    let out = Matrix::new(saved.out, tokens, width);
    take_turned(saved.k, task, kv_head, layout, keys);
    take_head(saved.v, task, kv_head, layout, values);
    columns(keys, layout, key_columns);
    columns(values, layout, value_columns);
    for gradient in [&mut *d_keys, d_values] {
        gradient.clear();
        gradient.resize(length * padded, 0.0);
    }
    d_queries.resize(length * padded, 0.0);
    let row = length.next_multiple_of(PANEL);
    weights.resize(QUERY_BLOCK * row, 0.0);
    d_scores.resize(QUERY_BLOCK * row, 0.0);
    for head in kv_head * group..(kv_head + 1) * group {
        take_turned(saved.q, task, head, layout, queries);
        take_head(out, task, head, layout, outputs);
        take_head(d_out, task, head, layout, d_outputs);
        let log_sums = &saved.log_sums[head * tokens + first..][..length];
        for start in (0..length).step_by(QUERY_BLOCK) {
            let end = (start + QUERY_BLOCK).min(length);
            let block = start * padded..end * padded;
            let (queries, d_outputs) = (&queries[block.clone()], &d_outputs[block.clone()]);
            causal_scores(queries, padded, key_columns, start, end, weights, row);
            causal_scores(d_outputs, padded, value_columns, start, end, d_scores, row);
            for i in start..end {
                let at = (i - start) * row;
                let within = (i - start) * padded..(i - start + 1) * padded;
                let along = (&outputs[i * padded..(i + 1) * padded], &d_outputs[within]);
                let (weights, rest) = weights[at..at + end].split_at_mut(i + 1);
                rest.fill(0.0);
                exponentials(weights, layout.scale(), log_sums[i]);
                let (d_scores, rest) = d_scores[at..at + end].split_at_mut(i + 1);
                rest.fill(0.0);
                softmax_backward(weights, d_scores, layout.scale(), along);
            }
            causal_rows(d_scores, row, keys, padded, start, end, d_queries);
            causal_columns(d_scores, row, queries, padded, start, end, d_keys);
            causal_columns(weights, row, d_outputs, padded, start, end, d_values);
        }
        turn_back(d_queries, padded, dim, layout.cos, layout.sin);
        put_head(d_queries, task, head, layout, &gradients.q, width);
    }
    turn_back(d_keys, padded, dim, layout.cos, layout.sin);
    put_head(d_keys, task, kv_head, layout, &gradients.k, kv_width);
    put_head(d_values, task, kv_head, layout, &gradients.v, kv_width);
}

multiversion! {
    /// From the gradients of a row's weights to those of its unscaled scores; `rows` are the row's
    /// output and the gradient of it.
    fn softmax_backward(
        weights: &[f32], d_scores: &mut [f32], scale: f32, rows: (&[f32], &[f32])
    ) = softmax_backward_body
}

#[inline(always)]
fn softmax_backward_body<const FMA: bool>(
    weights: &[f32],
    d_scores: &mut [f32],
    scale: f32,
    (out, d_out): (&[f32], &[f32]),
) {
    let mean = dot::<FMA>(out, d_out);
    for (weight, d_score) in weights.iter().zip(d_scores) {
        *d_score = weight * scale * (*d_score - mean);
    }
}
