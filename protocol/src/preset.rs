//! Named bundles of settings: our default, and what published numbers were made with.

use serde::{Deserialize, Serialize};

use crate::request::Sampling;
use crate::route::Router;
use crate::rules::Rules;
use crate::settings::{Finished, Method, Moa, Settings, Single};
use crate::similarity::Similarity;

/// A bundle of settings and the prompt set that goes with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// What we recommend.
    #[default]
    Default,
    /// What the paper says its main tables were made with (sections 2.2 and 3.1).
    Paper,
    /// What the released code does by default (`leap.py` and `scripts/leap_7B.sh` at 589ff64).
    AuthorsCode,
}

/// One setting in which a preset differs from [`Preset::Default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key, as in a recipe's `[protocol]` table; `prompts` is the prompt set.
    pub key: &'static str,
    /// What it is, and where it comes from.
    pub why: &'static str,
}

/// Where the authors' wording is expected: it is imported, and not part of this project.
pub const OFFICIAL_PROMPTS: &str = "official.toml";

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 3] = [Self::Default, Self::Paper, Self::AuthorsCode];

    /// The name used in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Paper => "paper",
            Self::AuthorsCode => "authors-code",
        }
    }

    /// The settings of a group that works by `method`.
    pub fn settings(self, method: Method) -> Settings {
        let default = Settings {
            method,
            paths: 8,
            turn_tokens: 4096,
            max_tokens: 16_384,
            turns: None,
            summary_tokens: 256,
            answer_tokens: 1024,
            peers: 4,
            router: Router::Dispersed,
            similarity: Similarity::Levenshtein,
            blocks: Vec::new(),
            finished: Finished::Leave,
            rules: Rules::Clean,
            single: Single::default(),
            moa: Moa::default(),
            sampling: Sampling {
                temperature: 0.6,
                top_k: 40,
                top_p: 0.95,
                min_p: 0.0,
            },
        };
        match self {
            Self::Default => default,
            Self::Paper => Settings {
                paths: 32,
                moa: Moa {
                    layers: 4,
                    ..default.moa
                },
                ..default
            },
            Self::AuthorsCode => Settings {
                paths: 4,
                turn_tokens: 2048,
                turns: Some(6),
                // Six turns and the five summaries between them.
                max_tokens: 6 * 2048 + 5 * 256,
                answer_tokens: 256,
                peers: 2,
                similarity: Similarity::Indel,
                rules: Rules::AuthorsCode,
                sampling: Sampling {
                    min_p: 0.05,
                    ..default.sampling
                },
                ..default
            },
        }
    }

    /// The prompt set: the name of a built-in one, or a file that `leap prompts import` makes.
    pub fn prompts(self) -> &'static str {
        match self {
            Self::Default => "clean",
            Self::Paper | Self::AuthorsCode => OFFICIAL_PROMPTS,
        }
    }

    /// Every difference from the default, one line each.
    pub fn differences(self) -> &'static [Difference] {
        const fn line(key: &'static str, why: &'static str) -> Difference {
            Difference { key, why }
        }
        const WORDING: Difference = line(
            "prompts",
            "the authors' wording, whose worked examples are AIME 2025 I-1 and item 0 of GPQA \
             Diamond: leave both out of what you report",
        );
        const PAPER: &[Difference] = &[
            line("paths", "32 paths for AIME (the paper takes 8 for GPQA)"),
            line("moa", "4 layers (take paths = 3 with them; appendix F)"),
            WORDING,
        ];
        const AUTHORS_CODE: &[Difference] = &[
            line("paths", "n = 4"),
            line("turn_tokens", "T = 2048"),
            line("turns", "max_turns = 6; summaries are not counted"),
            line("max_tokens", "room for six turns and five summaries"),
            line(
                "answer_tokens",
                "a forced answer has the 256 tokens of a summary",
            ),
            line("peers", "k = 2, as in the scripts"),
            line(
                "similarity",
                "Levenshtein.ratio is the indel similarity, and favours short summaries",
            ),
            line(
                "rules",
                "a cut can eat the prompt, a summary is what follows the last tag, hybrid can \
                 repeat a peer",
            ),
            line("sampling", "min_p = 0.05"),
            WORDING,
        ];
        match self {
            Self::Default => &[],
            Self::Paper => PAPER,
            Self::AuthorsCode => AUTHORS_CODE,
        }
    }
}
