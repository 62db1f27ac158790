//! One path of a group while it runs: its spans, its budget, and the next thing it asks for.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cut::{bytes_of, cut_at};
use crate::prompt::THINK_OPEN;
use crate::request::{Finish, Request};
use crate::rules::{BLANK_LINE, Rules};
use crate::trace::{PathEnd, PathTrace, Span, SpanKind};
use crate::vocab::{Prompt, Vocab};

/// What a path is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// Its layer has not begun.
    Idle,
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
    pub(crate) layer: u32,
    /// Sampled thought and summary tokens.
    pub(crate) used: usize,
    /// Sampled thought tokens.
    pub(crate) thought: usize,
    /// Whether the path opened the summary of the coming block itself.
    pub(crate) opened: bool,
    /// Whether a `<think>` stands open.
    pub(crate) think_open: bool,
    /// What was put before the summary of the current block.
    pub(crate) opening: String,
    /// Its last whole summary, as peers read it.
    pub(crate) heard: Option<String>,
    pub(crate) answer_ended: bool,
    pub(crate) cut_summaries: u32,
    /// Text of a divided token that goes before the next injected text.
    rest: String,
    /// Tokens at the start of the path that the engine holds.
    synced: usize,
    /// Hash over all requests so far, in hex.
    requests: String,
}

impl Path {
    /// A path of this layer, which has not begun.
    pub(crate) fn idle(layer: u32) -> Self {
        Self {
            spans: Vec::new(),
            state: State::Idle,
            end: None,
            layer,
            used: 0,
            thought: 0,
            opened: false,
            think_open: false,
            opening: String::new(),
            heard: None,
            answer_ended: false,
            cut_summaries: 0,
            rest: String::new(),
            synced: 0,
            requests: String::new(),
        }
    }

    /// Lets an idle path begin with `prompt`.
    pub(crate) fn begin(&mut self, prompt: &Prompt, vocab: &dyn Vocab) {
        self.think_open = prompt.think_open;
        self.give(SpanKind::Prompt, &prompt.ids, vocab);
    }

    /// Puts ids into the path as they are.
    pub(crate) fn give(&mut self, kind: SpanKind, ids: &[u32], vocab: &dyn Vocab) {
        let text = vocab.text(ids);
        self.think_open |= kind != SpanKind::Prompt && text.contains(THINK_OPEN);
        self.spans.push(Span {
            kind,
            block: None,
            ids: ids.to_vec(),
            text,
            finish: None,
            dropped: Vec::new(),
        });
    }

    /// Tokens of the path so far.
    pub(crate) fn len(&self) -> usize {
        self.spans.iter().map(|span| span.ids.len()).sum()
    }

    /// All text of the path so far.
    pub(crate) fn text(&self) -> String {
        self.spans.iter().map(|span| span.text.as_str()).collect()
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
            finish: None,
            dropped: Vec::new(),
        });
    }

    /// Appends what was sampled, of which `keep` bytes of text stay (`None` = all).
    ///
    /// Returns the text that stays, the kept part of a divided token included.
    pub(crate) fn push(
        &mut self,
        kind: SpanKind,
        block: Option<u32>,
        (ids, finish): (&[u32], &Finish),
        keep: Option<usize>,
        vocab: &dyn Vocab,
    ) -> String {
        let mut span = Span {
            kind,
            block,
            ids: ids.to_vec(),
            text: String::new(),
            finish: Some(finish.clone()),
            dropped: Vec::new(),
        };
        let cut = keep.map(|bytes| cut_at(vocab, ids, bytes));
        let whole = cut.as_ref().map_or(ids.len(), |cut| cut.whole);
        truncate(&mut span, whole, vocab);
        self.rest = cut.map_or_else(String::new, |cut| cut.rest);
        self.synced += span.ids.len();
        let all = span.text.clone() + &self.rest;
        self.spans.push(span);
        all
    }

    /// Drops the unfinished last paragraph, as the rules say. Returns whether a blank line ends
    /// the path now.
    pub(crate) fn cut_paragraph(&mut self, rules: Rules, vocab: &dyn Vocab) -> bool {
        let first = match self.spans.last() {
            _ if rules.cuts_whole_path() => 0,
            Some(span) if span.kind == SpanKind::Thought => self.spans.len() - 1,
            _ => return false,
        };
        let bytes: Vec<u8> = self.spans[first..]
            .iter()
            .flat_map(|span| bytes_of(vocab, &span.ids))
            .collect();
        let keep = rules.cut(&bytes);
        let mut at = 0;
        for span in &mut self.spans[first..] {
            let length = bytes_of(vocab, &span.ids).len();
            if at + length > keep {
                let cut = cut_at(vocab, &span.ids, keep.saturating_sub(at));
                truncate(span, cut.whole, vocab);
                self.rest += &cut.rest;
            }
            at += length;
        }
        self.synced = self.synced.min(self.len());
        bytes[..keep].ends_with(BLANK_LINE.as_bytes())
    }

    /// What the engine has to keep and to append so that it holds the whole path.
    pub(crate) fn sync(&mut self) -> (usize, Vec<u32>) {
        let keep = self.synced;
        let append = self.ids().skip(keep).collect();
        self.synced = self.len();
        (keep, append)
    }

    /// Remembers what was asked. The key is left out: it tells in which company a group is solved.
    pub(crate) fn note(&mut self, request: &Request) {
        let asked = (
            request.keep,
            &request.append,
            &request.sampling,
            &request.stop,
            request.max_tokens,
            &request.stream,
        );
        let text = serde_json::to_string(&asked).expect("numbers and texts can be written");
        let hash = Sha256::new()
            .chain_update(&self.requests)
            .chain_update(text);
        let hash = hash.finalize();
        self.requests = hash.iter().map(|byte| format!("{byte:02x}")).collect();
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
            layer: self.layer,
            requests: self.requests,
        }
    }
}

/// Keeps the first `whole` ids of a span; the others are remembered as dropped.
fn truncate(span: &mut Span, whole: usize, vocab: &dyn Vocab) {
    let mut dropped = span.ids.split_off(whole);
    dropped.append(&mut span.dropped);
    span.dropped = dropped;
    let ends = span.ids.last().is_some_and(|id| vocab.eos().contains(id));
    span.text = vocab.text(&span.ids[..whole - usize::from(ends)]);
}
