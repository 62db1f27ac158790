//! Waves: what was cut off is repeated, and the file has the same bytes.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use infer::simulated::{SimulatedEngine, Simulation};
use infer::waves::{Ran, WaveProgress, Waves};
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
    waves.run(&mut engine, &ByteVocab, watch).expect("it runs")
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

#[test]
fn a_torn_part_file_is_cut_behind_its_last_whole_wave() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole.jsonl");
    run(&whole, "key", &mut go_on);
    let expected = fs::read(&whole).expect("the file");
    for kept in [0, 1, 700, expected.len() / 2, expected.len() - 1] {
        let file = folder.path().join("torn.jsonl");
        fs::write(
            folder.path().join(".torn.jsonl.key.part"),
            &expected[..kept],
        )
        .expect("a part");
        assert_eq!(run(&file, "key", &mut go_on), Ran::Done);
        assert!(
            fs::read(&file).expect("the file") == expected,
            "torn at {kept}"
        );
    }
}

#[test]
fn a_part_file_of_other_settings_is_not_continued() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("out.jsonl");
    fs::write(folder.path().join(".out.jsonl.other.part"), "rubbish\n").expect("a part");
    assert_eq!(run(&file, "key", &mut go_on), Ran::Done);
    assert!(fs::read_to_string(&file).expect("the file").lines().count() == 14);
}
