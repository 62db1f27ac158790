//! A real language model: SmolLM2-135M-Instruct says what the reference implementation says.
//!
//! Weights are not part of the repository. `LEAP_SMOLLM2` names folders of the model, separated by
//! `:`, in any layout (Llama, Qwen2) and number format; without it the test is skipped.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stderr, reason = "a test says what it skipped")]

use std::path::Path;

use infer::engine::Engine;
use infer::local::{LocalEngine, LocalSettings};
use infer::vocab::TokenizerVocab;
use model::device::{DeviceSpec, Dtype};
use protocol::{PathKey, Request, Sampling, Stop, Stream, Vocab};

/// Greedy continuations by transformers, the same for all layouts and formats: a plain text or a
/// user message, how many tokens, and how the continuation begins.
const SAYS: [(bool, &str, usize, &str); 3] = [
    (
        false,
        "The capital of France is",
        24,
        " Paris.\n\nThe answer is: 2018-01-22 12:1",
    ),
    (
        false,
        "Once upon a time",
        14,
        ", the city of Nova Haven was a thriving metropolis,",
    ),
    (
        true,
        "What is the capital of France?",
        12,
        "The capital of France is Paris.<|im_end|>",
    ),
];

fn check(folder: &Path) {
    let vocab = TokenizerVocab::load(folder).unwrap();
    let device = DeviceSpec::Cpu.open().unwrap();
    let (_, decoder) = model::checkpoint::load(folder, &device, Dtype::F32).unwrap();
    let settings = LocalSettings::for_one_group(SAYS.len());
    let mut engine = LocalEngine::new(decoder, &vocab, settings).unwrap();
    for (path, (chat, text, max_tokens, _)) in SAYS.iter().enumerate() {
        let append = match chat {
            true => vocab.prompt(text).unwrap().ids,
            false => vocab.encode(text),
        };
        engine.submit(Request {
            key: PathKey {
                group: 0,
                path: path as u32,
            },
            keep: 0,
            append,
            sampling: Sampling::GREEDY,
            stop: Stop {
                strings: Vec::new(),
                eos: vocab.eos().to_vec(),
            },
            max_tokens: *max_tokens,
            logprobs: false,
            stream: Stream::of_run(1),
        });
    }
    let mut heard = 0;
    while let Some(completion) = engine.wait().unwrap() {
        let (_, text, _, expected) = SAYS[completion.key.path as usize];
        let said = vocab.text(&completion.ids);
        assert!(
            said.starts_with(expected),
            "{}: {text:?} -> {said:?}",
            folder.display()
        );
        heard += 1;
    }
    assert_eq!(heard, SAYS.len());
}

#[test]
fn it_says_what_the_reference_says_in_every_layout_and_format() {
    let Some(folders) = std::env::var_os("LEAP_SMOLLM2") else {
        eprintln!("skipped: LEAP_SMOLLM2 names no folder");
        return;
    };
    for folder in std::env::split_paths(&folders) {
        check(&folder);
    }
}
