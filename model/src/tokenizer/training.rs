//! Making a tokenizer from texts: a byte-level BPE for small models of our own.
//!
//! Splitting follows GPT-2 (a word keeps its leading space), but groups digits, so that in texts
//! about small numbers ` 17` can become one token. Every text survives the round trip: all 256
//! bytes are in the vocabulary and nothing is normalised.

use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    SplitDelimiterBehavior, TokenizerBuilder, TokenizerImpl,
};

use super::{Tokenizer, TokenizerError, caught};

/// A token with a text of its own that no merge takes apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedToken {
    /// Its text.
    pub text: String,
    /// Whether decoders may leave it out (end of text: yes; `<think>`: no, as in the R1 distillates).
    pub special: bool,
}

/// What a trained tokenizer is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizerTraining {
    /// Largest number of tokens: 256 bytes, then what training finds, then the added ones. Few texts
    /// can give fewer.
    pub vocab_size: usize,
    /// Tokens with a text of their own. They get the last ids, in this order, and training texts
    /// are cut at them.
    pub added: Vec<AddedToken>,
    /// Begins every text; one of `added`.
    pub bos: Option<String>,
    /// Ends a text; one of `added`.
    pub eos: Option<String>,
    /// How many digits a token can hold: 1 to 9. With 3, ` 417` can be one token.
    pub digits: usize,
    /// The chat template that the tokenizer's folder will carry.
    pub chat_template: Option<String>,
}

type Trained = TokenizerImpl<
    BPE,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

impl Tokenizer {
    /// Trains a byte-level BPE. The same texts in any order, and any number of threads, give the
    /// same tokenizer. All texts are held in memory.
    ///
    /// # Errors
    /// [`TokenizerError::Training`] if the settings contradict each other.
    pub fn train(
        texts: impl Iterator<Item = String>,
        settings: &TokenizerTraining,
    ) -> Result<Self, TokenizerError> {
        let problem = |problem| TokenizerError::Training { problem };
        check(settings).map_err(problem)?;
        let pieces: Vec<String> = texts
            .flat_map(|text| between_added(&text, &settings.added))
            .collect();
        let trained = caught(|| train(pieces, settings)).map_err(problem)?;
        let json = caught(|| trained.to_string(false)).map_err(problem)?;
        let mut tokenizer: Value =
            serde_json::from_str(&json).map_err(|error| TokenizerError::Training {
                problem: error.to_string(),
            })?;
        if let Some(bos) = &settings.bos {
            let id = trained.token_to_id(bos);
            tokenizer["post_processor"] = puts_first(bos, id);
        }
        let (path, settings_path) = (Path::new("tokenizer.json"), "tokenizer_config.json");
        let json = tokenizer.to_string();
        Self::new(
            path,
            json.as_bytes(),
            Path::new(settings_path),
            tokenizer_config(settings),
        )
    }
}

fn train(pieces: Vec<String>, settings: &TokenizerTraining) -> tokenizers::Result<Trained> {
    let bytes = ByteLevel::new(false, false, false);
    let split = Split::new(
        SplitPattern::Regex(splitting(settings.digits)),
        SplitDelimiterBehavior::Isolated,
        false,
    )?;
    let mut tokenizer: Trained = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(Sequence::new(vec![split.into(), bytes.into()]).into()))
        .with_post_processor(None)
        .with_decoder(Some(bytes.into()))
        .build()?;
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(settings.vocab_size - settings.added.len())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    tokenizer.train(&mut trainer, pieces.into_iter())?;
    let added = settings.added.iter().map(|token| {
        tokenizers::AddedToken::from(token.text.as_str(), token.special).normalized(false)
    });
    tokenizer.add_tokens(added.collect::<Vec<_>>())?;
    Ok(tokenizer)
}

/// Pieces of a text that merges never cross: words and numbers with one leading space, runs of
/// other signs, white space. The last white-space character goes with the word behind it.
fn splitting(digits: usize) -> String {
    format!(
        r"'(?:s|t|re|ve|m|ll|d)| ?\p{{L}}+| ?\p{{N}}{{1,{digits}}}| ?[^\s\p{{L}}\p{{N}}]+|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
}

fn check(settings: &TokenizerTraining) -> Result<(), String> {
    let least = 256 + settings.added.len();
    if settings.vocab_size < least {
        return Err(format!(
            "`vocab_size` is {}, but must be at least {least}: 256 bytes and the \
                            added tokens",
            settings.vocab_size
        ));
    }
    if !(1..=9).contains(&settings.digits) {
        return Err(format!(
            "`digits` is {}, but must be 1 to 9",
            settings.digits
        ));
    }
    let texts: Vec<&str> = settings
        .added
        .iter()
        .map(|token| token.text.as_str())
        .collect();
    for (index, text) in texts.iter().enumerate() {
        // A single printable character is one of the 256 bytes already.
        if text.chars().count() < 2 {
            return Err(format!(
                "added token `{text}` needs at least two characters"
            ));
        }
        if texts[..index].contains(text) {
            return Err(format!("added token `{text}` is there twice"));
        }
    }
    for (role, token) in [("bos", &settings.bos), ("eos", &settings.eos)] {
        match token {
            Some(token) if !texts.contains(&token.as_str()) => {
                return Err(format!(
                    "`{role}` is `{token}`, which is not one of the added tokens"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The parts of a text that lie between added tokens. Merges must not be spent on their texts.
fn between_added(text: &str, added: &[AddedToken]) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let first = added
            .iter()
            .filter_map(|token| rest.find(&token.text).map(|at| (at, token.text.len())))
            .min_by_key(|(at, len)| (*at, std::cmp::Reverse(*len)));
        let (at, len) = first.unwrap_or((rest.len(), 0));
        if at > 0 {
            parts.push(rest[..at].to_owned());
        }
        if len == 0 {
            return parts;
        }
        rest = &rest[at + len..];
    }
}

fn puts_first(bos: &str, id: Option<u32>) -> Value {
    let special = |index: u8| json!({"SpecialToken": {"id": bos, "type_id": index}});
    let text = |name: &str, index: u8| json!({"Sequence": {"id": name, "type_id": index}});
    json!({
        "type": "TemplateProcessing",
        "single": [special(0), text("A", 0)],
        "pair": [special(0), text("A", 0), special(1), text("B", 1)],
        "special_tokens": { bos: {"id": bos, "ids": [id], "tokens": [bos]} },
    })
}

fn tokenizer_config(settings: &TokenizerTraining) -> Value {
    let mut config = Map::new();
    config.insert(
        "tokenizer_class".to_owned(),
        json!("PreTrainedTokenizerFast"),
    );
    config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
    config.insert("add_bos_token".to_owned(), json!(settings.bos.is_some()));
    for (key, value) in [
        ("bos_token", &settings.bos),
        ("eos_token", &settings.eos),
        ("pad_token", &settings.eos),
        ("chat_template", &settings.chat_template),
    ] {
        if let Some(value) = value {
            config.insert(key.to_owned(), json!(value));
        }
    }
    Value::Object(config)
}
