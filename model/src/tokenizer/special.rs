//! Tokens with a role, as `tokenizer_config.json` names them.

use serde_json::Value;

/// Roles that `tokenizer_config.json` can give a token.
const ROLES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// The tokens with a role, by role. Chat templates see them under these names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    roles: Vec<(&'static str, String)>,
    additional: Vec<String>,
}

impl SpecialTokens {
    /// Reads the object of a `tokenizer_config.json`.
    pub(crate) fn new(settings: &Value) -> Self {
        let role = |name: &'static str| text(&settings[name]).map(|token| (name, token));
        let additional = settings["additional_special_tokens"].as_array();
        Self {
            roles: ROLES.into_iter().filter_map(role).collect(),
            additional: additional.into_iter().flatten().filter_map(text).collect(),
        }
    }

    /// The token of a role such as `bos_token`.
    pub fn get(&self, role: &str) -> Option<&str> {
        self.roles
            .iter()
            .find(|(name, _)| *name == role)
            .map(|(_, token)| token.as_str())
    }

    /// Roles and their tokens.
    pub fn roles(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.roles
            .iter()
            .map(|(name, token)| (*name, token.as_str()))
    }

    /// Special tokens without a role of their own.
    pub fn additional(&self) -> &[String] {
        &self.additional
    }
}

/// A token is written as its text or as an object with its text and flags.
fn text(token: &Value) -> Option<String> {
    token
        .as_str()
        .or_else(|| token["content"].as_str())
        .map(str::to_owned)
}

/// Tokens and ids that `tokenizer_config.json` repeats from `tokenizer.json`.
pub(super) fn declared_ids(settings: &Value) -> Vec<(String, u32)> {
    let declared = settings["added_tokens_decoder"].as_object();
    declared
        .into_iter()
        .flatten()
        .filter_map(|(id, token)| Some((text(token)?, id.parse().ok()?)))
        .collect()
}

/// Whether a text alone begins with `bos`: what `add_bos_token` says, else whether the
/// post-processor puts it there.
pub(super) fn adds_bos(settings: &Value, tokenizer: &Value, bos: Option<&str>) -> bool {
    let Some(bos) = bos else { return false };
    match settings["add_bos_token"].as_bool() {
        Some(said) => said,
        None => begins_with(&tokenizer["post_processor"], bos),
    }
}

fn begins_with(processor: &Value, bos: &str) -> bool {
    let list = processor["processors"].as_array();
    let first = &processor["single"][0]["SpecialToken"]["id"];
    first == bos
        || list
            .into_iter()
            .flatten()
            .any(|processor| begins_with(processor, bos))
}
