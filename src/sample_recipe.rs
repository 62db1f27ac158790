//! The recipe of a training set: which traces, where filters draw the line, and what has to pass.

use std::path::PathBuf;

use anyhow::Context;
use data_gen::filters::{Filter, FilterSettings};
use data_gen::training_set::Choice;
use serde::{Deserialize, Deserializer, Serialize};

use crate::fault::Fault;
use crate::recipes::Gap;

/// A recipe for `leap data-gen samples`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SampleRecipe {
    /// What the recipe is for.
    pub(crate) job: SampleJob,
    /// One line for the account and the card.
    pub(crate) title: String,
    /// Draws the problems that are held out.
    pub(crate) seed: u64,
    /// The problems that the traces are on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) problems: Option<PathBuf>,
    /// Share of the problems whose samples are held out, 0 to below 1.
    pub(crate) held_out: f64,
    /// Share of samples without exchange that is mixed into the LeaP-T set, 0 to below 1.
    pub(crate) plain_share: f64,
    /// What is read.
    #[serde(default)]
    pub(crate) traces: TraceFiles,
    /// Where filters draw the line.
    pub(crate) filters: FilterSettings,
    /// Which paths with exchange are taken.
    pub(crate) leap: Choice,
    /// Which paths without.
    pub(crate) control: ControlChoice,
}

/// What a recipe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SampleJob {
    /// A training set.
    #[serde(rename = "data-gen samples")]
    Samples,
}

/// Files of traces; one may stand without a list.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceFiles {
    /// With exchange.
    #[serde(default, deserialize_with = "one_or_many")]
    pub(crate) leap: Vec<PathBuf>,
    /// Without, for the control; none = no control.
    #[serde(default, deserialize_with = "one_or_many")]
    pub(crate) control: Vec<PathBuf>,
}

/// Which paths the control is trained on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ControlChoice {
    /// Filters that have to pass a path.
    pub(crate) require: Vec<Filter>,
    /// Most samples of one problem.
    pub(crate) per_problem: usize,
    /// How many samples.
    pub(crate) size: ControlSize,
}

/// How many samples the control gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ControlSize {
    /// Not more than the set with exchange has, and on its problems where they are there.
    AsLeap,
    /// All that pass.
    All,
}

impl ControlChoice {
    pub(crate) fn choice(&self) -> Choice {
        Choice {
            require: self.require.clone(),
            per_problem: self.per_problem,
        }
    }
}

impl SampleRecipe {
    /// What the recipe leaves to the call.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let problems = self.problems.is_none().then(|| Gap {
            message: "the recipe names no `problems`".to_owned(),
            hint: "give it in the call: problems=FILE",
            argument: "problems=FILE",
        });
        let traces = self.traces.leap.is_empty().then(|| Gap {
            message: "the recipe names no `traces.leap`".to_owned(),
            hint: "give it in the call: traces.leap=FILE",
            argument: "traces.leap=FILE",
        });
        problems.into_iter().chain(traces).collect()
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// The first thing that cannot work, with what to do.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.filters.check().context("`filters`")?;
        let fault = |message: String, hint: &str| Err(Fault::new(message, hint).into());
        for (key, value) in [
            ("held_out", self.held_out),
            ("plain_share", self.plain_share),
        ] {
            if !(0.0..1.0).contains(&value) {
                let message = format!("`{key}` is {value}, but must be from 0 to below 1");
                return fault(message, "0 means none");
            }
        }
        for (key, count) in [
            ("leap.per_problem", self.leap.per_problem),
            ("control.per_problem", self.control.per_problem),
        ] {
            if count == 0 {
                let message = format!("`{key}` is 0: there would be no sample");
                return fault(message, "take at least 1");
            }
        }
        if self.plain_share > 0.0 && self.traces.control.is_empty() && !self.traces.leap.is_empty()
        {
            return fault(
                "`plain_share` asks for samples without exchange, but there are no traces of them"
                    .into(),
                "give traces.control=FILE, or set plain_share=0",
            );
        }
        Ok(())
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }
    Ok(match OneOrMany::deserialize(from)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}
