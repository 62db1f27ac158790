//! What an evaluation will cost at most, before it starts.

use anyhow::Result;

use super::recipe::EvalRecipe;

/// Upper bounds over all rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forecast {
    /// Groups of all rows.
    pub(crate) groups: u64,
    /// Paths of all rows.
    pub(crate) paths: u64,
    /// Tokens that all paths sample if every one uses its whole budget.
    pub(crate) tokens: u64,
    /// Rows whose baselines are not in it: their size is known when they are run.
    pub(crate) matched: usize,
}

impl Forecast {
    /// The bounds for `problems` problems.
    ///
    /// # Errors
    /// If a row's settings cannot work.
    pub(crate) fn of(recipe: &EvalRecipe, problems: usize) -> Result<Self> {
        let mut forecast = Self::default();
        for row in &recipe.eval.rows {
            let mut add = |settings: &protocol::Settings, groups: u64| {
                let paths = groups.saturating_mul(settings.all_paths() as u64);
                let tokens = paths.saturating_mul(settings.most_sampled() as u64);
                forecast.groups = forecast.groups.saturating_add(groups);
                forecast.paths = forecast.paths.saturating_add(paths);
                forecast.tokens = forecast.tokens.saturating_add(tokens);
            };
            match (row.method.method(), &row.trap) {
                (Some(method), _) => {
                    let groups = problems as u64 * u64::from(recipe.eval.groups);
                    add(&recipe.settings(row, method)?, groups);
                }
                (None, Some(trap)) => {
                    let mut settings = recipe.settings(row, trap.method)?;
                    settings.paths = trap.continuations;
                    add(&settings, 2 * trap.choice.problems.min(problems) as u64);
                }
                (None, None) => {}
            }
            forecast.matched += usize::from(recipe.is_matched(row));
        }
        Ok(forecast)
    }

    /// In words; with `rate` in tokens a second also how long it takes.
    pub(crate) fn words(&self, rate: Option<f64>) -> String {
        let mut text = format!(
            "{} groups, {} paths, at most {} tokens",
            self.groups,
            self.paths,
            thousands(self.tokens)
        );
        if self.matched > 0 {
            text += match self.matched {
                1 => ", and for the baseline as many as its row will sample",
                _ => ", and for each baseline as many as its row will sample",
            };
        }
        if let Some(rate) = rate.filter(|rate| *rate > 0.0) {
            text += &format!(
                "; at {rate:.0} tokens/s, measured now, at most {}",
                hours(self.tokens as f64 / rate)
            );
        }
        text
    }
}

/// A number of tokens as people say it.
pub(crate) fn thousands(tokens: u64) -> String {
    match tokens {
        _ if tokens < 10_000 => tokens.to_string(),
        _ if tokens < 10_000_000 => format!("{:.0} thousand", tokens as f64 / 1e3),
        _ => format!("{:.1} million", tokens as f64 / 1e6),
    }
}

/// A time as people say it.
pub(crate) fn hours(seconds: f64) -> String {
    match seconds {
        _ if seconds < 1.5 => "a second".to_owned(),
        _ if seconds < 90.0 => format!("{seconds:.0} seconds"),
        _ if seconds < 5400.0 => format!("{:.0} minutes", seconds / 60.0),
        _ if seconds < 1e8 => format!("{:.1} hours", seconds / 3600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}
