//! Writing text: new tokens of many rows of different lengths in one pass, over cached keys.
//!
//! Runs on plain host memory, without Burn's graph, from weights packed once per decoder.
//!
//! Legend: N new tokens of all rows, d width, V vocabulary, H query heads, K key-value heads,
//! D head size, m inner width of the MLP.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use crate::decoder::{Decoder, Norm, Projection};
use crate::kernels::decode::{Scratch, attend};
use crate::kernels::elementwise::{gather, rms_norm_rows, rotate, swiglu};
use crate::kernels::gemm::{Start, product, product_parallel};
use crate::kernels::panels::{Matrix, Panels};
use crate::kv_cache::{KvCache, Sizes, Slot, Text};
use crate::ops::HostTensor;
use crate::parameters::ParameterValues;
use crate::rope::RopeTable;

/// New tokens of one text.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The text they are appended to.
    pub slot: Slot,
    /// Their ids; at least one.
    pub ids: &'a [u32],
}

/// Which tokens' logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Last,
    All,
}

/// Whether a group of rows has one thread or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Threads {
    One,
    All,
}

impl Decoder {
    /// Appends each row's ids to its slot and returns the logits of each row's last token,
    /// `[rows, V]`, on the plain (gradient-free) device.
    ///
    /// Rows may hold any number of ids: a prompt, an injected text and single tokens go together.
    /// The logits of a row depend on its own text alone, to the bit: not on the other rows, on
    /// their number or order, on how the text was cut into steps, or on the number of threads.
    ///
    /// The first step of a cache packs the decoder's weights for this purpose; the cache keeps
    /// them, and packs anew when it meets other weights.
    ///
    /// # Panics
    /// If a row is empty, two rows name one slot, a slot is not open, an id is not in the
    /// vocabulary, or the cache was made for another shape of model.
    pub fn step(&self, rows: &[Row<'_>], cache: &mut KvCache) -> Tensor<2> {
        self.advance(rows, cache, Which::Last)
    }

    /// As [`Decoder::step`], with the logits of every new token: `[N, V]`, row after row.
    ///
    /// # Panics
    /// As [`Decoder::step`].
    pub fn step_all(&self, rows: &[Row<'_>], cache: &mut KvCache) -> Tensor<2> {
        self.advance(rows, cache, Which::All)
    }

    fn advance(&self, rows: &[Row<'_>], cache: &mut KvCache, which: Which) -> Tensor<2> {
        let sizes = Sizes::of(self.config());
        assert_eq!(
            cache.sizes(),
            sizes,
            "the cache was made for this shape of model"
        );
        let mut slots: Vec<Slot> = rows.iter().map(|row| row.slot).collect();
        slots.sort_unstable();
        assert!(
            slots.windows(2).all(|pair| pair[0] != pair[1]),
            "each row has its own slot"
        );
        for row in rows {
            assert!(!row.ids.is_empty(), "a row has at least one id");
            self.check_ids(row.ids);
        }
        let prepared = match cache.prepared.take().filter(|prepared| prepared.fits(self)) {
            Some(prepared) => prepared,
            None => Arc::new(Prepared::new(self)),
        };
        let mut works: Vec<Work<'_>> = rows
            .iter()
            .map(|row| {
                let mut text = cache.take(row.slot);
                text.reserve(&sizes, row.ids.len());
                Work { text, ids: row.ids }
            })
            .collect();
        let positions = works
            .iter()
            .map(|work| work.text.length + work.ids.len())
            .max();
        let table = self.rope().table(positions.unwrap_or(0));
        let logits = prepared.run(&mut works, &sizes, &table, which);
        for (row, mut work) in rows.iter().zip(works) {
            work.text.length += work.ids.len();
            cache.put(row.slot, work.text);
        }
        cache.prepared = Some(prepared);
        let vocabulary = self.config().vocab_size;
        let count = logits.len() / vocabulary;
        Tensor::from_data(
            TensorData::new(logits, [count, vocabulary]),
            &self.device().inner(),
        )
    }
}

/// One row while a step works on it.
struct Work<'a> {
    text: Text,
    ids: &'a [u32],
}

/// The weights of a decoder, packed for [`product`].
#[derive(Debug)]
pub(crate) struct Prepared {
    /// What was packed. Holding the tensors keeps their memory from being written or reused, so
    /// that an equal address means equal weights.
    sources: Vec<HostTensor>,
    embedding: HostTensor,
    layers: Vec<PreparedLayer>,
    norm: Vec<f32>,
    head: Panels,
    eps: f32,
    width: usize,
}

#[derive(Debug)]
struct PreparedLayer {
    input_norm: Vec<f32>,
    qkv: Panels, // [d, (H + 2 K) * D]
    qkv_bias: Vec<f32>,
    query_norm: Option<Vec<f32>>,
    key_norm: Option<Vec<f32>>,
    output: Panels, // [H * D, d]
    mlp_norm: Vec<f32>,
    gate_up: Panels, // [d, 2 m]
    down: Panels,    // [m, d]
}

fn sources(decoder: &Decoder) -> Vec<HostTensor> {
    let parameters = decoder.parameters().into_iter();
    parameters
        .map(|parameter| match parameter.values {
            ParameterValues::Vector(tensor) => HostTensor::new(tensor),
            ParameterValues::Matrix(tensor) => HostTensor::new(tensor),
        })
        .collect()
}

impl Prepared {
    fn new(decoder: &Decoder) -> Self {
        let config = decoder.config();
        Self {
            sources: sources(decoder),
            embedding: HostTensor::new(decoder.model.embed_tokens.weight.val()),
            layers: decoder
                .model
                .layers
                .par_iter()
                .map(PreparedLayer::new)
                .collect(),
            norm: vector(&decoder.model.norm),
            head: Panels::pack(HostTensor::new(decoder.head_weight()).matrix().transposed())
                .narrowed(),
            eps: config.rms_norm_eps as f32,
            width: config.hidden_size,
        }
    }

    /// Whether these are the weights of `decoder`.
    fn fits(&self, decoder: &Decoder) -> bool {
        let theirs = sources(decoder);
        self.sources.len() == theirs.len()
            && self
                .sources
                .iter()
                .zip(&theirs)
                .all(|(mine, theirs)| mine.shares_memory(theirs))
    }

    fn run(
        &self,
        works: &mut [Work<'_>],
        sizes: &Sizes,
        table: &RopeTable,
        which: Which,
    ) -> Vec<f32> {
        let tokens: usize = works.iter().map(|work| work.ids.len()).sum();
        let longest = works.iter().map(|work| work.ids.len()).max().unwrap_or(0);
        let groups = 2 * rayon::current_num_threads();
        if works.len() < 16 * groups || longest * groups > tokens {
            return self.group(works, sizes, table, which, Threads::All);
        }
        // Many rows: each thread carries its rows through all layers on its own.
        let rows = works.len().div_ceil(groups);
        let parts: Vec<Vec<f32>> = works
            .par_chunks_mut(rows)
            .map(|works| self.group(works, sizes, table, which, Threads::One))
            .collect();
        parts.concat()
    }

    /// Carries a group of rows through all layers; returns their logits.
    fn group(
        &self,
        works: &mut [Work<'_>],
        sizes: &Sizes,
        table: &RopeTable,
        which: Which,
        threads: Threads,
    ) -> Vec<f32> {
        let d = self.width;
        let ids: Vec<u32> = works
            .iter()
            .flat_map(|work| work.ids.iter().copied())
            .collect();
        let tokens: Vec<Token> = works
            .iter()
            .enumerate()
            .flat_map(|(row, work)| {
                let first = work.text.length;
                (first..first + work.ids.len()).map(move |position| Token { row, position })
            })
            .collect();
        let mut hidden = vec![0.0; ids.len() * d]; // [N, d]
        gather(self.embedding.values(), d, &ids, &mut hidden);
        let mut pass = Pass {
            works,
            tokens: &tokens,
            sizes,
            table,
            threads,
            eps: self.eps,
        };
        for (index, layer) in self.layers.iter().enumerate() {
            layer.run(index, &mut hidden, d, &mut pass);
        }
        if which == Which::Last {
            let mut last = Vec::with_capacity(works.len() * d);
            let mut end = 0;
            for work in works.iter() {
                end += work.ids.len();
                last.extend_from_slice(&hidden[(end - 1) * d..end * d]);
            }
            hidden = last;
        }
        let mut normed = vec![0.0; hidden.len()];
        rms_norm_rows(&hidden, &self.norm, self.eps, &mut normed);
        multiply(&normed, &self.head, threads)
    }
}

/// One new token: its row in the group and its position in the text.
#[derive(Clone, Copy)]
struct Token {
    row: usize,
    position: usize,
}

/// What a group shares over the layers.
struct Pass<'a, 'b> {
    works: &'a mut [Work<'b>],
    tokens: &'a [Token],
    sizes: &'a Sizes,
    table: &'a RopeTable,
    threads: Threads,
    eps: f32,
}

fn multiply(x: &[f32], panels: &Panels, threads: Threads) -> Vec<f32> {
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

fn vector(norm: &Norm) -> Vec<f32> {
    HostTensor::new(norm.weight.val()).values().to_vec()
}

impl PreparedLayer {
    fn new(layer: &crate::decoder::Layer) -> Self {
        let attention = &layer.self_attn;
        let side_by_side = |parts: &[&Projection]| {
            let weights: Vec<HostTensor> = parts
                .iter()
                .map(|part| HostTensor::new(part.weight.val()))
                .collect();
            let columns: Vec<_> = weights.iter().map(|w| w.matrix().transposed()).collect();
            Panels::pack_side_by_side(&columns).narrowed()
        };
        let qkv = [&attention.q_proj, &attention.k_proj, &attention.v_proj];
        let biases = qkv.iter().filter_map(|part| part.bias.as_ref());
        Self {
            input_norm: vector(&layer.input_layernorm),
            qkv: side_by_side(&qkv),
            qkv_bias: biases
                .flat_map(|bias| HostTensor::new(bias.val()).values().to_vec())
                .collect(),
            query_norm: attention.q_norm.as_ref().map(vector),
            key_norm: attention.k_norm.as_ref().map(vector),
            output: side_by_side(&[&attention.o_proj]),
            mlp_norm: vector(&layer.post_attention_layernorm),
            gate_up: side_by_side(&[&layer.mlp.gate_proj, &layer.mlp.up_proj]),
            down: side_by_side(&[&layer.mlp.down_proj]),
        }
    }

    /// One layer, added to `hidden` (`[N, d]`).
    fn run(&self, index: usize, hidden: &mut [f32], d: usize, pass: &mut Pass<'_, '_>) {
        let mut x = vec![0.0; hidden.len()];
        rms_norm_rows(hidden, &self.input_norm, pass.eps, &mut x);
        let mixed = self.attention(index, &x, pass); // [N, H * D]
        multiply_into(&mixed, &self.output, pass.threads, hidden, Start::Current);
        rms_norm_rows(hidden, &self.mlp_norm, pass.eps, &mut x);
        let both = multiply(&x, &self.gate_up, pass.threads); // [N, 2 m]
        let m = self.gate_up.cols() / 2;
        let mut inner = vec![0.0; hidden.len() / d * m];
        for (both, inner) in both.chunks_exact(2 * m).zip(inner.chunks_exact_mut(m)) {
            let (gate, up) = both.split_at(m);
            swiglu(gate, up, inner);
        }
        multiply_into(&inner, &self.down, pass.threads, hidden, Start::Current);
    }

    /// Appends keys and values of the new tokens, then lets each attend to its own text.
    fn attention(&self, index: usize, x: &[f32], pass: &mut Pass<'_, '_>) -> Vec<f32> {
        let Pass { sizes, table, .. } = *pass;
        let dim = sizes.dim;
        let kv_width = sizes.kv_heads * dim;
        let width = self.qkv.cols(); // (H + 2 K) * D
        let q_width = width - 2 * kv_width;
        let mut qkv = vec![0.0; pass.tokens.len() * width];
        let start = match self.qkv_bias.as_slice() {
            [] => Start::Zero,
            bias => Start::Bias(bias),
        };
        multiply_into(x, &self.qkv, pass.threads, &mut qkv, start);
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
        let mut mixed = vec![0.0; pass.tokens.len() * q_width];
        let works = &*pass.works;
        let one = |scratch: &mut Scratch, ((token, qkv), out): ((&Token, &[f32]), &mut [f32])| {
            let (text, seen) = (&works[token.row].text, token.position + 1);
            attend(text, sizes, index, seen, &qkv[..q_width], out, scratch);
        };
        match pass.threads {
            Threads::One => {
                let mut scratch = Scratch::default();
                pass.tokens
                    .iter()
                    .zip(qkv.chunks_exact(width))
                    .zip(mixed.chunks_exact_mut(q_width))
                    .for_each(|item| one(&mut scratch, item));
            }
            Threads::All => pass
                .tokens
                .par_iter()
                .zip(qkv.par_chunks_exact(width))
                .zip(mixed.par_chunks_exact_mut(q_width))
                .with_min_len(4)
                .for_each_init(Scratch::default, one),
        }
        mixed
    }
}
