//! A LeaP block: all thinking paths sum up, are routed to each other, and read.

use super::{Group, Step};
use crate::cut::{bytes_of, end_of_first, whole_characters};
use crate::path::State;
use crate::prompt::{SUMMARY_CLOSE, SUMMARY_OPEN, THINK_CLOSE};
use crate::request::{Completion, Finish};
use crate::route::Route;
use crate::rules::{BLANK_LINE, longest_closing};
use crate::settings::{Finished, Keep, Method};
use crate::trace::{Block, PathEnd, SpanKind};
use crate::vocab::Vocab;

impl Group {
    /// Once nobody is busy with the part before it, starts the next part of a block.
    pub(super) fn pass_barrier(&mut self, vocab: &dyn Vocab, step: &mut Step) {
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
        let waiting = self.in_state(State::Waiting);
        // A block that paths opened themselves uses up no turn.
        if let Some(turn) = self.next_block()
            && waiting.iter().any(|&index| !self.paths[index].opened)
        {
            self.turns = turn.saturating_add(1);
        }
        let rules = self.setup.settings.rules;
        for index in waiting {
            let path = &mut self.paths[index];
            let mut text = String::new();
            path.opening = SUMMARY_OPEN.into();
            if !std::mem::take(&mut path.opened) {
                let separated = path.cut_paragraph(rules, vocab);
                let lots = self.setup.stream.named("trigger");
                let lot = lots.indexed(index as u64).indexed(block.into());
                let trigger = self.setup.prompts.trigger(&lot);
                self.paths[index].opening.clone_from(&trigger);
                text = match separated {
                    true => trigger,
                    false => BLANK_LINE.to_string() + &trigger,
                };
            }
            // The closing of a summary that is cut has to fit too.
            let room = self.room(index, &(text.clone() + &longest_closing()), vocab);
            if room == 0 {
                self.force(index, PathEnd::Outgrown, vocab, step);
                continue;
            }
            let path = &mut self.paths[index];
            path.inject(SpanKind::Trigger, Some(block), &text, vocab);
            path.state = State::Summarising;
            let stop = vec![SUMMARY_CLOSE.to_string(), THINK_CLOSE.to_string()];
            let budget = self.setup.settings.summary_tokens.min(room);
            self.request(index, stop, budget, vocab, step);
        }
    }

    /// Takes a summary, and closes it if it did not close itself.
    pub(super) fn summary(&mut self, index: usize, done: &Completion, vocab: &dyn Vocab) {
        let block = Some(self.block());
        let rules = self.setup.settings.rules;
        let path = &mut self.paths[index];
        path.used += done.ids.len();
        let ended = done.ids.last().is_some_and(|id| vocab.eos().contains(id));
        let ids = &done.ids[..done.ids.len() - usize::from(ended)];
        let bytes = bytes_of(vocab, ids);
        let stop = match done.finish {
            Finish::Stop(0) => end_of_first(vocab, ids, SUMMARY_CLOSE),
            Finish::Stop(_) => end_of_first(vocab, ids, THINK_CLOSE),
            _ => Some(whole_characters(&bytes)),
        };
        let closing = rules.close(&bytes[..stop.unwrap_or(bytes.len())]);
        let sampled = (&done.ids[..], &done.finish);
        let keep = Some(closing.keep);
        let text = path.push(SpanKind::Summary, block, sampled, keep, vocab);
        if done.finish != Finish::Stop(0) {
            path.cut_summaries += 1;
        }
        path.inject(SpanKind::Bridge, block, &closing.add, vocab);
        let opening = std::mem::take(&mut path.opening);
        let whole = path.text();
        path.heard = Some(rules.heard(&whole, &(opening + &text + &closing.add)));
        path.state = State::Summarised;
    }

    fn exchange(&mut self, vocab: &dyn Vocab, step: &mut Step) {
        let block = self.block();
        let settings = self.setup.settings.clone();
        let readers = self.in_state(State::Summarised);
        let members = self.readable(&readers);
        let texts: Vec<String> = members
            .iter()
            .map(|&index| self.paths[index].heard.clone().unwrap_or_default())
            .collect();
        let n = texts.len();
        let views: Vec<&str> = texts.iter().map(String::as_str).collect();
        let alike = settings.similarity.matrix(&views);
        if settings.method == Method::LeapS && self.blocks.len() + 1 >= settings.single.blocks {
            let alone = self.choose(&readers, &members, &alike);
            for &index in readers.iter().filter(|&&index| index != alone) {
                self.end(index, PathEnd::Released, step);
            }
            self.alone = Some(alone as u32);
        }
        let lots = self.setup.stream.named("route").indexed(block.into());
        let repeats = settings.rules.repeats_peers();
        let mut routes = Vec::with_capacity(readers.len());
        for index in self.in_state(State::Summarised) {
            let place = members.iter().position(|&member| member == index);
            let place = place.expect("a reader is one of the members");
            let row = &alike[place * n..][..n];
            let lot = lots.indexed(index as u64);
            let router = settings.router;
            let peers = match repeats {
                false => router.select(row, place, settings.peers, &lot),
                true => router.select_with_repeats(row, place, settings.peers, &lot),
            };
            let heard: Vec<String> = peers.iter().map(|&peer| texts[peer].clone()).collect();
            let (comment, next) = self.setup.prompts.comment(&heard);
            let next = next.to_string();
            if self.room(index, &(comment.clone() + &next), vocab) == 0 {
                // Without the comment: a path cannot hear more than it has positions for.
                self.force(index, PathEnd::Outgrown, vocab, step);
                continue;
            }
            let path = &mut self.paths[index];
            path.inject(SpanKind::Comment, Some(block), &comment, vocab);
            path.inject(SpanKind::Bridge, Some(block), &next, vocab);
            path.state = State::Waiting;
            routes.push(Route {
                reader: index as u32,
                scores: peers.iter().map(|&peer| row[peer]).collect(),
                peers: peers.iter().map(|&peer| members[peer] as u32).collect(),
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

    /// The paths whose summaries can be read, in path order.
    ///
    /// What a path said stays readable whether or not its answer has arrived, or arrives at all:
    /// otherwise the order of completions would decide.
    fn readable(&self, readers: &[usize]) -> Vec<usize> {
        if self.setup.settings.finished == Finished::Leave {
            return readers.to_vec();
        }
        (0..self.paths.len())
            .filter(|&index| {
                let path = &self.paths[index];
                let left = matches!(path.state, State::Answering | State::Ended);
                readers.contains(&index) || (left && path.heard.is_some())
            })
            .collect()
    }

    /// Which of the readers goes on alone; `alike` are the similarities of all members.
    fn choose(&self, readers: &[usize], members: &[usize], alike: &[f64]) -> usize {
        match self.setup.settings.single.keep {
            Keep::First => readers[0],
            Keep::Random => {
                let lot = self.setup.stream.named("keep");
                readers[lot.below(0, readers.len())]
            }
            Keep::Central => {
                let total = |index: usize| -> f64 {
                    let place = members.iter().position(|&member| member == index);
                    let row = place.map_or(&[][..], |at| &alike[at * members.len()..]);
                    row.iter().take(members.len()).sum()
                };
                let totals = readers.iter().map(|&index| (index, total(index)));
                // Of equals the first: a later one has to be better.
                let best = totals.reduce(|best, next| if next.1 > best.1 { next } else { best });
                best.map_or(readers[0], |(index, _)| index)
            }
        }
    }

    fn block(&self) -> u32 {
        self.blocks.len() as u32
    }
}
