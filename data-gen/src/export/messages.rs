//! Messages in JSONL, for trainers that make ids themselves.
//!
//! Ids are the truth, and this form gives them up: a chat template makes others of the same text, some
//! templates drop the thoughts of an answer, and nothing says any more which words a peer said. So the
//! pieces of the answer stand beside it, each with its kind.

use protocol::{Sample, SpanKind, Vocab};
use serde::{Deserialize, Serialize};

use super::ExportError;

/// One line of the export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// The sample's id.
    pub id: String,
    /// Id of the problem.
    pub problem: String,
    /// The question and the answer.
    pub messages: Vec<Message>,
    /// The answer in pieces: joined, they are its content.
    pub segments: Vec<Segment>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `user` or `assistant`.
    pub role: String,
    /// What it says.
    pub content: String,
}

/// A piece of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// What it is.
    pub kind: SpanKind,
    /// What it says.
    pub text: String,
}

/// What the chat template puts around a message.
pub struct Template {
    before: String,
    after: String,
    /// What the prompt has said already for the answer, such as `<think>` and a line end.
    begun: String,
}

/// Stands for a message while the template is looked at; no template changes it.
const MARK: &str = "MARKxxMESSAGExxMARK";

impl Template {
    /// Looks at the template of a tokenizer.
    ///
    /// # Errors
    /// If it refuses a message.
    pub fn of(vocab: &dyn Vocab) -> Result<Self, ExportError> {
        let text = vocab.text(&vocab.prompt(MARK)?.ids);
        let (before, after) = text.split_once(MARK).unwrap_or((&text, ""));
        let begun = after
            .rfind(protocol::THINK_OPEN)
            .map_or("", |at| &after[at..]);
        Ok(Self {
            before: before.to_owned(),
            after: after.to_owned(),
            begun: begun.to_owned(),
        })
    }

    /// A sample as a conversation. The end of text is left out: a template puts it there.
    ///
    /// # Errors
    /// If the sample's prompt is not the template's.
    pub fn conversation(
        &self,
        sample: &Sample,
        vocab: &dyn Vocab,
    ) -> Result<Conversation, ExportError> {
        let fault = || ExportError::Prompt {
            id: sample.id.clone(),
        };
        if sample.tokenizer != vocab.hash() {
            return Err(ExportError::Tokenizer {
                id: sample.id.clone(),
                found: sample.tokenizer.clone(),
                expected: vocab.hash().to_owned(),
            });
        }
        let [prompt, rest @ ..] = sample.spans.as_slice() else {
            return Err(fault());
        };
        let text = vocab.text(&prompt.ids);
        let user = text
            .strip_prefix(&self.before)
            .and_then(|text| text.strip_suffix(&self.after))
            .ok_or_else(fault)?;
        // The template must make the very prompt of it.
        if prompt.kind != SpanKind::Prompt || vocab.prompt(user)?.ids != prompt.ids {
            return Err(fault());
        }
        let mut segments = Vec::with_capacity(rest.len() + 1);
        if !self.begun.is_empty() {
            segments.push(Segment {
                kind: SpanKind::Prompt,
                text: self.begun.clone(),
            });
        }
        // Neighbours are decoded together where a border divides a character.
        let mut pending: Vec<u32> = Vec::new();
        for (index, span) in rest.iter().enumerate() {
            pending.extend(span.ids.iter().filter(|id| !vocab.eos().contains(id)));
            let text = vocab.text(&pending);
            if text.ends_with('\u{fffd}') && index + 1 < rest.len() {
                continue;
            }
            pending.clear();
            segments.push(Segment {
                kind: span.kind,
                text,
            });
        }
        let content = segments
            .iter()
            .map(|segment| segment.text.as_str())
            .collect();
        let message = |role: &str, content| Message {
            role: role.to_owned(),
            content,
        };
        Ok(Conversation {
            id: sample.id.clone(),
            problem: sample.problem.clone(),
            messages: vec![
                message("user", user.to_owned()),
                message("assistant", content),
            ],
            segments,
        })
    }
}
