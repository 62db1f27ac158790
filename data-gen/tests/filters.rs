//! Every filter passes what is as it should be, and fails what it is for.

use data_gen::filters::{Column, Filter, FilterSettings, PathVerdicts, columns};
use data_gen::synthetic::{Family, Order};
use infer::scripted::ScriptedEngine;
use infer::simulated::{SimulatedEngine, Simulation};
use infer::solve::solve;
use proptest::prelude::*;
use protocol::grade::AnswerKind;
use protocol::preset::Preset;
use protocol::{
    ByteVocab, Finished, Gold, Group, Method, Origin, PathEnd, Problem, PromptSet, Question,
    Router, Sample, Settings, Setup, SpanKind, Stream, Trace, Vocab,
};
use serde_json::{Value, json};
use std::ops::ControlFlow;

/// Bytes of a turn: a thought of this length ends in a block.
const TURN: usize = 120;

fn problem(text: &str) -> Problem {
    Problem {
        id: "p".into(),
        question: Question {
            text: text.into(),
            kind: AnswerKind::Integer,
            choices: Vec::new(),
        },
        gold: Gold::new("42"),
        source: None,
        split: None,
    }
}

fn limits() -> FilterSettings {
    FilterSettings {
        max_tokens: 4000,
        summary_tokens: 64,
        summary_least: 20,
        progress: 0.95,
        copying: 0.98,
        repetition: 0.2,
        hesitation: 40.0,
        language: 0.01,
        uptake: 0.5,
        pass_rate: [0.1, 1.0],
        all_right: 0.0,
    }
}

/// A thought that fills a turn.
fn turn(text: &str) -> String {
    const MORE: &str = "Six rows of seven stones each stand before me, and the task is only to count all of them with some care \
                        and without haste; half of six rows make three rows, so twice that.";
    let all = format!("{text} {MORE}");
    all.chars().take(TURN).collect()
}

/// What the paths say, request by request: two of them on "What is 6 * 7?".
fn group(say: [&[&str]; 2], method: Method) -> Trace {
    group_on("What is 6 * 7?", say, method)
}

fn group_on(question: &str, say: [&[&str]; 2], method: Method) -> Trace {
    let setup = Setup {
        question: problem(question).question,
        settings: Settings {
            paths: 2,
            turn_tokens: TURN,
            max_tokens: 1500,
            summary_tokens: 64,
            answer_tokens: 60,
            peers: 1,
            router: Router::All,
            ..Preset::Default.settings(method)
        },
        prompts: PromptSet::clean(),
        stream: Stream::of_run(1),
        positions: 5000,
        beginnings: Vec::new(),
        planted: 0,
    };
    let vocab = ByteVocab;
    let mut engine = ScriptedEngine::new(&vocab, 5000);
    for (path, texts) in (0..).zip(say) {
        for text in texts {
            engine = engine.say(0, path, text);
        }
    }
    let mut groups = [Group::new(0, setup, &vocab).expect("a group")];
    solve(&mut groups, &mut engine, &vocab, &mut |_| {
        ControlFlow::Continue(())
    })
    .expect("it ends");
    let [group] = groups;
    group.into_trace("p".into(), 0, origin())
}

fn origin() -> Origin {
    Origin {
        seed: 1,
        recipe: String::new(),
        model: "scripted".into(),
        tokenizer: ByteVocab.hash().into(),
        device: String::new(),
    }
}

const SUMMARY: &str = " three rows of 7 are 21. </summarize>";
const PEER: &str = " 35 and 7 make 42. </summarize>";
const ANSWER: &str = "\n\nThe answer is \\boxed{42}.";

/// The path that is looked at, with what it says; the other one is as it should be.
fn path(say: &[&str]) -> Trace {
    let first = turn("Five rows are 35, one more row is there.");
    let other = [
        &first,
        PEER,
        "They have 21 for half, which matches.\n\n</think>",
        ANSWER,
    ];
    group(
        [say, &other.each_ref().map(|text| text as &str)],
        Method::LeapT,
    )
}

/// A path as it should be.
fn good() -> Trace {
    let first = turn("Three rows are 21.");
    path(&[
        &first,
        SUMMARY,
        "Peer 1 gets 42 from 35, and twice 21 is that.\n\n</think>",
        ANSWER,
    ])
}

fn look(trace: &Trace, filter: Filter) -> Column {
    look_with(trace, filter, &limits())
}

fn look_with(trace: &Trace, filter: Filter, settings: &FilterSettings) -> Column {
    let question = &trace.setup.question.text;
    columns(trace, &problem(question), settings)[0].columns[&filter].clone()
}

#[track_caller]
fn passes(trace: &Trace, filter: Filter, value: Value) {
    assert_eq!(
        look(trace, filter),
        Column { value, pass: true },
        "{}",
        filter.name()
    );
}

#[track_caller]
fn fails(trace: &Trace, filter: Filter, value: Value) {
    assert_eq!(
        look(trace, filter),
        Column { value, pass: false },
        "{}",
        filter.name()
    );
}

/// The good path with its thoughts, summary or answer replaced.
fn with(first: &str, summary: &str, then: &str, answer: &str) -> Trace {
    let first = turn(first);
    path(&[&first, summary, then, answer])
}

const THEN: &str = "Peer 1 gets 42 from 35, and twice 21 is that.\n\n</think>";

#[test]
fn a_path_as_it_should_be_passes_every_filter() {
    let trace = good();
    assert_eq!(trace.blocks.len(), 1, "one exchange");
    let path = &columns(&trace, &problem("What is 6 * 7?"), &limits())[0];
    let faults: Vec<_> = path
        .faults(&Filter::ALL)
        .map(|filter| (filter, &path.columns[&filter]))
        .collect();
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(
        (path.id.as_str(), path.columns.len()),
        ("p#0.0", Filter::ALL.len())
    );
    let line = serde_json::to_string(path).expect("JSON");
    assert_eq!(
        serde_json::from_str::<PathVerdicts>(&line).expect("the same"),
        *path
    );
}

#[test]
fn finished() {
    passes(&good(), Filter::Finished, json!("answered"));
    let mut lost = good();
    lost.paths[0].end = PathEnd::Failed("the server is gone".into());
    fails(&lost, Filter::Finished, json!("failed"));
    lost.paths[0].end = PathEnd::Released;
    fails(&lost, Filter::Finished, json!("released"));
}

#[test]
fn answer() {
    passes(&good(), Filter::Answer, json!("42"));
    fails(
        &with("Three rows are 21.", SUMMARY, THEN, "It is \\boxed{41}."),
        Filter::Answer,
        json!("41"),
    );
    // A right number in the thought, and none in the answer.
    fails(
        &with("It is \\boxed{42}.", SUMMARY, THEN, "I do not know."),
        Filter::Answer,
        json!(null),
    );
}

#[test]
fn answer_ended() {
    passes(&good(), Filter::AnswerEnded, json!(true));
    let long = format!("The answer is \\boxed{{42}}. {}", "And so on. ".repeat(9));
    fails(
        &with("Three rows are 21.", SUMMARY, THEN, &long),
        Filter::AnswerEnded,
        json!(false),
    );
}

#[test]
fn summaries() {
    let count = |cut: usize, longest: usize| json!({ "count": 1, "cut": cut, "longest": longest });
    passes(&good(), Filter::Summaries, count(0, SUMMARY.len()));
    let endless = " 21 ".repeat(40);
    fails(
        &with("Three rows.", &endless, THEN, ANSWER),
        Filter::Summaries,
        count(1, 64),
    );
    // Ended by the end of the thought, not by its tag.
    fails(
        &with("Three rows.", " 21 </think>", ANSWER, ""),
        Filter::Summaries,
        count(1, 4),
    );
    let short = FilterSettings {
        summary_tokens: SUMMARY.len() - 1,
        ..limits()
    };
    assert!(!look_with(&good(), Filter::Summaries, &short).pass);
}

#[test]
fn substance() {
    passes(&good(), Filter::Substance, json!(SUMMARY.len()));
    fails(
        &with("Three rows.", " 7</summarize>", THEN, ANSWER),
        Filter::Substance,
        json!(14),
    );
    let empty = " I am thinking about it. </summarize>";
    fails(
        &with("Three rows.", empty, THEN, ANSWER),
        Filter::Substance,
        json!(empty.len()),
    );
}

/// A path with two summaries.
fn twice(first: &str, second: &str, peer: &str) -> Trace {
    let thoughts = [
        turn("Three rows are 21."),
        turn("They have 42 from 35. Is that so?"),
    ];
    let other = [
        turn("Five rows are 35."),
        turn("They have 21 for the half of it."),
    ];
    group(
        [
            &[
                &thoughts[0],
                first,
                &thoughts[1],
                second,
                "Yes, others agree.\n\n</think>",
                ANSWER,
            ],
            &[
                &other[0],
                peer,
                &other[1],
                " it is 42, twice 21. </summarize>",
                "We agree.\n\n</think>",
                ANSWER,
            ],
        ],
        Method::LeapT,
    )
}

#[test]
fn progress() {
    passes(&good(), Filter::Progress, json!(null));
    let new = twice(
        SUMMARY,
        " both ways end at 42, so that is it. </summarize>",
        PEER,
    );
    assert!(look(&new, Filter::Progress).pass);
    assert!(look(&new, Filter::Progress).value.as_f64() > Some(0.1));
    // Openers are drawn anew, so the same words have another beginning.
    let same = twice(
        " the three rows of 7 are 21, no more. </summarize>",
        " the three rows of 7 are 21, no more. </summarize>",
        PEER,
    );
    let strict = FilterSettings {
        progress: 0.7,
        ..limits()
    };
    assert!(!look_with(&same, Filter::Progress, &strict).pass);
    assert!(look_with(&new, Filter::Progress, &strict).pass);
}

#[test]
fn copying() {
    let own = twice(
        SUMMARY,
        " both ways end at 42, so that is it. </summarize>",
        PEER,
    );
    assert!(look(&own, Filter::Copying).pass);
    let long = " 35 and 7 make 42 in all, by the fives. </summarize>";
    let copied = twice(SUMMARY, long, long);
    let strict = FilterSettings {
        copying: 0.7,
        ..limits()
    };
    assert!(!look_with(&copied, Filter::Copying, &strict).pass);
    assert!(look_with(&own, Filter::Copying, &strict).pass);
    // What two say in the same block, neither has heard.
    passes(
        &with("Three rows are 21.", PEER, THEN, ANSWER),
        Filter::Copying,
        json!(null),
    );
}

#[test]
fn grammar() {
    passes(&good(), Filter::Grammar, json!(null));
    let faults = |trace: &Trace, fault: &str| fails(trace, Filter::Grammar, json!(fault));
    // The path invents a peer.
    let invented = "So. <comment> Peer 2: \"42\" </comment> Good.\n\n</think>";
    faults(
        &with("Three rows.", SUMMARY, invented, ANSWER),
        "<comment> in a span of kind thought",
    );
    let control = group(
        [
            &[
                "I sum up. <summarize> 42 </summarize> <comment> x </comment></think>",
                ANSWER,
            ],
            &["</think>", ANSWER],
        ],
        Method::Cot,
    );
    faults(&control, "</summarize> in a span of kind thought");
    faults(
        &with("Three rows.", SUMMARY, THEN, "No, <summarize> 42"),
        "<summarize> in the answer",
    );
    faults(
        &with("<think> Three", SUMMARY, THEN, ANSWER),
        "<think> in a thought",
    );
    let mut unsaid = good();
    unsaid.paths[0]
        .spans
        .retain(|span| span.kind != SpanKind::Comment);
    faults(&unsaid, "</think> right behind a summary");
    // Where the comment did not fit any more, the path was made to answer.
    let thought = unsaid.paths[0]
        .spans
        .iter_mut()
        .rfind(|span| span.kind == SpanKind::Thought);
    thought.expect("a thought").kind = SpanKind::Forced;
    passes(&unsaid, Filter::Grammar, json!(null));
    let mut open = good();
    let summary = open.paths[0]
        .spans
        .iter_mut()
        .find(|span| span.kind == SpanKind::Summary);
    summary.expect("a summary").text = " 21".into();
    faults(&open, "<comment> in a summary");
    // What a peer said is in quotes, and its tags are none of its own.
    let mut nested = good();
    let comment = nested.paths[0]
        .spans
        .iter_mut()
        .find(|span| span.kind == SpanKind::Comment);
    let comment = comment.expect("a comment");
    comment.text = comment.text.replace("42", "<comment>");
    faults(&nested, "<comment> in a comment");
}

#[test]
fn comments() {
    passes(&good(), Filter::Comments, json!(null));
    let changed = |change: &dyn Fn(&mut Trace)| {
        let mut trace = good();
        change(&mut trace);
        trace
    };
    let edit = |trace: &mut Trace, kind: SpanKind, from: &str, to: &str| {
        let spans = trace.paths[0].spans.iter_mut();
        let span = spans
            .rev()
            .find(|span| span.kind == kind && span.block == Some(0))
            .expect("a span");
        assert!(span.text.contains(from), "{}", span.text);
        span.text = span.text.replacen(from, to, 1);
    };
    let said = "block 0: the comment is not what the routed peers said";
    // One byte of what a peer said.
    fails(
        &changed(&|t| edit(t, SpanKind::Comment, "35", "36")),
        Filter::Comments,
        json!(said),
    );
    fails(
        &changed(&|t| edit(t, SpanKind::Comment, "42.", "42. ")),
        Filter::Comments,
        json!(said),
    );
    fails(
        &changed(&|t| edit(t, SpanKind::Bridge, "weigh", "see")),
        Filter::Comments,
        json!("block 0: another sentence follows the comment"),
    );
    // The reader heard somebody else than the route says.
    fails(
        &changed(&|t| t.blocks[0].routes[0].peers = vec![0]),
        Filter::Comments,
        json!(said),
    );
    let gone = |t: &mut Trace| {
        t.paths[0]
            .spans
            .retain(|span| span.kind != SpanKind::Comment)
    };
    fails(
        &changed(&gone),
        Filter::Comments,
        json!("block 0: the comment is missing"),
    );
    fails(
        &changed(&|t| t.blocks.clear()),
        Filter::Comments,
        json!("1 comments, but 0 routes"),
    );
    let silent = |t: &mut Trace| {
        t.paths[1]
            .spans
            .retain(|span| span.kind != SpanKind::Summary)
    };
    fails(
        &changed(&silent),
        Filter::Comments,
        json!("block 0: path 1 is heard, and said nothing"),
    );
    // A summary that was cut, and one that the path opened itself, are heard as they were.
    passes(
        &with("Three rows.", &" 21 ".repeat(40), THEN, ANSWER),
        Filter::Comments,
        json!(null),
    );
    let own = "So far I have this: <summarize>";
    passes(
        &path(&[own, " 21 for half of it. </summarize>", THEN, ANSWER]),
        Filter::Comments,
        json!(null),
    );
}

#[test]
fn stray() {
    passes(
        &with("If a <| b |> c then", SUMMARY, THEN, ANSWER),
        Filter::Stray,
        json!(null),
    );
    let turns = |text: &str, found: &str| {
        fails(
            &with("Three rows.", SUMMARY, THEN, text),
            Filter::Stray,
            json!(found),
        );
    };
    turns("\\boxed{42}<|im_end|>\n<|im_start|>user", "<|im_end|>");
    turns(
        "\\boxed{42}<\u{ff5c}User\u{ff5c}>Thanks",
        "<\u{ff5c}User\u{ff5c}>",
    );
    turns("\\boxed{42} <end_of_turn>", "<end_of_turn>");
}

#[test]
fn length() {
    let trace = good();
    let tokens = trace.paths[0].len();
    passes(&trace, Filter::Length, json!(tokens));
    let settings = |max_tokens| FilterSettings {
        max_tokens,
        ..limits()
    };
    assert!(look_with(&trace, Filter::Length, &settings(tokens)).pass);
    assert!(!look_with(&trace, Filter::Length, &settings(tokens - 1)).pass);
}

#[test]
fn repetition() {
    assert!(look(&good(), Filter::Repetition).value.as_f64() < Some(0.05));
    let lines: String = (0..30)
        .map(|n| format!("Counting the rows once more, attempt {n}. "))
        .collect();
    let again = group(
        [
            &[&format!("{lines}\n\n</think>"), ANSWER],
            &["</think>", ANSWER],
        ],
        Method::Cot,
    );
    let column = look(&again, Filter::Repetition);
    assert!(
        !column.pass && column.value.as_f64() > Some(0.2),
        "{column:?}"
    );
    // Every attempt has another number: no loop.
    passes(&again, Filter::Loop, json!(null));
}

#[test]
fn loops() {
    passes(&good(), Filter::Loop, json!(null));
    // Zeros of a number repeat, and are no loop.
    passes(
        &with("Three rows.", SUMMARY, THEN, "\\boxed{42}.0000000000"),
        Filter::Loop,
        json!(null),
    );
    let looped = with("Three rows.", SUMMARY, THEN, &"I say 42. ".repeat(8));
    fails(&looped, Filter::Loop, json!({ "period": 10, "times": 6 }));
    let turn: String = "no, ".repeat(30);
    fails(
        &path(&[&turn, SUMMARY, THEN, ANSWER]),
        Filter::Loop,
        json!({ "period": 4, "times": 30 }),
    );
}

#[test]
fn hesitation() {
    passes(&good(), Filter::Hesitation, json!(0.0));
    let doubt = "Wait, 42? Hmm. Wait, actually 41. Wait.\n\n</think>";
    let column = look(
        &with("Wait. Three rows.", SUMMARY, doubt, ANSWER),
        Filter::Hesitation,
    );
    assert!(
        !column.pass && column.value.as_f64() > Some(80.0),
        "{column:?}"
    );
    // `await` and `waiter` are other words.
    passes(
        &with("A waiter awaits.", SUMMARY, THEN, ANSWER),
        Filter::Hesitation,
        json!(0.0),
    );
}

#[test]
fn language() {
    let greek = with(
        "With \u{3b1} + \u{3b2} = \u{3c0} and \u{1d4b3}.",
        SUMMARY,
        THEN,
        ANSWER,
    );
    passes(&greek, Filter::Language, json!(0.0));
    let mixed = with(
        "\u{6240}\u{4ee5}\u{7b54}\u{6848}\u{662f} 42.",
        SUMMARY,
        THEN,
        ANSWER,
    );
    assert!(!look(&mixed, Filter::Language).pass);
    let cyrillic = with("\u{422}\u{430}\u{43a}, 42.", SUMMARY, THEN, ANSWER);
    assert!(!look(&cyrillic, Filter::Language).pass);
    // A Chinese question may be thought about in Chinese.
    let first = turn("\u{6240}\u{4ee5}\u{7b54}\u{6848}\u{662f} 42.");
    let say: [&str; 4] = [&first, SUMMARY, THEN, ANSWER];
    let chinese = group_on(
        "\u{516d}\u{4e58}\u{4ee5}\u{4e03}\u{7b54}\u{6848}\u{662f}\u{591a}\u{5c11}?",
        [&say, &say],
        Method::LeapT,
    );
    assert!(look(&chinese, Filter::Language).pass);
}

#[test]
fn uptake() {
    passes(&good(), Filter::Uptake, json!(1.0));
    let then = |text: &str| {
        with(
            "Three rows are 21.",
            SUMMARY,
            &format!("{text}\n\n</think>"),
            ANSWER,
        )
    };
    // A number that only the peer had, and a judgement without one.
    passes(&then("So 35 was five rows."), Filter::Uptake, json!(0.5));
    passes(&then("I agree with that."), Filter::Uptake, json!(1.0));
    passes(
        &then("They did it in another way."),
        Filter::Uptake,
        json!(0.5),
    );
    fails(
        &then("Twice 21 is what I want."),
        Filter::Uptake,
        json!(0.0),
    );
    // Nobody to hear.
    let alone = group([&["</think>", ANSWER], &["</think>", ANSWER]], Method::Cot);
    passes(&alone, Filter::Uptake, json!(null));
}

#[test]
fn flips() {
    let claims = |claim: &str, answer: &str| {
        with(
            "Three rows.",
            &format!(" the answer is {claim}. </summarize>"),
            THEN,
            answer,
        )
    };
    passes(&claims("42", ANSWER), Filter::Flips, json!(["right-right"]));
    passes(&claims("21", ANSWER), Filter::Flips, json!(["wrong-right"]));
    fails(
        &claims("42", "\\boxed{21}"),
        Filter::Flips,
        json!(["right-wrong"]),
    );
    passes(
        &claims("20", "\\boxed{21}"),
        Filter::Flips,
        json!(["wrong-wrong"]),
    );
    let back = twice(
        " the answer is 42. </summarize>",
        " the answer is 41. </summarize>",
        PEER,
    );
    fails(&back, Filter::Flips, json!(["right-wrong", "wrong-right"]));
    let alone = group([&["</think>", ANSWER], &["</think>", ANSWER]], Method::Cot);
    passes(&alone, Filter::Flips, json!([]));
}

#[test]
fn pass_rate() {
    passes(&good(), Filter::PassRate, json!(1.0));
    let settings = |all_right| FilterSettings {
        pass_rate: [0.1, 0.9],
        all_right,
        ..limits()
    };
    assert!(!look_with(&good(), Filter::PassRate, &settings(0.0)).pass);
    assert!(look_with(&good(), Filter::PassRate, &settings(1.0)).pass);
    let half = with("Three rows.", SUMMARY, THEN, "\\boxed{41}");
    assert_eq!(
        look_with(&half, Filter::PassRate, &settings(0.0)),
        Column {
            value: json!(0.5),
            pass: true
        }
    );
    // Drawn by problem and group: about the share that is asked for.
    let mut drawn = 0;
    for group in 0..200 {
        let mut trace = good();
        trace.group = group;
        drawn += usize::from(look_with(&trace, Filter::PassRate, &settings(0.2)).pass);
    }
    assert!((20..=60).contains(&drawn), "{drawn} of 200");
}

#[test]
fn limits_out_of_range_are_named() {
    let check = |settings: FilterSettings, expected: &str| {
        let error = settings.check().expect_err("out of range").to_string();
        assert!(error.contains(expected), "{error}");
    };
    assert_eq!(limits().check(), Ok(()));
    check(
        FilterSettings {
            uptake: 1.5,
            ..limits()
        },
        "`uptake` is 1.5, but must be from 0 to 1",
    );
    check(
        FilterSettings {
            pass_rate: [0.9, 0.1],
            ..limits()
        },
        "the smaller one first",
    );
    check(
        FilterSettings {
            max_tokens: 0,
            ..limits()
        },
        "at least 1",
    );
    check(
        FilterSettings {
            hesitation: f64::NAN,
            ..limits()
        },
        "`hesitation`",
    );
}

proptest! {
    /// Whatever a path writes, filters say something of it, and say it twice alike.
    #[test]
    fn no_text_is_too_strange(first in ".{0,200}", summary in ".{0,60}", then in "(.|\n|<think>|</think>|<comment>|\u{fffd}){0,60}", answer in ".{0,60}") {
        let trace = path(&[&first, &summary, &then, &answer]);
        let all = columns(&trace, &problem("What is 6 * 7?"), &limits());
        prop_assert_eq!(all.len(), 2);
        for path in &all {
            prop_assert_eq!(path.columns.len(), Filter::ALL.len());
            // What the protocol put there is always as the routes say.
            prop_assert_eq!(&path.columns[&Filter::Comments].value, &json!(null));
        }
        prop_assert_eq!(columns(&trace, &problem("What is 6 * 7?"), &limits()), all);
    }
}

/// Whatever the rules: what groups put into paths is what the routes say, and in the right order.
#[test]
fn groups_of_every_method_have_true_comments_and_sound_tags() {
    let order = Order {
        family: Family::Search,
        choice: false,
        count: 3,
    };
    let (mut exchanged, mut paths) = (0, 0);
    for problem in order.problems(1).expect("problems") {
        for preset in Preset::ALL {
            for (method, finished) in [
                (Method::Leap, Finished::Leave),
                (Method::LeapT, Finished::Stay),
                (Method::LeapS, Finished::Leave),
                (Method::Moa, Finished::Leave),
                (Method::Cot, Finished::Leave),
            ] {
                let settings = Settings {
                    paths: 5,
                    turn_tokens: 90,
                    max_tokens: 500,
                    turns: None,
                    summary_tokens: 30,
                    answer_tokens: 40,
                    peers: 3,
                    router: Router::Hybrid,
                    finished,
                    ..preset.settings(method)
                };
                let setup = Setup {
                    question: problem.question.clone(),
                    settings,
                    prompts: PromptSet::clean(),
                    stream: Stream::of_run(3),
                    positions: 1600,
                    beginnings: Vec::new(),
                    planted: 0,
                };
                let vocab = ByteVocab;
                let simulation = Simulation {
                    slip: 0.05,
                    remembers: false,
                    checks: 1,
                    positions: 100_000,
                    lies: false,
                };
                let mut engine = SimulatedEngine::new(simulation, &vocab);
                let mut groups = [Group::new(0, setup, &vocab).expect("a group")];
                solve(&mut groups, &mut engine, &vocab, &mut |_| {
                    ControlFlow::Continue(())
                })
                .expect("it ends");
                let [group] = groups;
                let trace = group.into_trace(problem.id.clone(), 0, origin());
                exchanged += trace.blocks.len();
                for path in columns(&trace, &problem, &limits()) {
                    paths += 1;
                    let column = |filter| &path.columns[&filter];
                    let place = format!("{} {method:?} {}", preset.name(), path.id);
                    assert!(
                        column(Filter::Comments).pass,
                        "{place}: {:?}",
                        column(Filter::Comments)
                    );
                    assert!(
                        column(Filter::Grammar).pass,
                        "{place}: {:?}",
                        column(Filter::Grammar)
                    );
                }
            }
        }
    }
    assert!(
        exchanged > 20 && paths > 200,
        "{exchanged} exchanges, {paths} paths"
    );
}

#[test]
fn what_an_untrained_model_is_given_is_not_looked_at() {
    let mut trace = good();
    let plain = trace.paths[0].spans[0].ids.clone();
    let tokens = Sample::of_path(&trace, 0).expect("its prompt").len();
    trace.setup.settings.method = Method::Leap;
    trace.plain_prompt = Some(plain);
    let spans = &mut trace.paths[0].spans;
    spans[0].ids = vec![65; 900];
    let example = "It looks like this: <summarize> 21. </summarize> <comment> 22. </comment>";
    let mut seed = spans[0].clone();
    seed.kind = SpanKind::Bridge;
    seed.text = example.into();
    seed.ids = ByteVocab.encode(example);
    spans.insert(1, seed);
    passes(&trace, Filter::Grammar, Value::Null);
    passes(&trace, Filter::Length, json!(tokens));
}
