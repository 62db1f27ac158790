//! Which weights a training begins with.

use model::decoder::Decoder;
use sha2::{Digest, Sha256};

/// SHA-256 over names, shapes and values of all parameters, in hexadecimal.
pub(crate) fn hash(decoder: &Decoder) -> String {
    let mut hash = Sha256::new();
    let adapters = decoder.adapter_parameters();
    for parameter in decoder.parameters().iter().chain(&adapters) {
        hash.update(format!("{} {:?}\n", parameter.name, parameter.shape()));
        hash.update(parameter.data().as_bytes());
    }
    crate::state::hex(&hash.finalize())
}
