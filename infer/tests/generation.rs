//! Generation: whatever cuts it off, it goes on where it was and ends with the same bytes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod tiny;

use std::cell::RefCell;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use infer::engine::{Engine, EngineError};
use infer::generation::{AtFailure, AtStop, Generation, GenerationError, Shard};
use infer::journal::Journal;
use infer::lines::LinesError;
use infer::simulated::{SimulatedEngine, Simulation};
use infer::units::Units;
use infer::waves::Ran;
use protocol::grade::AnswerKind;
use protocol::preset::Preset;
use protocol::{
    ByteVocab, Completion, Finish, Gold, Method, Moa, Origin, PathKey, Problem, PromptSet,
    Question, Request, Sampling, Settings, Stream, Trace,
};

fn problems() -> Vec<Problem> {
    let problem = |a: u32| Problem {
        id: format!("p{a}"),
        question: Question {
            text: format!("What is {a} + 5 + 7?"),
            kind: AnswerKind::Integer,
            choices: Vec::new(),
        },
        gold: Gold::new((a + 12).to_string()),
        source: None,
        split: None,
    };
    (1..8).map(problem).collect()
}

fn settings(method: Method) -> Settings {
    Settings {
        paths: 3,
        turn_tokens: 10,
        max_tokens: 90,
        summary_tokens: 60,
        answer_tokens: 40,
        peers: 2,
        moa: Moa {
            layers: 2,
            aggregators: 1,
        },
        sampling: Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
        },
        ..Preset::Default.settings(method)
    }
}

struct Case<'a> {
    settings: Settings,
    problems: usize,
    shard: Shard,
    open: usize,
    file: &'a Path,
    key: &'a str,
}

fn case(file: &Path) -> Case<'_> {
    Case {
        settings: settings(Method::LeapT),
        problems: 7,
        shard: Shard::WHOLE,
        open: 3,
        file,
        key: "key",
    }
}

impl Case<'_> {
    fn run(
        &self,
        engine: &mut dyn Engine,
        stop_after: Option<usize>,
    ) -> Result<Ran, GenerationError> {
        let problems = problems();
        let problems: Vec<&Problem> = problems[..self.problems].iter().collect();
        let text = String::new;
        let generation = Generation {
            units: Units {
                problems: &problems,
                groups: 2,
                prompts: &PromptSet::clean(),
                settings: &|_| self.settings.clone(),
                beginnings: &|_| Vec::new(),
                planted: 0,
                stream: Stream::of_run(1),
                origin: Origin {
                    seed: 1,
                    recipe: self.key.to_owned(),
                    model: text(),
                    tokenizer: text(),
                    device: text(),
                },
            },
            shard: self.shard,
            open: self.open,
            at_stop: AtStop::Cancel,
            at_failure: AtFailure::Leave,
            file: self.file,
            key: self.key,
        };
        let mut heard = 0;
        generation.run(engine, &ByteVocab, &mut |_, _| {
            heard += 1;
            match stop_after.is_some_and(|stop| heard > stop) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
    }

    fn simulated(&self, stop_after: Option<usize>) -> Ran {
        self.run(&mut Counting::new(), stop_after).expect("it runs")
    }

    fn journal(&self) -> std::path::PathBuf {
        let name = self.file.file_name().expect("a name").to_string_lossy();
        self.file
            .with_file_name(format!(".{name}.{}.journal", self.key))
    }
}

/// The simulated reasoner, and what it was asked.
struct Counting {
    engine: SimulatedEngine<'static>,
    asked: usize,
}

impl Counting {
    fn new() -> Self {
        let simulation = Simulation {
            slip: 0.3,
            remembers: true,
            checks: 0,
            positions: 10_000,
            lies: false,
        };
        Self {
            engine: SimulatedEngine::new(simulation, &ByteVocab),
            asked: 0,
        }
    }
}

impl Engine for Counting {
    fn submit(&mut self, request: Request) {
        self.asked += 1;
        self.engine.submit(request);
    }

    fn adopt(&mut self, key: PathKey, prompt: usize, ids: Vec<u32>) {
        self.engine.adopt(key, prompt, ids);
    }

    fn close(&mut self, key: PathKey) {
        self.engine.close(key);
    }

    fn wait(&mut self) -> Result<Option<Completion>, EngineError> {
        self.engine.wait()
    }

    fn positions(&self) -> usize {
        self.engine.positions()
    }
}

fn undisturbed(folder: &Path) -> Vec<u8> {
    let file = folder.join("undisturbed.jsonl");
    assert_eq!(case(&file).simulated(None), Ran::Done);
    let bytes = fs::read(&file).expect("the file");
    let traces: Vec<Trace> = protocol::jsonl::read(&bytes[..]).expect("traces");
    assert_eq!(traces.len(), 14);
    assert!(traces.iter().all(|trace| !trace.blocks.is_empty()));
    bytes
}

/// Shows where two files differ first.
#[track_caller]
fn check_same(file: &Path, expected: &[u8], when: &str) {
    let found = fs::read(file).expect("the file");
    let differs = found.iter().zip(expected).position(|(a, b)| a != b);
    let shown = |bytes: &[u8], at: usize| {
        let part = &bytes[at.saturating_sub(150)..bytes.len().min(at + 50)];
        String::from_utf8_lossy(part).into_owned()
    };
    if let Some(at) = differs {
        panic!(
            "{when}:\n{}\nis to be\n{}",
            shown(&found, at),
            shown(expected, at)
        );
    }
    assert_eq!(found.len(), expected.len());
}

/// Stopped after this many completions, again and again, it comes to the same end.
#[track_caller]
fn check_stopped(method: Method, engine: &mut dyn FnMut() -> Box<dyn Engine>, stops: &[usize]) {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole.jsonl");
    fn of(method: Method, file: &Path) -> Case<'_> {
        Case {
            settings: settings(method),
            problems: 2,
            ..case(file)
        }
    }
    assert_eq!(
        of(method, &whole)
            .run(&mut *engine(), None)
            .expect("it runs"),
        Ran::Done
    );
    let expected = fs::read(&whole).expect("the file");
    for &stop in stops {
        let file = folder.path().join(format!("stopped-{stop}.jsonl"));
        let mut runs = 1;
        while of(method, &file)
            .run(&mut *engine(), Some(stop))
            .expect("it runs")
            == Ran::Stopped
        {
            assert!(!file.exists(), "an unfinished file has no final name");
            runs += 1;
        }
        assert!(runs > 1, "{method:?} was not stopped after {stop}");
        check_same(&file, &expected, &format!("{method:?} after {stop}"));
    }
    let left = fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(left, 1 + stops.len(), "only finished files are left");
}

#[test]
fn a_run_stopped_at_any_completion_continues_to_the_same_bytes() {
    let mut simulated = || Box::new(Counting::new()) as Box<dyn Engine>;
    let stops: Vec<usize> = (4..30).collect();
    for method in [
        Method::LeapT,
        Method::Leap,
        Method::Cot,
        Method::LeapS,
        Method::Moa,
    ] {
        check_stopped(
            method,
            &mut simulated,
            &stops[..if method == Method::LeapT { 26 } else { 8 }],
        );
    }
}

#[test]
fn a_local_engine_continues_to_the_same_bytes() {
    let mut local = || Box::new(tiny::engine(tiny::SETTINGS)) as Box<dyn Engine>;
    check_stopped(Method::LeapT, &mut local, &[4, 7, 11, 16]);
}

#[test]
fn what_was_said_is_not_asked_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("whole.jsonl");
    let mut whole = Counting::new();
    case(&file).run(&mut whole, None).expect("it runs");
    let file = folder.path().join("stopped.jsonl");
    let (mut asked, mut stops) = (0, 0);
    loop {
        let mut engine = Counting::new();
        let ran = case(&file).run(&mut engine, Some(30)).expect("it runs");
        asked += engine.asked;
        if ran == Ran::Done {
            break;
        }
        stops += 1;
    }
    assert!(stops > 3);
    // At each stop what is under way is asked again: at most one request of each open path.
    assert!(
        asked >= whole.asked && asked <= whole.asked + stops * 9,
        "{asked}"
    );
}

#[test]
fn a_journal_torn_anywhere_is_gone_on_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = undisturbed(folder.path());
    let file = folder.path().join("torn.jsonl");
    let case = case(&file);
    // A journal that holds everything but the last steps.
    let mut journal = Vec::new();
    for stop in [200, 150, 100, 60] {
        fs::remove_file(case.journal()).ok();
        if case.simulated(Some(stop)) == Ran::Stopped {
            journal = fs::read(case.journal()).expect("the journal");
            break;
        }
        fs::remove_file(&file).expect("the file");
    }
    assert!(journal.len() > 10_000);
    for part in 0..40 {
        fs::write(case.journal(), &journal[..journal.len() * part / 40]).expect("a torn journal");
        assert_eq!(case.simulated(None), Ran::Done);
        assert!(
            fs::read(&file).expect("the file") == expected,
            "torn at {part}/40"
        );
        fs::remove_file(&file).expect("the file");
    }
}

#[test]
fn a_finished_file_is_known_by_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file.jsonl");
    assert_eq!(case(&file).simulated(None), Ran::Done);
    let expected = fs::read(&file).expect("the file");
    // Nothing is asked again, as after a kill between the file's name and the ledger.
    let mut engine = Counting::new();
    assert_eq!(
        case(&file).run(&mut engine, None).expect("it runs"),
        Ran::Done
    );
    assert_eq!(engine.asked, 0);
    // Other settings, a missing group or a changed line make it anew.
    let other = Case {
        key: "other",
        ..case(&file)
    };
    other.run(&mut engine, None).expect("it runs");
    assert!(engine.asked > 0);
    let lines = expected.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, 14);
    let last = expected[..expected.len() - 1]
        .iter()
        .rposition(|byte| *byte == b'\n');
    fs::write(&file, &expected[..last.expect("lines") + 1]).expect("a shorter file");
    assert_eq!(case(&file).simulated(None), Ran::Done);
    assert!(fs::read(&file).expect("the file") == expected);
}

#[test]
fn shards_together_are_the_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = String::from_utf8(undisturbed(folder.path())).expect("text");
    let mut found = Vec::new();
    for index in 1..=3 {
        let file = folder.path().join(format!("shard-{index}.jsonl"));
        let shard = Shard { index, of: 3 };
        assert_eq!(
            Case {
                shard,
                ..case(&file)
            }
            .simulated(None),
            Ran::Done
        );
        let text = fs::read_to_string(&file).expect("the file");
        found.extend(text.lines().map(str::to_owned));
    }
    let mut lines: Vec<&str> = expected.lines().collect();
    lines.sort_unstable();
    found.sort();
    assert_eq!(found, lines);
    for text in ["0/3", "4/3", "3", "a/b", "1/0", "-1/2"] {
        assert!(text.parse::<Shard>().is_err(), "{text}");
    }
    assert_eq!("2/8".parse(), Ok(Shard { index: 2, of: 8 }));
}

/// A journal with this line before a good one.
fn damaged(line: &str) -> GenerationError {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file.jsonl");
    let case = case(&file);
    assert_eq!(case.simulated(Some(20)), Ran::Stopped);
    let good = fs::read_to_string(case.journal()).expect("the journal");
    fs::write(case.journal(), format!("{line}\n{good}")).expect("a journal");
    let error = case
        .run(&mut Counting::new(), None)
        .expect_err("it is refused");
    // Nothing is taken away.
    assert!(
        fs::read_to_string(case.journal())
            .expect("the journal")
            .contains(&good)
    );
    error
}

#[test]
fn a_journal_that_is_damaged_or_of_another_run_is_an_error_that_names_the_line() {
    for line in ["rubbish", "{\"said\":{\"problem\":\"p1\"}}"] {
        let error = damaged(line);
        let named = matches!(
            &error,
            GenerationError::Journal(LinesError::Damaged { line: 1, .. })
        );
        assert!(named, "{error}");
    }
}

/// What a run says to a journal in which a group says something that was not asked.
fn foreign(problem: &str, path: u32) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file.jsonl");
    let case = case(&file);
    let opened = Journal::open(&case.journal(), &|_, _| Some(0));
    let (mut journal, _) = opened.expect("a journal");
    let key = PathKey { group: 0, path };
    let said = Completion::new(key, vec![7], Finish::Length);
    journal.say(problem, 0, &said).expect("written");
    let error = case.run(&mut Counting::new(), None);
    error.expect_err("it is refused").to_string()
}

#[test]
fn a_journal_of_another_run_is_an_error_that_names_the_group() {
    let error = foreign("unknown", 0);
    assert!(
        error.contains("group 0 of `unknown` is not asked for"),
        "{error}"
    );
    let error = foreign("p7", 9);
    assert!(
        error.contains("was never asked what it answers there"),
        "{error}"
    );
}

#[test]
fn groups_are_told_of_as_they_end_and_so_many_are_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file.jsonl");
    let problems = problems();
    let problems: Vec<&Problem> = problems.iter().collect();
    let told = RefCell::new(Vec::new());
    let text = String::new;
    let generation = Generation {
        units: Units {
            problems: &problems,
            groups: 1,
            prompts: &PromptSet::clean(),
            settings: &|_| settings(Method::LeapT),
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
        },
        shard: Shard::WHOLE,
        open: 2,
        at_stop: AtStop::Cancel,
        at_failure: AtFailure::Leave,
        file: &file,
        key: "",
    };
    let mut last = 0;
    generation
        .run(&mut Counting::new(), &ByteVocab, &mut |now, ended| {
            assert!(now.sampled >= last && now.of == 7);
            last = now.sampled;
            if let Some(trace) = ended {
                told.borrow_mut().push(trace.problem.clone());
                assert_eq!(now.groups, told.borrow().len());
            }
            ControlFlow::Continue(())
        })
        .expect("it runs");
    assert_eq!(told.borrow().len(), 7);
}
