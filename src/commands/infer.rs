//! `leap infer`: one problem, one group, the exchange as it happens.

use std::io::Read;

use anyhow::{Context, Result};
use infer::engine::Engine;
use infer::local::LocalSettings;
use infer::vocab::TokenizerVocab;
use model::device::{DeviceSpec, Dtype};
use protocol::grade::{AnswerKind, extract};
use protocol::{
    Group, Origin, PathEnd, PromptSet, Question, Router, Sampling, Settings, Similarity, Span,
    SpanKind, Stream, Trace, Vocab,
};

use super::ExitStatus;
use crate::cli::InferArgs;
use crate::fault::Fault;
use crate::output::Output;
use crate::{interrupt, ledger, road};

pub(super) fn run(args: InferArgs, output: &mut Output) -> Result<ExitStatus> {
    let settings = settings(&args)?;
    let question = Question {
        text: problem_text(&args.problem)?,
        kind: AnswerKind::Math,
        choices: Vec::new(),
    };
    let folder = road::model_folder(&args.checkpoint)?;
    let spec: DeviceSpec = args.device.parse()?;
    let device = spec.open()?;
    let vocab = TokenizerVocab::load(&folder)?;
    let local = LocalSettings::for_one_group(settings.paths);
    let (mut engine, _) = road::open_local(&folder, &vocab, &local, Dtype::F32, &device)?;
    interrupt::listen()?;

    let prompts = PromptSet::clean();
    let user = prompts.user(&question, settings.method);
    let prompt = vocab.prompt(&user)?;
    let stream = Stream::of_run(args.seed).named("infer");
    let mut group = Group::new(
        0,
        settings.clone(),
        prompts,
        &question,
        &prompt,
        stream,
        engine.positions(),
        &vocab,
    )?;
    let mut shown = vec![0; settings.paths];
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
        model: ledger::hash_of(&folder.join("config.json")).unwrap_or_default(),
        tokenizer: vocab.hash().to_string(),
        device: format!("{spec} {}", Dtype::F32),
    };
    let trace = group.into_trace("question".into(), 0, origin);
    conclude(&trace, args.json, output)
}

fn settings(args: &InferArgs) -> Result<Settings> {
    let method = serde_json::from_value(args.method.clone().into()).map_err(|_| {
        Fault::new(
            format!("there is no method `{}`", args.method),
            "choose cot, leap or leap-t",
        )
    })?;
    let settings = Settings {
        method,
        paths: args.paths,
        turn_tokens: args.turn_tokens,
        max_tokens: args.max_tokens,
        summary_tokens: args.summary_tokens,
        answer_tokens: args.answer_tokens,
        peers: args.peers,
        router: Router::Dispersed,
        similarity: Similarity::Levenshtein,
        sampling: Sampling {
            temperature: args.temperature,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
        },
    };
    settings.check()?;
    Ok(settings)
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
        .paths
        .iter()
        .map(|path| extract(&path.answer_text(trace.think_open)?, AnswerKind::Math).0)
        .collect();
    for (path, answer) in answers.iter().enumerate() {
        let how = match &trace.paths[path].end {
            PathEnd::Answered | PathEnd::Stopped => "",
            PathEnd::Forced => " (forced)",
            PathEnd::Outgrown => " (forced: no positions left)",
            PathEnd::Failed(_) => " (failed)",
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
