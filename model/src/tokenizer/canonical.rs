//! One way of writing a tokenizer, so that equal ones have equal hashes.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// SHA-256 in hex of the parts of a `tokenizer.json` that decide which ids a text becomes.
pub(super) fn hash(tokenizer: &Value) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"leap-t tokenizer 1\n");
    for part in ["normalizer", "pre_tokenizer"] {
        feed(&mut hasher, &tokenizer[part]);
        hasher.update(b"\n");
    }
    feed(
        &mut hasher,
        &Value::Array(added_tokens(&tokenizer["added_tokens"])),
    );
    hasher.update(b"\n");
    let model = &tokenizer["model"];
    // Keys of a model that are null, false or empty do what absent keys do.
    let set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && value != "";
    for (key, value) in sorted(model.as_object().unwrap_or(&Map::new())) {
        if key == "merges" {
            hasher.update(b"merges");
            for merge in value.as_array().into_iter().flatten() {
                feed_merge(&mut hasher, merge);
            }
        } else if set(value) {
            hasher.update(key.as_bytes());
            feed(&mut hasher, value);
        }
        hasher.update(b"\n");
    }
    hex(&hasher.finalize())
}

/// The added tokens by id, with the flags that decide where they match. Whether one is special
/// decides only what a decoder may leave out.
fn added_tokens(tokens: &Value) -> Vec<Value> {
    let mut tokens: Vec<&Value> = tokens.as_array().into_iter().flatten().collect();
    tokens.sort_by_key(|token| token["id"].as_u64());
    let flag = |token: &Value, name: &str| token[name].as_bool().unwrap_or(false);
    let plain = |token: &Value| {
        json!([
            token["id"],
            token["content"],
            flag(token, "single_word"),
            flag(token, "lstrip"),
            flag(token, "rstrip"),
            flag(token, "normalized"),
        ])
    };
    tokens.into_iter().map(plain).collect()
}

/// A merge is written as `"a b"` or as `["a", "b"]`; the first form cannot hold spaces.
fn feed_merge(hasher: &mut Sha256, merge: &Value) {
    let (left, right) = match merge {
        Value::String(text) => text.split_once(' ').unwrap_or((text, "")),
        pair => (
            pair[0].as_str().unwrap_or(""),
            pair[1].as_str().unwrap_or(""),
        ),
    };
    for text in [left, right] {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
}

/// Feeds JSON with sorted keys and without spaces.
fn feed(hasher: &mut Sha256, value: &Value) {
    match value {
        Value::Object(object) => {
            hasher.update(b"{");
            for (key, value) in sorted(object) {
                feed(hasher, &Value::String(key.to_owned()));
                hasher.update(b":");
                feed(hasher, value);
                hasher.update(b",");
            }
            hasher.update(b"}");
        }
        Value::Array(values) => {
            hasher.update(b"[");
            for value in values {
                feed(hasher, value);
                hasher.update(b",");
            }
            hasher.update(b"]");
        }
        scalar => hasher.update(scalar.to_string().as_bytes()),
    }
}

/// JSON with sorted keys, two spaces deep.
pub(crate) fn pretty(value: &Value) -> String {
    let text = serde_json::to_string_pretty(&with_sorted_keys(value));
    text.expect("a JSON value can be written")
}

fn with_sorted_keys(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            sorted(object)
                .into_iter()
                .map(|(k, v)| (k.to_owned(), with_sorted_keys(v)))
                .collect(),
        ),
        Value::Array(values) => Value::Array(values.iter().map(with_sorted_keys).collect()),
        scalar => scalar.clone(),
    }
}

/// Whether serde_json keeps the order of a file or sorts depends on a feature that any crate of a
/// build can switch on.
fn sorted(object: &Map<String, Value>) -> Vec<(&str, &Value)> {
    let mut entries: Vec<_> = object
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
