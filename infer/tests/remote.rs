//! The remote engine against servers on loopback that behave, and that do not.

mod server;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use infer::engine::{Engine, EngineError};
use infer::generation::{AtFailure, AtStop, Generation, GenerationError, Shard};
use infer::remote::{Class, Key, RemoteEngine, RemoteError, RemoteSettings};
use infer::units::Units;
use infer::waves::Ran;
use protocol::grade::AnswerKind;
use protocol::preset::Preset;
use protocol::{
    ByteVocab, Finish, Gold, Method, Origin, PathEnd, PathKey, Problem, PromptSet, Question,
    Request, Sampling, Settings, Stop, Stream, Trace, Vocab,
};
use server::{Act, Kind, Quirk, Server};

fn settings(servers: &[&Server]) -> RemoteSettings {
    RemoteSettings {
        in_flight: 16,
        first_wait: Duration::from_millis(2),
        longest_wait: Duration::from_millis(20),
        answer: Duration::from_secs(20),
        patience: Duration::from_secs(20),
        ..RemoteSettings::of(servers.iter().map(|server| server.url()).collect())
    }
}

fn open(servers: &[&Server]) -> RemoteEngine<'static> {
    RemoteEngine::open(settings(servers), &ByteVocab).expect("servers that can be used")
}

fn request(path: u32, text: &str, stop: &[&str]) -> Request {
    Request {
        key: PathKey { group: 0, path },
        keep: 0,
        append: ByteVocab.encode(text),
        sampling: Sampling {
            temperature: 0.8,
            top_k: 0,
            top_p: 0.95,
            min_p: 0.0,
        },
        stop: Stop {
            strings: stop.iter().map(|text| (*text).to_owned()).collect(),
            eos: vec![ByteVocab::EOS],
        },
        max_tokens: 300,
        logprobs: false,
        stream: Stream::of_run(1).indexed(path.into()),
    }
}

fn problems(count: u32) -> Vec<Problem> {
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
    (1..=count).map(problem).collect()
}

/// Runs two groups of three paths on each problem into `file`.
fn generate(
    engine: &mut dyn Engine,
    count: u32,
    file: &Path,
    stop: &dyn Fn(usize) -> bool,
) -> Result<Ran, GenerationError> {
    generate_at(engine, count, file, AtFailure::AskAgain, stop)
}

fn generate_at(
    engine: &mut dyn Engine,
    count: u32,
    file: &Path,
    at_failure: AtFailure,
    stop: &dyn Fn(usize) -> bool,
) -> Result<Ran, GenerationError> {
    let problems = problems(count);
    let problems: Vec<&Problem> = problems.iter().collect();
    let settings = Settings {
        paths: 3,
        turn_tokens: 60,
        max_tokens: 400,
        summary_tokens: 40,
        answer_tokens: 40,
        peers: 2,
        sampling: Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
        },
        ..Preset::Default.settings(Method::LeapT)
    };
    let text = String::new;
    let generation = Generation {
        units: Units {
            problems: &problems,
            groups: 2,
            prompts: &PromptSet::clean(),
            settings: &|_| settings.clone(),
            beginnings: &|_| Vec::new(),
            planted: 0,
            stream: Stream::of_run(1),
            origin: Origin {
                seed: 1,
                recipe: "key".to_owned(),
                model: text(),
                tokenizer: text(),
                device: text(),
            },
        },
        shard: Shard::WHOLE,
        open: 8,
        at_stop: AtStop::Drain,
        at_failure,
        file,
        key: "key",
    };
    let mut heard = 0;
    generation.run(engine, &ByteVocab, &mut |_, _| {
        heard += 1;
        match stop(heard) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })
}

/// The file that servers give which do not misbehave.
fn undisturbed(folder: &Path, count: u32) -> Vec<u8> {
    let server = Server::start(Kind::Vllm);
    let file = folder.join("undisturbed.jsonl");
    let mut engine = open(&[&server]);
    let ran = generate(&mut engine, count, &file, &|_| false).expect("it runs");
    assert_eq!(ran, Ran::Done);
    let bytes = fs::read(&file).expect("the file");
    let traces: Vec<Trace> = protocol::jsonl::read(&bytes[..]).expect("traces");
    assert_eq!(traces.len(), 2 * count as usize);
    assert!(
        traces.iter().any(|trace| !trace.blocks.is_empty()),
        "nothing was exchanged"
    );
    bytes
}

/// Shows where two files differ first.
#[track_caller]
fn check_same_file(file: &Path, expected: &[u8]) {
    let found = fs::read(file).expect("the file");
    let differs = found.iter().zip(expected).position(|(a, b)| a != b);
    let shown = |bytes: &[u8], at: usize| {
        let part = &bytes[at.saturating_sub(150)..bytes.len().min(at + 50)];
        String::from_utf8_lossy(part).into_owned()
    };
    if let Some(at) = differs {
        let traces: Vec<Trace> = protocol::jsonl::read(&found[..]).expect("traces");
        let paths = traces.iter().flat_map(|trace| &trace.paths);
        let failed: Vec<&PathEnd> = paths
            .map(|path| &path.end)
            .filter(|end| matches!(end, PathEnd::Failed(_)))
            .collect();
        let [found, expected] = [&found[..], expected].map(|bytes| shown(bytes, at));
        panic!("{found}\nis to be\n{expected}\n{failed:?}");
    }
    assert_eq!(found.len(), expected.len());
}

#[track_caller]
fn check_known(kind: Kind, words: &str, device: &str) {
    let server = Server::start(kind);
    let mut settings = settings(&[&server]);
    settings.positions = (kind == Kind::Plain).then_some(20_000);
    let engine = RemoteEngine::open(settings, &ByteVocab).expect("a server");
    assert_eq!(engine.able().words(), words);
    assert_eq!(engine.device(), device);
    assert_eq!(engine.positions(), 20_000);
    assert_eq!(engine.model(), "babbler");
}

#[test]
fn servers_are_known_for_what_they_can_do() {
    check_known(
        Kind::Vllm,
        "vllm, ids, stop strings kept",
        "remote vllm, ids",
    );
    check_known(
        Kind::Sglang,
        "sglang, ids, stop strings kept",
        "remote sglang, ids",
    );
    check_known(
        Kind::LlamaCpp,
        "llama.cpp, ids, stop strings named",
        "remote llama.cpp, ids",
    );
    check_known(
        Kind::Plain,
        "openai, text, stop strings cut here, no top_k, no min_p",
        "remote openai, text",
    );
}

/// The same question, asked of each kind of server: what a server of texts says is in these ids what
/// another one tells as ids. Returns how it ended.
#[track_caller]
fn check_same(text: &str, stop: &[&str], max_tokens: usize) -> Finish {
    let mut said = Vec::new();
    for kind in [Kind::Vllm, Kind::Sglang, Kind::LlamaCpp, Kind::Plain] {
        let server = Server::start(kind);
        let mut settings = settings(&[&server]);
        settings.positions = Some(20_000);
        let mut engine = RemoteEngine::open(settings, &ByteVocab).expect("a server");
        engine.submit(Request {
            max_tokens,
            ..request(0, text, stop)
        });
        let completion = engine.wait().expect("no error").expect("a completion");
        assert!(!completion.ids.is_empty());
        said.push((kind, completion));
    }
    // The plain server samples on behind a stop string, but what is kept is the same.
    for (kind, completion) in &said {
        assert_eq!(completion, &said[0].1, "{kind:?}");
    }
    said.swap_remove(0).1.finish
}

#[test]
fn every_kind_of_server_gives_the_same_ids_and_the_same_end() {
    let mut ends = [0; 4];
    for number in 0..24 {
        let (text, stop) = (
            format!("{} questions: ", 7 * number),
            ["</think>", "</summarize>"],
        );
        let stop = if number % 4 == 0 { &[][..] } else { &stop };
        match check_same(&text, stop, 20 + 30 * number) {
            Finish::Stop(index) => ends[index] += 1,
            Finish::Length => ends[2] += 1,
            Finish::Eos => ends[3] += 1,
            finish => panic!("{finish:?}"),
        }
    }
    assert!(ends.iter().all(|count| *count > 0), "{ends:?}");
}

#[test]
fn a_path_is_rolled_back_and_goes_on() {
    let server = Server::start(Kind::Vllm);
    server.keep_bodies();
    let mut engine = open(&[&server]);
    engine.submit(request(0, "hello ", &["</think>"]));
    let first = engine.wait().expect("no error").expect("a completion");
    let mut more = request(0, "!", &["</think>"]);
    more.keep = 6 + 3;
    engine.submit(more);
    engine.wait().expect("no error").expect("a completion");
    let bodies = server.bodies();
    let sent = &bodies.last().expect("a body")["prompt"];
    let mut expected = ByteVocab.encode("hello ");
    expected.extend(&first.ids[..3]);
    expected.extend(ByteVocab.encode("!"));
    assert_eq!(*sent, serde_json::json!(expected));
    // What no engine can do is a failed path, and no error.
    let mut beyond = request(0, "x", &[]);
    beyond.keep = 5_000;
    engine.submit(beyond);
    let failed = engine.wait().expect("no error").expect("a completion");
    assert!(matches!(failed.finish, Finish::Failed(reason) if reason.contains("cannot be kept")));
}

/// What a server of this kind is sent beside the prompt.
#[track_caller]
fn check_body(kind: Kind, expected: serde_json::Value) {
    let server = Server::start(kind);
    server.keep_bodies();
    let mut settings = settings(&[&server]);
    settings.positions = Some(20_000);
    let mut engine = RemoteEngine::open(settings, &ByteVocab).expect("a server");
    let mut asked = request(0, "hello", &["</think>"]);
    asked.sampling.min_p = if kind == Kind::Plain { 0.0 } else { 0.05 };
    engine.submit(asked);
    engine.wait().expect("no error").expect("a completion");
    let mut body = server.bodies().pop().expect("a body");
    let fields = body.as_object_mut().expect("an object");
    fields.remove("prompt");
    fields.remove("seed");
    // Settings of the sampler are f32.
    for name in ["temperature", "top_p", "min_p"] {
        if let Some(value) = fields.get(name).and_then(serde_json::Value::as_f64) {
            fields.insert(name.to_owned(), ((value * 1e3).round() / 1e3).into());
        }
    }
    assert_eq!(body, expected, "{kind:?}");
}

#[test]
fn each_kind_of_server_is_sent_all_that_decides_and_nothing_it_would_fill_in_itself() {
    let open_ai = serde_json::json!({
        "model": "babbler", "max_tokens": 300, "temperature": 0.8, "top_p": 0.95, "top_k": -1,
        "min_p": 0.05, "stop": ["</think>"], "stop_token_ids": [256], "return_token_ids": true,
        "include_stop_str_in_output": true, "no_stop_trim": true, "skip_special_tokens": false,
        "spaces_between_special_tokens": false, "add_special_tokens": false,
        "repetition_penalty": 1.0,
    });
    check_body(Kind::Vllm, open_ai.clone());
    check_body(Kind::Sglang, open_ai);
    check_body(
        Kind::LlamaCpp,
        serde_json::json!({
            "n_predict": 300, "temperature": 0.8, "top_p": 0.95, "top_k": -1, "min_p": 0.05,
            "stop": ["</think>"], "samplers": ["temperature", "min_p", "top_k", "top_p"],
            "cache_prompt": true, "return_tokens": true,
            "response_fields": [
                "content", "tokens", "stop_type", "stopping_word", "tokens_evaluated",
            ],
        }),
    );
    // It could not be told which stop string was met.
    check_body(
        Kind::Plain,
        serde_json::json!({
            "model": "babbler", "max_tokens": 300, "temperature": 0.8, "top_p": 0.95,
        }),
    );
}

/// Servers that do this are asked again until the groups are there, and the file is the same.
#[track_caller]
fn check_misbehaviour(act: Act, class: Class) {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = undisturbed(folder.path(), 6);
    let server = Server::start(Kind::Vllm);
    let mut engine = open(&[&server]);
    server.acts([act; 9]);
    let file = folder.path().join("file.jsonl");
    let ran = generate(&mut engine, 6, &file, &|_| false).expect("it runs");
    assert_eq!(ran, Ran::Done);
    check_same_file(&file, &expected);
    let tally = engine.tally();
    assert_eq!(tally.failures(), [(class, 9)], "{act:?}");
    assert_eq!(tally.given_up(), 0);
}

#[test]
fn no_misbehaviour_of_a_server_changes_a_group() {
    check_misbehaviour(Act::Busy("0.05"), Class::Busy);
    check_misbehaviour(Act::Busy(""), Class::Busy);
    check_misbehaviour(Act::Status(500), Class::ServerError);
    check_misbehaviour(Act::Status(502), Class::ServerError);
    check_misbehaviour(Act::Half, Class::BrokenOff);
    check_misbehaviour(Act::Torn, Class::Unreadable);
    check_misbehaviour(Act::Reset, Class::BrokenOff);
    check_misbehaviour(Act::Choices(0), Class::WrongCount);
    check_misbehaviour(Act::Choices(2), Class::WrongCount);
    check_misbehaviour(Act::WrongIds, Class::WrongIds);
}

#[test]
fn a_first_byte_that_does_not_come_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = undisturbed(folder.path(), 3);
    let server = Server::start(Kind::Vllm);
    let mut settings = settings(&[&server]);
    settings.answer = Duration::from_millis(300);
    let mut engine = RemoteEngine::open(settings, &ByteVocab).expect("a server");
    server.acts([Act::Slow(Duration::from_secs(3)); 2]);
    let file = folder.path().join("file.jsonl");
    generate(&mut engine, 3, &file, &|_| false).expect("it runs");
    check_same_file(&file, &expected);
    assert_eq!(engine.tally().failures(), [(Class::TimedOut, 2)]);
}

#[test]
fn all_misbehaviours_of_three_servers_at_once_lose_no_group() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = undisturbed(folder.path(), 12);
    let servers = [Kind::Vllm; 3].map(Server::start);
    let mut engine = open(&servers.each_ref());
    for (number, server) in servers.iter().enumerate() {
        let acts = [
            Act::Busy("0.02"),
            Act::Status(500),
            Act::Half,
            Act::Torn,
            Act::Reset,
            Act::Choices(3),
            Act::WrongIds,
        ];
        server.acts((0..21).map(|act| acts[(act * (number + 1)) % acts.len()]));
    }
    let file = folder.path().join("file.jsonl");
    generate(&mut engine, 12, &file, &|_| false).expect("it runs");
    check_same_file(&file, &expected);
    let words = engine.tally().words();
    let classes: Vec<Class> = engine
        .tally()
        .failures()
        .iter()
        .map(|(class, _)| *class)
        .collect();
    let expected = [
        Class::BrokenOff,
        Class::Busy,
        Class::ServerError,
        Class::Unreadable,
        Class::WrongCount,
        Class::WrongIds,
    ];
    assert_eq!(classes, expected, "{words}");
    assert!(
        engine
            .servers()
            .iter()
            .all(|(_, _, answered)| *answered > 0)
    );
}

#[test]
fn a_server_that_dies_for_good_is_done_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = undisturbed(folder.path(), 12);
    let servers = [Kind::Vllm; 3].map(Server::start);
    let mut engine = open(&servers.each_ref());
    servers[0].delay(Duration::from_millis(3));
    let died = AtomicBool::new(false);
    let file = folder.path().join("file.jsonl");
    let ran = generate(&mut engine, 12, &file, &|heard| {
        if heard == 40 {
            servers[0].die();
            died.store(true, Ordering::SeqCst);
        }
        false
    });
    assert_eq!(ran.expect("it runs"), Ran::Done);
    assert!(died.load(Ordering::SeqCst));
    check_same_file(&file, &expected);
    let there: Vec<bool> = engine.servers().iter().map(|(_, up, _)| *up).collect();
    assert_eq!(there, [false, true, true]);
    assert_eq!(engine.tally().given_up(), 0);
}

#[test]
fn a_server_that_comes_back_is_taken_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = undisturbed(folder.path(), 6);
    let server = Server::start(Kind::Vllm);
    let mut engine = open(&[&server]);
    let file = folder.path().join("file.jsonl");
    std::thread::scope(|scope| {
        let ran = generate(&mut engine, 6, &file, &|heard| {
            if heard == 20 {
                server.die();
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(150));
                    server.rise();
                });
            }
            false
        });
        assert_eq!(ran.expect("it runs"), Ran::Done);
    });
    check_same_file(&file, &expected);
}

#[test]
fn a_slow_server_gets_fewer_requests() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = undisturbed(folder.path(), 12);
    let servers = [Kind::Vllm; 3].map(Server::start);
    let mut engine = open(&servers.each_ref());
    let asked = servers.each_ref().map(Server::completions);
    servers[1].delay(Duration::from_millis(60));
    let file = folder.path().join("file.jsonl");
    generate(&mut engine, 12, &file, &|_| false).expect("it runs");
    check_same_file(&file, &expected);
    let now = servers.each_ref().map(Server::completions);
    let [a, slow, c] = [0, 1, 2].map(|server| now[server] - asked[server]);
    assert!(slow > 0 && 2 * slow < a && 2 * slow < c, "{a}, {slow}, {c}");
}

#[test]
fn servers_that_stay_away_are_an_error_that_names_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(Kind::Vllm);
    let mut settings = settings(&[&server]);
    settings.patience = Duration::from_millis(300);
    let mut engine = RemoteEngine::open(settings, &ByteVocab).expect("a server");
    let file = folder.path().join("file.jsonl");
    let ran = generate(&mut engine, 6, &file, &|heard| {
        if heard == 10 {
            server.die();
        }
        false
    });
    let error = ran.expect_err("nobody answers");
    let lost = matches!(
        &error,
        GenerationError::Engine(EngineError::Remote(RemoteError::Lost { servers, .. }))
            if servers.contains(&server.url())
    );
    assert!(lost, "{error}");
    // Nothing of what was said is lost: another process goes on with it.
    server.rise();
    let before = server.completions();
    let mut engine = open(&[&server]);
    let probed = server.completions() - before;
    generate(&mut engine, 6, &file, &|_| false).expect("it runs");
    let asked = server.completions() - before - probed;
    let expected = undisturbed(folder.path(), 6);
    check_same_file(&file, &expected);
    assert!(asked > 0);
}

#[test]
fn a_server_that_refuses_everybody_mid_run_ruins_no_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = undisturbed(folder.path(), 6);
    for status in [401, 403, 404] {
        let server = Server::start(Kind::Vllm);
        let mut settings = settings(&[&server]);
        settings.patience = Duration::from_millis(700);
        let mut engine = RemoteEngine::open(settings, &ByteVocab).expect("a server");
        let file = folder.path().join(format!("{status}.jsonl"));
        let ran = generate(&mut engine, 6, &file, &|heard| {
            if heard == 20 {
                server.quirk(Some(Quirk::Denies(status)));
            }
            false
        });
        let error = ran.expect_err("nobody is let in").to_string();
        assert!(
            error.contains(&format!("denied: status {status}")),
            "{error}"
        );
        // It is not asked again and again.
        let [(class, denied)] = engine.tally().failures()[..] else {
            panic!("{}", engine.tally().words());
        };
        assert!(class == Class::Denied && denied < 40, "{denied}");
        server.quirk(None);
        generate(&mut open(&[&server]), 6, &file, &|_| false).expect("it runs");
        check_same_file(&file, &expected);
    }
}

#[test]
fn a_server_that_lets_in_again_is_gone_on_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = undisturbed(folder.path(), 6);
    let server = Server::start(Kind::Vllm);
    let mut engine = open(&[&server]);
    server.acts([Act::Status(401); 3]);
    let file = folder.path().join("file.jsonl");
    generate(&mut engine, 6, &file, &|_| false).expect("it runs");
    check_same_file(&file, &expected);
}

#[test]
fn a_path_that_could_not_be_served_is_asked_again_by_the_next_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = undisturbed(folder.path(), 6);
    let server = Server::start(Kind::Vllm);
    let mut engine = open(&[&server]);
    server.acts([Act::Status(422)]);
    let file = folder.path().join("file.jsonl");
    let ran = generate(&mut engine, 6, &file, &|_| false);
    let error = ran.expect_err("a path has failed").to_string();
    let waits = "1 of 12 groups wait for what could not be had. Path ";
    assert!(error.starts_with(waits), "{error}");
    assert!(
        error.ends_with("the server refuses it: refused: status 422, `{\"error\": \"trouble\"}`")
    );
    assert!(!file.exists(), "an unfinished file has no final name");
    let before = server.completions();
    generate(&mut open(&[&server]), 6, &file, &|_| false).expect("it runs");
    check_same_file(&file, &expected);
    // All but that group had ended.
    assert!(server.completions() - before < 40);
}

#[test]
fn a_server_with_a_limit_of_its_own_is_named_and_changes_no_turn() {
    for kind in [Kind::Vllm, Kind::Plain] {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Server::start(kind);
        server.quirk(Some(Quirk::Caps(50)));
        let mut settings = settings(&[&server]);
        settings.positions = Some(20_000);
        let mut engine = RemoteEngine::open(settings, &ByteVocab).expect("a server");
        let file = folder.path().join("file.jsonl");
        let error = generate(&mut engine, 2, &file, &|_| false).expect_err("turns have 60");
        let capped = matches!(
            &error,
            GenerationError::Engine(EngineError::Remote(RemoteError::Capped { url, told: 50 | 51, .. }))
                if *url == server.url()
        );
        assert!(capped, "{error}");
    }
}

#[test]
fn stop_strings_that_no_id_holds_are_looked_for_here() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = undisturbed(folder.path(), 6);
    let server = Server::start(Kind::Vllm);
    server.quirk(Some(Quirk::HidesStops));
    let mut engine = open(&[&server]);
    assert_eq!(engine.able().words(), "vllm, ids, stop strings cut here");
    let file = folder.path().join("file.jsonl");
    generate(&mut engine, 6, &file, &|_| false).expect("it runs");
    check_same_file(&file, &expected);
}

#[test]
fn a_server_that_passes_over_the_temperature_is_told() {
    let server = Server::start(Kind::Vllm);
    server.quirk(Some(Quirk::Greedy));
    let engine = open(&[&server]);
    assert_eq!(
        engine.able().words(),
        "vllm, ids, stop strings kept, temperature not heeded"
    );
    // Texts that are alike are of use to some, as those of a stub.
    assert!(engine.check(&request(0, "", &[]).sampling).is_ok());
}

#[test]
fn a_server_that_is_always_busy_is_not_asked_for_ever() {
    let server = Server::start(Kind::Vllm);
    let mut settings = settings(&[&server]);
    settings.patience = Duration::from_millis(100);
    settings.answer = Duration::from_millis(100);
    let mut engine = RemoteEngine::open(settings, &ByteVocab).expect("a server");
    server.acts([Act::Busy("0.01"); 10_000]);
    engine.submit(request(0, "hello", &[]));
    let error = engine.wait().expect_err("it is always busy").to_string();
    assert!(error.contains("busy: status 429"), "{error}");
}

#[test]
fn a_server_that_comes_late_is_asked_what_it_can_do_and_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = undisturbed(folder.path(), 6);
    let [one, late] = [Kind::Vllm; 2].map(Server::start);
    late.die();
    let mut settings = settings(&[&one, &late]);
    settings.in_flight = 2;
    let mut engine = RemoteEngine::open(settings, &ByteVocab).expect("a server");
    let there: Vec<bool> = engine.servers().iter().map(|(_, up, _)| *up).collect();
    assert_eq!(there, [true, false]);
    late.rise();
    one.delay(Duration::from_millis(20));
    let file = folder.path().join("file.jsonl");
    generate(&mut engine, 6, &file, &|_| false).expect("it runs");
    check_same_file(&file, &expected);
    assert!(
        engine
            .servers()
            .iter()
            .all(|(_, up, answered)| *up && *answered > 0)
    );
    // One that comes with another model is left alone.
    let other = Server::start(Kind::Vllm);
    other.die();
    let mut engine = open(&[&one, &other]);
    other.rename("another");
    other.rise();
    let file = folder.path().join("other.jsonl");
    generate(&mut engine, 6, &file, &|_| false).expect("it runs");
    check_same_file(&file, &expected);
    assert_eq!(engine.servers()[1].2, 0);
}

#[test]
fn a_request_that_always_fails_is_given_up_and_its_path_says_why() {
    let server = Server::start(Kind::Vllm);
    let mut settings = settings(&[&server]);
    settings.tries = 3;
    let mut engine = RemoteEngine::open(settings, &ByteVocab).expect("a server");
    server.acts([Act::Torn; 3]);
    engine.submit(request(0, "hello", &[]));
    let failed = engine
        .wait()
        .expect("no error")
        .expect("a completion")
        .finish;
    let expected = "3 tries failed, the last one: unreadable";
    assert!(
        matches!(&failed, Finish::Failed(reason) if reason.starts_with(expected)),
        "{failed:?}"
    );
    // What a server refuses is not sent again.
    server.acts([Act::Status(422)]);
    engine.submit(request(0, "hello", &[]));
    let refused = engine
        .wait()
        .expect("no error")
        .expect("a completion")
        .finish;
    let expected = "the server refuses it: refused: status 422, `{\"error\": \"trouble\"}`";
    assert_eq!(refused, Finish::Failed(expected.to_owned()));
    assert_eq!(engine.tally().given_up(), 2);
    assert_eq!(
        engine.tally().words(),
        "1 refused, 3 unreadable, 2 given up"
    );
}

#[test]
fn a_failed_path_leaves_its_group_which_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(Kind::Vllm);
    let mut engine = open(&[&server]);
    server.acts([Act::Status(400)]);
    let file = folder.path().join("file.jsonl");
    generate_at(&mut engine, 2, &file, AtFailure::Leave, &|_| false).expect("it runs");
    let bytes = fs::read(&file).expect("the file");
    let traces: Vec<Trace> = protocol::jsonl::read(&bytes[..]).expect("traces");
    let ends = traces
        .iter()
        .flat_map(|trace| &trace.paths)
        .map(|path| &path.end);
    let failed = ends.filter(|end| matches!(end, PathEnd::Failed(_))).count();
    assert_eq!((traces.len(), failed), (4, 1));
}

#[test]
fn no_more_requests_are_in_flight_than_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(Kind::Vllm);
    let mut settings = settings(&[&server]);
    settings.in_flight = 5;
    let mut engine = RemoteEngine::open(settings, &ByteVocab).expect("a server");
    server.delay(Duration::from_millis(2));
    let file = folder.path().join("file.jsonl");
    generate(&mut engine, 6, &file, &|_| false).expect("it runs");
    assert_eq!(server.most_busy(), 5);
}

#[test]
fn a_request_that_is_repeated_asks_the_same_thing() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(Kind::Vllm);
    server.keep_bodies();
    let mut engine = open(&[&server]);
    let probed = server.bodies().len();
    server.acts([Act::Status(500); 40]);
    let file = folder.path().join("file.jsonl");
    generate(&mut engine, 4, &file, &|_| false).expect("it runs");
    let bodies = &server.bodies()[probed..];
    let texts: Vec<String> = bodies.iter().map(ToString::to_string).collect();
    let mut once = texts.clone();
    once.sort();
    once.dedup();
    // Every try that failed was sent again as it was, and nothing else was sent twice.
    assert_eq!(texts.len(), once.len() + 40);
    let seeds: Vec<u64> = bodies
        .iter()
        .filter_map(|body| body["seed"].as_u64())
        .collect();
    assert_eq!(seeds.len(), bodies.len());
    assert!(seeds.iter().all(|seed| *seed < 1 << 31));
}

#[test]
fn a_run_that_is_stopped_drains_and_goes_on_without_asking_anything_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = undisturbed(folder.path(), 6);
    let count = |text: &[u8]| {
        let traces: Vec<Trace> = protocol::jsonl::read(text).expect("traces");
        let spans = traces
            .iter()
            .flat_map(|trace| &trace.paths)
            .flat_map(|path| &path.spans);
        spans.filter(|span| span.finish.is_some()).count()
    };
    let server = Server::start(Kind::Vllm);
    let file = folder.path().join("file.jsonl");
    let (mut asked, mut runs) = (0, 0);
    loop {
        let mut engine = open(&[&server]);
        let before = server.completions();
        let ran = generate(&mut engine, 6, &file, &|heard| heard > 25).expect("it runs");
        asked += server.completions() - before;
        runs += 1;
        if ran == Ran::Done {
            break;
        }
        assert!(!file.exists(), "an unfinished file has no final name");
    }
    assert!(runs > 3, "{runs} runs");
    check_same_file(&file, &expected);
    // Each completion of the traces was asked for once, by whichever process.
    assert_eq!(asked, count(&expected));
}

static STOP: AtomicBool = AtomicBool::new(false);

#[test]
fn a_stop_takes_back_what_was_not_sent() {
    let server = Server::start(Kind::Vllm);
    let mut settings = settings(&[&server]);
    settings.in_flight = 1;
    settings.stop = || STOP.load(Ordering::SeqCst);
    let mut engine = RemoteEngine::open(settings, &ByteVocab).expect("a server");
    server.delay(Duration::from_millis(300));
    let probed = server.completions();
    for path in 0..6 {
        engine.submit(request(path, "hello", &[]));
    }
    // The first one is at the server.
    while server.completions() == probed {
        std::thread::sleep(Duration::from_millis(1));
    }
    STOP.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let mut finishes = Vec::new();
    while let Some(completion) = engine.wait().expect("no error") {
        finishes.push(completion.finish);
    }
    let cancelled = finishes
        .iter()
        .filter(|finish| **finish == Finish::Cancelled)
        .count();
    assert_eq!((finishes.len(), cancelled), (6, 5), "{finishes:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_closed_path_is_not_waited_for() {
    let server = Server::start(Kind::Vllm);
    let mut engine = open(&[&server]);
    server.delay(Duration::from_millis(200));
    engine.submit(request(0, "hello", &[]));
    engine.close(PathKey { group: 0, path: 0 });
    let completion = engine.wait().expect("no error").expect("a completion");
    assert_eq!(completion.finish, Finish::Cancelled);
    assert!(engine.wait().expect("no error").is_none());
    // Its late answer is not taken for that of a new path with its key.
    engine.submit(request(0, "hello again", &["</think>"]));
    let completion = engine.wait().expect("no error").expect("a completion");
    let other = Server::start(Kind::Vllm);
    let mut alone = open(&[&other]);
    alone.submit(request(0, "hello again", &["</think>"]));
    assert_eq!(Some(completion), alone.wait().expect("no error"));
}

#[track_caller]
fn check_refused(settings: RemoteSettings, message: &str) {
    let error = RemoteEngine::open(settings, &ByteVocab)
        .err()
        .expect("a refusal");
    let text = error.to_string();
    assert!(text.contains(message), "no `{message}` in {text}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_asked() {
    let of = |url: &str| RemoteSettings::of(vec![url.to_owned()]);
    check_refused(RemoteSettings::of(Vec::new()), "no server is named");
    check_refused(of("localhost:8000"), "it begins with http://");
    check_refused(
        of("http://me:secret@host"),
        "`host` is no address of a server: it names a user",
    );
    check_refused(of("http://host?x"), "nothing more than a path");
    let twice = ["http://host/v1/", "http://host"].map(str::to_owned);
    check_refused(RemoteSettings::of(twice.to_vec()), "it is named twice");
    let mut none = of("http://host");
    none.in_flight = 0;
    check_refused(none, "`in_flight` is 0");
    // A port that nobody listens at.
    let gone = Server::start(Kind::Vllm);
    gone.die();
    check_refused(settings(&[&gone]), "unreachable");
    let server = Server::start(Kind::Vllm);
    let mut other = settings(&[&server]);
    other.model = Some("teacher".to_owned());
    check_refused(other, "it serves `babbler`, and not `teacher`");
    let mut long = settings(&[&server]);
    long.positions = Some(40_000);
    check_refused(long, "holds texts of 20000 tokens, but 40000 are asked for");
    let plain = Server::start(Kind::Plain);
    check_refused(
        settings(&[&plain]),
        "no server tells how long a text can be",
    );
    let beside = Server::start(Kind::Vllm);
    beside.rename("another");
    check_refused(
        settings(&[&server, &beside]),
        "it serves `another`, and the other `babbler`",
    );
    let sglang = Server::start(Kind::Sglang);
    check_refused(settings(&[&server, &sglang]), "cannot work beside");
}

#[test]
fn a_key_goes_to_the_server_and_nowhere_else() {
    let server = Server::start(Kind::Vllm);
    server.lock("secret");
    check_refused(settings(&[&server]), "status 401");
    let mut wrong = settings(&[&server]);
    wrong.key = Some(Key::new("secret-but-wrong"));
    check_refused(wrong, "status 401");
    let mut right = settings(&[&server]);
    right.key = Some(Key::new("secret"));
    assert_eq!(format!("{:?}", right.key), "Some(Key(hidden))");
    let mut engine = RemoteEngine::open(right, &ByteVocab).expect("a server");
    engine.submit(request(0, "hello", &[]));
    assert!(engine.wait().expect("no error").is_some());
}

#[test]
fn settings_of_the_sampler_that_a_server_passes_over_are_refused() {
    let server = Server::start(Kind::Plain);
    let mut settings = settings(&[&server]);
    settings.positions = Some(20_000);
    let engine = RemoteEngine::open(settings, &ByteVocab).expect("a server");
    let mut sampling = request(0, "", &[]).sampling;
    assert!(engine.check(&sampling).is_ok());
    sampling.top_k = 40;
    let error = engine.check(&sampling).expect_err("no top_k");
    assert_eq!(
        error.to_string(),
        "the servers do not heed `top_k`, which is 40"
    );
    // Greedy sampling chooses one token whatever else is said.
    sampling.temperature = 0.0;
    assert!(engine.check(&sampling).is_ok());
}
