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

/// The largest difference, as a share of the largest value; NaN if a number is.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let pairs = found.iter().zip(expected);
    let differences = pairs.map(|(a, b)| (a - b).abs());
    differences.max_by(f32::total_cmp).unwrap_or(0.0) / scale
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

/// What is done to texts of which many are short and some are long.
#[derive(Clone, Debug)]
enum Change {
    Open,
    /// One step in which texts append tokens: which, and how many.
    Step(Vec<(usize, usize)>),
    Fork(usize),
    Truncate(usize, usize),
    Close(usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let count = prop_oneof![4 => Just(1usize), 3 => 2..60usize, 2 => 60..420usize];
    let rows = proptest::collection::vec((0..16usize, count), 1..5);
    let change = prop_oneof![
        3 => Just(Change::Open),
        6 => rows.prop_map(Change::Step),
        2 => (0..16usize).prop_map(Change::Fork),
        1 => (0..16usize, 0..=100usize).prop_map(|(text, share)| Change::Truncate(text, share)),
        3 => (0..16usize).prop_map(Change::Close),
    ];
    proptest::collection::vec(change, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Texts are moved to other lines, which become longer and shorter, and say what they say elsewhere.
    #[test]
    fn a_limited_cache_takes_no_more_than_its_texts_need(
        changes in changes(),
        limit in prop_oneof![Just(1024usize), Just(2560), 256..8192usize],
    ) {
        let decoder = Decoder::init(&config(Architecture::Qwen2), 5, &Device::flex());
        let mut free = KvCache::on_device(&decoder);
        let mut limited = KvCache::on_device(&decoder);
        limited.limit(limit);
        let mut texts: Vec<(Slot, Slot, usize)> = Vec::new();
        for (turn, change) in changes.into_iter().enumerate() {
            if texts.is_empty() {
                texts.push((free.open(), limited.open(), 0));
            }
            let of = texts.len();
            match change {
                Change::Open => texts.push((free.open(), limited.open(), 0)),
                Change::Step(mut rows) => {
                    for (at, _) in &mut rows {
                        *at %= of;
                    }
                    rows.sort_unstable();
                    rows.dedup_by_key(|(at, _)| *at);
                    let new: Vec<Vec<u32>> = rows
                        .iter()
                        .map(|(at, count)| text(*count, turn + at))
                        .collect();
                    let rows_of = |slot: &dyn Fn(usize) -> Slot| -> Vec<Row<'_>> {
                        let pairs = rows.iter().zip(&new);
                        pairs.map(|((at, _), ids)| Row { slot: slot(*at), ids }).collect()
                    };
                    let expected = floats(decoder.step(&rows_of(&|at| texts[at].0), &mut free));
                    let found = floats(decoder.step(&rows_of(&|at| texts[at].1), &mut limited));
                    prop_assert!(difference(&found, &expected) < 2e-5);
                    for (at, count) in rows {
                        texts[at].2 += count;
                    }
                    let needed = limited.tokens_for(texts.iter().map(|(_, _, length)| *length));
                    let most = needed.max(limit) * limited.bytes_per_token();
                    prop_assert!(limited.bytes() <= most, "{} of {most}", limited.bytes());
                }
                Change::Fork(at) => {
                    let (a, b, length) = texts[at % of];
                    texts.push((free.fork(a), limited.fork(b), length));
                }
                Change::Truncate(at, share) => {
                    let (a, b, length) = &mut texts[at % of];
                    *length = *length * share / 100;
                    free.truncate(*a, *length);
                    limited.truncate(*b, *length);
                }
                Change::Close(at) => {
                    let (a, b, _) = texts.remove(at % of);
                    free.close(a);
                    limited.close(b);
                }
            }
            for (a, b, length) in &texts {
                prop_assert_eq!(free.len(*a), *length);
                prop_assert_eq!(limited.len(*b), *length);
            }
        }
    }
}

/// Tokens of memory that a cache takes once texts of these lengths are in it; a length after another is a
/// text that takes the place of the one before.
#[track_caller]
fn check_taken(limit: usize, texts: &[&[usize]], expected: usize) {
    let decoder = Decoder::init(&config(Architecture::Qwen2), 5, &Device::flex());
    let mut cache = KvCache::on_device(&decoder);
    cache.limit(limit);
    for lengths in texts {
        let slots: Vec<Slot> = lengths.iter().map(|_| cache.open()).collect();
        for (slot, length) in slots.iter().zip(*lengths) {
            let ids = text(*length, 1);
            decoder.step(
                &[Row {
                    slot: *slot,
                    ids: &ids,
                }],
                &mut cache,
            );
        }
        if lengths.len() > 1 {
            slots.into_iter().for_each(|slot| cache.close(slot));
        }
    }
    assert_eq!(cache.bytes() / cache.bytes_per_token(), expected);
}

#[test]
fn lines_are_as_many_and_as_long_as_texts_need() {
    const NO_LIMIT: usize = usize::MAX;
    check_taken(NO_LIMIT, &[&[10; 9]], 16 * 256);
    check_taken(NO_LIMIT, &[&[10; 33]], 40 * 256);
    // Half as much again, and what is there is kept.
    check_taken(NO_LIMIT, &[&[700; 2], &[800; 2]], 2 * 1280);
    check_taken(NO_LIMIT, &[&[10; 16], &[1500]], 16 * 1536);
    // The same, with no more than 4096.
    check_taken(4096, &[&[10; 9]], 16 * 256);
    check_taken(4096, &[&[10; 16], &[1500]], 1536);
    check_taken(4096, &[&[1500; 2], &[10; 9]], 9 * 256 + 7 * 256);
    check_taken(4096, &[&[1300; 2], &[400; 8]], 8 * 512);
    // Five of 768 fit, eight do not.
    check_taken(4096, &[&[700; 5]], 5 * 768);
    // It is no refusal.
    check_taken(4096, &[&[700; 6]], 6 * 768);
}

#[test]
fn what_texts_need_is_said_before() {
    let decoder = Decoder::init(&config(Architecture::Qwen2), 5, &Device::flex());
    let device = KvCache::on_device(&decoder);
    let host = KvCache::new(decoder.config());
    let lengths = [1, 33, 300];
    assert_eq!(device.tokens_for(lengths), 3 * 512);
    assert_eq!(host.tokens_for(lengths), 32 + 64 + 320);
    assert_eq!(device.tokens_for([]), 0);
    assert_eq!(host.tokens_for([]), 0);
}

/// Numbers that are not finite stay where they were written until that is wiped.
#[test]
fn a_wiped_slot_leaves_nothing_to_the_next_text() {
    const BROKEN: u32 = 60;
    let decoder = Decoder::init(&config(Architecture::Qwen2), 5, &Device::flex());
    let embedding = decoder.parameters().into_iter();
    let mut embedding = embedding.filter(|one| one.name == "model.embed_tokens.weight");
    let mut values = embedding
        .next()
        .unwrap()
        .data()
        .try_into_vec::<f32>()
        .unwrap();
    values[BROKEN as usize * 40..][..40].fill(f32::NAN);
    let decoder = decoder
        .with_values(|name, _| (name == "model.embed_tokens.weight").then(|| values.clone()));
    let mut cache = KvCache::on_device(&decoder);
    let broken = cache.open();
    let mut ids = vec![1; 50];
    ids[30] = BROKEN;
    let found = floats(decoder.step(
        &[Row {
            slot: broken,
            ids: &ids,
        }],
        &mut cache,
    ));
    assert!(found.iter().all(|logit| logit.is_nan()));
    cache.wipe(broken);
    assert_eq!(cache.len(broken), 0);
    let healthy = [1, 2, 3, 4];
    let found = floats(decoder.step(
        &[Row {
            slot: broken,
            ids: &healthy,
        }],
        &mut cache,
    ));
    let expected = whole(&decoder, &healthy);
    assert!(difference(&found, &expected[3 * VOCABULARY..]) < 2e-5);
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
