//! Verdicts on the paths of a trace. A filter looks and says; it deletes nothing.
//!
//! Every filter gives a path a value and a verdict, a [`Column`]; which verdicts a training set asks
//! for is the set's affair. [`verdicts`] is a summary of some of them, the first fault of a path.

mod answer;
mod claims;
mod comments;
mod form;
mod repetition;
mod script;
mod settings;
mod summaries;
mod uptake;
mod verdict;

use std::collections::BTreeMap;

use protocol::grade::{Grade, Graded};
use protocol::{PathTrace, Problem, Trace};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::settings::{FilterSettings, SettingsError};
pub use self::verdict::{Verdict, verdicts};

/// A filter, by the name of its column.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The path came to an end of its own. Value: how it ended. Fails paths that the engine could
    /// not serve, and those that another path of their group left behind.
    Finished,
    /// Its answer is right. Value: the canonical answer, null if none was found.
    Answer,
    /// The answer ended by itself and not at its limit. Value: true or false.
    AnswerEnded,
    /// Every summary was ended by the path itself, within `summary_tokens`. Value: `count`, `cut`
    /// and tokens of the `longest`.
    Summaries,
    /// Every summary has `summary_least` tokens or more, and a number where the question is
    /// mathematics. Value: tokens of the shortest; null without a summary.
    Substance,
    /// No summary repeats the one before it. Value: the greatest similarity (indel ratio, 0 to 1) of
    /// two summaries in a row; null without two.
    Progress,
    /// No summary repeats one that the path had heard. Value: the greatest similarity (as above);
    /// null if nothing was heard before a summary.
    Copying,
    /// Tags stand in the order of the protocol and in the right kinds of spans. Value: the first
    /// fault in words, or null.
    Grammar,
    /// Every comment is, byte for byte, made of the summaries that the routes name. Value: the first
    /// fault in words, or null.
    Comments,
    /// No control token stands in what the path wrote. Value: the first one, or null.
    Stray,
    /// The path fits into `max_tokens`. Value: its tokens, prompt and comments included.
    Length,
    /// Little of what the path sampled was sampled before. Value: share of its runs of 20 tokens
    /// that occurred earlier in it, 0 to 1.
    Repetition,
    /// No sampled stretch ends in a loop. Value: `period` and `times` of the longest loop, or null.
    Loop,
    /// The path does not doubt all the time. Value: words such as `wait`, per 1,000 words.
    Hesitation,
    /// The path writes in the scripts of its question. Value: share of letters of other scripts in
    /// its own words, 0 to 1; Greek counts as mathematics.
    Language,
    /// After a comment the path takes up what it heard. Value: mean over comments of 0, 0.5 or 1;
    /// null if it heard nobody.
    Uptake,
    /// No comment turned a right claim into a wrong one. Value: for each block what became of the
    /// path's claim, such as `wrong-right`.
    Flips,
    /// The group is neither hopeless nor done: see `pass_rate`. Value: share of its paths that are
    /// right, 0 to 1; of all paths of a group the same.
    PassRate,
}

impl Filter {
    /// Every filter, in the order of columns.
    pub const ALL: [Self; 18] = [
        Self::Finished,
        Self::Answer,
        Self::AnswerEnded,
        Self::Summaries,
        Self::Substance,
        Self::Progress,
        Self::Copying,
        Self::Grammar,
        Self::Comments,
        Self::Stray,
        Self::Length,
        Self::Repetition,
        Self::Loop,
        Self::Hesitation,
        Self::Language,
        Self::Uptake,
        Self::Flips,
        Self::PassRate,
    ];

    /// Its name in files and recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Answer => "answer",
            Self::AnswerEnded => "answer_ended",
            Self::Summaries => "summaries",
            Self::Substance => "substance",
            Self::Progress => "progress",
            Self::Copying => "copying",
            Self::Grammar => "grammar",
            Self::Comments => "comments",
            Self::Stray => "stray",
            Self::Length => "length",
            Self::Repetition => "repetition",
            Self::Loop => "loop",
            Self::Hesitation => "hesitation",
            Self::Language => "language",
            Self::Uptake => "uptake",
            Self::Flips => "flips",
            Self::PassRate => "pass_rate",
        }
    }
}

/// What one filter says of one path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// What was measured; [`Filter`] says what it is.
    pub value: Value,
    /// Whether nothing is wrong with it.
    pub pass: bool,
}

impl Column {
    fn new(value: impl Into<Value>, pass: bool) -> Self {
        Self {
            value: value.into(),
            pass,
        }
    }

    /// A fault in words fails; none passes.
    fn faultless(fault: Option<String>) -> Self {
        let pass = fault.is_none();
        Self::new(fault, pass)
    }

    /// A measure that must not be above `most`; without one nothing is wrong.
    fn at_most(value: Option<f64>, most: f64) -> Self {
        Self::new(value.map(rounded), value.is_none_or(|value| value <= most))
    }
}

/// Four digits: what is behind them is of no use, and makes files long.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// One line of verdicts.jsonl: all filters on one path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PathVerdicts {
    /// Version of this format.
    pub version: u32,
    /// `problem#group.path`: the id that a sample of this path has.
    pub id: String,
    /// Id of the problem.
    pub problem: String,
    /// Number of the group among the problem's.
    pub group: u32,
    /// Number of the path in the group.
    pub path: u32,
    /// What every filter says.
    pub columns: BTreeMap<Filter, Column>,
}

impl PathVerdicts {
    /// The version this build reads and writes.
    pub const VERSION: u32 = 1;

    /// Whether all of these filters pass the path.
    pub fn passes(&self, filters: &[Filter]) -> bool {
        self.faults(filters).next().is_none()
    }

    /// Those of these filters that do not pass the path.
    pub fn faults<'a>(&'a self, filters: &'a [Filter]) -> impl Iterator<Item = Filter> + 'a {
        let fails = |filter: &Filter| self.columns.get(filter).is_none_or(|column| !column.pass);
        filters.iter().copied().filter(fails)
    }
}

/// One path, with what filters need to know of its group.
struct Seen<'a> {
    trace: &'a Trace,
    problem: &'a Problem,
    index: u32,
    path: &'a PathTrace,
    graded: Graded,
    settings: &'a FilterSettings,
}

/// What every filter says of every path of a group, in path order. A pure function: nothing but the
/// group, its problem and the settings decides.
///
/// # Panics
/// If the trace names a path that it does not hold: [`Trace::check`] finds that.
pub fn columns(trace: &Trace, problem: &Problem, settings: &FilterSettings) -> Vec<PathVerdicts> {
    let graded: Vec<Graded> = trace
        .paths
        .iter()
        .map(|path| answer::graded(path, trace.think_open, problem))
        .collect();
    let counted = trace.counted.iter().map(|&path| &graded[path as usize]);
    let right = counted
        .filter(|graded| graded.grade == Grade::Right)
        .count();
    let pass_rate = answer::pass_rate(trace, right, settings);
    let heard = comments::Heard::of(trace);
    let paths = trace.paths.iter().zip(graded).zip(0..);
    paths
        .map(|((path, graded), index)| {
            let seen = Seen {
                trace,
                problem,
                index,
                path,
                graded,
                settings,
            };
            let say = |filter| {
                let column = match filter {
                    Filter::Finished => answer::finished(path),
                    Filter::Answer => answer::right(&seen.graded),
                    Filter::AnswerEnded => answer::ended(path),
                    Filter::Summaries => summaries::ended(path, settings),
                    Filter::Substance => summaries::substance(&seen),
                    Filter::Progress => summaries::progress(&seen, &heard),
                    Filter::Copying => summaries::copying(&seen, &heard),
                    Filter::Grammar => form::grammar(&seen),
                    Filter::Comments => comments::equal(&seen, &heard),
                    Filter::Stray => form::stray(path),
                    Filter::Length => form::length(&seen),
                    Filter::Repetition => repetition::repeated(path, settings),
                    Filter::Loop => repetition::looped(path, settings),
                    Filter::Hesitation => repetition::hesitation(path, settings),
                    Filter::Language => script::foreign(&seen),
                    Filter::Uptake => uptake::uptake(&seen, &heard),
                    Filter::Flips => claims::flips(&seen),
                    Filter::PassRate => pass_rate.clone(),
                };
                (filter, column)
            };
            PathVerdicts {
                version: PathVerdicts::VERSION,
                id: format!("{}#{}.{index}", trace.problem, trace.group),
                problem: trace.problem.clone(),
                group: trace.group,
                path: index,
                columns: Filter::ALL.into_iter().map(say).collect(),
            }
        })
        .collect()
}

/// All that a path sampled itself, as one text; stretches are separated by a line end.
fn own_text(path: &PathTrace) -> String {
    let own = path.spans.iter().filter(|span| span.kind.is_sampled());
    let texts: Vec<&str> = own.map(|span| span.text.as_str()).collect();
    texts.join("\n")
}
