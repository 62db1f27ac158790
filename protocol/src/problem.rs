//! A problem is a question and its answer, kept apart so that the answer cannot reach a prompt.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::grade::AnswerKind;

/// One line of problems.jsonl.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Stable name, unique in its file.
    pub id: String,
    /// What is asked; the only part an engine may see.
    #[serde(flatten)]
    pub question: Question,
    /// What is right; only grading sees it.
    #[serde(rename = "answer", with = "gold_field")]
    #[schemars(with = "gold_field::Either")]
    pub gold: Gold,
    /// Where the problem comes from, in words; free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `train` or `test`, once a run has split its problems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Question {
    /// The statement.
    #[serde(rename = "problem")]
    pub text: String,
    /// How an answer is read.
    #[serde(default = "integer")]
    pub kind: AnswerKind,
    /// The options of a multiple-choice question, A first; empty otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
}

/// The right answer.
///
/// There is no `Display`: a gold answer is compared, never shown to a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gold(String);

impl Gold {
    /// Wraps an answer.
    pub fn new(answer: impl Into<String>) -> Self {
        Self(answer.into())
    }

    /// The answer as text, for grading and reports.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn integer() -> AnswerKind {
    AnswerKind::Integer
}

/// `answer` is text, or a JSON integer as the AIME files have it.
mod gold_field {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Gold;

    #[derive(Deserialize, schemars::JsonSchema)]
    #[serde(untagged)]
    pub(super) enum Either {
        Integer(i64),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(gold: &Gold, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&gold.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Gold, D::Error> {
        Ok(match Either::deserialize(from)? {
            Either::Integer(value) => Gold(value.to_string()),
            Either::Text(value) => Gold(value),
        })
    }
}
