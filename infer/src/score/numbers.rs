//! The scores of a row, from its verdicts.
//!
//! The estimators are those of [`protocol::stats`]; this is only about what they are given.

use std::collections::{BTreeMap, BTreeSet};

use protocol::Stream;
use protocol::grade::Grade;
use protocol::stats::{self, Estimate, mean};

use super::summary::{BlockFlips, GroupScore, PassAtK, PathScore, ProblemScore, Scores};

/// Resamples of a bootstrap interval.
pub(super) const RESAMPLES: u64 = 2000;

/// The draws of every bootstrap: scores are a function of the groups, and need no seed.
pub(super) fn draws() -> Stream {
    Stream::of_run(0).named("bootstrap")
}

/// The verdict on a group, its vote included.
pub(super) fn group_score(group: u32, paths: Vec<PathScore>) -> GroupScore {
    let vote = stats::majority(&seen_by_stats(&paths));
    GroupScore {
        group,
        vote: vote.winners,
        vote_score: vote.score,
        paths,
    }
}

/// Every score of a row; `None` if it has no path.
pub(super) fn scores(problems: &[ProblemScore]) -> Option<Scores> {
    let verdicts: Vec<Vec<Vec<stats::PathScore>>> = problems
        .iter()
        .map(|problem| {
            problem
                .groups
                .iter()
                .map(|group| seen_by_stats(&group.paths))
                .collect()
        })
        .collect();
    let groups = || problems.iter().flat_map(|problem| &problem.groups);
    let silent: Vec<f64> = groups()
        .flat_map(|group| &group.paths)
        .map(|path| f64::from(path.grade == Grade::NoAnswer))
        .collect();
    let paths = groups().next().map_or(0, |group| group.paths.len());
    let pass_at_1: Estimate = stats::pass_at_1(&verdicts)?;
    let means: Vec<f64> = problems.iter().map(ProblemScore::pass_at_1).collect();
    Some(Scores {
        pass_at_1,
        bootstrap: stats::bootstrap(&means, RESAMPLES, &draws()),
        cons_at_n: stats::cons_at_n(&verdicts)?,
        shortest_majority: stats::shortest_majority(&verdicts)?,
        pass_at_k: ladder(paths)
            .filter_map(|k| pass_at_k(problems, k))
            .collect(),
        no_answer: mean(&silent)?,
        error_correlation: stats::error_correlation(&verdicts),
        answers_per_group: mean(&groups().map(different_answers).collect::<Vec<_>>())?,
    })
}

fn seen_by_stats(paths: &[PathScore]) -> Vec<stats::PathScore> {
    let one = |path: &PathScore| stats::PathScore {
        grade: path.grade,
        answer: path.answer.clone(),
        tokens: path.sampled,
    };
    paths.iter().map(one).collect()
}

/// 1, 2, 4, ... and `paths`.
fn ladder(paths: usize) -> impl Iterator<Item = usize> {
    let powers = std::iter::successors(Some(1), |k| Some(k * 2));
    powers
        .take_while(move |k| *k < paths)
        .chain((paths > 0).then_some(paths))
}

/// The mean over problems of the mean over groups; paths of different groups are not mixed.
fn pass_at_k(problems: &[ProblemScore], k: usize) -> Option<PassAtK> {
    let of_group = |group: &GroupScore| {
        let right = group
            .paths
            .iter()
            .filter(|path| path.grade == Grade::Right)
            .count();
        stats::pass_at_k(group.paths.len() as u64, right as u64, k as u64)
    };
    let by_group: Option<Vec<Vec<f64>>> = problems
        .iter()
        .map(|problem| problem.groups.iter().map(of_group).collect())
        .collect();
    Some(PassAtK {
        k,
        value: stats::avg_at_n(&by_group?)?,
    })
}

/// What became of claims, by block.
pub(super) fn flips(problems: &[ProblemScore]) -> Vec<BlockFlips> {
    let mut blocks: BTreeMap<u32, BlockFlips> = BTreeMap::new();
    let groups = problems.iter().flat_map(|problem| &problem.groups);
    for path in groups.flat_map(|group| &group.paths) {
        let after = path.claims.iter().skip(1).map(|claim| claim.grade);
        for (claim, after) in path.claims.iter().zip(after.chain([path.grade])) {
            let flips = blocks.entry(claim.block).or_insert_with(|| BlockFlips {
                block: claim.block,
                ..BlockFlips::default()
            });
            flips.paths += 1;
            match (claim.grade, after) {
                (Grade::Right, Grade::Right) => flips.stayed_right += 1,
                (Grade::Wrong, Grade::Right) => flips.wrong_to_right += 1,
                (Grade::NoAnswer, Grade::Right) => flips.none_to_right += 1,
                (Grade::Right, Grade::Wrong) => flips.right_to_wrong += 1,
                (Grade::Right, Grade::NoAnswer) => flips.right_to_none += 1,
                _ => {}
            }
        }
    }
    blocks.into_values().collect()
}

fn different_answers(group: &GroupScore) -> f64 {
    let answers = group.paths.iter().filter_map(|path| path.answer.as_deref());
    answers.collect::<BTreeSet<_>>().len() as f64
}
