//! Writing text: new tokens of many rows of different lengths in one pass, over cached keys.
//!
//! On the CPU it runs on plain host memory, without Burn's graph, from weights packed once per
//! decoder; a cache on a device is served by tensors (`device`).
//!
//! Legend: N new tokens of all rows, d width, V vocabulary, H query heads, K key-value heads,
//! D head size, m inner width of the MLP.

mod device;
mod layer;
mod weights;

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

pub(crate) use self::device::Recorder;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) use self::device::{Joined, join_layers};
use self::layer::{Buffers, Pass, Token, multiply};
pub(crate) use self::weights::Prepared;
use crate::decoder::Decoder;
use crate::kernels::elementwise::{gather, rms_norm_rows};
use crate::kv_cache::{HostTexts, KvCache, Sizes, Slot, Store, Text};
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
    /// `[rows, V]` in f32, on the plain (gradient-free) device.
    ///
    /// Rows may hold any number of ids: a prompt, an injected text and single tokens go together.
    /// With a cache in host memory the logits of a row depend on its own text alone, to the bit: not
    /// on the other rows, on their number or order, on how the text was cut into steps, or on the
    /// number of threads; they are the bits that [`Decoder::hidden`] and [`Decoder::logits`] give
    /// for it. On a device a product's rounding may depend on how many rows it has.
    ///
    /// The first step of a cache in host memory packs the decoder's weights for this purpose; the
    /// cache keeps them, and packs anew when it meets other weights.
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

    /// As [`Decoder::step`], for a cache that is written by this decoder alone: on a CUDA card steps of one
    /// token per row are recorded once for a number of rows, and sent as one from then on
    /// ([`Decoder::for_writing`] makes the decoder ready for that). Elsewhere, for other rows, and where
    /// recording fails ([`KvCache::recorded_steps`] says why), it is [`Decoder::step`].
    ///
    /// The logits are those of the cache's next step as soon as that is taken: read them before. A
    /// recording holds on to the weights it was made with, and writes with these whatever decoder asks; so
    /// give a cache that was stepped in this way no other weights.
    ///
    /// # Panics
    /// As [`Decoder::step`].
    pub fn step_recorded(&self, rows: &[Row<'_>], cache: &mut KvCache) -> Tensor<2> {
        self.check_rows(rows, cache);
        match &mut cache.store {
            Store::Device(texts) if rows.iter().all(|row| row.ids.len() == 1) => {
                self.single_recorded(rows, texts)
            }
            _ => self.advance(rows, cache, Which::Last),
        }
    }

    fn check_rows(&self, rows: &[Row<'_>], cache: &KvCache) {
        let sizes = Sizes::of(self.config());
        assert_eq!(
            cache.sizes, sizes,
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
    }

    fn advance(&self, rows: &[Row<'_>], cache: &mut KvCache, which: Which) -> Tensor<2> {
        self.check_rows(rows, cache);
        match &mut cache.store {
            Store::Host(texts) => self.advance_in_memory(rows, texts, which),
            Store::Device(texts) => self.advance_on_device(rows, texts, which),
        }
    }

    fn advance_in_memory(
        &self,
        rows: &[Row<'_>],
        texts: &mut HostTexts,
        which: Which,
    ) -> Tensor<2> {
        let sizes = Sizes::of(self.config());
        let prepared = match texts.prepared.take().filter(|prepared| prepared.fits(self)) {
            Some(prepared) => prepared,
            None => Arc::new(Prepared::new(self)),
        };
        let mut works: Vec<Work<'_>> = rows
            .iter()
            .map(|row| {
                let mut text = texts.take(row.slot);
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
            texts.put(row.slot, work.text);
        }
        texts.prepared = Some(prepared);
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

impl Prepared {
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
            buffers: Buffers::default(),
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
