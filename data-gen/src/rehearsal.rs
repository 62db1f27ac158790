//! Traces in any number, without a model and without a file: for measurements.
//!
//! A few groups are written by the simulated reasoner, and told again under other names.

use std::io::{self, Read};
use std::ops::ControlFlow;

use infer::simulated::{SimulatedEngine, Simulation};
use infer::solve::solve;
use protocol::preset::Preset;
use protocol::{
    ByteVocab, Group, Method, Origin, Problem, PromptSet, Settings, Setup, Stream, Vocab,
};

use crate::synthetic::{Family, Order};

/// Different groups that are told again and again.
const ORIGINALS: usize = 16;

/// A reader of traces, a JSON object a line.
pub struct Rehearsal {
    originals: Vec<Original>,
    groups: usize,
    per_problem: usize,
    told: usize,
    line: Vec<u8>,
    at: usize,
}

struct Original {
    problem: Problem,
    /// The line behind the number of the group.
    rest: String,
}

impl Rehearsal {
    /// `groups` groups of `paths` paths that sample up to about `tokens` tokens (bytes, here),
    /// `per_problem` of them on each problem; all at least 1.
    ///
    /// # Panics
    /// If a number is 0.
    pub fn new(groups: usize, per_problem: usize, paths: usize, tokens: usize) -> Self {
        assert!(
            groups > 0 && per_problem > 0 && paths > 0 && tokens > 0,
            "there is nothing to tell"
        );
        let order = Order {
            family: Family::Search,
            choice: false,
            count: ORIGINALS,
        };
        let problems = order.problems(1).expect("the family has more problems");
        let originals = problems
            .into_iter()
            .map(|problem| original(problem, paths, tokens))
            .collect();
        Self {
            originals,
            groups,
            per_problem,
            told: 0,
            line: Vec::new(),
            at: 0,
        }
    }

    /// The problems of the traces.
    pub fn problems(&self) -> Vec<Problem> {
        let count = self.groups.div_ceil(self.per_problem);
        let problem = |index: usize| Problem {
            id: id(index),
            ..self.originals[index % ORIGINALS].problem.clone()
        };
        (0..count).map(problem).collect()
    }
}

fn id(problem: usize) -> String {
    format!("rehearsed-{problem:06}")
}

fn original(problem: Problem, paths: usize, tokens: usize) -> Original {
    let settings = Settings {
        paths,
        turn_tokens: 120.min(tokens / 2).max(1),
        max_tokens: tokens,
        summary_tokens: 64,
        answer_tokens: 40,
        peers: 3,
        ..Preset::Default.settings(Method::LeapT)
    };
    let simulation = Simulation {
        slip: 0.02,
        remembers: false,
        checks: 2,
        positions: 100_000,
        lies: false,
    };
    let setup = Setup {
        question: problem.question.clone(),
        settings,
        prompts: PromptSet::clean(),
        stream: Stream::of_run(1).named(&problem.id),
        positions: simulation.positions,
        beginnings: Vec::new(),
        planted: 0,
    };
    let vocab = ByteVocab;
    let mut engine = SimulatedEngine::new(simulation, &vocab);
    let group = Group::new(0, setup, &vocab).expect("the settings work");
    let mut groups = [group];
    let mut watch = |_| ControlFlow::Continue(());
    solve(&mut groups, &mut engine, &vocab, &mut watch)
        .expect("the simulated reasoner never fails");
    let [group] = groups;
    let origin = Origin {
        seed: 1,
        recipe: String::new(),
        model: SimulatedEngine::name(&simulation),
        tokenizer: vocab.hash().into(),
        device: String::new(),
    };
    let trace = group.into_trace(String::new(), 0, origin);
    let text = serde_json::to_string(&trace).expect("numbers and texts can be written");
    let rest = text
        .strip_prefix(HEAD)
        .expect("a trace begins with version, problem and group");
    Original {
        problem,
        rest: rest.to_owned(),
    }
}

const HEAD: &str = r#"{"version":1,"problem":"","group":0"#;

impl Read for Rehearsal {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.at == self.line.len() {
            if self.told == self.groups {
                return Ok(0);
            }
            let (problem, group) = (self.told / self.per_problem, self.told % self.per_problem);
            let original = &self.originals[problem % ORIGINALS];
            let name = id(problem);
            let line = format!(
                "{{\"version\":1,\"problem\":\"{name}\",\"group\":{group}{}\n",
                original.rest
            );
            self.line = line.into_bytes();
            (self.at, self.told) = (0, self.told + 1);
        }
        let count = (self.line.len() - self.at).min(to.len());
        to[..count].copy_from_slice(&self.line[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
