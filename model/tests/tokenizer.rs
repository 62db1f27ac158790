//! Tokenizers: against ids that transformers gave, and against their own promises.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail on files that cannot be read, and say what they skipped"
)]

mod small;

use std::path::Path;
use std::sync::LazyLock;

use model::tokenizer::{Tokenizer, TokenizerError};
use proptest::prelude::*;
use serde_json::{Value, json};

#[track_caller]
fn check_ids(tokenizer: &Tokenizer, what: &str, golden: &Value) {
    for case in golden["texts"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{what}: {text:?}");
        let bytes: Vec<u8> = ids
            .iter()
            .flat_map(|id| tokenizer.token_bytes(*id).unwrap())
            .collect();
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            tokenizer.decode(&ids),
            "{what}: {text:?}"
        );
    }
    // What the post-processor of tokenizer.json puts first must be put first here, too. The other
    // way round, tokenizer_config.json can ask for it where tokenizer.json is silent.
    let whole = &golden["with_special"];
    let mut expected: Vec<u32> = serde_json::from_value(whole["ids"].clone()).unwrap();
    if tokenizer.bos().is_some() && expected.first().copied() == tokenizer.bos() {
        assert!(tokenizer.adds_bos(), "{what}");
        expected.remove(0);
    }
    let ours = tokenizer.encode(whole["text"].as_str().unwrap()).unwrap();
    assert_eq!(ours, expected, "{what}: the text alone");
}

#[test]
fn published_tokenizers_give_the_ids_of_transformers() {
    let Some(root) = small::fixtures() else {
        return;
    };
    for entry in std::fs::read_dir(root.join("chat")).unwrap() {
        let file = entry.unwrap().path();
        let dir = root.join("tokenizers").join(file.file_stem().unwrap());
        if dir.join("tokenizer.json").exists() {
            let golden = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            check_ids(
                &Tokenizer::load(&dir).unwrap(),
                &file.to_string_lossy(),
                &golden,
            );
        } else {
            eprintln!("skipped: no tokenizer in {}", dir.display());
        }
    }
}

/// The committed folder was trained and written by this crate; its ids are transformers'.
#[test]
fn a_trained_tokenizer_gives_the_ids_of_transformers() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer");
    let golden = std::fs::read(dir.join("ids.json")).unwrap();
    let golden = serde_json::from_slice(&golden).unwrap();
    let tokenizer = Tokenizer::load(&dir).unwrap();
    check_ids(&tokenizer, "golden/tokenizer", &golden);
    let again = small::tokenizer();
    assert_eq!(
        again.hash(),
        tokenizer.hash(),
        "training gives the same tokenizer on every machine"
    );
    let written = tempfile::tempdir().unwrap();
    again.save(written.path()).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let read = |dir: &Path| std::fs::read_to_string(dir.join(name)).unwrap();
        assert!(
            read(written.path()) == read(&dir),
            "{name} differs from the committed one"
        );
    }
}

#[test]
fn words_and_small_numbers_become_one_token() {
    let tokenizer = small::tokenizer();
    for text in [
        " 17", " 7", " 123", "First", " answer", " so", "<think>", "</think>", " +", " =",
    ] {
        assert_eq!(tokenizer.encode(text).unwrap().len(), 1, "{text:?}");
    }
    // Four digits are two groups whatever the texts held.
    assert_eq!(tokenizer.encode(" 1234").unwrap().len(), 2);
    assert_eq!(tokenizer.bos(), tokenizer.id("<s>"));
    assert_eq!(tokenizer.eos(), tokenizer.id("</s>"));
    let special: Vec<u32> = ["<s>", "</s>", "<|user|>", "<|assistant|>"]
        .map(|token| tokenizer.id(token).unwrap())
        .into();
    assert_eq!(tokenizer.special_ids(), special);
    assert_eq!(
        tokenizer.vocab_size(),
        tokenizer.id("</think>").unwrap() as usize + 1
    );
    assert_eq!(tokenizer.token_bytes(tokenizer.vocab_size() as u32), None);
    assert_eq!(tokenizer.decode(&[u32::MAX]), "");
}

#[test]
fn the_order_of_the_texts_does_not_matter() {
    let mut reversed: Vec<String> = small::texts().collect();
    reversed.reverse();
    let reversed = Tokenizer::train(reversed.into_iter(), &small::settings()).unwrap();
    assert_eq!(reversed.hash(), small::tokenizer().hash());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_text_survives_the_round_trip(text in "\\PC*|[ \\n\\r\\t0-9a-c<>|/think]*|.{0,40}") {
        let tokenizer = committed();
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids), text.clone());
        let bytes: Vec<u8> = ids.iter().flat_map(|id| tokenizer.token_bytes(*id).unwrap()).collect();
        prop_assert_eq!(bytes, text.as_bytes());
    }
}

fn committed() -> &'static Tokenizer {
    static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::load(&golden()).unwrap());
    &TOKENIZER
}

fn golden() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer")
}

/// The committed tokenizer with its two files changed.
fn changed(
    tokenizer: impl FnOnce(&mut Value),
    settings: impl FnOnce(&mut Value),
) -> Result<Tokenizer, TokenizerError> {
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(golden().join(name)).unwrap()).unwrap()
    };
    let (mut json, mut config) = (read("tokenizer.json"), read("tokenizer_config.json"));
    tokenizer(&mut json);
    settings(&mut config);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    Tokenizer::load(dir.path())
}

#[track_caller]
fn check_hash(same: bool, tokenizer: impl FnOnce(&mut Value)) {
    let hash = changed(tokenizer, |_| ()).unwrap().hash().to_owned();
    assert_eq!(hash == committed().hash(), same);
}

#[test]
fn the_hash_is_of_what_decides_the_ids() {
    check_hash(true, |_| ());
    check_hash(true, merges_as_strings);
    check_hash(true, |json| json["post_processor"] = Value::Null);
    check_hash(true, |json| {
        json["added_tokens"][0]["special"] = json!(false)
    });
    check_hash(true, |json| {
        json["added_tokens"].as_array_mut().unwrap().reverse()
    });
    check_hash(true, |json| json["model"]["ignore_merges"] = json!(false));
    check_hash(true, |json| {
        json["truncation"] =
            json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    });
    check_hash(false, |json| json["normalizer"] = json!({"type": "NFC"}));
    check_hash(false, |json| json["model"]["ignore_merges"] = json!(true));
    check_hash(false, |json| {
        json["model"]["merges"].as_array_mut().unwrap().truncate(9)
    });
    check_hash(false, |json| {
        json["model"]["merges"].as_array_mut().unwrap().swap(0, 1)
    });
    check_hash(false, |json| {
        json["added_tokens"][0]["lstrip"] = json!(true)
    });
    check_hash(false, |json| {
        json["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = json!(true)
    });
}

fn merges_as_strings(json: &mut Value) {
    for merge in json["model"]["merges"].as_array_mut().unwrap() {
        *merge = json!(format!(
            "{} {}",
            merge[0].as_str().unwrap(),
            merge[1].as_str().unwrap()
        ));
    }
}

#[test]
fn merges_can_be_strings_or_pairs() {
    let strings = changed(merges_as_strings, |_| ()).unwrap();
    let text = "First 17 + 5 = 22, so\n\n the answer is 22.";
    assert_eq!(
        strings.encode(text).unwrap(),
        committed().encode(text).unwrap()
    );
}

#[test]
fn truncation_and_padding_of_the_file_are_left_out() {
    let cut = changed(
        |json| {
            json["truncation"] = json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
            json["padding"] = json!({"strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": null,
                "pad_id": 0, "pad_type_id": 0, "pad_token": "</s>"});
        },
        |_| (),
    )
    .unwrap();
    let text = "First 17 + 5 = 22";
    assert_eq!(cut.encode(text).unwrap(), committed().encode(text).unwrap());
}

#[test]
fn the_ends_of_a_text_are_those_of_the_tokenizer_config() {
    let bos = |settings: Value| {
        let tokenizer = changed(|_| (), |config| *config = settings).unwrap();
        (
            tokenizer.bos().map(|id| tokenizer.decode(&[id])),
            tokenizer.adds_bos(),
        )
    };
    assert_eq!(bos(json!({})), (None, false));
    assert_eq!(bos(json!({"bos_token": null})), (None, false));
    assert_eq!(
        bos(json!({"bos_token": "<s>"})),
        (Some("<s>".to_owned()), true)
    );
    assert_eq!(
        bos(json!({"bos_token": {"content": "<s>"}})),
        (Some("<s>".to_owned()), true)
    );
    let said = json!({"bos_token": "<s>", "add_bos_token": false});
    assert_eq!(bos(said), (Some("<s>".to_owned()), false));
    let other = json!({"bos_token": "<|user|>"});
    assert_eq!(bos(other), (Some("<|user|>".to_owned()), false));
}

#[track_caller]
fn check_refused(
    word: &str,
    tokenizer: impl FnOnce(&mut Value),
    settings: impl FnOnce(&mut Value),
) {
    let error = changed(tokenizer, settings)
        .expect_err("it is refused")
        .to_string();
    assert!(error.contains(word), "`{word}` is not in: {error}");
}

#[test]
fn broken_tokenizers_are_errors() {
    check_refused(
        "nowhere",
        |_| (),
        |config| config["bos_token"] = json!("nowhere"),
    );
    check_refused(
        "eos_token",
        |_| (),
        |config| config["eos_token"] = json!("nowhere"),
    );
    let moved = json!({"3": {"content": "<think>"}});
    check_refused(
        "<think>",
        |_| (),
        |config| config["added_tokens_decoder"] = moved,
    );
    check_refused(
        "tokenizer.json",
        |json| *json = json!({"model": {}}),
        |_| (),
    );
    check_refused("tokenizer.json", |json| *json = json!([]), |_| ());
    check_refused(
        "id",
        |json| json["added_tokens"][0]["id"] = json!(4_000_000_000u64),
        |_| (),
    );
    check_refused("id", |json| json["model"]["vocab"]["!"] = json!(-1), |_| ());
    check_refused(
        "zz",
        |json| json["model"]["merges"][0] = json!(["zz", "qq"]),
        |_| (),
    );
    check_refused(
        "tokenizer.json",
        |json| json["model"]["merges"][0] = json!("nospace"),
        |_| (),
    );
    check_refused(
        "tokenizer.json",
        |json| json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("(("),
        |_| (),
    );
    let dir = tempfile::tempdir().unwrap();
    let missing = Tokenizer::load(dir.path());
    assert!(
        matches!(missing, Err(TokenizerError::NotFound { path }) if path.ends_with("tokenizer.json"))
    );
    std::fs::write(dir.path().join("tokenizer.json"), "{\"a\":").unwrap();
    assert!(matches!(
        Tokenizer::load(dir.path()),
        Err(TokenizerError::Syntax { .. })
    ));
}

#[test]
fn settings_that_contradict_each_other_are_errors() {
    let refused = |change: fn(&mut model::tokenizer::TokenizerTraining)| {
        let mut settings = small::settings();
        change(&mut settings);
        Tokenizer::train(small::texts(), &settings)
            .expect_err("it is refused")
            .to_string()
    };
    assert!(refused(|s| s.vocab_size = 261).contains("262"));
    assert!(refused(|s| s.digits = 0).contains("digits"));
    assert!(refused(|s| s.bos = Some("<none>".to_owned())).contains("<none>"));
    assert!(refused(|s| s.added.push(s.added[0].clone())).contains("twice"));
    assert!(refused(|s| s.added[0].text = String::new()).contains("two characters"));
    let mut least = small::settings();
    least.vocab_size = 262;
    let tokenizer = Tokenizer::train(std::iter::empty(), &least).unwrap();
    assert_eq!(tokenizer.vocab_size(), 262);
    let text = "any text é 😀";
    assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()), text);
}
