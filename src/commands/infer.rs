//! `leap infer`: one problem, one group, the exchange as it happens.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use infer::engine::Engine;
use infer::local::LocalSettings;
use infer::vocab::TokenizerVocab;
use model::device::DeviceSpec;
use protocol::grade::{AnswerKind, extract};
use protocol::{
    Group, Origin, PathEnd, PromptSet, Question, Settings, Setup, Span, SpanKind, Stream, Trace,
    Vocab,
};
use toml::Table;

use super::ExitStatus;
use crate::cli::InferArgs;
use crate::fault::Fault;
use crate::output::Output;
use crate::{devices, interrupt, ledger, presets, recipes, road, servers};

pub(super) fn run(args: InferArgs, output: &mut Output) -> Result<ExitStatus> {
    let (settings, prompts) = settings(&args)?;
    let question = Question {
        text: problem_text(&args.problem)?,
        kind: AnswerKind::Math,
        choices: Vec::new(),
    };
    let folder = road::model_folder(&args.checkpoint)?;
    let vocab = TokenizerVocab::load(&folder)?;
    let (mut engine, model, device) = engine(&args, &settings, &folder, &vocab, output)?;
    interrupt::listen()?;

    let setup = Setup {
        question,
        settings,
        prompts,
        stream: Stream::of_run(args.seed).named("infer"),
        positions: engine.positions(),
        beginnings: Vec::new(),
        planted: 0,
    };
    let mut group = Group::new(0, setup, &vocab)?;
    let mut shown = vec![0; group.paths()];
    let show = |group: &Group, output: &mut Output, shown: &mut Vec<usize>| {
        for (path, shown) in shown.iter_mut().enumerate() {
            for span in group
                .spans(path)
                .iter()
                .skip(*shown)
                .filter(|span| is_shown(span.kind))
            {
                output.note(&format!("[{}] {}", path + 1, line(span)));
            }
            *shown = group.spans(path).len();
        }
    };
    let mut step = group.start(&vocab);
    loop {
        for request in step.requests {
            engine.submit(request);
        }
        for key in step.ended {
            engine.close(key);
        }
        show(&group, output, &mut shown);
        if interrupt::asked() {
            output.note("stopped");
            return Ok(ExitStatus::Interrupted);
        }
        match engine.wait()? {
            Some(completion) => step = group.accept(completion, &vocab),
            None => break,
        }
    }
    let origin = Origin {
        seed: args.seed,
        recipe: String::new(),
        model,
        tokenizer: vocab.hash().to_string(),
        device,
    };
    let trace = group.into_trace("question".into(), 0, origin);
    conclude(&trace, args.json, output)
}

/// Who answers, with what traces call the model and the device.
fn engine<'v>(
    args: &InferArgs,
    settings: &Settings,
    folder: &Path,
    vocab: &'v TokenizerVocab,
    output: &mut Output,
) -> Result<(Box<dyn Engine + 'v>, String, String)> {
    if !args.servers.servers.is_empty() {
        let model = args.served_model.as_deref();
        let engine = servers::open(&args.servers, model, None, vocab, output)?;
        engine
            .check(&settings.sampling)
            .map_err(|error| servers::advised(&error))?;
        let (model, device) = (engine.model().to_owned(), engine.device());
        return Ok((Box::new(engine), model, device));
    }
    let folder = &road::weights_folder(folder)?;
    let spec: DeviceSpec = args.device.parse()?;
    let device = devices::open(&spec, output)?;
    let dtype = devices::dtype(args.dtype.map(Into::into), &device);
    let local = LocalSettings::for_one_group(settings.all_paths());
    let (engine, _) = road::open_local(folder, vocab, &local, dtype, &device)?;
    let model = ledger::hash_of(&folder.join("config.json")).unwrap_or_default();
    Ok((Box::new(engine), model, format!("{spec} {dtype}")))
}

/// The settings of the group: small ones that answer in seconds on a CPU, or those of a preset.
fn settings(args: &InferArgs) -> Result<(Settings, PromptSet)> {
    let method = presets::method(&args.method)?;
    let mut table = Table::new();
    let small = !args
        .overrides
        .iter()
        .any(|item| presets::is_asked_for(item));
    let count = |given: Option<usize>, small_one: usize| given.or(small.then_some(small_one));
    for (key, value) in [
        ("paths", Some(args.paths)),
        ("turn_tokens", count(args.turn_tokens, 128)),
        ("max_tokens", count(args.max_tokens, 384)),
        ("summary_tokens", count(args.summary_tokens, 64)),
        ("answer_tokens", count(args.answer_tokens, 64)),
        ("peers", count(args.peers, 3)),
    ] {
        if let Some(value) = value {
            recipes::set(
                &mut table,
                &format!("protocol.{key}"),
                (value as i64).into(),
            )?;
        }
    }
    if let Some(temperature) = args.temperature {
        let value = f64::from(temperature).into();
        recipes::set(&mut table, "protocol.sampling.temperature", value)?;
    }
    let (protocol, prompts) = presets::of_call(table, &args.overrides)?;
    let settings = protocol.settings(method);
    settings.check()?;
    Ok((settings, prompts))
}

fn problem_text(given: &str) -> Result<String> {
    let text = match given {
        "-" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read stdin")?;
            text
        }
        text => text.to_string(),
    };
    match text.trim() {
        "" => Err(Fault::new(
            "the problem is empty",
            "give it as an argument, or - for stdin",
        )
        .into()),
        text => Ok(text.to_string()),
    }
}

fn is_shown(kind: SpanKind) -> bool {
    !matches!(kind, SpanKind::Prompt | SpanKind::Bridge)
}

fn line(span: &Span) -> String {
    let name = match span.kind {
        SpanKind::Prompt => "prompt",
        SpanKind::Beginning => "begins with",
        SpanKind::Thought => "thinks",
        SpanKind::Trigger => "is asked",
        SpanKind::Summary => "sums up",
        SpanKind::Comment => "hears",
        SpanKind::Bridge => "goes on",
        SpanKind::Forced => "must answer",
        SpanKind::Answer => "answers",
    };
    format!("{name}: {}", span.text.trim())
}

/// Prints the vote; exit code 1 if no path gave an answer.
fn conclude(trace: &Trace, json: bool, output: &mut Output) -> Result<ExitStatus> {
    let answers: Vec<Option<String>> = trace
        .counted()
        .map(|path| extract(&path.answer_text(trace.think_open)?, AnswerKind::Math).0)
        .collect();
    for (&path, answer) in trace.counted.iter().zip(&answers) {
        let how = match &trace.paths[path as usize].end {
            PathEnd::Answered | PathEnd::Stopped => "",
            PathEnd::Forced => " (forced)",
            PathEnd::Outgrown => " (forced: no positions left)",
            PathEnd::Released => " (released)",
            PathEnd::Failed(reason) => &format!(" (failed: {reason})"),
        };
        let answer = answer.as_deref().unwrap_or("no answer");
        output.note(&format!("path {}: {answer}{how}", path + 1));
    }
    let vote = vote(&answers);
    if json {
        output.data(&serde_json::to_string(trace)?);
    } else if let Some((answer, votes)) = &vote {
        output.note(&format!("{votes} of {} paths agree", answers.len()));
        output.data(answer);
    } else {
        output.note("no path gave an answer");
    }
    Ok(if vote.is_some() {
        ExitStatus::Done
    } else {
        ExitStatus::AnswerIsNo
    })
}

/// The most frequent answer; of equally frequent ones, the one of the lowest path.
fn vote(answers: &[Option<String>]) -> Option<(String, usize)> {
    let given: Vec<&String> = answers.iter().flatten().collect();
    let votes = |answer: &String| given.iter().filter(|other| **other == answer).count();
    let best = given.iter().rev().max_by_key(|answer| votes(answer))?;
    Some(((*best).clone(), votes(best)))
}
