//! How the simulated reasoner works on a `search` problem.
//!
//! It holds no memory: at every request it reads the problem and everything it wrote and heard
//! from the text of its path, as a language model does from its ids.

use std::collections::BTreeSet;

use protocol::{SUMMARY_CLOSE, SUMMARY_OPEN, Stream, THINK_CLOSE};

use super::search::Search;

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Habits {
    /// Probability that the result of a try is written down wrong.
    pub(super) slip: f64,
    /// Whether it avoids candidates it has tried.
    pub(super) remembers: bool,
    /// How often it checks a solution before it trusts it, unless it has told its peers of it.
    pub(super) checks: usize,
    /// Whether its summaries claim a wrong solution.
    pub(super) lies: bool,
}

/// Random numbers of one request, read one after the other.
pub(super) struct Draws<'a> {
    pub(super) stream: &'a Stream,
    pub(super) next: u64,
}

impl Draws<'_> {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.next += 1;
        self.stream.below(self.next, n)
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.next += 1;
        probability > 0.0 && self.stream.uniform(self.next) < probability
    }
}

/// What the text of a path says so far.
#[derive(Debug, Default, PartialEq)]
struct Notes {
    place: Place,
    /// Candidates it tried itself.
    tried: BTreeSet<u32>,
    found: Option<u32>,
    checks: usize,
    /// What peers say they found, in the last comment.
    claims: Vec<u32>,
}

#[derive(Debug, Default, PartialEq)]
enum Place {
    #[default]
    Thought,
    /// Directly behind what its peers said.
    Heard,
    Summary,
    /// Behind the thought.
    Answer,
    /// Inside `\boxed{`.
    Boxed,
}

/// The next piece of text behind `written`; `true` if the text ends with it.
pub(super) fn next(
    problem: &Search,
    written: &str,
    habits: Habits,
    draws: &mut Draws<'_>,
) -> (String, bool) {
    let notes = Notes::read(written);
    match notes.place {
        Place::Summary => (notes.summary(problem, habits) + SUMMARY_CLOSE, false),
        Place::Boxed => (format!(" {}}}", notes.answer(problem, habits, draws)), true),
        Place::Answer => (
            format!(
                "\nanswer \\boxed{{ {}}}",
                notes.answer(problem, habits, draws)
            ),
            true,
        ),
        Place::Heard => (notes.reaction(), false),
        Place::Thought => (notes.thought(problem, habits, draws), false),
    }
}

impl Notes {
    fn read(written: &str) -> Self {
        let mut notes = Self::default();
        let mut rest = written;
        loop {
            let comment = rest.find("<comment>");
            let summary = rest.find(SUMMARY_OPEN);
            let end = rest.find(THINK_CLOSE);
            let first = [comment, summary, end].into_iter().flatten().min();
            let Some(at) = first else {
                notes.own(rest);
                return notes;
            };
            notes.own(&rest[..at]);
            if end == Some(at) {
                let answer = &rest[at..];
                notes.place = if answer.ends_with("\\boxed{") {
                    Place::Boxed
                } else {
                    Place::Answer
                };
                return notes;
            }
            let close = if comment == Some(at) {
                "</comment>"
            } else {
                SUMMARY_CLOSE
            };
            let Some(length) = rest[at..].find(close) else {
                notes.place = Place::Summary;
                return notes;
            };
            if comment == Some(at) {
                notes.hear(&rest[at..at + length]);
            }
            rest = &rest[at + length + close.len()..];
        }
    }

    /// Its own lines: `try 17 *3 22 +9 2 no`.
    fn own(&mut self, text: &str) {
        if self.place == Place::Heard && text.contains("found") {
            self.place = Place::Thought;
        }
        for line in text.split('\n') {
            let words: Vec<&str> = line.split(' ').collect();
            let ["try" | "check", x, _, .., verdict] = words[..] else {
                continue;
            };
            let Ok(x) = x.parse() else { continue };
            match verdict {
                "yes" if self.found == Some(x) => self.checks += 1,
                "yes" => (self.found, self.checks) = (Some(x), 0),
                "no" if self.found == Some(x) => self.found = None,
                "no" => {}
                _ => continue,
            }
            self.tried.insert(x);
        }
    }

    /// What peers said: `found 17` or `none yet`.
    fn hear(&mut self, comment: &str) {
        self.place = Place::Heard;
        self.claims.clear();
        let bare = |word: &str| word.trim_matches('"').to_string();
        let words: Vec<String> = comment.split_whitespace().map(bare).collect();
        for pair in words.windows(2) {
            if pair[0] == "found" {
                self.claims.extend(pair[1].parse::<u32>());
            }
        }
        // It has told its peers, so it does not go on checking what it found.
        if self.found.is_some() {
            self.checks = usize::MAX / 2;
        }
    }

    fn summary(&self, problem: &Search, habits: Habits) -> String {
        if habits.lies {
            return format!(" found {}", lie(problem));
        }
        match self.found {
            Some(x) => format!(" found {x}"),
            None => " none yet".to_string(),
        }
    }

    fn reaction(&self) -> String {
        match self.best_claim() {
            Some(x) => format!(" peer found {x}\n\n"),
            None => " nobody found\n\n".to_string(),
        }
    }

    /// What most peers claim; the lowest of those that equally many claim.
    fn best_claim(&self) -> Option<u32> {
        let votes = |x: u32| self.claims.iter().filter(|&&claim| claim == x).count();
        let distinct: BTreeSet<u32> = self.claims.iter().copied().collect();
        distinct
            .into_iter()
            .max_by_key(|&x| (votes(x), std::cmp::Reverse(x)))
    }

    fn thought(&self, problem: &Search, habits: Habits, draws: &mut Draws<'_>) -> String {
        if let Some(x) = self.found {
            return match self.checks >= habits.checks {
                true => THINK_CLOSE.to_string(),
                false => line("check", problem, x, habits, draws),
            };
        }
        let range = problem.first..=problem.last;
        // What a peer claims is checked like a hit of its own.
        match self
            .best_claim()
            .filter(|x| range.contains(x) && !self.tried.contains(x))
        {
            Some(x) => line("check", problem, x, habits, draws),
            None => {
                let x = self.candidate(problem, habits, draws);
                line("try", problem, x, habits, draws)
            }
        }
    }

    /// A candidate of the range; one it has not tried, if it remembers and there is one.
    fn candidate(&self, problem: &Search, habits: Habits, draws: &mut Draws<'_>) -> u32 {
        let all: Vec<u32> = (problem.first..=problem.last).collect();
        let open: Vec<u32> = all
            .iter()
            .copied()
            .filter(|x| !habits.remembers || !self.tried.contains(x))
            .collect();
        let open = if open.is_empty() { all } else { open };
        open[draws.below(open.len())]
    }

    fn answer(&self, problem: &Search, habits: Habits, draws: &mut Draws<'_>) -> u32 {
        self.found
            .unwrap_or_else(|| self.candidate(problem, habits, draws))
    }
}

/// A candidate that is no solution, the same for everybody; the only one there is, if it has to be.
fn lie(problem: &Search) -> u32 {
    let right = problem.solutions();
    let range = problem.first..=problem.last;
    let wrong: Vec<u32> = range.filter(|x| !right.contains(x)).collect();
    let draw = Stream::of_run(0).named(&problem.to_string());
    match wrong.len() {
        0 => problem.first,
        many => wrong[draw.below(0, many)],
    }
}

/// One try; a hit is named, so that it can be repeated later.
fn line(word: &str, problem: &Search, x: u32, habits: Habits, draws: &mut Draws<'_>) -> String {
    let mut text = format!("{word} {x}");
    let mut value = x;
    for op in &problem.ops {
        value = op.apply(value, problem.modulus);
        if draws.chance(habits.slip) {
            value = draws.below(problem.modulus as usize) as u32;
        }
        text.push_str(&format!(" {op} {value}"));
    }
    match value == problem.target {
        true => format!("{text} yes\n\nfound {x}\n\n"),
        false => format!("{text} no\n\n"),
    }
}
