//! The authors' wording, read out of a checkout of their code.
//!
//! None of it is part of this project. A sentence is known by its length and the beginning of its
//! SHA-256, so that numbers made with it can be compared with published ones; the digests are
//! those of commit 589ff64.

use std::collections::BTreeMap;

use protocol::PromptSet;
use sha2::{Digest, Sha256};

use crate::python::{Constant, constants, strings};

/// A sentence of another wording than the one whose numbers are published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfficialError {
    /// A name is not bound to a constant.
    #[error("`{name}` is not bound to a string or a list of strings")]
    Missing {
        /// The name in their source.
        name: &'static str,
    },
    /// The wording is another one.
    #[error(
        "`{name}` has {found} characters and digest {digest}, but that of commit 589ff64 has \
         {expected} and {expected_digest}"
    )]
    Changed {
        /// The name in their source.
        name: &'static str,
        /// Characters found.
        found: usize,
        /// Beginning of the digest found.
        digest: String,
        /// Characters expected.
        expected: usize,
        /// Beginning of the digest expected.
        expected_digest: &'static str,
    },
    /// A sentence does not have the shape that the mapping relies on.
    #[error("`{name}` does not hold {part:?}")]
    Shape {
        /// The name in their source.
        name: &'static str,
        /// What it should hold.
        part: &'static str,
    },
}

/// Name, characters and first 16 hex digits of the SHA-256; lists are joined by NUL.
const KNOWN: &[(&str, usize, &str)] = &[
    ("MATH_cot", 70, "1ac42a4db949361d"),
    ("GPQA_cot", 92, "773f83a3dfd2699c"),
    ("GPQA_temp", 39, "25c67a419bf87db2"),
    ("MATH_answer_prompt", 70, "60bc95d243fde21f"),
    ("GPQA_answer_prompt", 90, "de1eca04ef48379c"),
    ("MATH_stop_think", 48, "baa1c5328411994f"),
    ("comment_subfix", 156, "4dbe29d2922f8031"),
    ("leap_prefix_MATH", 874, "bc8bc068b8d48f7a"),
    ("leap_prefix_GPQA", 1009, "56042d0e187fc522"),
    ("leap_subfix_MATH", 768, "5ddda6a2574be977"),
    ("leap_subfix_GPQA", 845, "0fa7ef329686777a"),
    ("moa_template", 627, "7bde0666eeb1c782"),
    ("leap_triggers", LIST, "6f05efa04d375b64"),
    ("summarize_triggers", LIST, "8bc990a27825bc13"),
];
/// Lists are known by their digest alone.
const LIST: usize = 0;
/// What a lonely path reads: a string inside a function of `leap/utils/util.py`.
const ALONE: (&str, usize, &str) = ("the comment for a lonely path", 91, "72541c86a8798380");
const COMMENT_END: &str = " </comment>\n\n";

/// The authors' wording as a prompt set.
///
/// `prompts` is the text of `leap/prompts.py`, `util` that of `leap/utils/util.py`, which holds
/// what a lonely path reads; without it, those two sentences are ours.
///
/// # Errors
/// The first sentence that is missing or has another wording.
pub fn prompt_set(prompts: &str, util: Option<&str>) -> Result<PromptSet, OfficialError> {
    let constants = constants(prompts);
    for (name, length, digest) in KNOWN {
        verify((name, *length, digest), &joined(&constants, name)?)?;
    }
    let text = |name| joined(&constants, name);
    let options = "A) {A}\nB) {B}\nC) {C}\nD) {D}";
    let choice = with_place("GPQA_temp", &text("GPQA_temp")?, options, "{choices}")?;
    let agents = text("moa_template")?;
    let agents = with_place("moa_template", &agents, "{problem}", "{question}")?;
    let clean = PromptSet::clean();
    let (no_peers, alone) = match util {
        Some(util) => lonely(util)?,
        None => (clean.no_peers.clone(), clean.alone.clone()),
    };
    Ok(PromptSet {
        name: "official".into(),
        math: format!("{{problem}} {}", text("MATH_cot")?),
        choice: choice.clone() + &text("GPQA_cot")?,
        math_example: format!("{{problem}} {}", text("leap_prefix_MATH")?),
        choice_example: choice + &text("leap_prefix_GPQA")?,
        math_seed: text("leap_subfix_MATH")?,
        choice_seed: text("leap_subfix_GPQA")?,
        triggers: list(&constants, "leap_triggers")?,
        openers: list(&constants, "summarize_triggers")?,
        reflection: text("comment_subfix")?,
        no_peers,
        alone,
        forced_math: text("MATH_answer_prompt")?,
        forced_choice: text("GPQA_answer_prompt")?,
        moa: agents + "{answers}",
        moa_answer: "Model {n}:{answer}".into(),
        moa_separator: "\n".into(),
        moa_stop: text("MATH_stop_think")?,
        // The tags and the form of a comment are those of the paper, as ours are.
        comment: clean.comment,
        peer: clean.peer,
        peer_separator: clean.peer_separator,
    })
}

fn list(
    constants: &BTreeMap<String, Constant>,
    name: &'static str,
) -> Result<Vec<String>, OfficialError> {
    match constants.get(name) {
        Some(Constant::List(items)) => Ok(items.clone()),
        _ => Err(OfficialError::Missing { name }),
    }
}

fn joined(
    constants: &BTreeMap<String, Constant>,
    name: &'static str,
) -> Result<String, OfficialError> {
    match constants.get(name) {
        Some(Constant::Text(text)) => Ok(text.clone()),
        Some(Constant::List(items)) => Ok(items.join("\0")),
        None => Err(OfficialError::Missing { name }),
    }
}

fn verify(
    (name, expected, expected_digest): (&'static str, usize, &'static str),
    text: &str,
) -> Result<(), OfficialError> {
    let digest = Sha256::digest(text.as_bytes());
    let digest: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let found = text.chars().count();
    match digest == expected_digest && (expected == LIST || found == expected) {
        true => Ok(()),
        false => Err(OfficialError::Changed {
            name,
            found,
            digest,
            expected,
            expected_digest,
        }),
    }
}

fn with_place(
    name: &'static str,
    text: &str,
    part: &'static str,
    place: &str,
) -> Result<String, OfficialError> {
    match text.contains(part) {
        true => Ok(text.replace(part, place)),
        false => Err(OfficialError::Shape { name, part }),
    }
}

/// The comment for a lonely path, and the sentence behind it.
fn lonely(util: &str) -> Result<(String, String), OfficialError> {
    let (name, length, digest) = ALONE;
    let strings = strings(util);
    let whole = |text: &&String| text.starts_with(" <comment>") && text.contains(COMMENT_END);
    let text = strings.iter().find(whole);
    let text = text.ok_or(OfficialError::Missing { name })?;
    verify((name, length, digest), text)?;
    let end = text.find(COMMENT_END).unwrap_or(0) + COMMENT_END.len();
    Ok((text[..end].to_string(), text[end..].to_string()))
}
