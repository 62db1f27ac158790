//! From traces to a training set in one pass: look, ask for verdicts, cap, split, write.
//!
//! Memory holds a batch of traces, a little for each problem and, of a control, for each sample; it does not
//! grow with the number of groups.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::ops::{ControlFlow, RangeInclusive};

use protocol::{Method, NoPlainPrompt, Problem, Sample, SpanKind, Stream, Trace, jsonl};
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
    /// Which traces belong into the set.
    pub of: Of,
}

/// Which traces belong into a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Those whose paths exchanged.
    Exchange,
    /// Those of independent paths: the control.
    Independent,
}

impl Of {
    fn takes(self, method: Method) -> bool {
        match self {
            Self::Exchange => method.exchanges(),
            Self::Independent => method == Method::Cot,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Exchange => "traces with exchange (leap, leap-t, leap-s) belong",
            Self::Independent => "traces of independent paths (cot) belong",
        }
    }
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
    /// A trace of an earlier build, which does not hold the prompt that samples begin with.
    #[error("line {line}: {source}")]
    NoPlainPrompt {
        /// Number of the line.
        line: usize,
        /// What is missing.
        source: NoPlainPrompt,
    },
    /// A trace of another method.
    #[error("line {line} is a trace of method `{method}`, but only {belong} here")]
    Method {
        /// Number of the line.
        line: usize,
        /// Its method.
        method: &'static str,
        /// What belongs here, in words.
        belong: &'static str,
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
    /// Samples of a control to train on, in the order they were written.
    written: Vec<Written>,
}

/// What is kept of a sample that was written.
struct Written {
    /// Number of its problem, by the first trace on it.
    problem: u32,
    /// Tokens by kind, as [`SpanKind::ALL`] has them.
    tokens: [u32; SpanKind::ALL.len()],
}

impl Written {
    fn of(sample: &Sample, problem: u32) -> Self {
        let of_kind = |kind| sample.tokens(|other| other == kind) as u32;
        Self {
            problem,
            tokens: SpanKind::ALL.map(of_kind),
        }
    }
}

#[derive(Default)]
struct Known {
    /// By the first trace on it.
    number: u32,
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
    Method(&'static str),
    NoPlainPrompt(NoPlainPrompt),
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
            written: Vec::new(),
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

    /// Lets at most `most` samples of a control stay, and says which: those of problems in `like` first, as many of each as it says there, and one of each problem before a second of any.
    pub fn deal(&mut self, most: usize, like: &BTreeMap<String, usize>) -> Vec<bool> {
        let problems: Vec<&str> = self.problems();
        let stay = rounds(&problems, most, like);
        let numbers: Vec<u32> = self.written.iter().map(|one| one.problem).collect();
        let mut gone: BTreeMap<u32, usize> = BTreeMap::new();
        for (number, _) in numbers.iter().zip(&stay).filter(|(_, stay)| !**stay) {
            *gone.entry(*number).or_default() += 1;
        }
        for known in self.known.values_mut() {
            known.taken -= gone.get(&known.number).copied().unwrap_or(0);
        }
        let mut stays = stay.iter();
        self.written
            .retain(|_| stays.next().copied().unwrap_or(false));
        let account = &mut self.account;
        account.over_most += account.samples - self.written.len() as u64;
        (account.samples, account.longest) = (0, 0);
        account.tokens.clear();
        for one in &self.written {
            account.add(one);
        }
        stay
    }

    /// The problem of each sample of a control, in their order.
    pub fn problems(&self) -> Vec<&str> {
        let mut names = vec![""; self.known.len()];
        for (name, known) in &self.known {
            names[known.number as usize] = name;
        }
        let of = |one: &Written| names[one.problem as usize];
        self.written.iter().map(of).collect()
    }

    /// How many samples are trained on, by problem.
    pub fn taken(&self) -> BTreeMap<String, usize> {
        let trained = |problem: &&String| !self.plan.holds_out(problem);
        let known = self.known.iter().filter(|(problem, _)| trained(problem));
        known
            .map(|(problem, known)| (problem.clone(), known.taken))
            .collect()
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
            Some(Unusable::Method(method)) => {
                let belong = self.plan.of.words();
                return Err(SetError::Method {
                    line,
                    method,
                    belong,
                });
            }
            Some(Unusable::NoPlainPrompt(source)) => {
                return Err(SetError::NoPlainPrompt { line, source });
            }
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
        let number = self.known.len() as u32;
        let known = self.known.entry(problem.clone()).or_insert(Known {
            number,
            ..Known::default()
        });
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
            known.taken += 1;
            let written = Written::of(&sample, known.number);
            account.add(&written);
            if self.plan.of == Of::Independent {
                self.written.push(written);
            }
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

    fn add(&mut self, one: &Written) {
        self.samples += 1;
        let length = one.tokens.iter().map(|count| u64::from(*count)).sum();
        self.longest = self.longest.max(length);
        let kinds = SpanKind::ALL.into_iter().zip(one.tokens);
        for (kind, count) in kinds.filter(|(_, count)| *count > 0) {
            *self.tokens.entry(kind).or_default() += u64::from(count);
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
    if !plan.of.takes(trace.method) {
        looked.fault = Some(Unusable::Method(trace.method.name()));
        return looked;
    }
    if problem.question != trace.setup.question {
        looked.fault = Some(Unusable::OtherQuestion);
        return looked;
    }
    if trace.setup.settings.shows_example() && trace.plain_prompt.is_none() {
        looked.fault = Some(Unusable::NoPlainPrompt(NoPlainPrompt::of(trace)));
        return looked;
    }
    looked.paths = columns(trace, problem, plan.filters);
    for path in &looked.paths {
        line(&mut looked.lines, path);
    }
    let sample = |(index, path): (usize, &PathVerdicts)| {
        path.passes(&plan.choice.require).then(|| {
            let sample = Sample::of_path(trace, index).expect("the trace holds its prompt");
            let mut bytes = Vec::new();
            line(&mut bytes, &sample);
            (sample, bytes)
        })
    };
    looked.samples = looked.paths.iter().enumerate().map(sample).collect();
    looked
}

/// Which of some samples, whose problems are given in their order, stay if at most `most` may: those of
/// problems in `like` first, as many of each as it says there, and one of each problem before a second
/// of any.
pub fn rounds(problems: &[&str], most: usize, like: &BTreeMap<String, usize>) -> Vec<bool> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut places = Vec::with_capacity(problems.len());
    for (at, &problem) in problems.iter().enumerate() {
        let round = seen.entry(problem).or_default();
        let matched = *round < like.get(problem).copied().unwrap_or(0);
        places.push((!matched, *round, at));
        *round += 1;
    }
    places.sort_unstable();
    let mut stay = vec![false; problems.len()];
    for (_, _, at) in places.into_iter().take(most) {
        stay[at] = true;
    }
    stay
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
