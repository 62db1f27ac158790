//! The table of a report as text, Markdown and JSON.

use protocol::stats::Interval;
use serde::Serialize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::number::{self, counted, mean, percent};
use crate::score::{Comparison, Summary};

/// Most columns of a terminal the text takes.
const WIDTH: usize = 100;
/// Between two columns of the table.
const GAP: &str = "   ";

/// The rows as an aligned text of at most 100 columns, ready for a terminal.
///
/// Scores are in percent with 95% intervals over problems. Empty without rows.
pub fn table(rows: &[Summary]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let body = rows
        .iter()
        .map(|row| line(row, rows, number::aligned_score));
    let cells = std::iter::once(header(rows)).chain(body).collect();
    aligned(cells) + "\n" + &legend(rows) + "\n"
}

/// Lines of cells as columns; the first one is cut where a line would be too wide.
pub(super) fn aligned(mut cells: Vec<Vec<String>>) -> String {
    let columns = cells.first().map_or(0, Vec::len);
    let widths = |cells: &[Vec<String>]| -> Vec<usize> {
        (0..columns)
            .map(|at| cells.iter().map(|line| line[at].width()).max().unwrap_or(0))
            .collect()
    };
    let gaps = GAP.len() * columns.saturating_sub(1);
    let taken: usize = widths(&cells).iter().sum::<usize>() + gaps;
    if taken > WIDTH {
        let longest = widths(&cells)[0].saturating_sub(taken - WIDTH).max(4);
        for line in &mut cells {
            line[0] = fitted(&line[0], longest);
        }
    }
    let widths = widths(&cells);
    let mut text = String::new();
    for line in &cells {
        let padded: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| cell.clone() + &" ".repeat(width - cell.width()))
            .collect();
        text.push_str(padded.join(GAP).trim_end());
        text.push('\n');
    }
    text
}

/// The rows as a Markdown table, with the same columns as [`table`].
pub fn markdown(rows: &[Summary]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut cells = vec![header(rows)];
    cells.extend(rows.iter().map(|row| line(row, rows, number::score)));
    let text = piped(&cells);
    let legend: Vec<String> = legend(rows).lines().map(harmless).collect();
    text + "\n" + &legend.join("  \n") + "\n"
}

/// Lines of cells as a Markdown table; the first line is its head.
pub(super) fn piped(cells: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (index, line) in cells.iter().enumerate() {
        let line: Vec<String> = line.iter().map(|cell| harmless(cell.trim())).collect();
        text.push_str(&format!("| {} |\n", line.join(" | ")));
        if index == 0 {
            text.push_str(&format!("|{}\n", " --- |".repeat(line.len())));
        }
    }
    text
}

/// Rows and differences as one JSON document, with a line end.
pub fn json(rows: &[Summary], comparisons: &[Comparison]) -> String {
    #[derive(Serialize)]
    struct Document<'a> {
        version: u32,
        rows: &'a [Summary],
        comparisons: &'a [Comparison],
    }
    let document = Document {
        version: Summary::VERSION,
        rows,
        comparisons,
    };
    let text = serde_json::to_string_pretty(&document);
    text.expect("a summary has text keys and no map that could fail") + "\n"
}

/// The paths of a vote: `Cons@4`, or `Cons@N` where rows differ.
pub(super) fn vote_name(rows: &[Summary]) -> String {
    match shared(rows, |row| row.paths) {
        Some(paths) => format!("Cons@{paths}"),
        None => "Cons@N".into(),
    }
}

fn header(rows: &[Summary]) -> Vec<String> {
    let mut cells = vec![
        "row".to_string(),
        "Pass@1 [95%]".into(),
        format!("{} [95%]", vote_name(rows)),
    ];
    cells.extend(["tokens per path".into(), "no answer".into()]);
    if shared(rows, size).is_none() {
        cells.push("M x G x N".into());
    }
    cells
}

fn line(row: &Summary, rows: &[Summary], score: fn(&Interval) -> String) -> Vec<String> {
    let tokens = &row.tokens;
    let mut cells = vec![
        one_line(&row.name),
        score(&row.scores.pass_at_1.over_problems),
        score(&row.scores.cons_at_n.over_problems),
        format!(
            "{} + {}",
            mean(tokens.per_path(tokens.sampled())),
            mean(tokens.per_path(tokens.injected()))
        ),
        format!("{:>5}%", percent(row.scores.no_answer)),
    ];
    if shared(rows, size).is_none() {
        cells.push(format!("{} x {} x {}", row.problems, row.groups, row.paths));
    }
    cells
}

fn legend(rows: &[Summary]) -> String {
    let size = match shared(rows, size) {
        None => "M problems, G groups of N paths".to_string(),
        Some((problems, groups, paths)) => format!(
            "{}, {} of {}",
            counted(problems as u64, "problem", "problems"),
            counted(groups as u64, "group", "groups"),
            counted(paths as u64, "path", "paths"),
        ),
    };
    let mut lines = vec![
        size + "; scores in percent, intervals over problems",
        "tokens: sampled + injected, mean over paths".to_string(),
    ];
    for row in rows.iter().filter(|row| !row.missing.is_empty()) {
        let missing = counted(row.missing.len() as u64, "problem", "problems");
        let name = fitted(&one_line(&row.name), WIDTH / 2);
        lines.push(format!("{name}: {missing} without a group, left out"));
    }
    lines.join("\n")
}

fn size(row: &Summary) -> (usize, usize, usize) {
    (row.problems, row.groups, row.paths)
}

/// The value all rows have, if they have one.
fn shared<T: PartialEq>(rows: &[Summary], of: impl Fn(&Summary) -> T) -> Option<T> {
    let first = of(rows.first()?);
    rows.iter().all(|row| of(row) == first).then_some(first)
}

/// Control characters would break the lines of a table, or the terminal.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}

fn fitted(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_string();
    }
    let mut fitted = String::new();
    for char in text.chars() {
        if fitted.width() + char.width().unwrap_or(0) + 1 > width {
            break;
        }
        fitted.push(char);
    }
    fitted + "\u{2026}"
}

/// Text that means nothing to Markdown and to the HTML inside of it.
pub(super) fn harmless(text: &str) -> String {
    let mut safe = String::new();
    for char in text.chars() {
        match char {
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            '|' | '\\' | '`' | '*' | '_' | '!' => safe.extend(['\\', char]),
            char => safe.push(char),
        }
    }
    safe
}
