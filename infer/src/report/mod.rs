//! Summaries as something to look at: a table for the terminal, Markdown, JSON, one HTML page.
//!
//! A report is a pure function of its data: same data, same bytes. It draws and words numbers; it
//! computes none of them.

mod details;
mod document;
mod example;
mod exchange;
mod figure;
mod flips;
mod grid;
mod html;
mod lanes;
mod number;
mod picture;
mod svg;
mod table;
mod warning;

use serde::{Deserialize, Serialize};

use crate::score::{Comparison, Summary};

pub use self::document::{document, text};
pub use self::example::{Example, example_group};
pub use self::html::html;
pub use self::table::{json, markdown, table};
pub use self::warning::{Warning, warnings};

/// Everything a report shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was evaluated, in a few words: the heading.
    pub title: String,
    /// What was run, shown below the heading: recipe, seed, models, device, dtype, teacher.
    pub facts: Vec<Fact>,
    /// The rows, in the order they are shown.
    pub rows: Vec<Summary>,
    /// Differences between rows, in the order they are shown.
    pub comparisons: Vec<Comparison>,
    /// Groups to be shown word by word; only the first [`Report::MOST_EXAMPLES`] are.
    pub examples: Vec<Example>,
    /// Loss curves of the trainings behind the rows.
    pub trainings: Vec<Training>,
    /// What a reader should know besides, in whole sentences.
    pub notes: Vec<String>,
}

impl Report {
    /// Most groups that are shown word by word.
    pub const MOST_EXAMPLES: usize = 4;
}

/// A named value below the heading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is: `Teacher`.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Fact {
    /// A fact.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }
}

/// The loss curve of a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Name of the checkpoint it made.
    pub name: String,
    /// The points, by step.
    pub points: Vec<LossPoint>,
}

/// A point of a loss curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossPoint {
    /// Optimizer steps made.
    pub step: u64,
    /// Mean loss of a trained token, in nats.
    pub loss: f64,
}
