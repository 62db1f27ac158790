//! A step on a device: all new tokens go through each product together; rows that append one token
//! attend together, rows that append more attend one by one.
//!
//! Where every row appends one token, all that the host says comes in one tensor (`single`), so that
//! the launches of such a step can be recorded and sent again as one (`recorded`).
//!
//! Legend: N new tokens, R rows of one token, L places read, n tokens of a longer row, d width,
//! H query heads, K key-value heads, G = H / K, D head size.

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod joined;
mod recorded;
mod single;

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Int, Tensor, TensorData};

#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) use self::joined::{Joined, join_layers};
pub(crate) use self::recorded::Recorder;
use super::{Row, Which};
use crate::decoder::Decoder;
use crate::kv_cache::{DeviceTexts, Slot};
use crate::lora::Linear;
use crate::ops::product::{product, product_transposed};
use crate::ops::reference::halves_swapped;
use crate::ops::rows::{self, Places, Seen};
use crate::ops::{self, Heads};

/// Scores of one product of a longer row: half a gigabyte in f32.
const SCORES: usize = 1 << 27;

/// Added to a score that is not seen: its exponential is 0.
const HIDDEN: f32 = -1e30;

/// What all layers of a step need to know.
struct Pass<'a> {
    heads: Heads,
    /// Slot and position of each token; those of rows of one token first.
    tokens: Vec<(Slot, usize)>,
    /// Rows of one token.
    single: usize,
    /// Places that are read of them, L, and what hides those behind a text, `[R, 1, 1, L]`; None where
    /// kernels heed their positions.
    mask: Option<(usize, Tensor<4>)>,
    /// Longer rows: slot, first new position, number of new tokens.
    long: Vec<(Slot, usize, usize)>,
    /// What turns heads at the new tokens' positions, `[N, D]` each.
    turn: [Tensor<2>; 2],
    /// Lines of the cache and positions for kernels, `[N]` each.
    #[cfg_attr(
        not(any(feature = "cuda", feature = "wgpu")),
        expect(dead_code, reason = "kernels read it")
    )]
    at: Places,
    texts: &'a mut DeviceTexts,
}

impl Decoder {
    pub(super) fn advance_on_device(
        &self,
        rows: &[Row<'_>],
        texts: &mut DeviceTexts,
        which: Which,
    ) -> Tensor<2> {
        let before: Vec<usize> = rows.iter().map(|row| texts.len(row.slot)).collect();
        let ends = rows
            .iter()
            .zip(&before)
            .map(|(row, len)| len + row.ids.len());
        texts.reserve(ends.clone().max().unwrap_or(0));
        if self.is_joined() && rows.iter().all(|row| row.ids.len() == 1) {
            let step = self.single(rows, rows.len(), texts);
            let logits = self.write_single(&step, texts);
            step.end(texts);
            return logits;
        }
        // Rows of one token first, so that they lie together.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|row| rows[*row].ids.len() > 1);
        let ids: Vec<u32> = order
            .iter()
            .flat_map(|row| rows[*row].ids.iter().copied())
            .collect();
        let tokens: Vec<(Slot, usize)> = order
            .iter()
            .flat_map(|row| {
                let (slot, first) = (rows[*row].slot, before[*row]);
                (first..first + rows[*row].ids.len()).map(move |position| (slot, position))
            })
            .collect();
        let (short, long): (Vec<usize>, Vec<usize>) =
            order.iter().partition(|row| rows[**row].ids.len() == 1);
        let at = Places {
            slots: on_device(tokens.iter().map(|(slot, _)| texts.line(*slot)), texts),
            positions: on_device(tokens.iter().map(|(_, position)| *position), texts),
        };
        let pass = Pass {
            heads: self.heads(),
            single: short.len(),
            mask: mask_of(&tokens[..short.len()], &at, texts),
            long: long
                .iter()
                .map(|row| (rows[*row].slot, before[*row], rows[*row].ids.len()))
                .collect(),
            turn: self.turns(&at.positions, texts),
            tokens,
            at,
            texts,
        };
        let embedding = self.model.embed_tokens.weight.val();
        let hidden = self.through_layers(ops::embedding(embedding, &ids).inner(), pass);
        for (row, end) in rows.iter().zip(ends) {
            texts.set_len(row.slot, end);
        }
        let wanted = wanted(rows, &order, which);
        let count = wanted.len();
        let wanted = Tensor::from_data(TensorData::new(wanted, [count]), &texts.device);
        self.logits_of_device(hidden.select(0, wanted))
    }

    /// Whether weights are joined, so that kernels see to what lies between products.
    fn is_joined(&self) -> bool {
        #[cfg(any(feature = "cuda", feature = "wgpu"))]
        return self.joined.is_some();
        #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
        false
    }

    /// Logits `[N, V]` in f32 of what comes out of the last layer.
    fn logits_of_device(&self, hidden: Tensor<2>) -> Tensor<2> {
        let normed = self.model.norm.apply(hidden, self.config().rms_norm_eps);
        self.logits(normed).inner().cast(DType::F32)
    }

    /// What turns heads at the positions of tokens `[N]`: cosines and sines, `[N, D]` each.
    fn turns(&self, positions: &Tensor<1, Int>, texts: &DeviceTexts) -> [Tensor<2>; 2] {
        // As far as the cache reaches: the tables stay where they are while it does not grow.
        let turns = self.rope().turns(texts.all_places(), &texts.device);
        [turns.cos, turns.sin].map(|table| table.select(0, positions.clone()))
    }

    fn through_layers(&self, mut hidden: Tensor<2>, pass: Pass<'_>) -> Tensor<2> {
        #[cfg(any(feature = "cuda", feature = "wgpu"))]
        if let Some(joined) = &self.joined {
            let mut pass = pass;
            return self.through_joined(joined, hidden, &mut pass);
        }
        let eps = self.config().rms_norm_eps;
        let [tokens, _] = hidden.dims();
        let places = pass.texts.write_places(&pass.tokens);
        for (index, layer) in self.model.layers.iter().enumerate() {
            let x = layer.input_layernorm.apply(hidden.clone(), eps);
            let attention = &layer.self_attn;
            let [q, k, v] = attention.project(x, eps, None).map(Tensor::inner);
            let dim = pass.heads.dim;
            let heads_of = |x: Tensor<2>| {
                let [_, width] = x.dims();
                x.reshape([tokens * width / dim, dim])
            };
            let (q, k) = (pass.rotate(q), pass.rotate(k));
            pass.texts.write(index, &places, heads_of(k), heads_of(v));
            let mixed = pass.attend(index, q.reshape([tokens, pass.heads.query, dim]));
            hidden = attention
                .o_proj
                .add_to(hidden, mixed, Linear::Output, None)
                .inner();
            let x = layer.post_attention_layernorm.apply(hidden.clone(), eps);
            hidden = layer.mlp.add_to(hidden, x, None).inner();
        }
        hidden
    }
}

/// What hides from rows of one token each the places behind their texts, and how many are read; None where
/// there are none, and where kernels heed positions.
fn mask_of(
    tokens: &[(Slot, usize)],
    at: &Places,
    texts: &DeviceTexts,
) -> Option<(usize, Tensor<4>)> {
    if rows::run_on(&texts.device) {
        return None;
    }
    let longest = tokens.iter().map(|(_, position)| position + 1).max()?;
    let places = texts.places_read(longest);
    let lengths = at.positions.clone().narrow(0, 0, tokens.len()) + 1;
    Some((places, hidden_from(lengths, places, texts)))
}

impl Pass<'_> {
    /// Turns queries or keys `[N, heads * D]` by their positions, in f32.
    fn rotate(&self, x: Tensor<2>) -> Tensor<2> {
        let [cos, sin] = self.turn.clone();
        #[cfg(any(feature = "cuda", feature = "wgpu"))]
        if rows::run_on(&x.device()) {
            return rows::turn(x, cos, sin);
        }
        let (dtype, [tokens, width]) = (x.dtype(), x.dims());
        let x = x.reshape([tokens, width / self.heads.dim, self.heads.dim]);
        let [cos, sin] = [cos, sin].map(|table| table.unsqueeze_dim::<3>(1));
        let swapped = halves_swapped(x.clone(), self.heads.dim);
        let turned = x.cast(DType::F32) * cos + swapped.cast(DType::F32) * sin;
        turned.cast(dtype).reshape([tokens, width])
    }

    /// Attention of queries `[N, H, D]`, whose keys and values are in the cache: `[N, H * D]`.
    fn attend(&self, layer: usize, q: Tensor<3>) -> Tensor<2> {
        let mut parts = Vec::with_capacity(1 + self.long.len());
        let mut first = 0;
        if self.single > 0 {
            let q = q.clone().narrow(0, 0, self.single);
            parts.push(self.attend_together(layer, q));
            first = self.single;
        }
        for &(slot, position, count) in &self.long {
            let q = q.clone().narrow(0, first, count);
            parts.push(self.attend_alone(layer, q, slot, position));
            first += count;
        }
        together(parts)
    }

    /// One query of each row against its keys, which are read once for the queries of a group.
    fn attend_together(&self, layer: usize, q: Tensor<3>) -> Tensor<2> {
        let Heads {
            query,
            key_value,
            dim,
        } = self.heads;
        let [rows, _, _] = q.dims();
        let Some((places, mask)) = self.mask.clone() else {
            return self.attend_by_kernels(layer, q.reshape([rows, query * dim]));
        };
        let slots: Vec<Slot> = self.tokens[..rows].iter().map(|(slot, _)| *slot).collect();
        let (keys, values) = self.texts.read(layer, &slots, places);
        let q = q.reshape([rows, key_value, query / key_value, dim]);
        let scores = product_transposed(q, keys); // [R, K, G, L]
        let dtype = scores.dtype();
        let shares = softmax(scores.cast(DType::F32) * scale(dim) + mask, 3).cast(dtype);
        product(shares, values).reshape([rows, query * dim])
    }

    /// The same by kernels that heed positions: `[R, H * D]`.
    fn attend_by_kernels(&self, layer: usize, q: Tensor<2>) -> Tensor<2> {
        #[cfg(any(feature = "cuda", feature = "wgpu"))]
        {
            let [count, _] = q.dims();
            let part = |x: &Tensor<1, Int>| match x.dims()[0] == count {
                true => x.clone(),
                false => x.clone().narrow(0, 0, count),
            };
            let at = Places {
                slots: part(&self.at.slots),
                positions: part(&self.at.positions),
            };
            rows::attend(q, self.texts.whole(layer), &at, self.texts.layout())
        }
        #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
        unreachable!("no device of this build has kernels: {layer} {q}")
    }

    /// Softmax of the scores `[1, K, G * rows, L]` of a longer row.
    fn shares(&self, scores: Tensor<4>, seen: Seen, group: usize) -> Tensor<4> {
        if rows::run_on(&self.texts.device) {
            return rows::shares_of(scores, seen);
        }
        let (dtype, [_, _, _, places]) = (scores.dtype(), scores.dims());
        let lengths = (1..=seen.period).map(|row| seen.first + row);
        let mask = hidden_from(on_device(lengths, self.texts), places, self.texts)
            .reshape([1, 1, seen.period, places])
            .repeat_dim(2, group);
        softmax(scores.cast(DType::F32) * seen.scale + mask, 3).cast(dtype)
    }

    /// The queries of one row from `position` on, in chunks, each against the keys up to itself.
    fn attend_alone(&self, layer: usize, q: Tensor<3>, slot: Slot, position: usize) -> Tensor<2> {
        let Heads {
            query,
            key_value,
            dim,
        } = self.heads;
        let count = q.dims()[0];
        let group = query / key_value;
        let fit = (SCORES / (query * (position + count))).max(1);
        let mut parts = Vec::new();
        for first in (0..count).step_by(fit) {
            let rows = fit.min(count - first);
            let places = self.texts.places_read(position + first + rows);
            let (keys, values) = self.texts.read(layer, &[slot], places); // [1, K, L, D]
            let q = q
                .clone()
                .narrow(0, first, rows)
                .reshape([rows, key_value, group, dim])
                .permute([1, 2, 0, 3])
                .reshape([1, key_value, group * rows, dim]);
            let seen = Seen {
                period: rows,
                first: position + first,
                scale: scale(dim),
            };
            let shares = self.shares(product_transposed(q, keys), seen, group);
            let mixed = product(shares, values)
                .reshape([key_value, group, rows, dim])
                .permute([2, 0, 1, 3])
                .reshape([rows, query * dim]);
            parts.push(mixed);
        }
        together(parts)
    }
}

/// Rows of several matrices in one; a single one is not copied.
fn together(mut parts: Vec<Tensor<2>>) -> Tensor<2> {
    match parts.len() {
        1 => parts.remove(0),
        _ => Tensor::cat(parts, 0),
    }
}

/// What scores of heads of this size are multiplied by.
fn scale(dim: usize) -> f64 {
    1.0 / (dim as f64).sqrt()
}

/// Numbers as a tensor.
fn on_device(numbers: impl Iterator<Item = usize>, texts: &DeviceTexts) -> Tensor<1, Int> {
    // The cache has fewer than 2^31 places.
    let numbers: Vec<i32> = numbers.map(|number| number as i32).collect();
    let count = numbers.len();
    Tensor::from_data(TensorData::new(numbers, [count]), &texts.device)
}

/// 0 for the first places of each row, as many as `lengths` `[rows]` says, and a number that hides the
/// others: `[rows, 1, 1, places]`.
fn hidden_from(lengths: Tensor<1, Int>, places: usize, texts: &DeviceTexts) -> Tensor<4> {
    let [rows] = lengths.dims();
    let all = Tensor::<1, Int>::arange(0..places as i64, &texts.device).reshape([1, places]);
    let hidden = all
        .repeat_dim(0, rows)
        .greater_equal(lengths.reshape([rows, 1]).repeat_dim(1, places));
    Tensor::<2>::zeros([rows, places], (&texts.device, DType::F32))
        .mask_fill(hidden, HIDDEN)
        .reshape([rows, 1, 1, places])
}

/// Which of the tokens, in the order they were fed, have their logits asked for, in the order of
/// the rows.
fn wanted(rows: &[Row<'_>], order: &[usize], which: Which) -> Vec<i32> {
    let mut first = vec![0; rows.len()];
    let mut count = 0;
    for row in order {
        first[*row] = count;
        count += rows[*row].ids.len();
    }
    let places = rows.iter().zip(first).flat_map(|(row, first)| {
        let end = first + row.ids.len();
        match which {
            Which::Last => end - 1..end,
            Which::All => first..end,
        }
    });
    places.map(|place| place as i32).collect()
}
