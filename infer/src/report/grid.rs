//! Which path solved which problem: one line a problem, one block of squares a row.

use minijinja::value::Value;
use protocol::grade::Grade;
use serde::Serialize;

use super::number::shortened;
use super::svg::Svg;
use crate::score::{End, Flip, GroupScore, PathScore, Summary};

/// Most problems that are drawn; summary.json has all.
pub(super) const MOST_PROBLEMS: usize = 200;
/// Most characters of an answer in a tooltip.
const ANSWER: usize = 24;
/// Side of a mark, and from one to the next.
const SQUARE: f64 = 11.0;
const STEP: f64 = 14.0;
/// Room below the marks of a group for the triangles of changes.
const FOOT: f64 = 7.0;

/// One problem with a cell for every row.
#[derive(Serialize)]
pub(super) struct Line {
    id: String,
    gold: String,
    cells: Vec<Vec<Cell>>,
}

/// One group.
#[derive(Serialize)]
struct Cell {
    picture: Value,
    /// What the tooltip says first.
    title: String,
    vote: String,
    answers: Vec<Answer>,
}

#[derive(Serialize)]
struct Answer {
    class: &'static str,
    mark: &'static str,
    path: usize,
    text: String,
}

/// The lines of all problems of the rows, in the order in which they first occur.
pub(super) fn lines(rows: &[Summary]) -> Vec<Line> {
    let mut ids: Vec<(&str, &str)> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for problem in rows.iter().flat_map(|row| &row.by_problem) {
        if seen.insert(problem.id.as_str()) {
            ids.push((&problem.id, &problem.gold));
        }
    }
    ids.truncate(MOST_PROBLEMS);
    // Where nobody changed sides, no room is left for it.
    let groups = rows
        .iter()
        .flat_map(|row| &row.by_problem)
        .flat_map(|problem| &problem.groups);
    let foot = groups
        .flat_map(|group| &group.paths)
        .any(|path| path.flip().is_some());
    let cells = |id: &str| rows.iter().map(|row| cells(row, id, foot)).collect();
    ids.into_iter()
        .map(|(id, gold)| Line {
            id: id.into(),
            gold: shortened(gold, ANSWER),
            cells: cells(id),
        })
        .collect()
}

/// How a verdict is shown where a picture cannot be.
pub(super) fn verdict(grade: Grade) -> (&'static str, &'static str, &'static str) {
    match grade {
        Grade::Right => ("right", "\u{2713}", "right"),
        Grade::Wrong => ("wrong", "\u{2717}", "wrong"),
        Grade::NoAnswer => ("none", "\u{2013}", "no answer"),
    }
}

/// One square for each of the three verdicts, for the legend.
pub(super) fn legend() -> Vec<(Value, &'static str)> {
    [Grade::Right, Grade::Wrong, Grade::NoAnswer]
        .map(|grade| {
            let name = verdict(grade).2;
            (
                Value::from_safe_string(marks(std::iter::once(grade), false).finish(name)),
                name,
            )
        })
        .into_iter()
        .chain(
            [
                (Flip::ToRight, "up", "came over to right"),
                (Flip::FromRight, "down", "gave right up"),
            ]
            .map(|(flip, class, name)| {
                let mut svg = Svg::new(STEP, STEP + FOOT);
                svg.curve(class, &triangle(flip, 0));
                (Value::from_safe_string(svg.finish(name)), name)
            }),
        )
        .collect()
}

fn cells(row: &Summary, id: &str, foot: bool) -> Vec<Cell> {
    let groups = row.by_problem.iter().filter(|problem| problem.id == id);
    groups
        .flat_map(|problem| {
            problem
                .groups
                .iter()
                .map(move |group| cell(row, id, group, foot))
        })
        .collect()
}

fn cell(row: &Summary, id: &str, group: &GroupScore, foot: bool) -> Cell {
    let mut svg = marks(group.paths.iter().map(|path| path.grade), foot);
    for (wanted, class) in [(Flip::ToRight, "up"), (Flip::FromRight, "down")] {
        let flipped = group.paths.iter().enumerate();
        let flipped = flipped.filter(|(_, path)| path.flip() == Some(wanted));
        let shapes: String = flipped.map(|(place, _)| triangle(wanted, place)).collect();
        if !shapes.is_empty() {
            svg.curve(class, &shapes);
        }
    }
    let right = group
        .paths
        .iter()
        .filter(|path| path.grade == Grade::Right)
        .count();
    let number = if row.groups > 1 {
        format!(", group {}", group.group + 1)
    } else {
        String::new()
    };
    let title = format!(
        "{id}, {}{number}: {right} of {} right",
        row.name,
        group.paths.len()
    );
    let answers = group.paths.iter().enumerate().map(|(path, score)| {
        let (class, mark, _) = verdict(score.grade);
        let text = match (&score.answer, score.end) {
            (Some(answer), End::Forced | End::Outgrown) => shortened(answer, ANSWER) + " (forced)",
            (Some(answer), _) => shortened(answer, ANSWER),
            (None, End::Failed) => "failed".into(),
            (None, _) => "no answer".into(),
        };
        Answer {
            class,
            mark,
            path: path + 1,
            text: text + &before(score),
        }
    });
    Cell {
        picture: Value::from_safe_string(svg.finish(&title)),
        vote: vote(group),
        answers: answers.collect(),
        title,
    }
}

/// What a path had claimed before, if it was something else.
fn before(score: &PathScore) -> String {
    match score.flip() {
        None => String::new(),
        Some(_) => {
            let claims = score.claims.iter().map(|claim| verdict(claim.grade).1);
            format!(" (claimed {})", claims.collect::<Vec<_>>().join(" "))
        }
    }
}

fn vote(group: &GroupScore) -> String {
    let answers: Vec<String> = group
        .vote
        .iter()
        .map(|answer| shortened(answer, ANSWER))
        .collect();
    match answers.as_slice() {
        [] => "no vote".into(),
        [one] if group.vote_score > 0.5 => format!("vote {one}, right"),
        [one] => format!("vote {one}, wrong"),
        tied => format!("vote tied: {}", tied.join(", ")),
    }
}

/// The marks of the paths, one shape for each verdict so that a page of them stays small.
fn marks(grades: impl Iterator<Item = Grade> + Clone, foot: bool) -> Svg {
    let height = if foot { STEP + FOOT } else { STEP };
    let mut svg = Svg::new(STEP * grades.clone().count() as f64, height);
    let classes = [
        (Grade::Right, "right solid"),
        (Grade::Wrong, "wrong thin"),
        (Grade::NoAnswer, "none solid"),
    ];
    for (wanted, class) in classes {
        let places = grades
            .clone()
            .enumerate()
            .filter(|(_, grade)| *grade == wanted);
        let shapes: String = places.map(|(place, grade)| shape(grade, place)).collect();
        if !shapes.is_empty() {
            svg.curve(class, &shapes);
        }
    }
    svg
}

/// A triangle below a mark: up for a path that came over to the right answer, down for one that
/// gave it up.
fn triangle(flip: Flip, place: usize) -> String {
    let (left, top) = (place as f64 * STEP + 3.0, STEP + 0.5);
    match flip {
        Flip::ToRight => format!("M{left} {}h8l-4 -5.5z", top + 6.0),
        Flip::FromRight => format!("M{left} {}h8l-4 5.5z", top + 0.5),
    }
}

/// Right is a full square, wrong a cross, no answer a short bar: the shape alone tells.
fn shape(grade: Grade, place: usize) -> String {
    let left = place as f64 * STEP + 1.5;
    match grade {
        Grade::Right => format!("M{left} 1.5h{SQUARE}v{SQUARE}h-{SQUARE}z"),
        Grade::Wrong => format!("M{} 3.5l7 7m0-7l-7 7", left + 2.0),
        Grade::NoAnswer => format!("M{} 6h{}v2h-{1}z", left + 2.0, SQUARE - 4.0),
    }
}
