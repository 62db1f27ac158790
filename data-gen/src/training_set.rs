//! From traces to a training set in one pass: look, ask for verdicts, cap, split, write.
//!
//! Memory holds a batch of traces and a little for each problem; it does not grow with the number of
//! groups.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::ops::{ControlFlow, RangeInclusive};

use protocol::{Problem, Sample, SpanKind, Stream, Trace, jsonl};
use serde::{Deserialize, Serialize};

use crate::filters::{Filter, FilterSettings, PathVerdicts, columns};
use crate::stream::{Batches, StreamError};

/// Which paths of traces become samples; part of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Filters that have to pass a path.
    pub require: Vec<Filter>,
    /// Most samples of one problem: the first ones, by group and path.
    pub per_problem: usize,
}

/// How one kind of traces becomes one kind of samples.
pub struct Plan<'a> {
    /// The problems, by id.
    pub problems: &'a BTreeMap<&'a str, &'a Problem>,
    /// Where filters draw the line.
    pub filters: &'a FilterSettings,
    /// Which paths are taken.
    pub choice: &'a Choice,
    /// Share of the problems whose samples are held out, 0 to below 1. All groups of a problem fall
    /// on one side, and on the same one whatever else is in the file.
    pub held_out: f64,
    /// Draws the problems that are held out.
    pub seed: u64,
    /// Most samples to train on; the first ones.
    pub most: Option<usize>,
}

/// Where lines go.
pub struct Sinks<'a> {
    /// Verdicts on all paths.
    pub verdicts: &'a mut dyn Write,
    /// Samples to train on.
    pub samples: &'a mut dyn Write,
    /// Samples on problems that are held out.
    pub held_out: &'a mut dyn Write,
}

/// What one filter did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejections {
    /// Whether its verdict was asked for.
    pub required: bool,
    /// Paths that it does not pass.
    pub fails: u64,
    /// Those of them that all other required filters pass.
    pub alone: u64,
}

/// What became of the paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Groups that were read.
    pub groups: u64,
    /// Their paths.
    pub paths: u64,
    /// By filter.
    pub filters: BTreeMap<Filter, Rejections>,
    /// Paths that every required filter passes.
    pub passed: u64,
    /// Those of them that were left out because their problem had enough.
    pub over_cap: u64,
    /// Those of them that were left out because the set had enough.
    pub over_most: u64,
    /// Samples to train on.
    pub samples: u64,
    /// Samples that are held out.
    pub held_out: u64,
    /// Problems with a sample.
    pub problems: u64,
    /// Tokens of the samples to train on, by kind.
    pub tokens: BTreeMap<SpanKind, u64>,
    /// Tokens of the longest sample.
    pub longest: u64,
}

/// Why traces give no training set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// A line cannot be used.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A trace of a problem that is not there.
    #[error("line {line} is a trace of problem `{problem}`, but there is no such problem")]
    UnknownProblem {
        /// Number of the line.
        line: usize,
        /// Id of the problem.
        problem: String,
    },
    /// A trace on another text than the problem's.
    #[error("line {line}: the question of the trace is not that of problem `{problem}`")]
    OtherQuestion {
        /// Number of the line.
        line: usize,
        /// Id of the problem.
        problem: String,
    },
    /// The same group twice.
    #[error("line {line}: group {group} of problem `{problem}` was there before")]
    Twice {
        /// Number of the line.
        line: usize,
        /// Id of the problem.
        problem: String,
        /// Number of the group.
        group: u32,
    },
    /// Ids of several tokenizers in one set.
    #[error("line {line} was made with tokenizer {found}, but the traces before with {expected}")]
    Tokenizer {
        /// Number of the line.
        line: usize,
        /// Hash in the trace.
        found: String,
        /// Hash in the traces before it.
        expected: String,
    },
    /// Lines cannot be written.
    #[error("cannot write")]
    Write(#[from] io::Error),
    /// `watch` asked to stop.
    #[error("stopped")]
    Stopped,
}

/// How far a pass is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Groups that were read.
    pub groups: u64,
    /// Bytes of their lines.
    pub bytes: u64,
}

/// A pass over files of traces. Files of one set are read one after the other by one pass, so that
/// caps hold over all of them.
pub struct Pass<'a> {
    plan: Plan<'a>,
    /// By problem: samples taken, and groups seen as ranges, of which one is usual.
    known: BTreeMap<String, Known>,
    tokenizer: Option<String>,
    account: Account,
    progress: Progress,
}

#[derive(Default)]
struct Known {
    taken: usize,
    groups: Vec<RangeInclusive<u32>>,
}

/// A group that was looked at.
struct Looked {
    group: u32,
    problem: String,
    tokenizer: String,
    paths: Vec<PathVerdicts>,
    /// Lines of verdicts, of all paths.
    lines: Vec<u8>,
    /// Samples of the paths that pass, with their lines; none of the others.
    samples: Vec<Option<(Sample, Vec<u8>)>>,
    fault: Option<Unusable>,
}

enum Unusable {
    Unknown,
    OtherQuestion,
}

impl<'a> Pass<'a> {
    /// A pass that has read nothing.
    pub fn new(plan: Plan<'a>) -> Self {
        let required = |filter: &Filter| plan.choice.require.contains(filter);
        let entry = |filter| {
            let rejections = Rejections {
                required: required(&filter),
                ..Rejections::default()
            };
            (filter, rejections)
        };
        let account = Account {
            filters: Filter::ALL.into_iter().map(entry).collect(),
            ..Account::default()
        };
        Self {
            plan,
            known: BTreeMap::new(),
            tokenizer: None,
            account,
            progress: Progress::default(),
        }
    }

    /// Reads traces to their end.
    ///
    /// `watch` is called after every batch, and can ask to stop.
    ///
    /// # Errors
    /// The first line that cannot be used, or what `watch` asked for; what was written until then is
    /// no set.
    pub fn read(
        &mut self,
        from: impl BufRead,
        to: &mut Sinks<'_>,
        watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), SetError> {
        let mut batches = Batches::new(from);
        loop {
            let plan = &self.plan;
            let batch = batches.next(|trace| look(&trace, plan))?;
            if batch.is_empty() {
                return Ok(());
            }
            for worked in batch {
                self.progress.groups += 1;
                self.progress.bytes += worked.bytes as u64;
                self.take(worked.line, worked.result, to)?;
            }
            if watch(self.progress).is_break() {
                return Err(SetError::Stopped);
            }
        }
    }

    /// What became of the paths.
    pub fn finish(self) -> Account {
        let with_sample = self.known.values().filter(|known| known.taken > 0);
        Account {
            problems: with_sample.count() as u64,
            ..self.account
        }
    }

    fn take(&mut self, line: usize, looked: Looked, to: &mut Sinks<'_>) -> Result<(), SetError> {
        let problem = looked.problem;
        match looked.fault {
            Some(Unusable::Unknown) => return Err(SetError::UnknownProblem { line, problem }),
            Some(Unusable::OtherQuestion) => return Err(SetError::OtherQuestion { line, problem }),
            None => {}
        }
        let expected = self
            .tokenizer
            .get_or_insert_with(|| looked.tokenizer.clone());
        if *expected != looked.tokenizer {
            return Err(SetError::Tokenizer {
                line,
                found: looked.tokenizer,
                expected: expected.clone(),
            });
        }
        let held_out = self.plan.holds_out(&problem);
        let known = self.known.entry(problem.clone()).or_default();
        if !insert(&mut known.groups, looked.group) {
            let group = looked.group;
            return Err(SetError::Twice {
                line,
                problem,
                group,
            });
        }
        let account = &mut self.account;
        account.groups += 1;
        to.verdicts.write_all(&looked.lines)?;
        for (path, sample) in looked.paths.iter().zip(looked.samples) {
            account.count(path, &self.plan.choice.require);
            let Some((sample, line)) = sample else {
                continue;
            };
            if known.taken >= self.plan.choice.per_problem {
                account.over_cap += 1;
                continue;
            }
            if held_out {
                known.taken += 1;
                account.held_out += 1;
                to.held_out.write_all(&line)?;
                continue;
            }
            if self
                .plan
                .most
                .is_some_and(|most| account.samples >= most as u64)
            {
                account.over_most += 1;
                continue;
            }
            known.taken += 1;
            account.add(&sample);
            to.samples.write_all(&line)?;
        }
        Ok(())
    }
}

impl Plan<'_> {
    fn holds_out(&self, problem: &str) -> bool {
        let lot = Stream::of_run(self.seed).named("held out").named(problem);
        lot.uniform(0) < self.held_out
    }
}

impl Account {
    fn count(&mut self, path: &PathVerdicts, required: &[Filter]) {
        self.paths += 1;
        for filter in path.faults(&Filter::ALL) {
            self.filters.entry(filter).or_default().fails += 1;
        }
        let mut faults = path.faults(required);
        match (faults.next(), faults.next()) {
            (None, _) => self.passed += 1,
            (Some(only), None) => self.filters.entry(only).or_default().alone += 1,
            _ => {}
        }
    }

    fn add(&mut self, sample: &Sample) {
        self.samples += 1;
        self.longest = self.longest.max(sample.len() as u64);
        for span in &sample.spans {
            *self.tokens.entry(span.kind).or_default() += span.ids.len() as u64;
        }
    }
}

fn look(trace: &Trace, plan: &Plan<'_>) -> Looked {
    let mut looked = Looked {
        group: trace.group,
        problem: trace.problem.clone(),
        tokenizer: trace.origin.tokenizer.clone(),
        paths: Vec::new(),
        lines: Vec::new(),
        samples: Vec::new(),
        fault: None,
    };
    let Some(problem) = plan.problems.get(trace.problem.as_str()) else {
        looked.fault = Some(Unusable::Unknown);
        return looked;
    };
    if problem.question != trace.setup.question {
        looked.fault = Some(Unusable::OtherQuestion);
        return looked;
    }
    looked.paths = columns(trace, problem, plan.filters);
    for path in &looked.paths {
        line(&mut looked.lines, path);
    }
    let sample = |(index, path): (usize, &PathVerdicts)| {
        path.passes(&plan.choice.require).then(|| {
            let sample = Sample::of_path(trace, index);
            let mut bytes = Vec::new();
            line(&mut bytes, &sample);
            (sample, bytes)
        })
    };
    looked.samples = looked.paths.iter().enumerate().map(sample).collect();
    looked
}

/// Lines are made where all cores work.
fn line(to: &mut Vec<u8>, record: &impl Serialize) {
    jsonl::write(to, record).expect("numbers and texts can be written to memory");
}

/// Adds a number to a set that is kept as ranges; `false` if it is there already.
fn insert(ranges: &mut Vec<RangeInclusive<u32>>, number: u32) -> bool {
    let at = ranges.partition_point(|range| *range.start() <= number);
    if at > 0 && *ranges[at - 1].end() >= number {
        return false;
    }
    let follows = at > 0 && ranges[at - 1].end().checked_add(1) == Some(number);
    let precedes = ranges
        .get(at)
        .is_some_and(|range| number.checked_add(1) == Some(*range.start()));
    match (follows, precedes) {
        (true, true) => {
            let end = *ranges.remove(at).end();
            ranges[at - 1] = *ranges[at - 1].start()..=end;
        }
        (true, false) => ranges[at - 1] = *ranges[at - 1].start()..=number,
        (false, true) => ranges[at] = number..=*ranges[at].end(),
        (false, false) => ranges.insert(at, number..=number),
    }
    true
}
