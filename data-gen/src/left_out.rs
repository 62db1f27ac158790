//! What is not among the problems, and why: one line of a `.left-out.jsonl`.

use protocol::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a problem was left out.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Another one before it has the same words, signs and answer.
    Copy,
    /// Another one has the same words and signs, and another answer: neither is kept.
    Conflict,
    /// Another one before it has the same answer and nearly the same words.
    Near,
    /// It shares long stretches with a benchmark problem.
    Overlap,
    /// As a whole it reads like a benchmark problem.
    Similar,
    /// It has the numbers and the answer of a benchmark problem, and much of its wording.
    Signature,
    /// It is from a year in which benchmarks are.
    Year,
}

impl Why {
    /// In words, as they are counted.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copies",
            Self::Conflict => "with two answers",
            Self::Near => "near copies",
            Self::Overlap => "that share text with a benchmark",
            Self::Similar => "that read like a benchmark problem",
            Self::Signature => "with numbers and answer of a benchmark problem",
            Self::Year => "too recent",
        }
    }

    /// Whether it is about a benchmark.
    pub fn is_contamination(self) -> bool {
        matches!(
            self,
            Self::Overlap | Self::Similar | Self::Signature | Self::Year
        )
    }
}

/// A problem as it stands in a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Told {
    /// Its id.
    pub id: String,
    /// Its statement.
    pub text: String,
    /// Its answer.
    pub answer: String,
}

impl Told {
    /// Of a problem.
    pub fn of(problem: &Problem) -> Self {
        Self {
            id: problem.id.clone(),
            text: problem.question.text.clone(),
            answer: problem.gold.as_str().to_owned(),
        }
    }
}

/// A problem that was left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// Why.
    pub why: Why,
    /// How much: the measure that decided, 0 to 1, or the year.
    pub value: f64,
    /// The problem.
    pub problem: Told,
    /// The one it is held against; none for a year.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<Told>,
    /// The benchmark's file, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benchmark: Option<String>,
}
