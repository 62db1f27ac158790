//! What paths heard, told again from their summaries and the routes: the filter `comments`.

use protocol::{PathTrace, SUMMARY_OPEN, SpanKind, Trace};

use super::{Column, Seen};

/// What peers could read of each path, by block.
pub(super) struct Heard {
    /// For each path, blocks in which it summed up and what was read of it, in order.
    said: Vec<Vec<(u32, String)>>,
}

impl Heard {
    pub(super) fn of(trace: &Trace) -> Self {
        let said = trace.paths.iter().map(|path| said(path, trace)).collect();
        Self { said }
    }

    /// What a path said in its blocks, in order.
    pub(super) fn said(&self, path: u32) -> &[(u32, String)] {
        &self.said[path as usize]
    }

    /// What is read of a path in `block`: one that has left is heard with its last summary.
    pub(super) fn in_block(&self, path: u32, block: u32) -> Option<&str> {
        let said = self.said[path as usize].iter().rev();
        let mut known = said.filter(|(wrote, _)| *wrote <= block);
        known.next().map(|(_, text)| text.as_str())
    }
}

/// The summaries of a path as its peers read them.
fn said(path: &PathTrace, trace: &Trace) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    let mut before = String::new();
    let mut spans = path.spans.iter().peekable();
    while let Some(span) = spans.next() {
        before += &span.text;
        let (SpanKind::Summary, Some(block)) = (span.kind, span.block) else {
            continue;
        };
        // What closes a summary that was cut is a bridge of the same block.
        let mut own = span.text.clone();
        while let Some(next) =
            spans.next_if(|next| next.kind == SpanKind::Bridge && next.block == Some(block))
        {
            before += &next.text;
            own += &next.text;
        }
        let trigger = path
            .spans
            .iter()
            .find(|other| other.kind == SpanKind::Trigger && other.block == Some(block));
        // A path that opened its summary itself has the tag in its thought.
        let opening = match trigger.filter(|trigger| trigger.text.contains(SUMMARY_OPEN)) {
            Some(trigger) => trigger.text.as_str(),
            None => SUMMARY_OPEN,
        };
        let heard = trace
            .setup
            .settings
            .rules
            .heard(&before, &(opening.to_owned() + &own));
        found.push((block, heard));
    }
    found
}

/// Whether every comment is what the routes say, and followed by the sentence that belongs to it.
pub(super) fn equal(seen: &Seen<'_>, heard: &Heard) -> Column {
    let (trace, spans) = (seen.trace, &seen.path.spans);
    let mut told = 0;
    for block in &trace.blocks {
        let Some(route) = block.routes.iter().find(|route| route.reader == seen.index) else {
            continue;
        };
        told += 1;
        let number = block.index;
        let mut texts = Vec::with_capacity(route.peers.len());
        for &peer in &route.peers {
            match heard.in_block(peer, number) {
                Some(text) => texts.push(text.to_owned()),
                None => {
                    let fault = format!("block {number}: path {peer} is heard, and said nothing");
                    return Column::faultless(Some(fault));
                }
            }
        }
        let (comment, next) = trace.setup.prompts.comment(&texts);
        let of_block =
            |kind| move |span: &&protocol::Span| span.kind == kind && span.block == Some(number);
        let Some(at) = spans
            .iter()
            .position(|span| of_block(SpanKind::Comment)(&span))
        else {
            return Column::faultless(Some(format!("block {number}: the comment is missing")));
        };
        if spans[at].text != comment {
            let fault = format!("block {number}: the comment is not what the routed peers said");
            return Column::faultless(Some(fault));
        }
        let behind = spans.get(at + 1).filter(of_block(SpanKind::Bridge));
        if behind.map_or("", |span| span.text.as_str()) != next {
            let fault = format!("block {number}: another sentence follows the comment");
            return Column::faultless(Some(fault));
        }
    }
    let there = spans
        .iter()
        .filter(|span| span.kind == SpanKind::Comment)
        .count();
    Column::faultless((there != told).then(|| format!("{there} comments, but {told} routes")))
}
