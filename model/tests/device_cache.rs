//! Writing text over a cache in tensors of a device agrees with reading it whole. Run on the CPU's
//! tensors, where the exact result is known.

#![expect(clippy::unwrap_used, reason = "a test fails on what cannot be had")]

use burn::tensor::{DType, Tensor};
use model::config::{Architecture, ModelConfig};
use model::decoder::Decoder;
use model::device::{Device, Dtype};
use model::kv_cache::{KvCache, Slot};
use model::packed::Packed;
use model::step::Row;
use proptest::prelude::*;

const VOCABULARY: usize = 61;

fn config(architecture: Architecture) -> ModelConfig {
    ModelConfig {
        architecture,
        vocab_size: VOCABULARY,
        hidden_size: 40,
        intermediate_size: 56,
        num_hidden_layers: 2,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 12,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        rope_scaling: None,
        max_position_embeddings: 2048,
        tie_word_embeddings: architecture == Architecture::Qwen3,
        attention_bias: architecture == Architecture::Qwen2,
        qk_norm: architecture == Architecture::Qwen3,
        bos_token_id: None,
        eos_token_id: vec![2],
        initializer_range: 0.25,
    }
}

fn floats(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().unwrap()
}

fn whole(decoder: &Decoder, ids: &[u32]) -> Vec<f32> {
    floats(decoder.logits(decoder.hidden(&Packed::new([ids]))))
}

fn text(length: usize, seed: usize) -> Vec<u32> {
    (0..length)
        .map(|i| ((i * i * 7 + i * 3 + seed * 11) % VOCABULARY) as u32)
        .collect()
}

/// The largest difference, as a share of the largest value.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs())) / scale
}

/// The length of the difference, as a share of the length of what is expected.
fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>();
    let off = squares(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    (off / squares(&mut expected.iter().copied())).sqrt()
}

#[derive(Clone, Debug)]
enum Action {
    /// One step in which each text with a number above 0 appends so many tokens.
    Step([usize; 5]),
    Fork(usize),
    Truncate(usize, usize),
    Close(usize),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let count = prop_oneof![2 => Just(0usize), 3 => Just(1usize), 2 => 2..90usize];
    let action = prop_oneof![
        6 => proptest::array::uniform5(count).prop_map(Action::Step),
        2 => (0..8usize).prop_map(Action::Fork),
        1 => (0..8usize, 0..=100usize).prop_map(|(text, share)| Action::Truncate(text, share)),
        1 => (0..8usize).prop_map(Action::Close),
    ];
    proptest::collection::vec(action, 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_steps_agrees_with_reading_whole(
        actions in actions(),
        architecture in prop_oneof![
            Just(Architecture::Qwen2), Just(Architecture::Qwen3), Just(Architecture::Llama)
        ],
    ) {
        let decoder = Decoder::init(&config(architecture), 5, &Device::flex());
        let mut cache = KvCache::on_device(&decoder);
        let mut texts: Vec<(Slot, Vec<u32>)> = (0..3).map(|_| (cache.open(), Vec::new())).collect();
        for (turn, action) in actions.into_iter().enumerate() {
            match action {
                Action::Step(counts) => {
                    let new: Vec<(usize, Vec<u32>)> = (0..texts.len())
                        .zip(counts)
                        .filter(|(_, count)| *count > 0)
                        .map(|(index, count)| (index, text(count, turn + index)))
                        .collect();
                    if new.is_empty() {
                        continue;
                    }
                    let rows: Vec<Row<'_>> = new
                        .iter()
                        .map(|(index, ids)| Row { slot: texts[*index].0, ids })
                        .collect();
                    let found = floats(decoder.step(&rows, &mut cache));
                    for ((index, ids), found) in new.iter().zip(found.chunks(VOCABULARY)) {
                        texts[*index].1.extend(ids);
                        let expected = whole(&decoder, &texts[*index].1);
                        let last = &expected[expected.len() - VOCABULARY..];
                        prop_assert!(difference(found, last) < 2e-5);
                    }
                }
                Action::Fork(index) => {
                    let (slot, ids) = texts[index % texts.len()].clone();
                    texts.push((cache.fork(slot), ids));
                }
                Action::Truncate(index, share) => {
                    let count_of = texts.len();
                    let (slot, ids) = &mut texts[index % count_of];
                    ids.truncate(ids.len() * share / 100);
                    cache.truncate(*slot, ids.len());
                }
                Action::Close(index) if texts.len() > 1 => {
                    let (slot, _) = texts.remove(index % texts.len());
                    cache.close(slot);
                }
                Action::Close(_) => {}
            }
            for (slot, ids) in &texts {
                prop_assert_eq!(cache.len(*slot), ids.len());
            }
        }
    }
}

#[test]
fn logits_of_every_token_come_in_the_order_of_rows() {
    let decoder = Decoder::init(&config(Architecture::Qwen2), 5, &Device::flex());
    let mut cache = KvCache::on_device(&decoder);
    let texts = [text(9, 1), text(1, 2), text(400, 3), text(1, 4)];
    let rows: Vec<Row<'_>> = texts
        .iter()
        .map(|ids| Row {
            slot: cache.open(),
            ids,
        })
        .collect();
    let found = floats(decoder.step_all(&rows, &mut cache));
    let expected: Vec<f32> = texts.iter().flat_map(|ids| whole(&decoder, ids)).collect();
    assert!(difference(&found, &expected) < 2e-5);
}

#[test]
fn bf16_decoders_stay_near_f32_and_write_as_they_read() {
    for architecture in [
        Architecture::Qwen2,
        Architecture::Qwen3,
        Architecture::Llama,
    ] {
        let config = config(architecture);
        let exact = Decoder::init(&config, 5, &Device::flex());
        let weights = exact.parameters();
        let half = Decoder::from_source(&config, &Device::flex(), Dtype::Bf16, |name, _| {
            let found = weights.iter().find(|parameter| parameter.name == name);
            let values = found.unwrap().data().try_into_vec::<f32>().unwrap();
            Ok::<_, std::convert::Infallible>(values)
        })
        .unwrap();
        assert_eq!(half.dtype(), DType::BF16);
        let ids = text(100, 1);
        let (expected, read) = (whole(&exact, &ids), whole(&half, &ids));
        let off = distance(&read, &expected);
        assert!(off < 4e-2, "{architecture:?}: {off}");
        let mut cache = KvCache::of(&half);
        let per_token = 2 * 2 * 2 * 12 * 2; // keys and values, layers, heads, head size, bytes
        assert_eq!(cache.bytes_per_token(), per_token);
        let slot = cache.open();
        let mut written = Vec::new();
        for ids in [&ids[..60], &ids[60..61], &ids[61..]] {
            written.extend(floats(half.step_all(&[Row { slot, ids }], &mut cache)));
        }
        let off = distance(&written, &read);
        assert!(off < 4e-2, "{architecture:?}: {off}");
    }
}

/// Where nothing can be recorded, as on the CPU, the same steps are taken one by one.
#[test]
fn steps_that_may_be_recorded_give_what_steps_give() {
    let decoder = Decoder::init(&config(Architecture::Qwen2), 5, &Device::flex());
    let mut caches = [KvCache::on_device(&decoder), KvCache::on_device(&decoder)];
    let slots: Vec<[Slot; 2]> = (0..3)
        .map(|_| caches.each_mut().map(KvCache::open))
        .collect();
    for turn in 0..20 {
        // A prompt in between is no step of one token per row.
        let count = if turn % 9 == 0 { 5 } else { 1 };
        let texts: Vec<Vec<u32>> = (0..3).map(|row| text(count, turn + row)).collect();
        let rows = |which: usize| -> Vec<Row<'_>> {
            let pairs = slots.iter().zip(&texts);
            pairs
                .map(|(slot, ids)| Row {
                    slot: slot[which],
                    ids,
                })
                .collect()
        };
        let [plain, recorded] = &mut caches;
        let expected = floats(decoder.step(&rows(0), plain));
        let found = floats(decoder.step_recorded(&rows(1), recorded));
        assert_eq!(found, expected, "step {turn}");
    }
    let (sent, reason) = caches[1].recorded_steps();
    assert_eq!(sent, 0);
    assert!(reason.is_some(), "the CPU says that it cannot");
}
