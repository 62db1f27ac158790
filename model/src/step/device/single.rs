//! A step in which every row appends one token: all that the host says in one tensor of numbers.
//!
//! Legend: R rows, with those that stand for no text.

use burn::tensor::{Int, Tensor, TensorData};

use super::Pass;
use crate::decoder::Decoder;
use crate::kv_cache::{DeviceTexts, Slot};
use crate::ops::rows::Places;
use crate::step::Row;

/// One token for each of some slots.
pub(super) struct Single {
    /// R.
    pub(super) rows: usize,
    /// Slots, and positions of their new tokens.
    tokens: Vec<(Slot, usize)>,
    /// Ids, positions and lines of the cache, `[R]` each, end to end.
    pub(super) numbers: Tensor<1, Int>,
}

impl Single {
    /// Rows that stand for a text.
    pub(super) fn texts(&self) -> usize {
        self.tokens.len()
    }

    /// Tells the cache that the tokens are in it.
    pub(super) fn end(&self, texts: &mut DeviceTexts) {
        for (slot, position) in &self.tokens {
            texts.set_len(*slot, position + 1);
        }
    }
}

impl Decoder {
    /// Prepares a step of rows of one token each, filled up to `count` rows with such as stand for no text;
    /// the cache has room for them.
    pub(super) fn single(&self, rows: &[Row<'_>], count: usize, texts: &DeviceTexts) -> Single {
        let slots = rows.iter().map(|row| row.slot);
        let tokens: Vec<(Slot, usize)> = slots.map(|slot| (slot, texts.len(slot))).collect();
        let filled = |numbers: &mut dyn Iterator<Item = i32>, filler: i32| {
            let mut numbers: Vec<i32> = numbers.collect();
            numbers.resize(count, filler);
            numbers
        };
        // Ids, places and lines are fewer than 2^31.
        let ids = rows.iter().flat_map(|row| row.ids).map(|id| *id as i32);
        let positions = tokens.iter().map(|(_, position)| *position as i32);
        let lines = tokens.iter().map(|(slot, _)| texts.line(*slot) as i32);
        let numbers = [
            filled(&mut { ids }, 0),
            filled(&mut { positions }, 0),
            filled(&mut { lines }, -1),
        ];
        let data = TensorData::new(numbers.concat(), [3 * count]);
        Single {
            rows: count,
            tokens,
            numbers: Tensor::from_data(data, &texts.device),
        }
    }

    /// Writes the tokens into the cache; the logits `[R, V]` in f32. It reads nothing from the host but what
    /// the shapes say, and these are those of R and the cache's memory alone.
    pub(super) fn write_single(&self, step: &Single, texts: &mut DeviceTexts) -> Tensor<2> {
        let rows = step.rows;
        let part = |index| step.numbers.clone().narrow(0, index * rows, rows);
        let at = Places {
            positions: part(1),
            slots: part(2),
        };
        let embedding = self.model.embed_tokens.weight.val().inner();
        let pass = Pass {
            heads: self.heads(),
            tokens: step.tokens.clone(),
            single: rows,
            mask: None,
            long: Vec::new(),
            turn: self.turns(&at.positions, texts),
            at,
            texts,
        };
        let hidden = self.through_layers(embedding.select(0, part(0)), pass);
        self.logits_of_device(hidden)
    }
}
