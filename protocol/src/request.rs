//! The surface between a group and an engine: what is asked, and what comes back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::seed::Stream;

/// Which path of which group; `group` counts the groups of one `solve` call.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct PathKey {
    /// Index of the group among those solved together.
    pub group: u32,
    /// Index of the path in its group.
    pub path: u32,
}

/// How the next token is drawn.
///
/// The order is that of vLLM V1: temperature, min-p, top-k, top-p.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Divides the logits; 0 = greedy (ties go to the lower id).
    pub temperature: f32,
    /// Tokens kept by rank; 0 = all.
    pub top_k: usize,
    /// Smallest set of tokens whose probability reaches this, the crossing token kept; 1 = all.
    pub top_p: f32,
    /// Tokens below this share of the best token's probability are dropped; 0 = none.
    pub min_p: f32,
}

impl Sampling {
    /// The most probable token, always.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
    };
}

/// What ends a completion before its budget does.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Stop {
    /// Texts that end it, also when they end inside a token.
    pub strings: Vec<String>,
    /// Ids that end it.
    pub eos: Vec<u32>,
}

/// One thing a group asks of an engine: keep, append, go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// The path that is continued.
    pub key: PathKey,
    /// How many of the path's tokens stay; the rest is rolled back. 0 = a new path.
    pub keep: usize,
    /// Ids put behind the kept ones before sampling starts.
    pub append: Vec<u32>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// What ends the completion early.
    pub stop: Stop,
    /// Most tokens to sample, at least 1.
    pub max_tokens: usize,
    /// Whether the completion tells how probable its tokens were.
    #[serde(default)]
    pub logprobs: bool,
    /// Sampling noise; the token that becomes the path's token `i` reads position `i`.
    pub stream: Stream,
}

/// What an engine answers to one [`Request`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Completion {
    /// The path that was continued.
    pub key: PathKey,
    /// All sampled ids; the one that completed a stop string, or the end id, is the last of them.
    pub ids: Vec<u32>,
    /// Why sampling ended.
    pub finish: Finish,
    /// If asked for: for each of `ids`, the natural logarithm of the probability that the model
    /// gave it, before temperature and filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<f32>>,
}

impl Completion {
    /// What was sampled, without log-probabilities.
    pub fn new(key: PathKey, ids: Vec<u32>, finish: Finish) -> Self {
        Self {
            key,
            ids,
            finish,
            logprobs: None,
        }
    }

    /// A request that could not be served, and why.
    pub fn failed(key: PathKey, reason: impl Into<String>) -> Self {
        Self::new(key, Vec::new(), Finish::Failed(reason.into()))
    }
}

/// Why an engine stopped sampling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The budget is used up; the normal end of a turn.
    Length,
    /// The stop string with this index was completed.
    Stop(usize),
    /// An end id was sampled.
    Eos,
    /// The engine could not serve this request; the reason is for people.
    Failed(String),
    /// The request was cancelled.
    Cancelled,
}
