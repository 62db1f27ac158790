//! From the samples of a step to micro-batches: whole documents laid end to end.

use model::Packed;
use protocol::Sample;

use crate::samples::{Weight, weighted};
use crate::train_on::TrainOn;

/// Documents that are computed at once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MicroBatch {
    /// The documents.
    pub(crate) packed: Packed,
    /// What each position predicts: the next token of its document. `[T]`
    pub(crate) targets: Vec<u32>,
    /// Share of each position in the loss of the step; 0 at a document's last position. `[T]`
    pub(crate) weights: Vec<f32>,
    /// Index of the sample that each document is.
    pub(crate) samples: Vec<usize>,
}

/// Splits the samples `indices` into groups of at most `limit` tokens.
///
/// First fit, longest first, ties in the order given: a pure function of its arguments.
/// A sample longer than `limit` gets a group of its own.
pub(crate) fn pack(indices: &[usize], weights: &[Weight], limit: usize) -> Vec<Vec<usize>> {
    let mut order = indices.to_vec();
    order.sort_by_key(|index| std::cmp::Reverse(weights[*index].tokens));
    let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
    for index in order {
        let tokens = weights[index].tokens;
        match groups.iter_mut().find(|group| group.0 + tokens <= limit) {
            Some(group) => {
                group.0 += tokens;
                group.1.push(index);
            }
            None => groups.push((tokens, vec![index])),
        }
    }
    groups.into_iter().map(|group| group.1).collect()
}

impl MicroBatch {
    /// Lays the samples `indices` end to end; each weight is divided by `total`, the weight of the
    /// whole step, so that the losses and gradients of micro-batches simply add up.
    pub(crate) fn new(
        samples: &[Sample],
        indices: &[usize],
        train_on: &TrainOn,
        total: f64,
    ) -> Self {
        let mut batch = Self {
            packed: Packed::default(),
            targets: Vec::new(),
            weights: Vec::new(),
            samples: indices.to_vec(),
        };
        for index in indices {
            batch.push(&samples[*index], train_on, total);
        }
        batch
    }

    fn push(&mut self, sample: &Sample, train_on: &TrainOn, total: f64) {
        let (mut ids, mut weights) = (Vec::new(), Vec::new());
        for (id, weight, _) in weighted(sample, train_on) {
            ids.push(id);
            weights.push((weight / total) as f32);
        }
        // Position t predicts token t + 1; the last position has nothing to predict, and its
        // target, which has weight 0, is any valid id.
        self.targets.extend_from_slice(&ids[1..]);
        self.targets.push(ids[0]);
        self.weights.extend_from_slice(&weights[1..]);
        self.weights.push(0.0);
        self.packed.push(&ids);
    }
}
