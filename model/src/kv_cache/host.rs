//! Keys and values in host memory, in blocks of 32 tokens that texts share until one of them
//! writes: forking copies no key.
//!
//! Legend: D head size, P = D padded to whole vectors of 8.

use std::sync::Arc;

use super::{Sizes, Slot};
use crate::kernels::tile::{LANES, PANEL};
use crate::step::Prepared;

/// Tokens of one block: two panels of 16.
pub(crate) const BLOCK: usize = 2 * PANEL;

/// How a block is laid out.
impl Sizes {
    /// Head size padded to whole vectors.
    pub(crate) fn padded(&self) -> usize {
        self.dim.next_multiple_of(LANES)
    }

    /// Keys of one layer and head: `[2 panels][D][16 tokens]`.
    pub(crate) fn keys(&self) -> usize {
        BLOCK * self.dim
    }

    /// Values of one layer and head: `[32 tokens][P]`.
    fn values(&self) -> usize {
        BLOCK * self.padded()
    }

    fn block(&self) -> usize {
        self.layers * self.kv_heads * (self.keys() + self.values())
    }

    /// Where keys and values of a layer and head lie in a block.
    pub(crate) fn place(&self, layer: usize, head: usize) -> (usize, usize) {
        let at = (layer * self.kv_heads + head) * (self.keys() + self.values());
        (at, at + self.keys())
    }
}

/// Keys and values of one text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    pub(crate) length: usize,
    blocks: Vec<Arc<[f32]>>,
}

impl Text {
    /// Makes the blocks of the next `count` tokens exist and belong to this text alone.
    pub(crate) fn reserve(&mut self, sizes: &Sizes, count: usize) {
        let first = self.length / BLOCK;
        for index in first..(self.length + count).div_ceil(BLOCK) {
            match self.blocks.get_mut(index) {
                None => self
                    .blocks
                    .push(std::iter::repeat_n(0.0, sizes.block()).collect()),
                // Clones the block if another text shares it.
                Some(block) => drop(Arc::make_mut(block)),
            }
        }
    }

    /// Stores the key and value of one reserved token for one layer and head.
    pub(crate) fn write(
        &mut self,
        sizes: &Sizes,
        (layer, head): (usize, usize),
        position: usize,
        key: &[f32],
        value: &[f32],
    ) {
        let block = Arc::get_mut(&mut self.blocks[position / BLOCK])
            .expect("`reserve` made the block this text's own");
        let (keys, values) = sizes.place(layer, head);
        let row = position % BLOCK;
        let panel = keys + (row / PANEL) * sizes.dim * PANEL + row % PANEL;
        for (d, key) in key.iter().enumerate() {
            block[panel + d * PANEL] = *key;
        }
        let at = values + row * sizes.padded();
        block[at..at + sizes.dim].copy_from_slice(value);
    }

    pub(crate) fn blocks(&self) -> &[Arc<[f32]>] {
        &self.blocks
    }
}

/// Keys and values of many texts of different lengths.
#[derive(Debug, Default)]
pub(crate) struct HostTexts {
    texts: Vec<Option<Text>>,
    free: Vec<usize>,
    /// The weights that steps read.
    pub(crate) prepared: Option<Arc<Prepared>>,
}

impl HostTexts {
    pub(super) fn open(&mut self) -> Slot {
        self.insert(Text::default())
    }

    pub(super) fn fork(&mut self, slot: Slot) -> Slot {
        let text = self.text(slot).clone();
        self.insert(text)
    }

    pub(super) fn truncate(&mut self, slot: Slot, keep: usize) {
        let text = self.text_mut(slot);
        text.length = keep;
        text.blocks.truncate(keep.div_ceil(BLOCK));
    }

    pub(super) fn close(&mut self, slot: Slot) {
        self.text_mut(slot);
        self.texts[slot.0] = None;
        self.free.push(slot.0);
    }

    pub(super) fn len(&self, slot: Slot) -> usize {
        self.text(slot).length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.texts.iter().all(Option::is_none)
    }

    /// Bytes of the blocks, a shared one counted once.
    pub(super) fn bytes(&self, sizes: &Sizes) -> usize {
        let mut blocks: Vec<*const f32> = self
            .texts
            .iter()
            .flatten()
            .flat_map(|text| text.blocks.iter().map(|block| block.as_ptr()))
            .collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks.len() * sizes.block() * size_of::<f32>()
    }

    /// Takes the text out of its slot while a step works on it.
    pub(crate) fn take(&mut self, slot: Slot) -> Text {
        std::mem::take(self.text_mut(slot))
    }

    pub(crate) fn put(&mut self, slot: Slot, text: Text) {
        *self.text_mut(slot) = text;
    }

    fn insert(&mut self, text: Text) -> Slot {
        match self.free.pop() {
            Some(index) => {
                self.texts[index] = Some(text);
                Slot(index)
            }
            None => {
                self.texts.push(Some(text));
                Slot(self.texts.len() - 1)
            }
        }
    }

    fn text(&self, slot: Slot) -> &Text {
        self.texts
            .get(slot.0)
            .and_then(Option::as_ref)
            .expect("the slot is open")
    }

    fn text_mut(&mut self, slot: Slot) -> &mut Text {
        self.texts
            .get_mut(slot.0)
            .and_then(Option::as_mut)
            .expect("the slot is open")
    }
}
