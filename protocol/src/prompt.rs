//! The sentences the protocol puts into a path.

use serde::{Deserialize, Serialize};

use crate::grade::AnswerKind;
use crate::problem::Question;
use crate::seed::Stream;
use crate::settings::Method;

/// A set of sentences. Our own is [`PromptSet::clean`]; others come from TOML.
///
/// Templates hold names in braces that are replaced once, left to right; what is put in is never
/// searched again, so a problem or a summary cannot smuggle a template in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptSet {
    /// Name, as reports show it.
    pub name: String,
    /// User message of a math problem: `{problem}`.
    pub math: String,
    /// User message of a multiple-choice problem: `{problem}`, `{choices}`.
    pub choice: String,
    /// Added to the user message for [`Method::Leap`]: explains the exchange with an example.
    pub leap_example: String,
    /// How a path starts to think under [`Method::Leap`]; may be empty.
    pub leap_seed: String,
    /// Sentences that ask for a summary; one is drawn for each path and block.
    pub triggers: Vec<String>,
    /// Openings of a summary, which begin with the summary tag; one is drawn likewise.
    pub openers: Vec<String>,
    /// What peers said: `{peers}`.
    pub comment: String,
    /// One peer in a comment: `{n}` counts from 1, `{summary}`.
    pub peer: String,
    /// Between two peers.
    pub peer_separator: String,
    /// What a path reads when nobody else is there.
    pub no_peers: String,
    /// What a path begins with after it has read its peers.
    pub reflection: String,
    /// Opening of a forced answer to a math problem.
    pub forced_math: String,
    /// Opening of a forced answer to a multiple-choice problem.
    pub forced_choice: String,
}

/// Opens a summary.
pub const SUMMARY_OPEN: &str = "<summarize>";
/// Closes a summary.
pub const SUMMARY_CLOSE: &str = "</summarize>";
/// Opens a thought.
pub const THINK_OPEN: &str = "<think>";
/// Closes a thought.
pub const THINK_CLOSE: &str = "</think>";

impl PromptSet {
    /// Our own wording, with a worked example that is in no benchmark.
    pub fn clean() -> Self {
        let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_string()).collect();
        Self {
            name: "clean".into(),
            math: "{problem}\n\nThink it through one step at a time. At the end write the final \
                   answer in \\boxed{}."
                .into(),
            choice: "{problem}\n\n{choices}\n\nThink it through one step at a time. At the end \
                     write the letter of the right option in \\boxed{}."
                .into(),
            leap_example: "\n\nOthers work on the same problem beside you. From time to time you \
                are asked to sum up where you stand, and then you read what some of the others \
                wrote. Check what they say before you use it: they can be wrong. It looks like \
                this:\n\nThe sum 1 + 2 + ... + 20 is 20 * 21 / 2, so far so good.\n\nTime to share \
                where I stand. <summarize> I use n(n+1)/2 with n = 20 and get 210. </summarize> \
                <comment> Peer 1: \"Pairing 1 with 20, 2 with 19 and so on gives 10 pairs of 21, \
                so 210.\"\nPeer 2: \"I added up to 19 and got 190.\" </comment>\n\nLet me weigh \
                what the others say. Peer 1 reaches 210 by pairing, which agrees with mine. Peer 2 \
                left out the last term: 190 + 20 = 210."
                .into(),
            leap_seed: String::new(),
            triggers: owned(&[
                "Time to share where I stand.",
                "Before I go on, here is where I am.",
                "Let me sum up my progress for the others.",
                "A short note on what I have so far.",
            ]),
            openers: owned(&[
                " <summarize> So far",
                " <summarize> In short,",
                " <summarize> My approach is",
                " <summarize> What I know is",
            ]),
            comment: " <comment> {peers} </comment>\n\n".into(),
            peer: "Peer {n}: \"{summary}\"".into(),
            peer_separator: "\n".into(),
            no_peers: " <comment> Nobody else is working on it any more. </comment>\n\n".into(),
            reflection: "Let me weigh what the others say.".into(),
            forced_math: "\n\nI have to decide now: the answer is \\boxed{".into(),
            forced_choice: "\n\nI have to decide now: the right option is \\boxed{".into(),
        }
    }

    /// The user message for `question`.
    pub fn user(&self, question: &Question, method: Method) -> String {
        let template = match question.kind {
            AnswerKind::Choice => &self.choice,
            AnswerKind::Integer | AnswerKind::Math => &self.math,
        };
        let letters = ('A'..='Z').zip(&question.choices);
        let choices: Vec<String> = letters
            .map(|(letter, text)| format!("{letter}) {text}"))
            .collect();
        let mut user = fill(
            template,
            &[
                ("problem", &question.text),
                ("choices", &choices.join("\n")),
            ],
        );
        if method == Method::Leap {
            user.push_str(&self.leap_example);
        }
        user
    }

    /// The request for a summary that path `lot` draws: a trigger and an opener.
    pub fn trigger(&self, lot: &Stream) -> String {
        let pick = |position, from: &[String]| match from.is_empty() {
            true => String::new(),
            false => from[lot.below(position, from.len())].clone(),
        };
        pick(0, &self.triggers) + &pick(1, &self.openers)
    }

    /// What a reader of `summaries` finds in its path.
    pub fn comment(&self, summaries: &[&str]) -> String {
        if summaries.is_empty() {
            return self.no_peers.clone();
        }
        let peers: Vec<String> = summaries
            .iter()
            .enumerate()
            .map(|(index, summary)| {
                fill(
                    &self.peer,
                    &[("n", &(index + 1).to_string()), ("summary", summary)],
                )
            })
            .collect();
        fill(
            &self.comment,
            &[("peers", &peers.join(&self.peer_separator))],
        )
    }

    /// The opening of a forced answer.
    pub fn forced(&self, kind: AnswerKind) -> &str {
        match kind {
            AnswerKind::Choice => &self.forced_choice,
            AnswerKind::Integer | AnswerKind::Math => &self.forced_math,
        }
    }
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
