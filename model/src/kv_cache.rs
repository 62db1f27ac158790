//! Keys and values of the texts being written, owned by the caller.
//!
//! A cache holds any number of slots, one per text: in host memory for the CPU's own kernels, or in
//! tensors of a device. It knows nothing of sampling or requests.
//!
//! Legend: L layers, K key-value heads, D head size.

mod device;
mod host;

use std::time::Duration;

use burn::tensor::DType;

pub(crate) use self::device::DeviceTexts;
pub(crate) use self::host::{BLOCK, HostTexts, Text};
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::kernels::tile::LANES;
use crate::ops;

/// Names one text in a [`KvCache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub(crate) usize);

/// The sizes that decide the layout of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) layers: usize,
    pub(crate) kv_heads: usize,
    pub(crate) dim: usize,
}

impl Sizes {
    pub(crate) fn of(config: &ModelConfig) -> Self {
        Self {
            layers: config.num_hidden_layers,
            kv_heads: config.num_key_value_heads,
            dim: config.head_dim,
        }
    }
}

/// Keys and values of many texts of different lengths.
#[derive(Debug)]
pub struct KvCache {
    pub(crate) sizes: Sizes,
    pub(crate) store: Store,
}

/// Where they are.
#[derive(Debug)]
pub(crate) enum Store {
    Host(HostTexts),
    Device(Box<DeviceTexts>),
}

impl KvCache {
    /// An empty cache in host memory, for an f32 decoder of this shape on the CPU.
    pub fn new(config: &ModelConfig) -> Self {
        Self {
            sizes: Sizes::of(config),
            store: Store::Host(HostTexts::default()),
        }
    }

    /// An empty cache on the decoder's device, in the format of its weights.
    pub fn on_device(decoder: &Decoder) -> Self {
        let sizes = Sizes::of(decoder.config());
        let (device, dtype) = (decoder.device().inner(), decoder.dtype());
        Self {
            sizes,
            store: Store::Device(Box::new(DeviceTexts::new(sizes, device, dtype))),
        }
    }

    /// The cache that suits a decoder: [`KvCache::new`] for f32 on the CPU, else
    /// [`KvCache::on_device`].
    pub fn of(decoder: &Decoder) -> Self {
        match ops::is_cpu(&decoder.device()) && decoder.dtype() == DType::F32 {
            true => Self::new(decoder.config()),
            false => Self::on_device(decoder),
        }
    }

    /// Asks a cache on a device to take memory for no more than `tokens` tokens, as long as what lies in it
    /// needs no more: see [`KvCache::tokens_for`]. Texts are never refused. Without it, and in host memory,
    /// there is no limit; nor is there one on copies, of a layer's keys or values at a time, that are made
    /// while the cache grows.
    pub fn limit(&mut self, tokens: usize) {
        match &mut self.store {
            Store::Host(_) => {}
            Store::Device(texts) => texts.limit(tokens),
        }
    }

    /// Tokens of memory that texts of these lengths need, if they share nothing. In host memory each takes
    /// whole blocks of 32 tokens; on a device each takes as much as the longest, in multiples of 256.
    pub fn tokens_for(&self, lengths: impl IntoIterator<Item = usize>) -> usize {
        let lengths = lengths.into_iter();
        match &self.store {
            Store::Host(_) => lengths.map(|length| length.next_multiple_of(BLOCK)).sum(),
            Store::Device(_) => DeviceTexts::places_for(lengths),
        }
    }

    /// Opens an empty slot.
    pub fn open(&mut self) -> Slot {
        match &mut self.store {
            Store::Host(texts) => texts.open(),
            Store::Device(texts) => texts.open(),
        }
    }

    /// Opens a slot that holds what `slot` holds now. In host memory both share blocks of 32 tokens
    /// until one of them grows into a shared one; on a device the keys and values are copied.
    ///
    /// # Panics
    /// If `slot` is not open.
    pub fn fork(&mut self, slot: Slot) -> Slot {
        match &mut self.store {
            Store::Host(texts) => texts.fork(slot),
            Store::Device(texts) => texts.fork(slot),
        }
    }

    /// Drops all tokens of `slot` after the first `keep`.
    ///
    /// # Panics
    /// If `slot` is not open or holds fewer than `keep` tokens.
    pub fn truncate(&mut self, slot: Slot, keep: usize) {
        let length = self.len(slot);
        assert!(
            keep <= length,
            "a slot of {length} tokens cannot keep {keep}"
        );
        match &mut self.store {
            Store::Host(texts) => texts.truncate(slot, keep),
            Store::Device(texts) => texts.set_len(slot, keep),
        }
    }

    /// Drops all tokens of `slot`, and whatever was written into its memory before. What lies behind a text
    /// is read on a device, with no weight; numbers that are not finite would come through all the same.
    ///
    /// # Panics
    /// If `slot` is not open.
    pub fn wipe(&mut self, slot: Slot) {
        match &mut self.store {
            Store::Host(texts) => texts.truncate(slot, 0),
            Store::Device(texts) => texts.wipe(slot),
        }
    }

    /// Closes `slot`. In host memory this frees what no other slot shares; on a device the place is
    /// used by the next slot.
    ///
    /// # Panics
    /// If `slot` is not open.
    pub fn close(&mut self, slot: Slot) {
        match &mut self.store {
            Store::Host(texts) => texts.close(slot),
            Store::Device(texts) => texts.close(slot),
        }
    }

    /// How many tokens `slot` holds.
    ///
    /// # Panics
    /// If `slot` is not open.
    pub fn len(&self, slot: Slot) -> usize {
        match &self.store {
            Store::Host(texts) => texts.len(slot),
            Store::Device(texts) => texts.len(slot),
        }
    }

    /// Whether no slot is open.
    pub fn is_empty(&self) -> bool {
        match &self.store {
            Store::Host(texts) => texts.is_empty(),
            Store::Device(texts) => texts.is_empty(),
        }
    }

    /// Bytes of the decoder's weights as the first step packed them in host memory, which every
    /// later step reads; 0 before it, and on a device, where nothing is packed.
    pub fn weight_bytes(&self) -> usize {
        match &self.store {
            Store::Host(texts) => texts
                .prepared
                .as_ref()
                .map_or(0, |prepared| prepared.bytes()),
            Store::Device(_) => 0,
        }
    }

    /// Steps that were sent as one recorded piece, and why none is recorded any more, if that is so.
    /// 0 and nothing in host memory.
    pub fn recorded_steps(&self) -> (u64, Option<&str>) {
        match &self.store {
            Store::Host(_) => (0, None),
            Store::Device(texts) => (texts.recorder.replayed(), texts.recorder.off()),
        }
    }

    /// How long recording steps has taken, with the steps that proved recordings. Zero in host memory.
    pub fn recording_time(&self) -> Duration {
        match &self.store {
            Store::Host(_) => Duration::ZERO,
            Store::Device(texts) => texts.recorder.time(),
        }
    }

    /// Bytes of memory that keys and values take.
    pub fn bytes(&self) -> usize {
        match &self.store {
            Store::Host(texts) => texts.bytes(&self.sizes),
            Store::Device(texts) => texts.bytes(),
        }
    }

    /// Bytes of the keys and values of one token; in host memory heads are padded to whole vectors
    /// of 8.
    pub fn bytes_per_token(&self) -> usize {
        let Sizes {
            layers,
            kv_heads,
            dim,
        } = self.sizes;
        2 * layers
            * kv_heads
            * match &self.store {
                Store::Host(_) => dim.next_multiple_of(LANES) * size_of::<f32>(),
                Store::Device(texts) => dim * texts.bytes_per_value(),
            }
    }
}
