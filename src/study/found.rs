//! What the seeds of a study come to together.

use anyhow::{Context, Result};
use infer::report::{Fact, Report};
use infer::score::{self, BlockFlips, Comparison, Summary, compare, pool};
use protocol::Method;
use protocol::stats::{Interval, paired_difference};
use serde::Serialize;

use super::recipe::StudyRecipe;

/// The rows of each seed, by their folder names.
pub(super) type Seeds = [(u64, Vec<(String, Summary)>)];

/// study.json: shares from 0 to 1, tokens a path on average.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    version: u32,
    title: String,
    seeds: Vec<u64>,
    rows: Vec<RowFound>,
    claims: Vec<ClaimFound>,
}

/// A row over all seeds.
#[derive(Debug, Serialize)]
struct RowFound {
    name: String,
    title: String,
    method: Method,
    /// Problems of all seeds together.
    problems: usize,
    groups: usize,
    paths: usize,
    /// Over the problems of all seeds.
    pass_at_1: Interval,
    vote: Interval,
    /// See [`score::Scores::error_correlation`].
    error_correlation: Option<f64>,
    no_answer: f64,
    sampled_tokens: f64,
    injected_tokens: f64,
    flips: Vec<BlockFlips>,
    by_seed: Vec<BySeed>,
}

/// A row with one seed.
#[derive(Debug, Serialize)]
struct BySeed {
    seed: u64,
    pass_at_1: Interval,
    vote: Interval,
}

/// A row against another one.
#[derive(Debug, Serialize)]
struct ClaimFound {
    row: String,
    against: String,
    /// Over the problems of all seeds, paired by problem.
    pooled: Comparison,
    /// With each seed, paired by problem.
    by_seed: Vec<Difference>,
    /// Over the seeds, each one number: holds what training differs by as well; none with one seed.
    over_seeds: Option<Interval>,
    /// Whether the row is better with every seed, and the pooled interval excludes zero.
    holds: bool,
}

/// A difference of Pass@1 with one seed.
#[derive(Debug, Serialize)]
struct Difference {
    seed: u64,
    difference: Interval,
}

impl Found {
    /// # Errors
    /// If a seed lacks a row, or rows cannot be compared.
    pub(super) fn new(recipe: &StudyRecipe, seeds: &Seeds) -> Result<Self> {
        let pooled = pooled(seeds)?;
        let rows = pooled.iter().map(|(name, row)| row_found(name, row, seeds));
        let claims = recipe.claims.iter().map(|claim| {
            let of = |name: &String| find(&pooled, name);
            let all = compare(of(&claim.row)?, of(&claim.against)?)?;
            let mut by_seed = Vec::new();
            for (seed, rows) in seeds {
                let difference = compare(find(rows, &claim.row)?, find(rows, &claim.against)?)?;
                by_seed.push(Difference {
                    seed: *seed,
                    difference: difference.difference,
                });
            }
            let estimates: Vec<f64> = by_seed.iter().map(|it| it.difference.estimate).collect();
            let over_seeds = paired_difference(&vec![0.0; estimates.len()], &estimates);
            Ok(ClaimFound {
                row: claim.row.clone(),
                against: claim.against.clone(),
                holds: estimates.iter().all(|it| *it > 0.0) && all.difference.low > 0.0,
                pooled: all,
                by_seed,
                over_seeds: over_seeds.filter(|_| estimates.len() > 1),
            })
        });
        Ok(Self {
            version: 1,
            title: recipe.title.clone(),
            seeds: recipe.seeds.clone(),
            rows: rows.collect::<Result<_>>()?,
            claims: claims.collect::<Result<_>>()?,
        })
    }

    /// The same for people.
    ///
    /// # Errors
    /// If a seed lacks a row.
    pub(super) fn report(
        &self,
        recipe: &StudyRecipe,
        seeds: &Seeds,
        device: &str,
        hash: &str,
    ) -> Result<Report> {
        let names: Vec<String> = recipe.seeds.iter().map(u64::to_string).collect();
        let rows = pooled(seeds)?.into_iter().map(|(_, row)| row);
        let mut notes = vec![
            "Rows are over the problems of all seeds together. Each seed has problems, a base and \
             students of its own."
                .to_owned(),
        ];
        notes.extend(self.claims.iter().map(|claim| claim.words(&self.rows)));
        Ok(Report {
            title: recipe.title.clone(),
            facts: vec![
                Fact::new("Recipe", &hash[..12]),
                Fact::new("Seeds", names.join(", ")),
                Fact::new("Device", device),
            ],
            rows: rows.collect(),
            comparisons: self.claims.iter().map(|it| it.pooled.clone()).collect(),
            notes,
            ..Report::default()
        })
    }
}

impl ClaimFound {
    fn words(&self, rows: &[RowFound]) -> String {
        let title = |name: &str| {
            let row = rows.iter().find(|row| row.name == name);
            row.map_or(name.to_owned(), |row| row.title.clone())
        };
        let seeds: Vec<String> = self
            .by_seed
            .iter()
            .map(|it| format!("{} with seed {}", points(&it.difference), it.seed))
            .collect();
        let over = self
            .over_seeds
            .as_ref()
            .map_or(String::new(), |it| format!(", over seeds {}", points(it)));
        let verdict = match self.holds {
            true => "better with every seed, and the pooled interval excludes zero",
            false => "not shown",
        };
        format!(
            "{} against {}, points of Pass@1: {} pooled{over}; {}: {verdict}.",
            title(&self.row),
            title(&self.against),
            points(&self.pooled.difference),
            seeds.join(", "),
        )
    }
}

/// An interval in points.
fn points(it: &Interval) -> String {
    let [middle, low, high] = [it.estimate, it.low, it.high].map(|it| 100.0 * it);
    format!("{middle:+.1} [{low:+.1}, {high:+.1}]")
}

/// Every row over all seeds, in the order of the first seed.
fn pooled(seeds: &Seeds) -> Result<Vec<(String, Summary)>> {
    let (_, first) = seeds.first().context("a study has a seed")?;
    let labels: Vec<String> = seeds
        .iter()
        .map(|(seed, _)| format!("seed-{seed}"))
        .collect();
    first
        .iter()
        .map(|(name, row)| {
            let parts = labels
                .iter()
                .zip(seeds)
                .map(|(label, (_, rows))| find(rows, name).map(|row| (label.as_str(), row)));
            let parts = parts.collect::<Result<Vec<_>>>()?;
            let about = score::Row {
                name: row.name.clone(),
                title: row.title.clone(),
                settings: row.settings.clone(),
            };
            let all = pool(&about, &parts);
            let all = all.with_context(|| format!("row `{name}` differs between the seeds"))?;
            Ok((name.clone(), all))
        })
        .collect()
}

fn row_found(name: &str, row: &Summary, seeds: &Seeds) -> Result<RowFound> {
    let by_seed = seeds.iter().map(|(seed, rows)| {
        let scores = &find(rows, name)?.scores;
        Ok(BySeed {
            seed: *seed,
            pass_at_1: scores.pass_at_1.over_problems,
            vote: scores.cons_at_n.over_problems,
        })
    });
    Ok(RowFound {
        name: name.to_owned(),
        title: row.name.clone(),
        method: row.method,
        problems: row.problems,
        groups: row.groups,
        paths: row.paths,
        pass_at_1: row.scores.pass_at_1.over_problems,
        vote: row.scores.cons_at_n.over_problems,
        error_correlation: row.scores.error_correlation,
        no_answer: row.scores.no_answer,
        sampled_tokens: row.tokens.per_path(row.tokens.sampled()),
        injected_tokens: row.tokens.per_path(row.tokens.injected()),
        flips: row.flips.clone(),
        by_seed: by_seed.collect::<Result<_>>()?,
    })
}

fn find<'a>(rows: &'a [(String, Summary)], name: &str) -> Result<&'a Summary> {
    let found = rows.iter().find(|(known, _)| known == name);
    Ok(&found
        .with_context(|| format!("a seed has no row `{name}`"))?
        .1)
}
