//! What holds for every method, whatever is written and in whatever order it arrives.

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::{
    ByteVocab, Completion, Finished, Keep, Method, Moa, PathKey, Router, Rules, Settings, Single,
    SpanKind, Stream, Trace,
};

use crate::driver::{drive_all, group, settings};

/// Random texts out of pieces that matter to the protocol.
fn texts() -> impl Strategy<Value = Vec<Vec<String>>> {
    let piece = prop_oneof![
        Just("word "),
        Just("\n\n"),
        Just("</think>"),
        Just("</summarize>"),
        Just("<summarize>"),
        Just("\\boxed{2}"),
        Just("é\""),
        Just("a longer stretch of text without any break in it "),
    ];
    let text = prop_oneof![
        9 => proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat()),
        1 => prop_oneof![Just("FAIL"), Just("CANCEL")].prop_map(str::to_string),
    ];
    proptest::collection::vec(proptest::collection::vec(text, 12), 5)
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let shape = (
        prop::sample::select(&Method::ALL[..]),
        1usize..6,
        0usize..7,
        prop::sample::select(
            &[
                Router::Dispersed,
                Router::Clustered,
                Router::Hybrid,
                Router::Random,
                Router::All,
            ][..],
        ),
        any::<bool>(),
        prop::collection::vec(0usize..4, 0..3),
        prop::option::of(1usize..5),
    );
    let more = (
        1usize..3,
        prop::sample::select(&[Keep::First, Keep::Random, Keep::Central][..]),
        any::<bool>(),
        1usize..4,
        1usize..3,
        any::<bool>(),
    );
    (shape, more).prop_map(
        |(
            (method, paths, peers, router, stay, blocks, turns),
            (shared, keep, trained, layers, aggregators, authors),
        )| {
            Settings {
                peers,
                router,
                blocks,
                turns,
                finished: if stay {
                    Finished::Stay
                } else {
                    Finished::Leave
                },
                rules: if authors {
                    Rules::AuthorsCode
                } else {
                    Rules::Clean
                },
                single: Single {
                    blocks: shared,
                    keep,
                    trained,
                },
                moa: Moa {
                    layers,
                    aggregators,
                },
                ..settings(method, paths)
            }
        },
    )
}

/// What the engine said of each path is, in order, what its spans keep and what they dropped.
fn check_said(trace: &Trace, said: &[Completion]) -> Result<(), TestCaseError> {
    let mut by_path: BTreeMap<u32, Vec<&Completion>> = BTreeMap::new();
    for completion in said.iter().filter(|completion| !completion.ids.is_empty()) {
        by_path
            .entry(completion.key.path)
            .or_default()
            .push(completion);
    }
    for (index, path) in trace.paths.iter().enumerate() {
        let spans: Vec<_> = path
            .spans
            .iter()
            .filter(|span| span.finish.is_some())
            .collect();
        let said = by_path.remove(&(index as u32)).unwrap_or_default();
        prop_assert_eq!(spans.len(), said.len());
        for (span, completion) in spans.into_iter().zip(said) {
            let ids: Vec<u32> = span.ids.iter().chain(&span.dropped).copied().collect();
            prop_assert_eq!(&ids, &completion.ids);
            prop_assert_eq!(span.finish.as_ref(), Some(&completion.finish));
            prop_assert!(span.kind.is_sampled());
        }
    }
    Ok(())
}

/// Nobody hears itself or anybody twice; what is heard is, byte for byte, what the peer wrote.
fn check_routes(trace: &Trace) -> Result<(), TestCaseError> {
    for block in &trace.blocks {
        for route in &block.routes {
            let mut peers = route.peers.clone();
            peers.sort_unstable();
            peers.dedup();
            prop_assert_eq!(peers.len(), route.peers.len());
            prop_assert!(!peers.contains(&route.reader));
            prop_assert_eq!(route.scores.len(), peers.len());
            let reader = &trace.paths[route.reader as usize];
            let comment = reader
                .spans
                .iter()
                .find(|span| span.kind == SpanKind::Comment && span.block == Some(block.index))
                .expect("a reader has a comment");
            for &peer in &route.peers {
                let path = &trace.paths[peer as usize];
                let text = (0..=block.index)
                    .rev()
                    .find_map(|block| path.summary(block));
                let text = text.expect("a peer that is heard has said something");
                let own = match text.starts_with("<summarize>") || text.contains(" <summarize>") {
                    true => text.split_once("<summarize>").map_or("", |(_, own)| own),
                    false => text.as_str(),
                };
                let own = own.strip_suffix("</summarize>").unwrap_or(own).trim();
                prop_assert!(comment.text.contains(own), "{} in {}", own, comment.text);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 400,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_group_ends_and_its_trace_does_not_depend_on_the_order_of_completions(
        texts in texts(),
        settings in any_settings(),
        positions in 160usize..900,
        order in any::<u64>(),
    ) {
        let write = |key: PathKey, n: usize| texts[key.path as usize % 5][n % 12].clone();
        let make = || group(settings.clone(), positions);
        let (one, said) = drive_all(make(), &ByteVocab, &write, &mut |_| 0);
        let lot = Stream::of_run(order);
        let mut draw = 0;
        let (two, _) = drive_all(make(), &ByteVocab, &write, &mut |n| {
            draw += 1;
            lot.below(draw, n)
        });
        prop_assert_eq!(&one, &two);
        check_said(&one, &said)?;
        if settings.rules == Rules::Clean {
            check_routes(&one)?;
        }
        for (index, path) in one.paths.iter().enumerate() {
            let own: usize = path.spans.iter()
                .filter(|span| matches!(span.kind, SpanKind::Thought | SpanKind::Summary))
                .map(|span| span.ids.len() + span.dropped.len()).sum();
            prop_assert!(own <= 120 + 24, "path {} sampled {}", index, own);
            prop_assert!(path.len() <= positions);
        }
        let replayed = one.replay(&ByteVocab).expect("a trace replays");
        prop_assert_eq!(replayed.requests, said.len());
        let line = serde_json::to_string(&one).expect("json");
        prop_assert_eq!(serde_json::from_str::<Trace>(&line).expect("a trace"), one);
    }
}
