//! A checkpoint folder's tokenizer and chat template, as the protocol and the engines see them.

use std::io;
use std::path::{Path, PathBuf};

use model::chat::{ChatError, OpenThink, Prompter};
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
    /// `generation_config.json` could not be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// `generation_config.json` is broken.
    #[error("`{}`: {problem}", path.display())]
    Generation {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        problem: serde_json::Error,
    },
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
        for id in generation_eos(folder)? {
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
    fn encode(&self, text: &str) -> Vec<u32> {
        self.prompter
            .tokenizer()
            .encode(text)
            .expect("a byte-level tokenizer encodes every text")
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

/// `eos_token_id` of `generation_config.json`: a number, a list, or nothing.
fn generation_eos(folder: &Path) -> Result<Vec<u32>, VocabError> {
    #[derive(serde::Deserialize)]
    struct Generation {
        #[serde(default)]
        eos_token_id: Option<Ids>,
    }
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Ids {
        One(u32),
        Many(Vec<u32>),
    }
    let path = folder.join("generation_config.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(VocabError::Io { path, source }),
    };
    let generation: Generation = serde_json::from_slice(&text)
        .map_err(|problem| VocabError::Generation { path, problem })?;
    Ok(match generation.eos_token_id {
        None => Vec::new(),
        Some(Ids::One(id)) => vec![id],
        Some(Ids::Many(ids)) => ids,
    })
}
