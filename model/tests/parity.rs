//! The decoder computes what transformers computes: logits, losses, gradients, greedy texts.

#![expect(clippy::unwrap_used, reason = "a test fails on what cannot be had")]

mod fixtures;

use fixtures::{Golden, for_each_golden};
use model::decoder::Decoder;
use model::device::Device;
use model::kv_cache::KvCache;
use model::ops;
use model::packed::Packed;
use model::parameters::ParameterValues;
use model::step::Row;

/// The rows of a golden batch without their padding, as one packed batch.
struct Batch {
    packed: Packed,
    /// Where each token of the packed batch lies in the padded one.
    places: Vec<usize>,
    /// For each token, the next one and its weight in the loss.
    targets: Vec<u32>,
    weights: Vec<f32>,
}

impl Batch {
    fn new(golden: &Golden) -> Self {
        let ids = golden.integers("input_ids");
        let mask = golden.integers("attention_mask");
        let counted = golden.integers("loss_mask");
        let width = golden.expected["input_ids"].0[1];
        let mut batch = Self {
            packed: Packed::default(),
            places: Vec::new(),
            targets: Vec::new(),
            weights: Vec::new(),
        };
        for row in 0..ids.len() / width {
            let here = row * width..(row + 1) * width;
            let length: usize = mask[here.clone()].iter().sum();
            let document: Vec<u32> = ids[here].iter().map(|id| *id as u32).collect();
            batch.packed.push(&document[..length]);
            for t in 0..length {
                let place = row * width + t;
                batch.places.push(place);
                let last = t + 1 == length;
                batch
                    .targets
                    .push(if last { 0 } else { ids[place + 1] as u32 });
                batch
                    .weights
                    .push(if last { 0.0 } else { counted[place + 1] as f32 });
            }
        }
        let total: f32 = batch.weights.iter().sum();
        batch.weights.iter_mut().for_each(|weight| *weight /= total);
        batch
    }

    fn loss(&self, decoder: &Decoder) -> burn::tensor::Tensor<1> {
        let hidden = decoder.hidden(&self.packed);
        ops::cross_entropy(
            hidden,
            decoder.head_weight(),
            &self.targets,
            &self.weights,
            5,
        )
    }
}

#[track_caller]
fn check_near(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs();
        assert!(
            off <= tolerance,
            "{what}[{index}]: {found}, expected {expected}"
        );
    }
}

/// Tolerance of gradients: rounding is relative to the largest value of the array.
fn relative(expected: &[f32]) -> f32 {
    2e-5 * expected
        .iter()
        .fold(1e-2_f32, |most, value| most.max(value.abs()))
}

fn floats<const D: usize>(tensor: burn::tensor::Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

#[test]
fn logits_are_those_of_transformers() {
    for_each_golden(|golden| {
        let decoder = golden.decoder(&Device::flex());
        let batch = Batch::new(golden);
        let logits = floats(decoder.logits(decoder.hidden(&batch.packed)));
        let vocabulary = golden.config.vocab_size;
        let expected = &golden.expected["logits"].1;
        for (found, place) in logits.chunks_exact(vocabulary).zip(&batch.places) {
            let expected = &expected[place * vocabulary..(place + 1) * vocabulary];
            check_near(
                &format!("{} logits at {place}", golden.name),
                found,
                expected,
                5e-5,
            );
        }
    });
}

#[test]
fn log_probabilities_are_those_of_transformers() {
    for_each_golden(|golden| {
        let decoder = golden.decoder(&Device::flex());
        let batch = Batch::new(golden);
        let hidden = decoder.hidden(&batch.packed);
        let (width, expected) = (
            golden.expected["logprobs"].0[1],
            &golden.expected["logprobs"].1,
        );
        let count = batch.targets.len();
        for t in 0..count {
            let (row, column) = (batch.places[t] / (width + 1), batch.places[t] % (width + 1));
            if column == width || batch.places.get(t + 1) != Some(&(batch.places[t] + 1)) {
                continue; // the last token of a document has no next one
            }
            let mut weights = vec![0.0; count];
            weights[t] = 1.0;
            let head = decoder.head_weight();
            let loss = ops::cross_entropy(hidden.clone(), head, &batch.targets, &weights, 64);
            let expected = expected[row * width + column];
            check_near(&golden.name, &floats(-loss), &[expected], 5e-5);
        }
    });
}

#[test]
fn loss_and_gradients_are_those_of_transformers() {
    for_each_golden(|golden| {
        let decoder = golden.decoder(&Device::flex().autodiff());
        let loss = Batch::new(golden).loss(&decoder);
        let mut gradients = loss.backward();
        let expected_loss = golden.scalars["sft_loss"].as_f64().unwrap() as f32;
        check_near(
            &format!("{} loss", golden.name),
            &floats(loss),
            &[expected_loss],
            2e-5,
        );

        let mut total = 0.0_f64;
        let mut count = 0;
        for parameter in decoder.parameters() {
            let name = format!("{} {}", golden.name, parameter.name);
            let found = match &parameter.values {
                ParameterValues::Vector(x) => floats(x.grad_remove(&mut gradients).unwrap()),
                ParameterValues::Matrix(x) => floats(x.grad_remove(&mut gradients).unwrap()),
            };
            count += found.len();
            let norm = found.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            total += norm;
            let expected = golden.scalars["grad_norms"][&parameter.name]
                .as_f64()
                .unwrap();
            let off = (norm.sqrt() - expected).abs();
            assert!(
                off < 1e-4 * expected.max(1e-2),
                "{name}: norm {}, not {expected}",
                norm.sqrt()
            );
            if let Some((_, expected)) = golden.expected.get(&format!("grad.{}", parameter.name)) {
                check_near(&name, &found, expected, relative(expected));
            }
            if parameter.name == "model.embed_tokens.weight" {
                let (shape, expected) = &golden.expected["grad_rows.embed"];
                let ids = golden.scalars["grad_rows_ids"].as_array().unwrap();
                for (id, expected) in ids.iter().zip(expected.chunks_exact(shape[1])) {
                    let at = id.as_u64().unwrap() as usize * shape[1];
                    check_near(
                        &name,
                        &found[at..at + shape[1]],
                        expected,
                        relative(expected),
                    );
                }
            }
        }
        let expected = golden.scalars["grad_global_norm"].as_f64().unwrap();
        assert!(
            (total.sqrt() / expected - 1.0).abs() < 2e-5,
            "{}: global norm",
            golden.name
        );
        assert_eq!(
            count as u64,
            golden.scalars["parameter_count"].as_u64().unwrap()
        );
        assert_eq!(count as u64, golden.config.parameter_count());
    });
}

/// Greedy continuations of all prompts of a golden model, decoded side by side.
fn greedy(decoder: &Decoder, prompts: &[Vec<u32>], tokens: usize) -> Vec<Vec<u32>> {
    let mut cache = KvCache::new(decoder.config());
    let slots: Vec<_> = prompts.iter().map(|_| cache.open()).collect();
    let mut texts: Vec<Vec<u32>> = prompts.to_vec();
    for _ in 0..tokens {
        let rows: Vec<Row<'_>> = texts
            .iter()
            .zip(&slots)
            .map(|(text, slot)| Row {
                slot: *slot,
                ids: &text[cache.len(*slot)..],
            })
            .collect();
        let next = floats(decoder.step(&rows, &mut cache).argmax(1).float());
        texts
            .iter_mut()
            .zip(next)
            .for_each(|(text, id)| text.push(id as u32));
    }
    texts
        .iter()
        .zip(prompts)
        .map(|(text, prompt)| text[prompt.len()..].to_vec())
        .collect()
}

#[test]
fn greedy_texts_are_those_of_transformers() {
    for_each_golden(|golden| {
        let ids = |value: &serde_json::Value| -> Vec<u32> {
            value
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_u64().unwrap() as u32)
                .collect()
        };
        let cases = golden.scalars["greedy"].as_array().unwrap();
        let prompts: Vec<Vec<u32>> = cases.iter().map(|case| ids(&case["prompt"])).collect();
        let expected: Vec<Vec<u32>> = cases
            .iter()
            .map(|case| ids(&case["continuation"]))
            .collect();
        for device in [Device::flex(), Device::flex().autodiff()] {
            let found = greedy(&golden.decoder(&device), &prompts, expected[0].len());
            assert_eq!(found, expected, "{}", golden.name);
        }
    });
}
