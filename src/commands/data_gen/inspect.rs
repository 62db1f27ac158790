//! `leap data-gen inspect`: samples in colours, counted, and where their spans meet.

use anyhow::Result;
use data_gen::inspect::{Counts, Picture, Token, html};
use protocol::{Sample, SpanKind};

use super::super::ExitStatus;
use super::{tokenizer, weight};
use crate::cli::InspectArgs;
use crate::fault::Fault;
use crate::output::{Output, Paint};
use crate::{ledger, sample_file};

pub(super) fn run(args: &InspectArgs, output: &mut Output) -> Result<ExitStatus> {
    if let Some(page) = args.html.as_ref().filter(|page| page.exists()) {
        return Err(Fault::new(
            format!("`{}` exists", page.display()),
            "nothing is overwritten: choose another name",
        )
        .into());
    }
    let weight = weight(args.train_on);
    let name = || format!("`{}`", args.samples.display());
    let mut counts = Counts::default();
    let mut shown: Vec<Sample> = Vec::new();
    for sample in sample_file::records(&args.samples)? {
        let sample = sample?;
        counts.add(&sample, &weight);
        let asked = args.id.as_ref().is_none_or(|id| *id == sample.id);
        if asked && shown.len() < args.first {
            shown.push(sample);
        }
    }
    let Some(first) = shown.first() else {
        let what = match (&args.id, counts.samples) {
            (_, 0) => format!("{} holds no sample", name()),
            (Some(id), all) => format!("none of the {all} samples in {} is `{id}`", name()),
            (None, _) => "--first 0 shows nothing".to_owned(),
        };
        return Err(Fault::new(
            what,
            "`leap data-gen inspect FILE --tokenizer DIR` shows the first one",
        )
        .into());
    };
    let vocab = tokenizer(&first.tokenizer, args.tokenizer.as_deref())?;
    if let Some(other) = shown
        .iter()
        .find(|sample| sample.tokenizer != first.tokenizer)
    {
        return Err(Fault::new(
            format!(
                "sample `{}` was made with another tokenizer than `{}`",
                other.id, first.id
            ),
            "show it alone: --id",
        )
        .into());
    }
    let pictures: Vec<Picture> = shown
        .iter()
        .map(|sample| Picture::of(sample, vocab.as_ref(), &weight))
        .collect();
    if let Some(page) = &args.html {
        let title = args
            .samples
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        ledger::write_whole(page, html::page(&title, &counts, &pictures).as_bytes())?;
        output.data(&page.display().to_string());
        return Ok(ExitStatus::Done);
    }
    for picture in &pictures {
        draw(picture, output);
    }
    output.data(&table(&counts));
    Ok(ExitStatus::Done)
}

/// Neighbouring tokens differ in shade, so that each is seen; those without loss are dim.
fn draw(picture: &Picture, output: &mut Output) {
    output.data(&format!("sample {}, {} tokens", picture.id, picture.len()));
    for span in &picture.spans {
        let trained = span
            .tokens
            .iter()
            .filter(|token| token.weight > 0.0)
            .count();
        let loss = match trained {
            0 => "no loss",
            _ => "loss",
        };
        let head = format!(
            "\n{} | {} tokens, {loss}",
            span.kind.name(),
            span.tokens.len()
        );
        output.data(&head);
        let pieces: Vec<(Paint, String)> = span
            .tokens
            .iter()
            .enumerate()
            .map(|(index, token)| (paint(span.kind, token, index), seen(&token.text)))
            .collect();
        let pieces: Vec<(Paint, &str)> = pieces
            .iter()
            .map(|(paint, text)| (*paint, text.as_str()))
            .collect();
        output.painted_data(&pieces);
    }
    output.data("\nborders (| between tokens)");
    for border in picture.borders() {
        let side = |(kind, tokens): (SpanKind, &[Token])| {
            let texts: Vec<String> = tokens.iter().map(|token| seen(&token.text)).collect();
            (kind.name(), texts.join("|").replace('\n', ""))
        };
        let ((before, last), (after, first)) = (side(border.before), side(border.after));
        output.data(&format!("{before:>10} ...{last} || {first}... {after}"));
    }
}

fn paint(kind: SpanKind, token: &Token, index: usize) -> Paint {
    let colour = match kind {
        SpanKind::Prompt => [244, 250],
        SpanKind::Beginning => [130, 172],
        SpanKind::Thought => [33, 75],
        SpanKind::Trigger => [97, 140],
        SpanKind::Summary => [34, 77],
        SpanKind::Comment => [162, 205],
        SpanKind::Bridge => [142, 185],
        SpanKind::Forced => [166, 208],
        SpanKind::Answer => [160, 203],
    };
    Paint::Token {
        colour: colour[index % 2],
        loss: token.weight > 0.0,
    }
}

/// Line ends are shown and kept; other control characters would steer a terminal.
fn seen(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' => "\u{23ce}\n".to_owned(),
            character if character.is_control() => character.escape_default().to_string(),
            character => character.to_string(),
        })
        .collect()
}

fn table(counts: &Counts) -> String {
    let all = counts.all();
    let share = |part: u64, of: u64| 100.0 * part as f64 / of.max(1) as f64;
    let mut lines = vec![
        format!(
            "\n{} samples, {} tokens, {:.1}% with loss",
            counts.samples,
            all.tokens,
            share(all.trained, all.tokens)
        ),
        format!(
            "{:<10} {:>11} {:>8} {:>11}",
            "kind", "tokens", "share", "with loss"
        ),
    ];
    for (kind, count) in counts.present() {
        lines.push(format!(
            "{:<10} {:>11} {:>7.1}% {:>11}",
            kind.name(),
            count.tokens,
            share(count.tokens, all.tokens),
            count.trained
        ));
    }
    lines.join("\n")
}
