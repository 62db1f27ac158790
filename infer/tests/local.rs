//! The local engine on a small decoder with random weights and a byte vocabulary.
//!
//! Legend: a *turn* is one request on a path; a *plan* is a path's prompt and turns.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod tiny;

use std::collections::BTreeMap;

use infer::engine::{Engine, EngineError};
use infer::local::{LocalEngine, LocalSettings, LocalStats};
use infer::solve::{Solved, solve};
use model::decoder::Decoder;
use model::packed::Packed;
use proptest::prelude::*;
use protocol::grade::AnswerKind;
use protocol::preset::Preset;
use protocol::{
    ByteVocab, Completion, Finish, Group, Method, Origin, PathEnd, PathKey, Prompt, PromptSet,
    Question, Request, Router, Sampling, Settings, Setup, Similarity, Stop, Stream, TemplateError,
    Vocab,
};

use tiny::{GREEDY, SETTINGS, WARM, decoder, engine, key, request, run, sampled};

/// The id with the largest logit behind `ids`, from one pass over the whole text.
fn full_argmax(decoder: &Decoder, ids: &[u32]) -> u32 {
    let batch = Packed {
        ids: ids.to_vec(),
        lengths: vec![ids.len()],
    };
    let data = decoder.logits(decoder.hidden(&batch)).into_data();
    let all = data.as_slice::<f32>().unwrap();
    let last = &all[all.len() - 257..];
    let best = last.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    last.iter().position(|logit| *logit == best).unwrap() as u32
}

#[track_caller]
fn check_greedy(prompt: &str) {
    let decoder = decoder();
    let mut path = ByteVocab.encode(prompt);
    let greedy = Request {
        sampling: GREEDY,
        ..request(key(0, 0), 0, &path, 24)
    };
    for id in sampled(&mut engine(SETTINGS), greedy) {
        assert_eq!(
            id,
            full_argmax(&decoder, &path),
            "behind {} tokens",
            path.len()
        );
        path.push(id);
    }
}

#[test]
fn greedy_is_the_argmax_of_whole_passes() {
    check_greedy("a");
    check_greedy("What is 7 times 6?");
    check_greedy(&"a long prompt, fed in pieces or at once; ".repeat(5));
}

#[test]
fn log_probabilities_are_those_of_the_model_before_any_filter() {
    let decoder = decoder();
    let prompt = ByteVocab.encode("What is 7 times 6?");
    // Sharp settings, so that what was filtered would show.
    let sampling = Sampling {
        temperature: 0.3,
        top_k: 3,
        top_p: 0.9,
        min_p: 0.1,
    };
    let asked = Request {
        sampling,
        logprobs: true,
        ..request(key(0, 0), 0, &prompt, 12)
    };
    let silent = Request {
        logprobs: false,
        ..asked.clone()
    };
    let completion = run(&mut engine(SETTINGS), asked);
    let found = completion.logprobs.expect("they were asked for");
    assert_eq!(found.len(), completion.ids.len());
    let mut path = prompt;
    for (id, found) in completion.ids.iter().zip(found) {
        let batch = Packed {
            ids: path.clone(),
            lengths: vec![path.len()],
        };
        let data = decoder.logits(decoder.hidden(&batch)).into_data();
        let all = data.as_slice::<f32>().unwrap();
        let last = &all[all.len() - 257..];
        let sum: f64 = last.iter().map(|logit| f64::from(*logit).exp()).sum();
        let expected = f64::from(last[*id as usize]) - sum.ln();
        assert!(
            (f64::from(found) - expected).abs() < 1e-5,
            "{found} {expected}"
        );
        path.push(*id);
    }
    let other = run(&mut engine(SETTINGS), silent);
    assert_eq!((other.ids, other.logprobs), (completion.ids, None));
}

/// A path with roll-backs: its prompt, then for each turn how much of it stays, in sixteenths of
/// what lies behind the prompt, what is appended, and how many tokens are sampled.
type Plan = (Vec<u32>, Vec<(usize, Vec<u32>, usize)>);

fn plan() -> impl Strategy<Value = Plan> {
    let ids = |most| prop::collection::vec(0_u32..256, 1..most);
    let turn = (
        0..=16_usize,
        prop::collection::vec(0_u32..256, 0..20),
        1..24_usize,
    );
    (ids(50), prop::collection::vec(turn, 0..4))
}

/// Runs plans side by side, path by path in the order given; the ids sampled in each turn.
fn run_plans(
    engine: &mut LocalEngine<'_>,
    plans: &[(PathKey, &Plan)],
) -> BTreeMap<PathKey, Vec<Vec<u32>>> {
    let by_key: BTreeMap<PathKey, &Plan> = plans.iter().copied().collect();
    let mut paths: BTreeMap<PathKey, Vec<u32>> = BTreeMap::new();
    let mut heard: BTreeMap<PathKey, Vec<Vec<u32>>> = BTreeMap::new();
    for (key, (prompt, _)) in plans {
        paths.insert(*key, prompt.clone());
        engine.submit(request(*key, 0, prompt, 9));
    }
    while let Some(completion) = engine.wait().unwrap() {
        assert_eq!(completion.finish, Finish::Length, "{:?}", completion.key);
        let key = completion.key;
        let path = paths.get_mut(&key).unwrap();
        path.extend_from_slice(&completion.ids);
        let turns = heard.entry(key).or_default();
        turns.push(completion.ids);
        let (prompt, plan) = by_key[&key];
        match plan.get(turns.len() - 1) {
            None => engine.close(key),
            Some((sixteenths, append, max_tokens)) => {
                let keep = prompt.len() + (path.len() - prompt.len()) * sixteenths / 16;
                path.truncate(keep);
                path.extend_from_slice(append);
                engine.submit(request(key, keep, append, *max_tokens));
            }
        }
    }
    heard
}

/// What each turn samples when the whole path is a new prompt each time.
fn run_anew(key: PathKey, (prompt, plan): &Plan) -> Vec<Vec<u32>> {
    let mut path = prompt.clone();
    let mut heard = vec![sampled(&mut engine(SETTINGS), request(key, 0, &path, 9))];
    for (sixteenths, append, max_tokens) in plan {
        path.extend_from_slice(heard.last().unwrap());
        path.truncate(prompt.len() + (path.len() - prompt.len()) * sixteenths / 16);
        path.extend_from_slice(append);
        heard.push(sampled(
            &mut engine(SETTINGS),
            request(key, 0, &path, *max_tokens),
        ));
    }
    heard
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn rolling_back_and_appending_equals_starting_anew(plan in plan()) {
        let together = run_plans(&mut engine(SETTINGS), &[(key(1, 2), &plan)]);
        prop_assert_eq!(&together[&key(1, 2)], &run_anew(key(1, 2), &plan));
    }

    #[test]
    fn a_path_does_not_depend_on_the_batch(
        plans in prop::collection::vec((plan(), 0..2_u32), 1..7),
        turn in 0..7_usize,
        max_rows in 1..8_usize,
        prefill_tokens in 1..80_usize,
    ) {
        // Paths of a group share a prompt, as they do when a group starts.
        let prompts: Vec<Vec<u32>> = plans.iter().map(|((prompt, _), _)| prompt.clone()).collect();
        let plans: Vec<(PathKey, Plan)> = plans
            .into_iter()
            .enumerate()
            .map(|(path, ((_, turns), group))| {
                (key(group, path as u32), (prompts[group as usize % prompts.len()].clone(), turns))
            })
            .collect();
        let alone: BTreeMap<PathKey, Vec<Vec<u32>>> = plans
            .iter()
            .flat_map(|(key, plan)| run_plans(&mut engine(SETTINGS), &[(*key, plan)]))
            .collect();
        let mut order: Vec<(PathKey, &Plan)> = plans.iter().map(|(key, plan)| (*key, plan)).collect();
        order.rotate_left(turn % plans.len());
        let settings = LocalSettings { max_rows, prefill_tokens, ..SETTINGS };
        let mut engine = engine(settings);
        prop_assert_eq!(run_plans(&mut engine, &order), alone);
        prop_assert_eq!(engine.kv_bytes(), 0, "closed paths hold no memory");
    }
}

#[test]
fn it_really_batches_and_feeds_nothing_twice() {
    let mut engine = engine(SETTINGS);
    let prompt = ByteVocab.encode("What is the sum of the first twenty numbers?");
    let (paths, turn) = (8, 16);
    for path in 0..paths {
        engine.submit(request(key(0, path), 0, &prompt, turn));
    }
    let mut lengths = Vec::new();
    while let Some(completion) = engine.wait().unwrap() {
        lengths.push(prompt.len() + completion.ids.len());
    }
    let first = LocalStats {
        // The prompt's pass gives the first token of every path.
        forward_passes: turn as u64,
        prefilled: prompt.len() as u64,
        refilled: 0,
        sampled: u64::from(paths) * turn as u64,
        most_rows: 8,
    };
    assert_eq!(engine.stats(), first);
    // A second turn: half roll back, half keep a token that was sampled last and never fed.
    let injected = ByteVocab.encode(" Time to share.");
    for path in 0..paths {
        let keep = lengths[path as usize] - if path % 2 == 0 { 5 } else { 0 };
        engine.submit(request(key(0, path), keep, &injected, turn));
    }
    while engine.wait().unwrap().is_some() {}
    let second = LocalStats {
        forward_passes: 2 * turn as u64,
        prefilled: (prompt.len() + 8 * injected.len()) as u64,
        sampled: 2 * first.sampled,
        ..first
    };
    assert_eq!(engine.stats(), second);
}

#[test]
fn long_prompts_are_fed_in_pieces_beside_paths_that_sample() {
    let mut engine = engine(LocalSettings {
        prefill_tokens: 10,
        ..SETTINGS
    });
    engine.submit(request(key(0, 0), 0, &[1, 2, 3], 30));
    engine.submit(request(key(1, 0), 0, &[7; 95], 10));
    let first = engine.wait().unwrap().unwrap();
    // 3 + 7 tokens in the first pass, 88 in nine more, and ten tokens take nine passes after it.
    assert_eq!(
        (first.key, engine.stats().forward_passes),
        (key(1, 0), 1 + 9 + 9)
    );
    assert_eq!(engine.wait().unwrap().unwrap().key, key(0, 0));
    assert_eq!(engine.stats().forward_passes, 30);
}

#[test]
fn the_same_requests_take_the_same_steps() {
    let stats = |_| {
        let mut engine = engine(LocalSettings {
            max_rows: 3,
            prefill_tokens: 16,
            ..SETTINGS
        });
        for group in 0..3 {
            for path in 0..4 {
                let prompt = [group, 9, 8, 7, group];
                engine.submit(request(key(group, path), 0, &prompt, 5 + path as usize));
            }
        }
        let mut order = Vec::new();
        while let Some(completion) = engine.wait().unwrap() {
            order.push(completion);
        }
        (order, engine.stats())
    };
    let first = stats(0);
    assert_eq!(first.0.len(), 12);
    assert_eq!(first.1.prefilled, 15);
    assert_eq!(first, stats(1));
}

#[test]
fn a_path_does_not_depend_on_the_number_of_threads() {
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let mut engine = engine(SETTINGS);
            // Enough rows for the work to be split.
            for path in 0..60 {
                engine.submit(request(key(path % 3, path), 0, &[path % 3 + 1; 30], 20));
            }
            let mut all = BTreeMap::new();
            while let Some(completion) = engine.wait().unwrap() {
                all.insert(completion.key, completion.ids);
            }
            all
        })
    };
    let alone = with_threads(1);
    assert_eq!(alone.len(), 60);
    assert_eq!(with_threads(3), alone);
}

/// Every id is three characters, so that stop strings begin and end inside tokens.
struct Threes;

impl Vocab for Threes {
    fn encode(&self, text: &str) -> Vec<u32> {
        let text = text.as_bytes().chunks(3);
        text.map(|three| std::str::from_utf8(three).unwrap().parse().unwrap())
            .collect()
    }

    fn bytes(&self, id: u32) -> Vec<u8> {
        format!("{id:03}").into_bytes()
    }

    fn prompt(&self, user: &str) -> Result<Prompt, TemplateError> {
        Ok(Prompt {
            ids: self.encode(user),
            think_open: true,
        })
    }

    fn eos(&self) -> &[u32] {
        &[]
    }

    fn hash(&self) -> &str {
        "threes"
    }
}

#[test]
fn it_ends_at_stop_strings_end_ids_and_budgets() {
    let decoder = decoder();
    let free = request(key(0, 0), 0, &[11, 22, 33], 12);
    let mut engine = LocalEngine::new(decoder, &Threes, SETTINGS).unwrap();
    let ids = sampled(&mut engine, free.clone());
    let text = Threes.text(&ids);
    #[track_caller]
    fn check(
        engine: &mut LocalEngine<'_>,
        free: &Request,
        stop: Stop,
        all: &[u32],
        count: usize,
        finish: Finish,
    ) {
        let said = format!("{stop:?}");
        let completion = run(
            engine,
            Request {
                stop,
                ..free.clone()
            },
        );
        assert_eq!(
            (&completion.ids[..], completion.finish),
            (&all[..count], finish),
            "{said}"
        );
    }
    let strings = |texts: &[&str]| Stop {
        strings: texts.iter().map(|text| (*text).to_string()).collect(),
        eos: Vec::new(),
    };
    // From the last character of the third token to the first of the fifth.
    let across = &text[8..13];
    assert_eq!(
        text.find(across),
        Some(8),
        "the text has no earlier place like it"
    );
    check(
        &mut engine,
        &free,
        strings(&["x", across]),
        &ids,
        5,
        Finish::Stop(1),
    );
    // What was there before does not count: only its second half was sampled.
    let seam = format!("33{}", &text[..4]);
    check(
        &mut engine,
        &free,
        strings(&[&seam]),
        &ids,
        12,
        Finish::Length,
    );
    let fourth = ids[3];
    let first_fourth = ids.iter().position(|id| *id == fourth).unwrap();
    let eos = Stop {
        strings: Vec::new(),
        eos: vec![300, fourth],
    };
    check(&mut engine, &free, eos, &ids, first_fourth + 1, Finish::Eos);
}

/// Passes everything on, and keeps every path as the engine was told it.
struct Witness<'a> {
    engine: LocalEngine<'a>,
    open: BTreeMap<PathKey, Vec<u32>>,
    closed: BTreeMap<PathKey, Vec<u32>>,
}

impl Engine for Witness<'_> {
    fn submit(&mut self, request: Request) {
        let path = self.open.entry(request.key).or_default();
        path.truncate(request.keep);
        path.extend_from_slice(&request.append);
        self.engine.submit(request);
    }

    fn adopt(&mut self, key: PathKey, prompt: usize, ids: Vec<u32>) {
        self.open.insert(key, ids.clone());
        self.engine.adopt(key, prompt, ids);
    }

    fn close(&mut self, key: PathKey) {
        self.closed
            .insert(key, self.open.remove(&key).unwrap_or_default());
        self.engine.close(key);
    }

    fn wait(&mut self) -> Result<Option<Completion>, EngineError> {
        let completion = self.engine.wait()?;
        if let Some(Completion { key, ids, .. }) = &completion {
            self.open.get_mut(key).unwrap().extend_from_slice(ids);
        }
        Ok(completion)
    }

    fn positions(&self) -> usize {
        self.engine.positions()
    }
}

#[test]
fn groups_end_and_their_traces_are_what_the_engine_saw() {
    let settings = Settings {
        paths: 4,
        turn_tokens: 20,
        max_tokens: 90,
        summary_tokens: 10,
        answer_tokens: 12,
        peers: 2,
        router: Router::Dispersed,
        similarity: Similarity::Levenshtein,
        sampling: WARM,
        ..Preset::Default.settings(Method::LeapT)
    };
    let question = Question {
        text: "Q: 1 + 1?\n".into(),
        kind: AnswerKind::Integer,
        choices: Vec::new(),
    };
    let engine = engine(LocalSettings {
        max_rows: 6,
        prefill_tokens: 32,
        ..SETTINGS
    });
    let mut witness = Witness {
        engine,
        open: BTreeMap::new(),
        closed: BTreeMap::new(),
    };
    let prompt = "Q: 1 + 1?\n";
    let mut groups: Vec<Group> = (0..3)
        .map(|index| {
            let setup = Setup {
                question: question.clone(),
                settings: settings.clone(),
                prompts: PromptSet {
                    math: "{problem}".into(),
                    ..PromptSet::clean()
                },
                stream: Stream::of_run(1).indexed(index.into()),
                positions: witness.positions(),
                beginnings: Vec::new(),
                planted: 0,
            };
            Group::new(index, setup, &ByteVocab).unwrap()
        })
        .collect();
    let solved = solve(&mut groups, &mut witness, &ByteVocab, &mut |_| {
        std::ops::ControlFlow::Continue(())
    });
    assert_eq!(solved.unwrap(), Solved::Done);
    let mut injected = 0;
    for (index, group) in groups.into_iter().enumerate() {
        let origin = Origin {
            seed: 1,
            recipe: String::new(),
            model: "random".into(),
            tokenizer: ByteVocab.hash().into(),
            device: "cpu f32".into(),
        };
        let trace = group.into_trace("p".into(), 0, origin);
        assert!(!trace.blocks.is_empty());
        for (path, trace) in trace.paths.iter().enumerate() {
            assert!(!matches!(trace.end, PathEnd::Failed(_)), "{:?}", trace.end);
            let ids: Vec<u32> = trace
                .spans
                .iter()
                .flat_map(|span| span.ids.clone())
                .collect();
            assert_eq!(ids, witness.closed[&key(index as u32, path as u32)]);
            injected += trace.injected();
        }
    }
    let stats = witness.engine.stats();
    assert_eq!(stats.refilled, 0);
    // Each group feeds its own prompt once, and every injected token once.
    assert_eq!(stats.prefilled as usize, 3 * prompt.len() + injected);
    assert_eq!(witness.engine.kv_bytes(), 0);
}
