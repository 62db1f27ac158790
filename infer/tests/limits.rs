//! What the local engine does at its limits: refusals, broken numbers, cancelling, short memory.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod tiny;

use std::collections::BTreeMap;

use infer::engine::{Engine, EngineError};
use infer::local::{LocalEngine, LocalSettings};
use model::decoder::Decoder;
use model::device::DeviceSpec;
use protocol::{ByteVocab, Completion, Finish, PathKey, Request, Sampling, Stop};

use tiny::{
    GREEDY, SETTINGS, WARM, config, decoder, engine, engine_on_device, key, request, run, sampled,
};

#[track_caller]
fn check_refused(engine: &mut LocalEngine<'_>, request: Request, reason: &str) {
    let before = engine.stats();
    let completion = run(engine, request);
    let Finish::Failed(said) = &completion.finish else {
        panic!("{completion:?}")
    };
    assert!(said.contains(reason), "{said}");
    assert_eq!(engine.stats(), before, "a refused request costs nothing");
}

#[test]
fn a_request_that_cannot_be_served_fails_alone() {
    let mut engine = engine(LocalSettings {
        kv_mib: 1,
        ..SETTINGS
    });
    let good = request(key(0, 0), 0, &[1, 2, 3], 5);
    let ids = sampled(&mut engine, good);
    let other = key(0, 1);
    check_refused(
        &mut engine,
        request(other, 0, &[1; 596], 5),
        "600 positions",
    );
    check_refused(
        &mut engine,
        request(other, 1, &[1], 5),
        "1 tokens cannot be kept of a path of 0",
    );
    check_refused(&mut engine, request(key(0, 0), 9, &[1], 5), "a path of 8");
    check_refused(&mut engine, request(other, 0, &[], 5), "at least one token");
    check_refused(
        &mut engine,
        request(other, 0, &[1], 0),
        "at least one token",
    );
    check_refused(
        &mut engine,
        request(other, 0, &[257], 5),
        "id 257 is outside",
    );
    let broken = Sampling {
        top_p: f32::NAN,
        ..WARM
    };
    check_refused(
        &mut engine,
        Request {
            sampling: broken,
            ..request(other, 0, &[1], 5)
        },
        "NaN",
    );
    let empty = Stop {
        strings: vec![String::new()],
        eos: Vec::new(),
    };
    check_refused(
        &mut engine,
        Request {
            stop: empty,
            ..request(other, 0, &[1], 5)
        },
        "empty",
    );
    // The path of the first request is as it was.
    let more = sampled(&mut engine, request(key(0, 0), 3, &ids, 4));
    let mut whole = vec![1, 2, 3];
    whole.extend_from_slice(&ids);
    assert_eq!(more, sampled(&mut engine, request(key(0, 0), 0, &whole, 4)));
}

#[test]
fn a_request_larger_than_the_whole_memory_fails_with_the_size() {
    let mut large = config();
    large.max_position_embeddings = 100_000;
    let decoder = Decoder::init(&large, 5, &DeviceSpec::Cpu.open().unwrap());
    let mut engine = LocalEngine::new(
        decoder,
        &ByteVocab,
        LocalSettings {
            kv_mib: 1,
            ..SETTINGS
        },
    )
    .unwrap();
    check_refused(
        &mut engine,
        request(key(0, 0), 0, &[1], 5000),
        "2 MiB of keys and values",
    );
    assert_eq!(
        sampled(&mut engine, request(key(0, 0), 0, &[1], 50)).len(),
        50
    );
}

#[test]
fn a_path_with_broken_numbers_fails_and_the_others_go_on() {
    let mut engine = LocalEngine::new(decoder_that_breaks(), &ByteVocab, SETTINGS).unwrap();
    let healthy = request(key(0, 0), 0, &[1, 2, 3], 12);
    // It may not say the broken token itself.
    let healthy = Request {
        sampling: GREEDY,
        ..healthy
    };
    let expected = sampled(&mut engine, healthy.clone());
    assert!(!expected.contains(&BROKEN));
    engine.submit(healthy);
    engine.submit(request(key(1, 0), 0, &[1, BROKEN, 3], 12));
    let failed = engine.wait().unwrap().unwrap();
    assert_eq!(failed.key, key(1, 0));
    assert!(matches!(&failed.finish, Finish::Failed(reason) if reason.contains("not finite")));
    assert_eq!(engine.wait().unwrap().unwrap().ids, expected);
}

/// A token without finite numbers.
const BROKEN: u32 = 200;

fn decoder_that_breaks() -> Decoder {
    let decoder = decoder();
    let parameters = decoder.parameters();
    let embedding = parameters
        .iter()
        .find(|p| p.name == "model.embed_tokens.weight")
        .unwrap();
    let mut values = embedding.data().try_into_vec::<f32>().unwrap();
    values[BROKEN as usize * 32..][..32].fill(f32::NAN);
    decoder.with_values(|name, _| (name == "model.embed_tokens.weight").then(|| values.clone()))
}

/// On a device the memory of one text becomes that of another, and what lies behind that is read.
#[test]
fn broken_numbers_do_not_stay_for_the_next_text() {
    let settings = LocalSettings {
        prefill_tokens: 16,
        ..SETTINGS
    };
    let healthy = || Request {
        sampling: GREEDY,
        ..request(key(0, 0), 0, &[1, 2, 3], 12)
    };
    let expected = sampled(&mut engine(SETTINGS), healthy());
    let mut broken = vec![1; 50];
    broken[10] = BROKEN;
    // It fails.
    let mut engine = engine_on_device(decoder_that_breaks(), settings);
    let failed = run(&mut engine, request(key(1, 0), 0, &broken, 12));
    assert!(matches!(failed.finish, Finish::Failed(_)));
    assert_eq!(sampled(&mut engine, healthy()), expected);
    // It goes on without the broken part.
    let more = run(&mut engine, request(key(1, 0), 9, &[4], 5));
    assert_eq!(more.finish, Finish::Length);
    // It is closed before anybody could see.
    engine.submit(request(key(2, 0), 0, &[7], 1));
    engine.submit(request(key(3, 0), 0, &broken, 12));
    assert_eq!(engine.wait().unwrap().unwrap().key, key(2, 0));
    for path in [0, 1, 2, 3] {
        engine.close(key(path, 0));
    }
    assert_eq!(engine.wait().unwrap().unwrap().finish, Finish::Cancelled);
    assert_eq!(sampled(&mut engine, healthy()), expected);
}

#[test]
fn a_closed_path_is_cancelled_and_the_others_go_on() {
    let mut engine = engine(LocalSettings {
        max_rows: 2,
        ..SETTINGS
    });
    let expected = sampled(&mut engine, request(key(0, 1), 0, &[1, 2, 3], 20));
    engine.close(key(0, 1));
    for path in 0..4 {
        engine.submit(request(
            key(0, path),
            0,
            &[1, 2, 3],
            if path == 2 { 3 } else { 20 },
        ));
    }
    // Before anything runs, while it runs, and while it waits for a row.
    engine.close(key(0, 2));
    let cancelled = engine.wait().unwrap().unwrap();
    assert_eq!(
        (cancelled.key, cancelled.finish),
        (key(0, 2), Finish::Cancelled)
    );
    engine.submit(request(key(0, 2), 0, &[9], 1));
    engine.close(key(0, 3));
    engine.close(key(0, 0));
    let mut heard = BTreeMap::new();
    while let Some(completion) = engine.wait().unwrap() {
        heard.insert(completion.key.path, (completion.ids, completion.finish));
    }
    assert_eq!(heard[&0].1, Finish::Cancelled);
    assert_eq!(heard[&1], (expected, Finish::Length));
    assert_eq!(heard[&2].1, Finish::Length);
    assert_eq!(heard[&3].1, Finish::Cancelled);
    engine.close(key(0, 1));
    engine.close(key(0, 2));
    assert_eq!(engine.kv_bytes(), 0);
}

/// Paths of groups that wait for each other, as in LeaP: every path of a group must have ended its
/// turn before one of them goes on.
fn run_with_barriers(engine: &mut LocalEngine<'_>, most: usize) -> BTreeMap<PathKey, Vec<u32>> {
    let (groups, paths, turn) = (3, 8, 150);
    let prompt = |group: u32| vec![group; 40];
    let mut texts = BTreeMap::new();
    for group in 0..groups {
        for path in 0..paths {
            texts.insert(key(group, path), prompt(group));
            engine.submit(request(key(group, path), 0, &prompt(group), turn));
        }
    }
    let mut ended = BTreeMap::new();
    let mut turns = BTreeMap::new();
    while let Some(completion) = engine.wait().unwrap() {
        assert!(
            engine.kv_bytes() <= most,
            "{} bytes of keys and values",
            engine.kv_bytes()
        );
        assert_eq!(completion.finish, Finish::Length);
        let group = completion.key.group;
        texts
            .get_mut(&completion.key)
            .unwrap()
            .extend_from_slice(&completion.ids);
        *ended.entry(group).or_insert(0) += 1;
        if ended[&group] < paths {
            continue;
        }
        ended.insert(group, 0);
        *turns.entry(group).or_insert(0) += 1;
        for path in 0..paths {
            let key = key(group, path);
            match turns[&group] {
                3 => engine.close(key),
                _ => {
                    let keep = texts[&key].len() - 7;
                    texts.get_mut(&key).unwrap().truncate(keep);
                    texts.get_mut(&key).unwrap().push(5);
                    engine.submit(request(key, keep, &[5], turn));
                }
            }
        }
    }
    texts
}

#[test]
fn short_memory_makes_requests_wait_and_changes_no_path() {
    let mut roomy = engine(SETTINGS);
    let expected = run_with_barriers(&mut roomy, 64 << 20);
    assert_eq!(roomy.stats().refilled, 0);
    // 24 paths of 476 tokens are 2.8 MiB; the eight of one group are 0.95 MiB and almost fill it.
    let mut short = engine(LocalSettings {
        kv_mib: 1,
        ..SETTINGS
    });
    assert_eq!(run_with_barriers(&mut short, 1 << 20), expected);
    assert!(short.stats().most_rows < 24);
    assert_eq!(short.kv_bytes(), 0);
    // Three groups side by side of which each fills most of the memory: paths must give theirs up.
    let mut large = config();
    large.num_key_value_heads = 4;
    let decoder = || Decoder::init(&large, 5, &DeviceSpec::Cpu.open().unwrap());
    let mut roomy = LocalEngine::new(decoder(), &ByteVocab, SETTINGS).unwrap();
    let expected = run_with_barriers(&mut roomy, 64 << 20);
    let mut short = LocalEngine::new(
        decoder(),
        &ByteVocab,
        LocalSettings {
            kv_mib: 1,
            ..SETTINGS
        },
    )
    .unwrap();
    assert_eq!(run_with_barriers(&mut short, 1 << 20), expected);
    assert!(short.stats().refilled > 0);
}

/// The same in tensors, where every text takes as much as the longest.
#[test]
fn short_memory_of_a_device_makes_requests_wait_and_changes_no_path() {
    let expected = run_with_barriers(&mut engine(SETTINGS), 64 << 20);
    let mut roomy = engine_on_device(decoder(), SETTINGS);
    assert_eq!(run_with_barriers(&mut roomy, 64 << 20), expected);
    assert_eq!(roomy.stats().refilled, 0);
    let mut short = engine_on_device(
        decoder(),
        LocalSettings {
            kv_mib: 1,
            ..SETTINGS
        },
    );
    // 4096 tokens: eight texts of up to 512, of which a group has nine with its prompt.
    assert_eq!(run_with_barriers(&mut short, 1 << 20), expected);
    assert!(short.stats().refilled > 0);
}

/// Paths of many lengths that come and go, each in three turns; their ids, and the most bytes seen.
fn run_mixed(engine: &mut LocalEngine<'_>) -> (BTreeMap<PathKey, Vec<u32>>, usize) {
    let prompt = |group: u32| vec![group; 5 + 60 * (group as usize % 4)];
    let turn = |key: PathKey, turn: u32| 3 + (key.path * 37 + key.group * 11 + turn * 53) % 140;
    let mut texts = BTreeMap::new();
    let mut turns = BTreeMap::new();
    let mut most = 0;
    for path in 0..6 {
        for group in 0..7 {
            let key = key(group, path);
            texts.insert(key, prompt(group));
            engine.submit(request(key, 0, &prompt(group), turn(key, 0) as usize));
        }
    }
    while let Some(Completion {
        key, ids, finish, ..
    }) = engine.wait().unwrap()
    {
        assert_eq!(finish, Finish::Length);
        most = most.max(engine.kv_bytes());
        let text = texts.get_mut(&key).unwrap();
        text.extend_from_slice(&ids);
        let ended = turns.entry(key).or_insert(0);
        *ended += 1;
        let tokens = turn(key, *ended) as usize;
        match (*ended, key.path % 3) {
            (1, _) | (2, 0) => {
                text.truncate(text.len() - text.len() / 3);
                let keep = text.len();
                text.extend([5, 6]);
                engine.submit(request(key, keep, &[5, 6], tokens));
            }
            // As a path that begins anew, with a prompt of its own.
            (2, 1) => {
                *text = prompt(key.path);
                engine.submit(request(key, 0, text, tokens));
            }
            // Those that stay keep their memory until it is taken from them.
            (_, 2) => {}
            _ => engine.close(key),
        }
    }
    (texts, most)
}

#[test]
fn a_device_never_takes_more_memory_than_it_is_given() {
    let (expected, _) = run_mixed(&mut engine(SETTINGS));
    let mut roomy = engine_on_device(decoder(), SETTINGS);
    let (found, most) = run_mixed(&mut roomy);
    assert_eq!(found, expected);
    assert!(
        most > 2 << 20,
        "{most} bytes are more than the short one has"
    );
    for rows in [3, 64] {
        let settings = LocalSettings {
            kv_mib: 1,
            max_rows: rows,
            ..SETTINGS
        };
        let (found, most) = run_mixed(&mut engine_on_device(decoder(), settings));
        assert_eq!(found, expected);
        assert!(most <= 1 << 20, "{most} bytes");
    }
}

#[test]
fn a_device_says_what_a_request_and_its_prompt_need() {
    let mut large = config();
    large.max_position_embeddings = 100_000;
    let decoder = Decoder::init(&large, 5, &DeviceSpec::Cpu.open().unwrap());
    let mut engine = engine_on_device(
        decoder,
        LocalSettings {
            kv_mib: 1,
            ..SETTINGS
        },
    );
    // 4096 tokens: a path of 2048 and its prompt take as much each.
    check_refused(
        &mut engine,
        request(key(0, 0), 0, &[1], 2048),
        "need 2 MiB of keys and values, but `kv_mib` is 1",
    );
    assert_eq!(
        sampled(&mut engine, request(key(0, 0), 0, &[1], 200)).len(),
        200
    );
    // Once the prompt is gone, a path may have all.
    let stop = Stop {
        eos: (0..256).collect(),
        ..Stop::default()
    };
    let long = Request {
        stop,
        ..request(key(0, 0), 201, &[1], 4096 - 202)
    };
    assert_eq!(run(&mut engine, long).finish, Finish::Eos);
}

/// A path that fills the memory begins anew: what it holds is room for it.
#[test]
fn a_path_that_holds_most_of_the_memory_can_begin_anew() {
    let mut large = config();
    large.num_hidden_layers = 6;
    large.num_key_value_heads = 4;
    large.max_position_embeddings = 1000;
    let decoder = Decoder::init(&large, 5, &DeviceSpec::Cpu.open().unwrap());
    // 682 tokens.
    let settings = LocalSettings {
        kv_mib: 1,
        ..SETTINGS
    };
    let mut engine = LocalEngine::new(decoder, &ByteVocab, settings).unwrap();
    let path = key(0, 0);
    sampled(&mut engine, request(path, 0, &[1], 600));
    sampled(&mut engine, request(path, 601, &[2], 60));
    assert_eq!(
        sampled(&mut engine, request(path, 0, &[3; 20], 50)).len(),
        50
    );
}

#[test]
fn settings_out_of_range_are_refused() {
    let rows = LocalSettings {
        max_rows: 0,
        ..SETTINGS
    };
    let opened = LocalEngine::new(decoder(), &ByteVocab, rows);
    assert!(matches!(
        opened,
        Err(EngineError::Setting {
            name: "max_rows",
            value: 0,
            ..
        })
    ));
}
