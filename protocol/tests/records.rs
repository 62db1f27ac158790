//! Cuts, prompts, random streams and records.

use std::collections::BTreeSet;
use std::io::Cursor;

use proptest::prelude::*;
use protocol::cut::{Cut, cut_at, end_of_first};
use protocol::grade::AnswerKind;
use protocol::preset::Preset;
use protocol::{
    ByteVocab, Method, Problem, Prompt, PromptSet, Question, Router, Sample, SampleSpan,
    Similarity, SpanKind, Stream, TemplateError, Vocab, jsonl,
};
use serde_json::Value;

/// Three letters a token.
struct Triples;

impl Vocab for Triples {
    fn encode(&self, text: &str) -> Vec<u32> {
        let pad = |chunk: &[u8]| chunk.iter().fold(0, |id, &byte| id << 8 | u32::from(byte));
        text.as_bytes().chunks(3).map(pad).collect()
    }

    fn bytes(&self, id: u32) -> Vec<u8> {
        id.to_be_bytes()
            .into_iter()
            .skip_while(|&byte| byte == 0)
            .collect()
    }

    fn prompt(&self, user: &str) -> Result<Prompt, TemplateError> {
        Ok(Prompt {
            ids: self.encode(user),
            think_open: false,
        })
    }

    fn eos(&self) -> &[u32] {
        &[0xff]
    }

    fn hash(&self) -> &str {
        "triples"
    }
}

#[track_caller]
fn check_cut(text: &str, keep: usize, whole: usize, rest: &str) {
    let cut = cut_at(&Triples, &Triples.encode(text), keep);
    assert_eq!(
        cut,
        Cut {
            whole,
            rest: rest.into()
        }
    );
}

#[test]
fn a_cut_keeps_whole_tokens_and_gives_the_divided_ones_text_back() {
    check_cut("abcdef", 6, 2, "");
    check_cut("abcdef", 3, 1, "");
    check_cut("abcdef", 4, 1, "d");
    check_cut("abcdef", 0, 0, "");
    check_cut("abcdef", 99, 2, "");
    // Inside a character, what cannot be encoded is dropped.
    check_cut("abé", 3, 1, "");
    check_cut("abcdéf", 5, 1, "");
}

#[test]
fn needles_are_found_across_token_borders() {
    let ids = Triples.encode("a\n\nb\n\n\nc");
    assert_eq!(end_of_first(&Triples, &ids, "\n\n"), Some(3));
    assert_eq!(end_of_first(&Triples, &ids, "</think>"), None);
    assert_eq!(end_of_first(&Triples, &[], "\n\n"), None);
}

#[test]
fn a_problem_reads_integer_and_text_answers_and_writes_text() {
    let read = |line: &str| serde_json::from_str::<Problem>(line).expect("a problem");
    let problem = read(r#"{"id":"a","problem":"1+1?","answer":2,"source":"x"}"#);
    assert_eq!(problem.gold.as_str(), "2");
    assert_eq!(problem.question.kind, AnswerKind::Integer);
    let choice =
        r#"{"id":"b","problem":"Which?","kind":"choice","choices":["x","y"],"answer":"B"}"#;
    assert_eq!(serde_json::to_string(&read(choice)).expect("json"), choice);
}

#[test]
fn a_broken_line_is_named_by_its_number() {
    let text = "{\"id\":\"a\",\"problem\":\"p\",\"answer\":1}\n\n{\"id\":\n";
    let error = jsonl::read::<Problem>(Cursor::new(text)).expect_err("line 3 is broken");
    assert!(
        error
            .to_string()
            .starts_with("line 3 is not a valid record"),
        "{error}"
    );
}

#[test]
fn a_prompt_fills_its_template_once() {
    let mut set = PromptSet::clean();
    set.choice = "{problem}|{choices}|{unknown}".into();
    let question = Question {
        text: "Which {choices}?".into(),
        kind: AnswerKind::Choice,
        choices: vec!["x".into(), "{problem}".into()],
    };
    let settings = |method| Preset::Default.settings(method);
    let user = set.user(&question, &settings(Method::Cot));
    assert_eq!(user, "Which {choices}?|A) x\nB) {problem}|{unknown}");
    assert_eq!(set.user(&question, &settings(Method::LeapT)), user);
    assert_ne!(set.user(&question, &settings(Method::Leap)), user);
    let heard = ["a \"quoted\" one".to_string(), "{n}".to_string()];
    assert_eq!(
        set.comment(&heard).0,
        " <comment> Peer 1: \"a \"quoted\" one\"\nPeer 2: \"{n}\" </comment>\n\n"
    );
}

#[track_caller]
fn check_set(change: impl Fn(&mut PromptSet), expected: &str) {
    let mut set = PromptSet::clean();
    set.check().expect("our own set works");
    change(&mut set);
    let error = set.check().expect_err("it cannot work").to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_set_that_cannot_work_is_refused_by_key() {
    check_set(
        |set| set.math = "Solve it".into(),
        "`math` of prompt set `clean` has no {problem}",
    );
    check_set(
        |set| set.choice_example = "{problem}".into(),
        "has no {choices}",
    );
    check_set(|set| set.peer = "Peer".into(), "`peer`");
    check_set(
        |set| set.openers.clear(),
        "`openers` of prompt set `clean` is empty",
    );
    check_set(
        |set| set.openers.push("So".into()),
        "\"So\" without <summarize>",
    );
}

#[test]
fn a_preset_names_every_setting_in_which_it_differs() {
    let table = |preset: Preset| {
        let settings = preset.settings(Method::LeapT);
        let Value::Object(mut table) = serde_json::to_value(settings).expect("json") else {
            panic!("settings are a table");
        };
        table.insert("prompts".into(), preset.prompts().into());
        table
    };
    let default = table(Preset::Default);
    for preset in Preset::ALL {
        preset
            .settings(Method::Leap)
            .check()
            .expect("a preset works");
        let ours = table(preset);
        let keys = default.keys().chain(ours.keys());
        let differ: BTreeSet<&str> = keys
            .filter(|key| default.get(*key) != ours.get(*key))
            .map(String::as_str)
            .collect();
        let named: BTreeSet<&str> = preset.differences().iter().map(|line| line.key).collect();
        assert_eq!(named, differ, "{}", preset.name());
    }
}

#[test]
fn defaults_are_those_of_the_paper() {
    let settings = Preset::Default.settings(Method::Leap);
    let numbers = (
        settings.paths,
        settings.turn_tokens,
        settings.peers,
        settings.summary_tokens,
    );
    assert_eq!(numbers, (8, 4096, 4, 256));
    assert_eq!(settings.router, Router::Dispersed);
    assert_eq!(settings.similarity, Similarity::Levenshtein);
}

#[test]
fn a_random_stream_is_written_in_hex_and_read_back() {
    let stream = Stream::of_run(5).named("p").indexed(2);
    let text = serde_json::to_string(&stream).expect("json");
    assert_eq!(text.len(), 66);
    assert_eq!(
        serde_json::from_str::<Stream>(&text).expect("a stream"),
        stream
    );
    for broken in ["\"00\"", "\"zz\"", "7"] {
        assert!(serde_json::from_str::<Stream>(broken).is_err(), "{broken}");
    }
}

#[test]
fn streams_differ_by_every_part_of_their_name_and_repeat() {
    let run = Stream::of_run(1);
    let draws = [
        run.bits(0),
        run.bits(1),
        Stream::of_run(2).bits(0),
        run.named("a").bits(0),
        run.named("b").bits(0),
        run.indexed(0).bits(0),
        run.indexed(1).bits(0),
        run.named("a").indexed(0).bits(0),
    ];
    let distinct: std::collections::BTreeSet<u64> = draws.into_iter().collect();
    assert_eq!(distinct.len(), draws.len());
    assert_eq!(Stream::of_run(1).named("a").bits(5), run.named("a").bits(5));
}

#[test]
fn draws_are_uniform() {
    let stream = Stream::of_run(3);
    let n = 20_000;
    let mean = (0..n).map(|at| stream.uniform(at)).sum::<f64>() / n as f64;
    // Four standard errors of a uniform mean.
    assert!(
        (mean - 0.5).abs() < 4.0 / (12.0 * n as f64).sqrt(),
        "{mean}"
    );
    let mut counts = [0; 7];
    (0..7000).for_each(|at| counts[stream.below(at, 7)] += 1);
    assert!(
        counts.iter().all(|count| (850..1150).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn reencoding_keeps_kinds_and_refuses_a_foreign_tokenizer() {
    let span = |kind, text: &str| SampleSpan {
        kind,
        ids: ByteVocab.encode(text),
    };
    let mut sample = Sample {
        version: Sample::VERSION,
        id: "p#0.0".into(),
        problem: "p".into(),
        tokenizer: "bytes".into(),
        spans: vec![
            span(SpanKind::Prompt, "question"),
            span(SpanKind::Answer, "forty"),
        ],
    };
    sample.spans[1].ids.push(ByteVocab::EOS);
    let again = sample
        .reencode(&ByteVocab, &Triples)
        .expect("the same tokenizer");
    assert_eq!(again.tokenizer, "triples");
    assert_eq!(Triples.text(&again.spans[0].ids), "question");
    assert_eq!(again.spans[1].ids.last(), Some(&0xff));
    assert_eq!(again.spans[1].kind, SpanKind::Answer);
    let refused = sample
        .reencode(&Triples, &ByteVocab)
        .expect_err("made with bytes");
    assert!(refused.to_string().contains("`p#0.0`"), "{refused}");
}

#[test]
fn a_sample_of_another_version_is_refused_where_it_is_read() {
    let line = |version: u32| {
        format!(r#"{{"version":{version},"id":"a","problem":"a","tokenizer":"bytes","spans":[]}}"#)
    };
    let text = [line(Sample::VERSION), line(9)].join("\n");
    let error = protocol::jsonl::read::<Sample>(text.as_bytes()).expect_err("version 9");
    let said = error.to_string();
    assert!(
        said.contains("line 2") && said.contains("version 9, but this build reads version 1"),
        "{said}"
    );
}

proptest! {
    #[test]
    fn a_cut_loses_at_most_a_part_of_a_character(text in "[a-z \\n]{0,40}", keep in 0usize..50) {
        let ids = Triples.encode(&text);
        let cut = cut_at(&Triples, &ids, keep);
        let kept = Triples.text(&ids[..cut.whole]) + &cut.rest;
        prop_assert_eq!(kept, &text[..keep.min(text.len())]);
    }
}
