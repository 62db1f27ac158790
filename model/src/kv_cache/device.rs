//! Keys and values in tensors of a device: one line of places per text, as long as the longest text.
//!
//! A slot names a text for good; the line that it lies in may change. Where memory is limited, lines that
//! closed slots left between others are given up for longer ones, and the other way round.
//!
//! Legend: S lines, K key-value heads, C places of a line, D head size.

use std::collections::BTreeSet;

use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData};

use super::{Sizes, Slot};
use crate::ops::rows;
use crate::step::Recorder;

/// Places by which lines grow, so that shapes, and with them compiled kernels, stay few.
const PLACES: usize = 256;

/// Keys and values of one layer, `[S * K * C, D]` each.
#[derive(Debug)]
struct Pair {
    keys: Tensor<2>,
    values: Tensor<2>,
}

/// A text in an open slot.
#[derive(Clone, Copy, Debug)]
struct Text {
    line: usize,
    length: usize,
}

/// Keys and values of many texts.
#[derive(Debug)]
pub(crate) struct DeviceTexts {
    sizes: Sizes,
    pub(crate) device: Device,
    pub(crate) dtype: DType,
    layers: Vec<Pair>,
    /// S.
    lines: usize,
    /// C.
    places: usize,
    /// The most places of all lines together, where texts fit into so many.
    limit: usize,
    /// Of each slot, None where it is not open.
    texts: Vec<Option<Text>>,
    pub(crate) recorder: Recorder,
    /// Whether something wrote to the tensors since they were located.
    touched: bool,
}

impl DeviceTexts {
    pub(super) fn new(sizes: Sizes, device: Device, dtype: DType) -> Self {
        Self {
            sizes,
            device,
            dtype,
            layers: Vec::new(),
            lines: 0,
            places: 0,
            limit: usize::MAX,
            texts: Vec::new(),
            recorder: Recorder::default(),
            touched: false,
        }
    }

    pub(super) fn limit(&mut self, places: usize) {
        self.limit = places;
    }

    /// Places that texts of these lengths need.
    pub(super) fn places_for(lengths: impl Iterator<Item = usize>) -> usize {
        let (count, longest) = lengths.fold((0, 0), |(count, longest), length| {
            (count + 1, length.max(longest))
        });
        count * line_for(longest)
    }

    pub(super) fn open(&mut self) -> Slot {
        let taken: BTreeSet<usize> = self.open_texts().map(|text| text.line).collect();
        let line = (0..=taken.len()).find(|line| !taken.contains(line));
        let text = Some(Text {
            line: line.expect("one of more lines than texts is free"),
            length: 0,
        });
        match self.texts.iter().position(Option::is_none) {
            Some(free) => {
                self.texts[free] = text;
                Slot(free)
            }
            None => {
                self.texts.push(text);
                Slot(self.texts.len() - 1)
            }
        }
    }

    pub(super) fn fork(&mut self, slot: Slot) -> Slot {
        let length = self.len(slot);
        let new = self.open();
        if length > 0 {
            self.reserve(0);
            self.touched = true;
            let places = |slot| (0..length).map(move |position| (slot, position));
            let from = self.write_places(&places(slot).collect::<Vec<_>>());
            let to = self.write_places(&places(new).collect::<Vec<_>>());
            for pair in &mut self.layers {
                for flat in [&mut pair.keys, &mut pair.values] {
                    let rows = flat.clone().select(0, from.clone());
                    put(flat, &to, rows);
                }
            }
        }
        self.set_len(new, length);
        new
    }

    pub(super) fn wipe(&mut self, slot: Slot) {
        let line = self.line(slot);
        self.set_len(slot, 0);
        if line >= self.lines || self.layers.is_empty() {
            return;
        }
        self.touched = true;
        let dim = self.sizes.dim;
        let count = self.sizes.kv_heads * self.places;
        let zeros = Tensor::<2>::zeros([count, dim], (&self.device, self.dtype));
        let whole = [line * count..(line + 1) * count, 0..dim];
        for pair in &mut self.layers {
            for flat in [&mut pair.keys, &mut pair.values] {
                flat.inplace(|flat| flat.slice_assign(whole.clone(), zeros.clone()));
            }
        }
    }

    pub(super) fn close(&mut self, slot: Slot) {
        self.text(slot);
        self.texts[slot.0] = None;
    }

    pub(crate) fn len(&self, slot: Slot) -> usize {
        self.text(slot).length
    }

    pub(crate) fn set_len(&mut self, slot: Slot, length: usize) {
        let text = self.texts.get_mut(slot.0).and_then(Option::as_mut);
        text.expect("the slot is open").length = length;
    }

    /// The line of a slot, until more is reserved.
    pub(crate) fn line(&self, slot: Slot) -> usize {
        self.text(slot).line
    }

    fn text(&self, slot: Slot) -> Text {
        let text = self.texts.get(slot.0).copied().flatten();
        text.expect("the slot is open")
    }

    fn open_texts(&self) -> impl Iterator<Item = &Text> {
        self.texts.iter().flatten()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.texts.iter().all(Option::is_none)
    }

    pub(super) fn bytes_per_value(&self) -> usize {
        self.dtype.size()
    }

    pub(super) fn bytes(&self) -> usize {
        let values: usize = self.shape().iter().product();
        2 * self.layers.len() * values * self.bytes_per_value()
    }

    /// Places of a line.
    pub(crate) fn all_places(&self) -> usize {
        self.places
    }

    /// `[S, K, C, D]`.
    pub(crate) fn shape(&self) -> [usize; 4] {
        [self.lines, self.sizes.kv_heads, self.places, self.sizes.dim]
    }

    /// Makes room for every open slot, and for texts of `length` tokens. Texts may lie in other lines then.
    pub(crate) fn reserve(&mut self, length: usize) {
        let (mut count, mut longest, mut end) = (0, length, 0);
        for text in self.open_texts() {
            count += 1;
            longest = longest.max(text.length);
            end = end.max(text.line + 1);
        }
        // Without open slots there is nothing to make room for.
        if count == 0 {
            return;
        }
        let (lines, places) = self.room_for(count, longest);
        if end > self.lines || (lines, places) != (self.lines, self.places) {
            self.move_to(lines, places);
        }
    }

    /// S and C for so many texts of which the longest has so many tokens: with some to spare, so that tensors
    /// are seldom copied, as far as the limit goes.
    fn room_for(&self, count: usize, longest: usize) -> (usize, usize) {
        let needed = line_for(longest);
        let mut lines = match count <= self.lines {
            true => self.lines,
            false => rounded(count),
        };
        let places = match longest <= self.places {
            true => self.places,
            false => needed.max((self.places + self.places / 2).next_multiple_of(PLACES)),
        };
        if lines * needed > self.limit {
            lines = rounded(count).min(self.limit / needed).max(count);
        }
        let fit = self.limit / lines / PLACES * PLACES;
        (lines, places.min(fit).max(needed))
    }

    /// Makes tensors of this shape, in which texts lie in the first lines.
    fn move_to(&mut self, lines: usize, places: usize) {
        // They hold on to the tensors they were made with.
        self.recorder.forget();
        self.touched = true;
        let old = self.shape();
        (self.lines, self.places) = (lines, places);
        let shape = self.shape();
        let mut texts: Vec<&mut Text> = self.texts.iter_mut().flatten().collect();
        // Empty ones last: they have nothing to be moved.
        texts.sort_by_key(|text| (text.length == 0, text.line));
        let (mut from, mut longest) = (Vec::new(), 0);
        for (line, text) in texts.into_iter().enumerate() {
            if text.length > 0 {
                from.push(text.line);
                longest = longest.max(text.length);
            }
            text.line = line;
        }
        let options = (&self.device, self.dtype);
        let zeros = || Tensor::<4>::zeros(shape, options);
        if from.is_empty() {
            self.layers.clear();
            let pair = || Pair {
                keys: flatten(zeros()),
                values: flatten(zeros()),
            };
            self.layers = (0..self.sizes.layers).map(|_| pair()).collect();
            return;
        }
        let [_, heads, _, dim] = shape;
        let filled = [0..from.len(), 0..heads, 0..longest, 0..dim];
        // One tensor after the other, so that there are never two of more than one.
        for pair in &mut self.layers {
            for flat in [&mut pair.keys, &mut pair.values] {
                flat.inplace(|flat| {
                    let texts = taken(flat.reshape(old).narrow(2, 0, longest), &from);
                    flatten(zeros().slice_assign(filled.clone(), texts))
                });
            }
        }
    }

    /// Where new tokens at (slot, position) are written, one place for each key-value head:
    /// `[N * K]`.
    pub(crate) fn write_places(&self, tokens: &[(Slot, usize)]) -> Tensor<1, Int> {
        let places: Vec<i32> = self.places_of(tokens).collect();
        let count = places.len();
        Tensor::from_data(TensorData::new(places, [count]), &self.device)
    }

    /// [`DeviceTexts::write_places`] as numbers.
    pub(crate) fn places_of(&self, tokens: &[(Slot, usize)]) -> impl Iterator<Item = i32> {
        let heads = self.sizes.kv_heads;
        tokens.iter().flat_map(move |(slot, position)| {
            let line = self.line(*slot);
            (0..heads).map(move |head| {
                let place = (line * heads + head) * self.places + position;
                i32::try_from(place).expect("fewer than 2^31 places")
            })
        })
    }

    /// Writes keys and values `[N * K, D]` of a layer.
    pub(crate) fn write(
        &mut self,
        layer: usize,
        places: &Tensor<1, Int>,
        keys: Tensor<2>,
        values: Tensor<2>,
    ) {
        self.touched = true;
        let pair = &mut self.layers[layer];
        put(&mut pair.keys, places, keys);
        put(&mut pair.values, places, values);
    }

    /// How the tensors of a layer lie.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(crate) fn layout(&self) -> rows::Layout {
        rows::Layout {
            heads: self.sizes.kv_heads,
            places: self.places,
            dim: self.sizes.dim,
        }
    }

    /// Keys and values of a layer, `[S * K * C, D]` each.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(crate) fn whole(&self, layer: usize) -> [Tensor<2>; 2] {
        let pair = &self.layers[layer];
        [pair.keys.clone(), pair.values.clone()]
    }

    /// The same to be written to.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(crate) fn whole_mut(&mut self, layer: usize) -> [&mut Tensor<2>; 2] {
        self.touched = true;
        let pair = &mut self.layers[layer];
        [&mut pair.keys, &mut pair.values]
    }

    /// Whether something wrote to the tensors since [`DeviceTexts::addresses`]: they may have moved.
    pub(crate) fn is_touched(&self) -> bool {
        self.touched
    }

    /// Where the tensors of all layers lie in the device's memory, once all work before is done.
    ///
    /// # Errors
    /// If the device fails, or is none whose addresses can be told.
    pub(crate) fn addresses(&mut self) -> Result<Vec<u64>, String> {
        let pairs = self.layers.iter_mut();
        let tensors = pairs.flat_map(|pair| [&mut pair.keys, &mut pair.values]);
        let addresses = rows::addresses(tensors, &self.device)?;
        self.touched = false;
        Ok(addresses)
    }

    /// Keys and values of a layer for the first `length` places of some slots:
    /// `[slots, K, length, D]` each. No copy if their lines lie one behind the other.
    pub(crate) fn read(
        &self,
        layer: usize,
        slots: &[Slot],
        length: usize,
    ) -> (Tensor<4>, Tensor<4>) {
        let shape = self.shape();
        let lines: Vec<usize> = slots.iter().map(|slot| self.line(*slot)).collect();
        let take =
            |flat: &Tensor<2>| taken(flat.clone().reshape(shape).narrow(2, 0, length), &lines);
        let pair = &self.layers[layer];
        (take(&pair.keys), take(&pair.values))
    }

    /// Places that a step reads of texts up to `length` tokens long: few shapes, and few places more than
    /// there are tokens.
    pub(crate) fn places_read(&self, length: usize) -> usize {
        let step = (length / 16).next_power_of_two().clamp(64, 1024);
        length.next_multiple_of(step).min(self.places)
    }
}

/// Lines that are there for so many texts: few numbers, as each is another shape.
fn rounded(count: usize) -> usize {
    match count {
        0..=8 => count.next_power_of_two(),
        _ => count.next_multiple_of(8),
    }
}

/// Places of a line in which the longest text has so many tokens.
fn line_for(longest: usize) -> usize {
    longest.max(1).next_multiple_of(PLACES)
}

/// Some lines of `[S, K, L, D]`, in their order; no copy if they lie one behind the other.
fn taken(texts: Tensor<4>, lines: &[usize]) -> Tensor<4> {
    if lines.windows(2).all(|pair| pair[0] + 1 == pair[1]) {
        return texts.narrow(0, lines[0], lines.len());
    }
    // The cache has fewer than 2^31 places.
    let numbers: Vec<i32> = lines.iter().map(|line| *line as i32).collect();
    let data = TensorData::new(numbers, [lines.len()]);
    let lines = Tensor::from_data(data, &texts.device());
    texts.select(0, lines)
}

/// Writes rows at some places, each named once, in place: nothing else holds the tensor.
fn put(flat: &mut Tensor<2>, places: &Tensor<1, Int>, rows: Tensor<2>) {
    let [count] = places.dims();
    let places = places.clone().reshape([count, 1]);
    // A thread for each number; CubeCL's `select_assign` has one for each column.
    flat.inplace(|flat| flat.scatter_nd(places, rows, IndexingUpdateOp::Assign));
}

fn flatten(tensor: Tensor<4>) -> Tensor<2> {
    let [slots, heads, places, dim] = tensor.dims();
    tensor.reshape([slots * heads * places, dim])
}
