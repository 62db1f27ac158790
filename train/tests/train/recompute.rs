//! Recomputation layer by layer changes no bit of loss, gradients or checkpoint.

use crate::miniature::{Place, Training, config, curve, device, samples, settings};
use model::config::{Architecture, ModelConfig};
use model::decoder::Decoder;
use model::lora::{Linear, LoraSettings};
use train::{
    Event, Gradients, Recompute, TrainOn, TrainSettings, loss_and_gradients,
    loss_and_gradients_with,
};

fn shapes() -> [ModelConfig; 4] {
    let tied = ModelConfig {
        tie_word_embeddings: true,
        ..config()
    };
    let qwen3 = ModelConfig {
        architecture: Architecture::Qwen3,
        attention_bias: false,
        qk_norm: true,
        num_hidden_layers: 3,
        ..config()
    };
    let llama = ModelConfig {
        architecture: Architecture::Llama,
        attention_bias: false,
        num_hidden_layers: 1,
        ..config()
    };
    [config(), tied, qwen3, llama]
}

#[track_caller]
fn check_same_bits(what: &str, one: &Gradients, other: &Gradients) {
    assert_eq!(one.loss.to_bits(), other.loss.to_bits(), "{what}: loss");
    assert_eq!(one.norm.to_bits(), other.norm.to_bits(), "{what}: norm");
    assert_eq!(one.parameters.len(), other.parameters.len());
    for ((name, one), (_, other)) in one.parameters.iter().zip(&other.parameters) {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(!one.is_empty(), "{what}: {name}");
        assert!(bits(one) == bits(other), "{what}: {name}");
    }
}

#[test]
fn loss_and_gradients_have_the_same_bits() {
    let samples = samples(9);
    for shape in shapes() {
        let decoder = Decoder::init(&shape, 5, &device().autodiff());
        // One micro-batch, and several.
        for limit in [10_000, 64] {
            let plain = loss_and_gradients(&decoder, &samples, &TrainOn::Own, limit);
            let blocks = Recompute::Blocks;
            let again = loss_and_gradients_with(&decoder, &samples, &TrainOn::Own, limit, blocks);
            check_same_bits(&format!("{shape:?} at {limit}"), &plain, &again);
        }
    }
}

#[test]
fn adapters_get_their_gradients_behind_frozen_inputs() {
    let lora = LoraSettings {
        rank: 3,
        alpha: 6.0,
        dropout: 0.0,
        targets: Linear::ALL.to_vec(),
    };
    let samples = samples(9);
    for shape in shapes() {
        let mut draw = 0_u32;
        let source = |_: &str, shape: &[usize]| {
            let count = shape.iter().product();
            let next = |_| {
                draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (draw >> 8) as f32 / (1 << 24) as f32 - 0.5
            };
            Ok::<Vec<f32>, std::convert::Infallible>((0..count).map(next).collect())
        };
        let decoder = Decoder::init(&shape, 5, &device().autodiff());
        let decoder = decoder.with_adapters(&lora, source).expect("it has values");
        let plain = loss_and_gradients(&decoder, &samples, &TrainOn::Own, 64);
        let blocks = Recompute::Blocks;
        let again = loss_and_gradients_with(&decoder, &samples, &TrainOn::Own, 64, blocks);
        assert_eq!(plain.parameters.len(), shape.num_hidden_layers * 7 * 2);
        for (name, gradient) in &again.parameters {
            assert!(gradient.iter().any(|g| *g != 0.0), "no gradient at {name}");
        }
        check_same_bits(&format!("{shape:?}"), &plain, &again);
    }
}

#[test]
fn a_training_ends_with_the_same_bytes_and_may_change_in_the_middle() {
    let of = |recompute, dropout: Option<f64>| {
        let lora = dropout.map(|dropout| LoraSettings {
            rank: 2,
            alpha: 4.0,
            dropout,
            targets: vec![Linear::Query, Linear::Down],
        });
        Training::new(TrainSettings {
            recompute,
            lora,
            ..settings()
        })
    };
    for lora in [None, Some(0.0), Some(0.3)] {
        let (one, other, mixed) = (Place::new(), Place::new(), Place::new());
        let plain = curve(&of(Recompute::None, lora).finish(&one));
        let again = curve(&of(Recompute::Blocks, lora).finish(&other));
        assert_eq!(plain, again);
        assert!(one.checkpoint() == other.checkpoint());
        let stopped = of(Recompute::Blocks, lora).run(&mixed, |event, stop| {
            if matches!(event, Event::Step(step) if step.step == 7) {
                stop.stop(None);
            }
        });
        assert!(matches!(stopped, Ok(train::Outcome::Stopped { step: 7 })));
        of(Recompute::None, lora).finish(&mixed);
        assert!(one.checkpoint() == mixed.checkpoint());
    }
}
