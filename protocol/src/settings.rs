//! The settings of a group: how many paths, how long, and how they exchange.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::request::Sampling;
use crate::route::Router;
use crate::rules::Rules;
use crate::similarity::Similarity;

/// How the paths of a group work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Independent paths, no exchange.
    Cot,
    /// LeaP with a model that was not trained for it: the prompt shows a worked example.
    Leap,
    /// LeaP with a trained model: the plain prompt, and the model may open a summary itself.
    LeapT,
    /// LeaP for a start: after the first blocks one path goes on alone (paper, section 5.1.4).
    LeapS,
    /// Mixture of agents: layers of paths, each of which reads all answers of the layer before
    /// (paper, appendix F).
    Moa,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 5] = [Self::Cot, Self::Leap, Self::LeapT, Self::LeapS, Self::Moa];

    /// The name used in recipes and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cot => "cot",
            Self::Leap => "leap",
            Self::LeapT => "leap-t",
            Self::LeapS => "leap-s",
            Self::Moa => "moa",
        }
    }

    /// Whether paths exchange summaries.
    pub fn exchanges(self) -> bool {
        matches!(self, Self::Leap | Self::LeapT | Self::LeapS)
    }
}

/// What becomes of a path that has ended its thought while others still think.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finished {
    /// It leaves: nobody hears it any more. Source: paper, section 2.2, and the authors' code.
    #[default]
    Leave,
    /// The last summary it wrote stays readable; one that wrote none has nothing to say.
    Stay,
}

/// Which path goes on alone under [`Method::LeapS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The lowest of the paths that still think; the authors' code takes path 0.
    #[default]
    First,
    /// One by lot.
    Random,
    /// The one whose summary is most like the others' on average; ties go to the lower path.
    Central,
}

/// Settings of [`Method::LeapS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Single {
    /// Blocks that all paths share before one goes on alone, at least 1.
    pub blocks: usize,
    /// Which one goes on.
    pub keep: Keep,
    /// Whether the model was trained on LeaP traces: plain prompt, and it may open a summary.
    pub trained: bool,
}

impl Default for Single {
    fn default() -> Self {
        Self {
            blocks: 1,
            keep: Keep::First,
            trained: false,
        }
    }
}

/// Settings of [`Method::Moa`]; `paths` are the agents of a layer, and `max_tokens` and
/// `answer_tokens` the budgets of each agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Moa {
    /// Layers, at least 1.
    pub layers: usize,
    /// Agents of the last layer, whose answers count; at least 1. The authors' code has one.
    pub aggregators: usize,
}

impl Default for Moa {
    fn default() -> Self {
        Self {
            layers: 3,
            aggregators: 1,
        }
    }
}

/// Everything about a group that changes its result, besides prompt and seed. All lengths in tokens.
///
/// Budgets count what a path samples itself; injected and forced tokens are not counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How the paths work together.
    pub method: Method,
    /// Paths in a group (N), at least 1.
    pub paths: usize,
    /// Thought tokens between two blocks (T).
    pub turn_tokens: usize,
    /// Tokens a path may sample for thoughts and summaries.
    pub max_tokens: usize,
    /// A second limit, on thoughts alone: a path thinks at most this many times `turn_tokens`. A
    /// block that the path opens itself does not use a turn up. None = `max_tokens` alone decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<usize>,
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
    /// Ends of turns, from 0, at which the paths exchange; empty = all of them.
    #[serde(default)]
    pub blocks: Vec<usize>,
    /// What becomes of paths that end before the others.
    #[serde(default)]
    pub finished: Finished,
    /// How text is cut, summaries are closed and read, and hybrid routing fills up.
    #[serde(default)]
    pub rules: Rules,
    /// Of `leap-s`.
    #[serde(default)]
    pub single: Single,
    /// Of `moa`.
    #[serde(default)]
    pub moa: Moa,
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
            ("turns", self.turns.unwrap_or(1)),
            ("summary_tokens", self.summary_tokens),
            ("answer_tokens", self.answer_tokens),
            ("single.blocks", self.single.blocks),
            ("moa.layers", self.moa.layers),
            ("moa.aggregators", self.moa.aggregators),
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

    /// Whether the model was trained on LeaP traces, so that it is prompted plainly and may open a
    /// summary itself.
    pub fn trained(&self) -> bool {
        self.method == Method::LeapT || (self.method == Method::LeapS && self.single.trained)
    }

    /// Whether the prompt has to show what an exchange looks like.
    pub fn shows_example(&self) -> bool {
        self.method.exchanges() && !self.trained()
    }

    /// Paths of a group, those of all layers together.
    pub fn all_paths(&self) -> usize {
        match self.method {
            Method::Moa => {
                let before = self.paths.saturating_mul(self.moa.layers.saturating_sub(1));
                before.saturating_add(self.moa.aggregators)
            }
            _ => self.paths,
        }
    }

    /// Most tokens a path can sample: thoughts, summaries and answer.
    pub fn most_sampled(&self) -> usize {
        self.max_tokens.saturating_add(self.answer_tokens)
    }
}
