//! What counts as right: reading an answer out of a path's own words, and comparing it with gold.
//!
//! Grading is a pure function of text. It must never see a prompt or a peer's words: the caller
//! passes what the path wrote itself ([`answer_region`] finds the part that is the answer).

mod answer;
mod boxes;
mod choice;
mod compare;
mod exact;
mod extract;
mod factor;
mod form;
mod lex;
mod lexicon;
mod math;
mod node;
mod numerals;
mod numeric;
mod parse;
mod phrase;
mod print;
mod product;
mod region;
mod roots;
pub mod row;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::prompt::{THINK_CLOSE, THINK_OPEN};

/// How an answer is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerKind {
    /// A whole number, as in AIME: anything that evaluates exactly to an integer.
    Integer,
    /// Any mathematical value: numbers, expressions, sets, tuples, intervals, matrices, words.
    Math,
    /// A capital letter A to J that names an option.
    Choice,
}

/// The verdict on one path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// The answer equals gold.
    Right,
    /// There is an answer and it does not equal gold.
    Wrong,
    /// No answer could be read: truncated, undecided, two values, or not of the kind asked for.
    NoAnswer,
}

/// How an answer was found, best evidence first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// In the last non-empty closed `\boxed`, `\fbox` or `\framebox`.
    Boxed,
    /// After an explicit phrase such as `The answer is`.
    Phrase,
    /// The answer text is the answer and nothing else.
    Whole,
    /// Nowhere.
    None,
}

/// The verdict on one path, with the answer it rests on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Graded {
    /// The verdict.
    pub grade: Grade,
    /// The canonical answer, the key that votes are counted by; `None` exactly for `NoAnswer`.
    pub answer: Option<String>,
    /// Where the answer was found. `Boxed` without an answer means: a box that could not be read.
    pub found: Found,
}

/// Grades the answer that `answer_text` gives.
///
/// `answer_text` is the path's own answer region, see [`answer_region`]. It is read strictly: the
/// last non-empty closed box beats any phrase, a box that cannot be read is not replaced by
/// earlier evidence, and a number that merely stands in the text is no answer.
pub fn grade(gold: &str, answer_text: &str, kind: AnswerKind) -> Graded {
    let (written, found) = written_answer(answer_text, kind);
    let Some(written) = written else {
        return Graded {
            grade: Grade::NoAnswer,
            answer: None,
            found,
        };
    };
    let right = match kind {
        AnswerKind::Integer => same_integers(gold, &written),
        AnswerKind::Math => {
            let stated = extract::statement(gold, kind);
            math::same_answers(gold, &written)
                || stated.is_some_and(|gold| math::same_answers(&gold, &written))
        }
        AnswerKind::Choice => choice::letter_of(gold).is_some_and(|letter| letter == written),
    };
    Graded {
        grade: if right { Grade::Right } else { Grade::Wrong },
        answer: Some(canonical(&written, kind)),
        found,
    }
}

/// As [`grade`] of a letter, where the question had options A up to the number of `choices`.
///
/// A letter beyond them names no option: that is no answer, and no vote.
pub fn grade_among(gold: &str, answer_text: &str, choices: usize) -> Graded {
    let graded = grade(gold, answer_text, AnswerKind::Choice);
    let letter = graded.answer.as_deref().and_then(|a| a.bytes().next());
    match letter {
        Some(letter) if usize::from(letter - b'A') >= choices => Graded {
            grade: Grade::NoAnswer,
            answer: None,
            found: graded.found,
        },
        _ => graded,
    }
}

/// The canonical answer that `answer_text` gives, and how it was found.
///
/// The answer is `None` with a place where it should be ([`Found::Boxed`], [`Found::Phrase`]) if
/// that place holds two values or nothing of this kind.
pub fn extract(answer_text: &str, kind: AnswerKind) -> (Option<String>, Found) {
    let (written, found) = written_answer(answer_text, kind);
    (written.map(|answer| canonical(&answer, kind)), found)
}

fn written_answer(answer_text: &str, kind: AnswerKind) -> (Option<String>, Found) {
    let text = before_next_turn(answer_text);
    match kind {
        AnswerKind::Choice => choice::extract(text),
        AnswerKind::Integer | AnswerKind::Math => extract::extract(text, kind),
    }
}

/// The key that votes are counted by: answers with the same key are the same answer.
///
/// Integers are plain decimal digits, letters are capitals, fractions are reduced, sums and
/// products are in a fixed order. What is not of this kind is kept as text in quotation marks.
/// The key of a key is the key itself.
pub fn canonical(answer: &str, kind: AnswerKind) -> String {
    let quoted = answer.len() > 1 && answer.starts_with('"') && answer.ends_with('"');
    let read = match kind {
        // A key that is text already.
        _ if quoted => None,
        AnswerKind::Integer => match math::integer(answer) {
            math::Reading::One(value) => Some(value.to_string()),
            math::Reading::Several | math::Reading::Unreadable => None,
        },
        AnswerKind::Choice => choice::letter_of(answer),
        AnswerKind::Math => Some(math::canonical(answer)),
    };
    read.unwrap_or_else(|| math::text_key(answer))
}

/// Whether `answer` states what `gold` states.
///
/// Both are known to be statements of an answer, so full solutions are read with more good will
/// than [`grade`] does: a box, a phrase, the last formula, the last number.
///
/// Conventions where graders differ:
/// - the integer kind is exact; nothing is rounded to a whole number;
/// - `10%` equals `10%`, `10` and `0.1`;
/// - lists and braced sets have no order, tuples do; names fix an order (`x = 1, y = 2`);
/// - a decimal equals a fraction or root that no decimal can write if it has six or more digits
///   after the point and is that number rounded or cut off;
/// - an equation on the side of gold is stripped to its value only if its left side is a name;
/// - identities are decided exactly for rational numbers and roots, else at sample points with
///   a relative tolerance of 1e-10.
pub fn equal(gold: &str, answer: &str, kind: AnswerKind) -> bool {
    let (gold, answer) = (before_next_turn(gold), before_next_turn(answer));
    match kind {
        AnswerKind::Choice => {
            let letters = choice::letter_of(gold).zip(choice::letter_of(answer));
            letters.is_some_and(|(a, b)| a == b)
        }
        AnswerKind::Integer | AnswerKind::Math => {
            let states = |text: &str| extract::statement(text, kind);
            let gold = states(gold).unwrap_or_else(|| gold.to_owned());
            let answer = states(answer).unwrap_or_else(|| answer.to_owned());
            if kind == AnswerKind::Integer {
                same_integers(&gold, &answer)
            } else {
                math::same_answers(&gold, &answer)
            }
        }
    }
}

/// The canonical answer that `text` states, read with the good will of [`equal`]; `None` if it
/// states nothing.
pub fn stated(text: &str, kind: AnswerKind) -> Option<String> {
    let text = before_next_turn(text);
    let read = match kind {
        AnswerKind::Choice => choice::letter_of(text),
        AnswerKind::Integer | AnswerKind::Math => extract::statement(text, kind),
    };
    Some(canonical(&read?, kind))
}

/// What the last closed `\boxed{...}` of `text` holds, as it is written there; `None` if none holds
/// anything.
pub fn boxed(text: &str) -> Option<&str> {
    boxes::boxes(text).last().map(|last| last.content)
}

fn same_integers(gold: &str, answer: &str) -> bool {
    match (math::integer(gold), math::integer(answer)) {
        (math::Reading::One(a), math::Reading::One(b)) => a == b,
        _ => false,
    }
}

/// Ends of a turn in the chat formats of the model families we run; what a model writes after
/// one of them is an invented next turn.
const TURN_ENDS: &[&str] = &[
    "<|im_end|>",
    "<|im_start|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_sentence|>",
    "<|end|>",
    "<|user|>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
    "<\u{ff5c}User\u{ff5c}>",
    "<\u{ff5c}Assistant\u{ff5c}>",
    "<|start_header_id|>",
    "</s>",
    "<end_of_turn>",
    "<start_of_turn>",
];

/// The part of a path's own words that is its answer.
///
/// That is the text after the last `</think>`; `None` while the path is still thinking: a
/// `<think>` without its end, written by the path or, with `think_prefilled`, by the chat
/// template. Without any tag, the whole text is the answer if the path stopped by itself
/// (`stopped`), and nothing is if it was cut off.
pub fn answer_region(own_text: &str, think_prefilled: bool, stopped: bool) -> Option<&str> {
    let text = before_next_turn(own_text);
    if let Some((_, answer)) = text.rsplit_once(THINK_CLOSE) {
        return (!answer.contains(THINK_OPEN)).then_some(answer);
    }
    let thinking = think_prefilled || text.contains(THINK_OPEN);
    (!thinking && stopped).then_some(text)
}

fn before_next_turn(text: &str) -> &str {
    let end = TURN_ENDS.iter().filter_map(|mark| text.find(mark)).min();
    &text[..end.unwrap_or(text.len())]
}
