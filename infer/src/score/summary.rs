//! What an evaluation came to: the record behind every table and picture of a report.

use std::collections::BTreeMap;

use protocol::grade::{Found, Grade};
use protocol::stats::{Estimate, Interval};
use protocol::{Method, PathEnd, Settings, SpanKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One row of a report: `reports/<row>/summary.json`.
///
/// It follows from the groups and the problems alone: no clock, rate or file path is in it, and it
/// is the same however the groups were ordered or split over files. All shares are fractions from
/// 0 to 1, all token counts are whole numbers summed over every path of the row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Version of this format.
    pub version: u32,
    /// Short name of the row, as tables show it.
    pub name: String,
    /// What the row is, in words.
    pub title: String,
    /// How the paths of a group worked together.
    pub method: Method,
    /// Who wrote the groups: a checkpoint's hash, or the name of a simulated engine.
    pub model: String,
    /// Hash of the tokenizer.
    pub tokenizer: String,
    /// SHA-256 of the part of the recipe that decides the groups.
    pub recipe: String,
    /// Seed of the run.
    pub seed: u64,
    /// Devices and dtypes the groups were computed with, sorted.
    pub devices: Vec<String>,
    /// The settings of the groups, where the caller knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Settings>,
    /// Problems that have groups; the scores are over these (M).
    pub problems: usize,
    /// Ids of problems that have no group, in the order of the problems file.
    pub missing: Vec<String>,
    /// Ids of problems with fewer groups than the others, in the order of the problems file.
    pub incomplete: Vec<String>,
    /// Independent groups of a problem (G); the largest number, if problems differ.
    pub groups: usize,
    /// Paths of a group whose answer counts (N).
    pub paths: usize,
    /// How right the paths are.
    pub scores: Scores,
    /// What was sampled and what was put into the paths.
    pub tokens: Tokens,
    /// How the paths ended.
    pub ends: Ends,
    /// What the paths told each other.
    pub exchange: Exchange,
    /// What became of the claims of paths after each exchange, by block; empty without exchange.
    #[serde(default)]
    pub flips: Vec<BlockFlips>,
    /// The verdicts behind the scores, in the order of the problems file.
    pub by_problem: Vec<ProblemScore>,
}

/// How right the paths of a row are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scores {
    /// Share of right paths, each problem counting the same.
    pub pass_at_1: Estimate,
    /// Pass@1 with the percentile bootstrap over problems in place of Student's t: for comparing
    /// the two. The draws are the same for every row.
    #[serde(default)]
    pub bootstrap: Option<Interval>,
    /// Share of groups whose most frequent answer is right.
    pub cons_at_n: Estimate,
    /// The same vote among the shorter half of a group's answers.
    pub shortest_majority: Estimate,
    /// Share of problems that at least one of k paths solves, for k = 1, 2, 4, ... and N.
    ///
    /// The paths of a group that exchanges are not independent draws: for such rows this describes
    /// the groups that were run and predicts nothing for other N.
    pub pass_at_k: Vec<PassAtK>,
    /// Share of paths no answer could be read from.
    pub no_answer: f64,
    /// How much the paths of a group fail together beyond the difficulty of their problem: 0 as
    /// paths of different groups, 1 all or none. `None` unless a problem has two groups.
    pub error_correlation: Option<f64>,
    /// Different answers in a group, on average over groups; paths without an answer count nothing.
    pub answers_per_group: f64,
}

/// Pass@k at one k.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PassAtK {
    /// Paths drawn from a group.
    pub k: usize,
    /// Share of problems that at least one of them solves.
    pub value: f64,
}

/// Tokens of all paths of a row, those whose answer does not count included: they are its cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tokens {
    /// Paths whose answer counts.
    pub paths: u64,
    /// Sampled tokens that were cut off again.
    #[serde(default)]
    pub dropped: u64,
    /// Tokens that a model had to read without having sampled them, with an engine that reads
    /// nothing twice: each different prompt of a group once, and everything injected.
    #[serde(default)]
    pub prefilled: u64,
    /// Tokens by what they are; a kind that never occurs has no entry.
    pub by_kind: BTreeMap<SpanKind, u64>,
}

impl Tokens {
    /// Tokens the models sampled, those that were cut off again included.
    pub fn sampled(&self) -> u64 {
        self.sum(SpanKind::is_sampled) + self.dropped
    }

    /// Tokens put into the paths after their prompts.
    pub fn injected(&self) -> u64 {
        self.sum(|kind| !kind.is_sampled() && kind != SpanKind::Prompt)
    }

    /// Tokens of the prompts, counted once for each path.
    pub fn prompt(&self) -> u64 {
        self.sum(|kind| kind == SpanKind::Prompt)
    }

    /// Tokens of one kind.
    pub fn of(&self, kind: SpanKind) -> u64 {
        self.by_kind.get(&kind).copied().unwrap_or(0)
    }

    /// `tokens` as a mean over the paths whose answer counts.
    pub fn per_path(&self, tokens: u64) -> f64 {
        if self.paths == 0 {
            0.0
        } else {
            tokens as f64 / self.paths as f64
        }
    }

    fn sum(&self, counts: impl Fn(SpanKind) -> bool) -> u64 {
        self.by_kind
            .iter()
            .filter(|(kind, _)| counts(**kind))
            .map(|(_, count)| count)
            .sum()
    }
}

/// What became of what paths claimed, between the summary of one block and what they claimed next:
/// in their next summary, or in their answer.
///
/// A claim is what a summary names as answer, or else the last number in it: a rough thing. Paths
/// that wrote no summary in the block are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlockFlips {
    /// Number of the block, from 0.
    pub block: u32,
    /// Paths that wrote a summary in it.
    pub paths: u64,
    /// Right before and after.
    pub stayed_right: u64,
    /// Wrong before, right after.
    pub wrong_to_right: u64,
    /// No claim before, right after.
    pub none_to_right: u64,
    /// Right before, wrong after.
    pub right_to_wrong: u64,
    /// Right before, no claim after.
    pub right_to_none: u64,
}

/// How many paths ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ends {
    /// Closed their thought and wrote an answer.
    pub answered: u64,
    /// Ended their text by themselves.
    pub stopped: u64,
    /// Were forced to answer when their budget was used up.
    pub forced: u64,
    /// Were forced to answer when the model had no more positions.
    pub outgrown: u64,
    /// Could not be served.
    pub failed: u64,
    /// Answers of any of these that were cut at their limit.
    pub cut_answers: u64,
}

impl Ends {
    /// Adds those of another row.
    pub(super) fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.stopped += other.stopped;
        self.forced += other.forced;
        self.outgrown += other.outgrown;
        self.failed += other.failed;
        self.cut_answers += other.cut_answers;
    }
}

/// How a path ended; as [`PathEnd`], without the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It closed its thought and wrote an answer.
    Answered,
    /// It ended its text by itself.
    Stopped,
    /// It was forced to answer when its budget was used up.
    Forced,
    /// It was forced to answer when the model had no more positions.
    Outgrown,
    /// It could not be served.
    Failed,
}

impl From<&PathEnd> for End {
    fn from(end: &PathEnd) -> Self {
        match end {
            PathEnd::Answered => Self::Answered,
            PathEnd::Stopped => Self::Stopped,
            PathEnd::Forced => Self::Forced,
            PathEnd::Outgrown => Self::Outgrown,
            PathEnd::Released | PathEnd::Failed(_) => Self::Failed,
        }
    }
}

/// What the paths of a row told each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exchange {
    /// Groups of the row.
    pub groups: u64,
    /// Blocks, summed over groups.
    pub blocks: u64,
    /// Times a path read its peers, summed over blocks.
    pub readings: u64,
    /// Readings in which nobody else was left to be heard.
    pub without_peers: u64,
    /// Summaries written.
    pub summaries: u64,
    /// Summaries that were cut at their limit.
    pub cut_summaries: u64,
}

impl Exchange {
    /// Adds that of another row.
    pub(super) fn add(&mut self, other: &Self) {
        self.groups += other.groups;
        self.blocks += other.blocks;
        self.readings += other.readings;
        self.without_peers += other.without_peers;
        self.summaries += other.summaries;
        self.cut_summaries += other.cut_summaries;
    }

    /// Blocks of a group, on average.
    pub fn blocks_per_group(&self) -> f64 {
        if self.groups == 0 {
            0.0
        } else {
            self.blocks as f64 / self.groups as f64
        }
    }
}

/// The verdicts on one problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProblemScore {
    /// Id of the problem.
    pub id: String,
    /// The right answer.
    pub gold: String,
    /// Its groups, by number.
    pub groups: Vec<GroupScore>,
}

impl ProblemScore {
    /// Right paths and all paths of the problem.
    pub fn right(&self) -> (usize, usize) {
        let paths = || self.groups.iter().flat_map(|group| &group.paths);
        (
            paths().filter(|path| path.grade == Grade::Right).count(),
            paths().count(),
        )
    }

    /// Share of right paths.
    pub fn pass_at_1(&self) -> f64 {
        let (right, paths) = self.right();
        if paths == 0 {
            0.0
        } else {
            right as f64 / paths as f64
        }
    }

    /// Score of the vote, on average over groups.
    pub fn vote(&self) -> f64 {
        let scores: Vec<f64> = self.groups.iter().map(|group| group.vote_score).collect();
        protocol::stats::mean(&scores).unwrap_or(0.0)
    }
}

/// The verdicts on one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupScore {
    /// Number of the group among those of its problem.
    pub group: u32,
    /// The answers most paths gave, in the order of the paths; more than one is a tie.
    pub vote: Vec<String>,
    /// What the vote is worth: 1 right, 0 wrong; between them in a tie.
    pub vote_score: f64,
    /// Those of its paths whose answer counts, in path order.
    pub paths: Vec<PathScore>,
}

/// The verdict on one path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PathScore {
    /// Right, wrong, or no answer.
    pub grade: Grade,
    /// The answer in canonical form.
    pub answer: Option<String>,
    /// Where the answer was found.
    pub found: Found,
    /// Verdicts on what it claimed in its summaries, by block; empty if it wrote none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimScore>,
    /// How the path ended.
    pub end: End,
    /// Tokens it sampled.
    pub sampled: u64,
    /// Tokens put into it after its prompt.
    pub injected: u64,
}

/// The verdict on what a path claimed in a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimScore {
    /// Number of the block, from 0.
    pub block: u32,
    /// Right, wrong, or no claim.
    pub grade: Grade,
}

/// A change of mind between right and wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flip {
    /// It answered right, and had claimed something wrong before.
    ToRight,
    /// It did not answer right, and had claimed the right thing before.
    FromRight,
}

impl PathScore {
    /// Whether the path changed sides on its way to its answer.
    pub fn flip(&self) -> Option<Flip> {
        let claimed = |wanted| self.claims.iter().any(|claim| claim.grade == wanted);
        match self.grade {
            Grade::Right if claimed(Grade::Wrong) => Some(Flip::ToRight),
            Grade::Wrong | Grade::NoAnswer if claimed(Grade::Right) => Some(Flip::FromRight),
            _ => None,
        }
    }
}

impl Summary {
    /// The version this build reads and writes.
    pub const VERSION: u32 = 1;
}
