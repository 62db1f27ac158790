//! Which samples a training will see, and how many steps that takes.

use crate::miniature::{sample, samples, settings};
use protocol::{Sample, SpanKind};
use train::{KindWeights, SettingsError, TrainOn, TrainSettings, order, plan};

/// Settings with this budget.
fn budget(epochs: Option<f64>, steps: Option<usize>, tokens: Option<u64>) -> TrainSettings {
    TrainSettings {
        epochs,
        steps,
        tokens,
        warmup: 0.0,
        ..settings()
    }
}

/// Steps and samples of 10 samples in steps of 4.
#[track_caller]
fn check(settings: &TrainSettings, steps: usize, seen: u64) {
    let plan = plan(settings, &samples(10), 3).expect("the settings work");
    assert_eq!((plan.steps, plan.samples), (steps, seen), "{plan:?}");
}

#[test]
fn a_budget_in_epochs_counts_samples() {
    check(&budget(Some(2.0), None, None), 5, 20);
    // The last step is short.
    check(&budget(Some(1.0), None, None), 3, 10);
    check(&budget(Some(0.5), None, None), 2, 5);
    check(&budget(Some(1.26), None, None), 4, 13);
}

#[test]
fn a_budget_in_steps_reaches_over_epochs() {
    check(&budget(None, Some(3), None), 3, 12);
    check(&budget(None, Some(100), None), 100, 400);
}

#[test]
fn a_budget_in_tokens_ends_with_the_step_that_reaches_it() {
    let of_steps = |steps| {
        plan(&budget(None, Some(steps), None), &samples(10), 3)
            .expect("works")
            .trained_tokens
    };
    for steps in [2, 3, 7] {
        let (below, exact) = (of_steps(steps - 1), of_steps(steps));
        check(&budget(None, None, Some(exact)), steps, 4 * steps as u64);
        check(
            &budget(None, None, Some(below + 1)),
            steps,
            4 * steps as u64,
        );
        check(
            &budget(None, None, Some(exact + 1)),
            steps + 1,
            4 * steps as u64 + 4,
        );
    }
}

#[test]
fn whole_epochs_hold_every_token_once() {
    let samples = samples(10);
    let plan = plan(&budget(Some(3.0), None, None), &samples, 3).expect("the settings work");
    let tokens: usize = samples.iter().map(protocol::Sample::len).sum();
    let own: usize = samples
        .iter()
        .map(|sample| sample.tokens(|kind| kind.is_sampled()))
        .sum();
    assert_eq!(
        (plan.tokens, plan.trained_tokens),
        (3 * tokens as u64, 3 * own as u64)
    );
}

#[test]
fn samples_without_a_token_that_carries_loss_are_refused() {
    #[track_caller]
    fn check(settings: &TrainSettings, samples: &[Sample]) {
        let error = plan(settings, samples, 3).expect_err("nothing is trained on");
        assert_eq!(error, SettingsError::NoLoss);
        let error = order(settings, samples, 3).expect_err("nothing is trained on");
        assert!(error.to_string().contains("`train_on`"), "{error}");
    }
    let of_summaries = TrainSettings {
        train_on: TrainOn::Weights(KindWeights {
            summary: 1.0,
            ..KindWeights::default()
        }),
        ..budget(None, Some(3), None)
    };
    let thoughts: [(SpanKind, &[u32]); 1] = [(SpanKind::Thought, &[5, 6, 7])];
    let one_token: [(SpanKind, &[u32]); 1] = [(SpanKind::Thought, &[5])];
    let in_tokens = budget(None, None, Some(10));
    check(&of_summaries, &[sample("s", &thoughts)]);
    check(&in_tokens, &[sample("s", &one_token)]);
    check(&in_tokens, &[]);
    check(&budget(Some(1.0), None, None), &[sample("s", &one_token)]);
}

#[test]
fn a_single_step_of_warm_up_is_refused() {
    let one = budget(None, Some(1), None);
    let warm = TrainSettings {
        warmup: 0.05,
        ..one.clone()
    };
    let error = plan(&warm, &samples(10), 3).expect_err("its rate is 0");
    assert_eq!(error, SettingsError::OnlyWarmup);
    assert_eq!(plan(&one, &samples(10), 3).expect("works").steps, 1);
}
