//! One row of a file of answers to be graded: what `leap grade --jsonl` reads and writes.
//!
//! A row is a path's text (`text` or `segments`), read as strictly as an evaluation reads it, or a
//! `pred` that is known to state an answer, read with the good will of [`equal`].

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Number, Value};

use super::{
    AnswerKind, Found, Grade, Graded, answer_region, canonical, equal, extract, grade, grade_among,
    stated,
};
use crate::prompt::THINK_OPEN;
use crate::stats::pass_at_k;

/// A row to be graded. Keys that are not named here are passed over.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct Row {
    /// Name of the row; returned as it is.
    #[serde(default, deserialize_with = "any_value")]
    pub id: Value,
    /// The right answer; without one nothing is right or wrong. An integer is read as its digits.
    #[serde(default, deserialize_with = "text_or_number")]
    pub gold: Option<String>,
    /// A text that is known to state an answer.
    #[serde(default, deserialize_with = "text_or_number")]
    pub pred: Option<String>,
    /// What a path wrote.
    #[serde(default)]
    pub text: Option<String>,
    /// What several paths wrote; with `options.k` their pass@k is computed.
    #[serde(default)]
    pub texts: Option<Vec<String>>,
    /// How answers are read: see [`RowError::Kind`].
    pub kind: String,
    /// The text in pieces, by who wrote them; they replace `text`.
    #[serde(default)]
    pub segments: Option<Vec<Segment>>,
    /// How the text came about.
    #[serde(default)]
    pub context: Option<Context>,
    /// What the question asked besides.
    #[serde(default)]
    pub options: Option<Options>,
}

/// A piece of a text.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Segment {
    /// `model` and `forced` (the injected opening of an answer that the model completes) are read
    /// for an answer; `prompt`, `peer` and anything else is not.
    pub role: String,
    /// Its text.
    pub text: String,
}

/// How a text came about.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct Context {
    /// Whether the chat template has opened `<think>` in the prompt.
    #[serde(default)]
    pub think_prefilled: Option<bool>,
    /// Why the text ended: `stop` (or `eos`) if by itself, which is the default.
    #[serde(default)]
    pub finish_reason: Option<String>,
}

/// What the question asked besides.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct Options {
    /// The options of a multiple-choice question; four, where nothing is said.
    #[serde(default)]
    pub choices: Option<Vec<Value>>,
    /// Paths drawn for pass@k.
    #[serde(default)]
    pub k: Option<u64>,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Verdict {
    /// The row's `id`.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub id: Value,
    /// The canonical answer; `null` if there is none.
    pub extracted: Option<String>,
    /// Whether it is right; `null` without a gold.
    pub correct: Option<bool>,
    /// Where the answer was found.
    pub method: Method,
    /// Pass@k of a row with `texts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
}

/// Where an answer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// In the last closed box.
    Boxed,
    /// After an explicit phrase.
    Phrase,
    /// The text is the answer and nothing else.
    Whole,
    /// With good will: in the last formula or number of a `pred`.
    Stated,
    /// In several texts.
    Votes,
    /// Nowhere.
    None,
}

impl From<Found> for Method {
    fn from(found: Found) -> Self {
        match found {
            Found::Boxed => Self::Boxed,
            Found::Phrase => Self::Phrase,
            Found::Whole => Self::Whole,
            Found::None => Self::None,
        }
    }
}

/// Why a row cannot be graded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// Nothing is known of this kind.
    #[error(
        "there is no answer kind `{0}`: known are integer, aime_score (an integer from 0 to 999), \
         boxed_extract (an integer in a box), numeric_normalize; math, fraction, decimal, percent, \
         expression, interval, set, tuple, text; choice, mcq, mcq_extract, mcq_score, mcq_pass_at_k"
    )]
    Kind(String),
    /// There is nothing to grade.
    #[error("the row has none of `pred`, `text`, `texts`, `segments`")]
    Nothing,
    /// Pass@k of fewer than k texts, or of none.
    #[error("pass@{k} of {texts} texts is not defined")]
    PassAtK {
        /// Paths drawn.
        k: u64,
        /// Texts there are.
        texts: usize,
    },
}

/// What a kind asks for besides a type of answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Demand {
    None,
    /// From 0 to 999, as AIME answers are.
    AimeRange,
    /// In a box.
    Box,
    /// The text is a number in some writing; nothing is searched.
    Normalise,
}

fn kind_of(name: &str) -> Result<(AnswerKind, Demand), RowError> {
    Ok(match name {
        "integer" => (AnswerKind::Integer, Demand::None),
        "aime_score" => (AnswerKind::Integer, Demand::AimeRange),
        "boxed_extract" => (AnswerKind::Integer, Demand::Box),
        "numeric_normalize" => (AnswerKind::Integer, Demand::Normalise),
        "math" | "fraction" | "decimal" | "percent" | "expression" | "interval" | "set"
        | "tuple" | "text" => (AnswerKind::Math, Demand::None),
        "choice" | "mcq" | "mcq_extract" | "mcq_score" | "mcq_pass_at_k" => {
            (AnswerKind::Choice, Demand::None)
        }
        other => return Err(RowError::Kind(other.to_string())),
    })
}

impl Row {
    /// Grades the row.
    ///
    /// # Errors
    /// If its kind is unknown, or it has nothing to grade.
    pub fn grade(&self) -> Result<Verdict, RowError> {
        let (kind, demand) = kind_of(&self.kind)?;
        if let Some(pred) = &self.pred {
            return Ok(self.statement(pred, kind));
        }
        if let Some(region) = self.region() {
            return Ok(self.path(&region, kind, demand));
        }
        match &self.texts {
            Some(texts) if !texts.is_empty() => self.several(texts, kind),
            _ => Err(RowError::Nothing),
        }
    }

    /// The part of the path's own words that is its answer; `None` without a text, empty if it
    /// gave none.
    fn region(&self) -> Option<String> {
        let context = self.context.clone().unwrap_or_default();
        let stopped = context
            .finish_reason
            .is_none_or(|reason| matches!(reason.as_str(), "stop" | "eos" | "end_turn"));
        let (own, prefilled) = match &self.segments {
            None => (self.text.clone()?, false),
            Some(segments) => {
                let of = |roles: &[&str]| -> String {
                    let wanted = segments.iter().filter(|s| roles.contains(&s.role.as_str()));
                    wanted.map(|segment| segment.text.as_str()).collect()
                };
                let opens = of(&["prompt"]).trim_end().ends_with(THINK_OPEN);
                (of(&["model", "forced"]), opens)
            }
        };
        let region = answer_region(
            &own,
            context.think_prefilled == Some(true) || prefilled,
            stopped,
        );
        Some(region.unwrap_or_default().to_string())
    }

    /// A path's text, read strictly.
    fn path(&self, region: &str, kind: AnswerKind, demand: Demand) -> Verdict {
        let gold = self.gold.as_deref();
        if demand == Demand::Normalise {
            let value = canonical(region, kind);
            let read = (!value.starts_with('"')).then_some(value);
            let method = if read.is_some() {
                Method::Whole
            } else {
                Method::None
            };
            let correct = gold.map(|gold| {
                let right = read.as_ref();
                right.is_some_and(|value| *value == canonical(gold, kind))
            });
            return self.verdict(read, correct, method);
        }
        let graded = self.graded(gold.unwrap_or_default(), region, kind);
        let mut right = graded.grade == Grade::Right;
        let mut answer = graded.answer;
        if demand == Demand::Box && graded.found != Found::Boxed {
            (answer, right) = (None, false);
        }
        if demand == Demand::AimeRange {
            let value = answer.as_deref().and_then(|text| text.parse::<i64>().ok());
            right &= value.is_some_and(|value| (0..=999).contains(&value));
        }
        let method = match answer {
            Some(_) => graded.found.into(),
            None => Method::None,
        };
        self.verdict(answer, gold.map(|_| right), method)
    }

    fn graded(&self, gold: &str, text: &str, kind: AnswerKind) -> Graded {
        if kind != AnswerKind::Choice {
            return grade(gold, text, kind);
        }
        grade_among(gold, text, self.choices())
    }

    /// How many options there were: those that are named, else A to D, or up to a later gold.
    fn choices(&self) -> usize {
        let named = self.options.as_ref().and_then(|o| o.choices.as_ref());
        let named = named.map_or(0, Vec::len);
        let gold = self.gold.as_deref().and_then(|gold| {
            let letter = extract(gold, AnswerKind::Choice).0?;
            Some(usize::from(letter.bytes().next()? - b'A') + 1)
        });
        named
            .max(if named == 0 { 4 } else { 0 })
            .max(gold.unwrap_or(0))
    }

    /// A text that is known to state an answer.
    fn statement(&self, pred: &str, kind: AnswerKind) -> Verdict {
        let (answer, found) = extract(pred, kind);
        let (extracted, method) = match answer {
            Some(answer) => (Some(answer), found.into()),
            None => match stated(pred, kind) {
                Some(answer) => (Some(answer), Method::Stated),
                None => (None, Method::None),
            },
        };
        let gold = self.gold.as_deref();
        self.verdict(extracted, gold.map(|gold| equal(gold, pred, kind)), method)
    }

    fn several(&self, texts: &[String], kind: AnswerKind) -> Result<Verdict, RowError> {
        let gold = self.gold.as_deref().unwrap_or_default();
        let right = texts.iter().filter(|text| {
            let region = answer_region(text, false, true).unwrap_or_default();
            self.graded(gold, region, kind).grade == Grade::Right
        });
        let (right, texts) = (right.count(), texts.len());
        let k = self.options.as_ref().and_then(|o| o.k).unwrap_or(1);
        let value = pass_at_k(texts as u64, right as u64, k);
        let value = value.ok_or(RowError::PassAtK { k, texts })?;
        let correct = self.gold.as_ref().map(|_| right > 0);
        let mut verdict = self.verdict(None, correct, Method::Votes);
        verdict.value = self.gold.as_ref().map(|_| value);
        Ok(verdict)
    }

    fn verdict(&self, extracted: Option<String>, correct: Option<bool>, method: Method) -> Verdict {
        Verdict {
            id: self.id.clone(),
            extracted,
            correct,
            method,
            value: None,
        }
    }
}

fn text_or_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Null => None,
        Value::String(text) => Some(text),
        Value::Number(number) => Some(exact(number)?.to_string()),
        other => {
            let message = format!("expected text or a number, found `{other}`");
            return Err(serde::de::Error::custom(message));
        }
    })
}

fn any_value<'de, D: Deserializer<'de>>(from: D) -> Result<Value, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Number(number) => Value::Number(exact(number)?),
        other => other,
    })
}

/// The number, if it has the digits that were written: JSON's integers of more than 64 bits arrive
/// rounded.
fn exact<E: serde::de::Error>(number: Number) -> Result<Number, E> {
    const LARGEST_EXACT: f64 = (1u64 << 53) as f64;
    let rounded = |value: f64| value.fract() == 0.0 && value.abs() >= LARGEST_EXACT;
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(value) if rounded(value) => Err(E::custom(format!(
            "a number near {value:e} has more digits than are read from a JSON number: write it as text"
        ))),
        _ => Ok(number),
    }
}
