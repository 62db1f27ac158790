//! Text to token ids and back, as the `tokenizer.json` of a checkpoint folder says.
//!
//! The parser and the BPE are those of the `tokenizers` crate. It was written for files from
//! trusted hands and panics on some broken ones, so every call into it is caught here. What begins
//! and ends a text is read from `tokenizer_config.json`, never from `config.json`: the R1
//! distillates' `config.json` names another token than their tokenizer does. Chat templates are
//! [`crate::chat`]'s.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tokenizers::Tokenizer as Foreign;

use crate::config::ModelConfig;
use crate::folder;
use crate::foreign::caught;

mod canonical;
mod error;
mod pieces;
mod special;
mod training;

pub(crate) use canonical::pretty as sorted_json;
pub use error::TokenizerError;
use pieces::Pieces;
pub use special::SpecialTokens;
pub use training::{AddedToken, TokenizerTraining};

/// A tokenizer. Cloning is cheap: clones share the vocabulary.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    foreign: Foreign,
    hash: String,
    pieces: Pieces,
    special: SpecialTokens,
    bos: Option<u32>,
    eos: Option<u32>,
    adds_bos: bool,
    /// `tokenizer_config.json`, an empty object if there is none.
    settings: Value,
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a folder, and its `tokenizer_config.json` if there is one.
    ///
    /// Truncation and padding that `tokenizer.json` may ask for are left out: they would silently
    /// change texts.
    ///
    /// # Errors
    /// A missing or broken file, or two files that contradict each other.
    pub fn load(dir: &Path) -> Result<Self, TokenizerError> {
        let path = dir.join("tokenizer.json");
        let bytes = read(dir, "tokenizer.json", folder::VOCABULARY)?;
        let bytes = bytes.ok_or_else(|| TokenizerError::NotFound { path: path.clone() })?;
        let settings_path = dir.join("tokenizer_config.json");
        let settings = match read(dir, "tokenizer_config.json", folder::SMALL)? {
            Some(bytes) => parse(&settings_path, &bytes)?,
            None => Value::Object(serde_json::Map::new()),
        };
        Self::new(&path, &bytes, &settings_path, settings)
    }

    fn new(
        path: &Path,
        bytes: &[u8],
        settings_path: &Path,
        settings: Value,
    ) -> Result<Self, TokenizerError> {
        let value = parse(path, bytes)?;
        let problem = |problem| TokenizerError::Parser {
            path: path.to_owned(),
            problem,
        };
        let pieces = Pieces::new(&value).map_err(problem)?;
        let foreign = caught(|| {
            let mut foreign = Foreign::from_bytes(bytes)?;
            foreign.with_truncation(None)?.with_padding(None);
            tokenizers::Result::Ok(foreign)
        })
        .map_err(problem)?;
        let special = SpecialTokens::new(&settings);
        let id = |key: &'static str, token: Option<&str>| {
            let Some(token) = token else { return Ok(None) };
            match foreign.token_to_id(token) {
                Some(id) => Ok(Some(id)),
                None => Err(TokenizerError::UnknownToken {
                    path: settings_path.to_owned(),
                    key: key.to_owned(),
                    token: token.to_owned(),
                }),
            }
        };
        let bos = id("bos_token", special.get("bos_token"))?;
        let eos = id("eos_token", special.get("eos_token"))?;
        for (token, said) in special::declared_ids(&settings) {
            let known = foreign.token_to_id(&token);
            if known != Some(said) {
                let path = settings_path.to_owned();
                return Err(TokenizerError::Contradiction {
                    path,
                    token,
                    said,
                    known,
                });
            }
        }
        let adds_bos = special::adds_bos(&settings, &value, special.get("bos_token"));
        let hash = canonical::hash(&value);
        Ok(Self(Arc::new(Inner {
            foreign,
            hash,
            pieces,
            special,
            bos,
            eos,
            adds_bos,
            settings,
        })))
    }

    /// The ids of `text`. No token is added at either end; the text of an added token inside `text`
    /// becomes that token.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] if the foreign encoder fails, which no text is known to cause.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        caught(|| {
            let encoding = self.0.foreign.encode_fast(text, false)?;
            tokenizers::Result::Ok(encoding.get_ids().to_vec())
        })
        .map_err(|problem| TokenizerError::Encode {
            bytes: text.len(),
            problem,
        })
    }

    /// The text of `ids`, that of special tokens included. Ids that no token has give no text; bytes
    /// that are not UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        if self.0.pieces.byte_level() {
            let bytes: Vec<u8> = ids
                .iter()
                .filter_map(|id| self.0.pieces.get(*id))
                .flatten()
                .copied()
                .collect();
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        caught(|| self.0.foreign.decode(ids, false)).unwrap_or_default()
    }

    /// The bytes that `id` stands for; they need not be whole characters. None if no token has the
    /// id, or if the tokenizer is not a byte-level one.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.0.pieces.get(id).map(<[u8]>::to_vec)
    }

    /// The id of a token, by its text as `tokenizer.json` writes it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.0.foreign.token_to_id(token)
    }

    /// SHA-256 in hex of what decides which ids a text becomes: vocabulary, merges, added tokens,
    /// normaliser and splitting. Not of the way the file is written: merges as strings or as pairs,
    /// order of keys and layout make no difference.
    pub fn hash(&self) -> &str {
        &self.0.hash
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.0.bos
    }

    /// Whether a text alone is to begin with [`Tokenizer::bos`]: what `add_bos_token` says, else
    /// what the post-processor of `tokenizer.json` does. A tokenizer can have the token without
    /// wanting it there (SmolLM2's is the chat's `<|im_start|>`).
    pub fn adds_bos(&self) -> bool {
        self.0.adds_bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.0.eos
    }

    /// How many rows an embedding needs for this tokenizer: the largest id plus 1.
    pub fn vocab_size(&self) -> usize {
        self.0.pieces.len()
    }

    /// Ids of the added tokens that are marked special, ascending.
    pub fn special_ids(&self) -> &[u32] {
        self.0.pieces.special()
    }

    /// The tokens with a role, as `tokenizer_config.json` names them.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.0.special
    }

    /// `tokenizer_config.json`; an empty object if the folder has none.
    pub fn settings(&self) -> &Value {
        &self.0.settings
    }

    /// Checks that `config`'s model has an embedding for every id. It may have more: the rows of
    /// large models are rounded up.
    ///
    /// # Errors
    /// [`TokenizerError::TooManyIds`].
    pub fn check_fits(&self, config: &ModelConfig) -> Result<(), TokenizerError> {
        let (vocab_size, needed) = (config.vocab_size, self.vocab_size());
        if needed > vocab_size {
            return Err(TokenizerError::TooManyIds {
                largest: needed - 1,
                vocab_size,
            });
        }
        Ok(())
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` so that transformers loads them. Equal
    /// tokenizers give equal bytes.
    ///
    /// # Errors
    /// [`TokenizerError::Io`].
    pub fn save(&self, dir: &Path) -> Result<(), TokenizerError> {
        let path = dir.join("tokenizer.json");
        let json = caught(|| self.0.foreign.to_string(true)).map_err(|problem| {
            TokenizerError::Parser {
                path: path.clone(),
                problem,
            }
        })?;
        write(&path, json)?;
        let settings = canonical::pretty(&self.0.settings);
        write(&dir.join("tokenizer_config.json"), settings)
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("hash", &self.0.hash)
            .finish_non_exhaustive()
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Value, TokenizerError> {
    serde_json::from_slice(bytes).map_err(|problem| TokenizerError::Syntax {
        path: path.to_owned(),
        problem,
    })
}

fn read(dir: &Path, name: &str, most: u64) -> Result<Option<Vec<u8>>, TokenizerError> {
    folder::read(dir, name, most).map_err(|source| TokenizerError::Io {
        path: dir.join(name),
        source,
    })
}

fn write(path: &Path, mut text: String) -> Result<(), TokenizerError> {
    text.push('\n');
    std::fs::write(path, text).map_err(|source| TokenizerError::Io {
        path: path.to_owned(),
        source,
    })
}
