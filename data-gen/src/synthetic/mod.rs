//! Synthetic problems: seeded, with integer answers, disjoint between splits by construction.

mod families;

use std::collections::BTreeSet;

use infer::simulated::search::{Op, Search};
use infer::simulated::sum::Sum;
use protocol::grade::AnswerKind;
use protocol::{Gold, Problem, Question, Stream};
use serde::{Deserialize, Serialize};

pub use self::families::{Family, Order, OrderError};

/// The family `search` (see [`Search`]): all chains of `chain` different operations with a unique
/// solution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchFamily {
    /// Candidates are `0..below`; at most 1000, so that answers lie in 0 to 999.
    pub below: u32,
    /// Results are taken modulo this.
    pub modulus: u32,
    /// Operations in a chain.
    pub chain: usize,
    /// Operations to choose from, such as `+5`, `-3`, `*2`, `^2`.
    pub ops: Vec<Op>,
    /// Results that a chain may have to give, each below the modulus.
    ///
    /// A single one makes a hit recognisable by its last value; whether two numbers are equal is
    /// the one thing a very small model does not learn quickly. The luck of finding it stays.
    pub targets: Vec<u32>,
}

/// The family `sum` (see [`Sum`]): `terms` numbers to add, each below `below`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SumFamily {
    /// Numbers to add.
    pub terms: usize,
    /// Each is from 1 to this, exclusive; at most 250, so that answers lie in 0 to 999.
    pub below: u32,
}

/// A family that gives no problems.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FamilyError {
    /// A size out of range.
    #[error("`{key}` is {value}, but must be from {low} to {high}")]
    Range {
        /// The key.
        key: &'static str,
        /// What was given.
        value: u64,
        /// Least value.
        low: u64,
        /// Greatest value.
        high: u64,
    },
    /// More problems are asked for than there are.
    #[error("the family has {found} problems with a unique answer, but {wanted} are asked for")]
    TooFew {
        /// Problems there are.
        found: usize,
        /// Problems asked for.
        wanted: usize,
    },
}

impl SumFamily {
    /// Three numbers below a hundred.
    pub fn usual() -> Self {
        Self {
            terms: 3,
            below: 100,
        }
    }

    /// Problems for each `(name, count)` of `splits`; no problem is in two splits.
    ///
    /// # Errors
    /// If a size is out of range, or the family is too small.
    pub fn splits(
        &self,
        splits: &[(&str, usize)],
        stream: &Stream,
    ) -> Result<Vec<Vec<Problem>>, FamilyError> {
        in_range("terms", self.terms as u64, 2, 4)?;
        in_range("below", u64::from(self.below), 3, 250)?;
        let wanted = splits.iter().map(|(_, count)| count).sum();
        let found = (self.below as usize - 1).pow(self.terms as u32);
        if wanted > found {
            return Err(FamilyError::TooFew { found, wanted });
        }
        let mut seen = BTreeSet::new();
        let mut position = 0;
        let mut draw = || loop {
            let mut term = || {
                position += 1;
                1 + stream.below(position, self.below as usize - 1) as u32
            };
            let terms: Vec<u32> = (0..self.terms).map(|_| term()).collect();
            if seen.insert(terms.clone()) {
                return Sum { terms };
            }
        };
        let split = |&(name, count): &(&str, usize)| {
            let problem = |index| {
                let sum = draw();
                problem(
                    ("sum", name, index),
                    sum.to_string(),
                    sum.total().to_string(),
                )
            };
            (0..count).map(problem).collect()
        };
        Ok(splits.iter().map(split).collect())
    }
}

fn in_range(key: &'static str, value: u64, low: u64, high: u64) -> Result<(), FamilyError> {
    match (low..=high).contains(&value) {
        true => Ok(()),
        false => Err(FamilyError::Range {
            key,
            value,
            low,
            high,
        }),
    }
}

fn problem((family, split, index): (&str, &str, usize), text: String, answer: String) -> Problem {
    Problem {
        id: format!("{family}-{split}-{index:05}"),
        question: Question {
            text,
            kind: AnswerKind::Integer,
            choices: Vec::new(),
        },
        gold: Gold::new(answer),
        source: Some(format!("synthetic family {family}")),
        split: None,
    }
}

impl SearchFamily {
    /// The family of the recipe `tiny`: 23 candidates, three operations, the target 0.
    pub fn usual() -> Self {
        use Op::{Add, Mul, Pow, Sub};
        Self {
            below: 23,
            modulus: 23,
            chain: 3,
            ops: vec![
                Add(2),
                Add(4),
                Add(9),
                Sub(5),
                Sub(7),
                Mul(2),
                Mul(3),
                Mul(5),
                Mul(7),
                Pow(3),
            ],
            targets: vec![0],
        }
    }

    /// Problems for each `(name, count)` of `splits`; no problem is in two splits.
    ///
    /// The order of all problems of the family is a function of `stream`; splits are consecutive
    /// parts of it.
    ///
    /// # Errors
    /// If a size is out of range, or the family is too small.
    pub fn splits(
        &self,
        splits: &[(&str, usize)],
        stream: &Stream,
    ) -> Result<Vec<Vec<Problem>>, FamilyError> {
        self.check()?;
        let mut all = self.enumerate();
        stream.shuffle(&mut all);
        let wanted = splits.iter().map(|(_, count)| count).sum();
        if wanted > all.len() {
            return Err(FamilyError::TooFew {
                found: all.len(),
                wanted,
            });
        }
        let mut rest = all.into_iter();
        let split = |&(name, count): &(&str, usize)| {
            let problem = |(index, (search, x)): (usize, (Search, u32))| {
                problem(("search", name, index), search.to_string(), x.to_string())
            };
            rest.by_ref().take(count).enumerate().map(problem).collect()
        };
        Ok(splits.iter().map(split).collect())
    }

    fn check(&self) -> Result<(), FamilyError> {
        in_range("below", u64::from(self.below), 2, 1000)?;
        in_range("modulus", u64::from(self.modulus), 2, 1000)?;
        in_range("chain", self.chain as u64, 1, 4)?;
        in_range("ops", self.ops.len() as u64, 1, 32)?;
        in_range("targets", self.targets.len() as u64, 1, 1000)?;
        let greatest = u64::from(self.modulus) - 1;
        let mut targets = self.targets.iter();
        targets.try_for_each(|&target| in_range("targets", u64::from(target), 0, greatest))
    }

    fn enumerate(&self) -> Vec<(Search, u32)> {
        let mut found = Vec::new();
        let chains = self.ops.len().pow(self.chain as u32);
        for number in 0..chains {
            let mut rest = number;
            let pick = |_| {
                let op = self.ops[rest % self.ops.len()];
                rest /= self.ops.len();
                op
            };
            let ops: Vec<Op> = (0..self.chain).map(pick).collect();
            if ops.iter().collect::<BTreeSet<_>>().len() < ops.len() {
                continue;
            }
            let mut search = Search {
                first: 0,
                last: self.below - 1,
                ops,
                target: 0,
                modulus: self.modulus,
            };
            let ends: Vec<Option<u32>> = (0..self.below)
                .map(|x| search.chain(x).last().copied())
                .collect();
            for &target in &self.targets {
                let mut hits = (0..self.below).filter(|&x| ends[x as usize] == Some(target));
                if let (Some(x), None) = (hits.next(), hits.next()) {
                    search.target = target;
                    found.push((search.clone(), x));
                }
            }
        }
        found
    }
}

/// The same problem with candidates from a narrower range that holds the answer.
///
/// A text on a narrow range finds its answer after a few tries, so a model that reads such texts
/// sees the answer recognised far more often than once in a whole range. Other problems come back
/// unchanged.
pub fn narrowed(problem: &Problem, lot: &Stream) -> Problem {
    let search = Search::find_in(&problem.question.text);
    let (Some(mut search), Ok(x)) = (search, problem.gold.as_str().parse::<u32>()) else {
        return problem.clone();
    };
    let all = search.last - search.first + 1;
    let size = 2 + lot.below(0, (all as usize).saturating_sub(1).clamp(1, 7)) as u32;
    let below = lot.below(1, size as usize) as u32;
    search.first = x.saturating_sub(below).max(search.first);
    search.last = (search.first + size - 1).min(search.last);
    let question = Question {
        text: search.to_string(),
        ..problem.question.clone()
    };
    let id = format!("{}-in-{}-{}", problem.id, search.first, search.last);
    Problem {
        id,
        question,
        ..problem.clone()
    }
}
