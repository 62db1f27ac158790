//! Where filters draw the line.

use serde::{Deserialize, Serialize};

/// Where filters draw the line; part of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterSettings {
    /// Most tokens of a path, prompt and comments included.
    pub max_tokens: usize,
    /// Most tokens of a summary. Source: paper, section 4.1 (256).
    pub summary_tokens: usize,
    /// Least tokens of a summary.
    pub summary_least: usize,
    /// Most similarity (indel ratio, 0 to 1) of a summary to the path's summary before it.
    pub progress: f64,
    /// Most similarity (indel ratio, 0 to 1) of a summary to one that the path had heard.
    pub copying: f64,
    /// Most repeated share of runs of 20 tokens, 0 to 1.
    pub repetition: f64,
    /// Most words of doubt in 1,000 words.
    pub hesitation: f64,
    /// Most letters of foreign scripts, 0 to 1.
    pub language: f64,
    /// Least uptake, 0 to 1.
    pub uptake: f64,
    /// Least and greatest share of right paths in a group, 0 to 1.
    pub pass_rate: [f64; 2],
    /// Share of the groups above that whose paths pass all the same, drawn by problem and group: a
    /// path that is right among right ones teaches not to be swayed.
    pub all_right: f64,
}

/// A line that cannot be drawn there.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{key}` is {value}, but must be {range}")]
pub struct SettingsError {
    key: &'static str,
    value: f64,
    range: &'static str,
}

impl FilterSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn check(&self) -> Result<(), SettingsError> {
        let shares = [
            ("progress", self.progress),
            ("copying", self.copying),
            ("repetition", self.repetition),
            ("language", self.language),
            ("uptake", self.uptake),
            ("pass_rate", self.pass_rate[0]),
            ("pass_rate", self.pass_rate[1]),
            ("all_right", self.all_right),
        ];
        let fault = |key, value, range| Err(SettingsError { key, value, range });
        if let Some((key, value)) = shares.into_iter().find(|(_, v)| !(0.0..=1.0).contains(v)) {
            return fault(key, value, "from 0 to 1");
        }
        if self.pass_rate[0] > self.pass_rate[1] {
            return fault(
                "pass_rate",
                self.pass_rate[0],
                "two shares, the smaller one first",
            );
        }
        if !(0.0..=1000.0).contains(&self.hesitation) {
            return fault("hesitation", self.hesitation, "from 0 to 1000");
        }
        for (key, value) in [
            ("max_tokens", self.max_tokens),
            ("summary_tokens", self.summary_tokens),
        ] {
            if value == 0 {
                return fault(key, 0.0, "at least 1");
            }
        }
        Ok(())
    }
}
