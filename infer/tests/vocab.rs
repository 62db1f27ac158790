//! A checkpoint folder's tokenizer as the protocol sees it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use infer::vocab::{TokenizerVocab, VocabError};
use model::tokenizer::{AddedToken, Tokenizer, TokenizerTraining};
use protocol::grade::AnswerKind;
use protocol::preset::Preset;
use protocol::{Method, PromptSet, Question, Vocab};

const TEXTS: [&str; 3] = [
    "What is 7 times 6?",
    "It is forty-two, é and 東京.\n\n",
    "</think>\n",
];

fn training(eos: Option<&str>) -> TokenizerTraining {
    let added = |text: &str, special| AddedToken {
        text: text.into(),
        special,
    };
    TokenizerTraining {
        vocab_size: 300,
        added: vec![
            added("<|end|>", true),
            added("<|start|>", true),
            added("<think>", false),
        ],
        bos: None,
        eos: eos.map(str::to_owned),
        digits: 1,
        chat_template: None,
    }
}

/// A folder with a trained tokenizer, whose ends are named in none, one or both of two files.
fn folder(
    eos: Option<&str>,
    template: Option<&str>,
    generation: Option<&str>,
) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let texts = TEXTS.iter().map(|text| (*text).to_string());
    Tokenizer::train(texts, &training(eos))
        .unwrap()
        .save(folder.path())
        .unwrap();
    for (name, text) in [
        ("chat_template.jinja", template),
        ("generation_config.json", generation),
    ] {
        if let Some(text) = text {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
    }
    folder
}

#[test]
fn the_bytes_of_its_tokens_are_its_text() {
    let folder = folder(Some("<|end|>"), None, None);
    let vocab = TokenizerVocab::load(folder.path()).unwrap();
    let tokenizer = Tokenizer::load(folder.path()).unwrap();
    for text in TEXTS {
        let ids = vocab.encode(text);
        assert_eq!(vocab.text(&ids), text);
        let bytes: Vec<u8> = ids.iter().flat_map(|id| vocab.bytes(*id)).collect();
        assert_eq!(bytes, text.as_bytes());
    }
    for id in 0..tokenizer.vocab_size() as u32 {
        assert_eq!(Some(vocab.bytes(id)), tokenizer.token_bytes(id), "id {id}");
    }
    assert_eq!(vocab.bytes(u32::MAX), Vec::<u8>::new());
    assert_eq!(vocab.hash(), tokenizer.hash());
}

#[track_caller]
fn check_eos(eos: Option<&str>, generation: Option<&str>, expected: &[&str]) {
    let folder = folder(eos, None, generation);
    let tokenizer = Tokenizer::load(folder.path()).unwrap();
    let expected: Vec<u32> = expected
        .iter()
        .map(|token| tokenizer.id(token).unwrap())
        .collect();
    let vocab = TokenizerVocab::load(folder.path());
    match &expected[..] {
        [] => assert!(matches!(vocab, Err(VocabError::NoEnd { .. }))),
        _ => assert_eq!(vocab.unwrap().eos(), expected),
    }
}

#[test]
fn what_ends_a_text_is_what_the_tokenizer_and_the_generation_settings_say() {
    let folder = folder(None, None, None);
    let tokenizer = Tokenizer::load(folder.path()).unwrap();
    let [end, start] = ["<|end|>", "<|start|>"].map(|token| tokenizer.id(token).unwrap());
    check_eos(Some("<|end|>"), None, &["<|end|>"]);
    check_eos(
        Some("<|end|>"),
        Some(r#"{"temperature": 0.6}"#),
        &["<|end|>"],
    );
    let one = format!(r#"{{"eos_token_id": {start}}}"#);
    check_eos(Some("<|end|>"), Some(&one), &["<|end|>", "<|start|>"]);
    check_eos(None, Some(&one), &["<|start|>"]);
    let both = format!(r#"{{"eos_token_id": [{start}, {end}]}}"#);
    check_eos(Some("<|end|>"), Some(&both), &["<|end|>", "<|start|>"]);
    check_eos(None, None, &[]);
}

#[test]
fn broken_generation_settings_are_an_error_that_names_the_file() {
    let folder = folder(
        Some("<|end|>"),
        None,
        Some("{\n  \"eos_token_id\": \"two\"\n}"),
    );
    let error = TokenizerVocab::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("generation_config.json"), "{error}");
}

#[test]
fn a_prompt_is_the_rendered_question() {
    let template = "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>{% endfor %}\
                    {% if add_generation_prompt %}<|start|>assistant\n<think>\n{% endif %}";
    let folder = folder(Some("<|end|>"), Some(template), None);
    let vocab = TokenizerVocab::load(folder.path()).unwrap();
    assert!(!vocab.is_plain());
    let question = Question {
        text: "What is 7 times 6?".into(),
        kind: AnswerKind::Integer,
        choices: Vec::new(),
    };
    let set = PromptSet {
        math: "{problem}".into(),
        ..PromptSet::clean()
    };
    let settings = Preset::Default.settings(Method::Cot);
    let prompt = vocab.prompt(&set.user(&question, &settings)).unwrap();
    assert!(prompt.think_open);
    let expected = "<|start|>user\nWhat is 7 times 6?<|end|><|start|>assistant\n<think>\n";
    assert_eq!(vocab.text(&prompt.ids), expected);
    assert_eq!(prompt.ids, vocab.encode(expected));
}
