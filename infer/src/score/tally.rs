//! Groups taken in one after the other: what they share, what they add up to.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use protocol::grade::{AnswerKind, Grade, equal, grade, grade_among};
use protocol::reaction::claims;
use protocol::{Method, Origin, PathEnd, PathTrace, Problem, SpanKind, Trace};

use super::summary::{
    ClaimScore, End, Ends, Exchange, GroupScore, PathScore, ProblemScore, Summary, Tokens,
};
use super::{Row, ScoreError, numbers};

/// What the groups of one evaluation have in common.
pub(super) struct Shared {
    method: Method,
    origin: Origin,
    paths: usize,
}

impl Shared {
    pub(super) fn of(trace: &Trace) -> Self {
        Self {
            method: trace.method,
            origin: trace.origin.clone(),
            paths: trace.counted.len(),
        }
    }

    /// The device is not among these: shards of one evaluation may run on different ones.
    fn fields(&self) -> [(&'static str, String); 5] {
        let origin = &self.origin;
        [
            ("method", self.method.name().into()),
            ("model", origin.model.clone()),
            ("tokenizer", origin.tokenizer.clone()),
            ("recipe", origin.recipe.clone()),
            ("seed", origin.seed.to_string()),
        ]
    }

    pub(super) fn check(&self, trace: &Trace) -> Result<(), ScoreError> {
        let (problem, group) = (trace.problem.clone(), trace.group);
        if trace.version != Trace::VERSION {
            return Err(ScoreError::Version {
                problem,
                group,
                found: trace.version,
            });
        }
        let new = Self::of(trace);
        let mut fields = new.fields().into_iter().zip(self.fields());
        if let Some(((what, found), (_, expected))) = fields.find(|(new, old)| new != old) {
            return Err(ScoreError::Mixed {
                problem,
                group,
                what,
                found,
                expected,
            });
        }
        match new.paths == self.paths {
            true => Ok(()),
            false => {
                let (paths, expected) = (new.paths, self.paths);
                Err(ScoreError::Uneven {
                    problem,
                    group,
                    paths,
                    expected,
                })
            }
        }
    }
}

/// What is known after some of the groups.
#[derive(Default)]
pub(super) struct Tally {
    devices: BTreeSet<String>,
    tokens: Tokens,
    ends: Ends,
    exchange: Exchange,
    /// By place of the problem and number of the group.
    groups: BTreeMap<(usize, u32), GroupScore>,
}

impl Tally {
    pub(super) fn add(
        &mut self,
        trace: &Trace,
        place: usize,
        problem: &Problem,
    ) -> Result<(), ScoreError> {
        let Entry::Vacant(entry) = self.groups.entry((place, trace.group)) else {
            let problem = trace.problem.clone();
            return Err(ScoreError::DoubledGroup {
                problem,
                group: trace.group,
            });
        };
        trace.check().map_err(|reason| ScoreError::Broken {
            problem: trace.problem.clone(),
            group: trace.group,
            reason,
        })?;
        let paths: Vec<PathScore> = trace
            .counted()
            .map(|path| judge(path, trace.think_open, problem))
            .collect();
        entry.insert(numbers::group_score(trace.group, paths));
        self.devices.insert(trace.origin.device.clone());
        self.exchange.groups += 1;
        self.exchange.blocks += trace.blocks.len() as u64;
        for route in trace.blocks.iter().flat_map(|block| &block.routes) {
            self.exchange.readings += 1;
            self.exchange.without_peers += u64::from(route.peers.is_empty());
        }
        let mut prompts = BTreeSet::new();
        for path in &trace.paths {
            self.count_tokens(path);
            let prompt = path.spans.iter().find(|span| span.kind == SpanKind::Prompt);
            prompts.extend(prompt.map(|span| span.ids.as_slice()));
            self.tokens.prefilled += path.injected() as u64;
        }
        let prompts = prompts.iter().map(|ids| ids.len() as u64);
        self.tokens.prefilled += prompts.sum::<u64>();
        for path in trace.counted() {
            self.count_end(path);
        }
        Ok(())
    }

    fn count_tokens(&mut self, path: &PathTrace) {
        self.tokens.dropped += path.dropped() as u64;
        for span in path.spans.iter().filter(|span| !span.ids.is_empty()) {
            *self.tokens.by_kind.entry(span.kind).or_default() += span.ids.len() as u64;
        }
        // A summary may lack either part: its trigger if the path opened it, its words if it is empty.
        let told = |kind| matches!(kind, SpanKind::Trigger | SpanKind::Summary);
        let blocks: BTreeSet<Option<u32>> = path
            .spans
            .iter()
            .filter(|span| told(span.kind))
            .map(|span| span.block)
            .collect();
        self.exchange.summaries += blocks.len() as u64;
        self.exchange.cut_summaries += u64::from(path.cut_summaries);
    }

    fn count_end(&mut self, path: &PathTrace) {
        self.tokens.paths += 1;
        let ends = &mut self.ends;
        *match path.end {
            PathEnd::Answered => &mut ends.answered,
            PathEnd::Stopped => &mut ends.stopped,
            PathEnd::Forced => &mut ends.forced,
            PathEnd::Outgrown => &mut ends.outgrown,
            // A path that was released has no answer, as one that failed; it is never counted.
            PathEnd::Released | PathEnd::Failed(_) => &mut ends.failed,
        } += 1;
        let wrote = path.spans.iter().any(|span| span.kind == SpanKind::Answer);
        ends.cut_answers += u64::from(wrote && !path.answer_ended);
    }

    pub(super) fn finish(
        self,
        row: &Row,
        shared: Shared,
        problems: &[Problem],
    ) -> Result<Summary, ScoreError> {
        let mut by_problem: BTreeMap<usize, ProblemScore> = BTreeMap::new();
        for ((place, _), group) in self.groups {
            let problem = &problems[place];
            let empty = || ProblemScore {
                id: problem.id.clone(),
                gold: problem.gold.as_str().to_string(),
                groups: Vec::new(),
            };
            by_problem
                .entry(place)
                .or_insert_with(empty)
                .groups
                .push(group);
        }
        let unscored = problems
            .iter()
            .enumerate()
            .filter(|(place, _)| !by_problem.contains_key(place));
        let missing = unscored.map(|(_, problem)| problem.id.clone()).collect();
        let by_problem: Vec<ProblemScore> = by_problem.into_values().collect();
        let groups = by_problem
            .iter()
            .map(|problem| problem.groups.len())
            .max()
            .unwrap_or(0);
        let fewer = by_problem
            .iter()
            .filter(|problem| problem.groups.len() < groups);
        let origin = shared.origin;
        Ok(Summary {
            version: Summary::VERSION,
            name: row.name.clone(),
            title: row.title.clone(),
            method: shared.method,
            model: origin.model,
            tokenizer: origin.tokenizer,
            recipe: origin.recipe,
            seed: origin.seed,
            devices: self.devices.into_iter().collect(),
            settings: row.settings.clone(),
            problems: by_problem.len(),
            missing,
            incomplete: fewer.map(|problem| problem.id.clone()).collect(),
            groups,
            paths: shared.paths,
            scores: numbers::scores(&by_problem).ok_or(ScoreError::Nothing)?,
            tokens: self.tokens,
            ends: self.ends,
            exchange: self.exchange,
            flips: numbers::flips(&by_problem),
            by_problem,
        })
    }
}

/// The only step that reads gold.
fn judge(path: &PathTrace, think_open: bool, problem: &Problem) -> PathScore {
    let text = path.answer_text(think_open).unwrap_or_default();
    let (gold, question) = (problem.gold.as_str(), &problem.question);
    let graded = match question.kind {
        AnswerKind::Choice => grade_among(gold, &text, question.choices.len()),
        kind => grade(gold, &text, kind),
    };
    let claims = claims(path, question.kind).into_iter();
    let claims = claims.map(|(block, claim)| ClaimScore {
        block,
        grade: match claim {
            None => Grade::NoAnswer,
            Some(claim) if equal(gold, &claim, question.kind) => Grade::Right,
            Some(_) => Grade::Wrong,
        },
    });
    PathScore {
        claims: claims.collect(),
        grade: graded.grade,
        answer: graded.answer,
        found: graded.found,
        end: End::from(&path.end),
        sampled: path.sampled() as u64,
        injected: path.injected() as u64,
    }
}
