//! Problems that are benchmark problems in disguise.
//!
//! Three looks, of which one suffices. Long stretches of text: runs of eight words that both have,
//! wherever they stand. The whole: a statement of which a few words were changed everywhere. And for
//! short statements the numbers with the answer. Phrases that contests share ("m and n are relatively
//! prime positive integers") are no part of what overlaps. A question with options is looked at with
//! them and without, because copies leave them out or have others.

mod phrases;

use std::collections::HashMap;

use protocol::{Problem, Similarity};

use crate::left_out::{LeftOut, Told, Why};
use crate::ngrams;
use crate::wording::{Wording, answer};

/// Words in a run.
const RUN: usize = 8;
/// Least share of the words of one of the two that runs in common cover.
const COVERED: f64 = 0.5;
/// Fewer words in common are no overlap, unless they are all of the benchmark problem.
const COVERED_WORDS: usize = 16;
/// Least similarity (indel ratio) of two statements that read alike.
const SIMILAR: f64 = 0.85;
/// Statements of fewer words read alike with other numbers in them, and are other problems.
const SHORT: usize = 25;
/// Least similarity of two statements with the same numbers and answer.
const SIMILAR_SIGNATURE: f64 = 0.55;
/// Fewer numbers are no signature.
const SIGNATURE_NUMBERS: usize = 2;
/// Least share of words in common (each as often as it occurs) before similarity is computed.
const WORDS_IN_COMMON: f64 = 0.4;

/// Benchmark problems that training problems are held against.
#[derive(Default)]
pub struct Benchmarks {
    problems: usize,
    known: Vec<Known>,
    /// Where runs stand: benchmark problem and word.
    runs: HashMap<u64, Vec<(usize, usize)>>,
}

/// A benchmark problem, or the question of one without its options.
struct Known {
    benchmark: String,
    told: Told,
    seen: Seen,
}

/// A statement as it is compared.
struct Seen {
    wording: Wording,
    text: String,
    answer: String,
    /// Hashes of the words, ascending.
    bag: Vec<u64>,
    /// Which words belong to phrases that contests share.
    shared: Vec<bool>,
}

impl Seen {
    /// The statement with its options, and without them if it has any and says enough alone.
    fn views(problem: &Problem) -> impl Iterator<Item = Self> {
        let question = Wording::of_text(&problem.question.text);
        // "Which of the following is true?" is a question with its options alone.
        let says = question.words.len() >= COVERED_WORDS
            || question.words.len() >= RUN && question.words.iter().all(|word| word != "following");
        let alone = (!problem.question.choices.is_empty() && says).then_some(question);
        let whole = Wording::of(&problem.question);
        let views = [Some(whole), alone].into_iter().flatten();
        views.map(|wording| Self::of(wording, answer(problem)))
    }

    fn of(wording: Wording, answer: String) -> Self {
        let mut bag: Vec<u64> = wording
            .words
            .iter()
            .map(|word| ngrams::of_text(word))
            .collect();
        bag.sort_unstable();
        Self {
            text: wording.text(),
            answer,
            bag,
            shared: phrases::shared(&wording.words),
            wording,
        }
    }
}

impl Benchmarks {
    /// Adds the problems of a benchmark, which reports will name `benchmark`.
    pub fn add(&mut self, benchmark: &str, problems: &[Problem]) {
        for problem in problems {
            self.problems += 1;
            for seen in Seen::views(problem) {
                let index = self.known.len();
                for (at, run) in ngrams::runs(&seen.wording.words, RUN)
                    .into_iter()
                    .enumerate()
                {
                    self.runs.entry(run).or_default().push((index, at));
                }
                self.known.push(Known {
                    benchmark: benchmark.to_owned(),
                    told: Told::of(problem),
                    seen,
                });
            }
        }
    }

    /// How many benchmark problems there are.
    pub fn len(&self) -> usize {
        self.problems
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The benchmark problem that `problem` is, if it is one: the one it is most like.
    pub fn hit(&self, problem: &Problem) -> Option<LeftOut> {
        let views: Vec<Seen> = Seen::views(problem).collect();
        let overlap = views.iter().find_map(|seen| self.overlap(seen));
        let hit = overlap
            .map(|hit| (Why::Overlap, hit))
            .or_else(|| views.iter().find_map(|seen| self.alike(seen)));
        hit.map(|(why, (index, value))| {
            let known = &self.known[index];
            LeftOut {
                why,
                value: (value * 1e4).round() / 1e4,
                problem: Told::of(problem),
                like: Some(known.told.clone()),
                benchmark: Some(known.benchmark.clone()),
            }
        })
    }

    /// The benchmark problem that shares most text, if it is enough.
    fn overlap(&self, seen: &Seen) -> Option<(usize, f64)> {
        let words = seen.wording.words.len();
        if words < RUN {
            return None;
        }
        // Words that runs in common cover: here and there.
        let mut covered: HashMap<usize, (Vec<bool>, Vec<bool>)> = HashMap::new();
        for (at, run) in ngrams::runs(&seen.wording.words, RUN)
            .into_iter()
            .enumerate()
        {
            for &(index, place) in self.runs.get(&run).into_iter().flatten() {
                let there = self.known[index].seen.wording.words.len();
                let (mine, theirs) = covered
                    .entry(index)
                    .or_insert_with(|| (vec![false; words], vec![false; there]));
                mine[at..(at + RUN).min(words)].fill(true);
                theirs[place..(place + RUN).min(there)].fill(true);
            }
        }
        // The share of what is not said by many.
        let share = |words: &[bool], shared: &[bool]| {
            let own = words.iter().zip(shared).filter(|(_, shared)| !**shared);
            let (covered, all) = own.fold((0_u32, 0_u32), |(covered, all), (word, _)| {
                (covered + u32::from(*word), all + 1)
            });
            f64::from(covered) / f64::from(all.max(1))
        };
        let hits = covered.into_iter().filter_map(|(index, (mine, theirs))| {
            let count = mine.iter().filter(|covered| **covered).count();
            let mine = share(&mine, &seen.shared);
            let theirs = share(&theirs, &self.known[index].seen.shared);
            let whole = theirs >= 1.0;
            let value = mine.max(theirs);
            (whole || value >= COVERED && count >= COVERED_WORDS).then_some((index, value))
        });
        // Of equals the first: the order of a map is by chance.
        hits.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
    }

    /// The benchmark problem that reads most alike, if it is enough.
    fn alike(&self, seen: &Seen) -> Option<(Why, (usize, f64))> {
        let numbers = seen.wording.numbers();
        let enough = numbers.len() >= SIGNATURE_NUMBERS;
        let mut best: Option<(Why, (usize, f64))> = None;
        for (index, known) in self.known.iter().enumerate() {
            let other = &known.seen;
            if ngrams::in_common(&seen.bag, &other.bag) < WORDS_IN_COMMON {
                continue;
            }
            let value = Similarity::Indel.of(&seen.text, &other.text);
            let numbers = numbers == other.wording.numbers();
            let answer = seen.answer == other.answer;
            let long = seen.wording.words.len().min(other.wording.words.len()) >= SHORT;
            let why = match enough && numbers && answer {
                _ if value >= SIMILAR && (long || numbers || answer) => Why::Similar,
                true if value >= SIMILAR_SIGNATURE => Why::Signature,
                _ => continue,
            };
            if best.is_none_or(|(_, (_, most))| value > most) {
                best = Some((why, (index, value)));
            }
        }
        best
    }
}
