//! What happened in a group: every path as spans of ids, every block as its routes.

use serde::{Deserialize, Serialize};

use crate::route::Route;
use crate::settings::Method;

/// What a stretch of a path is, and so whether it is trained on and whether it is graded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// The rendered question, up to where the path begins to write.
    Prompt,
    /// Sampled by the path: its reasoning.
    Thought,
    /// Injected: the sentence that asks for a summary and opens it.
    Trigger,
    /// Sampled by the path: the summary its peers may read.
    Summary,
    /// Injected: what peers said.
    Comment,
    /// Injected: a fixed sentence that ties two stretches together.
    Bridge,
    /// Injected: the opening of an answer the path was forced to give.
    Forced,
    /// Sampled by the path: its answer.
    Answer,
}

impl SpanKind {
    /// Every kind, in the order a path first meets them.
    pub const ALL: [Self; 8] = [
        Self::Prompt,
        Self::Thought,
        Self::Trigger,
        Self::Summary,
        Self::Comment,
        Self::Bridge,
        Self::Forced,
        Self::Answer,
    ];

    /// Whether the path's own model sampled these ids; all other kinds are put into the path.
    pub fn is_sampled(self) -> bool {
        matches!(self, Self::Thought | Self::Summary | Self::Answer)
    }
}

/// Consecutive ids of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// What these ids are.
    pub kind: SpanKind,
    /// The LeaP block they belong to, counted from 0; thoughts and answers belong to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u32>,
    /// The truth.
    pub ids: Vec<u32>,
    /// A view of the ids for people and filters, without a final end-of-text token.
    pub text: String,
}

/// How a path ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathEnd {
    /// It closed its thought and wrote an answer.
    Answered,
    /// It ended its text by itself without a closed thought.
    Stopped,
    /// Its budget was used up, and it was forced to answer.
    Forced,
    /// It would have outgrown the model's positions, and was forced to answer.
    Outgrown,
    /// The engine could not serve it; the reason is for people.
    Failed(String),
}

/// One path from prompt to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathTrace {
    /// The path's ids in order; the first span is the prompt.
    pub spans: Vec<Span>,
    /// How it ended.
    pub end: PathEnd,
    /// Whether the answer ended by itself (end of text) and not by its budget.
    pub answer_ended: bool,
    /// Summaries that were cut at their limit instead of closed by the path.
    pub cut_summaries: u32,
}

/// One exchange: who heard whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Number of the block, from 0.
    pub index: u32,
    /// One entry for each path that took part, in path order.
    pub routes: Vec<Route>,
}

/// Where a trace comes from: enough to tell which traces may be mixed, and to make it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Seed of the run.
    pub seed: u64,
    /// SHA-256 of the resolved recipe part that decides the trace.
    pub recipe: String,
    /// Who wrote it: the checkpoint's hash, or the name of a simulated engine.
    pub model: String,
    /// Hash of the tokenizer that made the ids.
    pub tokenizer: String,
    /// Device and dtype it was computed with; sums differ by device.
    pub device: String,
}

/// One finished group: one line of traces.jsonl and of groups.jsonl.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Version of this format.
    pub version: u32,
    /// Id of the problem.
    pub problem: String,
    /// Which of the problem's independent groups this is, from 0.
    pub group: u32,
    /// How the paths worked together.
    pub method: Method,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether the prompt left a `<think>` open.
    pub think_open: bool,
    /// The paths, in path order.
    pub paths: Vec<PathTrace>,
    /// The exchanges, in order; empty for independent paths.
    pub blocks: Vec<Block>,
}

impl Trace {
    /// The version this build reads and writes.
    pub const VERSION: u32 = 1;
}

impl PathTrace {
    /// Tokens the path sampled itself.
    pub fn sampled(&self) -> usize {
        self.tokens(SpanKind::is_sampled)
    }

    /// Tokens that were put into the path after its prompt.
    pub fn injected(&self) -> usize {
        self.tokens(|kind| !kind.is_sampled() && kind != SpanKind::Prompt)
    }

    fn tokens(&self, counts: impl Fn(SpanKind) -> bool) -> usize {
        self.spans
            .iter()
            .filter(|span| counts(span.kind))
            .map(|span| span.ids.len())
            .sum()
    }

    /// The part of the path that is read for an answer; `None` if it gave none.
    ///
    /// Only the path's own words count: its answer spans (with the injected opening that a forced
    /// answer completes), or, if it never closed a thought and ended by itself outside of one, the
    /// thought it ended with. Prompt, peers and other injected text are never read.
    pub fn answer_text(&self, think_open: bool) -> Option<String> {
        let answered = self.spans.iter().any(|span| span.kind == SpanKind::Answer);
        if answered {
            let text = self
                .spans
                .iter()
                .filter(|span| matches!(span.kind, SpanKind::Forced | SpanKind::Answer))
                .map(|span| span.text.as_str())
                .collect();
            return Some(after_thought(text));
        }
        if self.end != PathEnd::Stopped {
            return None;
        }
        let own: String = self
            .spans
            .iter()
            .filter(|span| span.kind == SpanKind::Thought)
            .map(|span| span.text.as_str())
            .collect();
        let open = think_open || own.contains("<think>");
        match (own.contains("</think>"), open) {
            (true, _) => Some(after_thought(own)),
            (false, true) => None,
            (false, false) => Some(own),
        }
    }

    /// The path's summary in `block`, as its peers read it.
    pub fn summary(&self, block: u32) -> Option<String> {
        let mut own = self.spans.iter().filter(|span| span.block == Some(block));
        let text: String = own
            .by_ref()
            .filter(|span| matches!(span.kind, SpanKind::Trigger | SpanKind::Summary))
            .map(|span| span.text.as_str())
            .collect();
        (!text.is_empty()).then_some(text)
    }
}

fn after_thought(text: String) -> String {
    match text.rfind("</think>") {
        Some(at) => text[at + "</think>".len()..].to_string(),
        None => text,
    }
}
