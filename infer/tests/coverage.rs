//! A thousand evaluations of the simulated reasoner: the interval of a row covers its accuracy.

#![allow(clippy::print_stderr, reason = "a test says what it measured")]

use std::ops::ControlFlow;

use infer::score::{Row, score};
use infer::simulated::search::{Op, Search};
use infer::simulated::{SimulatedEngine, Simulation};
use infer::solve::solve;
use protocol::grade::AnswerKind;
use protocol::preset::Preset;
use protocol::{
    ByteVocab, Gold, Group, Method, Origin, Problem, PromptSet, Question, Settings, Setup, Stream,
    Trace,
};

const EVALUATIONS: u64 = 1000;
const PROBLEMS: u64 = 24;

/// A problem of the family with a range of its own, so that some are easy and some hopeless.
fn problem(place: u64, stream: &Stream) -> Problem {
    let search = Search {
        first: 0,
        last: 1 + stream.below(0, 22) as u32,
        ops: vec![Op::Add(stream.below(1, 20) as u32 + 1)],
        target: 0,
        modulus: 23,
    };
    // The target is what a candidate of the range gives.
    let x = stream.below(2, search.last as usize + 1) as u32;
    let target = search.chain(x)[0];
    let search = Search { target, ..search };
    Problem {
        id: format!("p{place}"),
        question: Question {
            text: search.to_string(),
            kind: AnswerKind::Integer,
            choices: Vec::new(),
        },
        gold: Gold::new(x.to_string()),
        source: None,
        split: None,
    }
}

fn evaluation(number: u64) -> (f64, f64, f64) {
    let run = Stream::of_run(number).named("coverage");
    let problems: Vec<Problem> = (0..PROBLEMS)
        .map(|place| problem(place, &run.named("problems").indexed(place)))
        .collect();
    let settings = Settings {
        paths: 2,
        max_tokens: 60,
        answer_tokens: 30,
        ..Preset::Default.settings(Method::Cot)
    };
    let simulation = Simulation {
        slip: 0.0,
        remembers: false,
        checks: 0,
        positions: 4000,
        lies: false,
    };
    let mut engine = SimulatedEngine::new(simulation, &ByteVocab);
    let mut groups: Vec<Group> = problems
        .iter()
        .enumerate()
        .map(|(index, problem)| {
            let setup = Setup {
                question: problem.question.clone(),
                settings: settings.clone(),
                prompts: PromptSet::clean(),
                stream: run.named(&problem.id),
                positions: 4000,
                beginnings: Vec::new(),
                planted: 0,
            };
            Group::new(index as u32, setup, &ByteVocab).expect("a group")
        })
        .collect();
    let watch = &mut |_| ControlFlow::Continue(());
    solve(&mut groups, &mut engine, &ByteVocab, watch).expect("it is solved");
    let origin = Origin {
        seed: number,
        recipe: String::new(),
        model: SimulatedEngine::name(&simulation),
        tokenizer: "bytes".into(),
        device: "simulated".into(),
    };
    let traces: Vec<Trace> = groups
        .into_iter()
        .zip(&problems)
        .map(|(group, problem)| group.into_trace(problem.id.clone(), 0, origin.clone()))
        .collect();
    let row = Row {
        name: "row".into(),
        title: "row".into(),
        settings: None,
    };
    let summary = score(&row, &problems, traces.into_iter()).expect("scores");
    let found = summary.scores.pass_at_1.over_problems;
    (found.low, found.estimate, found.high)
}

#[test]
fn intervals_cover_the_accuracy_of_the_simulated_reasoner() {
    let all: Vec<(f64, f64, f64)> = (0..EVALUATIONS).map(evaluation).collect();
    // Known 30 times as well as by one evaluation.
    let truth = all.iter().map(|(_, estimate, _)| estimate).sum::<f64>() / all.len() as f64;
    let covered = all
        .iter()
        .filter(|(low, _, high)| (*low..=*high).contains(&truth));
    let share = covered.count() as f64 / EVALUATIONS as f64;
    eprintln!(
        "accuracy {truth:.3}, covered by {:.1}% of the intervals",
        100.0 * share
    );
    assert!((0.2..0.8).contains(&truth), "{truth} is no fair test");
    assert!((0.93..=0.97).contains(&share), "covered by {share}");
}
