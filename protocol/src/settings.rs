//! The settings of a group: how many paths, how long, and how they exchange.

use serde::{Deserialize, Serialize};

use crate::request::Sampling;
use crate::route::Router;
use crate::similarity::Similarity;

/// How the paths of a group work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Independent paths, no exchange.
    Cot,
    /// LeaP with a model that was not trained for it: the prompt shows a worked example.
    Leap,
    /// LeaP with a trained model: the plain prompt, and the model may open a summary itself.
    LeapT,
}

impl Method {
    /// The name used in recipes and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cot => "cot",
            Self::Leap => "leap",
            Self::LeapT => "leap-t",
        }
    }

    /// Whether paths exchange summaries.
    pub fn exchanges(self) -> bool {
        self != Self::Cot
    }
}

/// Everything about a group that changes its result, besides prompt and seed. All lengths in tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How the paths work together.
    pub method: Method,
    /// Paths in a group (N), at least 1.
    pub paths: usize,
    /// Thought tokens between two blocks (T).
    pub turn_tokens: usize,
    /// Tokens a path may sample for thoughts and summaries; injected ones are not counted.
    pub max_tokens: usize,
    /// Most tokens of one summary.
    pub summary_tokens: usize,
    /// Most tokens of an answer, after the thought is closed.
    pub answer_tokens: usize,
    /// Peers a path hears in a block (k).
    pub peers: usize,
    /// Which peers.
    pub router: Router,
    /// How alike summaries are.
    pub similarity: Similarity,
    /// How tokens are drawn.
    pub sampling: Sampling,
}

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A count that must be at least 1 is 0.
    #[error("`{0}` must be at least 1")]
    Zero(&'static str),
    /// A probability or temperature out of range.
    #[error("`{name}` is {value}, but must be {range}")]
    Range {
        /// The key.
        name: &'static str,
        /// What was given.
        value: String,
        /// What is allowed, in words.
        range: &'static str,
    },
}

impl Settings {
    /// Checks every value.
    ///
    /// # Errors
    /// The first value that cannot work.
    pub fn check(&self) -> Result<(), SettingsError> {
        let counts = [
            ("paths", self.paths),
            ("turn_tokens", self.turn_tokens),
            ("max_tokens", self.max_tokens),
            ("summary_tokens", self.summary_tokens),
            ("answer_tokens", self.answer_tokens),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(SettingsError::Zero(name));
        }
        let sampling = &self.sampling;
        let range = |name, value: f32, good: bool, range| match good {
            true => Ok(()),
            false => Err(SettingsError::Range {
                name,
                value: value.to_string(),
                range,
            }),
        };
        let t = sampling.temperature;
        range("temperature", t, t.is_finite() && t >= 0.0, "0 or more")?;
        let p = sampling.top_p;
        range("top_p", p, p > 0.0 && p <= 1.0, "above 0 and at most 1")?;
        let m = sampling.min_p;
        range(
            "min_p",
            m,
            (0.0..1.0).contains(&m),
            "at least 0 and below 1",
        )
    }

    /// Most tokens a path can sample: thoughts, summaries and answer.
    pub fn most_sampled(&self) -> usize {
        self.max_tokens + self.answer_tokens
    }
}
