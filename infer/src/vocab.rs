//! A checkpoint folder's tokenizer and chat template, as the protocol and the engines see them.

use std::path::{Path, PathBuf};

use model::chat::{ChatError, OpenThink, Prompter};
use model::config::{ConfigError, ModelConfig};
use model::tokenizer::TokenizerError;
use protocol::{Prompt, TemplateError, Vocab};

/// Why a folder's tokenizer or template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VocabError {
    /// The tokenizer could not be read.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The template could not be read, or refuses a message.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// Tokens that do not stand for bytes cannot be cut or searched exactly.
    #[error("the tokenizer of `{}` is not a byte-level one", folder.display())]
    NotByteLevel {
        /// The folder.
        folder: PathBuf,
    },
    /// A model that cannot end its text would always run out of budget.
    #[error(
        "nothing in `{}` says which token ends a text: name it as `eos_token` in \
         tokenizer_config.json or `eos_token_id` in generation_config.json",
        folder.display()
    )]
    NoEnd {
        /// The folder.
        folder: PathBuf,
    },
    /// `generation_config.json` cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// What [`TokenizerVocab`]'s `encode` panics with: a tokenizer that promised to encode every text,
/// and does not. Only one that was made to fail is known to do so.
#[derive(Debug, thiserror::Error)]
#[error("the tokenizer with hash {hash} cannot encode a text: {problem}")]
pub struct Unencodable {
    /// The tokenizer's hash.
    pub hash: String,
    /// What it said, and how long the text is.
    pub problem: TokenizerError,
}

/// The vocabulary of a checkpoint. Cheap to look tokens up in, on any thread.
#[derive(Clone, Debug)]
pub struct TokenizerVocab {
    prompter: Prompter,
    /// The bytes of all tokens, in order of ids.
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<usize>,
    eos: Vec<u32>,
}

impl TokenizerVocab {
    /// Reads tokenizer, template and end ids of a folder; whether a prompt opens a thought is
    /// decided by the template.
    ///
    /// # Errors
    /// A missing or broken file, a tokenizer that is not a byte-level one, or no end id.
    pub fn load(folder: &Path) -> Result<Self, VocabError> {
        let prompter = Prompter::load(folder, OpenThink::Auto)?;
        let tokenizer = prompter.tokenizer();
        let mut eos: Vec<u32> = tokenizer.eos().into_iter().collect();
        for id in ModelConfig::generation_eos(folder)? {
            if !eos.contains(&id) {
                eos.push(id);
            }
        }
        if eos.is_empty() {
            return Err(VocabError::NoEnd {
                folder: folder.to_owned(),
            });
        }
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(tokenizer.vocab_size()));
        for id in 0..tokenizer.vocab_size() as u32 {
            // Ids between the last merge and an added token may stand for nothing.
            bytes.extend(tokenizer.token_bytes(id).unwrap_or_default());
            ends.push(bytes.len());
        }
        if bytes.is_empty() {
            return Err(VocabError::NotByteLevel {
                folder: folder.to_owned(),
            });
        }
        Ok(Self {
            prompter,
            bytes,
            ends,
            eos,
        })
    }

    /// Whether the folder has no chat template, so that prompts are the bare message.
    pub fn is_plain(&self) -> bool {
        self.prompter.is_plain()
    }
}

impl Vocab for TokenizerVocab {
    /// # Panics
    /// With [`Unencodable`] if the tokenizer refuses a text.
    fn encode(&self, text: &str) -> Vec<u32> {
        let tokenizer = self.prompter.tokenizer();
        tokenizer.encode(text).unwrap_or_else(|problem| {
            let hash = tokenizer.hash().to_owned();
            std::panic::panic_any(Unencodable { hash, problem })
        })
    }

    fn bytes(&self, id: u32) -> Vec<u8> {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else {
            return Vec::new();
        };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        self.bytes[start..end].to_vec()
    }

    fn prompt(&self, user: &str) -> Result<Prompt, TemplateError> {
        let prompt = self.prompter.user(user);
        let prompt = prompt.map_err(|error| TemplateError(Box::new(error)))?;
        Ok(Prompt {
            ids: prompt.ids,
            think_open: prompt.in_think,
        })
    }

    fn eos(&self) -> &[u32] {
        &self.eos
    }

    fn hash(&self) -> &str {
        self.prompter.tokenizer().hash()
    }
}
