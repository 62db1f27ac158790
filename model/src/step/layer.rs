//! One layer over the new tokens of a group of rows.
//!
//! Legend: N new tokens, d width, H query heads, K key-value heads, D head size, m inner width of
//! the MLP.

use std::ops::Range;

use rayon::prelude::*;

use super::weights::PreparedLayer;
use super::{Threads, Work};
use crate::kernels::decode::{Queries, Scratch, attend, tokens_together};
use crate::kernels::elementwise::{rms_norm_rows, rotate, swiglu};
use crate::kernels::gemm::{Start, product, product_parallel};
use crate::kernels::panels::{Matrix, Panels};
use crate::kv_cache::Sizes;
use crate::rope::RopeTable;

/// One new token: its row in the group and its position in the text.
#[derive(Clone, Copy)]
pub(super) struct Token {
    pub(super) row: usize,
    pub(super) position: usize,
}

/// What a group shares over the layers.
pub(super) struct Pass<'a, 'b> {
    pub(super) works: &'a mut [Work<'b>],
    pub(super) tokens: &'a [Token],
    pub(super) sizes: &'a Sizes,
    pub(super) table: &'a RopeTable,
    pub(super) threads: Threads,
    pub(super) eps: f32,
    pub(super) buffers: Buffers,
}

/// Room for what is computed between two products, used by one layer after the other.
#[derive(Default)]
pub(super) struct Buffers {
    x: Vec<f32>,
    qkv: Vec<f32>,
    mixed: Vec<f32>,
    both: Vec<f32>,
    inner: Vec<f32>,
}

/// `buffer` with `length` elements, whatever they are.
fn room(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    buffer.resize(length.max(buffer.len()), 0.0);
    &mut buffer[..length]
}

pub(super) fn multiply(x: &[f32], panels: &Panels, threads: Threads) -> Vec<f32> {
    let rows = x.len() / panels.inner();
    let mut y = vec![0.0; rows * panels.cols()];
    multiply_into(x, panels, threads, &mut y, Start::Zero);
    y
}

fn multiply_into(x: &[f32], panels: &Panels, threads: Threads, y: &mut [f32], start: Start<'_>) {
    let matrix = Matrix::new(x, x.len() / panels.inner(), panels.inner());
    match threads {
        Threads::One => product(matrix, panels, y, panels.cols(), start),
        Threads::All => product_parallel(matrix, panels, y, panels.cols(), start),
    }
}

impl PreparedLayer {
    /// One layer, added to `hidden` (`[N, d]`).
    pub(super) fn run(&self, index: usize, hidden: &mut [f32], d: usize, pass: &mut Pass<'_, '_>) {
        let mut buffers = std::mem::take(&mut pass.buffers);
        let x = room(&mut buffers.x, hidden.len());
        rms_norm_rows(hidden, &self.input_norm, pass.eps, x);
        let mixed = room(&mut buffers.mixed, hidden.len() / d * self.output.inner()); // [N, H * D]
        self.attention(index, x, pass, &mut buffers.qkv, mixed);
        multiply_into(mixed, &self.output, pass.threads, hidden, Start::Current);
        rms_norm_rows(hidden, &self.mlp_norm, pass.eps, x);
        let m = self.gate_up.cols() / 2;
        let both = room(&mut buffers.both, hidden.len() / d * 2 * m); // [N, 2 m]
        multiply_into(x, &self.gate_up, pass.threads, both, Start::Zero);
        let inner = room(&mut buffers.inner, hidden.len() / d * m);
        for (both, inner) in both.chunks_exact(2 * m).zip(inner.chunks_exact_mut(m)) {
            let (gate, up) = both.split_at(m);
            swiglu(gate, up, inner);
        }
        multiply_into(inner, &self.down, pass.threads, hidden, Start::Current);
        pass.buffers = buffers;
    }

    /// Appends keys and values of the new tokens, then lets each attend to its own text.
    fn attention(
        &self,
        index: usize,
        x: &[f32],
        pass: &mut Pass<'_, '_>,
        qkv: &mut Vec<f32>,
        mixed: &mut [f32],
    ) {
        let Pass { sizes, table, .. } = *pass;
        let dim = sizes.dim;
        let kv_width = sizes.kv_heads * dim;
        let width = self.qkv.cols(); // (H + 2 K) * D
        let q_width = width - 2 * kv_width;
        let qkv = room(qkv, pass.tokens.len() * width);
        let start = match self.qkv_bias.as_slice() {
            [] => Start::Zero,
            bias => Start::Bias(bias),
        };
        multiply_into(x, &self.qkv, pass.threads, qkv, start);
        let half = dim / 2;
        let mut normed = vec![0.0; dim];
        for (token, row) in pass.tokens.iter().zip(qkv.chunks_exact_mut(width)) {
            let at = token.position * half;
            let (cos, sin) = (&table.cos[at..at + half], &table.sin[at..at + half]);
            let (q, kv) = row.split_at_mut(q_width);
            let (k, v) = kv.split_at_mut(kv_width);
            for (heads, norm) in [(q, &self.query_norm), (&mut *k, &self.key_norm)] {
                for head in heads.chunks_exact_mut(dim) {
                    if let Some(norm) = norm {
                        rms_norm_rows(head, norm, pass.eps, &mut normed);
                        head.copy_from_slice(&normed);
                    }
                    rotate(head, cos, sin);
                }
            }
            let text = &mut pass.works[token.row].text;
            for (head, (k, v)) in k.chunks_exact(dim).zip(v.chunks_exact(dim)).enumerate() {
                text.write(sizes, (index, head), token.position, k, v);
            }
        }
        let stretches = stretches(pass.tokens, q_width / dim / sizes.kv_heads);
        let mut rest = mixed;
        let mut parts = Vec::with_capacity(stretches.len());
        for stretch in stretches {
            let (out, behind) = rest.split_at_mut(stretch.len() * q_width);
            rest = behind;
            parts.push((stretch, out));
        }
        let (works, tokens, qkv) = (&*pass.works, pass.tokens, &*qkv);
        let one = |scratch: &mut Scratch, (stretch, out): (Range<usize>, &mut [f32])| {
            let first = tokens[stretch.start];
            let queries = Queries {
                data: &qkv[stretch.start * width..],
                stride: width,
                width: q_width,
                tokens: stretch.len(),
                seen: first.position + 1,
            };
            attend(&works[first.row].text, sizes, index, queries, out, scratch);
        };
        match pass.threads {
            Threads::One => {
                let mut scratch = Scratch::default();
                parts.into_iter().for_each(|part| one(&mut scratch, part));
            }
            Threads::All => parts.into_par_iter().for_each_init(Scratch::default, one),
        }
    }
}

/// Consecutive tokens of one text, as many as are best attended together.
fn stretches(tokens: &[Token], group: usize) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        if let Some(last) = found.last_mut()
            && tokens[last.start].row == token.row
            && last.len() < tokens_together(group, token.position + 1)
        {
            last.end = index + 1;
        } else {
            found.push(index..index + 1);
        }
    }
    found
}
