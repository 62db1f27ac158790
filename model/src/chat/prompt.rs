//! A user's message as the ids that a model is asked to continue.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ChatError, ChatTemplate, Message};
use crate::tokenizer::Tokenizer;

const THINK: &str = "<think>";
const END_OF_THINK: &str = "</think>";

/// Whether a prompt opens the model's think block when the template has not done it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OpenThink {
    /// For reasoning models only: the tokenizer has `<think>` as one token and the template speaks
    /// of `</think>`. The first revision of the R1 distillates' template leaves the block to the
    /// model, which then sometimes skips it.
    #[default]
    Auto,
    /// The template's text as it is.
    Never,
    /// For every model.
    Always,
}

/// What a model is asked to continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The ids, beginning with exactly one begin-of-text token if the model has one.
    pub ids: Vec<u32>,
    /// Their text, less a begin-of-text token that the template did not write.
    pub text: String,
    /// Whether the prompt ends inside a think block: what the model writes first is reasoning.
    pub in_think: bool,
}

/// Makes prompts for one model.
#[derive(Clone, Debug)]
pub struct Prompter {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    open_think: OpenThink,
}

impl Prompter {
    /// A prompter from its parts. Without a template, messages become prompts as they stand (see
    /// [`Prompter::is_plain`]).
    pub fn new(
        tokenizer: Tokenizer,
        template: Option<ChatTemplate>,
        open_think: OpenThink,
    ) -> Self {
        Self {
            tokenizer,
            template,
            open_think,
        }
    }

    /// The prompter of a checkpoint folder.
    ///
    /// # Errors
    /// A tokenizer or a template that cannot be read.
    pub fn load(dir: &Path, open_think: OpenThink) -> Result<Self, ChatError> {
        Ok(Self::new(
            Tokenizer::load(dir)?,
            ChatTemplate::load(dir)?,
            open_think,
        ))
    }

    /// The tokenizer that the prompts are encoded with.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether the folder has no chat template. The prompt is then the messages' text alone, one
    /// blank line between messages, after the begin-of-text token if the tokenizer adds one. That
    /// suits base models; for others it is worth a warning.
    pub fn is_plain(&self) -> bool {
        self.template.is_none()
    }

    /// The prompt of a single user message.
    ///
    /// # Errors
    /// [`ChatError::Template`] if the template fails.
    pub fn user(&self, content: &str) -> Result<Prompt, ChatError> {
        self.prompt(&[Message::user(content)])
    }

    /// The prompt that asks for the assistant's next message.
    ///
    /// # Errors
    /// [`ChatError::Template`] if the template refuses the messages or fails.
    pub fn prompt(&self, messages: &[Message]) -> Result<Prompt, ChatError> {
        let mut text = match &self.template {
            Some(template) => template.render(messages, true)?,
            None => {
                let contents: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
                contents.join("\n\n")
            }
        };
        // Only the end counts: a user may write of `<think>`, and a plain text is the user's alone.
        let mut in_think = !self.is_plain() && text.trim_end().ends_with(THINK);
        if !in_think && self.opens_think(&text) {
            text.push_str(THINK);
            text.push('\n');
            in_think = true;
        }
        let mut ids = self.tokenizer.encode(&text)?;
        if let Some(bos) = self.tokenizer.bos()
            && self.tokenizer.adds_bos()
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(Prompt {
            ids,
            text,
            in_think,
        })
    }

    fn opens_think(&self, rendered: &str) -> bool {
        match (self.open_think, &self.template) {
            (OpenThink::Always, _) => true,
            (OpenThink::Never, _) | (OpenThink::Auto, None) => false,
            (OpenThink::Auto, Some(template)) => {
                // A template that closes an empty block asks for an answer without reasoning.
                self.tokenizer.id(THINK).is_some()
                    && template.source().contains(END_OF_THINK)
                    && !rendered.trim_end().ends_with(END_OF_THINK)
            }
        }
    }
}
