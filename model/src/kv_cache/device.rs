//! Keys and values in tensors of a device: one row of places per slot, as long as the longest text.
//!
//! Legend: S slots, K key-value heads, C places of a slot, D head size.

use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData};

use super::{Sizes, Slot};
use crate::ops::rows;
use crate::step::Recorder;

/// Places by which slots grow, so that shapes, and with them compiled kernels, stay few.
const PLACES: usize = 256;

/// Keys and values of one layer, `[S * K * C, D]` each.
#[derive(Debug)]
struct Pair {
    keys: Tensor<2>,
    values: Tensor<2>,
}

/// Keys and values of many texts.
#[derive(Debug)]
pub(crate) struct DeviceTexts {
    sizes: Sizes,
    pub(crate) device: Device,
    pub(crate) dtype: DType,
    layers: Vec<Pair>,
    /// C.
    places: usize,
    /// Of each slot, None where it is not open. Memory is there for `slots` of them.
    lengths: Vec<Option<usize>>,
    slots: usize,
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
            places: 0,
            lengths: Vec::new(),
            slots: 0,
            recorder: Recorder::default(),
            touched: false,
        }
    }

    pub(super) fn open(&mut self) -> Slot {
        match self.lengths.iter().position(Option::is_none) {
            Some(free) => {
                self.lengths[free] = Some(0);
                Slot(free)
            }
            None => {
                self.lengths.push(Some(0));
                Slot(self.lengths.len() - 1)
            }
        }
    }

    pub(super) fn fork(&mut self, slot: Slot) -> Slot {
        let length = self.len(slot);
        let new = self.open();
        self.reserve(0);
        if length > 0 {
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
        self.lengths[new.0] = Some(length);
        new
    }

    pub(super) fn truncate(&mut self, slot: Slot, keep: usize) {
        self.lengths[slot.0] = Some(keep);
    }

    pub(super) fn close(&mut self, slot: Slot) {
        self.len(slot);
        self.lengths[slot.0] = None;
    }

    pub(crate) fn len(&self, slot: Slot) -> usize {
        let length = self.lengths.get(slot.0).copied().flatten();
        length.expect("the slot is open")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lengths.iter().all(Option::is_none)
    }

    pub(super) fn bytes_per_value(&self) -> usize {
        self.dtype.size()
    }

    pub(super) fn bytes(&self) -> usize {
        let values: usize = self.shape().iter().product();
        2 * self.layers.len() * values * self.bytes_per_value()
    }

    /// Places of a slot.
    pub(crate) fn all_places(&self) -> usize {
        self.places
    }

    /// `[S, K, C, D]`.
    pub(crate) fn shape(&self) -> [usize; 4] {
        [self.slots, self.sizes.kv_heads, self.places, self.sizes.dim]
    }

    /// Makes room for every open slot, and for texts of `length` tokens.
    pub(crate) fn reserve(&mut self, length: usize) {
        let slots = match self.lengths.len() <= self.slots {
            true => self.slots,
            false => self.lengths.len().next_power_of_two(),
        };
        let places = match length <= self.places {
            true => self.places,
            false => length
                .max(self.places + self.places / 2)
                .next_multiple_of(PLACES),
        };
        if (slots, places) == (self.slots, self.places) {
            return;
        }
        self.touched = true;
        let old = self.shape();
        (self.slots, self.places) = (slots, places);
        let shape = self.shape();
        let options = (&self.device, self.dtype);
        let zeros = || Tensor::<4>::zeros(shape, options);
        let grow = |flat: &mut Tensor<2>| {
            let filled = old.map(|size| 0..size);
            flat.inplace(|flat| flatten(zeros().slice_assign(filled, flat.reshape(old))));
        };
        if self.layers.is_empty() || old.contains(&0) {
            self.layers = (0..self.sizes.layers)
                .map(|_| Pair {
                    keys: flatten(zeros()),
                    values: flatten(zeros()),
                })
                .collect();
            return;
        }
        for pair in &mut self.layers {
            grow(&mut pair.keys);
            grow(&mut pair.values);
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
            (0..heads).map(move |head| {
                let place = (slot.0 * heads + head) * self.places + position;
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
    /// `[slots, K, length, D]` each. No copy if they are all slots in order.
    pub(crate) fn read(
        &self,
        layer: usize,
        slots: &[Slot],
        length: usize,
    ) -> (Tensor<4>, Tensor<4>) {
        let shape = self.shape();
        let all = slots.iter().map(|slot| slot.0).eq(0..self.slots);
        let one_run = slots.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0);
        let take = |flat: &Tensor<2>| {
            let texts = flat.clone().reshape(shape).narrow(2, 0, length);
            match (all, one_run) {
                (true, _) => texts,
                (_, true) => texts.narrow(0, slots[0].0, slots.len()),
                _ => {
                    let slots: Vec<i32> = slots.iter().map(|slot| slot.0 as i32).collect();
                    let count = slots.len();
                    let slots = Tensor::from_data(TensorData::new(slots, [count]), &self.device);
                    texts.select(0, slots)
                }
            }
        };
        let pair = &self.layers[layer];
        (take(&pair.keys), take(&pair.values))
    }

    /// Places that a step reads of texts up to `length` tokens long: few shapes, and few places more than
    /// there are tokens.
    pub(crate) fn places_read(&self, length: usize) -> usize {
        let step = (length / 16).next_power_of_two().clamp(64, 1024);
        length.next_multiple_of(step).min(self.places)
    }

    pub(crate) fn set_len(&mut self, slot: Slot, length: usize) {
        self.lengths[slot.0] = Some(length);
    }
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
