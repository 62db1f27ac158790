//! Shortlists of rows of logits: what a device lists against the definition.

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::cases::{Case, Forward};
use crate::shortlist::{Logits, Shortlist};

/// Temperatures of the rows: none, such that lists hold a few tokens, some hundreds, and too many.
const TEMPERATURES: [f32; 5] = [0.0, 0.05, 0.6, 1.0, 5.0];

/// Vocabularies: read four at a time, one by one, and shorter than the parts of a row are many.
const VOCABULARIES: [usize; 4] = [4096, 1000, 1003, 96];

/// Ids of a list that are compared one by one.
const IDS: usize = 48;

/// The kernels of CUDA cards against [`Shortlist::of`].
pub(super) fn lists(device: &Device) -> Case {
    let mut case = Case::new("shortlists", device, DType::F32);
    for vocabulary in VOCABULARIES {
        let [found, expected]: [Forward; 2] = [
            Arc::new(|x| told(x, |rows| Logits::from(rows).lists(&TEMPERATURES))),
            Arc::new(move |x| told(x, |rows| by_definition(rows, vocabulary))),
        ];
        let shape = [TEMPERATURES.len(), vocabulary];
        let what = format!("{vocabulary} tokens");
        case = case.pair(&what, &[&shape], found, expected);
    }
    case
}

fn by_definition(rows: Tensor<2>, vocabulary: usize) -> Result<Vec<Option<Shortlist>>, String> {
    let rows = Logits::from(rows).all()?;
    let rows = rows.chunks_exact(vocabulary).zip(TEMPERATURES);
    Ok(rows
        .map(|(row, temperature)| Shortlist::of(row, temperature))
        .collect())
}

/// What lists of six times the input say, as numbers of one size.
fn told(
    x: &[Tensor<2>],
    lists: impl Fn(Tensor<2>) -> Result<Vec<Option<Shortlist>>, String>,
) -> Tensor<2> {
    let [_, vocabulary] = x[0].dims();
    let rows = x[0].clone().inner() * 6.0;
    let device = rows.device();
    let lists = lists(rows).expect("the device answers");
    let mut numbers = Vec::new();
    for list in lists.iter().map(Option::as_ref) {
        let list = list.expect("all logits are finite");
        numbers.extend([
            list.best,
            list.total.ln() as f32,
            list.plain.ln() as f32,
            list.reach / 4.0,
            list.tokens.len() as f32 / 64.0,
        ]);
        let ids = list.tokens.iter().map(|(id, _)| *id as f32 * 8.0);
        let ids = ids
            .map(|id| id / vocabulary as f32)
            .chain([0.0].into_iter().cycle());
        numbers.extend(ids.take(IDS));
    }
    let width = numbers.len() / lists.len();
    let told = Tensor::from_data(TensorData::new(numbers, [lists.len(), width]), &device);
    // Lists have no gradient.
    Tensor::from_inner(told) + x[0].clone().narrow(1, 0, width) * 0.0
}
