//! A group: N paths on one problem as a state machine that never calls an engine.
//!
//! ```text
//! start -> requests -> (engine) -> accept(completion) -> requests -> ... -> into_trace
//! ```
//! A group is plain data: saved between any two requests and restored, it goes on identically.
//! The order in which completions arrive does not change the trace.

use serde::{Deserialize, Serialize};

use crate::cut::end_of_first;
use crate::grade::AnswerKind;
use crate::path::{BLANK_LINE, Path, State};
use crate::problem::Question;
use crate::prompt::{PromptSet, SUMMARY_CLOSE, SUMMARY_OPEN, THINK_CLOSE, THINK_OPEN};
use crate::request::{Completion, Finish, PathKey, Request, Stop};
use crate::route::Route;
use crate::seed::Stream;
use crate::settings::{Method, Settings};
use crate::trace::{Block, Origin, PathEnd, Span, SpanKind, Trace};
use crate::vocab::Vocab;

/// Closes a summary that was cut at its limit.
const CUT_SUMMARY: &str = "... </summarize>";

/// A rendered question: what every path of a group begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// Its ids.
    pub ids: Vec<u32>,
    /// Whether it ends inside a `<think>`.
    pub think_open: bool,
}

/// What a group wants after it was started or has heard something.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// Requests to submit, in path order.
    pub requests: Vec<Request>,
    /// Paths that have ended; an engine may free what it holds for them.
    pub ended: Vec<PathKey>,
}

/// The prompt leaves no room for a thought and an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the prompt has {prompt} tokens and an answer needs {answer}, but the model has {positions} \
     positions"
)]
pub struct PromptTooLong {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens an answer needs, its forced opening included.
    pub answer: usize,
    /// Positions of the model.
    pub positions: usize,
}

/// N paths on one problem. See the module text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    index: u32,
    settings: Settings,
    prompts: PromptSet,
    kind: AnswerKind,
    stream: Stream,
    positions: usize,
    think_open: bool,
    paths: Vec<Path>,
    blocks: Vec<Block>,
}

impl Group {
    /// A group on `question`, whose rendered form is `prompt`.
    ///
    /// `index` is the group's place among those solved together, `stream` is the random stream of
    /// this problem and group, `positions` is the longest path the engine can hold.
    ///
    /// # Errors
    /// If the prompt leaves no room for a token of thought and a forced answer.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a different thing, given once"
    )]
    pub fn new(
        index: u32,
        settings: Settings,
        prompts: PromptSet,
        question: &Question,
        prompt: &Prompt,
        stream: Stream,
        positions: usize,
        vocab: &dyn Vocab,
    ) -> Result<Self, PromptTooLong> {
        let text = vocab.text(&prompt.ids);
        let paths = (0..settings.paths)
            .map(|_| Path::new(&prompt.ids, text.clone(), prompt.think_open))
            .collect();
        let group = Self {
            index,
            settings,
            prompts,
            kind: question.kind,
            stream,
            positions,
            think_open: prompt.think_open,
            paths,
            blocks: Vec::new(),
        };
        let answer = group.answer_reserve(vocab);
        if prompt.ids.len() + answer >= positions {
            return Err(PromptTooLong {
                prompt: prompt.ids.len(),
                answer,
                positions,
            });
        }
        Ok(group)
    }

    /// The first requests: every path begins to think.
    pub fn start(&mut self, vocab: &dyn Vocab) -> Step {
        let mut step = Step::default();
        for path in 0..self.paths.len() {
            if self.settings.method == Method::Leap {
                let seed = self.prompts.leap_seed.clone();
                self.paths[path].inject(SpanKind::Bridge, None, &seed, vocab);
            }
            self.think(path, vocab, &mut step);
        }
        step
    }

    /// Takes one completion, and says what is wanted next.
    ///
    /// # Panics
    /// If the completion answers no open request of this group: a bug of the engine.
    pub fn accept(&mut self, completion: Completion, vocab: &dyn Vocab) -> Step {
        let mut step = Step::default();
        let index = completion.key.path as usize;
        assert_eq!(
            completion.key.group, self.index,
            "a completion for another group"
        );
        match (&completion.finish, self.paths[index].state) {
            (Finish::Failed(reason), _) => {
                let end = PathEnd::Failed(reason.clone());
                self.end(index, end, &mut step);
            }
            (Finish::Cancelled, _) => {
                self.end(index, PathEnd::Failed("cancelled".into()), &mut step);
            }
            (_, State::Thinking) => self.thought(index, &completion, vocab, &mut step),
            (_, State::Summarising) => self.summary(index, &completion, vocab),
            (_, State::Answering) => self.answer(index, &completion, vocab, &mut step),
            (_, state) => panic!("a completion for path {index}, which is {state:?}"),
        }
        self.pass_barrier(vocab, &mut step);
        step
    }

    /// What a path holds so far.
    ///
    /// # Panics
    /// If there is no such path: a bug of the caller.
    pub fn spans(&self, path: usize) -> &[Span] {
        &self.paths[path].spans
    }

    /// Whether every path has ended.
    pub fn is_done(&self) -> bool {
        self.paths.iter().all(|path| path.state == State::Ended)
    }

    /// The record of the group.
    pub fn into_trace(self, problem: String, group: u32, origin: Origin) -> Trace {
        Trace {
            version: Trace::VERSION,
            problem,
            group,
            method: self.settings.method,
            origin,
            think_open: self.think_open,
            paths: self.paths.into_iter().map(Path::into_trace).collect(),
            blocks: self.blocks,
        }
    }

    fn thought(&mut self, index: usize, done: &Completion, vocab: &dyn Vocab, step: &mut Step) {
        let path = &mut self.paths[index];
        path.used += done.ids.len();
        let stop = match done.finish {
            Finish::Stop(0) => Some(THINK_CLOSE),
            Finish::Stop(_) => Some(SUMMARY_OPEN),
            _ => None,
        };
        let keep = stop.and_then(|stop| end_of_first(vocab, &done.ids, stop));
        let text = path.push(SpanKind::Thought, None, &done.ids, keep, vocab);
        path.think_open |= text.contains(THINK_OPEN);
        match done.finish {
            Finish::Eos => self.end(index, PathEnd::Stopped, step),
            Finish::Stop(0) => {
                path.think_open = false;
                self.request_answer(index, vocab, step);
            }
            Finish::Stop(_) => {
                path.opened = true;
                path.state = State::Waiting;
            }
            _ if self.turn_budget(index) == 0 => self.force(index, PathEnd::Forced, vocab, step),
            // Its turn was shortened because the model has no more positions.
            _ if !self.settings.method.exchanges() => {
                self.force(index, PathEnd::Outgrown, vocab, step);
            }
            _ => self.paths[index].state = State::Waiting,
        }
    }

    fn summary(&mut self, index: usize, done: &Completion, vocab: &dyn Vocab) {
        let block = Some(self.block());
        let path = &mut self.paths[index];
        path.used += done.ids.len();
        let (stop, before) = match done.finish {
            Finish::Stop(0) => (SUMMARY_CLOSE, 0),
            // A thought cannot end inside a summary: what would close it is left out.
            _ => (THINK_CLOSE, THINK_CLOSE.len()),
        };
        let ended = done.ids.last().is_some_and(|id| vocab.eos().contains(id));
        let ids = &done.ids[..done.ids.len() - usize::from(ended)];
        let keep = end_of_first(vocab, ids, stop).map(|end| end - before);
        let text = path.push(SpanKind::Summary, block, ids, keep, vocab);
        let closed = done.finish == Finish::Stop(0);
        if !closed {
            path.cut_summaries += 1;
            path.inject(SpanKind::Bridge, block, CUT_SUMMARY, vocab);
        }
        let opened = path
            .summary
            .split_once(SUMMARY_OPEN)
            .map_or("", |(_, words)| words);
        let mut summary = opened.to_string() + text.trim_end_matches(SUMMARY_CLOSE);
        if !closed {
            summary.push_str("...");
        }
        path.summary = summary.trim().to_string();
        path.state = State::Summarised;
    }

    fn answer(&mut self, index: usize, done: &Completion, vocab: &dyn Vocab, step: &mut Step) {
        let path = &mut self.paths[index];
        path.push(SpanKind::Answer, None, &done.ids, None, vocab);
        path.answer_ended = done.finish == Finish::Eos;
        let end = path.end.take().unwrap_or(PathEnd::Answered);
        self.end(index, end, step);
    }

    /// Once nobody is busy with the part before it, starts the next part of a block.
    fn pass_barrier(&mut self, vocab: &dyn Vocab, step: &mut Step) {
        let any = |group: &Self, state| group.paths.iter().any(|path| path.state == state);
        if any(self, State::Thinking) || any(self, State::Summarising) {
            return;
        }
        if any(self, State::Waiting) {
            self.ask_for_summaries(vocab, step);
        }
        if any(self, State::Summarised) && !any(self, State::Summarising) {
            self.exchange(vocab, step);
        }
    }

    fn ask_for_summaries(&mut self, vocab: &dyn Vocab, step: &mut Step) {
        let block = self.block();
        for index in self.in_state(State::Waiting) {
            let path = &mut self.paths[index];
            let mut text = String::new();
            path.summary = SUMMARY_OPEN.into();
            if !std::mem::take(&mut path.opened) {
                let separated = path.cut_paragraph(vocab);
                let lot = self
                    .stream
                    .named("trigger")
                    .indexed(index as u64)
                    .indexed(block.into());
                let trigger = self.prompts.trigger(&lot);
                self.paths[index].summary.clone_from(&trigger);
                text = if separated {
                    trigger
                } else {
                    BLANK_LINE.to_string() + &trigger
                };
            }
            // The closing of a summary that is cut has to fit too.
            let room = self.room(index, &(text.clone() + CUT_SUMMARY), vocab);
            if room == 0 {
                self.force(index, PathEnd::Outgrown, vocab, step);
                continue;
            }
            let path = &mut self.paths[index];
            path.inject(SpanKind::Trigger, Some(block), &text, vocab);
            path.state = State::Summarising;
            let stop = vec![SUMMARY_CLOSE.to_string(), THINK_CLOSE.to_string()];
            let budget = self.settings.summary_tokens.min(room);
            self.request(index, stop, budget, vocab, step);
        }
    }

    fn exchange(&mut self, vocab: &dyn Vocab, step: &mut Step) {
        let block = self.block();
        let readers = self.in_state(State::Summarised);
        let summaries: Vec<String> = readers
            .iter()
            .map(|&index| self.paths[index].summary.clone())
            .collect();
        let texts: Vec<&str> = summaries.iter().map(String::as_str).collect();
        let n = texts.len();
        let alike = self.settings.similarity.matrix(&texts);
        let lots = self.stream.named("route").indexed(block.into());
        let mut routes = Vec::with_capacity(n);
        for (place, &index) in readers.iter().enumerate() {
            let row = &alike[place * n..][..n];
            let lot = lots.indexed(index as u64);
            let peers = self
                .settings
                .router
                .select(row, place, self.settings.peers, &lot);
            let heard: Vec<&str> = peers.iter().map(|&peer| texts[peer]).collect();
            let comment = self.prompts.comment(&heard);
            let reflection = self.prompts.reflection.clone();
            if self.room(index, &(comment.clone() + &reflection), vocab) == 0 {
                // Without the comment: a path cannot hear more than it has positions for.
                self.force(index, PathEnd::Outgrown, vocab, step);
                continue;
            }
            let path = &mut self.paths[index];
            path.inject(SpanKind::Comment, Some(block), &comment, vocab);
            path.inject(SpanKind::Bridge, Some(block), &reflection, vocab);
            path.state = State::Waiting;
            routes.push(Route {
                reader: index as u32,
                scores: peers.iter().map(|&peer| row[peer]).collect(),
                peers: peers.iter().map(|&peer| readers[peer] as u32).collect(),
            });
        }
        self.blocks.push(Block {
            index: block,
            routes,
        });
        for index in self.in_state(State::Waiting) {
            match self.turn_budget(index) {
                0 => self.force(index, PathEnd::Forced, vocab, step),
                _ => self.think(index, vocab, step),
            }
        }
    }

    fn think(&mut self, index: usize, vocab: &dyn Vocab, step: &mut Step) {
        let room = self.room(index, "", vocab);
        if room == 0 {
            return self.force(index, PathEnd::Outgrown, vocab, step);
        }
        self.paths[index].state = State::Thinking;
        let mut stop = vec![THINK_CLOSE.to_string()];
        if self.settings.method == Method::LeapT {
            stop.push(SUMMARY_OPEN.to_string());
        }
        let budget = self.turn_budget(index).min(room);
        self.request(index, stop, budget, vocab, step);
    }

    fn request_answer(&mut self, index: usize, vocab: &dyn Vocab, step: &mut Step) {
        // A token that the end of the thought divides leaves text to put back.
        self.paths[index].inject(SpanKind::Bridge, None, "", vocab);
        let room = self.positions.saturating_sub(self.paths[index].len());
        if room == 0 {
            return self.end(index, PathEnd::Outgrown, step);
        }
        self.paths[index].state = State::Answering;
        let budget = self.settings.answer_tokens.min(room);
        self.request(index, Vec::new(), budget, vocab, step);
    }

    /// Makes the path answer now; `end` says why.
    fn force(&mut self, index: usize, end: PathEnd, vocab: &dyn Vocab, step: &mut Step) {
        let opening = self.forced_opening(self.paths[index].think_open);
        let path = &mut self.paths[index];
        path.inject(SpanKind::Forced, None, &opening, vocab);
        path.think_open = false;
        path.end = Some(end);
        self.request_answer(index, vocab, step);
    }

    fn forced_opening(&self, think_open: bool) -> String {
        let close = if think_open {
            format!("\n{THINK_CLOSE}")
        } else {
            String::new()
        };
        close + self.prompts.forced(self.kind)
    }

    fn end(&mut self, index: usize, end: PathEnd, step: &mut Step) {
        self.paths[index].finish(end);
        step.ended.push(self.key(index));
    }

    fn request(
        &mut self,
        index: usize,
        stop: Vec<String>,
        max_tokens: usize,
        vocab: &dyn Vocab,
        step: &mut Step,
    ) {
        let (keep, append) = self.paths[index].sync();
        step.requests.push(Request {
            key: self.key(index),
            keep,
            append,
            sampling: self.settings.sampling,
            stop: Stop {
                strings: stop,
                eos: vocab.eos().to_vec(),
            },
            max_tokens,
            stream: self.stream.named("sample").indexed(index as u64),
        });
    }

    /// Thought tokens of the path's next turn; 0 if its budget is used up.
    ///
    /// What would be left after a turn and is too short for a summary is added to the turn: a
    /// block after which nothing can be thought would be wasted.
    fn turn_budget(&self, index: usize) -> usize {
        let left = self
            .settings
            .max_tokens
            .saturating_sub(self.paths[index].used);
        let turn = self.settings.turn_tokens;
        match self.settings.method.exchanges() && left > turn + self.settings.summary_tokens {
            true => turn,
            false => left,
        }
    }

    /// Tokens the path can still take behind `text` before it must answer to stay within the
    /// model's positions.
    fn room(&self, index: usize, text: &str, vocab: &dyn Vocab) -> usize {
        let taken = self.paths[index].len() + vocab.encode(text).len();
        self.positions
            .saturating_sub(taken + self.answer_reserve(vocab))
    }

    /// Tokens of a forced opening and an answer.
    fn answer_reserve(&self, vocab: &dyn Vocab) -> usize {
        vocab.encode(&self.forced_opening(true)).len() + self.settings.answer_tokens
    }

    fn block(&self) -> u32 {
        self.blocks.len() as u32
    }

    fn key(&self, index: usize) -> PathKey {
        PathKey {
            group: self.index,
            path: index as u32,
        }
    }

    fn in_state(&self, state: State) -> Vec<usize> {
        (0..self.paths.len())
            .filter(|&index| self.paths[index].state == state)
            .collect()
    }
}
