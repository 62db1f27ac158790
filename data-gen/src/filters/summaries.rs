//! Filters on summaries: ended, of substance, new.

use protocol::grade::AnswerKind;
use protocol::{Finish, PathTrace, Similarity, Span, SpanKind};
use serde_json::{Value, json};

use super::comments::Heard;
use super::{Column, FilterSettings, Seen};

fn summaries(path: &PathTrace) -> impl Iterator<Item = &Span> + Clone {
    path.spans
        .iter()
        .filter(|span| span.kind == SpanKind::Summary)
}

/// The path's own closing tag is the first of the stop strings that it is asked with.
pub(super) fn ended(path: &PathTrace, settings: &FilterSettings) -> Column {
    let all = summaries(path);
    let open = all
        .clone()
        .filter(|span| span.finish != Some(Finish::Stop(0)));
    let cut = open.count().max(path.cut_summaries as usize);
    let longest = all.clone().map(|span| span.ids.len()).max().unwrap_or(0);
    let value = json!({ "count": all.count(), "cut": cut, "longest": longest });
    Column::new(value, cut == 0 && longest <= settings.summary_tokens)
}

pub(super) fn substance(seen: &Seen<'_>) -> Column {
    let all = summaries(seen.path);
    let Some(least) = all.clone().map(|span| span.ids.len()).min() else {
        return Column::new(Value::Null, true);
    };
    let mathematics = seen.problem.question.kind != AnswerKind::Choice;
    let mut texts = all.map(|span| &span.text);
    let says = !mathematics || texts.all(|text| text.contains(|c: char| c.is_ascii_digit()));
    Column::new(least, least >= seen.settings.summary_least && says)
}

/// The greatest similarity of two summaries in a row.
pub(super) fn progress(seen: &Seen<'_>, heard: &Heard) -> Column {
    let said = heard.said(seen.index).windows(2);
    let alike = said.map(|pair| Similarity::Indel.of(&pair[0].1, &pair[1].1));
    Column::at_most(alike.reduce(f64::max), seen.settings.progress)
}

/// The greatest similarity of a summary to one that was heard before it.
pub(super) fn copying(seen: &Seen<'_>, heard: &Heard) -> Column {
    let mut known: Vec<(u32, &str)> = Vec::new();
    for block in &seen.trace.blocks {
        let mine = block
            .routes
            .iter()
            .filter(|route| route.reader == seen.index);
        let peers = mine.flat_map(|route| &route.peers);
        known.extend(
            peers.filter_map(|&peer| Some((block.index, heard.in_block(peer, block.index)?))),
        );
    }
    let own = heard.said(seen.index).iter();
    let alike = own.flat_map(|(block, text)| {
        let before = known.iter().filter(move |(heard, _)| heard < block);
        before.map(move |(_, other)| Similarity::Indel.of(text, other))
    });
    Column::at_most(alike.reduce(f64::max), seen.settings.copying)
}
