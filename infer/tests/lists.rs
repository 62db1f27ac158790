//! Tokens drawn from shortlists of rows of logits, as on a card, against tokens drawn from the rows.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod tiny;

use infer::engine::Engine;
use infer::local::LocalSettings;
use protocol::{Completion, Request, Sampling};

use tiny::{GREEDY, SETTINGS, WARM, engine, key, request};

/// Two groups of paths that share prompts, side by side, with appended ids of several lengths.
fn written(lists: bool, sampling: Sampling) -> (Vec<Completion>, u64) {
    let mut engine = engine(LocalSettings {
        prefill_tokens: 16,
        ..SETTINGS
    });
    engine.draw_from_lists(lists);
    let mut all = Vec::new();
    for (turn, length) in [40, 1, 25].into_iter().enumerate() {
        for path in 0..12 {
            let key = key(path % 2, path / 2);
            let append: Vec<u32> = (0..length).map(|at| (at * 7 + path % 2) % 256).collect();
            let keep = all.len() / 12 * 20 + [0, 40, 41][turn];
            engine.submit(Request {
                sampling,
                logprobs: true,
                ..request(key, keep, &append, 20)
            });
        }
        let mut turn: Vec<Completion> = (0..12).map(|_| engine.wait().unwrap().unwrap()).collect();
        turn.sort_by_key(|completion| completion.key);
        all.extend(turn);
    }
    (all, engine.sampled_from_lists())
}

/// Whether the share of tokens that come from lists is as expected; tokens are the same either way.
#[track_caller]
fn check_written_from_lists(sampling: Sampling, expected: impl Fn(u64) -> bool) {
    let (from_rows, none) = written(false, sampling);
    let (from_lists, listed) = written(true, sampling);
    assert_eq!(none, 0);
    // The first of each path comes from its prompt's row.
    assert!(expected(listed), "{listed} of 720, {sampling:?}");
    for (lists, rows) in from_lists.iter().zip(&from_rows) {
        assert_eq!(
            (lists.key, &lists.ids, &lists.finish),
            (rows.key, &rows.ids, &rows.finish)
        );
        let [lists, rows] = [lists, rows].map(|completion| completion.logprobs.as_ref().unwrap());
        for (lists, rows) in lists.iter().zip(rows) {
            assert!((lists - rows).abs() <= 1e-6, "{lists} {rows}");
        }
    }
}

#[test]
fn paths_write_from_lists_what_they_write_from_rows() {
    check_written_from_lists(GREEDY, |listed| listed == 708);
    check_written_from_lists(WARM, |listed| listed == 708);
    // The presets of the protocol.
    let preset = Sampling {
        temperature: 0.6,
        top_k: 40,
        top_p: 0.95,
        min_p: 0.0,
    };
    check_written_from_lists(preset, |listed| (690..=708).contains(&listed));
    // A token of the tail is drawn now and then.
    let open = Sampling {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
    };
    check_written_from_lists(open, |listed| (600..=708).contains(&listed));
    // More tokens are asked for than lists of cold rows reach, but the others weigh next to nothing.
    let many = Sampling {
        temperature: 0.05,
        top_k: 200,
        ..open
    };
    check_written_from_lists(many, |listed| (690..=708).contains(&listed));
}
