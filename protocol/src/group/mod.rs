//! A group: N paths on one problem as a state machine that never calls an engine.
//!
//! ```text
//! start -> requests -> (engine) -> accept(completion) -> requests -> ... -> into_trace
//! ```
//! A group is plain data: saved between any two requests and restored, it goes on identically.
//! The order in which completions arrive does not change the trace.

mod block;
mod layers;
mod turn;

use serde::{Deserialize, Serialize};

use crate::path::{Path, State};
use crate::request::{Completion, Finish, PathKey, Request, Stop};
use crate::settings::Method;
use crate::setup::{Setup, SetupError};
use crate::trace::{Block, Origin, PathEnd, Span, SpanKind, Trace};
use crate::vocab::{Prompt, Vocab};

/// What a group wants after it was started or has heard something.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// Requests to submit, in path order.
    pub requests: Vec<Request>,
    /// Paths that have ended; an engine may free what it holds for them.
    pub ended: Vec<PathKey>,
}

/// N paths on one problem. See the module text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    index: u32,
    setup: Setup,
    prompt: Prompt,
    /// What a trained model is prompted with, where these paths are shown an example.
    plain_prompt: Option<Vec<u32>>,
    paths: Vec<Path>,
    blocks: Vec<Block>,
    /// Ends of turns that the group has passed.
    turns: usize,
    /// The path that goes on alone.
    alone: Option<u32>,
}

impl Group {
    /// A group as `setup` describes it; `index` is its place among those solved together.
    ///
    /// # Errors
    /// If a setting or a sentence cannot work, the chat template refuses the question, or the
    /// prompt leaves no room for a token of thought and a forced answer.
    pub fn new(index: u32, setup: Setup, vocab: &dyn Vocab) -> Result<Self, SetupError> {
        let mut group = Self::idle(index, setup, vocab)?;
        let prompt = group.prompt.clone();
        for path in group.paths.iter_mut().filter(|path| path.layer == 0) {
            path.begin(&prompt, vocab);
        }
        Ok(group)
    }

    /// Whether a group can be made of `setup`, at less expense than by making it.
    ///
    /// # Errors
    /// As [`Group::new`].
    pub fn check(setup: &Setup, vocab: &dyn Vocab) -> Result<(), SetupError> {
        Self::without_paths(0, setup.clone(), vocab).map(drop)
    }

    /// A group none of whose paths has begun.
    fn idle(index: u32, setup: Setup, vocab: &dyn Vocab) -> Result<Self, SetupError> {
        let mut group = Self::without_paths(index, setup, vocab)?;
        let settings = &group.setup.settings;
        let layer = |path: usize| match settings.method {
            Method::Moa => (path / settings.paths).min(settings.moa.layers - 1) as u32,
            _ => 0,
        };
        group.paths = (0..settings.all_paths())
            .map(|path| Path::idle(layer(path)))
            .collect();
        Ok(group)
    }

    /// A group that was looked at, and has no path.
    fn without_paths(index: u32, setup: Setup, vocab: &dyn Vocab) -> Result<Self, SetupError> {
        setup.settings.check()?;
        setup.prompts.check()?;
        if setup.planted as usize >= setup.settings.paths {
            return Err(SetupError::AllPlanted {
                planted: setup.planted,
                paths: setup.settings.paths,
            });
        }
        let user = setup.prompts.user(&setup.question, &setup.settings);
        let prompt = vocab.prompt(&user)?;
        let settings = &setup.settings;
        let plain_prompt = match settings.shows_example() {
            true => {
                let plain = setup.prompts.plain(&setup.question);
                Some(vocab.prompt(&plain)?.ids)
            }
            false => None,
        };
        let group = Self {
            index,
            setup,
            prompt,
            plain_prompt,
            paths: Vec::new(),
            blocks: Vec::new(),
            turns: 0,
            alone: None,
        };
        let beginnings = group.setup.beginnings.iter();
        let longest = group.prompt.ids.len() + beginnings.map(Vec::len).max().unwrap_or(0);
        group.check_length(longest, vocab)?;
        Ok(group)
    }

    /// The first requests: every path of the first layer begins to think.
    pub fn start(&mut self, vocab: &dyn Vocab) -> Step {
        let mut step = Step::default();
        for index in 0..self.paths.len() {
            if self.paths[index].layer > 0 {
                continue;
            }
            let setup = &self.setup;
            let seed = setup.prompts.seed(setup.question.kind, &setup.settings);
            self.paths[index].inject(SpanKind::Bridge, None, seed, vocab);
            if !setup.beginnings.is_empty() {
                let ids = &setup.beginnings[index % setup.beginnings.len()];
                self.paths[index].give(SpanKind::Beginning, ids, vocab);
            }
            self.think(index, vocab, &mut step);
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
            (Finish::Failed(reason), _) => self.fail(index, reason.clone(), &mut step),
            (Finish::Cancelled, _) => self.fail(index, CANCELLED.into(), &mut step),
            (_, State::Thinking) => self.thought(index, &completion, vocab, &mut step),
            (_, State::Summarising) => self.summary(index, &completion, vocab),
            (_, State::Answering) => self.answer(index, &completion, vocab, &mut step),
            (_, state) => panic!("a completion for path {index}, which is {state:?}"),
        }
        match self.setup.settings.method {
            Method::Moa => self.next_layers(vocab, &mut step),
            _ => self.pass_barrier(vocab, &mut step),
        }
        step
    }

    /// What a path holds so far.
    ///
    /// # Panics
    /// If there is no such path: a bug of the caller.
    pub fn spans(&self, path: usize) -> &[Span] {
        &self.paths[path].spans
    }

    /// Number of paths, those of all layers together.
    pub fn paths(&self) -> usize {
        self.paths.len()
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
            method: self.setup.settings.method,
            origin,
            think_open: self.prompt.think_open,
            counted: self.counted(),
            plain_prompt: self.plain_prompt,
            setup: self.setup,
            paths: self.paths.into_iter().map(Path::into_trace).collect(),
            blocks: self.blocks,
        }
    }

    /// The paths whose answer is the group's.
    fn counted(&self) -> Vec<u32> {
        let all = self.setup.planted..self.paths.len() as u32;
        match self.setup.settings.method {
            Method::Cot | Method::Leap | Method::LeapT => all.collect(),
            Method::Moa => {
                let last = self.setup.settings.moa.layers as u32 - 1;
                all.filter(|&path| self.paths[path as usize].layer == last)
                    .collect()
            }
            // Where every path ended before the last shared block, there was nobody to choose.
            Method::LeapS => vec![self.alone.unwrap_or_else(|| self.first_to_answer())],
        }
    }

    fn first_to_answer(&self) -> u32 {
        let failed = |path: &Path| matches!(path.end, Some(PathEnd::Failed(_)));
        let first = self.paths.iter().position(|path| !failed(path));
        first.unwrap_or(0) as u32
    }

    /// Takes a path that the engine could not serve out of the group.
    fn fail(&mut self, index: usize, reason: String, step: &mut Step) {
        let path = &mut self.paths[index];
        if path.state != State::Answering {
            path.heard = None;
        }
        self.end(index, PathEnd::Failed(reason), step);
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
        let moa = self.setup.settings.method == Method::Moa;
        let kind = self.setup.question.kind;
        self.setup.prompts.forced(kind, moa, think_open)
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
        let request = Request {
            key: self.key(index),
            keep,
            append,
            sampling: self.setup.settings.sampling,
            stop: Stop {
                strings: stop,
                eos: vocab.eos().to_vec(),
            },
            max_tokens,
            logprobs: false,
            stream: self.setup.stream.named("sample").indexed(index as u64),
        };
        self.paths[index].note(&request);
        step.requests.push(request);
    }

    /// Tokens the path can still take behind `text` before it must answer to stay within the
    /// model's positions.
    fn room(&self, index: usize, text: &str, vocab: &dyn Vocab) -> usize {
        let taken = self.paths[index].len() + vocab.encode(text).len();
        let positions = self.setup.positions;
        positions.saturating_sub(taken.saturating_add(self.answer_reserve(vocab)))
    }

    fn check_length(&self, prompt: usize, vocab: &dyn Vocab) -> Result<(), SetupError> {
        let (answer, positions) = (self.answer_reserve(vocab), self.setup.positions);
        match prompt.saturating_add(answer) < positions {
            true => Ok(()),
            false => Err(SetupError::TooLong {
                prompt,
                answer,
                positions,
            }),
        }
    }

    /// Tokens of a forced opening and an answer.
    fn answer_reserve(&self, vocab: &dyn Vocab) -> usize {
        let opening = vocab.encode(&self.forced_opening(true)).len();
        opening.saturating_add(self.setup.settings.answer_tokens)
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

/// Why a path ended whose request was cancelled.
const CANCELLED: &str = "cancelled";
