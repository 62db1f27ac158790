//! The benchmarks of the paper: what they must look like, and where people keep them.
//!
//! The problems themselves are never part of this toolkit: they belong to their contests.

use protocol::Problem;
use protocol::grade::AnswerKind;
use serde::{Deserialize, Serialize};

use crate::choices::{NotSpread, check_spread};

/// A benchmark of the paper (section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Benchmark {
    /// AIME 2024, I and II.
    Aime24,
    /// AIME 2025, I and II.
    Aime25,
    /// The ten reference problems of the second AIMO Progress Prize.
    Aimo25,
    /// The diamond set of GPQA.
    GpqaDiamond,
}

/// Where a benchmark lies on the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Data set, as `owner/name`.
    pub repo: &'static str,
    /// Which of its files.
    pub files: &'static str,
}

/// Problems that are not the benchmark they are said to be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BenchmarkError {
    /// There are too many or too few.
    #[error("{name} has {expected} problems, and here are {found}")]
    Count {
        /// The benchmark.
        name: &'static str,
        /// How many it has.
        expected: usize,
        /// How many are here.
        found: usize,
    },
    /// A problem is of another kind.
    #[error("the problems of {name} are {expected}, and `{id}` is not")]
    Kind {
        /// The benchmark.
        name: &'static str,
        /// What they are, in words.
        expected: &'static str,
        /// The problem.
        id: String,
    },
    /// An answer out of range.
    #[error("answers of {name} are whole numbers from 0 to 999, and that of `{id}` is {answer}")]
    Range {
        /// The benchmark.
        name: &'static str,
        /// The problem.
        id: String,
        /// Its answer.
        answer: String,
    },
    /// The same question twice.
    #[error("problems `{0}` and `{1}` ask the same")]
    Twins(String, String),
    /// Options that were not shuffled.
    #[error(transparent)]
    NotSpread(#[from] NotSpread),
}

impl Benchmark {
    /// Every benchmark.
    pub const ALL: [Self; 4] = [Self::Aime24, Self::Aime25, Self::Aimo25, Self::GpqaDiamond];

    /// The name used in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aime24 => "aime24",
            Self::Aime25 => "aime25",
            Self::Aimo25 => "aimo25",
            Self::GpqaDiamond => "gpqa-diamond",
        }
    }

    /// How many problems it has.
    pub fn problems(self) -> usize {
        match self {
            Self::Aime24 | Self::Aime25 => 30,
            Self::Aimo25 => 10,
            Self::GpqaDiamond => 198,
        }
    }

    /// How its answers are read.
    pub fn kind(self) -> AnswerKind {
        match self {
            Self::GpqaDiamond => AnswerKind::Choice,
            _ => AnswerKind::Integer,
        }
    }

    /// Where it lies on the hub, if one place is usual. Whoever keeps GPQA asks for its terms to
    /// be accepted first.
    pub fn place(self) -> Option<Place> {
        let (repo, files) = match self {
            Self::Aime24 => ("HuggingFaceH4/aime_2024", "*.parquet"),
            Self::Aime25 => ("math-ai/aime25", "*.jsonl"),
            Self::GpqaDiamond => ("Idavidrein/gpqa", "gpqa_diamond.csv"),
            Self::Aimo25 => return None,
        };
        Some(Place { repo, files })
    }

    /// Checks that `problems` are this benchmark: count, kind, range of answers, no statement
    /// twice, and right options spread over the letters.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn check(self, problems: &[Problem]) -> Result<(), BenchmarkError> {
        let (name, expected) = (self.name(), self.problems());
        if problems.len() != expected {
            return Err(BenchmarkError::Count {
                name,
                expected,
                found: problems.len(),
            });
        }
        for problem in problems {
            if problem.question.kind != self.kind() {
                return Err(BenchmarkError::Kind {
                    name,
                    expected: match self.kind() {
                        AnswerKind::Choice => "multiple choice",
                        _ => "answered with whole numbers",
                    },
                    id: problem.id.clone(),
                });
            }
            let answer = problem.gold.as_str();
            let in_range = answer.parse::<i64>().is_ok_and(|n| (0..=999).contains(&n));
            if self.kind() == AnswerKind::Integer && !in_range {
                return Err(BenchmarkError::Range {
                    name,
                    id: problem.id.clone(),
                    answer: answer.to_owned(),
                });
            }
        }
        let asked = |problem: &Problem| {
            let mut options = problem.question.choices.clone();
            options.sort_unstable();
            (problem.question.text.trim().to_owned(), options)
        };
        let mut texts: Vec<_> = problems
            .iter()
            .map(|problem| (asked(problem), problem.id.as_str()))
            .collect();
        texts.sort_unstable();
        if let Some(pair) = texts.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(BenchmarkError::Twins(pair[0].1.into(), pair[1].1.into()));
        }
        Ok(check_spread(problems)?)
    }
}
