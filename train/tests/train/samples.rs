//! Which samples are refused, and what the kinds of spans weigh.

use crate::miniature::{TOKENIZER, sample};
use protocol::{Sample, SpanKind};
use train::{KindWeights, Requirements, TrainOn, check, count_kinds};

use SpanKind::{Answer, Comment, Prompt, Summary, Thought, Trigger};

fn needs() -> Requirements<'static> {
    let (bos, vocabulary) = (Some(1), 10);
    Requirements {
        tokenizer_hash: TOKENIZER,
        bos,
        vocabulary,
        positions: 7,
        max_tokens: 8,
    }
}

#[track_caller]
fn check_refused(samples: &[Sample], words: &str) {
    let error = check(samples, &TrainOn::Own, &needs()).expect_err("a sample cannot be used");
    assert!(
        error.to_string().contains(words),
        "`{error}` does not say `{words}`"
    );
}

#[track_caller]
fn check_accepted(spans: &[(SpanKind, &[u32])]) {
    assert_eq!(
        check(&[sample("a", spans)], &TrainOn::Own, &needs()),
        Ok(())
    );
}

#[test]
fn samples_that_cannot_be_trained_on_are_named() {
    let good = sample("good", &[(Prompt, &[1, 3]), (Answer, &[4, 2])]);
    assert_eq!(
        check(std::slice::from_ref(&good), &TrainOn::Own, &needs()),
        Ok(())
    );
    let beside = |bad: Sample| [good.clone(), bad];
    check_refused(&[], "no samples");
    check_refused(&beside(good.clone()), "two samples have the id `good`");
    let other = Sample {
        tokenizer: "other".into(),
        ..good.clone()
    };
    check_refused(&[other], "sample `good` was made with tokenizer other, but");
    check_refused(
        &beside(sample("b", &[(Thought, &[3; 9])])),
        "`b` has 9 tokens, more than `max_",
    );
    check_refused(
        &beside(sample("b", &[(Thought, &[3; 8])])),
        "`b` has 8 tokens, but the model",
    );
    check_refused(
        &beside(sample("b", &[(Thought, &[3, 10])])),
        "`b` holds token 10",
    );
    check_refused(
        &beside(sample("b", &[(Prompt, &[3, 4]), (Comment, &[5])])),
        "no token of",
    );
    check_refused(&beside(sample("b", &[])), "no token of sample `b`");
    // The first token is never predicted, so this answer has nothing to learn.
    check_refused(
        &beside(sample("b", &[(Answer, &[5])])),
        "no token of sample `b`",
    );
    check_refused(
        &beside(sample("b", &[(Prompt, &[1, 1]), (Answer, &[4])])),
        "two begin-of-text",
    );
    check_refused(
        &beside(sample("b", &[(Prompt, &[1]), (Answer, &[1])])),
        "two begin-of-text",
    );
}

#[test]
fn a_begin_of_text_token_may_stand_anywhere_but_twice_at_the_start() {
    check_accepted(&[(Prompt, &[3, 1, 1]), (Answer, &[4])]);
    check_accepted(&[(Prompt, &[1, 3, 1]), (Answer, &[4])]);
}

/// `#` where a token of `thought | trigger | summary | comment | answer` carries loss.
#[track_caller]
fn check_mask(train_on: TrainOn, expected: &str) {
    let kinds = [Prompt, Thought, Trigger, Summary, Comment, Thought, Answer];
    let lengths = [2, 3, 1, 2, 3, 2, 1];
    let mut drawn = Vec::new();
    for (kind, length) in kinds.into_iter().zip(lengths) {
        let mark = if train_on.weight(kind) > 0.0 {
            "#"
        } else {
            "."
        };
        drawn.push(mark.repeat(length));
    }
    assert_eq!(drawn.join("|"), expected);
}

#[test]
fn the_kind_of_a_span_decides_its_loss() {
    check_mask(TrainOn::Own, "..|###|.|##|...|##|#");
    check_mask(TrainOn::OwnAndTrigger, "..|###|#|##|...|##|#");
    check_mask(TrainOn::All, "##|###|#|##|###|##|#");
    let weights = KindWeights {
        comment: 0.5,
        answer: 2.0,
        ..KindWeights::default()
    };
    check_mask(TrainOn::Weights(weights), "..|...|.|..|###|..|#");
}

#[test]
fn kinds_are_counted_over_all_samples() {
    let samples = [
        sample(
            "a",
            &[(Prompt, &[1, 3]), (Thought, &[4, 5, 6]), (Comment, &[7])],
        ),
        sample("b", &[(Thought, &[4, 5])]),
    ];
    let counts: Vec<_> = count_kinds(&samples, &TrainOn::Own)
        .iter()
        .map(|count| (count.kind, count.tokens, count.trained))
        .collect();
    // The first token of `b` is not predicted.
    assert_eq!(counts, [(Prompt, 2, 0), (Thought, 5, 4), (Comment, 1, 0)]);
}
