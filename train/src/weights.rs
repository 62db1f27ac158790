//! The weights of a decoder under training: updated in place, read for saving, restored.

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use model::decoder::Decoder;
use sha2::{Digest, Sha256};

use crate::gradients::Layout;

/// Lets `update` change the values of each parameter; it is told the parameter's place in the
/// layout.
///
/// On the CPU the values are changed where they lie; on other devices they come to the host and go
/// back.
pub(crate) fn update(
    decoder: Decoder,
    layout: &Layout,
    update: impl FnMut(usize, &mut [f32]),
) -> Decoder {
    let mut places: Vec<(ParamId, usize)> = layout
        .parameters
        .iter()
        .enumerate()
        .map(|(place, entry)| (entry.id, place))
        .collect();
    places.sort_unstable_by_key(|(id, _)| *id);
    decoder.map(&mut Update { places, update })
}

/// SHA-256 over names, shapes and values of all parameters, in hexadecimal.
pub(crate) fn hash(decoder: &Decoder) -> String {
    let mut hash = Sha256::new();
    for parameter in decoder.parameters() {
        hash.update(format!("{} {:?}\n", parameter.name, parameter.shape()));
        hash.update(parameter.data().as_bytes());
    }
    crate::state::hex(&hash.finalize())
}

struct Update<F> {
    places: Vec<(ParamId, usize)>,
    update: F,
}

impl<F: FnMut(usize, &mut [f32])> ModuleMapper for Update<F> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let place = self.places.binary_search_by_key(&id, |(id, _)| *id);
        let place = self.places[place.expect("every parameter is in the layout")].1;
        let needs_gradient = tensor.is_require_grad();
        let device = tensor.device();
        // Without a second owner this takes the buffer itself, not a copy.
        let mut data: TensorData = tensor.inner().into_data();
        (self.update)(
            place,
            data.as_mut_slice().expect("weights under training are f32"),
        );
        let tensor = Tensor::from_data(data, &device).set_require_grad(needs_gradient);
        Param::from_mapped_value(id, tensor, mapper)
    }
}
