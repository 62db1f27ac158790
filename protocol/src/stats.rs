//! Scores of a run and how far they can be trusted.
//!
//! Everything is indexed problem, group, path. The paths of a group talk to each other, so they
//! are no independent draws: the unit of sampling is the *group*, the unit of generalisation is
//! the *problem*. Formulas follow Miller, "Adding Error Bars to Evals" (arXiv 2411.00640) and,
//! for pass@k, Chen et al., "Evaluating Large Language Models Trained on Code" (arXiv 2107.03374).
//!
//! No value is invented: what cannot be computed from the rows at hand is `None`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::grade::Grade;
use crate::seed::Stream;

mod interval;
mod vote;

pub use interval::{Interval, bootstrap, mean_interval, paired_bootstrap, wilson};
pub use vote::{Vote, cons_at_n, majority, shortest_majority};

/// What statistics need to know of one path.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PathScore {
    /// The verdict.
    pub grade: Grade,
    /// The canonical answer, see [`crate::grade::canonical`]; `None` if there is none.
    pub answer: Option<String>,
    /// How many tokens the path generated.
    pub tokens: u64,
}

impl PathScore {
    /// 1 for a right answer, otherwise 0.
    fn score(&self) -> f64 {
        if self.grade == Grade::Right { 1.0 } else { 0.0 }
    }
}

/// The paths of a run: problem, group, path.
pub type Problems = [Vec<Vec<PathScore>>];

/// An estimate with two standard errors: one for other problems, one for other samples.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// The score with its 95% interval over problems: how it would vary on other problems of
    /// the same sort.
    pub over_problems: Interval,
    /// Standard error over groups with the problems held fixed: how it would vary if the same
    /// problems were sampled again. `None` if some problem has a single group.
    pub group_se: Option<f64>,
}

/// Share of right paths: the mean over problems of the mean over groups of the mean over paths.
///
/// - Over problems: `SE = sqrt(sum_i (m_i - m)^2 / (M (M - 1)))` with problem means `m_i`, which
///   is Miller's clustered error with the problem as cluster (equal weights).
/// - Over groups: `SE = sqrt(sum_i s_i^2 / n_i) / M` with the variance `s_i^2` (over `n_i - 1`)
///   of the `n_i` group means of problem `i`.
///
/// Problems without paths are left out; `None` if nothing is left.
pub fn pass_at_1(problems: &Problems) -> Option<Estimate> {
    let scores = group_scores(problems, |paths| {
        mean(&paths.iter().map(PathScore::score).collect::<Vec<_>>())
    });
    estimate(&scores)
}

/// The estimate from one number per group.
fn estimate(groups: &[Vec<f64>]) -> Option<Estimate> {
    let means: Vec<f64> = groups.iter().filter_map(|g| mean(g)).collect();
    Some(Estimate {
        over_problems: mean_interval(&means)?,
        group_se: sampling_se(groups),
    })
}

/// One number per group and problem; empty groups are left out.
fn group_scores(problems: &Problems, score: impl Fn(&[PathScore]) -> Option<f64>) -> Vec<Vec<f64>> {
    let of = |groups: &Vec<Vec<PathScore>>| groups.iter().filter_map(|g| score(g)).collect();
    problems
        .iter()
        .map(of)
        .filter(|scores: &Vec<f64>| !scores.is_empty())
        .collect()
}

/// The mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    // A running mean would round differently for every order; a sum of 0s and 1s is exact.
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Mean over problems of the mean over samples (avg@n). Every problem weighs the same, however
/// many samples it has. `None` if there is no problem or one without samples.
pub fn avg_at_n(samples: &[Vec<f64>]) -> Option<f64> {
    let means: Option<Vec<f64>> = samples.iter().map(|s| mean(s)).collect();
    mean(&means?)
}

/// Standard error of [`avg_at_n`] over problems: `sqrt(sum_i (m_i - m)^2 / (M (M - 1)))`.
/// `None` with less than two problems.
pub fn problem_se(samples: &[Vec<f64>]) -> Option<f64> {
    let means: Option<Vec<f64>> = samples.iter().map(|s| mean(s)).collect();
    let means = means?;
    Some((variance(&means)? / means.len() as f64).sqrt())
}

/// Standard error of [`avg_at_n`] with the problems held fixed: `sqrt(sum_i s_i^2 / n_i) / M`,
/// where `s_i^2` divides by `n_i - 1`; for right-or-wrong samples that is
/// `sqrt(sum_i p_i (1 - p_i) / (n_i - 1)) / M`. `None` if a problem has less than two samples.
pub fn sampling_se(samples: &[Vec<f64>]) -> Option<f64> {
    if samples.is_empty() {
        return None;
    }
    let mut sum = 0.0;
    for of_problem in samples {
        sum += variance(of_problem)? / of_problem.len() as f64;
    }
    Some(sum.sqrt() / samples.len() as f64)
}

/// The variance with `n - 1` in the denominator; `None` of less than two values.
pub(crate) fn variance(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let centre = mean(values)?;
    let sum: f64 = values.iter().map(|v| (v - centre) * (v - centre)).sum();
    Some(sum / (values.len() - 1) as f64)
}

/// The chance that at least one of `k` samples is right, estimated without bias from `c` right
/// ones among `n`: `1 - C(n - c, k) / C(n, k)` (Chen et al., section 2.1).
///
/// `None` where it is undefined: `k` must be in `1..=n` and `c` in `0..=n`. Samples must be
/// independent; over the paths of one LeaP group the number only describes that group.
pub fn pass_at_k(n: u64, c: u64, k: u64) -> Option<f64> {
    if k == 0 || k > n || c > n {
        return None;
    }
    if c == 0 {
        return Some(0.0);
    }
    if n - c < k {
        return Some(1.0);
    }
    // C(n-c, k) / C(n, k) as a product of min(k, c) factors; through logarithms of 1 - x it
    // stays precise where the result is close to 0.
    let (rounds, other) = (k.min(c), k.max(c));
    let log: f64 = (0..rounds)
        .map(|i| (-(other as f64) / (n - i) as f64).ln_1p())
        .sum();
    Some(-log.exp_m1())
}

/// Mean of [`pass_at_k`] over problems, from the number of right samples of each out of `n`.
/// `None` if it is undefined for one of them.
pub fn mean_pass_at_k(n: u64, right: &[u64], k: u64) -> Option<f64> {
    let each: Option<Vec<f64>> = right.iter().map(|c| pass_at_k(n, *c, k)).collect();
    mean(&each?)
}

/// The difference `b - a` of two runs over the same problems, paired by problem.
///
/// `SE = sqrt(var(d_i) / M)` of the differences `d_i` of problem means (Miller, section 4.2):
/// what is hard for both runs cancels. The slices hold one score per problem in the same order;
/// `None` if their lengths differ or nothing is there.
pub fn paired_difference(a: &[f64], b: &[f64]) -> Option<Interval> {
    if a.len() != b.len() {
        return None;
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(x, y)| y - x).collect();
    let mut interval = mean_interval(&differences)?;
    // A difference of shares lies in -1..1, not in 0..1. Where no two differences differ, the
    // half-width is what Wilson's interval leaves open after as many equal trials.
    let half = match interval.se.filter(|se| *se > interval::NO_SPREAD) {
        Some(se) => interval::t_quantile(differences.len() - 1) * se,
        None => wilson(0.0, differences.len() as f64).high,
    };
    interval.low = (interval.estimate - half).max(-1.0);
    interval.high = (interval.estimate + half).min(1.0);
    Some(interval)
}

/// Mean score per problem, for [`paired_difference`]; problems without paths give `None`.
pub fn problem_means(problems: &Problems) -> Vec<Option<f64>> {
    problems
        .iter()
        .map(|groups| {
            let means: Vec<f64> = groups
                .iter()
                .filter_map(|paths| mean(&paths.iter().map(PathScore::score).collect::<Vec<_>>()))
                .collect();
            mean(&means)
        })
        .collect()
}

/// How much the paths of a group fail together: the intra-class correlation of right and wrong
/// within groups, with the problem's difficulty taken out.
///
/// One-way analysis of variance of the paths of problem `i` by group, pooled over problems:
/// `(MSB - MSW) / (MSB + (n0 - 1) MSW)`, where `MSB` is the mean square between the groups of a
/// problem, `MSW` that within groups, and `n0` the (adjusted) group size. 0: paths of a group
/// are as independent as paths of different groups; 1: they stand and fall together; negative:
/// they divide the work. `None` without two groups of two paths on some problem, or if every
/// path of every problem has the same verdict.
pub fn error_correlation(problems: &Problems) -> Option<f64> {
    let (mut between, mut within) = (0.0, 0.0);
    let (mut between_freedom, mut within_freedom) = (0.0, 0.0);
    let mut size_sum = 0.0;
    for groups in problems {
        let groups: Vec<Vec<f64>> = groups
            .iter()
            .filter(|g| !g.is_empty())
            .map(|g| g.iter().map(PathScore::score).collect())
            .collect();
        if groups.len() < 2 {
            continue;
        }
        let all: Vec<f64> = groups.iter().flatten().copied().collect();
        let (count, centre) = (all.len() as f64, mean(&all)?);
        let mut squares = 0.0;
        for group in &groups {
            let (size, middle) = (group.len() as f64, mean(group)?);
            between += size * (middle - centre) * (middle - centre);
            within += group
                .iter()
                .map(|x| (x - middle) * (x - middle))
                .sum::<f64>();
            squares += size * size;
        }
        between_freedom += (groups.len() - 1) as f64;
        within_freedom += count - groups.len() as f64;
        size_sum += count - squares / count;
    }
    if between_freedom == 0.0 || within_freedom == 0.0 {
        return None;
    }
    let (between, within) = (between / between_freedom, within / within_freedom);
    let size = size_sum / between_freedom;
    let total = between + (size - 1.0) * within;
    (total > 0.0).then(|| (between - within) / total)
}

/// Resamples `values` with replacement; one value of the stream per draw.
fn resample(values: &[f64], stream: &Stream, round: u64) -> f64 {
    let n = values.len();
    let sum: f64 = (0..n)
        .map(|i| values[stream.below(round * n as u64 + i as u64, n)])
        .sum();
    sum / n as f64
}
