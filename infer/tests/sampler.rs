//! The sampler: its filters, their order, ties, and faults in its input.
//!
//! The oracle at the end is vLLM V1's definition written down plainly: whole softmax, whole sort.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use infer::local::sampler::{NotFinite, Sampler, logprob, logprob_listed};
use model::shortlist::Shortlist;
use proptest::prelude::*;
use protocol::Sampling;

const PLAIN: Sampling = Sampling {
    temperature: 1.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
};

fn logits(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}

fn draw(logits: &[f32], sampling: Sampling, u: f64) -> u32 {
    Sampler::default()
        .draw(logits, &sampling, || u)
        .expect("finite logits")
}

/// Which tokens can be drawn at all, in order of falling probability.
#[track_caller]
fn check_kept(probabilities: &[f32], sampling: Sampling, expected: &[u32]) {
    let row = logits(probabilities);
    let mut kept: Vec<u32> = (0..4000)
        .map(|i| draw(&row, sampling, f64::from(i) / 4000.0))
        .collect();
    kept.dedup();
    assert_eq!(kept, expected, "{sampling:?}");
}

const FOUR: [f32; 4] = [0.4, 0.3, 0.2, 0.1];

#[test]
fn each_filter_alone() {
    check_kept(&FOUR, PLAIN, &[0, 1, 2, 3]);
    check_kept(&FOUR, Sampling { top_k: 2, ..PLAIN }, &[0, 1]);
    check_kept(&FOUR, Sampling { top_k: 4, ..PLAIN }, &[0, 1, 2, 3]);
    check_kept(&FOUR, Sampling { top_k: 9, ..PLAIN }, &[0, 1, 2, 3]);
    check_kept(
        &FOUR,
        Sampling {
            top_p: 0.65,
            ..PLAIN
        },
        &[0, 1],
    );
    check_kept(
        &FOUR,
        Sampling {
            top_p: 0.75,
            ..PLAIN
        },
        &[0, 1, 2],
    );
    check_kept(
        &FOUR,
        Sampling {
            top_p: 1e-6,
            ..PLAIN
        },
        &[0],
    );
    check_kept(
        &FOUR,
        Sampling {
            min_p: 0.45,
            ..PLAIN
        },
        &[0, 1, 2],
    );
    check_kept(
        &FOUR,
        Sampling {
            min_p: 0.55,
            ..PLAIN
        },
        &[0, 1],
    );
    check_kept(
        &FOUR,
        Sampling {
            min_p: 0.99,
            ..PLAIN
        },
        &[0],
    );
}

#[test]
fn each_filter_sees_what_the_one_before_it_left() {
    // Temperature first: at 0.5 the shares are 0.53, 0.3, 0.13, 0.03.
    check_kept(
        &FOUR,
        Sampling {
            temperature: 0.5,
            min_p: 0.3,
            ..PLAIN
        },
        &[0, 1],
    );
    // Min-p before top-p: 0.4 of 0.7 is 0.57, which alone reaches 0.55; 0.4 of 1 does not.
    check_kept(
        &FOUR,
        Sampling {
            min_p: 0.6,
            top_p: 0.55,
            ..PLAIN
        },
        &[0],
    );
    check_kept(
        &FOUR,
        Sampling {
            top_p: 0.55,
            ..PLAIN
        },
        &[0, 1],
    );
    // Top-k before top-p, likewise.
    check_kept(
        &FOUR,
        Sampling {
            top_k: 2,
            top_p: 0.55,
            ..PLAIN
        },
        &[0],
    );
}

#[test]
fn ties() {
    // Tokens as likely as the last one of top-k stay, as in vLLM; top-p takes the lower ids.
    check_kept(
        &[0.3, 0.1, 0.3, 0.3],
        Sampling { top_k: 2, ..PLAIN },
        &[0, 2, 3],
    );
    check_kept(
        &[0.25; 4],
        Sampling {
            top_p: 0.3,
            ..PLAIN
        },
        &[0, 1],
    );
    check_kept(&[0.1, 0.4, 0.1, 0.4], PLAIN, &[1, 3, 0, 2]);
}

#[track_caller]
fn check_draw(probabilities: &[f32], u: f64, expected: u32) {
    assert_eq!(draw(&logits(probabilities), PLAIN, u), expected, "u = {u}");
}

#[test]
fn one_number_picks_by_falling_probability() {
    let unordered = [0.1, 0.4, 0.2, 0.3];
    check_draw(&unordered, 0.0, 1);
    check_draw(&unordered, 0.399, 1);
    check_draw(&unordered, 0.401, 3);
    check_draw(&unordered, 0.699, 3);
    check_draw(&unordered, 0.701, 2);
    check_draw(&unordered, 0.901, 0);
    check_draw(&unordered, 1.0 - f64::EPSILON / 2.0, 0);
}

#[track_caller]
fn check_greedy(logits: &[f32], expected: u32) {
    let greedy = Sampling {
        temperature: 0.0,
        ..PLAIN
    };
    let drawn = Sampler::default().draw(logits, &greedy, || unreachable!("greedy draws nothing"));
    assert_eq!(drawn, Ok(expected));
}

#[test]
fn greedy_takes_the_lowest_of_the_best() {
    check_greedy(&[1.0, 3.0, 2.0, 3.0], 1);
    check_greedy(&[-0.0, 0.0], 0);
    check_greedy(&[-5.0; 200], 0);
    let mut far = vec![0.0; 1000];
    far[777] = 1.0;
    far[999] = 1.0;
    check_greedy(&far, 777);
}

#[test]
fn extreme_rows_have_a_result() {
    let hot = Sampling {
        temperature: 1e30,
        ..PLAIN
    };
    let cold = Sampling {
        temperature: 1e-38,
        ..PLAIN
    };
    assert_eq!(draw(&[1e30, -1e30, 0.0], PLAIN, 0.999), 0);
    assert_eq!(draw(&[f32::MAX, f32::MIN], PLAIN, 0.999), 0);
    assert_eq!(draw(&[1.0, 2.0, 3.0], cold, 0.999), 2);
    assert_eq!(draw(&[3.0, 2.0, 1.0], hot, 0.999), 2);
    assert_eq!(draw(&[0.5], PLAIN, 0.5), 0);
}

#[track_caller]
fn check_fault(fault: f32, id: usize) {
    let mut row = vec![0.0; 500];
    row[id] = fault;
    for sampling in [
        PLAIN,
        Sampling {
            temperature: 0.0,
            ..PLAIN
        },
        Sampling { top_k: 3, ..PLAIN },
    ] {
        let drawn = Sampler::default().draw(&row, &sampling, || 0.5);
        assert_eq!(drawn, Err(NotFinite { id }));
    }
}

#[test]
fn a_logit_that_is_not_finite_is_a_fault() {
    check_fault(f32::NAN, 0);
    check_fault(f32::NAN, 64);
    check_fault(f32::INFINITY, 250);
    check_fault(f32::NEG_INFINITY, 499);
}

/// vLLM V1: softmax of the scaled logits, min-p on it, top-k with ties, top-p on the softmax of
/// what is left. Ids in order with their probabilities; `None` if a threshold is met so closely
/// that f32 may decide either way.
fn oracle(logits: &[f32], sampling: Sampling) -> Option<Vec<(u32, f64)>> {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let temperature = f64::from(sampling.temperature);
    let mut kept: Vec<(u32, f64)> = logits
        .iter()
        .enumerate()
        .map(|(id, logit)| {
            (
                id as u32,
                ((f64::from(*logit) - f64::from(best)) / temperature).exp(),
            )
        })
        .collect();
    let near = |a: f64, b: f64| (a - b).abs() < 1e-5;
    let min_p = f64::from(sampling.min_p);
    if kept
        .iter()
        .any(|(_, weight)| min_p > 0.0 && near(*weight, min_p))
    {
        return None;
    }
    kept.retain(|(_, weight)| *weight >= min_p);
    kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if sampling.top_k > 0 && sampling.top_k < kept.len() {
        let last = kept[sampling.top_k - 1].1;
        kept.retain(|(_, weight)| *weight >= last);
    }
    if sampling.top_p < 1.0 {
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let mut before = 0.0;
        let mut count = 0;
        for (_, weight) in &kept {
            if near(before / total, f64::from(sampling.top_p)) {
                return None;
            }
            if before / total >= f64::from(sampling.top_p) {
                break;
            }
            before += weight;
            count += 1;
        }
        kept.truncate(count);
    }
    let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
    Some(
        kept.into_iter()
            .map(|(id, weight)| (id, weight / total))
            .collect(),
    )
}

fn settings() -> impl Strategy<Value = Sampling> {
    let temperature = prop_oneof![Just(1.0_f32), 0.2_f32..3.0];
    let top_k = prop_oneof![Just(0_usize), 1..60_usize];
    let top_p = prop_oneof![Just(1.0_f32), 0.05_f32..0.999];
    let min_p = prop_oneof![Just(0.0_f32), 0.001_f32..0.9];
    (temperature, top_k, top_p, min_p).prop_map(|(temperature, top_k, top_p, min_p)| Sampling {
        temperature,
        top_k,
        top_p,
        min_p,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn it_draws_what_vllm_defines(
        row in prop::collection::vec(-12.0_f32..12.0, 1..700),
        spread in 0.05_f32..3.0,
        sampling in settings(),
        u in 0.0_f64..1.0,
    ) {
        let row: Vec<f32> = row.iter().map(|logit| logit * spread).collect();
        let Some(kept) = oracle(&row, sampling) else { return Ok(()) };
        let drawn = draw(&row, sampling, u);
        let place = kept.iter().position(|(id, _)| *id == drawn);
        prop_assert!(place.is_some(), "{drawn} is not kept");
        let place = place.unwrap();
        let before: f64 = kept[..place].iter().map(|(_, p)| p).sum();
        let slack = 1e-5;
        prop_assert!(before - slack <= u && u <= before + kept[place].1 + slack, "{drawn} at {u}");
    }

    #[test]
    fn scratch_memory_carries_nothing_over(
        rows in prop::collection::vec(prop::collection::vec(-9.0_f32..9.0, 1..300), 1..5),
        sampling in settings(),
        u in 0.0_f64..1.0,
    ) {
        let mut sampler = Sampler::default();
        for row in &rows {
            prop_assert_eq!(sampler.draw(row, &sampling, || u), Ok(draw(row, sampling, u)));
        }
    }
}

/// The token that is drawn of a row's list, at `u`; None if the list does not reach far enough.
fn draw_listed(logits: &[f32], sampling: Sampling, u: f64) -> Option<u32> {
    let list = Shortlist::of(logits, sampling.temperature).expect("finite logits");
    Sampler::default().draw_listed(&list, &sampling, || u)
}

/// What can be drawn of a row is drawn of its list, if that reaches as far.
#[track_caller]
fn check_listed(logits: &[f32], sampling: Sampling, expected: Option<u32>) {
    let found = draw_listed(logits, sampling, 0.5);
    assert_eq!(found, expected, "{sampling:?}");
    if found.is_some() {
        assert_eq!(found, Some(draw(logits, sampling, 0.5)));
    }
}

#[test]
fn a_list_serves_as_far_as_it_reaches() {
    let cold = Sampling {
        temperature: 0.0,
        ..PLAIN
    };
    let near: Vec<f32> = (0..1000).map(|id| -(id as f32) / 100.0).collect();
    // 401 tokens within a distance of 4, which are more than are kept.
    check_listed(&near, PLAIN, None);
    check_listed(&near, cold, Some(0));
    let half = Sampling {
        temperature: 0.5,
        ..PLAIN
    };
    check_listed(&near, half, Some(34));
    let wide: Vec<f32> = near.iter().map(|logit| logit * 2.0).collect();
    check_listed(&wide, PLAIN, Some(34));
    // 5 in a hundred lie beyond what is reached, which a number may ask for and top-p may not.
    let ragged: Vec<f32> = (0..2000)
        .map(|id| if id < 10 { 0.0 } else { -8.1 })
        .collect();
    check_listed(&ragged, PLAIN, Some(5));
    assert_eq!(draw_listed(&ragged, PLAIN, 0.99), None);
    let nucleus = Sampling {
        top_p: 0.9,
        ..PLAIN
    };
    assert_eq!(draw_listed(&ragged, nucleus, 0.99), Some(9));
    // Top-k asks for tokens that are not there, which matters where a number may ask for one of them;
    // min-p asks for none beyond itself.
    let ten = Sampling { top_k: 10, ..PLAIN };
    let eleven = Sampling { top_k: 11, ..PLAIN };
    check_listed(&ragged, ten, Some(5));
    check_listed(&ragged, eleven, Some(5));
    assert_eq!(draw_listed(&ragged, ten, 0.99), Some(9));
    assert_eq!(draw_listed(&ragged, eleven, 0.99), None);
    // Five of ten and a bit, but perhaps of ten.
    assert_eq!(draw_listed(&ragged, eleven, 0.499), None);
    check_listed(
        &ragged,
        Sampling {
            min_p: 0.01,
            ..PLAIN
        },
        Some(5),
    );
    // More than are kept are equally good.
    check_listed(&[1.0; 300], cold, None);
    check_listed(&[1.0; 200], cold, Some(0));
    // A list that was made at another temperature.
    let list = Shortlist::of(&near, 0.25).unwrap();
    assert_eq!(Sampler::default().draw_listed(&list, &half, || 0.5), None);
}

/// The settings of the presets of the protocol.
const PRESET: Sampling = Sampling {
    temperature: 0.6,
    top_k: 40,
    top_p: 0.95,
    min_p: 0.0,
};

/// A row as of a trained model: few tokens share most of the probability, and thousands the rest.
fn peaked(heads: &[f32], tail: f32, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 1000) as f32 / 1000.0
    };
    let mut row: Vec<f32> = (0..5000).map(|_| tail - 4.0 * noise()).collect();
    for head in heads {
        let at = (noise() * 5000.0) as usize;
        row[at.min(4999)] = *head;
    }
    row
}

#[test]
fn lists_of_peaked_rows_serve_the_presets() {
    let mut served = 0;
    for seed in 0..200_u64 {
        let count = 1 + seed % 12;
        let heads: Vec<f32> = (0..count).map(|head| -0.4 * head as f32).collect();
        let row = peaked(&heads, -9.0, 77 * seed + 5);
        let u = (seed as f64 + 0.5) / 200.0;
        if let Some(found) = draw_listed(&row, PRESET, u) {
            assert_eq!(found, draw(&row, PRESET, u));
            served += 1;
        }
    }
    assert!(served >= 195, "{served} of 200");
}

#[test]
fn a_list_knows_what_the_model_says_of_its_tokens() {
    let row: Vec<f32> = (0..500).map(|id| -(id as f32) / 20.0).collect();
    let list = Shortlist::of(&row, 0.6).unwrap();
    for id in [0, 1, 7, 100] {
        let expected = logprob(&row, id);
        let found = logprob_listed(&list, id).unwrap();
        assert!((found - expected).abs() <= 1e-6, "{found} {expected}");
    }
    assert_eq!(logprob_listed(&list, 499), None);
    assert_eq!(Shortlist::of(&[0.0, f32::NAN], 1.0), None);
    assert_eq!(Shortlist::of(&[0.0, f32::INFINITY], 1.0), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    /// With few tokens kept it is the row's token to the bit, whatever the sums of a list are off by as f32.
    #[test]
    fn a_list_gives_the_row_s_token_of_few(
        heads in proptest::collection::vec(-6.0_f32..0.0, 1..30),
        tail in -14.0_f32..-4.0,
        seed in 0_u64..1000,
        temperature in prop_oneof![Just(0.6_f32), 0.3_f32..1.2],
        top_k in prop_oneof![Just(40), 1_usize..400],
        top_p in prop_oneof![Just(0.95_f32), Just(1.0_f32), 0.05_f32..1.0],
        min_p in prop_oneof![3 => Just(0.0_f32), 1 => 1e-7_f32..0.01],
        off in -5e-5_f64..5e-5,
        numbers in proptest::collection::vec(0.0_f64..1.0, 20),
    ) {
        let row = peaked(&heads, tail, seed);
        let sampling = Sampling { temperature, top_k, top_p, min_p };
        let mut list = Shortlist::of(&row, temperature).unwrap();
        list.total = (list.total * (1.0 + off)).max(1.0);
        for u in numbers {
            let found = Sampler::default().draw_listed(&list, &sampling, || u);
            if let Some(found) = found {
                prop_assert_eq!(found, draw(&row, sampling, u), "{:?} {}", sampling, u);
            }
        }
    }

    /// From a list comes what comes from the row, or nothing; at a border between two tokens, where the
    /// sums' rounding decides, one of the two.
    #[test]
    fn a_list_gives_what_the_row_gives(
        seeds in proptest::collection::vec(-1.0_f32..1.0, 1..900),
        spread in 0.1_f32..40.0,
        temperature in 0.05_f32..3.0,
        top_k in prop_oneof![Just(0), 1_usize..60],
        top_p in prop_oneof![Just(1.0_f32), 0.05_f32..1.0],
        min_p in prop_oneof![Just(0.0_f32), 0.001_f32..0.5],
        u in 0.0_f64..1.0,
    ) {
        let row: Vec<f32> = seeds.iter().map(|x| x * spread).collect();
        let sampling = Sampling { temperature, top_k, top_p, min_p };
        if let Some(found) = draw_listed(&row, sampling, u) {
            let nearby = [-1e-5, 0.0, 1e-5].map(|step| (u + step).clamp(0.0, 1.0 - 1e-9));
            prop_assert!(
                nearby.iter().any(|u| draw(&row, sampling, *u) == found),
                "{found} {sampling:?} {u}"
            );
        }
    }
}
