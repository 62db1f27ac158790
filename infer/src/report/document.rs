//! A whole report as text for a terminal, and as Markdown.

use super::number::{self, UNKNOWN, counted, percent, points, whole};
use super::table::{aligned, harmless, markdown, one_line, piped, table, vote_name};
use super::warning::warnings;
use super::{Report, flips};

/// The report for a terminal of 100 columns: the table, differences, what changed after each
/// exchange, and what deserves a look.
pub fn text(report: &Report) -> String {
    let mut parts = vec![table(&report.rows)];
    for (about, cells) in sections(report) {
        parts.push(format!("{about}\n{}", aligned(cells)));
    }
    parts.join("\n")
}

/// The report as Markdown, with the same parts as [`text`] and the facts behind it.
pub fn document(report: &Report) -> String {
    let mut parts = vec![format!("# {}\n", harmless(&one_line(&report.title)))];
    let facts = report.facts.iter();
    let facts: Vec<String> = facts
        .map(|fact| {
            let (name, value) = (one_line(&fact.name), one_line(&fact.value));
            format!("- {}: {}", harmless(&name), harmless(&value))
        })
        .collect();
    if !facts.is_empty() {
        parts.push(facts.join("\n") + "\n");
    }
    parts.extend(report.notes.iter().map(|note| harmless(note) + "\n"));
    parts.push(markdown(&report.rows));
    for (about, cells) in sections(report) {
        parts.push(format!("## {}\n\n{}", harmless(&about), piped(&cells)));
    }
    parts.join("\n")
}

/// What follows the table of rows: a heading, and lines of cells with their head.
fn sections(report: &Report) -> Vec<(String, Vec<Vec<String>>)> {
    let all = [
        (
            "Differences, in points with 95% intervals, paired by problem".to_owned(),
            differences(report),
        ),
        (
            "Standard errors of Pass@1, its interval by bootstrap, and other scores".to_owned(),
            scores(report),
        ),
        (
            "Claims before and after each exchange".to_owned(),
            changes(report),
        ),
        ("Worth a look".to_owned(), looks(report)),
    ];
    all.into_iter()
        .filter(|(_, cells)| cells.len() > 1)
        .collect()
}

fn line(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

fn differences(report: &Report) -> Vec<Vec<String>> {
    let vote = vote_name(&report.rows);
    let mut cells = vec![line(&[
        "row against row",
        "Pass@1",
        &vote,
        "better/same/worse",
    ])];
    for found in &report.comparisons {
        let score = |it: &protocol::stats::Interval| {
            format!("{} {}", points(it.estimate), number::difference_ends(it))
        };
        cells.push(vec![
            format!(
                "{} against {}",
                one_line(&found.row),
                one_line(&found.baseline)
            ),
            score(&found.difference),
            score(&found.vote),
            format!("{}/{}/{}", found.better, found.same, found.worse),
        ]);
    }
    cells
}

fn scores(report: &Report) -> Vec<Vec<String>> {
    let mut cells = vec![line(&[
        "row",
        "over problems",
        "over groups",
        "bootstrap",
        "shortest majority",
        "pass@k",
    ])];
    for row in &report.rows {
        let (scores, pass) = (&row.scores, &row.scores.pass_at_1);
        let missing = |what: &str| format!("{UNKNOWN}: one {what}");
        let se = |found: Option<f64>, what: &str| found.map_or_else(|| missing(what), percent);
        let most = scores.pass_at_k.last();
        cells.push(vec![
            one_line(&row.name),
            se(pass.over_problems.se, "problem"),
            se(pass.group_se, "group"),
            scores
                .bootstrap
                .as_ref()
                .map_or(UNKNOWN.into(), number::ends),
            percent(scores.shortest_majority.over_problems.estimate),
            most.map_or(UNKNOWN.into(), |it| {
                format!("{} @{}", percent(it.value), it.k)
            }),
        ]);
    }
    cells
}

fn changes(report: &Report) -> Vec<Vec<String>> {
    let mut cells = vec![line(&[
        "row",
        "block",
        "claims",
        "wrong to right",
        "none to right",
        "right to wrong",
        "right to none",
    ])];
    for row in &report.rows {
        for change in flips::shown(row) {
            cells.push(vec![
                one_line(&row.name),
                change.block.clone(),
                whole(change.flips.paths),
                whole(change.flips.wrong_to_right),
                whole(change.flips.none_to_right),
                whole(change.flips.right_to_wrong),
                whole(change.flips.right_to_none),
            ]);
        }
    }
    cells
}

fn looks(report: &Report) -> Vec<Vec<String>> {
    let mut cells = vec![line(&["row", "what happened", "how often"])];
    for row in &report.rows {
        for warning in warnings(row) {
            let share = percent(warning.count as f64 / warning.of.max(1) as f64);
            cells.push(vec![
                one_line(&row.name),
                warning.what.to_owned(),
                format!("{} ({share}%)", counted(warning.count, "time", "times")),
            ]);
        }
    }
    cells
}
