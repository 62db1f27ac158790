//! Groups in which some paths are written by another engine.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it must be"
)]

use std::ops::ControlFlow;

use infer::planted::PlantedEngine;
use infer::simulated::search::Search;
use infer::simulated::{SimulatedEngine, Simulation};
use infer::solve::solve;
use protocol::grade::AnswerKind;
use protocol::preset::Preset;
use protocol::{
    ByteVocab, Group, Method, Origin, PromptSet, Question, Router, Settings, Setup, SpanKind,
    Stream, Trace,
};

const PROBLEM: &str = "Find x from 0 to 22: x +4 *2 = 0 mod 23";
const HONEST: Simulation = Simulation {
    slip: 0.0,
    remembers: false,
    checks: 3,
    positions: 20_000,
    lies: false,
};

/// A group of 8, of which the first ones are liars.
fn group_with(liars: u32, problem: &str) -> Trace {
    let setup = Setup {
        question: Question {
            text: problem.into(),
            kind: AnswerKind::Integer,
            choices: Vec::new(),
        },
        settings: Settings {
            paths: 8,
            turn_tokens: 150,
            max_tokens: 900,
            summary_tokens: 60,
            answer_tokens: 40,
            peers: 7,
            router: Router::All,
            ..Preset::Default.settings(Method::LeapT)
        },
        prompts: PromptSet::clean(),
        stream: Stream::of_run(4).named("a group"),
        positions: 20_000,
        beginnings: Vec::new(),
        planted: liars,
    };
    let mut liar = SimulatedEngine::new(
        Simulation {
            lies: true,
            ..HONEST
        },
        &ByteVocab,
    );
    let mut honest = SimulatedEngine::new(HONEST, &ByteVocab);
    let mut groups = [Group::new(0, setup, &ByteVocab).unwrap()];
    let mut engine = PlantedEngine::new(liars, &mut liar, &mut honest);
    solve(&mut groups, &mut engine, &ByteVocab, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    let [group] = groups;
    let origin = Origin {
        seed: 4,
        recipe: String::new(),
        model: String::new(),
        tokenizer: String::new(),
        device: String::new(),
    };
    group.into_trace("p".into(), 0, origin)
}

fn summaries(trace: &Trace, path: usize) -> Vec<&str> {
    let spans = trace.paths[path].spans.iter();
    spans
        .filter(|span| span.kind == SpanKind::Summary)
        .map(|span| span.text.as_str())
        .collect()
}

#[test]
fn liars_agree_on_a_wrong_solution_and_the_others_are_scored() {
    let trace = group_with(3, PROBLEM);
    assert_eq!(trace.counted, [3, 4, 5, 6, 7]);
    let told: Vec<&str> = (0..3).flat_map(|path| summaries(&trace, path)).collect();
    assert!(
        told.len() >= 3 && told.iter().all(|text| *text == told[0]),
        "{told:?}"
    );
    let claimed = told[0].trim().trim_start_matches("found ");
    let claimed: u32 = claimed.trim_end_matches("</summarize>").parse().unwrap();
    let right = Search::find_in(PROBLEM).unwrap().solutions();
    assert!(
        claimed <= 22 && !right.contains(&claimed),
        "{claimed} {right:?}"
    );
    assert!(
        !summaries(&trace, 5).contains(&told[0]),
        "an honest path checks"
    );
}

#[test]
fn without_planted_paths_nothing_is_different() {
    let trace = group_with(0, PROBLEM);
    assert_eq!(trace.counted.len(), 8);
    let found = (0..8).flat_map(|path| summaries(&trace, path));
    let right = Search::find_in(PROBLEM).unwrap().solutions()[0];
    let claims: Vec<&str> = found.filter(|text| text.contains("found")).collect();
    let expected = format!(" found {right}</summarize>");
    assert!(
        !claims.is_empty() && claims.iter().all(|text| *text == expected),
        "{claims:?}"
    );
}
