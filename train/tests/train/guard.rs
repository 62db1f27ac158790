//! Losses that jump: named, stopped at, or rolled back behind.

use crate::miniature::{Files, Place, Training, curve, settings};
use train::{Event, Guard, OnSpike, Outcome, Schedule, Start, TrainError, TrainSettings};

/// A training whose loss jumps: the samples of the second half cannot be predicted by what the model
/// learned by heart from the first half.
fn training(guard: Guard) -> Training {
    let mut training = Training::new(TrainSettings {
        steps: Some(60),
        samples_per_step: 1,
        tokens_per_micro_batch: 64,
        lr: 2e-2,
        warmup: 0.0,
        schedule: Schedule::Constant,
        guard: Some(guard),
        ..settings()
    });
    // Many copies of one sample, and a few others: those are spikes once the copies are known.
    let few = crate::miniature::samples(2);
    let copies = (0..38).map(|number| {
        let mut copy = few[0].clone();
        copy.id = format!("copy {number}");
        copy
    });
    training.samples = copies.chain([few[1].clone()]).collect();
    training
}

fn guard(then: OnSpike, most: usize) -> Guard {
    Guard {
        spike: 5.0,
        then,
        anchor_every_steps: 4,
        most,
    }
}

#[test]
fn a_spike_ends_the_training_and_names_its_samples() {
    let place = Place::new();
    let mut shown = Vec::new();
    let result = training(guard(OnSpike::Stop, 0)).run(&place, |event, _| {
        if let Event::Step(step) = event {
            shown.push((step.step, step.loss));
        }
    });
    let error = result.expect_err("the odd sample is a spike");
    let TrainError::Spike {
        step,
        loss,
        median,
        samples,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(samples, &["s1"]);
    assert!(loss > &(5.0 * median), "{error}");
    let last = shown.last().expect("steps");
    assert_eq!((last.0, last.1.to_bits()), (*step, loss.to_bits()));
    assert!(!place.path("out").exists());
}

/// The checkpoint of an undisturbed run, and its roll-backs: the step, where to.
fn undisturbed(most: usize) -> (Files, Vec<(usize, usize)>, usize) {
    let place = Place::new();
    let events = training(guard(OnSpike::RollBack, most)).finish(&place);
    let rolled = events.iter().filter_map(|event| match event {
        Event::RolledBack { step, to, .. } => Some((*step, *to)),
        _ => None,
    });
    (place.checkpoint(), rolled.collect(), curve(&events).len())
}

#[test]
fn a_roll_back_goes_to_the_anchor_and_on_behind_the_spike() {
    let (_, rolled, steps) = undisturbed(9);
    assert!(!rolled.is_empty());
    for (step, to) in &rolled {
        assert!(to % 4 == 0 && to < step && step - to <= 9, "{rolled:?}");
    }
    // Every step is told once.
    assert_eq!(steps, 60);
}

#[test]
fn roll_backs_are_the_same_wherever_a_run_was_stopped() {
    let (expected, rolled, _) = undisturbed(9);
    let spike = rolled[0].0;
    for at in [spike - 5, spike - 1, spike, spike + 1, spike + 7] {
        let place = Place::new();
        let training = training(guard(OnSpike::RollBack, 9));
        let outcome = training.run(&place, |event, stop| {
            if matches!(event, Event::Step(step) if step.step == at) {
                stop.stop(None);
            }
        });
        assert!(
            matches!(outcome, Ok(Outcome::Stopped { .. })),
            "{outcome:?}"
        );
        training.finish(&place);
        assert!(place.checkpoint() == expected, "stopped at {at}");
    }
}

#[test]
fn the_number_of_roll_backs_is_bounded() {
    let error = training(guard(OnSpike::RollBack, 0)).run(&Place::new(), |_, _| {});
    assert!(matches!(error, Err(TrainError::Spike { .. })), "{error:?}");
    // Weights that are no numbers stay so however often it goes back to the start.
    let mut broken = Training::new(TrainSettings {
        lr: 1e30,
        warmup: 0.0,
        guard: Some(guard(OnSpike::RollBack, 3)),
        ..settings()
    });
    broken.start = Start::FromScratch {
        config: Box::new(crate::miniature::config()),
        seed: 5,
    };
    let mut told = 0;
    let error = broken.run(&Place::new(), |event, _| {
        told += usize::from(matches!(event, Event::RolledBack { to: 0, .. }));
    });
    assert!(
        matches!(error, Err(TrainError::NotFinite { .. })),
        "{error:?}"
    );
    assert_eq!(told, 3);
}

#[test]
fn weights_that_their_own_update_broke_are_no_anchor() {
    // Every update breaks the weights, and every step could be an anchor.
    let mut broken = Training::new(TrainSettings {
        lr: 1e30,
        warmup: 0.0,
        keep: 1,
        guard: Some(Guard {
            anchor_every_steps: 1,
            ..guard(OnSpike::RollBack, 3)
        }),
        ..settings()
    });
    broken.start = Start::FromScratch {
        config: Box::new(crate::miniature::config()),
        seed: 5,
    };
    let mut rolled = Vec::new();
    let error = broken.run(&Place::new(), |event, _| {
        if let Event::RolledBack { step, to, .. } = event {
            rolled.push((*step, *to));
        }
    });
    assert!(
        matches!(error, Err(TrainError::NotFinite { step: 8, .. })),
        "{error:?}"
    );
    assert_eq!(rolled, [(2, 0), (4, 0), (6, 0)]);
}

#[test]
fn anchors_that_are_not_believed_yet_are_the_same_wherever_a_run_was_stopped() {
    let mut training = training(Guard {
        anchor_every_steps: 1,
        ..guard(OnSpike::RollBack, 9)
    });
    training.settings.keep = 1;
    let (place, mut rolled) = (Place::new(), Vec::new());
    for event in training.finish(&place) {
        if let Event::RolledBack { step, to, .. } = event {
            rolled.push((step, to));
        }
    }
    let (spike, to) = rolled[0];
    // The weights that gave the spike came of the step before it.
    assert_eq!(to, spike - 2, "{rolled:?}");
    let expected = place.checkpoint();
    for at in [spike - 2, spike - 1, spike, spike + 1] {
        let place = Place::new();
        let outcome = training.run(&place, |event, stop| {
            if matches!(event, Event::Step(step) if step.step == at) {
                stop.stop(None);
            }
        });
        assert!(
            matches!(outcome, Ok(Outcome::Stopped { .. })),
            "{outcome:?}"
        );
        training.finish(&place);
        assert!(place.checkpoint() == expected, "stopped at {at}");
    }
}
