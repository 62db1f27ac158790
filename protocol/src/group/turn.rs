//! What one path does by itself: it thinks a turn, and it answers.

use super::{Group, Step};
use crate::cut::end_of_first;
use crate::path::State;
use crate::prompt::{SUMMARY_OPEN, THINK_CLOSE, THINK_OPEN};
use crate::request::{Completion, Finish};
use crate::settings::Method;
use crate::trace::{PathEnd, SpanKind};
use crate::vocab::Vocab;

impl Group {
    /// Asks for the path's next turn.
    pub(super) fn think(&mut self, index: usize, vocab: &dyn Vocab, step: &mut Step) {
        let room = self.room(index, "", vocab);
        if room == 0 {
            return self.force(index, PathEnd::Outgrown, vocab, step);
        }
        self.paths[index].state = State::Thinking;
        let mut stop = vec![THINK_CLOSE.to_string()];
        if self.setup.settings.trained() && self.next_block().is_some() {
            stop.push(SUMMARY_OPEN.to_string());
        }
        let budget = self.turn_budget(index).min(room);
        self.request(index, stop, budget, vocab, step);
    }

    /// Takes what a turn has brought.
    pub(super) fn thought(
        &mut self,
        index: usize,
        done: &Completion,
        vocab: &dyn Vocab,
        step: &mut Step,
    ) {
        let path = &mut self.paths[index];
        path.used += done.ids.len();
        path.thought += done.ids.len();
        let stop = match done.finish {
            Finish::Stop(0) => Some(THINK_CLOSE),
            Finish::Stop(_) => Some(SUMMARY_OPEN),
            _ => None,
        };
        let keep = stop.and_then(|stop| end_of_first(vocab, &done.ids, stop));
        let sampled = (&done.ids[..], &done.finish);
        let text = path.push(SpanKind::Thought, None, sampled, keep, vocab);
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
            _ if self.room(index, "", vocab) == 0 => {
                self.force(index, PathEnd::Outgrown, vocab, step);
            }
            _ => self.paths[index].state = State::Waiting,
        }
    }

    /// Asks for the answer of a path whose thought is closed.
    pub(super) fn request_answer(&mut self, index: usize, vocab: &dyn Vocab, step: &mut Step) {
        // A token that the end of the thought divides leaves text to put back.
        self.paths[index].inject(SpanKind::Bridge, None, "", vocab);
        let positions = self.setup.positions;
        let room = positions.saturating_sub(self.paths[index].len());
        if room == 0 {
            return self.end(index, PathEnd::Outgrown, step);
        }
        self.paths[index].state = State::Answering;
        let budget = self.setup.settings.answer_tokens.min(room);
        self.request(index, Vec::new(), budget, vocab, step);
    }

    /// Takes an answer: the path has ended.
    pub(super) fn answer(
        &mut self,
        index: usize,
        done: &Completion,
        vocab: &dyn Vocab,
        step: &mut Step,
    ) {
        let path = &mut self.paths[index];
        let sampled = (&done.ids[..], &done.finish);
        path.push(SpanKind::Answer, None, sampled, None, vocab);
        path.answer_ended = done.finish == Finish::Eos;
        let end = path.end.take().unwrap_or(PathEnd::Answered);
        self.end(index, end, step);
    }

    /// Thought tokens of the path's next turn; 0 if its budget is used up.
    ///
    /// What would be left after a turn and is too short for a summary is added to the turn: a
    /// block after which nothing can be thought would be wasted.
    pub(super) fn turn_budget(&self, index: usize) -> usize {
        let (settings, path) = (&self.setup.settings, &self.paths[index]);
        let turn = settings.turn_tokens;
        let left = settings.max_tokens.saturating_sub(path.used);
        let thoughts = settings.turns.map_or(usize::MAX, |turns| {
            turns.saturating_mul(turn).saturating_sub(path.thought)
        });
        let until_block = self
            .next_block()
            .map(|block| turn.saturating_mul((block - self.turns).saturating_add(1)));
        match until_block {
            Some(tokens)
                if left > tokens.saturating_add(settings.summary_tokens) && thoughts > tokens =>
            {
                tokens
            }
            _ => left.min(thoughts),
        }
    }

    /// The next end of a turn at which the paths exchange.
    pub(super) fn next_block(&self) -> Option<usize> {
        let settings = &self.setup.settings;
        let over = settings.method == Method::LeapS && self.blocks.len() >= settings.single.blocks;
        if !settings.method.exchanges() || over {
            return None;
        }
        match settings.blocks.is_empty() {
            true => Some(self.turns),
            false => {
                let left = settings.blocks.iter().filter(|&&turn| turn >= self.turns);
                left.min().copied()
            }
        }
    }
}
