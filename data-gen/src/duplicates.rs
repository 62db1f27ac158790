//! Problems that are there twice: copies, near copies, and copies with another answer.

use std::collections::{BTreeMap, HashMap};

use protocol::Problem;

use crate::left_out::{LeftOut, Told, Why};
use crate::ngrams;
use crate::wording::{Wording, answer};

/// Words in a run.
const RUN: usize = 5;
/// Least share of runs that near copies have in common (Jaccard).
const ALIKE: f64 = 0.8;
/// Hashes of a signature are compared in bands: at [`ALIKE`] 99.98% of all pairs share a band.
const BANDS: usize = 16;
const ROWS: usize = 4;

/// The problems without those that are there twice, in order, and what was left out.
///
/// The first of several copies stays. Two problems are copies if their words, signs and answers are
/// equal, options in any order; near copies if four fifths of their runs of five words are shared,
/// the answer is the same and the numbers of the one are among those of the other; the same words with
/// other signs are another problem. Where copies differ in their answer none stays: one of the answers is wrong.
pub fn without(problems: Vec<Problem>) -> (Vec<Problem>, Vec<LeftOut>) {
    let seen: Vec<Seen> = problems.iter().map(Seen::of).collect();
    let mut left_out = Vec::new();
    let mut kept: Vec<usize> = Vec::new();
    let disputed = disputed(&seen);
    let mut copies: HashMap<(&Wording, &str), usize> = HashMap::new();
    let mut bands: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
    let tell = |why, value, index: usize, other: usize| LeftOut {
        why,
        value,
        problem: Told::of(&problems[index]),
        like: Some(Told::of(&problems[other])),
        benchmark: None,
    };
    for (index, one) in seen.iter().enumerate() {
        if let Some(&other) = disputed.get(&index) {
            left_out.push(tell(Why::Conflict, 1.0, index, other));
            continue;
        }
        if let Some(&other) = copies.get(&(&one.wording, one.answer.as_str())) {
            left_out.push(tell(Why::Copy, 1.0, index, other));
            continue;
        }
        let keys = one.bands();
        let mut near: Vec<usize> = keys
            .iter()
            .flat_map(|key| bands.get(key))
            .flatten()
            .copied()
            .collect();
        near.sort_unstable();
        near.dedup();
        let near = near
            .into_iter()
            .find_map(|other| Some((other, one.nearness(&seen[other])?)));
        if let Some((other, value)) = near {
            left_out.push(tell(Why::Near, value, index, other));
            continue;
        }
        copies.insert((&one.wording, &one.answer), index);
        for key in keys {
            bands.entry(key).or_default().push(index);
        }
        kept.push(index);
    }
    let mut kept = kept.into_iter().peekable();
    let problems = problems.into_iter().enumerate();
    let stay = problems.filter_map(|(index, problem)| kept.next_if_eq(&index).map(|_| problem));
    (stay.collect(), left_out)
}

/// Problems of which a copy has another answer, each with such a copy.
fn disputed(seen: &[Seen]) -> BTreeMap<usize, usize> {
    let mut groups: HashMap<&Wording, Vec<usize>> = HashMap::new();
    for (index, one) in seen.iter().enumerate() {
        groups.entry(&one.wording).or_default().push(index);
    }
    let mut disputed = BTreeMap::new();
    for group in groups.into_values() {
        for &index in &group {
            let other = group
                .iter()
                .find(|&&other| seen[other].answer != seen[index].answer);
            disputed.extend(other.map(|&other| (index, other)));
        }
    }
    disputed
}

struct Seen {
    wording: Wording,
    answer: String,
    runs: Vec<u64>,
}

impl Seen {
    fn of(problem: &Problem) -> Self {
        let wording = Wording::of(&problem.question);
        Self {
            runs: ngrams::set(&wording.words, RUN),
            answer: answer(problem),
            wording,
        }
    }

    /// What a band of the signature says, for each band; the answer is part of it.
    ///
    /// Source: A. Broder, "On the resemblance and containment of documents", 1997.
    fn bands(&self) -> Vec<(usize, u64)> {
        let answer = ngrams::of_text(&self.answer);
        let least = |row: u64| {
            let seed = ngrams::mixed(row + 1);
            self.runs
                .iter()
                .map(|run| ngrams::mixed(run ^ seed))
                .min()
                .unwrap_or(0)
        };
        let band = |band: usize| {
            let rows = (band * ROWS..(band + 1) * ROWS).map(|row| least(row as u64));
            (
                band,
                rows.fold(answer, |hash, row| ngrams::mixed(hash.rotate_left(5) ^ row)),
            )
        };
        (0..BANDS).map(band).collect()
    }

    /// The share of runs in common, if the two are near copies.
    fn nearness(&self, other: &Self) -> Option<f64> {
        let (a, b) = (self.wording.numbers(), other.wording.numbers());
        let numbers = within(&a, &b) || within(&b, &a);
        let value = ngrams::jaccard(&self.runs, &other.runs);
        // The same words with other signs are another formula.
        let formula = self.wording.words == other.wording.words;
        (self.answer == other.answer && numbers && !formula && value >= ALIKE).then_some(value)
    }
}

/// Whether every entry of `a` has one of its own in `b`; both ascend.
fn within(a: &[&str], b: &[&str]) -> bool {
    let mut rest = b.iter();
    a.iter().all(|one| rest.any(|other| other == one))
}
