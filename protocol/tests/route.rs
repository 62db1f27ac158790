//! Who hears whom, and how alike two summaries are.

mod fixtures;

use proptest::prelude::*;
use protocol::{Router, Similarity, Stream};

#[track_caller]
fn check(router: Router, count: usize, expected: &[usize]) {
    // Path 2 reads; its similarity to the others, with a tie between 1 and 4.
    let row = [0.9, 0.3, 1.0, 0.1, 0.3, 0.7];
    let lot = Stream::of_run(7);
    assert_eq!(
        router.select(&row, 2, count, &lot),
        expected,
        "{router:?} {count}"
    );
}

#[test]
fn routers_pick_in_the_order_they_promise_and_ties_keep_path_order() {
    check(Router::Dispersed, 3, &[3, 1, 4]);
    check(Router::Clustered, 3, &[0, 5, 1]);
    check(Router::Hybrid, 4, &[3, 1, 0, 5]);
    check(Router::Hybrid, 3, &[3, 0, 5]);
    check(Router::Hybrid, 5, &[3, 1, 0, 5, 4]);
    check(Router::Hybrid, 1, &[0]);
    check(Router::All, 1, &[0, 1, 3, 4, 5]);
    check(Router::Dispersed, 0, &[]);
    check(Router::Dispersed, 9, &[3, 1, 4, 5, 0]);
}

#[test]
fn random_routing_is_a_function_of_its_stream_and_reaches_everybody() {
    let pick = |seed| Router::Random.select(&[0.0; 6], 2, 2, &Stream::of_run(seed));
    assert_eq!(pick(3), pick(3));
    let mut heard: Vec<usize> = (0..50).flat_map(pick).collect();
    heard.sort_unstable();
    heard.dedup();
    assert_eq!(heard, [0, 1, 3, 4, 5]);
}

#[track_caller]
fn check_alike(a: &str, b: &str, levenshtein: f64, indel: f64) {
    let near = |similarity: Similarity, expected: f64| {
        let found = similarity.of(a, b);
        assert_eq!(
            similarity.matrix(&[a, b, a])[3],
            found,
            "one by one or all at once"
        );
        assert!(
            (found - expected).abs() < 1e-12,
            "{similarity:?} of `{a}`, `{b}`: {found}"
        );
    };
    near(Similarity::Levenshtein, levenshtein);
    near(Similarity::Indel, indel);
}

#[test]
fn similarities_are_those_of_the_paper_and_of_the_authors_code() {
    check_alike("kitten", "sitting", 1.0 - 3.0 / 7.0, 1.0 - 5.0 / 13.0);
    check_alike("abcd", "badc", 0.25, 0.5);
    check_alike("ab", "ba", 0.0, 0.5);
    check_alike("", "", 1.0, 1.0);
    check_alike("", "x", 0.0, 0.0);
    // Code points, not bytes.
    check_alike("é", "e", 0.0, 0.0);
}

#[test]
fn similarities_are_those_of_the_golden_pairs() {
    let Some(files) = fixtures::files("grading", "levenshtein", ".jsonl") else {
        return;
    };
    let mut pairs = 0;
    for (file, text) in files {
        for line in text.split('\n').filter(|line| !line.trim().is_empty()) {
            let row: serde_json::Value = serde_json::from_str(line).expect(&file);
            let text = |key: &str| row[key].as_str().expect("a text").to_string();
            let number = |key: &str| row[key].as_f64().expect("a number");
            check_alike(
                &text("a"),
                &text("b"),
                number("similarity"),
                number("ratio"),
            );
            check_alike(
                &text("b"),
                &text("a"),
                number("similarity"),
                number("ratio"),
            );
            pairs += 1;
        }
    }
    assert!(pairs > 0);
}

proptest! {
    #[test]
    fn nobody_hears_itself_or_anybody_twice(
        row in proptest::collection::vec(0.0f64..1.0, 1..12),
        reader in 0usize..12,
        count in 0usize..14,
        seed in any::<u64>(),
    ) {
        let reader = reader % row.len();
        for router in
            [Router::Dispersed, Router::Clustered, Router::Hybrid, Router::Random, Router::All]
        {
            let peers = router.select(&row, reader, count, &Stream::of_run(seed));
            let wanted = if router == Router::All { row.len() - 1 } else { count.min(row.len() - 1) };
            prop_assert_eq!(peers.len(), wanted);
            let mut sorted = peers.clone();
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), peers.len());
            prop_assert!(!peers.contains(&reader) && peers.iter().all(|&peer| peer < row.len()));
        }
    }
}
