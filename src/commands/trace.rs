//! `leap trace`: recorded groups, word by word, driven again, and counted.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result};
use infer::vocab::TokenizerVocab;
use protocol::reaction::Reaction;
use protocol::trace_stats::{TraceStats, end_name};
use protocol::{ByteVocab, PathTrace, SpanKind, Trace, Vocab, jsonl};

use super::ExitStatus;
use crate::cli::{TraceCommand, TraceFilter};
use crate::fault::Fault;
use crate::output::Output;

pub(super) fn run(command: TraceCommand, output: &mut Output) -> Result<ExitStatus> {
    match command {
        TraceCommand::Show { which, path, full } => show(&which, path, full, output),
        TraceCommand::Replay { which, tokenizer } => replay(&which, tokenizer.as_deref(), output),
        TraceCommand::Stats { which, json } => stats(&which, json, output),
    }
}

/// The traces of a file that a call asks for.
fn read(which: &TraceFilter) -> Result<Vec<Trace>> {
    let name = || format!("`{}`", which.file.display());
    let file = File::open(&which.file).with_context(|| format!("cannot read {}", name()))?;
    let mut traces: Vec<Trace> = jsonl::read(BufReader::new(file)).with_context(name)?;
    for (index, trace) in traces.iter().enumerate() {
        let problem = trace.check();
        problem
            .map_err(|problem| anyhow::anyhow!("{}, record {}: {problem}", name(), index + 1))?;
    }
    let all = traces.len();
    traces.retain(|trace| {
        let problem = which.problem.as_ref();
        problem.is_none_or(|id| *id == trace.problem)
            && which.group.is_none_or(|group| group == trace.group)
    });
    match traces.is_empty() {
        false => Ok(traces),
        true => Err(Fault::new(
            format!(
                "none of the {all} groups in {} is the one asked for",
                name()
            ),
            "leave --problem and --group out to see all of them",
        )
        .into()),
    }
}

fn show(
    which: &TraceFilter,
    path: Option<usize>,
    full: bool,
    output: &mut Output,
) -> Result<ExitStatus> {
    let traces = read(which)?;
    let left = traces.len() - 1;
    // One group fills screens: without a filter the first one is shown.
    let asked = which.problem.is_some() || which.group.is_some();
    let shown = if asked { traces.len() } else { 1 };
    for trace in &traces[..shown] {
        if let Some(path) = path
            && path >= trace.paths.len()
        {
            let paths = trace.paths.len();
            return Err(Fault::new(
                format!("there is no path {path}: the group has {paths}"),
                "paths are counted from 0",
            )
            .into());
        }
        output.data(&head(trace));
        for (index, one) in trace.paths.iter().enumerate() {
            if path.is_none_or(|path| path == index) {
                output.data(&path_text(trace, index, one, full));
            }
        }
    }
    if !asked && left > 0 {
        output.note(&format!(
            "{left} more groups: choose with --problem ID and --group N"
        ));
    }
    Ok(ExitStatus::Done)
}

fn head(trace: &Trace) -> String {
    let origin = &trace.origin;
    let mut lines = vec![
        format!(
            "problem {} group {}: {}, {} paths, {} blocks, seed {}",
            trace.problem,
            trace.group,
            trace.method.name(),
            trace.paths.len(),
            trace.blocks.len(),
            origin.seed
        ),
        format!("written by {} on {}", origin.model, origin.device),
        format!("question: {}", trace.setup.question.text.trim()),
    ];
    for block in &trace.blocks {
        for route in &block.routes {
            let pairs = route.peers.iter().zip(&route.scores);
            let peers: Vec<String> = pairs
                .map(|(peer, score)| format!("{peer} ({score:.2})"))
                .collect();
            let peers = match peers.is_empty() {
                true => "nobody".to_string(),
                false => peers.join(", "),
            };
            let (block, reader) = (block.index, route.reader);
            lines.push(format!("block {block}: path {reader} hears {peers}"));
        }
    }
    lines.join("\n")
}

/// Most characters of a span in one line of `show`.
const SHORT: usize = 160;

fn path_text(trace: &Trace, index: usize, path: &PathTrace, full: bool) -> String {
    let counted = match trace.counted.contains(&(index as u32)) {
        true => "",
        false => ", not counted",
    };
    let mut lines = vec![format!(
        "\npath {index}: {}{counted}, {} sampled + {} injected tokens",
        end_name(&path.end),
        path.sampled(),
        path.injected()
    )];
    for span in &path.spans {
        let block = match span.block {
            Some(block) => format!(" {block}"),
            None => String::new(),
        };
        let kind = format!("{:?}{block}", span.kind).to_lowercase();
        let dropped = match span.dropped.len() {
            0 => String::new(),
            dropped => format!(" (and {dropped} cut off)"),
        };
        let text = match full || span.kind != SpanKind::Prompt {
            true => shortened(&span.text, full),
            // The question stands in the head.
            false => format!("[{} tokens]", span.ids.len()),
        };
        lines.push(format!("  {kind:>10} | {text}{dropped}"));
    }
    lines.join("\n")
}

/// The text in one line, or whole with its lines set in.
fn shortened(text: &str, full: bool) -> String {
    if full {
        return text.replace('\n', "\n             | ");
    }
    let line = text.replace('\n', "\u{23ce}");
    match line.chars().count() {
        0..=SHORT => line,
        length => {
            let head: String = line.chars().take(SHORT * 2 / 3).collect();
            let tail: String = line.chars().skip(length - SHORT / 3).collect();
            format!("{head} ... {tail}")
        }
    }
}

fn replay(
    which: &TraceFilter,
    tokenizer: Option<&Path>,
    output: &mut Output,
) -> Result<ExitStatus> {
    let traces = read(which)?;
    let vocab: Box<dyn Vocab> = match tokenizer {
        Some(folder) => Box::new(TokenizerVocab::load(folder)?),
        None if traces
            .iter()
            .all(|t| t.origin.tokenizer == ByteVocab.hash()) =>
        {
            Box::new(ByteVocab)
        }
        None => {
            return Err(Fault::new(
                format!(
                    "the traces need the tokenizer {}",
                    traces[0].origin.tokenizer
                ),
                "give its folder: --tokenizer DIR, the checkpoint that wrote them or the \
                 tokenizer/ of their run",
            )
            .into());
        }
    };
    let (mut requests, mut routes, mut failed) = (0, 0, 0);
    for trace in &traces {
        match trace.replay(vocab.as_ref()) {
            Ok(done) => {
                requests += done.requests;
                routes += done.routes;
            }
            Err(error) => {
                failed += 1;
                let place = format!("problem `{}` group {}", trace.problem, trace.group);
                output
                    .error(&anyhow::Error::new(error).context(format!("{place} does not replay")));
            }
        }
    }
    let groups = traces.len();
    output.data(&format!(
        "{} of {groups} groups replay: {requests} requests and {routes} routes are the same",
        groups - failed
    ));
    Ok(match failed {
        0 => ExitStatus::Done,
        _ => ExitStatus::AnswerIsNo,
    })
}

fn stats(which: &TraceFilter, json: bool, output: &mut Output) -> Result<ExitStatus> {
    let stats = TraceStats::of(&read(which)?);
    if json {
        output.data(&serde_json::to_string_pretty(&stats)?);
        return Ok(ExitStatus::Done);
    }
    let list = |counts: &std::collections::BTreeMap<String, u64>| {
        let items: Vec<String> = counts
            .iter()
            .map(|(name, n)| format!("{n} {name}"))
            .collect();
        items.join(", ")
    };
    output.data(&format!(
        "{} groups on {} problems ({}), {} paths: {}",
        stats.groups,
        stats.problems,
        list(&stats.methods),
        stats.paths,
        list(&stats.ends)
    ));
    let per_path = |tokens: u64| tokens as f64 / stats.paths.max(1) as f64;
    output.data("\ntokens             all    per path");
    for (kind, tokens) in &stats.tokens {
        let kind = format!("{kind:?}").to_lowercase();
        output.data(&format!(
            "{kind:<10} {tokens:>11} {:>11.1}",
            per_path(*tokens)
        ));
    }
    let dropped = stats.dropped;
    output.data(&format!(
        "{:<10} {dropped:>11} {:>11.1}",
        "cut off",
        per_path(dropped)
    ));
    output.data(&format!("longest path: {} tokens", stats.longest));
    if stats.readings == 0 {
        return Ok(ExitStatus::Done);
    }
    output.data(&format!(
        "\n{} rounds, {} readings of which {} without a peer; {} summaries, {} cut at their limit, \
         {} opened by the path itself",
        stats.rounds,
        stats.readings,
        stats.without_peers,
        stats.summaries,
        stats.cut_summaries,
        stats.self_opened
    ));
    output.data(&format!(
        "\n{:<6} {:>8} {}",
        "block",
        "readings",
        reaction_heads()
    ));
    for (block, counts) in &stats.reactions {
        let count = |reaction| counts.get(&reaction).copied().unwrap_or(0);
        output.data(&reaction_line(&block.to_string(), count));
    }
    output.data(&reaction_line("all", |reaction| stats.reacted(reaction)));
    Ok(ExitStatus::Done)
}

fn reaction_heads() -> String {
    let names = Reaction::ALL.map(|reaction| format!("{:>11}", reaction.name()));
    names.join(" ")
}

fn reaction_line(name: &str, count: impl Fn(Reaction) -> u64) -> String {
    let counts = Reaction::ALL.map(count);
    let all: u64 = counts.iter().sum();
    let shares = counts.map(|n| format!("{:>10.1}%", 100.0 * n as f64 / all.max(1) as f64));
    format!("{name:<6} {all:>8} {}", shares.join(" "))
}
