//! Which weights a training begins with.

use burn::tensor::TensorData;
use model::decoder::Decoder;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

/// Tensors that are in host memory at a time. One processor hashes about as fast as a disk reads, so that one by one
/// 14B would take most of a minute.
const AT_A_TIME: usize = 8;

/// SHA-256 over names, shapes and SHA-256 of the values of all parameters, in hexadecimal.
pub(crate) fn hash(decoder: &Decoder) -> String {
    let mut hash = Sha256::new();
    let mut parameters = decoder.parameters();
    parameters.extend(decoder.adapter_parameters());
    for group in parameters.chunks(AT_A_TIME) {
        let values: Vec<TensorData> = group.iter().map(|parameter| parameter.data()).collect();
        let hashes: Vec<_> = values
            .par_iter()
            .map(|values| Sha256::digest(values.as_bytes()))
            .collect();
        for (parameter, values) in group.iter().zip(hashes) {
            hash.update(format!("{} {:?}\n", parameter.name, parameter.shape()));
            hash.update(values);
        }
    }
    crate::state::hex(&hash.finalize())
}
