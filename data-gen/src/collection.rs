//! From rows of files to problems that can be trained on: named, with plain answers, each once, and
//! none of a benchmark.

use protocol::Gold;
use protocol::Problem;
use protocol::grade::{AnswerKind, boxed, equal};
use rayon::prelude::*;

use crate::contamination::Benchmarks;
use crate::import::Imported;
use crate::left_out::{LeftOut, Told, Why};
use crate::{duplicates, identity};

/// Problems, and what is not among them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Collection {
    /// In the order of the rows.
    pub problems: Vec<Problem>,
    /// By reason, then in the order of the rows.
    pub left_out: Vec<LeftOut>,
}

/// An answer that no grader can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "problem `{id}` has the answer `{answer}`, which does not even equal itself when it is read as {kind:?}"
)]
pub struct Unreadable {
    id: String,
    answer: String,
    kind: AnswerKind,
}

/// Gives a row without a name one that it keeps: `prefix` and a hash of what is asked.
pub fn name(row: &mut Imported, prefix: &str) {
    if !row.id_given {
        row.problem.id = identity::of(prefix, &row.problem.question);
    }
}

/// Writes answers plainly: without boxes, dollars and a full stop, whole numbers without leading
/// zeros. Where all answers of a mathematical file turn out to be whole numbers, they are read as
/// such, unless `kind_given`.
///
/// # Errors
/// The first answer that cannot be graded.
pub fn plain_answers(rows: &mut [Imported], kind_given: bool) -> Result<(), Unreadable> {
    for row in rows.iter_mut() {
        let problem = &mut row.problem;
        if problem.question.kind != AnswerKind::Choice {
            problem.gold = Gold::new(plain(problem.gold.as_str()));
        }
    }
    let whole = |row: &Imported| row.problem.gold.as_str().parse::<i64>().ok();
    let mathematics = |row: &Imported| row.problem.question.kind == AnswerKind::Math;
    let all_whole = rows
        .iter()
        .filter(|row| mathematics(row))
        .all(|row| whole(row).is_some());
    for row in rows.iter_mut() {
        if !kind_given && all_whole && mathematics(row) {
            row.problem.question.kind = AnswerKind::Integer;
        }
        if let (AnswerKind::Integer, Some(value)) = (row.problem.question.kind, whole(row)) {
            row.problem.gold = Gold::new(value.to_string());
        }
        let problem = &row.problem;
        let (answer, kind) = (problem.gold.as_str(), problem.question.kind);
        if !equal(answer, answer, kind) {
            return Err(Unreadable {
                id: problem.id.clone(),
                answer: answer.to_owned(),
                kind,
            });
        }
    }
    Ok(())
}

fn plain(answer: &str) -> String {
    let mut answer = answer.trim();
    if let Some(inner) = boxed(answer).filter(|inner| answer.len() <= inner.len() + BOX) {
        answer = inner.trim();
    }
    let dollars = answer
        .strip_prefix('$')
        .and_then(|rest| rest.strip_suffix('$'));
    if let Some(inner) = dollars.filter(|inner| !inner.contains('$')) {
        answer = inner.trim();
    }
    let number = answer
        .strip_suffix('.')
        .filter(|rest| rest.parse::<i64>().is_ok());
    let answer = number.unwrap_or(answer);
    // Thousands: a comma between three digits each, and nothing else.
    let parts: Vec<&str> = answer.split(',').collect();
    let digits = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
    match parts.as_slice() {
        [first, rest @ ..]
            if !rest.is_empty()
                && (1..=3).contains(&first.len())
                && digits(first)
                && rest.iter().all(|part| part.len() == 3 && digits(part)) =>
        {
            parts.concat()
        }
        _ => answer.to_owned(),
    }
}

/// Most characters around the content of a box that is the whole answer: `$\boxed{` and `}$.`.
const BOX: usize = 12;

/// The rows that can be trained on: none from `before` or later, none twice, none of a benchmark.
///
/// Rows whose year is not known are not too recent.
pub fn collect(rows: Vec<Imported>, before: Option<u32>, benchmarks: &Benchmarks) -> Collection {
    collect_until(rows, before, benchmarks, &|| false).expect("nobody asks to stop")
}

/// As [`collect`]; none if `stop` asks to stop before it is done.
pub fn collect_until(
    rows: Vec<Imported>,
    before: Option<u32>,
    benchmarks: &Benchmarks,
    stop: &(dyn Fn() -> bool + Sync),
) -> Option<Collection> {
    let mut left_out = Vec::new();
    let mut old = Vec::with_capacity(rows.len());
    for row in rows {
        match row
            .year
            .filter(|year| before.is_some_and(|before| *year >= before))
        {
            Some(year) => left_out.push(LeftOut {
                why: Why::Year,
                value: f64::from(year),
                problem: Told::of(&row.problem),
                like: None,
                benchmark: None,
            }),
            None => old.push(row.problem),
        }
    }
    let (once, copies) = duplicates::without_until(old, stop)?;
    left_out.extend(copies);
    let hits: Vec<Option<LeftOut>> = once
        .par_iter()
        .map(|problem| (!stop()).then(|| benchmarks.hit(problem)))
        .collect::<Option<_>>()?;
    let mut problems = Vec::with_capacity(once.len());
    for (problem, hit) in once.into_iter().zip(hits) {
        match hit {
            Some(hit) => left_out.push(hit),
            None => problems.push(problem),
        }
    }
    Some(Collection { problems, left_out })
}
