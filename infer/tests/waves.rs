//! Waves: what was cut off is repeated, and the file has the same bytes.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use infer::simulated::{SimulatedEngine, Simulation};
use infer::waves::{Ran, WaveError, WaveProgress, Waves};
use protocol::grade::AnswerKind;
use protocol::preset::Preset;
use protocol::{
    ByteVocab, Gold, Method, Origin, Problem, PromptSet, Question, Router, Sampling, Settings,
    Similarity, Stream,
};

fn problems() -> Vec<Problem> {
    let problem = |a: u32| Problem {
        id: format!("p{a}"),
        question: Question {
            text: format!("What is {a} + 5?"),
            kind: AnswerKind::Integer,
            choices: Vec::new(),
        },
        gold: Gold::new((a + 5).to_string()),
        source: None,
        split: None,
    };
    (1..8).map(problem).collect()
}

type Watch<'a> = &'a mut dyn FnMut(WaveProgress) -> ControlFlow<()>;

fn run(file: &Path, key: &str, watch: Watch<'_>) -> Ran {
    try_run(file, key, watch).expect("it runs")
}

fn try_run(file: &Path, key: &str, watch: Watch<'_>) -> Result<Ran, WaveError> {
    let problems = problems();
    let problems: Vec<&Problem> = problems.iter().collect();
    let settings = Settings {
        paths: 2,
        turn_tokens: 10,
        max_tokens: 60,
        summary_tokens: 60,
        answer_tokens: 40,
        peers: 1,
        router: Router::All,
        similarity: Similarity::Indel,
        sampling: Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
        },
        ..Preset::Default.settings(Method::LeapT)
    };
    let text = String::new;
    let waves = Waves {
        problems: &problems,
        groups: 2,
        wave: 3,
        prompts: &PromptSet::clean(),
        settings: &|_| settings.clone(),
        beginnings: &|_| Vec::new(),
        planted: 0,
        stream: Stream::of_run(1),
        origin: Origin {
            seed: 1,
            recipe: text(),
            model: text(),
            tokenizer: text(),
            device: text(),
        },
        file,
        key,
    };
    let mut engine = SimulatedEngine::new(
        Simulation {
            slip: 0.3,
            remembers: true,
            checks: 0,
            positions: 10_000,
            lies: false,
        },
        &ByteVocab,
    );
    waves.run(&mut engine, &ByteVocab, watch)
}

fn go_on(_: WaveProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn a_run_stopped_at_any_completion_continues_to_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole.jsonl");
    assert_eq!(run(&whole, "key", &mut go_on), Ran::Done);
    let expected = fs::read(&whole).expect("the file");
    for stop_after in [0, 1, 5, 17, 40] {
        let file = folder.path().join(format!("stopped-{stop_after}.jsonl"));
        let mut calls = 0;
        let first = run(&file, "key", &mut |_| {
            calls += 1;
            if calls > stop_after {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        if first == Ran::Stopped {
            assert!(!file.exists(), "an unfinished file has no final name");
            assert_eq!(run(&file, "key", &mut go_on), Ran::Done);
        }
        assert!(
            fs::read(&file).expect("the file") == expected,
            "stopped after {stop_after}"
        );
    }
}

/// The journal of a run that was stopped, and where it lies.
fn stopped(folder: &Path, name: &str) -> (PathBuf, Vec<u8>) {
    let file = folder.join(name);
    let first = run(&file, "key", &mut |now| match now.groups < 9 {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    });
    assert_eq!(first, Ran::Stopped);
    let journal = infer::journal::path(&file, "key");
    let bytes = fs::read(&journal).expect("a journal");
    (journal, bytes)
}

#[test]
fn a_torn_journal_is_cut_behind_its_last_whole_wave() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole.jsonl");
    run(&whole, "key", &mut go_on);
    let expected = fs::read(&whole).expect("the file");
    let length = stopped(folder.path(), "torn.jsonl").1.len();
    for kept in [0, 1, 700, length / 2, length - 1, length] {
        let (journal, bytes) = stopped(folder.path(), "torn.jsonl");
        fs::write(&journal, &bytes[..kept]).expect("written");
        let file = folder.path().join("torn.jsonl");
        assert_eq!(run(&file, "key", &mut go_on), Ran::Done);
        let found = fs::read(&file).expect("the file");
        assert!(found == expected, "torn at {kept}");
        fs::remove_file(file).expect("removed");
    }
}

#[test]
fn a_journal_with_a_changed_byte_is_refused_by_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, bytes) = stopped(folder.path(), "changed.jsonl");
    let file = folder.path().join("changed.jsonl");
    let second = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .expect("a line")
        + 1;
    for at in [0, 9, 40, second - 2, second - 1, second + 300] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(&journal, &changed).expect("written");
        let error = try_run(&file, "key", &mut go_on).expect_err("it is damaged");
        let line = if at < second { 1 } else { 2 };
        let text = error.to_string();
        assert!(text.contains(&format!("line {line} of ")), "{at}: {text}");
        assert!(!file.exists());
    }
}

#[test]
fn a_journal_of_other_settings_is_not_continued() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("out.jsonl");
    fs::write(folder.path().join(".out.jsonl.other.journal"), "rubbish\n").expect("a journal");
    assert_eq!(run(&file, "key", &mut go_on), Ran::Done);
    assert!(fs::read_to_string(&file).expect("the file").lines().count() == 14);
}
