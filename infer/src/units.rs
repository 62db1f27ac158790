//! The groups of a run: which they are, and what each is made of.
//!
//! A group is known by its unit, its number over all problems. What it asks depends on its problem
//! and its number there, and on nothing that is solved beside it.

use std::collections::BTreeMap;
use std::error::Error;

use protocol::{
    Group, Origin, Problem, PromptSet, Settings, Setup, SetupError, Stream, Trace, Vocab,
};

/// The groups of a run. See the module text.
#[derive(Clone)]
pub struct Units<'a> {
    /// The problems, in file order.
    pub problems: &'a [&'a Problem],
    /// Independent groups for each problem.
    pub groups: u32,
    /// The sentences of the protocol.
    pub prompts: &'a PromptSet,
    /// Settings of the group with this number (over all problems).
    pub settings: &'a dyn Fn(usize) -> Settings,
    /// What the paths of the group with this number are made to begin with; mostly nothing.
    pub beginnings: &'a dyn Fn(usize) -> Vec<Vec<u32>>,
    /// The first so many paths of each group are planted: see [`Setup::planted`].
    pub planted: u32,
    /// Random stream of the stage; each problem and group derives its own by name.
    pub stream: Stream,
    /// What the traces say of their origin.
    pub origin: Origin,
}

/// A group that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("no group can be made on problem `{problem}`")]
pub struct UnitError {
    /// Id of the problem.
    pub problem: String,
    /// Why.
    #[source]
    pub source: SetupError,
}

/// Problems on which no group can be made.
#[derive(Debug, thiserror::Error)]
#[error("no group can be made on {}: {first}", of(*count, *problems))]
pub struct UnfitError {
    /// How many.
    pub count: usize,
    /// How many were looked at.
    pub problems: usize,
    /// The first of them, and why.
    pub first: String,
}

fn of(count: usize, problems: usize) -> String {
    match problems {
        1 => "the one problem".to_owned(),
        _ => format!("{count} of {problems} problems"),
    }
}

impl Units<'_> {
    /// Looks at the problem of each of these units, once, before anything is asked.
    ///
    /// # Errors
    /// All problems that do not fit an engine of so many positions, the first few with the reason.
    pub fn check(
        &self,
        units: impl IntoIterator<Item = usize>,
        positions: usize,
        vocab: &dyn Vocab,
    ) -> Result<(), UnfitError> {
        const TOLD: usize = 3;
        let (mut seen, mut unfit) = (None, Vec::new());
        let mut problems = 0;
        for unit in units {
            let place = unit / self.groups as usize;
            if seen.replace(place) == Some(place) {
                continue;
            }
            problems += 1;
            if let Err(error) = Group::check(&self.setup(unit, positions), vocab) {
                unfit.push((self.place(unit).0.id.as_str(), error));
            }
        }
        let count = unfit.len();
        let told = unfit.iter().take(TOLD);
        let told = told.map(|(problem, error)| format!("`{problem}` ({})", told_whole(error)));
        let mut first = told.collect::<Vec<_>>().join(", ");
        let more = unfit
            .iter()
            .skip(TOLD)
            .map(|(problem, _)| format!("`{problem}`"));
        let more: Vec<String> = more.take(20).collect();
        if !more.is_empty() {
            first += &format!("; and {}", more.join(", "));
        }
        if count > TOLD + more.len() {
            first += ", ...";
        }
        match count {
            0 => Ok(()),
            _ => Err(UnfitError {
                count,
                problems,
                first,
            }),
        }
    }

    /// Groups in all.
    pub fn count(&self) -> usize {
        self.problems.len() * self.groups as usize
    }

    /// The problem of a unit, and which of its groups it is.
    ///
    /// # Panics
    /// If there is no such unit: a bug of the caller.
    pub fn place(&self, unit: usize) -> (&Problem, u32) {
        let groups = self.groups as usize;
        (self.problems[unit / groups], (unit % groups) as u32)
    }

    /// Finds the unit of a problem's group; none if this run has no such group.
    pub fn finder(&self) -> impl Fn(&str, u32) -> Option<usize> + '_ {
        let problems = self.problems.iter().enumerate();
        let places: BTreeMap<&str, usize> = problems
            .map(|(place, problem)| (problem.id.as_str(), place))
            .collect();
        move |problem, group| {
            let place = places.get(problem).filter(|_| group < self.groups)?;
            Some(place * self.groups as usize + group as usize)
        }
    }

    /// The group of a unit, with this index among those that an engine holds, on an engine of so
    /// many positions.
    ///
    /// # Errors
    /// If a setting cannot work, or the problem does not fit.
    pub fn group(
        &self,
        unit: usize,
        index: u32,
        positions: usize,
        vocab: &dyn Vocab,
    ) -> Result<Group, UnitError> {
        let setup = self.setup(unit, positions);
        Group::new(index, setup, vocab).map_err(|source| UnitError {
            problem: self.place(unit).0.id.clone(),
            source,
        })
    }

    fn setup(&self, unit: usize, positions: usize) -> Setup {
        let (problem, number) = self.place(unit);
        Setup {
            question: problem.question.clone(),
            settings: (self.settings)(unit),
            prompts: self.prompts.clone(),
            stream: self.stream.named(&problem.id).indexed(number.into()),
            positions,
            beginnings: (self.beginnings)(unit),
            planted: self.planted,
        }
    }

    /// The record of a unit's group.
    pub fn trace(&self, unit: usize, group: Group) -> Trace {
        let (problem, number) = self.place(unit);
        group.into_trace(problem.id.clone(), number, self.origin.clone())
    }
}

/// An error with what caused it.
fn told_whole(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", told_whole(cause)),
        None => error.to_string(),
    }
}
