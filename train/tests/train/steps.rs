//! What one optimizer step computes: loss, gradient, clipping, and that the split into
//! micro-batches changes none of them.

use crate::miniature::{Place, Training, config, curve, device, sample, samples, settings};
use model::config::ModelConfig;
use model::decoder::Decoder;
use model::packed::Packed;
use protocol::{Sample, SpanKind};
use train::{
    ClipNorm, DecayOn, Event, Gradients, KindWeights, Start, TrainError, TrainOn, TrainSettings,
    loss_and_gradients,
};

use SpanKind::{Answer, Comment, Prompt, Summary, Thought};

fn decoder() -> Decoder {
    Decoder::init(&config(), 5, &device().autodiff())
}

/// Negative log-likelihood of each token but the first, by f64 arithmetic over the logits.
fn likelihoods(ids: &[u32]) -> Vec<f64> {
    let decoder = Decoder::init(&config(), 5, &device());
    let logits = decoder.logits(decoder.hidden(&Packed::new([ids]))); // [T, V]
    let values: Vec<f32> = logits.into_data().try_into_vec().expect("f32");
    let rows = values.chunks_exact(config().vocab_size).zip(&ids[1..]);
    rows.map(|(row, target)| {
        let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
        sum.ln() - f64::from(row[*target as usize])
    })
    .collect()
}

#[track_caller]
fn check_loss(samples: &[Sample], train_on: &TrainOn, expected: f64) {
    let loss = loss_and_gradients(&decoder(), samples, train_on, 64).loss;
    assert!((loss - expected).abs() < 1e-6, "{loss}, not {expected}");
}

#[test]
fn position_t_predicts_token_t_plus_1_of_its_document() {
    let ids = [3, 7, 11, 5, 9];
    let nll = likelihoods(&ids);
    let whole = sample("a", &[(Thought, &ids)]);
    check_loss(
        std::slice::from_ref(&whole),
        &TrainOn::Own,
        nll.iter().sum::<f64>() / 4.0,
    );
    let answer = sample("b", &[(Prompt, &ids[..3]), (Answer, &ids[3..])]);
    check_loss(&[answer], &TrainOn::Own, (nll[2] + nll[3]) / 2.0);
    // Only tokens of a kind with loss are predicted, wherever they stand.
    let middle = sample(
        "c",
        &[
            (Prompt, &ids[..1]),
            (Summary, &ids[1..3]),
            (Comment, &ids[3..]),
        ],
    );
    check_loss(&[middle], &TrainOn::Own, (nll[0] + nll[1]) / 2.0);
}

#[test]
fn the_loss_is_a_mean_over_all_trained_tokens_of_the_step() {
    let (long, short) = ([3, 7, 11, 5, 9, 8, 4], [6, 10]);
    let (a, b) = (likelihoods(&long), likelihoods(&short));
    let pair = [
        sample("a", &[(Thought, &long)]),
        sample("b", &[(Thought, &short)]),
    ];
    let sum: f64 = a.iter().chain(&b).sum();
    check_loss(&pair, &TrainOn::Own, sum / 7.0);
    let weights = KindWeights {
        thought: 1.0,
        answer: 3.0,
        ..KindWeights::default()
    };
    let pair = [
        sample("a", &[(Thought, &long)]),
        sample("b", &[(Prompt, &[6]), (Answer, &[10])]),
    ];
    check_loss(
        &pair,
        &TrainOn::Weights(weights),
        (a.iter().sum::<f64>() + 3.0 * b[0]) / 9.0,
    );
}

#[track_caller]
fn check_same(one: &Gradients, other: &Gradients) {
    assert!(
        (one.loss - other.loss).abs() < 1e-6,
        "loss {} and {}",
        one.loss,
        other.loss
    );
    assert!(
        (one.norm / other.norm - 1.0).abs() < 1e-5,
        "norm {} and {}",
        one.norm,
        other.norm
    );
    for ((name, one), (_, other)) in one.parameters.iter().zip(&other.parameters) {
        assert_eq!(one.len(), other.len(), "{name}");
        for (one, other) in one.iter().zip(other) {
            assert!((one - other).abs() < 1e-6, "{name}: {one} and {other}");
        }
    }
}

#[test]
fn micro_batches_change_nothing() {
    let samples = samples(10);
    let longest = samples.iter().map(Sample::len).max().expect("samples");
    let of = |limit| loss_and_gradients(&decoder(), &samples, &TrainOn::Own, limit);
    let whole = of(10_000);
    for limit in [longest, 64, 100] {
        check_same(&of(limit), &whole);
    }
}

#[test]
fn a_packed_document_computes_as_if_alone() {
    let samples = samples(3);
    let own: Vec<f64> = samples
        .iter()
        .map(|sample| sample.tokens(|kind| kind.is_sampled()) as f64)
        .collect();
    let packed = loss_and_gradients(&decoder(), &samples, &TrainOn::Own, 10_000);
    let mut sum = Gradients {
        loss: 0.0,
        norm: packed.norm,
        parameters: packed.parameters.clone(),
    };
    sum.parameters
        .iter_mut()
        .for_each(|(_, gradient)| gradient.fill(0.0));
    for (sample, own_tokens) in samples.iter().zip(&own) {
        let share = own_tokens / own.iter().sum::<f64>();
        let sample = std::slice::from_ref(sample);
        let alone = loss_and_gradients(&decoder(), sample, &TrainOn::Own, 10_000);
        sum.loss += share * alone.loss;
        for ((_, sum), (_, gradient)) in sum.parameters.iter_mut().zip(&alone.parameters) {
            for (sum, gradient) in sum.iter_mut().zip(gradient) {
                *sum += share as f32 * gradient;
            }
        }
    }
    check_same(&packed, &sum);
}

#[test]
fn documents_of_a_micro_batch_do_not_see_each_other() {
    let other = |ids: &[u32]| {
        let pair = [
            sample("without loss", &[(Prompt, ids)]),
            sample("with loss", &[(Prompt, &[4, 5]), (Answer, &[6, 7, 8])]),
        ];
        loss_and_gradients(&decoder(), &pair, &TrainOn::Own, 64)
    };
    let (one, two) = (
        other(&[9, 10, 11, 12, 13, 14]),
        other(&[20, 21, 22, 9, 10, 3]),
    );
    assert_eq!(one, two);
}

#[test]
fn the_norm_is_that_of_all_parameters_together() {
    let found = loss_and_gradients(&decoder(), &samples(5), &TrainOn::All, 64);
    let squares = found.parameters.iter().flat_map(|(_, gradient)| gradient);
    let norm = squares
        .map(|g| f64::from(*g) * f64::from(*g))
        .sum::<f64>()
        .sqrt();
    assert!(
        (found.norm / norm - 1.0).abs() < 1e-12,
        "{}, not {norm}",
        found.norm
    );
}

/// The tensors of the trainer state after `step` steps.
fn state(place: &Place, step: usize) -> Vec<(String, Vec<f32>)> {
    let path = place
        .path("state")
        .join(format!("step-{step:08}/trainer.safetensors"));
    let bytes = std::fs::read(path).expect("the state is there");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let values = |data: &[u8]| {
        data.as_chunks::<4>()
            .0
            .iter()
            .map(|word| f32::from_le_bytes(*word))
            .collect()
    };
    let mut all: Vec<_> = tensors
        .iter()
        .map(|(name, view)| (name.to_owned(), values(view.data())))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn clipping_scales_every_parameter_by_one_factor() {
    // The first moment after one step is (1 - beta1) times the clipped gradient.
    let first = |clip_norm| {
        let settings = TrainSettings {
            clip_norm,
            save_every_steps: 1,
            keep: 9,
            ..settings()
        };
        let training = Training::new(TrainSettings {
            steps: Some(2),
            warmup: 0.0,
            ..settings
        });
        let place = Place::new();
        let events = training.finish(&place);
        let norm = f64::from_bits(curve(&events)[0].2);
        let moments = state(&place, 1)
            .into_iter()
            .filter(|(name, _)| name.starts_with("first."));
        (norm, moments.collect::<Vec<_>>())
    };
    let (norm, free) = first(ClipNorm::None);
    let (same_norm, clipped) = first(ClipNorm::At(norm / 8.0));
    assert_eq!(
        norm.to_bits(),
        same_norm.to_bits(),
        "the reported norm is the one before clipping"
    );
    assert!(free.len() > 20);
    for ((name, free), (_, clipped)) in free.iter().zip(&clipped) {
        for (free, clipped) in free.iter().zip(clipped) {
            assert!(
                (free / 8.0 - clipped).abs() <= 1e-6 * free.abs(),
                "{name}: {free} {clipped}"
            );
        }
    }
    let (_, unchanged) = first(ClipNorm::At(norm * 2.0));
    assert_eq!(free, unchanged, "a gradient below the limit is left alone");
}

#[test]
fn biases_and_norms_decay_only_if_all_do() {
    let after = |decay_on| {
        let settings = TrainSettings {
            decay_on,
            save_every_steps: 1,
            keep: 9,
            ..settings()
        };
        let place = Place::new();
        Training::new(TrainSettings {
            steps: Some(3),
            ..settings
        })
        .finish(&place);
        state(&place, 2)
    };
    let without = TrainSettings {
        weight_decay: 0.0,
        save_every_steps: 1,
        keep: 9,
        ..settings()
    };
    let place = Place::new();
    Training::new(TrainSettings {
        steps: Some(3),
        ..without
    })
    .finish(&place);
    let without = state(&place, 2);
    let decayed = |after: Vec<(String, Vec<f32>)>| -> Vec<String> {
        let pairs = after.into_iter().zip(&without);
        let differs = pairs.filter(|(after, without)| after.1 != without.1);
        differs
            .map(|(after, _)| after.0)
            .filter(|name| name.starts_with("weights."))
            .collect()
    };
    let is_vector = |name: &String| name.contains("norm") || name.ends_with("bias");
    let (matrices, all) = (
        decayed(after(DecayOn::Matrices)),
        decayed(after(DecayOn::All)),
    );
    assert!(
        matrices.len() > 10 && !matrices.iter().any(is_vector),
        "{matrices:?}"
    );
    assert!(
        all.iter().any(|name| name.ends_with("norm.weight")),
        "{all:?}"
    );
}

#[test]
fn the_split_of_steps_changes_no_result_beyond_rounding() {
    let after = |tokens_per_micro_batch| {
        let settings = TrainSettings {
            tokens_per_micro_batch,
            steps: None,
            epochs: Some(4.5),
            samples_per_step: 4,
            save_every_steps: 1,
            keep: 99,
            ..settings()
        };
        let place = Place::new();
        let events = Training::new(settings).finish(&place);
        (curve(&events), state(&place, 10))
    };
    let ((curve, weights), (other_curve, other_weights)) = (after(64), after(1000));
    assert_eq!(curve.len(), 12);
    for (one, other) in curve.iter().zip(&other_curve) {
        let (one, other) = (f64::from_bits(one.1), f64::from_bits(other.1));
        assert!((one - other).abs() < 1e-5, "{one} and {other}");
    }
    for ((name, one), (_, other)) in weights.iter().zip(&other_weights) {
        let worst = one
            .iter()
            .zip(other)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        // Adam turns the rounding of a gradient near 0 into a step of its own size.
        assert!(worst < 1e-4, "{name} differs by {worst}");
    }
}

#[test]
fn a_loss_that_is_no_number_ends_the_training_and_is_shown() {
    let settings = TrainSettings {
        lr: 1e30,
        warmup: 0.0,
        clip_norm: ClipNorm::None,
        ..settings()
    };
    let mut shown = Vec::new();
    let result = Training::new(settings).run(&Place::new(), |event, _| {
        if let Event::Step(step) = event {
            shown.push((step.step, step.loss));
        }
    });
    let error = result.expect_err("the weights have exploded");
    let TrainError::NotFinite {
        step,
        loss,
        samples,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!((*step, samples.len()), (2, 4));
    assert!(
        samples.iter().all(|id| error.to_string().contains(id)),
        "{error}"
    );
    assert!(!loss.is_finite() || error.to_string().contains("norm"));
    let last = shown.last().expect("steps");
    assert_eq!((last.0, last.1.to_bits()), (2, loss.to_bits()));
}

#[test]
fn a_parameter_that_no_gradient_reaches_is_named() {
    // Nothing flows through matrices that are 0.
    let mut training = Training::new(settings());
    let config = ModelConfig {
        initializer_range: 0.0,
        ..config()
    };
    training.start = Start::FromScratch {
        config: Box::new(config),
        seed: 5,
    };
    let error = training
        .run(&Place::new(), |_, _| {})
        .expect_err("queries are idle");
    let TrainError::NoGradient { names } = &error else {
        panic!("{error}")
    };
    assert!(
        names
            .iter()
            .any(|name| name == "model.layers.0.self_attn.q_proj.weight"),
        "{error}"
    );
    assert!(
        !names.iter().any(|name| name.ends_with("k_proj.bias")),
        "{error}"
    );
}

#[test]
fn eight_samples_are_learned_by_heart() {
    let settings = TrainSettings {
        steps: Some(60),
        samples_per_step: 8,
        tokens_per_micro_batch: 512,
        lr: 2e-2,
        weight_decay: 0.0,
        ..settings()
    };
    let mut training = Training::new(settings);
    training.samples = samples(8);
    let curve = curve(&training.finish(&Place::new()));
    let loss = |step: usize| f64::from_bits(curve[step].1);
    assert!(
        loss(0) > 3.0 && loss(59) < 0.05,
        "from {} to {}",
        loss(0),
        loss(59)
    );
}
