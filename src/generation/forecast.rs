//! What a generation costs at most, before it starts.

use infer::generation::Shard;

use super::recipe::TracesRecipe;
use crate::evaluation::forecast::{hours, thousands};

/// Upper bounds of a generation.
pub(super) struct Forecast {
    groups: u64,
    paths: u64,
    tokens: u64,
}

impl Forecast {
    /// The bounds for this shard of so many problems.
    pub(super) fn of(recipe: &TracesRecipe, problems: usize, shard: Shard) -> Self {
        let mine = (0..problems).filter(|problem| shard.has(*problem)).count();
        let settings = recipe.settings();
        let groups = (mine as u64).saturating_mul(recipe.traces.groups.into());
        let paths = groups.saturating_mul(settings.all_paths() as u64);
        Self {
            groups,
            paths,
            tokens: paths.saturating_mul(settings.most_sampled() as u64),
        }
    }

    /// In words; with a rate in tokens a second also how long it takes.
    pub(super) fn words(&self, rate: Option<f64>) -> String {
        let mut text = format!(
            "{} groups, {} paths, at most {} tokens",
            self.groups,
            self.paths,
            thousands(self.tokens)
        );
        if let Some(rate) = rate.filter(|rate| *rate > 0.0) {
            let longest = hours(self.tokens as f64 / rate);
            text += &format!("; at {rate:.0} tokens/s, measured now, at most {longest}");
        }
        text
    }
}
