//! The sentences the protocol puts into a path.

mod clean;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::grade::AnswerKind;
use crate::problem::Question;
use crate::seed::Stream;
use crate::settings::Settings;

/// A set of sentences. Our own is [`PromptSet::clean`]; others come from TOML.
///
/// Templates hold names in braces that are replaced once, left to right; what is put in is never
/// searched again, so a problem or a summary cannot smuggle a template in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptSet {
    /// Name, as reports show it.
    pub name: String,
    /// User message of a math problem: `{problem}`.
    pub math: String,
    /// User message of a multiple-choice problem: `{problem}`, `{choices}`.
    pub choice: String,
    /// The same for a model that was not trained on LeaP: explains the exchange with an example.
    pub math_example: String,
    /// The same for multiple choice.
    pub choice_example: String,
    /// How a path starts to think after such an example, on a math problem; may be empty.
    pub math_seed: String,
    /// The same on a multiple-choice problem.
    pub choice_seed: String,
    /// Sentences that ask for a summary; one is drawn for each path and block.
    pub triggers: Vec<String>,
    /// Openings of a summary, which hold the summary tag; one is drawn likewise.
    pub openers: Vec<String>,
    /// What peers said: `{peers}`.
    pub comment: String,
    /// One peer in a comment: `{n}` counts from 1, `{summary}`.
    pub peer: String,
    /// Between two peers.
    pub peer_separator: String,
    /// What a path begins with after it has read its peers.
    pub reflection: String,
    /// What a path reads when nobody else is there.
    pub no_peers: String,
    /// What it begins with then.
    pub alone: String,
    /// Opening of a forced answer to a math problem; `{close}` ends a thought that is open.
    pub forced_math: String,
    /// The same for a multiple-choice problem.
    pub forced_choice: String,
    /// User message of an agent behind the first layer: `{question}` is the plain user message,
    /// `{answers}` what the layer before answered.
    pub moa: String,
    /// One of these answers: `{n}` counts from 1, `{answer}`.
    pub moa_answer: String,
    /// Between two answers.
    pub moa_separator: String,
    /// What makes an agent that is out of budget write its answer; `{close}` as above.
    pub moa_stop: String,
}

/// Opens a summary.
pub const SUMMARY_OPEN: &str = "<summarize>";
/// Closes a summary.
pub const SUMMARY_CLOSE: &str = "</summarize>";
/// Opens a thought.
pub const THINK_OPEN: &str = "<think>";
/// Closes a thought.
pub const THINK_CLOSE: &str = "</think>";

/// A sentence of a prompt set that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` of prompt set `{set}` {problem}")]
pub struct PromptSetError {
    set: String,
    key: &'static str,
    problem: String,
}

impl PromptSet {
    /// Checks that every template has the places it needs.
    ///
    /// # Errors
    /// The first sentence that cannot work.
    pub fn check(&self) -> Result<(), PromptSetError> {
        let fault = |key, problem| {
            let set = self.name.clone();
            Err(PromptSetError { set, key, problem })
        };
        for (key, text, places) in [
            ("math", &self.math, &["{problem}"][..]),
            ("choice", &self.choice, &["{problem}", "{choices}"]),
            ("math_example", &self.math_example, &["{problem}"]),
            (
                "choice_example",
                &self.choice_example,
                &["{problem}", "{choices}"],
            ),
            ("comment", &self.comment, &["{peers}"]),
            ("peer", &self.peer, &["{summary}"]),
            ("moa", &self.moa, &["{question}", "{answers}"]),
            ("moa_answer", &self.moa_answer, &["{answer}"]),
        ] {
            if let Some(place) = places.iter().find(|place| !text.contains(**place)) {
                return fault(key, format!("has no {place}"));
            }
        }
        if self.openers.is_empty() {
            return fault("openers", "is empty: a summary has to be opened".into());
        }
        match self
            .openers
            .iter()
            .find(|text| !text.contains(SUMMARY_OPEN))
        {
            Some(opener) => fault(
                "openers",
                format!("has \"{opener}\" without {SUMMARY_OPEN}"),
            ),
            None => Ok(()),
        }
    }

    /// The user message for `question`.
    pub fn user(&self, question: &Question, settings: &Settings) -> String {
        let choice = question.kind == AnswerKind::Choice;
        match (choice, settings.shows_example()) {
            (_, false) => self.plain(question),
            (false, true) => message(&self.math_example, question),
            (true, true) => message(&self.choice_example, question),
        }
    }

    /// The user message without an example: what independent paths read, and models that were
    /// trained on LeaP traces.
    pub fn plain(&self, question: &Question) -> String {
        match question.kind {
            AnswerKind::Choice => message(&self.choice, question),
            AnswerKind::Integer | AnswerKind::Math => message(&self.math, question),
        }
    }

    /// The user message of an agent that reads `answers`; without any, it is the plain one.
    pub fn agent(&self, question: &Question, answers: &[String], settings: &Settings) -> String {
        let plain = self.user(question, settings);
        if answers.is_empty() {
            return plain;
        }
        let answers = numbered(&self.moa_answer, "answer", answers).join(&self.moa_separator);
        fill(&self.moa, &[("question", &plain), ("answers", &answers)])
    }

    /// How a path starts to think.
    pub fn seed(&self, kind: AnswerKind, settings: &Settings) -> &str {
        match (settings.shows_example(), kind) {
            (false, _) => "",
            (true, AnswerKind::Choice) => &self.choice_seed,
            (true, AnswerKind::Integer | AnswerKind::Math) => &self.math_seed,
        }
    }

    /// The request for a summary that path `lot` draws: a trigger and an opener.
    pub fn trigger(&self, lot: &Stream) -> String {
        let pick = |position, from: &[String]| match from.is_empty() {
            true => String::new(),
            false => from[lot.below(position, from.len())].clone(),
        };
        pick(0, &self.triggers) + &pick(1, &self.openers)
    }

    /// What a reader of `summaries` finds in its path, and what it begins with then.
    pub fn comment(&self, summaries: &[String]) -> (String, &str) {
        if summaries.is_empty() {
            return (self.no_peers.clone(), &self.alone);
        }
        let peers = numbered(&self.peer, "summary", summaries).join(&self.peer_separator);
        (fill(&self.comment, &[("peers", &peers)]), &self.reflection)
    }

    /// The opening of a forced answer; `think_open` tells whether a thought has to be closed.
    pub fn forced(&self, kind: AnswerKind, moa: bool, think_open: bool) -> String {
        let template = match (moa, kind) {
            (true, _) => &self.moa_stop,
            (false, AnswerKind::Choice) => &self.forced_choice,
            (false, AnswerKind::Integer | AnswerKind::Math) => &self.forced_math,
        };
        let close = match think_open {
            true => format!("\n{THINK_CLOSE}"),
            false => String::new(),
        };
        fill(template, &[("close", &close)])
    }
}

/// A user message with its question.
fn message(template: &str, question: &Question) -> String {
    let letters = ('A'..='Z').zip(&question.choices);
    let choices: Vec<String> = letters
        .map(|(letter, text)| format!("{letter}) {text}"))
        .collect();
    fill(
        template,
        &[
            ("problem", &question.text),
            ("choices", &choices.join("\n")),
        ],
    )
}

/// `template` filled for each of `texts`, which are counted from 1.
fn numbered(template: &str, name: &str, texts: &[String]) -> Vec<String> {
    let texts = texts.iter().enumerate();
    texts
        .map(|(index, text)| fill(template, &[("n", &(index + 1).to_string()), (name, text)]))
        .collect()
}

/// `template` with `{name}` replaced; unknown names in braces stay as they are.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let (before, from_brace) = rest.split_at(open);
        out.push_str(before);
        let known = values.iter().find_map(|(name, value)| {
            let after = from_brace
                .strip_prefix('{')?
                .strip_prefix(name)?
                .strip_prefix('}')?;
            Some((value, after))
        });
        match known {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push('{');
                rest = &from_brace[1..];
            }
        }
    }
    out.push_str(rest);
    out
}
