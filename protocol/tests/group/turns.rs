//! What one path does by itself: it thinks, it answers, it is forced.

use protocol::{ByteVocab, Group, Method, PathEnd, PathKey, Settings, SetupError, SpanKind};

use crate::driver::{check, drive, group, settings, setup};

#[test]
fn a_path_that_closes_its_thought_goes_on_to_answer() {
    let write = |_: PathKey, n: usize| ["1 + 1 = 2 </think>", " \\boxed{2}"][n].to_string();
    let trace = drive(group(settings(Method::Cot, 1), 1000), &write);
    check(&trace, 0, "Thought:1 + 1 = 2 </think>|Answer: \\boxed{2}");
    assert_eq!(trace.paths[0].end, PathEnd::Answered);
    assert!(trace.paths[0].answer_ended);
    assert_eq!(
        trace.paths[0].answer_text(true).as_deref(),
        Some(" \\boxed{2}")
    );
}

#[test]
fn a_path_out_of_budget_is_forced_and_its_opening_is_graded_with_its_answer() {
    let write = |_: PathKey, n: usize| match n {
        0 => "x".repeat(500),
        _ => "2}".to_string(),
    };
    let trace = drive(group(settings(Method::Cot, 1), 1000), &write);
    assert_eq!(trace.paths[0].end, PathEnd::Forced);
    let text = trace.paths[0].answer_text(true).expect("it answered");
    assert!(text.ends_with("the answer is \\boxed{2}"), "{text}");
    assert_eq!(trace.paths[0].sampled(), 120 + 3);
}

#[test]
fn an_end_inside_a_thought_is_an_end_and_no_answer() {
    let write = |_: PathKey, _: usize| "the answer is 2".to_string();
    let trace = drive(group(settings(Method::Cot, 1), 1000), &write);
    assert_eq!(trace.paths[0].end, PathEnd::Stopped);
    assert_eq!(trace.paths[0].answer_text(true), None);
    assert_eq!(
        trace.paths[0].answer_text(false).as_deref(),
        Some("the answer is 2")
    );
}

#[test]
fn a_path_without_positions_is_forced_and_says_so() {
    let write = |_: PathKey, _: usize| "t".repeat(500);
    for positions in 90..220 {
        let trace = drive(group(settings(Method::Leap, 2), positions), &write);
        for path in &trace.paths {
            let length: usize = path.spans.iter().map(|span| span.ids.len()).sum();
            assert!(length <= positions, "{length} of {positions}");
            assert!(path.spans.iter().any(|span| span.kind == SpanKind::Answer));
        }
    }
}

#[test]
fn a_prompt_without_room_for_an_answer_is_refused() {
    let refused = Group::new(0, setup(settings(Method::Cot, 1), 60), &ByteVocab);
    let error = refused.expect_err("it does not fit");
    assert!(matches!(
        error,
        SetupError::TooLong {
            prompt: 10,
            positions: 60,
            ..
        }
    ));
    let message = error.to_string();
    assert!(
        message.contains("10 tokens") && message.contains("60 positions"),
        "{message}"
    );
}

#[test]
fn what_a_path_is_made_to_begin_with_is_given_and_not_its_own() {
    let mut setup = setup(settings(Method::Cot, 3), 1000);
    setup.beginnings = vec![
        b"bad".map(u32::from).to_vec(),
        b"good".map(u32::from).to_vec(),
    ];
    let group = Group::new(0, setup, &ByteVocab).expect("it fits");
    let write = |_: PathKey, n: usize| ["so </think>", "2"][n].to_string();
    let trace = drive(group, &write);
    check(&trace, 0, "Beginning:bad|Thought:so </think>|Answer:2");
    check(&trace, 1, "Beginning:good|Thought:so </think>|Answer:2");
    check(&trace, 2, "Beginning:bad|Thought:so </think>|Answer:2");
    // The last token ends the text.
    assert_eq!(
        (trace.paths[0].sampled(), trace.paths[0].injected()),
        (11 + 2, 3)
    );
}

#[test]
fn turns_limit_thoughts_and_leave_summaries_out() {
    let settings = Settings {
        turns: Some(2),
        max_tokens: 10_000,
        ..settings(Method::Leap, 2)
    };
    let write = |_: PathKey, _: usize| "t".repeat(500);
    let trace = drive(group(settings, 5000), &write);
    let path = &trace.paths[0];
    let of = |kind| {
        let spans = path.spans.iter().filter(|span| span.kind == kind);
        spans.map(|span| span.ids.len()).collect::<Vec<_>>()
    };
    assert_eq!(of(SpanKind::Thought), [40, 40]);
    assert_eq!(of(SpanKind::Summary), [24]);
    assert_eq!(path.end, PathEnd::Forced);
    assert_eq!(trace.blocks.len(), 1);
}
