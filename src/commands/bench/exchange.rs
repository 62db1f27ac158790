//! What an exchange costs: LeaP against independent paths that sample as many tokens.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::Result;
use infer::local::{LocalSettings, LocalStats};
use infer::solve::solve;
use infer::vocab::TokenizerVocab;
use protocol::grade::AnswerKind;
use protocol::preset::Preset;
use protocol::{
    Group, Method, Origin, Prompt, PromptSet, Question, Settings, Setup, Stream, TemplateError,
    Trace, Vocab,
};
use serde_json::{Value, json};

use super::{engine, machine, prefill, spread, vocab};
use crate::cli::BenchLeap;
use crate::fault::Fault;

/// A vocabulary in which nothing ends a text, so that every path uses its whole budget.
struct Endless<'a>(&'a TokenizerVocab);

impl Vocab for Endless<'_> {
    fn encode(&self, text: &str) -> Vec<u32> {
        self.0.encode(text)
    }

    fn bytes(&self, id: u32) -> Vec<u8> {
        self.0.bytes(id)
    }

    fn prompt(&self, user: &str) -> Result<Prompt, TemplateError> {
        self.0.prompt(user)
    }

    fn eos(&self) -> &[u32] {
        &[]
    }

    fn hash(&self) -> &str {
        self.0.hash()
    }
}

pub(super) fn run(args: &BenchLeap) -> Result<Value> {
    if args.paths == 0 || args.problems == 0 {
        return Err(Fault::new(
            "there is nothing to measure",
            "`--paths` and `--problems` must be at least 1",
        )
        .into());
    }
    let vocab = vocab(&args.model)?;
    let mut rounds = Vec::new();
    for _ in 0..args.model.repeat {
        rounds.push(round(args, &vocab)?);
    }
    let mut ratios: Vec<f64> = rounds.iter().map(|round| round.ratio).collect();
    let [least, middle, most] = spread(&mut ratios);
    Ok(json!({
        "bench": "leap",
        "machine": machine(&args.model),
        "paths": args.paths,
        "turn_tokens": args.turn_tokens,
        "blocks": args.blocks,
        "problems": args.problems,
        "ratio_best": least,
        "ratio_median": middle,
        "ratio_worst": most,
        "rounds": rounds.iter().map(Round::json).collect::<Vec<_>>(),
    }))
}

struct Round {
    leap_seconds: f64,
    cot_seconds: f64,
    injected_seconds: f64,
    sampled: usize,
    injected: usize,
    stats: LocalStats,
    ratio: f64,
}

impl Round {
    fn json(&self) -> Value {
        let fed = self.stats.prefilled.max(1) as f64;
        json!({
            "leap_seconds": self.leap_seconds,
            "cot_seconds": self.cot_seconds,
            "injected_seconds_at_prefill_rate": self.injected_seconds,
            "sampled_tokens": self.sampled,
            "injected_tokens": self.injected,
            "prefilled_tokens": self.stats.prefilled,
            "refilled_tokens": self.stats.refilled,
            "refilled_share": self.stats.refilled as f64 / fed,
            "forward_passes": self.stats.forward_passes,
            "ratio": self.ratio,
        })
    }
}

/// Tokens of the prompt whose rate of feeding is measured.
const FED: usize = 512;

/// LeaP, then independent paths with as many sampled tokens, then the rate of feeding: all in one
/// process, one after the other, so that they see the same machine.
fn round(args: &BenchLeap, vocab: &TokenizerVocab) -> Result<Round> {
    let preset = Preset::Default.settings(Method::Leap);
    let leap = Settings {
        paths: args.paths,
        turn_tokens: args.turn_tokens,
        turns: Some(args.blocks.saturating_add(1)),
        max_tokens: usize::MAX / 4,
        summary_tokens: args.summary_tokens,
        answer_tokens: 1,
        ..preset
    };
    let (traces, leap_seconds, stats) = solved(args, vocab, &leap)?;
    let total = |of: fn(&protocol::PathTrace) -> usize| -> usize {
        traces.iter().flat_map(|trace| &trace.paths).map(of).sum()
    };
    let (sampled, injected) = (
        total(protocol::PathTrace::sampled),
        total(protocol::PathTrace::injected),
    );
    let each = sampled / (args.paths * args.problems);
    let cot = Settings {
        method: Method::Cot,
        turns: None,
        max_tokens: each.saturating_sub(1).max(1),
        ..leap
    };
    let (_, cot_seconds, _) = solved(args, vocab, &cot)?;
    let fed = FED.min(traces[0].setup.positions - 1);
    let mut feeding = prefill::measure(&args.model, vocab, fed)?;
    let rate = fed as f64 / spread(&mut feeding)[1];
    let injected_seconds = injected as f64 / rate;
    Ok(Round {
        leap_seconds,
        cot_seconds,
        injected_seconds,
        sampled,
        injected,
        stats,
        ratio: leap_seconds / (cot_seconds + injected_seconds),
    })
}

fn solved(
    args: &BenchLeap,
    vocab: &TokenizerVocab,
    settings: &Settings,
) -> Result<(Vec<Trace>, f64, LocalStats)> {
    let local = LocalSettings {
        prefill_tokens: 512,
        ..LocalSettings::for_one_group(args.paths * args.problems)
    };
    let model = &args.model;
    let mut engine = engine(&model.checkpoint, vocab, model, &local)?;
    let endless = Endless(vocab);
    let stream = Stream::of_run(1).named("bench leap");
    // Without the worked example both methods have the same prompt.
    let clean = PromptSet::clean();
    let prompts = PromptSet {
        math_example: clean.math.clone(),
        ..clean
    };
    let mut groups = Vec::with_capacity(args.problems);
    for index in 0..args.problems {
        let setup = Setup {
            question: Question {
                text: format!("What is the sum of the first {} odd numbers?", 20 + index),
                kind: AnswerKind::Integer,
                choices: Vec::new(),
            },
            settings: settings.clone(),
            prompts: prompts.clone(),
            stream: stream.indexed(index as u64),
            positions: infer::engine::Engine::positions(&engine),
            beginnings: Vec::new(),
            planted: 0,
        };
        groups.push(Group::new(index as u32, setup, &endless)?);
    }
    let started = Instant::now();
    solve(&mut groups, &mut engine, &endless, &mut |_| {
        ControlFlow::Continue(())
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let origin = Origin {
        seed: 1,
        recipe: String::new(),
        model: String::new(),
        tokenizer: vocab.hash().to_string(),
        device: args.model.device.clone(),
    };
    let traces = groups
        .into_iter()
        .map(|group| group.into_trace("bench".into(), 0, origin.clone()))
        .collect();
    Ok((traces, seconds, engine.stats()))
}
