//! Driving groups with an engine that plays back texts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::ops::ControlFlow;

use infer::engine::{Engine, EngineError};
use infer::scripted::ScriptedEngine;
use infer::solve::{Progress, Solved, solve, solve_one};
use protocol::grade::AnswerKind;
use protocol::preset::Preset;
use protocol::{
    ByteVocab, Completion, Finish, Group, Method, Origin, PathEnd, PathKey, Prompt, PromptSet,
    Question, Request, Router, Sampling, Settings, Setup, Similarity, Stop, Stream, TemplateError,
    Trace, Vocab,
};

fn settings(paths: usize) -> Settings {
    Settings {
        paths,
        turn_tokens: 40,
        max_tokens: 200,
        summary_tokens: 30,
        answer_tokens: 20,
        peers: 1,
        router: Router::All,
        similarity: Similarity::Levenshtein,
        sampling: Sampling::GREEDY,
        ..Preset::Default.settings(Method::LeapT)
    }
}

fn group(index: u32, paths: usize) -> Group {
    group_on("Q: 1 + 1?\n", index, paths)
}

fn group_on(prompt: &str, index: u32, paths: usize) -> Group {
    let setup = Setup {
        question: Question {
            text: prompt.into(),
            kind: AnswerKind::Integer,
            choices: Vec::new(),
        },
        settings: settings(paths),
        prompts: PromptSet {
            math: "{problem}".into(),
            ..PromptSet::clean()
        },
        stream: Stream::of_run(7).indexed(index.into()),
        positions: 2000,
        beginnings: Vec::new(),
        planted: 0,
    };
    Group::new(index, setup, &ByteVocab).expect("the prompt fits")
}

fn trace(group: Group) -> Trace {
    let origin = Origin {
        seed: 7,
        recipe: String::new(),
        model: "scripted".into(),
        tokenizer: ByteVocab.hash().into(),
        device: "none".into(),
    };
    group.into_trace("p".into(), 0, origin)
}

fn never(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn groups_come_to_their_end_and_their_paths_are_closed() {
    let mut engine = ScriptedEngine::new(&ByteVocab, 2000)
        // Group 0 exchanges once; path 1 answers before the exchange.
        .say(
            0,
            0,
            "one and one are\n\ntwo, so that I would say it is 2 indeed",
        )
        .say(0, 0, " it is 2 </summarize>")
        .say(0, 0, "done</think>")
        .say(0, 0, "\\boxed{2}")
        .say(0, 1, "two</think>")
        .say(0, 1, "\\boxed{2}")
        .say(1, 0, "</think>")
        .say(1, 0, "\\boxed{3}");
    let mut groups = [group(0, 2), group(1, 1)];
    let mut last = Progress::default();
    let solved = solve(&mut groups, &mut engine, &ByteVocab, &mut |progress| {
        assert!(progress.sampled >= last.sampled && progress.groups >= last.groups);
        last = progress;
        ControlFlow::Continue(())
    });
    assert_eq!(solved.unwrap(), Solved::Done);
    assert_eq!(last.groups, 2);
    let mut closed = engine.closed().to_vec();
    closed.sort();
    let keys = [(0, 0), (0, 1), (1, 0)].map(|(group, path)| PathKey { group, path });
    assert_eq!(closed, keys);
    let [first, second] = groups.map(trace);
    let ends: Vec<&PathEnd> = first
        .paths
        .iter()
        .chain(&second.paths)
        .map(|path| &path.end)
        .collect();
    assert_eq!(ends, [&PathEnd::Answered; 3]);
    assert_eq!(first.blocks.len(), 1);
    let sampled: usize = first
        .paths
        .iter()
        .chain(&second.paths)
        .map(protocol::PathTrace::sampled)
        .sum();
    // What the cut took away again was sampled too.
    assert_eq!(last.sampled as usize, sampled);
    assert_eq!(first.paths[0].dropped(), 40 - "one and one are\n\n".len());
}

#[test]
fn it_can_be_stopped_at_a_completion() {
    let mut engine = ScriptedEngine::new(&ByteVocab, 2000);
    let mut groups = [group(0, 3), group(1, 3)];
    let mut heard = 0;
    let solved = solve(&mut groups, &mut engine, &ByteVocab, &mut |_| {
        heard += 1;
        if heard == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert_eq!(solved.unwrap(), Solved::Stopped);
    assert_eq!(heard, 2);
    assert!(
        engine.wait().unwrap().is_none(),
        "nothing is left in flight"
    );
    for path in 0..3 {
        assert_eq!(
            engine.path(PathKey { group: 1, path }),
            None,
            "path {path} was closed"
        );
    }
}

#[test]
fn a_stop_that_comes_after_the_last_completion_changes_nothing() {
    let mut engine = ScriptedEngine::new(&ByteVocab, 2000);
    let mut groups = [group(0, 1)];
    let solved = solve(
        &mut groups,
        &mut engine,
        &ByteVocab,
        &mut |progress| match progress.groups {
            1 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        },
    );
    assert_eq!(solved.unwrap(), Solved::Done);
}

#[test]
fn a_path_that_fails_leaves_its_group() {
    // Group 1 was made for an engine with more positions, so its requests fail.
    let mut engine = ScriptedEngine::new(&ByteVocab, 60)
        .say(0, 0, "</think>")
        .say(0, 0, "2");
    let mut groups = [
        group(0, 1),
        group_on("Q: how many are one and one?\n", 1, 2),
    ];
    let solved = solve(&mut groups, &mut engine, &ByteVocab, &mut never);
    assert_eq!(solved.unwrap(), Solved::Done);
    let [first, second] = groups.map(trace);
    assert_eq!(first.paths[0].end, PathEnd::Answered);
    for path in second.paths {
        assert!(matches!(&path.end, PathEnd::Failed(reason) if reason.contains("60 positions")));
    }
}

#[test]
fn one_group_is_shown_after_each_completion() {
    let mut engine = ScriptedEngine::new(&ByteVocab, 2000)
        .say(0, 0, "two</think>")
        .say(0, 0, "\\boxed{2}");
    let mut alone = group(0, 1);
    let mut spans = Vec::new();
    let ended = solve_one(&mut alone, &mut engine, &ByteVocab, &mut |group| {
        spans.push(group.spans(0).len());
        false
    });
    assert!(ended.unwrap());
    assert_eq!(spans, [2, 3]);
    let mut stopped = group(0, 1);
    let mut engine = ScriptedEngine::new(&ByteVocab, 2000).say(0, 0, "two</think>");
    assert!(!solve_one(&mut stopped, &mut engine, &ByteVocab, &mut |_| true).unwrap());
}

struct Deaf;

impl Engine for Deaf {
    fn submit(&mut self, _: Request) {}

    fn adopt(&mut self, _: PathKey, _: usize, _: Vec<u32>) {}

    fn close(&mut self, _: PathKey) {}

    fn wait(&mut self) -> Result<Option<Completion>, EngineError> {
        Ok(None)
    }

    fn positions(&self) -> usize {
        2000
    }
}

#[test]
fn an_engine_that_loses_requests_is_an_error() {
    let solved = solve(
        &mut [group(0, 1), group(1, 1)],
        &mut Deaf,
        &ByteVocab,
        &mut never,
    );
    assert!(matches!(solved, Err(EngineError::Stalled { open: 2 })));
}

/// A vocabulary whose tokens are longer than a byte: `</`, `think>` with and without a line break.
struct Pieces;

const PIECES: [&str; 6] = ["</", "think>\n", "think>", "a", "é", "\n"];

impl Vocab for Pieces {
    fn encode(&self, mut text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        while !text.is_empty() {
            let id = PIECES
                .iter()
                .position(|piece| text.starts_with(piece))
                .expect("a known piece");
            text = &text[PIECES[id].len()..];
            ids.push(id as u32);
        }
        ids
    }

    fn bytes(&self, id: u32) -> Vec<u8> {
        PIECES
            .get(id as usize)
            .map_or_else(Vec::new, |piece| piece.as_bytes().to_vec())
    }

    fn prompt(&self, user: &str) -> Result<Prompt, TemplateError> {
        Ok(Prompt {
            ids: self.encode(user),
            think_open: true,
        })
    }

    fn eos(&self) -> &[u32] {
        &[6]
    }

    fn hash(&self) -> &str {
        "pieces"
    }
}

#[track_caller]
fn check_stop(text: &str, stops: &[&str], max_tokens: usize, ids: &[u32], finish: Finish) {
    let mut engine = ScriptedEngine::new(&Pieces, 100).say(0, 0, text);
    let key = PathKey { group: 0, path: 0 };
    engine.submit(Request {
        key,
        keep: 0,
        append: Pieces.encode("a</think>"),
        sampling: settings(1).sampling,
        stop: Stop {
            strings: stops.iter().map(|stop| (*stop).into()).collect(),
            eos: vec![6],
        },
        max_tokens,
        logprobs: false,
        stream: Stream::of_run(0),
    });
    let completion = engine.wait().unwrap();
    assert_eq!(
        completion,
        Some(Completion::new(key, ids.to_vec(), finish)),
        "{text:?}"
    );
}

#[test]
fn a_stop_string_may_end_inside_a_token_and_begin_in_another() {
    check_stop(
        "a</think>\na",
        &["</think>"],
        9,
        &[3, 0, 1],
        Finish::Stop(0),
    );
    check_stop("a</think>a", &["</think>"], 9, &[3, 0, 2], Finish::Stop(0));
    check_stop("a</think>a", &["a<", "k>a"], 9, &[3, 0], Finish::Stop(0));
    check_stop("</think>\n", &["nk>\n", "nk>"], 9, &[0, 1], Finish::Stop(1));
    check_stop("</think>", &["k>", "think>"], 9, &[0, 2], Finish::Stop(0));
    check_stop("éa", &["éa"], 9, &[4, 3], Finish::Stop(0));
    // Only what is sampled counts, and a stop on the last token of the budget is a stop.
    check_stop("\na", &[">\n"], 2, &[5, 3], Finish::Length);
    check_stop("a</think>", &["</think>"], 3, &[3, 0, 2], Finish::Stop(0));
    check_stop("a</think>", &["</think>"], 2, &[3, 0], Finish::Length);
    check_stop("aa", &[], 9, &[3, 3, 6], Finish::Eos);
}
