//! What the optimizer keeps for each parameter, and one update of all of them.
//!
//! Weights in bf16 are rounded from f32 masters, which take the updates: at a rate of 1e-5 most
//! updates are smaller than half of the distance between two bf16 numbers, and would be lost.

use std::borrow::Cow;
use std::ops::Range;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use half::bf16;
use model::decoder::Decoder;
use model::device::{DeviceSpec, Dtype};
use model::parameters::ParameterValues;
use rayon::prelude::*;

use crate::adamw::{AdamW, Gradients};
use crate::eight::{self, Eight, Meaning};
use crate::fetched::{Fetched, PIECE, pieces};
use crate::gradients::Layout;
use crate::numbers::{Numbers, STRETCH, slice, slice_mut};
use crate::settings::{DecayOn, Placement, Precision, TrainSettings};

/// The optimizer's memory.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Optimizer {
    placement: Placement,
    /// Whether the weights are rounded to bf16.
    rounds: bool,
    /// The weights in f32, if those of the model are rounded from them, or lie on a device while
    /// they are updated in host memory: they need never come from there.
    pub(crate) masters: Option<Vec<Numbers>>,
    /// Running means of the gradients.
    first: Vec<Moment>,
    /// Running means of the squared gradients.
    second: Vec<Moment>,
}

/// A running mean for each element of a parameter.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are two per parameter, and they stand for megabytes"
)]
pub(crate) enum Moment {
    /// In f32.
    Exact(Numbers),
    /// In 8 bits, in host memory.
    Eight(Eight),
}

/// A moment as a state holds it.
pub(crate) enum Kept {
    /// In f32.
    Exact(Vec<f32>),
    /// In 8 bits.
    Eight(Eight),
}

impl Optimizer {
    /// Nothing learned yet; masters are the weights as they are.
    pub(crate) fn new(
        decoder: &Decoder,
        layout: &Layout,
        settings: &TrainSettings,
        dtype: Dtype,
    ) -> Self {
        let placement = settings.optimizer;
        let device = decoder.device().inner();
        let zeros = |meaning| {
            let zeros = |count| match settings.moments {
                Precision::EightBit if eight::is_coded(count) => {
                    Moment::Eight(Eight::zeros(count, meaning))
                }
                _ => Moment::Exact(Numbers::zeros(count, placement, &device)),
            };
            layout.elements().map(zeros).collect()
        };
        // Adapters are in f32 whatever the weights beside them are in.
        let rounds = dtype == Dtype::Bf16 && settings.lora.is_none();
        let apart = placement == Placement::Host && !DeviceSpec::is_cpu(&device);
        let masters = (rounds || apart).then(|| {
            let values = |parameter: model::parameters::Parameter| match placement {
                // Made where they stay.
                Placement::Device => Numbers::Device(Some(match parameter.values {
                    ParameterValues::Vector(tensor) => wide(tensor),
                    ParameterValues::Matrix(tensor) => wide(tensor),
                })),
                Placement::Host => Numbers::of(widened(parameter.data()), placement, &device),
            };
            decoder
                .trained_parameters()
                .into_iter()
                .map(values)
                .collect()
        });
        Self {
            placement,
            rounds,
            masters,
            first: zeros(Meaning::Signed),
            second: zeros(Meaning::Square),
        }
    }

    /// A moment of the parameter at `place`.
    pub(crate) fn moment(&self, meaning: Meaning, place: usize) -> &Moment {
        match meaning {
            Meaning::Signed => &self.first[place],
            Meaning::Square => &self.second[place],
        }
    }

    /// Forgets all it holds, before another one takes its place: both at once can be more than there is
    /// memory for.
    pub(crate) fn forget(&mut self) {
        self.masters = None;
        self.first = Vec::new();
        self.second = Vec::new();
    }

    /// Puts what `read` gives for each place of the layout in place of the weights and their masters;
    /// returns the decoder with them. A master is released before the values that replace it are read.
    ///
    /// # Errors
    /// The first of `read`. Weights before it are replaced by then.
    pub(crate) fn replace_weights<E>(
        &mut self,
        decoder: Decoder,
        layout: &Layout,
        mut read: impl FnMut(usize) -> Result<Vec<f32>, E>,
    ) -> Result<Decoder, E> {
        let device = decoder.device().inner();
        let Self {
            placement,
            rounds,
            masters,
            ..
        } = self;
        let mut failed = None;
        let decoder = map(decoder, layout, |place, old| {
            if failed.is_some() {
                return old;
            }
            let mut master = masters.as_mut().map(|masters| &mut masters[place]);
            if let Some(master) = &mut master {
                **master = Numbers::none(*placement);
            }
            match read(place) {
                Ok(values) => {
                    let new = replaced(old, &values, *rounds);
                    if let Some(master) = master {
                        *master = Numbers::of(values, *placement, &device);
                    }
                    new
                }
                Err(error) => {
                    failed = Some(error);
                    old
                }
            }
        });
        match failed {
            None => Ok(decoder),
            Some(error) => Err(error),
        }
    }

    /// Puts what `read` gives in place of a moment of the parameter at `place`, which is released before.
    /// `device` is the plain device of the model.
    ///
    /// # Errors
    /// That of `read`; the moment is lost then.
    pub(crate) fn replace_moment<E>(
        &mut self,
        meaning: Meaning,
        place: usize,
        device: &Device,
        read: impl FnOnce() -> Result<Kept, E>,
    ) -> Result<(), E> {
        let placement = self.placement;
        let moment = match meaning {
            Meaning::Signed => &mut self.first[place],
            Meaning::Square => &mut self.second[place],
        };
        *moment = Moment::Exact(Numbers::none(placement));
        *moment = match read()? {
            Kept::Exact(values) => Moment::Exact(Numbers::of(values, placement, device)),
            Kept::Eight(eight) => Moment::Eight(eight),
        };
        Ok(())
    }

    /// One update of every parameter that has a gradient.
    ///
    /// On a device whose optimizer is in host memory, new weights go there and sums of gradients come from
    /// there, if that is where they were made, while others are used here; weights never come.
    pub(crate) fn update(
        &mut self,
        decoder: Decoder,
        layout: &Layout,
        gradients: &[Numbers],
        adamw: &AdamW,
        decay_on: DecayOn,
    ) -> Decoder {
        let Self {
            placement,
            rounds,
            masters,
            first,
            second,
        } = self;
        let on_card = !DeviceSpec::is_cpu(&decoder.device());
        let piece = if on_card { PIECE } else { usize::MAX };
        let mut fetched = (*placement == Placement::Host)
            .then(|| Fetched::start(gradients, &places_in_order(&decoder, layout), piece));
        map(decoder, layout, |place, weights| {
            let decays = match decay_on {
                DecayOn::Matrices => layout.parameters[place].shape.len() > 1,
                DecayOn::All => true,
            };
            let master = masters.as_mut().map(|masters| &mut masters[place]);
            let gradient = &gradients[place];
            if gradient.are_none() {
                return weights;
            }
            match [&mut first[place], &mut second[place]] {
                [
                    Moment::Exact(Numbers::Device(first)),
                    Moment::Exact(Numbers::Device(second)),
                ] => {
                    let gradient = gradient.on_device();
                    let dtype = FloatDType::from(weights.dtype());
                    match master {
                        Some(Numbers::Device(master)) => {
                            let old = master.take().expect("a master has values");
                            let moments = [first, second];
                            let [new, rounded] =
                                adamw.update_tensors(old, gradient, moments, decays, Some(weights));
                            *master = Some(new);
                            rounded.cast(dtype)
                        }
                        _ => {
                            let moments = [first, second];
                            let [new, _] =
                                adamw.update_tensors(weights, gradient, moments, decays, None);
                            new.cast(dtype)
                        }
                    }
                }
                moments => {
                    let [count] = weights.dims();
                    let mut fetched = match gradient {
                        Numbers::Device(_) => fetched.as_mut(),
                        Numbers::Host(_) => None,
                    };
                    let mut update = Update {
                        adamw,
                        moments,
                        decays,
                    };
                    match (master, &mut fetched) {
                        (Some(Numbers::Host(master)), Some(fetched)) if on_card => {
                            let master = slice_mut(master);
                            pieces(count, piece).fold(weights, |weights, range| {
                                let mut sum = fetched.next(place, &range);
                                let master = &mut master[range.clone()];
                                update.of(master, slice_mut(&mut sum), range.clone());
                                placed(weights, range, sum, *rounds)
                            })
                        }
                        (master, fetched) => {
                            let fetched =
                                fetched.as_mut().map(|from| from.next(place, &(0..count)));
                            let gradient = match &fetched {
                                Some(sum) => Cow::Borrowed(slice(sum)),
                                None => gradient.to_host(),
                            };
                            match master {
                                Some(Numbers::Host(master)) => {
                                    let master = slice_mut(master);
                                    update.of(master, &gradient[..], 0..count);
                                    replaced(weights, master, *rounds)
                                }
                                _ => write(weights, |weights| {
                                    update.of(weights, &gradient[..], 0..count);
                                }),
                            }
                        }
                    }
                }
            }
        })
    }
}

/// An update of one parameter in host memory.
struct Update<'a> {
    adamw: &'a AdamW,
    moments: [&'a mut Moment; 2],
    decays: bool,
}

impl Update<'_> {
    /// Of a range of its elements, which `weights` and `gradient` are those of.
    fn of(&mut self, weights: &mut [f32], gradient: impl Gradients, range: Range<usize>) {
        match &mut self.moments {
            [
                Moment::Exact(Numbers::Host(first)),
                Moment::Exact(Numbers::Host(second)),
            ] => {
                let first = &mut slice_mut(first)[range.clone()];
                let moments = (first, &mut slice_mut(second)[range]);
                self.adamw.update(weights, gradient, moments, self.decays);
            }
            [Moment::Eight(first), Moment::Eight(second)] => {
                let moments = [first.part(range.clone()), second.part(range)];
                self.adamw
                    .update_coded(weights, gradient, moments, self.decays);
            }
            _ => unreachable!("both moments of a parameter are in one format and place"),
        }
    }
}

/// Values in f32, in host memory.
fn widened(data: TensorData) -> Vec<f32> {
    if let Ok(values) = data.as_slice::<bf16>() {
        return values.par_iter().map(|value| value.to_f32()).collect();
    }
    let values = data.try_into_vec_as::<f32>();
    values.expect("float data converts to f32")
}

/// The values of a parameter in f32, flat and without a graph.
fn wide<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let count = tensor.shape().num_elements();
    tensor.inner().reshape([count]).cast(FloatDType::F32)
}

/// The decoder with its weights rounded to bf16.
pub(crate) fn rounded(decoder: Decoder) -> Decoder {
    let layout = Layout::of(&decoder);
    map(decoder, &layout, |_, weights| {
        write(weights, |weights| {
            let exact = weights.to_vec();
            round(&exact, weights);
        })
    })
}

/// Rounds to bf16, which is held as f32 where the device has no bf16 arithmetic.
fn round(from: &[f32], to: &mut [f32]) {
    let parts = to.par_chunks_mut(STRETCH).zip(from.par_chunks(STRETCH));
    parts.for_each(|(to, from)| {
        for (to, from) in to.iter_mut().zip(from) {
            *to = bf16::from_f32(*from).to_f32();
        }
    });
}

/// `values` in place of the weights, rounded to bf16 or not. What the weights were is not read.
fn replaced(weights: Tensor<1>, values: &[f32], rounds: bool) -> Tensor<1> {
    let (dtype, device) = (weights.dtype(), weights.device());
    if DeviceSpec::is_cpu(&device) {
        return write(weights, |weights| match rounds {
            true => round(values, weights),
            false => weights.copy_from_slice(values),
        });
    }
    Tensor::from_data(packed(values, dtype, rounds), (&device, dtype))
}

/// `values` in place of a range of the weights, on a card. They lie in memory that came from there, from which it copies
/// several times as fast as from elsewhere, so they go there in f32 and are rounded there; and they go where the weights
/// were, if nothing else holds these: weights that moved would leave their old memory unused.
fn placed(
    weights: Tensor<1>,
    range: Range<usize>,
    mut values: TensorData,
    rounds: bool,
) -> Tensor<1> {
    let (dtype, device) = (weights.dtype(), weights.device());
    if rounds && dtype != DType::BF16 {
        slice_mut(&mut values)
            .par_iter_mut()
            .for_each(|value| *value = bf16::from_f32(*value).to_f32());
    }
    let values = Tensor::<1>::from_data(values, (&device, DType::F32));
    weights.slice_assign([range], values.cast(FloatDType::from(dtype)))
}

/// `values` as they go to a device whose weights are in this format: bf16 takes half of the bytes
/// on the bus.
fn packed(values: &[f32], dtype: DType, rounds: bool) -> TensorData {
    if dtype == DType::BF16 {
        let rounded: Vec<bf16> = values.par_iter().map(|v| bf16::from_f32(*v)).collect();
        return TensorData::new(rounded, [values.len()]);
    }
    let mut exact = values.to_vec();
    if rounds {
        round(values, &mut exact);
    }
    TensorData::new(exact, [values.len()])
}

/// Lets `change` write the values in f32, in host memory. On the CPU they are changed where they
/// lie; on other devices they come to the host and go back.
fn write(weights: Tensor<1>, change: impl FnOnce(&mut [f32])) -> Tensor<1> {
    let (dtype, device) = (weights.dtype(), weights.device());
    // Without a second owner this takes the buffer itself, not a copy.
    let mut data: TensorData = weights.into_data().convert::<f32>();
    change(data.as_mut_slice().expect("it was converted to f32"));
    Tensor::from_data(data, (&device, dtype))
}

/// Lets `change` make new values of each trained parameter, flat and without a graph; it is told the
/// parameter's place in the layout. Frozen parameters stay.
fn map(
    decoder: Decoder,
    layout: &Layout,
    change: impl FnMut(usize, Tensor<1>) -> Tensor<1>,
) -> Decoder {
    let mut places: Vec<(ParamId, usize)> = layout
        .parameters
        .iter()
        .enumerate()
        .map(|(place, entry)| (entry.id, place))
        .collect();
    places.sort_unstable_by_key(|(id, _)| *id);
    decoder.map(&mut Change { places, change })
}

/// The places of trained parameters in the order in which [`map`] comes to them.
fn places_in_order(decoder: &Decoder, layout: &Layout) -> Vec<usize> {
    struct Ids(Vec<ParamId>);
    impl ModuleVisitor for Ids {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.id);
        }
    }
    let mut ids = Ids(Vec::new());
    decoder.visit(&mut ids);
    let place = |id: &ParamId| layout.parameters.iter().position(|entry| entry.id == *id);
    ids.0.iter().filter_map(place).collect()
}

struct Change<F> {
    places: Vec<(ParamId, usize)>,
    change: F,
}

impl<F: FnMut(usize, Tensor<1>) -> Tensor<1>> ModuleMapper for Change<F> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let found = self
            .places
            .binary_search_by_key(&param.id, |(id, _)| *id)
            .ok();
        let Some(found) = found else {
            return param;
        };
        let (id, tensor, mapper) = param.consume();
        let shape = tensor.shape();
        let device: Device = tensor.device();
        let needs_gradient = tensor.is_require_grad();
        let flat = tensor.inner().reshape([shape.num_elements()]);
        let new = (self.change)(self.places[found].1, flat);
        let new = new.reshape::<D, _>(shape);
        let new = match device.is_autodiff() {
            true => Tensor::from_inner(new),
            false => new,
        };
        Param::from_mapped_value(id, new.set_require_grad(needs_gradient), mapper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_to_a_device_is_rounded_once() {
        let values = [1.0, -0.0, 1.0 + 0.003, 1e-30, -3.4e38, f32::NAN];
        let rounded = values.map(|value| bf16::from_f32(value).to_f32().to_bits());
        for (dtype, rounds, expected) in [
            (DType::BF16, true, rounded),
            (DType::F32, true, rounded),
            (DType::F32, false, values.map(f32::to_bits)),
        ] {
            let data = packed(&values, dtype, rounds);
            assert_eq!(data.dtype(), dtype);
            let data = data.convert::<f32>();
            let data: &[f32] = data.as_slice().expect("f32");
            let bits: Vec<u32> = data.iter().map(|value| value.to_bits()).collect();
            assert_eq!(bits, expected, "{dtype:?} {rounds}");
        }
    }
}
