//! The problem family `search`: try, check, and run out of time.
//!
//! One `x` of a range is mapped to the target by a short chain of operations modulo a number.
//! Trying a candidate is easy, and finding the right one is luck, so a right answer cannot be
//! learnt from right answers alone; what peers have tried or found can be checked by one more try.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One step of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// `+n`
    Add(u32),
    /// `-n`
    Sub(u32),
    /// `*n`
    Mul(u32),
    /// `^n`
    Pow(u32),
}

impl Op {
    /// The value behind `value`, modulo `modulus`.
    pub fn apply(self, value: u32, modulus: u32) -> u32 {
        let (value, modulus) = (u64::from(value), u64::from(modulus));
        let result = match self {
            Self::Add(n) => (value + u64::from(n)) % modulus,
            Self::Sub(n) => (value + modulus - u64::from(n) % modulus) % modulus,
            Self::Mul(n) => value * u64::from(n) % modulus,
            Self::Pow(n) => (0..n).fold(1, |power, _| power * value % modulus),
        };
        // Below the modulus, which is a u32.
        result as u32
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(n) => write!(f, "+{n}"),
            Self::Sub(n) => write!(f, "-{n}"),
            Self::Mul(n) => write!(f, "*{n}"),
            Self::Pow(n) => write!(f, "^{n}"),
        }
    }
}

/// An operation that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no operation: expected one of + - * ^ and a number from 1 to 9999, such as `+7`")]
pub struct OpError(String);

impl FromStr for Op {
    type Err = OpError;

    fn from_str(text: &str) -> Result<Self, OpError> {
        let wrong = || OpError(text.to_string());
        let mut chars = text.chars();
        let sign = chars.next().ok_or_else(wrong)?;
        let n: u32 = chars.as_str().parse().map_err(|_| wrong())?;
        if !(1..=9999).contains(&n) {
            return Err(wrong());
        }
        match sign {
            '+' => Ok(Self::Add(n)),
            '-' => Ok(Self::Sub(n)),
            '*' => Ok(Self::Mul(n)),
            '^' => Ok(Self::Pow(n)),
            _ => Err(wrong()),
        }
    }
}

impl Serialize for Op {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Op {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A problem of the family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// Least candidate.
    pub first: u32,
    /// Greatest candidate.
    pub last: u32,
    /// The chain, applied from left to right.
    pub ops: Vec<Op>,
    /// What the chain must give.
    pub target: u32,
    /// All results are taken modulo this.
    pub modulus: u32,
}

impl Search {
    /// The values of the chain for candidate `x`, one for each operation.
    pub fn chain(&self, x: u32) -> Vec<u32> {
        let mut value = x;
        let step = |op: &Op| {
            value = op.apply(value, self.modulus);
            value
        };
        self.ops.iter().map(step).collect()
    }

    /// Candidates that solve it, ascending; a well-made problem has exactly one.
    pub fn solutions(&self) -> Vec<u32> {
        (self.first..=self.last)
            .filter(|&x| self.chain(x).last() == Some(&self.target))
            .collect()
    }

    /// Finds and reads a problem anywhere in `text`.
    pub fn find_in(text: &str) -> Option<Self> {
        text.match_indices(OPENING)
            .find_map(|(at, _)| Self::parse(&text[at + OPENING.len()..]))
    }

    fn parse(text: &str) -> Option<Self> {
        let (range, rest) = text.lines().next()?.split_once(": x ")?;
        let (first, last) = range.split_once(" to ")?;
        let (ops, rest) = rest.split_once(" = ")?;
        let (target, modulus) = rest.split_once(" mod ")?;
        let problem = Self {
            first: first.parse().ok()?,
            last: last.parse().ok()?,
            ops: ops
                .split(' ')
                .map(|op| op.parse().ok())
                .collect::<Option<_>>()?,
            target: target.parse().ok()?,
            modulus: modulus.trim_end().parse().ok()?,
        };
        // A prompt can be anybody's text: what would be endless work is no problem of this family.
        let sound = problem.modulus > 0 && problem.first <= problem.last && problem.last < 1000;
        sound.then_some(problem)
    }
}

const OPENING: &str = "Find x from ";

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OPENING}{} to {}: x", self.first, self.last)?;
        for op in &self.ops {
            write!(f, " {op}")?;
        }
        write!(f, " = {} mod {}", self.target, self.modulus)
    }
}
