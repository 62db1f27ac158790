//! Intervals: what range of true scores the rows at hand are compatible with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{mean, resample, variance};
use crate::seed::Stream;

/// An estimate with its 95% interval.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// The estimate.
    pub estimate: f64,
    /// Its standard error; `None` if it cannot be computed (a single problem).
    pub se: Option<f64>,
    /// Lower end of the 95% interval.
    pub low: f64,
    /// Upper end of the 95% interval.
    pub high: f64,
}

/// The 97.5% quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;
/// Standard errors below this are rounding errors of equal scores.
pub(crate) const NO_SPREAD: f64 = 1e-12;

/// The 95% interval of the mean of `scores` in `0..=1`, one score per problem.
///
/// The mean plus or minus `t * SE` with Student's t at `M - 1` degrees of freedom, cut to
/// `0..=1`. Where all scores are equal the standard error is 0 and such an interval would be a
/// point (all problems solved does not mean that the next one is): then, and with a single
/// problem, it is Wilson's score interval for `M` trials. `None` of nothing.
pub fn mean_interval(scores: &[f64]) -> Option<Interval> {
    let estimate = mean(scores)?;
    let se = variance(scores).map(|v| (v / scores.len() as f64).sqrt());
    let spread = se.filter(|se| *se > NO_SPREAD);
    let (low, high) = match spread {
        Some(se) => {
            let half = t_quantile(scores.len() - 1) * se;
            ((estimate - half).max(0.0), (estimate + half).min(1.0))
        }
        None => {
            let trials = scores.len() as f64;
            let score = wilson(estimate.clamp(0.0, 1.0) * trials, trials);
            (score.low.min(estimate), score.high.max(estimate))
        }
    };
    Some(Interval {
        estimate,
        se,
        low,
        high,
    })
}

/// Wilson's 95% score interval for `right` successes of `trials` independent trials.
///
/// Source: Wilson 1927; it keeps its coverage at few trials and at shares of 0 and 1, where it
/// does not shrink to a point. `se` is the binomial standard error. With no trials the interval
/// is all of `0..=1` around one half.
pub fn wilson(right: f64, trials: f64) -> Interval {
    if trials <= 0.0 {
        return Interval {
            estimate: 0.5,
            se: None,
            low: 0.0,
            high: 1.0,
        };
    }
    let share = (right / trials).clamp(0.0, 1.0);
    let z2 = Z * Z / trials;
    let centre = (share + z2 / 2.0) / (1.0 + z2);
    let half = Z / (1.0 + z2) * (share * (1.0 - share) / trials + z2 / (4.0 * trials)).sqrt();
    Interval {
        estimate: share,
        se: Some((share * (1.0 - share) / trials).sqrt()),
        // At 0 and 1 the ends meet the estimate exactly; rounding must not cross it.
        low: (centre - half).clamp(0.0, share),
        high: (centre + half).clamp(share, 1.0),
    }
}

/// Percentile bootstrap over problems: 95% of the means of `rounds` resamples of `scores`.
///
/// The draws come from `stream`, so the same seed gives the same interval. Where all scores are
/// equal every resample is, too, and the interval is that of [`mean_interval`]. `None` without
/// scores or rounds.
pub fn bootstrap(scores: &[f64], rounds: u64, stream: &Stream) -> Option<Interval> {
    percentile(scores, mean_interval(scores)?, rounds, stream)
}

/// As [`bootstrap`], of the differences `b - a` of two runs, paired by problem: problems are
/// resampled, not runs. Where all differences are equal it is the interval of
/// [`super::paired_difference`].
pub fn paired_bootstrap(a: &[f64], b: &[f64], rounds: u64, stream: &Stream) -> Option<Interval> {
    let plain = super::paired_difference(a, b)?;
    let differences: Vec<f64> = a.iter().zip(b).map(|(x, y)| y - x).collect();
    percentile(&differences, plain, rounds, stream)
}

fn percentile(scores: &[f64], plain: Interval, rounds: u64, stream: &Stream) -> Option<Interval> {
    if rounds == 0 {
        return None;
    }
    if plain.se.is_none_or(|se| se <= NO_SPREAD) {
        return Some(plain);
    }
    let mut means: Vec<f64> = (0..rounds)
        .map(|round| resample(scores, stream, round))
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| {
        means[((share * (means.len() - 1) as f64).round() as usize).min(means.len() - 1)]
    };
    let se = variance(&means).map(f64::sqrt);
    Some(Interval {
        estimate: plain.estimate,
        se,
        low: at(0.025),
        high: at(0.975),
    })
}

/// The 97.5% quantile of Student's t distribution.
///
/// A table up to 30 degrees of freedom; above, the Cornish-Fisher expansion to the third order
/// (Abramowitz and Stegun 26.7.5), which is exact to six digits there. 0 degrees: infinite.
pub(crate) fn t_quantile(freedom: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706_204_7,
        4.302_652_7,
        3.182_446_3,
        2.776_445_1,
        2.570_581_8,
        2.446_911_9,
        2.364_624_3,
        2.306_004_1,
        2.262_157_2,
        2.228_138_9,
        2.200_985_2,
        2.178_812_8,
        2.160_368_7,
        2.144_786_7,
        2.131_449_5,
        2.119_905_3,
        2.109_815_6,
        2.100_922_0,
        2.093_024_1,
        2.085_963_4,
        2.079_613_8,
        2.073_873_1,
        2.068_657_6,
        2.063_898_6,
        2.059_538_6,
        2.055_529_4,
        2.051_830_5,
        2.048_407_1,
        2.045_229_6,
        2.042_272_5,
    ];
    match freedom {
        0 => f64::INFINITY,
        1..=30 => TABLE[freedom - 1],
        _ => {
            let n = freedom as f64;
            let z = Z;
            z + (z.powi(3) + z) / (4.0 * n)
                + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
                + (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z)
                    / (384.0 * n * n * n)
        }
    }
}
