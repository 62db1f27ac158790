//! Writing text in steps computes the bits that reading it whole does, and rows never touch each
//! other.

#![expect(clippy::unwrap_used, reason = "a test fails on what cannot be had")]

use burn::tensor::Tensor;
use model::config::{Architecture, ModelConfig};
use model::decoder::Decoder;
use model::device::Device;
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
        max_position_embeddings: 512,
        tie_word_embeddings: architecture == Architecture::Qwen3,
        attention_bias: architecture == Architecture::Qwen2,
        qk_norm: architecture == Architecture::Qwen3,
        bos_token_id: None,
        eos_token_id: vec![2],
        initializer_range: 0.25,
    }
}

fn decoder(architecture: Architecture) -> Decoder {
    Decoder::init(&config(architecture), 5, &Device::flex())
}

fn floats(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// Logits of all tokens of one text, read whole.
fn whole(decoder: &Decoder, ids: &[u32]) -> Vec<f32> {
    floats(decoder.logits(decoder.hidden(&Packed::new([ids]))))
}

fn text(length: usize, seed: u32) -> Vec<u32> {
    (0..length as u32)
        .map(|i| (i * i * 7 + i * 3 + seed * 11) % VOCABULARY as u32)
        .collect()
}

#[track_caller]
fn check_same(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            found.to_bits() == expected.to_bits(),
            "[{index}]: {found}, expected {expected}"
        );
    }
}

fn step(decoder: &Decoder, cache: &mut KvCache, slot: Slot, ids: &[u32]) -> Vec<f32> {
    floats(decoder.step_all(&[Row { slot, ids }], cache))
}

#[derive(Clone, Debug)]
enum Action {
    /// Append this many tokens to the text with this index.
    Append(usize, usize),
    Fork(usize),
    /// Keep this share (of 100) of a text.
    Truncate(usize, usize),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (0..8usize, 1..70usize).prop_map(|(text, count)| Action::Append(text, count)),
        1 => (0..8usize).prop_map(Action::Fork),
        1 => (0..8usize, 0..=100usize).prop_map(|(text, share)| Action::Truncate(text, share)),
    ];
    proptest::collection::vec(action, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_steps_forks_and_truncations_agrees_with_reading_whole(
        actions in actions(),
        architecture in prop_oneof![
            Just(Architecture::Qwen2), Just(Architecture::Qwen3), Just(Architecture::Llama)
        ],
    ) {
        let decoder = decoder(architecture);
        let mut cache = KvCache::new(decoder.config());
        let mut texts: Vec<(Slot, Vec<u32>)> = vec![(cache.open(), Vec::new())];
        for (turn, action) in actions.into_iter().enumerate() {
            match action {
                Action::Append(index, count) => {
                    let (slot, ids) = {
                        let count_of = texts.len();
                        &mut texts[index % count_of]
                    };
                    let new = text(count, turn as u32 + 1);
                    let found = step(&decoder, &mut cache, *slot, &new);
                    ids.extend(&new);
                    let expected = whole(&decoder, ids);
                    check_same(&found, &expected[expected.len() - found.len()..]);
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
            }
            for (slot, ids) in &texts {
                prop_assert_eq!(cache.len(*slot), ids.len());
            }
        }
    }
}

/// Rows decoded together give the same bits as each alone, in any company and order.
#[test]
fn a_row_does_not_depend_on_the_others() {
    let decoder = decoder(Architecture::Qwen2);
    let texts: Vec<Vec<u32>> = (0..300).map(|i| text(1 + (i * 5) % 23, i as u32)).collect();
    let alone: Vec<Vec<f32>> = texts
        .iter()
        .map(|ids| {
            let mut cache = KvCache::new(decoder.config());
            let slot = cache.open();
            floats(decoder.step(&[Row { slot, ids }], &mut cache))
        })
        .collect();
    for count in [2, 8, 64, 300] {
        for reversed in [false, true] {
            let mut cache = KvCache::new(decoder.config());
            let mut rows: Vec<(usize, Slot)> = (0..count).map(|i| (i, cache.open())).collect();
            if reversed {
                rows.reverse();
            }
            let requests: Vec<Row<'_>> = rows
                .iter()
                .map(|(i, slot)| Row {
                    slot: *slot,
                    ids: &texts[*i],
                })
                .collect();
            let together = floats(decoder.step(&requests, &mut cache));
            for ((i, _), logits) in rows.iter().zip(together.chunks_exact(VOCABULARY)) {
                assert_eq!(logits, alone[*i], "row {i} of {count}");
            }
        }
    }
}

/// The same text gives the same bits however it is cut into steps.
#[test]
fn the_cut_into_steps_does_not_matter() {
    let decoder = decoder(Architecture::Qwen3);
    let ids = text(150, 3);
    let mut cache = KvCache::new(decoder.config());
    let slot = cache.open();
    let at_once = step(&decoder, &mut cache, slot, &ids);
    for pieces in [1, 2, 7, 31, 32, 33, 64, 149] {
        let mut cache = KvCache::new(decoder.config());
        let slot = cache.open();
        let in_pieces: Vec<f32> = ids
            .chunks(pieces)
            .flat_map(|ids| step(&decoder, &mut cache, slot, ids))
            .collect();
        assert_eq!(in_pieces, at_once, "in pieces of {pieces}");
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let decoder = decoder(Architecture::Llama);
    let texts: Vec<Vec<u32>> = (0..200).map(|i| text(1 + i % 40, i as u32)).collect();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let mut cache = KvCache::new(decoder.config());
            let rows: Vec<Row<'_>> = texts
                .iter()
                .map(|ids| Row {
                    slot: cache.open(),
                    ids,
                })
                .collect();
            let steps = floats(decoder.step(&rows, &mut cache));
            let hidden = floats(decoder.hidden(&Packed::new(&texts)));
            (steps, hidden)
        })
    };
    let one = run(1);
    for threads in [2, 3, 8] {
        assert!(run(threads) == one, "{threads} threads");
    }
}

#[test]
fn a_fork_shares_memory_and_then_goes_its_own_way() {
    let decoder = decoder(Architecture::Llama);
    let mut cache = KvCache::new(decoder.config());
    let first = cache.open();
    step(&decoder, &mut cache, first, &text(96, 1));
    let before = cache.bytes();
    let second = cache.fork(first);
    assert_eq!(cache.bytes(), before);
    let a = step(&decoder, &mut cache, first, &text(5, 2));
    let b = step(&decoder, &mut cache, second, &text(5, 3));
    let joined = |tail: Vec<u32>| [text(96, 1), tail].concat();
    let rest = 96 * VOCABULARY;
    check_same(&a, &whole(&decoder, &joined(text(5, 2)))[rest..]);
    check_same(&b, &whole(&decoder, &joined(text(5, 3)))[rest..]);
    // Three full blocks are shared, the fourth exists twice.
    assert_eq!(cache.bytes(), before / 3 * 5);
    cache.close(first);
    assert_eq!(cache.bytes(), before / 3 * 4);
    cache.close(second);
    assert_eq!(cache.bytes(), 0);
    assert!(cache.is_empty());
}

#[test]
fn a_cache_notices_new_weights() {
    let decoder = decoder(Architecture::Llama);
    let mut cache = KvCache::new(decoder.config());
    let slot = cache.open();
    let ids = text(9, 1);
    let old = step(&decoder, &mut cache, slot, &ids);
    let changed = decoder.with_values(|name, shape| {
        (name == "lm_head.weight").then(|| vec![0.5; shape.iter().product()])
    });
    cache.truncate(slot, 0);
    let new = step(&changed, &mut cache, slot, &ids);
    assert_ne!(old, new);
    check_same(&new, &whole(&changed, &ids));
}

/// Gradients of the summed hidden states, in checkpoint order.
fn gradients(decoder: &Decoder, batch: &Packed) -> Vec<Vec<f32>> {
    use model::parameters::ParameterValues;
    let hidden = decoder.hidden(batch);
    let mut gradients = decoder.logits(hidden).square().sum().backward();
    decoder
        .parameters()
        .into_iter()
        .map(|parameter| match parameter.values {
            ParameterValues::Vector(x) => x.grad_remove(&mut gradients).unwrap().into_data(),
            ParameterValues::Matrix(x) => x.grad_remove(&mut gradients).unwrap().into_data(),
        })
        .map(|data| data.try_to_vec().unwrap())
        .collect()
}

#[test]
fn a_packed_batch_is_its_documents() {
    let decoder = Decoder::init(&config(Architecture::Qwen2), 5, &Device::flex().autodiff());
    let documents = [text(37, 1), text(1, 2), text(130, 3)];
    let packed = Packed::new(&documents);
    let together = floats(decoder.hidden(&packed));
    let apart: Vec<f32> = documents
        .iter()
        .flat_map(|document| floats(decoder.hidden(&Packed::new([document]))))
        .collect();
    assert_eq!(together, apart);

    let together = gradients(&decoder, &packed);
    let mut sums: Vec<Vec<f32>> = together.iter().map(|g| vec![0.0; g.len()]).collect();
    for document in &documents {
        for (sum, gradient) in sums
            .iter_mut()
            .zip(gradients(&decoder, &Packed::new([document])))
        {
            sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
        }
    }
    for (found, expected) in together.iter().zip(&sums) {
        let scale = expected.iter().fold(1e-3_f32, |most, g| most.max(g.abs()));
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 2e-5 * scale,
                "{found}, expected {expected}"
            );
        }
    }
}

#[test]
fn documents_of_a_batch_do_not_see_each_other() {
    let decoder = decoder(Architecture::Qwen3);
    let batch = |first: Vec<u32>| floats(decoder.hidden(&Packed::new([first, text(50, 9)])));
    let (a, b) = (batch(text(40, 1)), batch(text(40, 2)));
    let width = decoder.config().hidden_size;
    assert_ne!(a[..40 * width], b[..40 * width]);
    assert_eq!(a[40 * width..], b[40 * width..]);
}

#[test]
fn fresh_weights_are_a_function_of_the_seed() {
    let first = decoder(Architecture::Qwen2).parameters();
    let again = decoder(Architecture::Qwen2).parameters();
    let other = Decoder::init(&config(Architecture::Qwen2), 6, &Device::flex()).parameters();
    for ((first, again), other) in first.iter().zip(&again).zip(&other) {
        assert_eq!((&first.name, first.data()), (&again.name, again.data()));
        if first.shape().len() == 2 {
            assert_ne!(first.data(), other.data());
        }
    }
    let embedding: Vec<f32> = first[0].data().try_to_vec().unwrap();
    let square = embedding.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let deviation = (square / embedding.len() as f64).sqrt();
    assert!(
        (deviation - 0.25).abs() < 0.01,
        "standard deviation {deviation}"
    );
    // The first values of seed 5, so that another machine or version is seen to agree.
    let bits: Vec<u32> = embedding[..3].iter().map(|x| x.to_bits()).collect();
    assert_eq!(bits, [1_024_788_798, 3_200_092_801, 3_183_402_792]);
}
