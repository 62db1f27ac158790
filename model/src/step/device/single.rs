//! A step in which every row appends one token: all that the host says in one tensor of numbers.
//!
//! Legend: R rows, K key-value heads, D head size.

use burn::tensor::{Int, Tensor, TensorData};

use super::{Pass, Sight};
use crate::decoder::Decoder;
use crate::kv_cache::{DeviceTexts, Slot};
use crate::step::Row;

/// One token for each of some slots.
pub(super) struct Single {
    pub(super) slots: Vec<Slot>,
    /// Places that are read of each slot.
    pub(super) places: usize,
    /// Lengths of the texts with the new tokens.
    ends: Vec<usize>,
    /// Ids `[R]`, positions `[R]`, and where keys and values are written `[R * K]`, end to end.
    pub(super) numbers: Tensor<1, Int>,
}

impl Single {
    /// Tells the cache that the tokens are in it.
    pub(super) fn end(&self, texts: &mut DeviceTexts) {
        for (slot, end) in self.slots.iter().zip(&self.ends) {
            texts.set_len(*slot, *end);
        }
    }
}

impl Decoder {
    /// Prepares a step of rows of one token each; the cache has room for them.
    pub(super) fn single(&self, rows: &[Row<'_>], texts: &mut DeviceTexts) -> Single {
        let slots: Vec<Slot> = rows.iter().map(|row| row.slot).collect();
        let before: Vec<usize> = slots.iter().map(|slot| texts.len(*slot)).collect();
        let ends: Vec<usize> = before.iter().map(|length| length + 1).collect();
        let tokens: Vec<(Slot, usize)> = slots.iter().copied().zip(before.clone()).collect();
        let ids = rows.iter().flat_map(|row| row.ids).map(|id| *id as i32);
        let positions = before.iter().map(|position| *position as i32);
        let numbers: Vec<i32> = ids
            .chain(positions)
            .chain(texts.places_of(&tokens))
            .collect();
        let count = numbers.len();
        Single {
            places: texts.places_read(ends.iter().copied().max().unwrap_or(0)),
            slots,
            ends,
            numbers: Tensor::from_data(TensorData::new(numbers, [count]), &texts.device),
        }
    }

    /// Writes the tokens into the cache; their logits `[R, V]` in f32. It reads nothing from the
    /// host but what the shapes say.
    pub(super) fn write_single(&self, step: &Single, texts: &mut DeviceTexts) -> Tensor<2> {
        let (rows, heads) = (step.slots.len(), self.heads());
        let part = |first, count| step.numbers.clone().narrow(0, first, count);
        let (ids, positions) = (part(0, rows), part(rows, rows));
        let embedding = self.model.embed_tokens.weight.val().inner();
        let sight = Sight::new(step.places, positions.clone() + 1, texts);
        let pass = Pass {
            heads,
            single: step.slots.clone(),
            single_sight: Some(sight),
            long: Vec::new(),
            turn: self.turns(&positions, texts),
            places: part(2 * rows, rows * heads.key_value),
            texts,
        };
        let hidden = self.through_layers(embedding.select(0, ids), pass);
        self.logits_of_device(hidden)
    }
}
