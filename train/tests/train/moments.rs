//! Moments in 8 bits: near to those in f32, saved and gone on from bitwise.

use crate::miniature::{Place, Training, config, curve, settings};
use model::config::ModelConfig;
use model::device::Dtype;
use safetensors::{Dtype as Format, SafeTensors};
use train::{Event, Outcome, Precision, Start, TrainSettings};

/// A training of a model most of whose matrices are large enough for 8 bits.
fn training(moments: Precision, steps: usize) -> Training {
    let mut training = Training::new(TrainSettings {
        steps: Some(steps),
        moments,
        lr: 3e-4,
        beta2: 0.999,
        ..settings()
    });
    training.start = Start::FromScratch {
        config: Box::new(ModelConfig {
            hidden_size: 64,
            intermediate_size: 192,
            vocab_size: 96,
            head_dim: 16,
            ..config()
        }),
        seed: 5,
    };
    training
}

fn losses(events: &[Event]) -> Vec<f64> {
    let loss = |event: &Event| match event {
        Event::Step(step) => Some(step.loss),
        _ => None,
    };
    events.iter().filter_map(loss).collect()
}

#[test]
fn after_200_steps_losses_are_those_with_moments_in_f32_within_1_percent() {
    let of = |moments| losses(&training(moments, 200).finish(&Place::new()));
    let (exact, eight) = (of(Precision::F32), of(Precision::EightBit));
    assert!(exact[199] < 0.8 * exact[0], "{} {}", exact[0], exact[199]);
    let off = |(one, other): (&f64, &f64)| (one / other - 1.0).abs();
    let worst = eight.iter().zip(&exact).map(off).fold(0.0, f64::max);
    // 0.9 percent when this was written, at a single step.
    assert!(worst < 0.02, "{worst}");
    assert!(worst > 0.0, "the moments were not rounded at all");
    let last = |losses: &[f64]| losses[180..].iter().sum::<f64>();
    let ratio = last(&eight) / last(&exact);
    assert!((ratio - 1.0).abs() < 0.01, "{ratio}");
}

#[test]
fn a_state_in_8_bits_goes_on_bitwise() {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let of = || {
            let mut training = training(Precision::EightBit, 12);
            training.settings.save_every_steps = 3;
            training.dtype = dtype;
            training
        };
        let whole = Place::new();
        let expected = curve(&of().finish(&whole));
        let parts = Place::new();
        let mut heard = Vec::new();
        for stop in [2, 3, 7, 11, 99] {
            let outcome = of().run(&parts, |event, interrupter| {
                heard.push(event.clone());
                if matches!(event, Event::Step(step) if step.step == stop) {
                    interrupter.stop(None);
                }
            });
            let outcome = outcome.expect("it trains");
            assert_eq!(stop == 99, matches!(outcome, Outcome::Done { .. }));
        }
        assert_eq!(curve(&heard), expected, "{dtype}");
        assert!(whole.checkpoint() == parts.checkpoint(), "{dtype}");
        let state =
            |place: &Place| std::fs::read(place.path("state/step-00000009/trainer.safetensors"));
        assert!(
            state(&whole).expect("a state") == state(&parts).expect("a state"),
            "{dtype}"
        );
    }
}

#[test]
fn a_state_holds_codes_and_scales_of_large_matrices_and_f32_of_the_rest() {
    let place = Place::new();
    let mut training = training(Precision::EightBit, 4);
    training.settings.save_every_steps = 3;
    training.finish(&place);
    let file = format!("state/{}/trainer.safetensors", place.states()[0]);
    let bytes = std::fs::read(place.path(&file)).expect("a state");
    let state = SafeTensors::deserialize(&bytes).expect("it is valid");
    let check = |name: &str, format: Format, shape: &[usize]| {
        let found = state.tensor(name).expect(name);
        assert_eq!((found.dtype(), found.shape()), (format, shape), "{name}");
    };
    let gate = "model.layers.1.mlp.gate_proj.weight";
    check(&format!("weights.{gate}"), Format::F32, &[192, 64]);
    for moment in ["first", "second"] {
        check(&format!("{moment}.{gate}"), Format::U8, &[192, 64]);
        check(&format!("{moment}.{gate}.scale"), Format::F32, &[48]);
        check(&format!("{moment}.model.norm.weight"), Format::F32, &[64]);
    }
    // A training with moments in f32 is another one: its states are not taken.
    let mut heard = Vec::new();
    let other = Training {
        settings: TrainSettings {
            moments: Precision::F32,
            ..training.settings.clone()
        },
        ..training
    };
    std::fs::remove_dir_all(place.path("out")).expect("the checkpoint is there");
    let outcome = other.run(&place, |event, _| heard.push(event.clone()));
    assert!(matches!(outcome, Ok(Outcome::Done { .. })));
    let passed = |event: &&Event| matches!(event, Event::PassedOver { .. });
    assert_eq!(heard.iter().filter(passed).count(), 1);
    assert_eq!(curve(&heard).len(), 4);
}
