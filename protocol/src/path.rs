//! One path of a group while it runs: its spans, its budget, and the next thing it asks for.

use serde::{Deserialize, Serialize};

use crate::cut::{cut_at, end_of_last};
use crate::trace::{PathEnd, PathTrace, Span, SpanKind};
use crate::vocab::Vocab;

/// What separates paragraphs.
pub(crate) const BLANK_LINE: &str = "\n\n";

/// What a path is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// A thought is being sampled.
    Thinking,
    /// Its turn is over; it waits for the others.
    Waiting,
    /// Its summary is being sampled.
    Summarising,
    /// Its summary is there; it waits for the others.
    Summarised,
    /// Its answer is being sampled.
    Answering,
    /// It has left the group.
    Ended,
}

/// A path that has not been turned into a trace yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Path {
    pub(crate) spans: Vec<Span>,
    pub(crate) state: State,
    pub(crate) end: Option<PathEnd>,
    /// Sampled thought and summary tokens.
    pub(crate) used: usize,
    /// Whether the path opened the summary of the coming block itself.
    pub(crate) opened: bool,
    /// Whether a `<think>` stands open.
    pub(crate) think_open: bool,
    /// The summary of the current block, as peers read it.
    pub(crate) summary: String,
    pub(crate) answer_ended: bool,
    pub(crate) cut_summaries: u32,
    /// Text of a divided token that goes before the next injected text.
    rest: String,
    /// Tokens at the start of the path that the engine holds.
    synced: usize,
}

impl Path {
    pub(crate) fn new(prompt: &[u32], text: String, think_open: bool) -> Self {
        let span = Span {
            kind: SpanKind::Prompt,
            block: None,
            ids: prompt.to_vec(),
            text,
        };
        Self {
            spans: vec![span],
            state: State::Thinking,
            end: None,
            used: 0,
            opened: false,
            think_open,
            summary: String::new(),
            answer_ended: false,
            cut_summaries: 0,
            rest: String::new(),
            synced: 0,
        }
    }

    /// Tokens of the path so far.
    pub(crate) fn len(&self) -> usize {
        self.spans.iter().map(|span| span.ids.len()).sum()
    }

    /// Puts `text` into the path; a divided token's kept part goes before it.
    pub(crate) fn inject(
        &mut self,
        kind: SpanKind,
        block: Option<u32>,
        text: &str,
        vocab: &dyn Vocab,
    ) {
        let text = std::mem::take(&mut self.rest) + text;
        if text.is_empty() {
            return;
        }
        let ids = vocab.encode(&text);
        self.spans.push(Span {
            kind,
            block,
            ids,
            text,
        });
    }

    /// Appends sampled ids, of which `keep` bytes of text stay (`None` = all).
    ///
    /// Returns the text that stays, the kept part of a divided token included.
    pub(crate) fn push(
        &mut self,
        kind: SpanKind,
        block: Option<u32>,
        ids: &[u32],
        keep: Option<usize>,
        vocab: &dyn Vocab,
    ) -> String {
        let (kept, rest) = match keep {
            None => (ids, String::new()),
            Some(bytes) => {
                let cut = cut_at(vocab, ids, bytes);
                (&ids[..cut.whole], cut.rest)
            }
        };
        let ends = kept.last().is_some_and(|id| vocab.eos().contains(id));
        let text = vocab.text(&kept[..kept.len() - usize::from(ends)]);
        let all = text.clone() + &rest;
        self.rest = rest;
        self.synced += kept.len();
        if !kept.is_empty() {
            self.spans.push(Span {
                kind,
                block,
                ids: kept.to_vec(),
                text,
            });
        }
        all
    }

    /// Cuts the last thought behind its last blank line, so that no half paragraph stays.
    ///
    /// Only the thought sampled since the last block can be cut, nothing older; a thought without
    /// a blank line stays whole. Returns whether a blank line ends the path now.
    pub(crate) fn cut_paragraph(&mut self, vocab: &dyn Vocab) -> bool {
        let Some(span) = self
            .spans
            .last_mut()
            .filter(|span| span.kind == SpanKind::Thought)
        else {
            return false;
        };
        let Some(keep) = end_of_last(vocab, &span.ids, BLANK_LINE) else {
            return false;
        };
        let cut = cut_at(vocab, &span.ids, keep);
        span.ids.truncate(cut.whole);
        span.text = vocab.text(&span.ids);
        self.rest = cut.rest;
        if span.ids.is_empty() {
            self.spans.pop();
        }
        self.synced = self.synced.min(self.len());
        true
    }

    /// What the engine has to keep and to append so that it holds the whole path.
    pub(crate) fn sync(&mut self) -> (usize, Vec<u32>) {
        let keep = self.synced;
        let append = self.ids().skip(keep).collect();
        self.synced = self.len();
        (keep, append)
    }

    fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.spans.iter().flat_map(|span| span.ids.iter().copied())
    }

    pub(crate) fn finish(&mut self, end: PathEnd) {
        self.state = State::Ended;
        self.end = Some(end);
    }

    pub(crate) fn into_trace(self) -> PathTrace {
        PathTrace {
            spans: self.spans,
            end: self
                .end
                .unwrap_or_else(|| PathEnd::Failed("the group was not finished".into())),
            answer_ended: self.answer_ended,
            cut_summaries: self.cut_summaries,
        }
    }
}
