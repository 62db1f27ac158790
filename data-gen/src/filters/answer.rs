//! Filters on the outcome: did the path end, is its answer right, how many of its group are.

use protocol::grade::{AnswerKind, Grade, Graded, grade, grade_among};
use protocol::trace_stats::end_name;
use protocol::{PathEnd, PathTrace, Problem, Stream, Trace};

use super::{Column, FilterSettings};

/// The grade of a path's own answer; a path without an answer text has none.
pub(super) fn graded(path: &PathTrace, think_open: bool, problem: &Problem) -> Graded {
    let text = path.answer_text(think_open).unwrap_or_default();
    let (gold, question) = (problem.gold.as_str(), &problem.question);
    match question.kind {
        AnswerKind::Choice => grade_among(gold, &text, question.choices.len()),
        kind => grade(gold, &text, kind),
    }
}

pub(super) fn finished(path: &PathTrace) -> Column {
    let left = matches!(path.end, PathEnd::Failed(_) | PathEnd::Released);
    Column::new(end_name(&path.end), !left)
}

pub(super) fn right(graded: &Graded) -> Column {
    Column::new(graded.answer.clone(), graded.grade == Grade::Right)
}

/// A path that stopped outside of a thought ended its text, and so its answer, by itself.
pub(super) fn ended(path: &PathTrace) -> Column {
    let ended = path.answer_ended || path.end == PathEnd::Stopped;
    Column::new(ended, ended)
}

/// The share of right ones among the paths whose answer counts.
pub(super) fn pass_rate(trace: &Trace, right: usize, settings: &FilterSettings) -> Column {
    let rate = right as f64 / trace.counted.len().max(1) as f64;
    let [least, most] = settings.pass_rate;
    let lot = Stream::of_run(u64::from(trace.group)).named(&trace.problem);
    let drawn = rate > most && lot.uniform(0) < settings.all_right;
    Column::new(
        super::rounded(rate),
        (least..=most).contains(&rate) || drawn,
    )
}
