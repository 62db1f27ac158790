//! Intervals that say 95% must cover the truth in 95% of evaluations: 1,000 simulated ones with
//! known chances, for every kind of interval that is reported.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where something is not as it must be, and says what it measured"
)]

use protocol::Stream;
use protocol::grade::Grade;
use protocol::stats::{
    PathScore, bootstrap, cons_at_n, paired_bootstrap, paired_difference, pass_at_1, problem_means,
};

const EVALUATIONS: u64 = 1000;
const PROBLEMS: usize = 60;
const GROUPS: usize = 4;
const PATHS: usize = 8;
/// Chance that all paths of a group share one fate, as paths that talk do.
const TOGETHER: f64 = 0.3;

/// Chance of a right path on a problem: from hopeless to certain, even in between.
fn difficulty(stream: &Stream) -> f64 {
    match stream.below(0, 10) {
        0 => 0.02,
        1 => 0.98,
        _ => 0.05 + 0.9 * stream.uniform(1),
    }
}

/// Its mean over all problems there could be.
const MEAN: f64 = 0.1 * 0.02 + 0.1 * 0.98 + 0.8 * 0.5;

fn group(chance: f64, stream: &Stream) -> Vec<PathScore> {
    let together = (stream.uniform(0) < TOGETHER).then(|| stream.uniform(1) < chance);
    let path = |index: usize| {
        let right = together.unwrap_or_else(|| stream.uniform(2 + index as u64) < chance);
        PathScore {
            grade: if right { Grade::Right } else { Grade::Wrong },
            answer: Some(if right { "1".into() } else { "0".into() }),
            tokens: 1,
        }
    };
    (0..PATHS).map(path).collect()
}

fn evaluation(chances: &[f64], stream: &Stream) -> Vec<Vec<Vec<PathScore>>> {
    let of_problem = |(place, chance): (usize, &f64)| {
        let stream = stream.indexed(place as u64);
        let groups = (0..GROUPS as u64).map(|g| group(*chance, &stream.indexed(g)));
        groups.collect()
    };
    chances.iter().enumerate().map(of_problem).collect()
}

fn chances(stream: &Stream) -> Vec<f64> {
    let one = |place: u64| difficulty(&stream.indexed(place));
    (0..PROBLEMS as u64).map(one).collect()
}

/// Counts how often an interval holds the truth.
#[derive(Default)]
struct Coverage(u64);

impl Coverage {
    fn add(&mut self, low: f64, truth: f64, high: f64) {
        self.0 += u64::from(low <= truth && truth <= high);
    }

    #[track_caller]
    fn check(&self, what: &str) {
        let share = self.0 as f64 / EVALUATIONS as f64;
        eprintln!("{what}: {:.1}%", 100.0 * share);
        assert!((0.93..=0.97).contains(&share), "{what} covers {share}");
    }
}

#[test]
fn intervals_over_problems_cover_other_problems() {
    let run = Stream::of_run(1).named("over problems");
    let (mut plain, mut resampled) = (Coverage::default(), Coverage::default());
    for number in 0..EVALUATIONS {
        let stream = run.indexed(number);
        let scores = evaluation(&chances(&stream.named("chances")), &stream.named("paths"));
        let found = pass_at_1(&scores).unwrap().over_problems;
        plain.add(found.low, MEAN, found.high);
        let means: Vec<f64> = problem_means(&scores).into_iter().flatten().collect();
        let found = bootstrap(&means, 600, &stream.named("bootstrap")).unwrap();
        resampled.add(found.low, MEAN, found.high);
    }
    plain.check("Pass@1, Student's t over problems");
    resampled.check("Pass@1, bootstrap over problems");
}

#[test]
fn errors_over_groups_cover_new_groups_on_the_same_problems() {
    let run = Stream::of_run(2).named("over groups");
    let chances = chances(&run.named("chances"));
    let truth = chances.iter().sum::<f64>() / chances.len() as f64;
    let (mut pass, mut vote) = (Coverage::default(), Coverage::default());
    // The vote has no simple formula: its truth is what very many groups give.
    let many = run.named("many");
    let votes = (0..4000).map(|number| {
        let scores = evaluation(&chances, &many.indexed(number));
        cons_at_n(&scores).unwrap().over_problems.estimate
    });
    let vote_truth = votes.sum::<f64>() / 4000.0;
    for number in 0..EVALUATIONS {
        let scores = evaluation(&chances, &run.named("paths").indexed(number));
        let found = pass_at_1(&scores).unwrap();
        // 60 problems with 3 degrees of freedom each: the normal quantile.
        let half = 1.96 * found.group_se.unwrap();
        let middle = found.over_problems.estimate;
        pass.add(middle - half, truth, middle + half);
        let found = cons_at_n(&scores).unwrap();
        let half = 1.96 * found.group_se.unwrap();
        let middle = found.over_problems.estimate;
        vote.add(middle - half, vote_truth, middle + half);
    }
    pass.check("Pass@1, over groups");
    vote.check("Cons@8, over groups");
}

#[test]
fn intervals_of_differences_cover_the_difference() {
    const GAIN: f64 = 0.1;
    let run = Stream::of_run(3).named("differences");
    let (mut plain, mut resampled) = (Coverage::default(), Coverage::default());
    for number in 0..EVALUATIONS {
        let stream = run.indexed(number);
        let lot = stream.named("chances");
        let before: Vec<f64> = (0..PROBLEMS as u64)
            .map(|place| 0.05 + 0.8 * lot.uniform(place))
            .collect();
        // Some problems gain much, others lose a little.
        let after: Vec<f64> = before
            .iter()
            .enumerate()
            .map(|(place, chance)| {
                let own = 0.2 * (lot.named("gain").uniform(place as u64) - 0.5);
                (chance + GAIN + own).clamp(0.0, 1.0)
            })
            .collect();
        let truth = GAIN;
        let means = |chances: &[f64], name: &str| -> Vec<f64> {
            let scores = evaluation(chances, &stream.named(name));
            problem_means(&scores).into_iter().flatten().collect()
        };
        let (a, b) = (means(&before, "before"), means(&after, "after"));
        let found = paired_difference(&a, &b).unwrap();
        plain.add(found.low, truth, found.high);
        let found = paired_bootstrap(&a, &b, 600, &stream.named("bootstrap")).unwrap();
        resampled.add(found.low, truth, found.high);
    }
    plain.check("difference, Student's t");
    resampled.check("difference, bootstrap");
}
