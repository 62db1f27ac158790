//! What a group is made of: everything that decides its requests, besides what engines answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::Question;
use crate::prompt::{PromptSet, PromptSetError};
use crate::seed::Stream;
use crate::settings::{Settings, SettingsError};
use crate::vocab::TemplateError;

/// What a group is made of. A trace carries it, so that the group can be driven again.
///
/// There is no place for an answer in it: what a group asks of an engine cannot depend on gold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// What is asked.
    pub question: Question,
    /// How the paths work.
    pub settings: Settings,
    /// The sentences of the protocol.
    pub prompts: PromptSet,
    /// Source of every random choice, derived from run seed, problem and group.
    pub stream: Stream,
    /// The longest path the engine can hold, in tokens.
    pub positions: usize,
    /// What paths are made to begin with instead of a thought of their own: path `i` begins with
    /// entry `i` modulo their number. Empty but in the prefix dominance trap (paper, section 2.1).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beginnings: Vec<Vec<u32>>,
    /// The first so many paths are planted: somebody else writes them. Their peers hear them like any
    /// other, but their answers are not the group's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub planted: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Why a group cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A setting cannot work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A sentence cannot work.
    #[error(transparent)]
    Prompts(#[from] PromptSetError),
    /// The chat template refuses the question.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Nobody is left whose answer counts.
    #[error("{planted} paths are planted, but the group has {paths}: at least one must be its own")]
    AllPlanted {
        /// Planted paths.
        planted: u32,
        /// Paths of the group.
        paths: usize,
    },
    /// The prompt leaves no room for a thought and an answer.
    #[error(
        "the prompt has {prompt} tokens and an answer needs {answer}, but the model has \
         {positions} positions"
    )]
    TooLong {
        /// Tokens of the prompt, with what the path is made to begin with.
        prompt: usize,
        /// Tokens an answer needs, its forced opening included.
        answer: usize,
        /// Positions of the model.
        positions: usize,
    },
}
