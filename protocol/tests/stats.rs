//! Statistics: golden values with exact fractions, hand-computed cases, properties.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail on rows that cannot be read, and say what they skipped or measured"
)]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use protocol::Stream;
use protocol::grade::Grade;
use protocol::stats::{
    PathScore, avg_at_n, bootstrap, cons_at_n, error_correlation, majority, mean_interval,
    mean_pass_at_k, paired_difference, pass_at_1, pass_at_k, problem_means, problem_se,
    sampling_se, shortest_majority, wilson,
};
use serde_json::Value;

/// Rounding of a few hundred f64 operations.
const EXACT: f64 = 1e-12;

#[track_caller]
fn check(value: Option<f64>, expected: Option<f64>) {
    let near = match (value, expected) {
        (Some(v), Some(e)) => (v - e).abs() <= EXACT * e.abs().max(1.0),
        (None, None) => true,
        _ => false,
    };
    assert!(near, "{value:?} is not {expected:?}");
}

/// A path from a sketch: `7` is the right answer 7, `!8` the wrong answer 8, `-` no answer; a
/// number after `/` is the length in tokens.
fn path(sketch: &str) -> PathScore {
    let (answer, tokens) = sketch.split_once('/').unwrap_or((sketch, "1"));
    let grade = match answer {
        "-" => Grade::NoAnswer,
        wrong if wrong.starts_with('!') => Grade::Wrong,
        _ => Grade::Right,
    };
    let answer = (answer != "-").then(|| answer.trim_start_matches('!').to_owned());
    PathScore {
        grade,
        answer,
        tokens: tokens.parse().unwrap(),
    }
}

/// Problems are separated by `;`, groups by `|`, paths by blanks.
fn problems(sketch: &str) -> Vec<Vec<Vec<PathScore>>> {
    let group = |g: &str| g.split_whitespace().map(path).collect();
    sketch
        .split(';')
        .map(|p| p.split('|').map(group).collect())
        .collect()
}

// ---- golden values -------------------------------------------------------------------------

fn fraction(value: &Value) -> Option<f64> {
    let part = |key: &str| value[key].as_str()?.parse::<f64>().ok();
    Some(part("num")? / part("den")?)
}

fn matrix(row: &Value) -> Option<Vec<Vec<f64>>> {
    if let Some(rows) = row["matrix"].as_array() {
        let numbers = |r: &Value| {
            r.as_array()
                .unwrap()
                .iter()
                .map(|x| x.as_f64().unwrap())
                .collect()
        };
        return Some(rows.iter().map(numbers).collect());
    }
    // Above 400 cells only the counts are given.
    let counts = row["counts"]
        .as_array()?
        .iter()
        .map(|c| c.as_u64().unwrap());
    let sizes = row["n"].as_array()?.iter().map(|n| n.as_u64().unwrap());
    let cells = |(n, c): (u64, u64)| (0..n).map(|i| if i < c { 1.0 } else { 0.0 }).collect();
    Some(sizes.zip(counts).map(cells).collect())
}

fn check_row(row: &Value) {
    let number = |key: &str| row[key].as_u64().unwrap();
    let expected = fraction(&row["expected"]);
    match row["kind"].as_str().unwrap() {
        "pass_at_k" => check(pass_at_k(number("n"), number("c"), number("k")), expected),
        "pass_at_k_mean" => {
            let counts: Vec<u64> = row["counts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|c| c.as_u64().unwrap())
                .collect();
            check(mean_pass_at_k(number("n"), &counts, number("k")), expected);
        }
        "avg_at_n" => {
            let matrix = matrix(row).unwrap();
            check(avg_at_n(&matrix), expected);
            let pooled: Vec<f64> = matrix.into_iter().flatten().collect();
            check(avg_at_n(&[pooled]), fraction(&row["expected_pooled"]));
        }
        "maj_at_n" => {
            let gold = row["gold"].as_str().unwrap();
            let paths: Vec<PathScore> = row["answers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|a| match a.as_str() {
                    None => path("-"),
                    Some(a) if a == gold => path(a),
                    Some(a) => path(&format!("!{a}")),
                })
                .collect();
            let vote = majority(&paths);
            let winners: Vec<&str> = row["winners"]
                .as_array()
                .unwrap()
                .iter()
                .map(|w| w.as_str().unwrap())
                .collect();
            assert_eq!(vote.winners, winners);
            check(Some(vote.score), fraction(&row["expected_uniform_tie"]));
            let strict = u64::from(winners == [gold]);
            assert_eq!(Some(strict), row["expected_strict"].as_u64());
        }
        "standard_error" => {
            let matrix = matrix(row).unwrap();
            let text = |key: &str| row[key].as_str().map(|t| t.parse::<f64>().unwrap());
            check(avg_at_n(&matrix), fraction(&row["mean"]));
            check(sampling_se(&matrix), text("sampling_se"));
            check(problem_se(&matrix), text("problem_se"));
        }
        kind => panic!("unknown kind of row: {kind}"),
    }
}

#[test]
fn metrics_equal_the_exact_fractions() {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures");
    let named = std::env::var_os("LEAP_FIXTURES").map(PathBuf::from);
    let folder = named.clone().unwrap_or(default).join("grading");
    if named.is_none() && !folder.is_dir() {
        eprintln!("skipped: no golden files at {}", folder.display());
        return;
    }
    let mut seen = 0;
    for entry in
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("`{}`: {e}", folder.display()))
    {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if !(name.starts_with("metrics") && name.ends_with(".jsonl")) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for line in text.split('\n').filter(|l| !l.trim().is_empty()) {
            let row: Value = serde_json::from_str(line).unwrap();
            let row_id = row["id"].as_str().unwrap().to_owned();
            if std::panic::catch_unwind(|| check_row(&row)).is_err() {
                panic!("row {row_id} of {name} differs");
            }
            seen += 1;
        }
    }
    assert!(
        seen > 0,
        "no `metrics*.jsonl` rows in `{}`",
        folder.display()
    );
    eprintln!("metrics: {seen} rows");
}

// ---- cases ---------------------------------------------------------------------------------

#[test]
fn pass_at_1_weighs_problems_alike() {
    let estimate = pass_at_1(&problems("7 7 !8 !8 | 7 7 7 7 ; !1 !1 | !1 2")).unwrap();
    // Problem means 3/4 and 1/4; group means 1/2, 1 and 0, 1/2.
    check(Some(estimate.over_problems.estimate), Some(0.5));
    check(estimate.over_problems.se, Some(0.25));
    // Both problems have group variance 1/8: sqrt(1/16 + 1/16) / 2.
    check(estimate.group_se, Some((0.125f64).sqrt() / 2.0));
}

#[test]
fn what_cannot_be_computed_is_not_invented() {
    let estimate = pass_at_1(&problems("7 !8")).unwrap();
    assert_eq!(estimate.over_problems.se, None);
    assert_eq!(estimate.group_se, None);
    assert!(estimate.over_problems.low < 0.5 && estimate.over_problems.high > 0.5);
    assert_eq!(pass_at_1(&[]), None);
    assert_eq!(cons_at_n(&[vec![vec![]]]), None);
    assert_eq!(error_correlation(&problems("7 !8")), None);
    assert_eq!(paired_difference(&[0.5], &[]), None);
    assert_eq!(mean_interval(&[]), None);
    assert_eq!(bootstrap(&[], 100, &Stream::of_run(1)), None);
}

#[test]
fn a_vote_counts_answers_and_shares_ties() {
    #[track_caller]
    fn check_vote(sketch: &str, expected: f64) {
        check(
            Some(cons_at_n(&problems(sketch)).unwrap().over_problems.estimate),
            Some(expected),
        );
    }
    check_vote("7 7 !8", 1.0);
    check_vote("7 !8 !8", 0.0);
    check_vote("7 !8", 0.5);
    check_vote("7 !8 !9", 1.0 / 3.0);
    check_vote("7 - - -", 1.0);
    check_vote("- -", 0.0);
    check_vote("7 | !8", 0.5);
}

#[test]
fn the_shortest_half_votes() {
    #[track_caller]
    fn check_vote(sketch: &str, expected: f64) {
        let estimate = shortest_majority(&problems(sketch)).unwrap();
        check(Some(estimate.over_problems.estimate), Some(expected));
    }
    check_vote("7/10 7/20 !8/30 !8/40", 1.0);
    check_vote("!8/10 !8/20 7/30 7/40 7/50", 0.0);
    // The path without an answer is not among the shortest.
    check_vote("-/1 -/1 7/10 !8/20", 1.0);
    // Paths of equal length all vote: the order of paths does not matter.
    check_vote("7/10 !8/10", 0.5);
    check_vote("!8/10 7/10", 0.5);
    check_vote("-", 0.0);
}

#[test]
fn intervals_do_not_shrink_to_a_point() {
    for scores in [vec![0.0; 30], vec![1.0; 30], vec![1.0], vec![0.5; 4]] {
        for interval in [
            mean_interval(&scores),
            bootstrap(&scores, 500, &Stream::of_run(3)),
        ] {
            let interval = interval.unwrap();
            assert!(
                interval.high - interval.low > 0.05,
                "{interval:?} of {scores:?}"
            );
            assert!(interval.low <= scores[0] && scores[0] <= interval.high);
            assert!((0.0..=1.0).contains(&interval.low) && (0.0..=1.0).contains(&interval.high));
        }
    }
    let none = paired_difference(&[0.5; 20], &[0.5; 20]).unwrap();
    assert!(none.low < 0.0 && none.high > 0.0 && none.estimate == 0.0);
}

#[test]
fn wilson_solves_its_equation() {
    // The roots of (p - 0.8)^2 = z^2 p (1 - p) / 10.
    let interval = wilson(8.0, 10.0);
    assert!(
        (interval.low - 0.490_162_5).abs() < 1e-6 && (interval.high - 0.943_317_8).abs() < 1e-6
    );
    let none = wilson(0.0, 30.0);
    assert!(
        none.low == 0.0 && (none.high - 0.113_513_3).abs() < 1e-6,
        "{none:?}"
    );
}

#[test]
fn a_small_sample_uses_students_t() {
    // Mean 0.5, SE 0.25, t(1) = 12.7062: cut to 0..1. With 4 values t(3) = 3.18245.
    let two = mean_interval(&[0.25, 0.75]).unwrap();
    assert_eq!((two.low, two.high), (0.0, 1.0));
    let four = mean_interval(&[0.4, 0.5, 0.5, 0.6]).unwrap();
    let half = 3.182_446_3 * (0.02f64 / 3.0 / 4.0).sqrt();
    check(Some(four.high), Some(0.5 + half));
}

#[test]
fn pairing_cancels_what_is_hard_for_both() {
    let a = [0.1, 0.5, 0.9, 0.3];
    let b = [0.2, 0.6, 1.0, 0.3];
    let paired = paired_difference(&a, &b).unwrap();
    check(Some(paired.estimate), Some(0.075));
    check(paired.se, Some(0.025));
    let unpaired = mean_interval(&a).unwrap();
    assert!(
        paired.high - paired.low < (unpaired.high - unpaired.low) / 4.0,
        "{paired:?}"
    );
    assert_eq!(problem_means(&problems("7 !8 ; -")), [Some(0.5), Some(0.0)]);
}

#[test]
fn paths_that_stand_and_fall_together_are_correlated() {
    check(error_correlation(&problems("7 7 | !8 !8")), Some(1.0));
    check(error_correlation(&problems("7 !8 | 7 !8")), Some(-1.0));
    // Difficulty is no correlation: every path of a problem has the same verdict.
    assert_eq!(
        error_correlation(&problems("7 7 | 7 7 ; !8 !8 | !8 !8")),
        None
    );
    // Independent paths: as many groups of each kind as a fair coin would give.
    let coin = problems("7 7 | 7 !8 | !8 7 | !8 !8");
    let value = error_correlation(&coin).unwrap();
    assert!(value.abs() < 0.2, "{value}");
}

#[test]
fn the_same_seed_gives_the_same_interval() {
    let scores = [0.0, 1.0, 0.5, 0.25, 1.0, 0.0, 0.75];
    let with = |seed| bootstrap(&scores, 2000, &Stream::of_run(seed)).unwrap();
    assert_eq!(with(1), with(1));
    assert_ne!(with(1), with(2));
    let exact = mean_interval(&scores).unwrap();
    // The bootstrap's error divides by n, the exact one by n - 1.
    let ratio = with(1).se.unwrap() / exact.se.unwrap();
    assert!((ratio - (6.0f64 / 7.0).sqrt()).abs() < 0.05, "{ratio}");
}

// ---- properties ----------------------------------------------------------------------------

fn any_path() -> impl Strategy<Value = PathScore> {
    (0u8..5, 1u64..50).prop_map(|(answer, tokens)| match answer {
        0 => PathScore {
            tokens,
            ..path("-")
        },
        1 | 2 => PathScore {
            tokens,
            ..path("1")
        },
        other => PathScore {
            tokens,
            ..path(&format!("!{other}"))
        },
    })
}

fn any_problems() -> impl Strategy<Value = Vec<Vec<Vec<PathScore>>>> {
    let group = prop::collection::vec(any_path(), 0..5);
    prop::collection::vec(prop::collection::vec(group, 0..4), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn estimates_lie_in_their_intervals(problems in any_problems()) {
        for estimate in [pass_at_1(&problems), cons_at_n(&problems), shortest_majority(&problems)] {
            let Some(estimate) = estimate else { continue };
            let i = estimate.over_problems;
            prop_assert!(0.0 <= i.low && i.low <= i.estimate + EXACT, "{:?}", i);
            prop_assert!(i.estimate <= i.high + EXACT && i.high <= 1.0, "{:?}", i);
            prop_assert!(i.high > i.low, "{:?}", i);
            prop_assert!(estimate.group_se.is_none_or(|se| se >= 0.0 && se.is_finite()));
        }
    }

    #[test]
    fn votes_do_not_depend_on_the_order_of_paths(mut group in prop::collection::vec(any_path(), 1..9), seed in any::<u64>()) {
        let forwards = problems_of(&group);
        Stream::of_run(seed).shuffle(&mut group);
        let shuffled = problems_of(&group);
        for score in [cons_at_n, shortest_majority] {
            let (a, b) = (score(&forwards).unwrap(), score(&shuffled).unwrap());
            prop_assert!((a.over_problems.estimate - b.over_problems.estimate).abs() < EXACT);
        }
    }

    #[test]
    fn more_samples_never_hurt(n in 1u64..200, c in 0u64..200, k in 1u64..200) {
        let c = c.min(n);
        let k = k.min(n);
        let value = pass_at_k(n, c, k).unwrap();
        prop_assert!((0.0..=1.0).contains(&value));
        prop_assert!(value + EXACT >= c as f64 / n as f64);
        if k > 1 {
            prop_assert!(value + EXACT >= pass_at_k(n, c, k - 1).unwrap());
        }
    }

    #[test]
    fn correlation_is_a_correlation(problems in any_problems()) {
        if let Some(value) = error_correlation(&problems) {
            prop_assert!(value <= 1.0 + EXACT && value.is_finite());
        }
    }
}

fn problems_of(group: &[PathScore]) -> Vec<Vec<Vec<PathScore>>> {
    vec![vec![group.to_vec()]]
}
