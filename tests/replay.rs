//! What a model thinks of its own tokens, in the evaluation loop and in training.

mod bench;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bench::{Bench, micro};
use infer::engine::{Engine, EngineError};
use infer::local::{LocalEngine, LocalSettings};
use infer::solve::solve;
use infer::vocab::TokenizerVocab;
use model::device::{DeviceSpec, Dtype};
use protocol::{
    Completion, Group, Method, Origin, PathKey, Problem, Request, Sample, Settings, Setup,
    SpanKind, Stream, Vocab,
};
use train::{TrainOn, loss_and_gradients};

/// Asks for log-probabilities, and keeps the tokens of each path with theirs.
struct Listening<'v> {
    engine: LocalEngine<'v>,
    heard: BTreeMap<PathKey, Vec<(u32, f32)>>,
}

impl Engine for Listening<'_> {
    fn submit(&mut self, request: Request) {
        self.engine.submit(Request {
            logprobs: true,
            ..request
        });
    }

    fn adopt(&mut self, key: PathKey, prompt: usize, ids: Vec<u32>) {
        self.engine.adopt(key, prompt, ids);
    }

    fn close(&mut self, key: PathKey) {
        self.engine.close(key);
    }

    fn wait(&mut self) -> Result<Option<Completion>, EngineError> {
        let completion = self.engine.wait()?;
        if let Some(completion) = &completion {
            let of = completion.logprobs.iter().flatten().copied();
            let tokens = completion.ids.iter().copied().zip(of);
            self.heard.entry(completion.key).or_default().extend(tokens);
        }
        Ok(completion)
    }

    fn positions(&self) -> usize {
        self.engine.positions()
    }
}

/// Roll-backs, injected comments and forced answers lie between a path's own tokens; what comes after
/// them must be as probable as if the whole path were read at once, as training reads it.
#[test]
fn a_path_is_as_probable_in_the_evaluation_loop_as_in_training() {
    let bench = Bench::new();
    bench.leap(&micro("out")).succeeds();
    let folder = bench.path("out/checkpoints/leap-t");
    let recipe = std::fs::read_to_string(bench.path("out/recipe.toml")).expect("a recipe");
    let recipe: toml::Table = recipe.parse().expect("TOML");
    let read = |key: &str| recipe[key].clone();
    let prompts: protocol::PromptSet = read("prompts").try_into().expect("prompts");
    let mut protocol = read("protocol").as_table().expect("a table").clone();
    protocol.remove("preset");
    protocol.insert("method".into(), "leap-t".into());
    let settings: Settings = toml::Value::Table(protocol).try_into().expect("settings");
    assert_eq!(settings.method, Method::LeapT);
    let problems = std::fs::read_to_string(bench.path("out/problems.jsonl")).expect("problems");
    let problems = problems.lines().take(4);
    let problems: Vec<Problem> = problems
        .map(|line| serde_json::from_str(line).expect("a problem"))
        .collect();

    let device = DeviceSpec::Cpu.open().expect("the processor");
    let vocab = TokenizerVocab::load(&folder).expect("a tokenizer");
    let (_, decoder) = model::checkpoint::load(&folder, &device, Dtype::F32).expect("a model");
    let engine = LocalEngine::new(decoder, &vocab, LocalSettings::for_one_group(16));
    let mut engine = Listening {
        engine: engine.expect("an engine"),
        heard: BTreeMap::new(),
    };
    let group = |(index, problem): (usize, &Problem)| {
        let setup = Setup {
            question: problem.question.clone(),
            settings: settings.clone(),
            prompts: prompts.clone(),
            stream: Stream::of_run(1).named(&problem.id),
            positions: engine.positions(),
            beginnings: Vec::new(),
            planted: 0,
        };
        Group::new(index as u32, setup, &vocab).expect("a group")
    };
    let mut groups: Vec<Group> = problems.iter().enumerate().map(group).collect();
    solve(&mut groups, &mut engine, &vocab, &mut |_| {
        ControlFlow::Continue(())
    })
    .expect("it answers");

    let autodiff = device.autodiff();
    let (_, decoder) = model::checkpoint::load(&folder, &autodiff, Dtype::F32).expect("a model");
    let (mut compared, mut comments) = (0, 0);
    for (index, (group, problem)) in groups.into_iter().zip(&problems).enumerate() {
        let origin = Origin {
            seed: 1,
            recipe: String::new(),
            model: String::new(),
            tokenizer: vocab.hash().to_owned(),
            device: String::new(),
        };
        let trace = group.into_trace(problem.id.clone(), 0, origin);
        for (path, trace_of_path) in trace.paths.iter().enumerate() {
            let key = PathKey {
                group: index as u32,
                path: path as u32,
            };
            let mut heard = engine.heard[&key].iter().copied();
            let (mut sum, mut count, mut plain) = (0.0, 0, true);
            for span in trace_of_path
                .spans
                .iter()
                .filter(|span| span.kind.is_sampled())
            {
                for id in &span.ids {
                    let (sampled, logprob) = heard.next().expect("every own token was sampled");
                    // Where a cut fell inside a token, its kept part was encoded anew.
                    plain &= sampled == *id;
                    sum += f64::from(logprob);
                    count += 1;
                }
                for _ in &span.dropped {
                    heard.next();
                }
            }
            if !plain {
                continue;
            }
            let sample = Sample::of_path(&trace, path).expect("it holds its prompt");
            let found = loss_and_gradients(&decoder, &[sample], &TrainOn::Own, 4096);
            let off = (found.loss + sum / f64::from(count)).abs();
            assert!(off < 2e-5, "path {path} of {}: {off}", problem.id);
            compared += 1;
            let spans = trace_of_path.spans.iter();
            comments += spans.filter(|span| span.kind == SpanKind::Comment).count();
        }
    }
    assert!(
        compared >= 6 && comments >= 6,
        "{compared} paths, {comments} comments"
    );
}
