//! Scores against numbers worked out by hand, and what must not change them.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it must be"
)]

mod sketch;

use infer::score::{CompareError, Flip, ScoreError, Summary, compare, pool, score};
use protocol::grade::Grade;
use protocol::{Method, PathEnd, SpanKind, Trace};
use sketch::{exchanging, group, problem, problems, row, scored, span};

const ANSWERS: [&str; 4] = ["7 7 9 -", "12 12 5 5", "3 3 3 1", "8 8 4 -"];

#[track_caller]
fn check(what: &str, found: f64, expected: f64) {
    // Hand-worked to six digits.
    assert!(
        (found - expected).abs() < 1e-6,
        "{what} is {found}, not {expected}"
    );
}

fn two_groups() -> Vec<Trace> {
    let second = ["7 7 7 7", "12 5 5 5", "3 3 3 1", "8 8 8 4"];
    let ids = ["a", "b", "c", "d"];
    let first = ids
        .iter()
        .zip(ANSWERS)
        .map(|(id, answers)| group(id, 0, answers));
    first
        .chain(
            ids.iter()
                .zip(second)
                .map(|(id, answers)| group(id, 1, answers)),
        )
        .collect()
}

fn score_all(groups: Vec<Trace>) -> Result<Summary, ScoreError> {
    score(&row("row"), &problems(), groups.into_iter())
}

#[test]
fn scores_are_those_worked_out_by_hand() {
    let summary = scored("row", ANSWERS);
    let scores = &summary.scores;
    // Problem means 1/2, 1/2, 3/4, 1/4: variance 1/24, standard error sqrt(1/96), t(3) = 3.182446.
    let pass = scores.pass_at_1.over_problems;
    check("Pass@1", pass.estimate, 0.5);
    check("its error", pass.se.unwrap(), 0.102_062);
    check("its lower end", pass.low, 0.175_193);
    check("its upper end", pass.high, 0.824_807);
    assert_eq!(scores.pass_at_1.group_se, None, "there is one group");
    // Votes 7, tie of 12 and 5, 3, 8.
    check(
        "Cons@4",
        scores.cons_at_n.over_problems.estimate,
        (1.0 + 0.5 + 1.0 + 0.0) / 4.0,
    );
    // The first two of the answers, which are the shortest.
    check(
        "shortest majority",
        scores.shortest_majority.over_problems.estimate,
        0.75,
    );
    let ks: Vec<usize> = scores.pass_at_k.iter().map(|pass| pass.k).collect();
    assert_eq!(ks, [1, 2, 4]);
    check("pass@1", scores.pass_at_k[0].value, 0.5);
    // 1 - C(4 - c, 2) / 6 for c = 2, 2, 3, 1.
    check(
        "pass@2",
        scores.pass_at_k[1].value,
        (5.0 / 6.0 + 5.0 / 6.0 + 1.0 + 0.5) / 4.0,
    );
    check("pass@4", scores.pass_at_k[2].value, 1.0);
    check("no answer", scores.no_answer, 2.0 / 16.0);
    check("answers per group", scores.answers_per_group, 2.0);
    assert_eq!(scores.error_correlation, None, "there is one group");
}

#[test]
fn two_groups_tell_how_much_groups_differ() {
    let summary = score_all(two_groups()).unwrap();
    assert_eq!((summary.problems, summary.groups, summary.paths), (4, 2, 4));
    // Variances of the two group means 1/8, 1/32, 0, 0: sqrt((1/8 + 1/32) / 2) / 4.
    check(
        "error over groups",
        summary.scores.pass_at_1.group_se.unwrap(),
        0.069_877,
    );
    assert!(summary.scores.error_correlation.is_some());
}

#[test]
fn verdicts_stand_behind_the_scores() {
    let summary = scored("row", ANSWERS);
    let first = &summary.by_problem[0];
    assert_eq!(
        (first.id.as_str(), first.gold.as_str(), first.right()),
        ("a", "7", (2, 4))
    );
    let grades: Vec<Grade> = first.groups[0]
        .paths
        .iter()
        .map(|path| path.grade)
        .collect();
    assert_eq!(
        grades,
        [Grade::Right, Grade::Right, Grade::Wrong, Grade::NoAnswer]
    );
    assert_eq!(first.groups[0].paths[2].answer.as_deref(), Some("9"));
    assert_eq!(first.groups[0].vote, ["7"]);
    assert_eq!(summary.by_problem[1].groups[0].vote, ["12", "5"], "a tie");
    check(
        "the tie's worth",
        summary.by_problem[1].groups[0].vote_score,
        0.5,
    );
}

#[test]
fn only_the_own_answer_is_graded() {
    let mut trace = exchanging("a", 0, "9 9");
    let paths = &mut trace.paths;
    // Neither a peer's answer, nor one in the prompt, nor a thought's counts.
    paths[0].spans[0].text.push_str("\\boxed{7}");
    paths[0].spans[1].text = "\\boxed{7}</think>".into();
    paths[0].spans[4].text = " <comment> Peer 1: \"\\boxed{7}\" </comment>".into();
    // A forced answer is the injected opening and what the path wrote.
    paths[1].spans.truncate(6);
    paths[1].spans.push(span(
        SpanKind::Forced,
        None,
        3,
        "\n</think>\n\nIt is \\boxed{",
    ));
    paths[1].spans.push(span(SpanKind::Answer, None, 2, "7}"));
    paths[1].end = PathEnd::Forced;
    let summary = score_all(vec![trace]).unwrap();
    let grades: Vec<Grade> = summary.by_problem[0].groups[0]
        .paths
        .iter()
        .map(|p| p.grade)
        .collect();
    assert_eq!(grades, [Grade::Wrong, Grade::Right]);
}

#[test]
fn tokens_ends_and_exchanges_are_counted() {
    let mut trace = exchanging("a", 0, "7 9 - 7");
    trace.paths[0].cut_summaries = 1;
    trace.paths[1].answer_ended = false;
    trace.paths[2].end = PathEnd::Forced;
    trace.paths[3].end = PathEnd::Failed("no such server".into());
    let summary = score_all(vec![trace]).unwrap();
    let tokens = &summary.tokens;
    // Own words 10 + 20 + 30 + 40 and four summaries of 6; three injected spans of 3 + 4 + 1.
    assert_eq!(
        (tokens.sampled(), tokens.injected(), tokens.prompt()),
        (124, 32, 20)
    );
    assert_eq!(tokens.of(SpanKind::Summary), 24);
    check("sampled by a path", tokens.per_path(tokens.sampled()), 31.0);
    let ends = summary.ends;
    assert_eq!(
        (ends.answered, ends.forced, ends.failed, ends.cut_answers),
        (2, 1, 1, 1)
    );
    let exchange = summary.exchange;
    assert_eq!(
        (exchange.groups, exchange.blocks, exchange.readings),
        (1, 1, 4)
    );
    assert_eq!(
        (
            exchange.without_peers,
            exchange.summaries,
            exchange.cut_summaries
        ),
        (1, 4, 1)
    );
}

#[test]
fn order_and_shards_change_nothing() {
    let bytes = |groups| serde_json::to_string(&score_all(groups).unwrap()).unwrap();
    let expected = bytes(two_groups());
    let reversed: Vec<Trace> = two_groups().into_iter().rev().collect();
    assert_eq!(bytes(reversed), expected);
    for turn in 1..8 {
        let mut turned = two_groups();
        turned.rotate_left(turn);
        assert_eq!(bytes(turned), expected, "turned by {turn}");
    }
    let (even, odd): (Vec<_>, Vec<_>) = two_groups()
        .into_iter()
        .enumerate()
        .partition(|(at, _)| at % 2 == 0);
    let sharded = odd
        .into_iter()
        .chain(even)
        .map(|(_, trace)| trace)
        .collect();
    assert_eq!(bytes(sharded), expected);
}

#[test]
fn a_summary_survives_its_file() {
    let summary = score_all(two_groups()).unwrap();
    let text = serde_json::to_string(&summary).unwrap();
    assert_eq!(serde_json::from_str::<Summary>(&text).unwrap(), summary);
}

#[test]
fn problems_without_all_groups_are_named() {
    let mut groups = two_groups();
    groups.retain(|trace| trace.problem != "b" && !(trace.problem == "c" && trace.group == 1));
    let summary = score_all(groups).unwrap();
    assert_eq!(summary.missing, ["b"]);
    assert_eq!(summary.incomplete, ["c"]);
    assert_eq!(summary.problems, 3);
    assert_eq!(summary.scores.pass_at_1.group_se, None, "`c` has one group");
}

#[track_caller]
fn check_error(change: impl Fn(&mut Vec<Trace>), expected: &str) {
    let mut groups = two_groups();
    change(&mut groups);
    assert_eq!(score_all(groups).unwrap_err().to_string(), expected);
}

#[test]
fn groups_that_do_not_belong_together_are_named() {
    check_error(
        |groups| groups[2].problem = "x".into(),
        "found group 0 of problem `x`, which is not among the problems",
    );
    check_error(
        |groups| groups.push(group("c", 1, "1 1 1 1")),
        "group 1 of problem `c` is there twice",
    );
    check_error(
        |groups| groups[6].counted.truncate(3),
        "group 1 of problem `c` has 3 paths, others have 4",
    );
    check_error(
        |groups| groups[6].paths.truncate(3),
        "group 1 of problem `c` is broken: the trace names path 3, but has 3 paths",
    );
    check_error(
        |groups| groups[7].method = Method::Leap,
        "group 1 of problem `d` has method `leap`, others have `cot`",
    );
    check_error(
        |groups| groups[5].origin.model = "other".into(),
        "group 1 of problem `b` has model `other`, others have `model`",
    );
    check_error(
        |groups| groups[5].origin.seed = 2,
        "group 1 of problem `b` has seed `2`, others have `1`",
    );
    check_error(
        |groups| groups[1].version = 9,
        "group 0 of problem `b` has version 9, but this build reads 1",
    );
    check_error(Vec::clear, "there is no path to score");
    check_error(
        |groups| groups.iter_mut().for_each(|group| group.counted.clear()),
        "there is no path to score",
    );
    let twice = [problem("a", "1"), problem("a", "2")];
    let error = score(&row("row"), &twice, std::iter::empty()).unwrap_err();
    assert_eq!(error, ScoreError::DoubledProblem("a".into()));
}

#[test]
fn shards_of_two_devices_are_one_row() {
    let mut groups = two_groups();
    groups[3].origin.device = "cuda:0 bf16".into();
    assert_eq!(
        score_all(groups).unwrap().devices,
        ["cpu f32", "cuda:0 bf16"]
    );
}

#[test]
fn rows_are_compared_problem_by_problem() {
    let baseline = scored("base", ["7 9 9 -", "12 12 5 5", "3 3 2 1", "8 8 4 -"]);
    let found = compare(&scored("LeaP-T", ANSWERS), &baseline).unwrap();
    // Differences 1/4, 0, 1/4, 0: variance 1/48, standard error sqrt(1/192), t(3) = 3.182446.
    check("difference", found.difference.estimate, 0.125);
    check("its error", found.difference.se.unwrap(), 0.072_169);
    check("its lower end", found.difference.low, -0.104_673);
    check("its upper end", found.difference.high, 0.354_673);
    assert_eq!(
        (found.problems, found.better, found.same, found.worse),
        (4, 2, 2, 0)
    );
    assert_eq!(
        (found.row.as_str(), found.baseline.as_str()),
        ("LeaP-T", "base")
    );
    let back = compare(&baseline, &scored("LeaP-T", ANSWERS)).unwrap();
    check("the other way round", back.difference.estimate, -0.125);
}

#[test]
fn rows_over_other_problems_are_not_compared() {
    let mine = scored("row", ANSWERS);
    let other = [problem("z", "1")];
    let theirs = score(
        &row("base"),
        &other,
        std::iter::once(group("z", 0, "1 1 1 1")),
    )
    .unwrap();
    assert!(matches!(
        compare(&mine, &theirs),
        Err(CompareError::NothingShared { .. })
    ));
    let other = [problem("a", "8")];
    let theirs = score(
        &row("base"),
        &other,
        std::iter::once(group("a", 0, "1 1 1 1")),
    )
    .unwrap();
    let written = [problem("a", "007")];
    let same = score(
        &row("base"),
        &written,
        std::iter::once(group("a", 0, "1 1 1 1")),
    )
    .unwrap();
    assert_eq!(compare(&mine, &same).unwrap().problems, 1);
    let error = compare(&mine, &theirs).unwrap_err().to_string();
    assert_eq!(
        error,
        "problem `a` has answer `7` in row `row`, but `8` in `base`"
    );
}

/// A group whose paths claim something in the summaries of two blocks and answer: `9 7 7` claims 9,
/// then 7, and answers 7; `-` is nothing.
fn claiming(paths: &[&str]) -> Trace {
    let answers: Vec<&str> = paths.iter().map(|path| &path[4..]).collect();
    let mut trace = group("a", 0, &answers.join(" "));
    trace.method = Method::LeapT;
    for (path, claims) in trace.paths.iter_mut().zip(paths) {
        let claims: Vec<&str> = claims.split(' ').collect();
        for block in [1, 0] {
            let words = match claims[block] {
                "-" => " I am still looking. </summarize>".to_string(),
                claim => format!(" I get {claim} so far. </summarize>"),
            };
            let spans = [
                span(SpanKind::Trigger, Some(block as u32), 3, "<summarize>"),
                span(SpanKind::Summary, Some(block as u32), 6, &words),
            ];
            path.spans.splice(2..2, spans);
        }
    }
    trace
}

#[test]
fn claims_are_followed_from_block_to_block() {
    let trace = claiming(&["9 7 7", "7 9 9", "7 7 7", "- - 7", "7 - -", "9 9 9"]);
    let summary = score_all(vec![trace]).unwrap();
    let flips: Vec<[u64; 6]> = summary
        .flips
        .iter()
        .map(|it| {
            [
                it.paths,
                it.stayed_right,
                it.wrong_to_right,
                it.none_to_right,
                it.right_to_wrong,
                it.right_to_none,
            ]
        })
        .collect();
    assert_eq!(flips, [[6, 1, 1, 0, 1, 1], [6, 2, 0, 1, 0, 0]]);
    let paths = &summary.by_problem[0].groups[0].paths;
    let changed: Vec<Option<Flip>> = paths.iter().map(|path| path.flip()).collect();
    let (to, from) = (Some(Flip::ToRight), Some(Flip::FromRight));
    assert_eq!(changed, [to, from, None, None, from, None]);
}

#[test]
fn a_prompt_is_prefilled_once_for_its_group() {
    let summary = score_all(vec![exchanging("a", 0, "7 7")]).unwrap();
    // One prompt of 5 tokens; each path gets 3 + 4 + 1 tokens in its block.
    assert_eq!(summary.tokens.prefilled, 5 + 2 * 8);
    assert_eq!(summary.tokens.prompt(), 10);
}

#[test]
fn a_letter_that_no_option_has_is_no_answer() {
    let line = serde_json::json!({
        "id": "a", "problem": "Which?", "kind": "choice", "choices": ["x", "y"], "answer": "B",
    });
    let problems = [serde_json::from_value(line).unwrap()];
    let mut asked = group("a", 0, "B E A -");
    asked.setup.question.choices = vec!["x".into(), "y".into()];
    let groups = std::iter::once(asked.clone());
    let summary = score(&row("row"), &problems, groups).unwrap();
    let grades: Vec<Grade> = summary.by_problem[0].groups[0]
        .paths
        .iter()
        .map(|path| path.grade)
        .collect();
    let expected = [Grade::Right, Grade::NoAnswer, Grade::Wrong, Grade::NoAnswer];
    assert_eq!(grades, expected);
    // In another order the letters mean something else.
    asked.setup.question.choices.reverse();
    let error = score(&row("row"), &problems, std::iter::once(asked)).unwrap_err();
    assert!(matches!(error, ScoreError::OtherOptions { .. }), "{error}");
}

#[test]
fn pooled_parts_are_the_whole() {
    let whole = score_all(two_groups()).unwrap();
    let part = |wanted: [&str; 2]| {
        let groups = two_groups().into_iter();
        let groups = groups.filter(|group| wanted.contains(&group.problem.as_str()));
        let problems: Vec<_> = problems()
            .into_iter()
            .filter(|problem| wanted.contains(&problem.id.as_str()))
            .collect();
        score(&row("row"), &problems, groups).unwrap()
    };
    let (first, second) = (part(["a", "b"]), part(["c", "d"]));
    let pooled = pool(&row("row"), &[("x", &first), ("y", &second)]).unwrap();
    let ids: Vec<&str> = pooled.by_problem.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["x/a", "x/b", "y/c", "y/d"]);
    let mut renamed = pooled;
    for (problem, known) in renamed.by_problem.iter_mut().zip(&whole.by_problem) {
        problem.id.clone_from(&known.id);
    }
    assert_eq!(renamed, whole);
    assert_eq!(pool(&row("row"), &[]), None);
}
