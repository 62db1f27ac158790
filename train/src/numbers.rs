//! The f32 numbers that are kept for a parameter between two passes: sums of gradients, moments,
//! masters. They lie in host memory or on the device; the arithmetic on them is the same.

use std::borrow::Cow;

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData, Transaction};
use model::device::DeviceSpec;
use rayon::prelude::*;

use crate::settings::Placement;

/// As many f32 numbers as a parameter has elements.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one per parameter, and it stands for megabytes"
)]
pub(crate) enum Numbers {
    /// In host memory, as f32; empty until there are any.
    Host(TensorData),
    /// On the device; none until there are any.
    Device(Option<Tensor<1>>),
}

/// Elements that are added, or summed for a norm, on their own: the result does not depend on the
/// number of threads.
pub(crate) const STRETCH: usize = 1 << 14;

impl Numbers {
    /// None yet.
    pub(crate) fn none(placement: Placement) -> Self {
        match placement {
            Placement::Host => Self::Host(on_host(Vec::new())),
            Placement::Device => Self::Device(None),
        }
    }

    /// These ones; `device` is the plain device of the model.
    pub(crate) fn of(values: Vec<f32>, placement: Placement, device: &Device) -> Self {
        match placement {
            Placement::Host => Self::Host(on_host(values)),
            Placement::Device => Self::Device(Some(on_device(values, device))),
        }
    }

    /// `count` zeros.
    pub(crate) fn zeros(count: usize, placement: Placement, device: &Device) -> Self {
        match placement {
            Placement::Host => Self::Host(on_host(vec![0.0; count])),
            Placement::Device => Self::Device(Some(Tensor::zeros([count], (device, DType::F32)))),
        }
    }

    /// Whether there are none.
    pub(crate) fn are_none(&self) -> bool {
        match self {
            Self::Host(values) => values.num_elements() == 0,
            Self::Device(values) => values.is_none(),
        }
    }

    /// Whether there is nothing but zeros. Those of a device are looked at where they land, without a copy in the
    /// host's own memory.
    pub(crate) fn are_zero(&self) -> bool {
        let zero = |values: &[f32]| values.par_iter().all(|value| *value == 0.0);
        match self {
            Self::Host(values) => zero(slice(values)),
            Self::Device(None) => true,
            Self::Device(Some(values)) => zero(slice(&values.clone().into_data())),
        }
    }

    /// Those on the device.
    ///
    /// # Panics
    /// If they are in host memory, or there are none: a bug of the caller.
    pub(crate) fn on_device(&self) -> Tensor<1> {
        match self {
            Self::Device(Some(values)) => values.clone(),
            _ => unreachable!("moments on the device go with sums on the device"),
        }
    }

    /// A view in host memory, or a copy there.
    pub(crate) fn to_host(&self) -> Cow<'_, [f32]> {
        match self {
            Self::Host(values) => Cow::Borrowed(slice(values)),
            Self::Device(None) => Cow::Borrowed(&[]),
            Self::Device(Some(values)) => {
                let values = values.clone().into_data().try_into_vec();
                Cow::Owned(values.expect("numbers on the device are f32"))
            }
        }
    }

    /// Adds a gradient of any float format, in f32.
    pub(crate) fn add<const D: usize>(&mut self, gradient: Tensor<D>) {
        match self {
            Self::Host(sum) => add(sum, gradient.into_data()),
            Self::Device(sum) => {
                let count = gradient.shape().num_elements();
                let gradient = gradient.reshape([count]).cast(FloatDType::F32);
                *sum = Some(match sum.take() {
                    Some(sum) => sum + gradient,
                    None => gradient,
                });
            }
        }
    }

    /// The sums of the squares of its stretches, in order. Those of numbers on a device are made there,
    /// in f32 for each stretch, so that only the sums come to the host.
    pub(crate) fn squares(&self) -> Squares {
        match self {
            Self::Device(Some(values)) if !DeviceSpec::is_cpu(&values.device()) => {
                Squares::Device(Box::new(model::ops::squares(values.clone())))
            }
            _ => Squares::Host(self.to_host().par_chunks(STRETCH).map(squares).collect()),
        }
    }
}

/// Sums of squares, perhaps still being made.
pub(crate) enum Squares {
    Host(Vec<f64>),
    Device(Box<Tensor<1>>),
}

impl Squares {
    /// All sums in order, those of each apart. Those on the device are read in one transaction, so that it is
    /// waited for once. They are not joined there: fusion would make one kernel of all of them, with hundreds of
    /// inputs, which takes a minute to compile.
    pub(crate) fn all(squares: Vec<Self>) -> Vec<Vec<f64>> {
        let on_device = squares.iter().filter_map(|squares| match squares {
            Self::Host(_) => None,
            Self::Device(sums) => Some(Tensor::clone(sums)),
        });
        let read = on_device
            .fold(Transaction::default(), Transaction::register)
            .execute();
        let mut read = read.into_iter();
        let mut next = || read.next().expect("one for each that was registered");
        let sums = squares.into_iter().map(|squares| match squares {
            Self::Host(sums) => sums,
            Self::Device(_) => slice(&next()).iter().copied().map(f64::from).collect(),
        });
        sums.collect()
    }
}

/// The sum of the squares of one stretch, in order, in f64.
pub(crate) fn squares(stretch: &[f32]) -> f64 {
    stretch.iter().map(|g| f64::from(*g).powi(2)).sum()
}

impl PartialEq for Numbers {
    fn eq(&self, other: &Self) -> bool {
        self.to_host() == other.to_host()
    }
}

/// Numbers in host memory.
pub(crate) fn on_host(values: Vec<f32>) -> TensorData {
    let count = values.len();
    TensorData::new(values, [count])
}

/// The numbers of a [`Numbers::Host`].
pub(crate) fn slice(values: &TensorData) -> &[f32] {
    values.as_slice().expect("numbers in host memory are f32")
}

/// The same, to be changed where they lie.
pub(crate) fn slice_mut(values: &mut TensorData) -> &mut [f32] {
    values
        .as_mut_slice()
        .expect("numbers in host memory are f32")
}

fn on_device(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), (device, DType::F32))
}

fn add(sum: &mut TensorData, gradient: TensorData) {
    let gradient = gradient.convert::<f32>();
    if sum.num_elements() == 0 {
        // The memory of the gradient itself: nothing is copied.
        *sum = gradient;
        return;
    }
    slice_mut(sum)
        .par_chunks_mut(STRETCH)
        .zip(slice(&gradient).par_chunks(STRETCH))
        .for_each(|(sum, gradient)| {
            for (sum, gradient) in sum.iter_mut().zip(gradient) {
                *sum += gradient;
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_summed_on_a_device_are_those_of_the_host() {
        for count in [1, 1023, 1024, 5000] {
            let values: Vec<f32> = (1..=count).map(|i| (i as f32 * 0.37).sin()).collect();
            let exact = squares(&values);
            let tensor = on_device(values, &Device::flex());
            let found: f64 =
                Squares::all(vec![Squares::Device(Box::new(model::ops::squares(tensor)))])
                    .iter()
                    .flatten()
                    .sum();
            assert!(
                (found / exact - 1.0).abs() < 1e-6,
                "{count}: {found} {exact}"
            );
        }
    }
}
