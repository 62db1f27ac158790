//! The learning rate against the values of `transformers` (golden/README.md).

use crate::miniature::settings;
use serde::Deserialize;
use train::{Schedule, TrainSettings, learning_rate, warmup_steps};

#[derive(Debug, Deserialize)]
struct Case {
    schedule: Schedule,
    min_lr_ratio: f64,
    warmup: f64,
    warmup_steps: usize,
    steps: usize,
    at: Vec<usize>,
    shares: Vec<f64>,
}

#[test]
fn the_rate_is_that_of_transformers() {
    let cases = include_str!("golden/schedules.jsonl").lines();
    let cases: Vec<Case> = cases
        .map(|line| serde_json::from_str(line).expect("a case"))
        .collect();
    assert!(cases.len() > 70);
    for case in cases {
        assert_eq!(
            warmup_steps(case.warmup, case.steps),
            case.warmup_steps,
            "{case:?}"
        );
        let (schedule, warmup) = (case.schedule, case.warmup);
        let min_lr_ratio = case.min_lr_ratio;
        let settings = TrainSettings {
            schedule,
            warmup,
            min_lr_ratio,
            lr: 3e-4,
            ..settings()
        };
        for (step, share) in case.at.iter().zip(&case.shares) {
            let rate = learning_rate(&settings, *step, case.steps);
            assert!(
                (rate - 3e-4 * share).abs() < 1e-18,
                "step {step} of {case:?}: {rate}"
            );
        }
    }
}
