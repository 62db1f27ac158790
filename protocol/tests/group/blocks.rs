//! A LeaP block: cut, sum up, route, read.

use protocol::{
    Finished, Method, PathEnd, PathKey, SUMMARY_CLOSE, Settings, Span, SpanKind, Trace,
};

use crate::driver::{check, drive, group, settings};

/// Two paths that think 40 tokens, sum up, read each other and then finish.
fn two_paths(first: &'static str) -> Trace {
    let write = move |key: PathKey, n: usize| match (key.path, n) {
        (0, 0) => first.to_string(),
        (_, 0) => "other\n\nwhat comes after the blank line is lost".to_string(),
        (path, 1) => format!(" I am {path} </summarize>"),
        (_, 2) => "done </think>".to_string(),
        _ => "\\boxed{2}".to_string(),
    };
    drive(group(settings(Method::Leap, 2), 1000), &write)
}

#[test]
fn a_block_cuts_asks_exchanges_and_goes_on() {
    let trace = two_paths("kept\n\nthis paragraph is not finished and is cut");
    check(
        &trace,
        0,
        "Thought:kept\n\n|Trigger:Sum up. <summarize> So|Summary: I am 0 </summarize>|\
         Comment: <comment> Peer 1: \"So I am 1\" </comment>\n\n|\
         Bridge:Let me weigh what the others say.|Thought:done </think>|Answer:\\boxed{2}",
    );
    assert_eq!(trace.blocks[0].routes[0].peers, [1]);
    assert_eq!(trace.blocks[0].routes[1].peers, [0]);
}

#[test]
fn a_thought_without_a_blank_line_is_kept_whole_and_never_anything_older_is_cut() {
    let trace = two_paths("forty tokens and more without any break in them");
    let thought: &Span = &trace.paths[0].spans[1];
    assert_eq!(thought.text, "forty tokens and more without any break ");
    assert_eq!(trace.paths[0].spans[2].text, "\n\nSum up. <summarize> So");
}

#[test]
fn a_summary_at_its_limit_is_closed_for_the_path_and_counted() {
    let write = |key: PathKey, n: usize| match (key.path, n) {
        (_, 0) => "t".repeat(99),
        (_, 1) => "s".repeat(99),
        (_, 2) => "</think>".to_string(),
        _ => "\\boxed{2}".to_string(),
    };
    let trace = drive(group(settings(Method::Leap, 2), 1000), &write);
    assert_eq!(trace.paths[0].cut_summaries, 1);
    let heard = format!("\"So{}...\"", "s".repeat(24));
    assert!(
        trace.paths[1]
            .spans
            .iter()
            .any(|span| span.text.contains(&heard))
    );
    let closed = format!("... {SUMMARY_CLOSE}");
    assert!(trace.paths[0].spans.iter().any(|span| span.text == closed));
}

#[test]
fn a_summary_the_model_opens_itself_is_honoured_without_a_trigger() {
    let write = |key: PathKey, n: usize| match (key.path, n) {
        (0, 0) => "early <summarize> and more".to_string(),
        (_, 0) => "t".repeat(99),
        (path, 1) => format!(" of {path} </summarize>"),
        (_, 2) => "</think>".to_string(),
        _ => "\\boxed{2}".to_string(),
    };
    let trace = drive(group(settings(Method::LeapT, 2), 1000), &write);
    let kinds: Vec<SpanKind> = trace.paths[0].spans.iter().map(|span| span.kind).collect();
    assert_eq!(
        kinds[1..4],
        [SpanKind::Thought, SpanKind::Summary, SpanKind::Comment]
    );
    assert!(
        trace.paths[1]
            .spans
            .iter()
            .any(|span| span.text.contains("Peer 1: \"of 0\""))
    );
}

#[test]
fn the_last_living_path_reads_that_nobody_is_there() {
    let write = |key: PathKey, n: usize| match (key.path, n) {
        (0, 0) => "</think>".to_string(),
        (0, _) => "\\boxed{2}".to_string(),
        (_, 0) => "t".repeat(99),
        (_, 1) => " alone </summarize>".to_string(),
        (_, 2) => "</think>".to_string(),
        _ => "\\boxed{2}".to_string(),
    };
    let trace = drive(group(settings(Method::Leap, 2), 1000), &write);
    assert!(trace.blocks[0].routes[0].peers.is_empty());
    assert!(
        trace.paths[1]
            .spans
            .iter()
            .any(|span| span.text.contains("Nobody else"))
    );
}

#[test]
fn a_failed_path_leaves_and_the_others_go_on() {
    let write = |key: PathKey, n: usize| match (key.path, n) {
        (0, 0) => "FAIL".to_string(),
        (_, 0) => "t".repeat(99),
        (_, 1) => " s </summarize>".to_string(),
        (_, 2) => "</think>".to_string(),
        _ => "\\boxed{2}".to_string(),
    };
    let trace = drive(group(settings(Method::Leap, 3), 1000), &write);
    assert_eq!(trace.paths[0].end, PathEnd::Failed("scripted".into()));
    assert_eq!(trace.paths[1].end, PathEnd::Answered);
}

/// Thinks and sums up for ever; a path in `early` closes its thought in its turn `early[path]`.
fn busy(early: &'static [usize]) -> impl Fn(PathKey, usize) -> String {
    move |key: PathKey, n: usize| {
        let ends = early.get(key.path as usize).copied().unwrap_or(usize::MAX);
        match n {
            _ if n == ends.saturating_mul(2) => "</think>".to_string(),
            _ if n > ends.saturating_mul(2) => "\\boxed{2}".to_string(),
            _ if n.is_multiple_of(2) => "t".repeat(999),
            _ => format!(" path {} in {n} </summarize>", key.path),
        }
    }
}

fn long(method: Method, paths: usize) -> Settings {
    Settings {
        max_tokens: 400,
        ..settings(method, paths)
    }
}

#[test]
fn finished_paths_leave_or_stay_readable() {
    let heard = |finished: Finished| -> Vec<Vec<u32>> {
        let settings = Settings {
            finished,
            peers: 9,
            ..long(Method::LeapT, 3)
        };
        // Path 0 ends before it has said anything, path 1 after its first summary.
        let trace = drive(group(settings, 4000), &busy(&[0, 1]));
        let routes = trace.blocks.iter().map(|block| &block.routes);
        let last = routes.map(|routes| routes.last().expect("path 2 reads").peers.clone());
        last.collect()
    };
    let left = heard(Finished::Leave);
    assert_eq!(left[..2], [vec![1], vec![]]);
    let stayed = heard(Finished::Stay);
    assert!(
        stayed.len() > 2 && stayed.iter().all(|peers| *peers == [1]),
        "{stayed:?}"
    );
}

#[test]
fn what_a_finished_path_said_is_heard_as_it_said_it() {
    let settings = Settings {
        finished: Finished::Stay,
        ..long(Method::LeapT, 2)
    };
    let trace = drive(group(settings, 4000), &busy(&[1]));
    let last = trace.blocks.last().expect("a block").index;
    assert!(last > 0);
    let comments = trace.paths[1]
        .spans
        .iter()
        .filter(|span| span.kind == SpanKind::Comment);
    assert!(comments.clone().count() > 1);
    assert!(
        comments
            .into_iter()
            .all(|span| span.text.contains("\"So path 0 in 1\""))
    );
}

#[test]
fn blocks_can_be_kept_to_some_ends_of_turns() {
    let settings = Settings {
        blocks: vec![2, 1],
        ..long(Method::Leap, 2)
    };
    let trace = drive(group(settings, 4000), &busy(&[]));
    let thoughts = trace.paths[0]
        .spans
        .iter()
        .filter(|span| span.kind == SpanKind::Thought);
    let lengths: Vec<usize> = thoughts.map(|span| span.ids.len()).collect();
    // Two turns without an exchange, one turn, and then all that is left of 400.
    assert_eq!(trace.blocks.len(), 2);
    assert_eq!(lengths[..2], [80, 40]);
    assert_eq!(lengths.len(), 3);
    assert_eq!(trace.paths[0].end, PathEnd::Forced);
}

#[test]
fn a_block_the_model_opens_itself_uses_up_no_turn() {
    let settings = Settings {
        turns: Some(2),
        max_tokens: 10_000,
        ..settings(Method::LeapT, 2)
    };
    let write = |_: PathKey, n: usize| match n {
        0 => "ten chars <summarize>".to_string(),
        1 | 3 => " s </summarize>".to_string(),
        _ => "t".repeat(99),
    };
    let trace = drive(group(settings, 4000), &write);
    let thoughts = trace.paths[0]
        .spans
        .iter()
        .filter(|span| span.kind == SpanKind::Thought);
    let lengths: Vec<usize> = thoughts.map(|span| span.ids.len()).collect();
    // 21 tokens up to its own block, a whole turn, and what is left of two turns of 40.
    assert_eq!(lengths, [21, 40, 19]);
    assert_eq!(trace.blocks.len(), 2);
}
