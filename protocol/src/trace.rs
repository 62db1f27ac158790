//! What happened in a group: every path as spans of ids, every block as its routes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::prompt::{THINK_CLOSE, THINK_OPEN};
use crate::request::Finish;
use crate::route::Route;
use crate::settings::Method;
use crate::setup::Setup;

/// What a stretch of a path is, and so whether it is trained on and whether it is graded.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// The rendered question, up to where the path begins to write.
    Prompt,
    /// Injected: the first tokens of another response, which the path has to go on from.
    Beginning,
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
    pub const ALL: [Self; 9] = [
        Self::Prompt,
        Self::Beginning,
        Self::Thought,
        Self::Trigger,
        Self::Summary,
        Self::Comment,
        Self::Bridge,
        Self::Forced,
        Self::Answer,
    ];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Beginning => "beginning",
            Self::Thought => "thought",
            Self::Trigger => "trigger",
            Self::Summary => "summary",
            Self::Comment => "comment",
            Self::Bridge => "bridge",
            Self::Forced => "forced",
            Self::Answer => "answer",
        }
    }

    /// Whether the path's own model sampled these ids; all other kinds are put into the path.
    pub fn is_sampled(self) -> bool {
        matches!(self, Self::Thought | Self::Summary | Self::Answer)
    }
}

/// Consecutive ids of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// Why sampling ended; only sampled spans have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<Finish>,
    /// Ids that stood behind `ids` and were cut off again: an unfinished paragraph, or what a
    /// token held behind a stop string. With `ids`, this is what the engine sampled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<u32>,
}

/// How a path ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// Another path of its group went on alone.
    Released,
    /// The engine could not serve it; the reason is for people.
    Failed(String),
}

/// One path from prompt to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathTrace {
    /// The path's ids in order; the first span is the prompt.
    pub spans: Vec<Span>,
    /// How it ended.
    pub end: PathEnd,
    /// Whether the answer ended by itself (end of text) and not by its budget.
    pub answer_ended: bool,
    /// Summaries that were cut at their limit instead of closed by the path.
    pub cut_summaries: u32,
    /// Its layer, from 0; only a mixture of agents has several.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub layer: u32,
    /// SHA-256 (hex) over everything the path asked of the engine, in order.
    pub requests: String,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One exchange: who heard whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Block {
    /// Number of the block, from 0.
    pub index: u32,
    /// One entry for each path that took part, in path order.
    pub routes: Vec<Route>,
}

/// Where a trace comes from: enough to tell which traces may be mixed, and to make it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// What the group was made of.
    pub setup: Setup,
    /// Whether the prompt left a `<think>` open.
    pub think_open: bool,
    /// The paths, in path order.
    pub paths: Vec<PathTrace>,
    /// Paths whose answer is the group's: all of them, the one that went on alone (`leap-s`), or
    /// the last layer (`moa`).
    pub counted: Vec<u32>,
    /// The exchanges, in order; empty for independent paths.
    pub blocks: Vec<Block>,
    /// What a model that was trained on LeaP traces is prompted with on this question, where the
    /// paths were shown an example instead: samples of them begin with it. Traces of earlier builds
    /// have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain_prompt: Option<Vec<u32>>,
}

impl Trace {
    /// The version this build reads and writes.
    pub const VERSION: u32 = 1;

    /// The paths whose answer is the group's.
    ///
    /// # Panics
    /// If `counted` names a path that is not there: [`Trace::check`] finds that.
    pub fn counted(&self) -> impl Iterator<Item = &PathTrace> {
        self.counted.iter().map(|&path| &self.paths[path as usize])
    }

    /// Checks what other code relies on: the version, and that paths are named that exist.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        if self.version != Self::VERSION {
            return Err(format!(
                "the trace has version {}, but this build reads version {}",
                self.version,
                Self::VERSION
            ));
        }
        let paths = self.paths.len() as u32;
        let routes = self.blocks.iter().flat_map(|block| &block.routes);
        let named = routes.flat_map(|route| route.peers.iter().chain([&route.reader]));
        match named.chain(&self.counted).find(|path| **path >= paths) {
            Some(path) => Err(format!(
                "the trace names path {path}, but has {paths} paths"
            )),
            None => Ok(()),
        }
    }
}

impl Trace {
    /// A path as a trained model would have it: what it begins with, and what follows.
    ///
    /// A model that was not trained is shown an example, and begins with a sentence of its own
    /// (`math_seed`, `choice_seed`). A trained one is asked plainly, so both are left out. Source: the
    /// authors' code runs LeaP-T with the prompt of independent paths and without that sentence.
    ///
    /// # Errors
    /// If the paths were shown an example and the trace does not hold the plain prompt.
    ///
    /// # Panics
    /// If the trace has no such path: a bug of the caller.
    pub fn as_trained(&self, path: usize) -> Result<(&[u32], &[Span]), NoPlainPrompt> {
        let spans = self.after_prompt(path);
        if !self.setup.settings.shows_example() {
            let all = &self.paths[path].spans;
            let prompt = all[..all.len() - spans.len()].first();
            return Ok((prompt.map_or(&[], |span| &span.ids), spans));
        }
        match &self.plain_prompt {
            Some(prompt) => Ok((prompt, spans)),
            None => Err(NoPlainPrompt::of(self)),
        }
    }

    /// Tokens of a path as [`Trace::as_trained`] has it; as it is, where that cannot be told.
    ///
    /// # Panics
    /// If the trace has no such path: a bug of the caller.
    pub fn trained_len(&self, path: usize) -> usize {
        match self.as_trained(path) {
            Ok((prompt, rest)) => {
                prompt.len() + rest.iter().map(|span| span.ids.len()).sum::<usize>()
            }
            Err(_) => self.paths[path].len(),
        }
    }

    /// The spans of a path behind its prompt, and behind the sentence that a model which was not
    /// trained is made to begin with.
    ///
    /// # Panics
    /// If the trace has no such path: a bug of the caller.
    pub fn after_prompt(&self, path: usize) -> &[Span] {
        let spans = match self.paths[path].spans.as_slice() {
            [prompt, rest @ ..] if prompt.kind == SpanKind::Prompt => rest,
            all => all,
        };
        match spans {
            [seed, rest @ ..]
                if self.setup.settings.shows_example()
                    && seed.kind == SpanKind::Bridge
                    && seed.block.is_none() =>
            {
                rest
            }
            _ => spans,
        }
    }
}

/// A trace of an earlier build, of which no sample can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "group {group} of problem `{problem}` (method `{method}`) was shown an example of an exchange, and the \
     trace does not hold the plain prompt that a trained model gets: an earlier version of the toolkit wrote it"
)]
pub struct NoPlainPrompt {
    /// Id of the problem.
    pub problem: String,
    /// Number of the group.
    pub group: u32,
    /// How its paths worked together.
    pub method: &'static str,
}

impl NoPlainPrompt {
    /// That of this trace.
    pub fn of(trace: &Trace) -> Self {
        Self {
            problem: trace.problem.clone(),
            group: trace.group,
            method: trace.method.name(),
        }
    }
}

impl PathTrace {
    /// Tokens the path sampled itself, those that were cut off again included.
    pub fn sampled(&self) -> usize {
        self.tokens(SpanKind::is_sampled) + self.dropped()
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

    /// Tokens the path sampled and lost again to a cut or behind a stop string.
    pub fn dropped(&self) -> usize {
        let sampled = self.spans.iter().filter(|span| span.kind.is_sampled());
        sampled.map(|span| span.dropped.len()).sum()
    }

    /// Tokens of the path, prompt included.
    pub fn len(&self) -> usize {
        self.tokens(|_| true)
    }

    /// Whether it holds no token at all: an agent whose layer was never reached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part of the path that is read for an answer; `None` if it gave none.
    ///
    /// Only the path's own words count: its answer spans (with the injected opening that a forced
    /// answer completes), or, if it never closed a thought and ended by itself outside of one, the
    /// thought it ended with. Prompt, peers and other injected text are never read.
    pub fn answer_text(&self, think_open: bool) -> Option<String> {
        answer_text(&self.spans, &self.end, think_open)
    }

    /// The path's summary in `block`, from the trigger that opened it to its closing tag; `None` if
    /// it wrote none.
    pub fn summary(&self, block: u32) -> Option<String> {
        let spans = self.spans.iter().filter(|span| span.block == Some(block));
        let spans = spans.take_while(|span| span.kind != SpanKind::Comment);
        let wrote = spans.clone().any(|span| span.kind == SpanKind::Summary);
        wrote.then(|| spans.map(|span| span.text.as_str()).collect())
    }
}

/// As [`PathTrace::answer_text`].
pub(crate) fn answer_text(spans: &[Span], end: &PathEnd, think_open: bool) -> Option<String> {
    let of = |kinds: &[SpanKind]| -> String {
        let spans = spans.iter().filter(|span| kinds.contains(&span.kind));
        spans.map(|span| span.text.as_str()).collect()
    };
    if spans.iter().any(|span| span.kind == SpanKind::Answer) {
        return Some(after_thought(of(&[SpanKind::Forced, SpanKind::Answer])));
    }
    if *end != PathEnd::Stopped {
        return None;
    }
    let own = of(&[SpanKind::Thought]);
    let given = of(&[SpanKind::Beginning]);
    let open = think_open || own.contains(THINK_OPEN) || given.contains(THINK_OPEN);
    match (own.contains(THINK_CLOSE), open) {
        (true, _) => Some(after_thought(own)),
        (false, true) => None,
        (false, false) => Some(own),
    }
}

fn after_thought(text: String) -> String {
    match text.rfind(THINK_CLOSE) {
        Some(at) => text[at + THINK_CLOSE.len()..].to_string(),
        None => text,
    }
}
