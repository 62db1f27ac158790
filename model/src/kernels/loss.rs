//! Cross-entropy of a projection onto the vocabulary, in chunks of tokens, with its gradient in
//! closed form: the logits of one chunk are all that is ever held.

use rayon::prelude::*;

use super::exp::{exponentials, highest};
use super::gemm::{Start, product_parallel, product_transposed_left};
use super::multiversion;
use super::panels::{Matrix, Passing};
use super::pool::{buffer, give_back};

/// What [`cross_entropy`] computed.
pub(crate) struct CrossEntropy {
    /// The weighted sum of the negative log-likelihoods.
    pub(crate) loss: f32,
    /// Its gradient by the hidden states `[T, d]`, if asked for.
    pub(crate) d_hidden: Option<Vec<f32>>,
    /// Its gradient by the projection `[V, d]`, if asked for.
    pub(crate) d_projection: Option<Vec<f32>>,
}

/// Which gradients to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    /// That of the hidden states.
    pub(crate) hidden: bool,
    /// That of the projection; a frozen one needs none.
    pub(crate) projection: bool,
}

impl Want {
    /// The loss alone.
    pub(crate) const LOSS: Self = Self {
        hidden: false,
        projection: false,
    };
}

/// Sum over tokens of `weight * -log softmax(hidden projectionᵀ)[target]`.
///
/// Tokens of weight 0 are not computed at all, so that whatever their hidden states hold (a NaN
/// even) leaves the result untouched. `hidden` is `[T, d]`, `projection` is `[V, d]`, both dense.
pub(crate) fn cross_entropy(
    hidden: &[f32],
    projection: &[f32],
    width: usize,
    (targets, weights): (&[u32], &[f32]),
    chunk: usize,
    want: Want,
) -> CrossEntropy {
    let vocabulary = projection.len() / width;
    let counted: Vec<usize> = (0..targets.len()).filter(|t| weights[*t] != 0.0).collect();
    let zeros = |len: usize| {
        let mut zeros = buffer(len);
        zeros.fill(0.0);
        zeros
    };
    let mut d_hidden = want.hidden.then(|| zeros(hidden.len()));
    if counted.is_empty() {
        return CrossEntropy {
            loss: 0.0,
            d_hidden,
            d_projection: want.projection.then(|| zeros(projection.len())),
        };
    }
    let mut d_projection = want.projection.then(|| buffer(projection.len()));
    let matrix = Matrix::new(projection, vocabulary, width);
    let columns = Passing::pack(matrix.transposed());
    let rows = want.hidden.then(|| Passing::pack(matrix));
    let mut held = buffer(chunk.min(counted.len()) * vocabulary);
    let mut gathered = vec![0.0; chunk.min(counted.len()) * width];
    let mut d_gathered = vec![0.0; if rows.is_some() { gathered.len() } else { 0 }];
    // The first chunk writes the gradient by the projection, the others add to it.
    let mut start = Start::Zero;
    let mut loss = 0.0_f64;
    for tokens in counted.chunks(chunk) {
        for (token, row) in tokens.iter().zip(gathered.chunks_exact_mut(width)) {
            row.copy_from_slice(&hidden[token * width..(token + 1) * width]);
        }
        let left = Matrix::new(&gathered[..tokens.len() * width], tokens.len(), width);
        let logits = &mut held[..tokens.len() * vocabulary];
        product_parallel(left, &columns, logits, vocabulary, Start::Zero);
        let losses: Vec<f32> = logits
            .par_chunks_mut(vocabulary)
            .zip(tokens)
            .map(|(row, token)| weights[*token] * logits_row(row, targets[*token], weights[*token]))
            .collect();
        loss += losses.iter().map(|l| f64::from(*l)).sum::<f64>();
        let d_logits = Matrix::new(logits, tokens.len(), vocabulary);
        if let (Some(d_hidden), Some(rows)) = (&mut d_hidden, &rows) {
            let d_gathered = &mut d_gathered[..tokens.len() * width];
            product_parallel(d_logits, rows, d_gathered, width, Start::Zero);
            for (token, row) in tokens.iter().zip(d_gathered.chunks_exact(width)) {
                d_hidden[token * width..(token + 1) * width].copy_from_slice(row);
            }
        }
        if let Some(d_projection) = &mut d_projection {
            product_transposed_left(d_logits, left, d_projection, start);
            start = Start::Current;
        }
    }
    give_back(held);
    CrossEntropy {
        loss: loss as f32,
        d_hidden,
        d_projection,
    }
}

/// Turns a row of logits into the gradient `weight * (softmax - onehot)` and returns the negative
/// log-likelihood of `target`.
fn logits_row(row: &mut [f32], target: u32, weight: f32) -> f32 {
    let chosen = row[target as usize];
    let shift = highest(row);
    let sum = exponentials(row, 1.0, shift);
    scale(row, weight / sum);
    row[target as usize] -= weight;
    sum.ln() + shift - chosen
}

multiversion! {
    /// Multiplies each element by `factor`.
    pub(crate) fn scale(row: &mut [f32], factor: f32) = scale_body
}

#[inline(always)]
fn scale_body<const FMA: bool>(row: &mut [f32], factor: f32) {
    for x in row {
        *x *= factor;
    }
}
