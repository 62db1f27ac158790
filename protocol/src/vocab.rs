//! What the protocol needs of a tokenizer: ids to bytes, text to ids, a user message to a prompt,
//! and which ids end a text.

use std::error::Error;

use serde::{Deserialize, Serialize};

/// A rendered user message: what a path begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// Its ids, begun by at most one begin-of-text token.
    pub ids: Vec<u32>,
    /// Whether it ends inside a `<think>`.
    pub think_open: bool,
}

/// A chat template that refuses a message.
#[derive(Debug, thiserror::Error)]
#[error("the chat template refuses the message")]
pub struct TemplateError(#[source] pub Box<dyn Error + Send + Sync>);

/// A tokenizer and its chat template, as the protocol sees them.
///
/// Ids are the truth and text is a view of them: the protocol decodes what was sampled, and encodes
/// only its own sentences and the kept part of a token that a cut divides.
pub trait Vocab {
    /// The ids of `text`, with no special token added.
    fn encode(&self, text: &str) -> Vec<u32>;

    /// The bytes that token `id` stands for; empty for an id outside the vocabulary.
    ///
    /// One token may hold a part of a UTF-8 character.
    fn bytes(&self, id: u32) -> Vec<u8>;

    /// One user message, rendered up to where the answer begins.
    ///
    /// # Errors
    /// If the chat template refuses the message.
    fn prompt(&self, user: &str) -> Result<Prompt, TemplateError>;

    /// Ids that end a text when they are sampled.
    fn eos(&self) -> &[u32];

    /// SHA-256 (hex) of what decides the ids; traces and samples carry it.
    fn hash(&self) -> &str;

    /// The text of `ids`; broken UTF-8 becomes U+FFFD.
    fn text(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.bytes(id)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A vocabulary of the 256 bytes and an end: id = byte, 256 = end of text.
///
/// For tests and dry runs that need a real round trip and no tokenizer file. A prompt is the bare
/// message, and counts as the inside of a thought, as with reasoning models.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByteVocab;

impl ByteVocab {
    /// The id that ends a text.
    pub const EOS: u32 = 256;
}

impl Vocab for ByteVocab {
    fn encode(&self, text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    fn bytes(&self, id: u32) -> Vec<u8> {
        u8::try_from(id).map_or_else(|_| Vec::new(), |byte| vec![byte])
    }

    fn prompt(&self, user: &str) -> Result<Prompt, TemplateError> {
        Ok(Prompt {
            ids: self.encode(user),
            think_open: true,
        })
    }

    fn eos(&self) -> &[u32] {
        &[Self::EOS]
    }

    fn hash(&self) -> &str {
        "bytes"
    }
}
