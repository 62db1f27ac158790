//! A tokenizer of our own that trains in no time, and the folder of outside golden files.

#![allow(dead_code, reason = "each test program uses a part")]

use std::path::{Path, PathBuf};

use model::tokenizer::{AddedToken, Tokenizer, TokenizerTraining};

/// Texts about small numbers.
pub(crate) fn texts() -> impl Iterator<Item = String> {
    (0..400).map(|i| {
        let (a, b) = (i % 37, i % 23);
        format!(
            "<think>\nFirst {a} + {b} = {}, so the answer is {}.\n</think>\n",
            a + b,
            i
        )
    })
}

/// Its settings: the tokens of a reasoning model, some of them special.
pub(crate) fn settings() -> TokenizerTraining {
    let added = [
        ("<s>", true),
        ("</s>", true),
        ("<|user|>", true),
        ("<|assistant|>", true),
        ("<think>", false),
        ("</think>", false),
    ];
    TokenizerTraining {
        vocab_size: 900,
        added: added
            .map(|(text, special)| AddedToken {
                text: text.to_owned(),
                special,
            })
            .into(),
        bos: Some("<s>".to_owned()),
        eos: Some("</s>".to_owned()),
        digits: 3,
        chat_template: None,
    }
}

/// The tokenizer.
pub(crate) fn tokenizer() -> Tokenizer {
    Tokenizer::train(texts(), &settings()).unwrap()
}

/// The folder that `LEAP_FIXTURES` names, or `../shared/fixtures` beside the workspace if there is
/// one.
pub(crate) fn fixtures() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if let Some(dir) = std::env::var_os("LEAP_FIXTURES") {
        let dir = workspace.join(dir);
        assert!(
            dir.is_dir(),
            "LEAP_FIXTURES names no folder: {}",
            dir.display()
        );
        return Some(dir);
    }
    let dir = workspace.join("../shared/fixtures");
    if !dir.is_dir() {
        eprintln!("skipped: no golden files in {}", dir.display());
        return None;
    }
    Some(dir)
}
