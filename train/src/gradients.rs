//! Loss and gradient of one optimizer step, summed over its micro-batches in f32.
//!
//! The sums live on the host, where the optimizer works. A micro-batch's graph is gone before the
//! next one is computed.

use burn::module::ParamId;
use burn::tensor::TensorData;
use model::decoder::Decoder;
use model::ops;
use model::parameters::ParameterValues;
use rayon::prelude::*;

use crate::batch::MicroBatch;

/// The parameters of a decoder: what the trainer keeps for each of them is in this order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    pub(crate) parameters: Vec<Entry>,
}

/// One parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) id: ParamId,
}

impl Entry {
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Layout {
    pub(crate) fn of(decoder: &Decoder) -> Self {
        let entry = |parameter: model::parameters::Parameter| Entry {
            shape: parameter.shape(),
            name: parameter.name,
            id: parameter.id,
        };
        Self {
            parameters: decoder.parameters().into_iter().map(entry).collect(),
        }
    }

    /// The number of elements of each parameter, in order.
    pub(crate) fn elements(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        self.parameters.iter().map(Entry::elements)
    }
}

/// What the micro-batches of a step have added up to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sums {
    /// The loss: the weighted mean over the trained tokens, once all micro-batches are in.
    pub(crate) loss: f64,
    /// The gradient of each parameter, in the order of the layout; empty until there is one.
    pub(crate) gradients: Vec<Vec<f32>>,
}

impl Sums {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            loss: 0.0,
            gradients: vec![Vec::new(); layout.parameters.len()],
        }
    }

    /// Adds loss and gradients of one micro-batch.
    pub(crate) fn add(&mut self, decoder: &Decoder, batch: &MicroBatch) {
        let head = decoder.head_weight();
        let chunk = logit_rows(head.dims()[0]);
        let hidden = decoder.hidden(&batch.packed); // [T, d]
        let loss = ops::cross_entropy(hidden, head, &batch.targets, &batch.weights, chunk);
        let mut gradients = loss.backward();
        self.loss += f64::from(loss.into_scalar::<f32>());
        for (sum, parameter) in self.gradients.iter_mut().zip(decoder.parameters()) {
            let gradient = match &parameter.values {
                ParameterValues::Vector(tensor) => tensor
                    .grad_remove(&mut gradients)
                    .map(|gradient| gradient.into_data()),
                ParameterValues::Matrix(tensor) => tensor
                    .grad_remove(&mut gradients)
                    .map(|gradient| gradient.into_data()),
            };
            if let Some(gradient) = gradient {
                add(sum, gradient);
            }
        }
    }

    /// The norm of all gradients together, accumulated in f64.
    ///
    /// Stretches of fixed length are summed on their own and added in order, so that the result
    /// does not depend on the number of threads.
    pub(crate) fn norm(&self) -> f64 {
        let squares = |part: &[f32]| part.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
        let parts: Vec<&[f32]> = self
            .gradients
            .iter()
            .flat_map(|g| g.chunks(STRETCH))
            .collect();
        let sums: Vec<f64> = parts.into_par_iter().map(squares).collect();
        sums.into_iter().sum::<f64>().sqrt()
    }
}

/// Elements of the norm that are summed on their own.
const STRETCH: usize = 1 << 14;

/// How many rows of logits are held at once: 64 MiB of them, but enough rows for a product.
fn logit_rows(vocabulary: usize) -> usize {
    ((16 << 20) / vocabulary).clamp(64, 4096)
}

fn add(sum: &mut Vec<f32>, gradient: TensorData) {
    if sum.is_empty() {
        *sum = gradient
            .try_into_vec()
            .expect("gradients of f32 weights are f32");
        return;
    }
    let gradient = gradient
        .as_slice::<f32>()
        .expect("gradients of f32 weights are f32");
    sum.par_chunks_mut(STRETCH)
        .zip(gradient.par_chunks(STRETCH))
        .for_each(|(sum, gradient)| {
            for (sum, gradient) in sum.iter_mut().zip(gradient) {
                *sum += gradient;
            }
        });
}
