//! Looks at samples that are not trained on: what they tell, when they end a training, and that
//! nothing they do changes the weights.

use crate::miniature::{Place, Training, curve, samples, settings};
use model::checkpoint;
use model::device::Dtype;
use protocol::{Sample, SpanKind};
use train::{
    Chosen, Event, HeldOut, LookReport, Outcome, Rehearsal, TrainError, TrainOn, TrainSettings,
    loss_and_gradients,
};

fn training(patience: usize, checkpoint: Chosen) -> Training {
    let mut training = Training::new(TrainSettings {
        held_out: Some(HeldOut {
            every_steps: 3,
            patience,
            checkpoint,
        }),
        ..settings()
    });
    training.held_out = samples(14).split_off(10);
    training
}

fn looks(events: &[Event]) -> Vec<LookReport> {
    let look = |event: &Event| match event {
        Event::Look(look) => Some(look.clone()),
        _ => None,
    };
    events.iter().filter_map(look).collect()
}

/// The loss on these samples of the checkpoint that a training has written.
fn loss_of(place: &Place, samples: &[Sample]) -> f64 {
    let device = crate::miniature::device().autodiff();
    let (_, decoder) = checkpoint::load(&place.path("out"), &device, Dtype::F32).expect("it loads");
    loss_and_gradients(&decoder, samples, &TrainOn::Own, 64).loss
}

#[test]
fn looks_tell_the_loss_by_kind_and_change_nothing() {
    let (with, without) = (Place::new(), Place::new());
    let training = training(0, Chosen::Last);
    let events = training.finish(&with);
    let mut plain = Training::new(settings());
    plain.samples = training.samples.clone();
    plain.finish(&without);
    assert!(with.checkpoint() == without.checkpoint());

    let looks = looks(&events);
    let steps: Vec<usize> = looks.iter().map(|look| look.step).collect();
    assert_eq!(steps, [0, 3, 6, 9, 12, 15, 18, 20]);
    assert!(!looks[0].best && looks[1].best);
    let last = looks.last().expect("a look");
    let expected = loss_of(&with, &training.held_out);
    assert!(
        (last.loss - expected).abs() < 1e-6,
        "{} {expected}",
        last.loss
    );
    // The whole is the mean of what the path wrote itself.
    let own = last.kinds.iter().filter(|part| part.kind.is_sampled());
    let (sum, count) = own.fold((0.0, 0), |(sum, count), part| {
        (sum + part.loss * part.tokens as f64, count + part.tokens)
    });
    assert!((sum / count as f64 - last.loss).abs() < 1e-9);
    let comments = last
        .kinds
        .iter()
        .find(|part| part.kind == SpanKind::Comment);
    let tokens: usize = training
        .held_out
        .iter()
        .map(|sample| sample.tokens(|kind| kind == SpanKind::Comment))
        .sum();
    assert_eq!(comments.expect("comments too").tokens, tokens as u64);
}

/// Ten samples of noise are soon learned by heart, and the others get worse.
fn overfit(patience: usize, chosen: Chosen) -> Training {
    let mut training = training(patience, chosen);
    training.settings.lr = 3e-2;
    training.settings.steps = Some(60);
    training
}

#[test]
fn the_best_weights_become_the_checkpoint_and_patience_ends_it() {
    let whole = looks(&overfit(0, Chosen::Last).finish(&Place::new()));
    let best = whole[1..]
        .iter()
        .min_by(|a, b| a.loss.total_cmp(&b.loss))
        .expect("looks");
    assert!(best.step < 50, "it gets worse: {}", best.step);
    let place = Place::new();
    let training = overfit(2, Chosen::Best);
    let events = training.finish(&place);
    let told = looks(&events);
    let ended = told.last().expect("a look").step;
    assert!(ended < 60, "it ended early");
    assert_eq!(curve(&events).len(), ended);
    let kept = told.iter().rfind(|look| look.best).expect("a best");
    assert_eq!(
        told.len() - 1 - told.iter().position(|l| l == kept).expect("it"),
        2
    );
    let found = loss_of(&place, &training.held_out);
    assert!((found - kept.loss).abs() < 1e-6, "{found} {}", kept.loss);

    // Stopped anywhere, within a look too, it ends with the same.
    for at in [kept.step - 1, kept.step, ended - 1] {
        let other = Place::new();
        let stopped = training.run(&other, |event, stop| match event {
            Event::Step(step) if step.step == at => stop.stop(None),
            _ => {}
        });
        assert!(
            matches!(stopped, Ok(Outcome::Stopped { .. })),
            "{stopped:?}"
        );
        training.finish(&other);
        assert!(other.checkpoint() == place.checkpoint(), "stopped at {at}");
    }
    let other = Place::new();
    let stopped = training.run(&other, |event, stop| {
        if matches!(
            event,
            Event::LookBatch {
                step: 6,
                done: 1,
                ..
            }
        ) {
            stop.stop(None);
        }
    });
    assert!(
        matches!(stopped, Ok(Outcome::Stopped { step: 6 })),
        "{stopped:?}"
    );
    let rest = training.finish(&other);
    assert_eq!(looks(&rest)[0].step, 6, "the look is made again");
    assert!(other.checkpoint() == place.checkpoint());
}

#[test]
fn a_loss_that_is_no_number_is_never_the_best() {
    let mut training = training(0, Chosen::Best);
    // The first step breaks the weights; the second one finds out.
    training.settings.lr = 1e30;
    training.settings.warmup = 0.0;
    training.settings.held_out = Some(HeldOut {
        every_steps: 1,
        patience: 0,
        checkpoint: Chosen::Best,
    });
    let (place, mut told) = (Place::new(), Vec::new());
    let error = training.run(&place, |event, _| told.push(event.clone()));
    assert!(
        matches!(error, Err(TrainError::NotFinite { step: 2, .. })),
        "{error:?}"
    );
    let looks = looks(&told);
    assert!(!looks[1].loss.is_finite() && !looks[1].best, "{looks:?}");
    assert!(place.states().is_empty(), "{:?}", place.states());
}

#[test]
fn best_weights_that_cannot_be_written_keep_the_steps_behind_them() {
    let (undisturbed, place) = (Place::new(), Place::new());
    let training = overfit(2, Chosen::Best);
    let told = looks(&training.finish(&undisturbed));
    let last = told.last().expect("a look").step;
    let tokenizer = place.path("tokenizer");
    let error = training.run(&place, |event, _| {
        if matches!(event, Event::Look(look) if look.step == last) {
            std::fs::rename(&tokenizer, place.path("elsewhere")).expect("it was there");
        }
    });
    assert!(
        matches!(error, Err(TrainError::Unwritten { steps, .. }) if steps == last),
        "{error:?}"
    );
    std::fs::rename(place.path("elsewhere"), &tokenizer).expect("it is back");
    let rest = training.finish(&place);
    assert!(
        curve(&rest).is_empty() && looks(&rest).is_empty(),
        "{rest:?}"
    );
    assert!(place.checkpoint() == undisturbed.checkpoint());
}

#[test]
fn a_damaged_state_that_is_gone_back_to_is_named_with_what_to_do() {
    #[track_caller]
    fn check(file: &str, what: &str) {
        let (place, undisturbed) = (Place::new(), Place::new());
        let training = overfit(2, Chosen::Best);
        let told = looks(&training.finish(&undisturbed));
        let best = told.iter().rfind(|look| look.best).expect("a best").step;
        let stop = training.run(&place, |event, stop| {
            if matches!(event, Event::Step(step) if step.step == best + 1) {
                stop.stop(None);
            }
        });
        assert!(matches!(stop, Ok(Outcome::Stopped { .. })), "{stop:?}");
        let state = |step: usize| place.path("state").join(format!("step-{step:08}"));
        let damaged = state(best).join(file);
        let mut bytes = std::fs::read(&damaged).expect("a state");
        let digit = bytes.iter().rposition(u8::is_ascii_digit).expect("one");
        bytes[digit] ^= 1;
        std::fs::write(&damaged, bytes).expect("written");
        let error = training.run(&place, |_, _| {}).expect_err("it is needed");
        let advice = format!(
            "`{}`: delete it and the states of later",
            state(best).display()
        );
        assert!(error.to_string().contains(&advice), "{error}");
        let source = std::error::Error::source(&error)
            .expect("a cause")
            .to_string();
        assert!(source.contains(what), "{source}");
        for step in best..=60 {
            let _ = std::fs::remove_dir_all(state(step));
        }
        training.finish(&place);
        assert!(place.checkpoint() == undisturbed.checkpoint());
    }
    check("manifest.json", "manifest.json` is damaged");
    check("trainer.safetensors", "trainer.safetensors` is damaged");
}

#[test]
fn held_out_samples_and_settings_belong_together() {
    #[track_caller]
    fn check(training: &Training, words: &str) {
        let error = training.run(&Place::new(), |_, _| {}).expect_err(words);
        assert!(error.to_string().contains(words), "{error}");
    }
    let mut without = training(0, Chosen::Last);
    without.held_out.clear();
    check(&without, "there are no held-out samples");
    let mut unused = training(0, Chosen::Last);
    unused.settings.held_out = None;
    check(&unused, "have no `held_out`");
    let mut seen = training(0, Chosen::Last);
    seen.held_out[1].problem = "s4".to_owned();
    check(&seen, "which is trained on too");
    let error = seen.run(&Place::new(), |_, _| {}).expect_err("seen");
    assert!(matches!(error, TrainError::Sample(_)));
}

#[test]
fn the_worst_micro_batch_is_tried_and_changes_nothing() {
    let (tried, plain) = (Place::new(), Place::new());
    let mut training = Training::new(settings());
    training.finish(&plain);
    training.rehearsal = Rehearsal::Worst;
    let events = training.finish(&tried);
    assert!(tried.checkpoint() == plain.checkpoint());
    let worst = events.iter().find_map(|event| match event {
        Event::Worst(worst) => Some(*worst),
        _ => None,
    });
    let worst = worst.expect("it is told");
    assert!(worst.tokens <= 64 && worst.tokens > 40, "{worst:?}");
    assert!(worst.longest <= worst.tokens && worst.peak_bytes.is_none_or(|bytes| bytes > 1 << 20));
}
