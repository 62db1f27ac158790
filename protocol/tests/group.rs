//! Groups driven by a fake engine that writes scripted or random bytes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::grade::AnswerKind;
use protocol::{
    ByteVocab, Completion, Finish, Group, Method, Origin, PathEnd, PathKey, Prompt, PromptSet,
    Question, Request, Router, SUMMARY_CLOSE, Sampling, Settings, Similarity, Span, SpanKind, Step,
    Stream, Trace, Vocab,
};

fn question() -> Question {
    Question {
        text: "1 + 1?".into(),
        kind: AnswerKind::Integer,
        choices: Vec::new(),
    }
}

fn settings(method: Method, paths: usize) -> Settings {
    Settings {
        method,
        paths,
        turn_tokens: 40,
        max_tokens: 120,
        summary_tokens: 24,
        answer_tokens: 16,
        peers: 2,
        router: Router::Dispersed,
        similarity: Similarity::Levenshtein,
        sampling: Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
        },
    }
}

fn prompts() -> PromptSet {
    let mut set = PromptSet::clean();
    set.triggers = vec!["Sum up.".into()];
    set.openers = vec![" <summarize> So".into()];
    set
}

fn group(settings: Settings, positions: usize) -> Group {
    let prompt = Prompt {
        ids: ByteVocab.encode("Q: 1 + 1?\n"),
        think_open: true,
    };
    let stream = Stream::of_run(1).named("p");
    Group::new(
        0,
        settings,
        prompts(),
        &question(),
        &prompt,
        stream,
        positions,
        &ByteVocab,
    )
    .expect("the prompt fits")
}

fn origin() -> Origin {
    let text = String::new;
    Origin {
        seed: 1,
        recipe: text(),
        model: text(),
        tokenizer: text(),
        device: text(),
    }
}

/// What an engine holds and how it answers: the n-th request of a path gets its n-th text.
struct Fake<'a> {
    held: BTreeMap<PathKey, Vec<u32>>,
    asked: BTreeMap<PathKey, usize>,
    write: &'a dyn Fn(PathKey, usize) -> String,
}

impl Fake<'_> {
    /// Answers a request as an engine does: up to a stop string, an end, or the budget.
    fn answer(&mut self, request: &Request) -> Completion {
        let held = self.held.entry(request.key).or_default();
        assert!(
            request.keep <= held.len(),
            "a group cannot keep what the engine never held"
        );
        held.truncate(request.keep);
        held.extend(&request.append);
        let count = self.asked.entry(request.key).or_default();
        let text = (self.write)(request.key, *count);
        *count += 1;
        if text == "FAIL" {
            let finish = Finish::Failed("scripted".into());
            return Completion {
                key: request.key,
                ids: Vec::new(),
                finish,
            };
        }
        let stops = request.stop.strings.iter().enumerate();
        let stop = stops
            .filter_map(|(index, stop)| text.find(stop.as_str()).map(|at| (at + stop.len(), index)))
            .min();
        let (mut ids, mut finish) = match stop {
            Some((end, index)) => (ByteVocab.encode(&text[..end]), Finish::Stop(index)),
            None => {
                let mut ids = ByteVocab.encode(&text);
                ids.push(ByteVocab::EOS);
                (ids, Finish::Eos)
            }
        };
        if ids.len() > request.max_tokens {
            ids.truncate(request.max_tokens);
            finish = Finish::Length;
        }
        held.extend(&ids);
        Completion {
            key: request.key,
            ids,
            finish,
        }
    }
}

/// Runs a group to its end; `pick` chooses which open request is answered next.
fn drive(
    mut group: Group,
    write: &dyn Fn(PathKey, usize) -> String,
    pick: &mut dyn FnMut(usize) -> usize,
) -> Trace {
    let mut fake = Fake {
        held: BTreeMap::new(),
        asked: BTreeMap::new(),
        write,
    };
    let Step {
        requests: mut open,
        ended: mut closed,
    } = group.start(&ByteVocab);
    while !open.is_empty() {
        let request = open.remove(pick(open.len()));
        assert!(
            !closed.contains(&request.key),
            "a request for a path that has ended"
        );
        assert!(request.max_tokens > 0);
        let completion = fake.answer(&request);
        // Saved and restored between any two requests, it goes on identically.
        let saved = serde_json::to_string(&group).expect("a group is plain data");
        let mut restored: Group = serde_json::from_str(&saved).expect("and can be read back");
        let step = restored.accept(completion.clone(), &ByteVocab);
        assert_eq!(group.accept(completion, &ByteVocab), step);
        group = restored;
        open.extend(step.requests);
        closed.extend(step.ended);
    }
    assert!(group.is_done(), "no path starves");
    group.into_trace("p".into(), 0, origin())
}

fn in_order(_: usize) -> usize {
    0
}

fn check(trace: &Trace, path: usize, expected: &str) {
    let spans = trace.paths[path].spans.iter().skip(1);
    let drawn: Vec<String> = spans
        .map(|span| format!("{:?}:{}", span.kind, span.text))
        .collect();
    assert_eq!(drawn.join("|"), expected);
}

#[test]
fn a_path_that_closes_its_thought_goes_on_to_answer() {
    let write = |_: PathKey, n: usize| ["1 + 1 = 2 </think>", " \\boxed{2}"][n].to_string();
    let trace = drive(group(settings(Method::Cot, 1), 1000), &write, &mut in_order);
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
    let trace = drive(group(settings(Method::Cot, 1), 1000), &write, &mut in_order);
    assert_eq!(trace.paths[0].end, PathEnd::Forced);
    let text = trace.paths[0].answer_text(true).expect("it answered");
    assert!(text.ends_with("the answer is \\boxed{2}"), "{text}");
    assert_eq!(trace.paths[0].sampled(), 120 + 3);
}

#[test]
fn an_end_inside_a_thought_is_an_end_and_no_answer() {
    let write = |_: PathKey, _: usize| "the answer is 2".to_string();
    let trace = drive(group(settings(Method::Cot, 1), 1000), &write, &mut in_order);
    assert_eq!(trace.paths[0].end, PathEnd::Stopped);
    assert_eq!(trace.paths[0].answer_text(true), None);
    assert_eq!(
        trace.paths[0].answer_text(false).as_deref(),
        Some("the answer is 2")
    );
}

/// Two paths that think 40 tokens, sum up, read each other and then finish.
fn two_paths(first: &'static str) -> Trace {
    let write = move |key: PathKey, n: usize| match (key.path, n) {
        (0, 0) => first.to_string(),
        (_, 0) => "other\n\nwhat comes after the blank line is lost".to_string(),
        (path, 1) => format!(" I am {path} </summarize>"),
        (_, 2) => "done </think>".to_string(),
        _ => "\\boxed{2}".to_string(),
    };
    drive(
        group(settings(Method::Leap, 2), 1000),
        &write,
        &mut in_order,
    )
}

#[test]
fn a_block_cuts_asks_exchanges_and_goes_on() {
    let trace = two_paths("kept\n\nthis paragraph is not finished and is cut");
    check(
        &trace,
        0,
        "Thought:kept\n\n|Trigger:Sum up. <summarize> So|Summary: I am 0 </summarize>|\
         Comment: <comment> Peer 1: \"So I am 1\" </comment>\n\n|\
         Bridge:Let me weigh what the others say.|Thought:done </think>|Answer:\\boxed{2}",
    );
    assert_eq!(trace.blocks[0].routes[0].peers, [1]);
    assert_eq!(trace.blocks[0].routes[1].peers, [0]);
}

#[test]
fn a_thought_without_a_blank_line_is_kept_whole_and_never_anything_older_is_cut() {
    let trace = two_paths("forty tokens and more without any break in them");
    let thought: &Span = &trace.paths[0].spans[1];
    assert_eq!(thought.text, "forty tokens and more without any break ");
    assert_eq!(trace.paths[0].spans[2].text, "\n\nSum up. <summarize> So");
}

#[test]
fn a_summary_at_its_limit_is_closed_for_the_path_and_counted() {
    let write = |key: PathKey, n: usize| match (key.path, n) {
        (_, 0) => "t".repeat(99),
        (_, 1) => "s".repeat(99),
        (_, 2) => "</think>".to_string(),
        _ => "\\boxed{2}".to_string(),
    };
    let trace = drive(
        group(settings(Method::Leap, 2), 1000),
        &write,
        &mut in_order,
    );
    assert_eq!(trace.paths[0].cut_summaries, 1);
    let heard = format!("\"So{}...\"", "s".repeat(24));
    assert!(
        trace.paths[1]
            .spans
            .iter()
            .any(|span| span.text.contains(&heard))
    );
    let closed = format!("... {SUMMARY_CLOSE}");
    assert!(trace.paths[0].spans.iter().any(|span| span.text == closed));
}

#[test]
fn a_summary_the_model_opens_itself_is_honoured_without_a_trigger() {
    let write = |key: PathKey, n: usize| match (key.path, n) {
        (0, 0) => "early <summarize> and more".to_string(),
        (_, 0) => "t".repeat(99),
        (path, 1) => format!(" of {path} </summarize>"),
        (_, 2) => "</think>".to_string(),
        _ => "\\boxed{2}".to_string(),
    };
    let trace = drive(
        group(settings(Method::LeapT, 2), 1000),
        &write,
        &mut in_order,
    );
    let kinds: Vec<SpanKind> = trace.paths[0].spans.iter().map(|span| span.kind).collect();
    assert_eq!(
        kinds[1..4],
        [SpanKind::Thought, SpanKind::Summary, SpanKind::Comment]
    );
    assert!(
        trace.paths[1]
            .spans
            .iter()
            .any(|span| span.text.contains("Peer 1: \"of 0\""))
    );
}

#[test]
fn the_last_living_path_reads_that_nobody_is_there() {
    let write = |key: PathKey, n: usize| match (key.path, n) {
        (0, 0) => "</think>".to_string(),
        (0, _) => "\\boxed{2}".to_string(),
        (_, 0) => "t".repeat(99),
        (_, 1) => " alone </summarize>".to_string(),
        (_, 2) => "</think>".to_string(),
        _ => "\\boxed{2}".to_string(),
    };
    let trace = drive(
        group(settings(Method::Leap, 2), 1000),
        &write,
        &mut in_order,
    );
    assert!(trace.blocks[0].routes[0].peers.is_empty());
    assert!(
        trace.paths[1]
            .spans
            .iter()
            .any(|span| span.text.contains("Nobody else"))
    );
}

#[test]
fn a_failed_path_leaves_and_the_others_go_on() {
    let write = |key: PathKey, n: usize| match (key.path, n) {
        (0, 0) => "FAIL".to_string(),
        (_, 0) => "t".repeat(99),
        (_, 1) => " s </summarize>".to_string(),
        (_, 2) => "</think>".to_string(),
        _ => "\\boxed{2}".to_string(),
    };
    let trace = drive(
        group(settings(Method::Leap, 3), 1000),
        &write,
        &mut in_order,
    );
    assert_eq!(trace.paths[0].end, PathEnd::Failed("scripted".into()));
    assert_eq!(trace.paths[1].end, PathEnd::Answered);
}

#[test]
fn a_path_without_positions_is_forced_and_says_so() {
    let write = |_: PathKey, _: usize| "t".repeat(500);
    for positions in 90..220 {
        let trace = drive(
            group(settings(Method::Leap, 2), positions),
            &write,
            &mut in_order,
        );
        for path in &trace.paths {
            let length: usize = path.spans.iter().map(|span| span.ids.len()).sum();
            assert!(length <= positions, "{length} of {positions}");
            assert!(path.spans.iter().any(|span| span.kind == SpanKind::Answer));
        }
    }
}

#[test]
fn a_prompt_without_room_for_an_answer_is_refused() {
    let prompt = Prompt {
        ids: vec![1; 100],
        think_open: false,
    };
    let (settings, stream) = (settings(Method::Cot, 1), Stream::of_run(1));
    let refused = Group::new(
        0,
        settings,
        prompts(),
        &question(),
        &prompt,
        stream,
        120,
        &ByteVocab,
    );
    let message = refused.expect_err("it does not fit").to_string();
    assert!(
        message.contains("100 tokens") && message.contains("120 positions"),
        "{message}"
    );
}

/// Random texts out of pieces that matter to the protocol.
fn texts() -> impl Strategy<Value = Vec<Vec<String>>> {
    let piece = prop_oneof![
        Just("word "),
        Just("\n\n"),
        Just("</think>"),
        Just("</summarize>"),
        Just("<summarize>"),
        Just("\\boxed{2}"),
        Just("é\""),
        Just("a longer stretch of text without any break in it "),
    ];
    let text = prop_oneof![
        9 => proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat()),
        1 => Just("FAIL".to_string()),
    ];
    proptest::collection::vec(proptest::collection::vec(text, 12), 5)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_group_ends_and_its_trace_does_not_depend_on_the_order_of_completions(
        texts in texts(),
        paths in 1usize..6,
        method in prop_oneof![Just(Method::Cot), Just(Method::Leap), Just(Method::LeapT)],
        peers in 0usize..7,
        positions in 110usize..400,
        order in any::<u64>(),
    ) {
        let write = |key: PathKey, n: usize| texts[key.path as usize][n % 12].clone();
        let settings = Settings { peers, ..settings(method, paths) };
        let one = drive(group(settings.clone(), positions), &write, &mut in_order);
        let lot = Stream::of_run(order);
        let mut draw = 0;
        let two = drive(group(settings, positions), &write, &mut |n| {
            draw += 1;
            lot.below(draw, n)
        });
        prop_assert_eq!(&one, &two);
        for (index, path) in one.paths.iter().enumerate() {
            let sampled: usize = path.spans.iter()
                .filter(|span| matches!(span.kind, SpanKind::Thought | SpanKind::Summary))
                .map(|span| span.ids.len()).sum();
            prop_assert!(sampled <= 120 + 24, "path {} sampled {}", index, sampled);
            for route in one.blocks.iter().flat_map(|block| &block.routes) {
                let mut peers = route.peers.clone();
                peers.sort_unstable();
                peers.dedup();
                prop_assert_eq!(peers.len(), route.peers.len());
                prop_assert!(!peers.contains(&route.reader));
            }
        }
        // What a reader hears is, byte for byte, what its peer wrote.
        for block in &one.blocks {
            for route in &block.routes {
                let comment = one.paths[route.reader as usize].spans.iter()
                    .find(|span| span.kind == SpanKind::Comment && span.block == Some(block.index))
                    .expect("a reader has a comment");
                for &peer in &route.peers {
                    let text = one.paths[peer as usize].summary(block.index).unwrap_or_default();
                    let own = text.split_once("<summarize>").map_or(text.as_str(), |(_, own)| own);
                    let own = own.trim_end_matches("</summarize>").trim();
                    prop_assert!(comment.text.contains(own), "{} in {}", own, comment.text);
                }
            }
        }
    }
}
