//! Problems that are there twice: copies, near copies, and copies with another answer.

use std::collections::{BTreeMap, HashMap, VecDeque};

use protocol::Problem;
use rayon::prelude::*;

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

/// Problems that a band remembers, at most: the last ones. Rows of a template share their bands, and
/// would be compared each with each.
const REMEMBERED: usize = 128;
/// Problems with which one is compared word by word, at most: those that share most bands with it.
const COMPARED: usize = 64;

/// The problems without those that are there twice, in order, and what was left out.
///
/// The first of several copies stays. Two problems are copies if their words, signs and answers are
/// equal, brackets that hold terms together included, and options in any order; near copies if four fifths of their runs of five words are shared,
/// the answer is the same and the numbers of the one are among those of the other; the same words with
/// other signs are another problem. Where copies differ in their answer none stays: one of the answers is wrong.
pub fn without(problems: Vec<Problem>) -> (Vec<Problem>, Vec<LeftOut>) {
    without_until(problems, &|| false).expect("nobody asks to stop")
}

/// As [`without`]; none if `stop` asks to stop before it is done.
pub fn without_until(
    problems: Vec<Problem>,
    stop: &(dyn Fn() -> bool + Sync),
) -> Option<(Vec<Problem>, Vec<LeftOut>)> {
    let look = |problem: &Problem| (!stop()).then(|| Seen::of(problem));
    let seen: Vec<Seen> = problems.par_iter().map(look).collect::<Option<_>>()?;
    let mut left_out = Vec::new();
    let mut kept: Vec<usize> = Vec::new();
    let disputed = disputed(&seen);
    let mut copies: HashMap<(&Wording, &str), usize> = HashMap::new();
    let mut bands: HashMap<(usize, u64), VecDeque<usize>> = HashMap::new();
    let tell = |why, value, index: usize, other: usize| LeftOut {
        why,
        value,
        problem: Told::of(&problems[index]),
        like: Some(Told::of(&problems[other])),
        benchmark: None,
    };
    for (index, one) in seen.iter().enumerate() {
        if stop() {
            return None;
        }
        if let Some(&other) = disputed.get(&index) {
            left_out.push(tell(Why::Conflict, 1.0, index, other));
            continue;
        }
        if let Some(&other) = copies.get(&(&one.wording, one.answer.as_str())) {
            left_out.push(tell(Why::Copy, 1.0, index, other));
            continue;
        }
        let shared = one.bands.iter().filter_map(|key| bands.get(key));
        let near = most_shared(shared.flatten().copied().collect());
        let near = near
            .into_iter()
            .find_map(|other| Some((other, one.nearness(&seen[other])?)));
        if let Some((other, value)) = near {
            left_out.push(tell(Why::Near, value, index, other));
            continue;
        }
        copies.insert((&one.wording, &one.answer), index);
        for &key in &one.bands {
            let band = bands.entry(key).or_default();
            if band.len() == REMEMBERED {
                band.pop_front();
            }
            band.push_back(index);
        }
        kept.push(index);
    }
    let mut kept = kept.into_iter().peekable();
    let problems = problems.into_iter().enumerate();
    let stay = problems.filter_map(|(index, problem)| kept.next_if_eq(&index).map(|_| problem));
    Some((stay.collect(), left_out))
}

/// Those that are there most often, in order.
fn most_shared(mut found: Vec<usize>) -> Vec<usize> {
    found.sort_unstable();
    let mut counts: Vec<(usize, usize)> = Vec::new();
    for other in found {
        match counts.last_mut() {
            Some((last, count)) if *last == other => *count += 1,
            _ => counts.push((other, 1)),
        }
    }
    if counts.len() > COMPARED {
        counts.sort_by_key(|&(other, count)| (std::cmp::Reverse(count), other));
        counts.truncate(COMPARED);
    }
    let mut most: Vec<usize> = counts.into_iter().map(|(other, _)| other).collect();
    most.sort_unstable();
    most
}

/// Problems of which a copy has another answer, each with such a copy.
fn disputed(seen: &[Seen]) -> BTreeMap<usize, usize> {
    let mut groups: HashMap<&Wording, Vec<usize>> = HashMap::new();
    for (index, one) in seen.iter().enumerate() {
        groups.entry(&one.wording).or_default().push(index);
    }
    let mut disputed = BTreeMap::new();
    for group in groups.into_values() {
        let answer = |index: usize| &seen[index].answer;
        let first = group[0];
        let Some(&unlike) = group.iter().find(|&&other| answer(other) != answer(first)) else {
            continue;
        };
        for index in group {
            let other = match answer(index) == answer(first) {
                true => unlike,
                false => first,
            };
            disputed.insert(index, other);
        }
    }
    disputed
}

struct Seen {
    wording: Wording,
    answer: String,
    runs: Vec<u64>,
    numbers: Vec<String>,
    bands: Vec<(usize, u64)>,
}

impl Seen {
    fn of(problem: &Problem) -> Self {
        let wording = Wording::of(&problem.question);
        let numbers = wording.numbers().into_iter().map(str::to_owned).collect();
        let mut seen = Self {
            runs: ngrams::set(&wording.words, RUN),
            answer: answer(problem),
            numbers,
            wording,
            bands: Vec::new(),
        };
        seen.bands = seen.bands();
        seen
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
        let (a, b) = (&self.numbers, &other.numbers);
        if self.answer != other.answer || !(within(a, b) || within(b, a)) {
            return None;
        }
        let value = ngrams::jaccard(&self.runs, &other.runs);
        // The same words with other signs are another formula.
        let formula = self.wording.words == other.wording.words;
        (!formula && value >= ALIKE).then_some(value)
    }
}

/// Whether every entry of `a` has one of its own in `b`; both ascend.
fn within(a: &[String], b: &[String]) -> bool {
    let mut rest = b.iter();
    a.iter().all(|one| rest.any(|other| other == one))
}
