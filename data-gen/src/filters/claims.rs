//! What became of a path's claims: the filter `flips`.

use protocol::grade::{Grade, equal};
use protocol::reaction::claims;

use super::{Column, Seen};

/// For each block in which the path summed up: its claim there, and the next one or the answer.
pub(super) fn flips(seen: &Seen<'_>) -> Column {
    let kind = seen.problem.question.kind;
    let gold = seen.problem.gold.as_str();
    let of = |claim: Option<String>| match claim {
        None => Grade::NoAnswer,
        Some(claim) if equal(gold, &claim, kind) => Grade::Right,
        Some(_) => Grade::Wrong,
    };
    let claimed = claims(seen.path, kind).into_iter();
    let mut grades: Vec<Grade> = claimed.map(|(_, claim)| of(claim)).collect();
    grades.push(seen.graded.grade);
    let pairs = grades.windows(2).map(|pair| (pair[0], pair[1]));
    let lost = pairs
        .clone()
        .any(|pair| pair == (Grade::Right, Grade::Wrong));
    let names: Vec<String> = pairs
        .map(|(before, after)| format!("{}-{}", name(before), name(after)))
        .collect();
    Column::new(names, !lost)
}

fn name(grade: Grade) -> &'static str {
    match grade {
        Grade::Right => "right",
        Grade::Wrong => "wrong",
        Grade::NoAnswer => "none",
    }
}
