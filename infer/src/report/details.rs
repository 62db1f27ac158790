//! What lies behind each row: one line a fact, one column a row.

use protocol::SpanKind;
use serde::Serialize;

use super::number::{self, UNKNOWN, counted, mean, percent, whole};
use super::picture::{kind_name, token_order};
use super::warning::{Warning, warnings};
use crate::score::{Ends, Summary};

/// A fact about every row.
#[derive(Serialize)]
pub(super) struct Line {
    name: &'static str,
    /// One for each row.
    cells: Vec<String>,
}

impl Line {
    fn new(name: &'static str, rows: &[Summary], cell: impl Fn(&Summary) -> String) -> Self {
        Self {
            name,
            cells: rows.iter().map(cell).collect(),
        }
    }
}

/// What was run and what else was measured.
pub(super) fn measured(rows: &[Summary]) -> Vec<Line> {
    let between_groups = |row: &Summary| match row.scores.pass_at_1.group_se {
        Some(se) => percent(se),
        None => format!("{UNKNOWN}: one group"),
    };
    let between_problems = |row: &Summary| match row.scores.pass_at_1.over_problems.se {
        Some(se) => percent(se),
        None => format!("{UNKNOWN}: one problem"),
    };
    let correlation = |row: &Summary| match row.scores.error_correlation {
        Some(found) => format!("{found:.2}").replace("-0.00", "0.00"),
        None if row.groups < 2 => format!("{UNKNOWN}: one group"),
        None => UNKNOWN.into(),
    };
    let resampled = |row: &Summary| match &row.scores.bootstrap {
        Some(found) => number::ends(found),
        None => UNKNOWN.into(),
    };
    vec![
        Line::new("method", rows, |row| row.method.name().into()),
        Line::new("size", rows, size),
        Line::new("settings", rows, settings),
        Line::new("written by", rows, |row| author(&row.model)),
        Line::new("computed on", rows, |row| row.devices.join(", ")),
        Line::new(
            "Pass@1, standard error over problems",
            rows,
            between_problems,
        ),
        Line::new("Pass@1, standard error over groups", rows, between_groups),
        Line::new("Pass@1, 95% by bootstrap over problems", rows, resampled),
        Line::new("shortest majority", rows, |row| {
            number::score(&row.scores.shortest_majority.over_problems)
        }),
        Line::new("error correlation", rows, correlation),
        Line::new("different answers per group", rows, |row| {
            format!("{:.2}", row.scores.answers_per_group)
        }),
        Line::new("blocks per group", rows, |row| {
            format!("{:.1}", row.exchange.blocks_per_group())
        }),
    ]
}

/// How the paths ended.
pub(super) fn ends(rows: &[Summary]) -> Vec<Line> {
    let line = |name, of: fn(&Ends) -> u64| {
        Line::new(name, rows, |row| {
            counted_share(of(&row.ends), row.tokens.paths)
        })
    };
    vec![
        line("answered", |ends| ends.answered),
        line("stopped by itself", |ends| ends.stopped),
        line("forced to answer: budget used up", |ends| ends.forced),
        line("forced to answer: out of positions", |ends| ends.outgrown),
        line("failed", |ends| ends.failed),
    ]
}

/// Tokens of a path by kind, on average.
pub(super) fn tokens(rows: &[Summary]) -> Vec<Line> {
    let per_path = |row: &Summary, kind| mean(row.tokens.per_path(row.tokens.of(kind)));
    let kinds = token_order().chain([SpanKind::Prompt]);
    let dropped = |row: &Summary| mean(row.tokens.per_path(row.tokens.dropped));
    kinds
        .filter(|kind| rows.iter().any(|row| row.tokens.of(*kind) > 0))
        .map(|kind| Line::new(kind_name(kind), rows, |row| per_path(row, kind)))
        .chain([Line::new("sampled and cut off again", rows, dropped)])
        .collect()
}

/// Every warning that some row has.
pub(super) fn warned(rows: &[Summary]) -> Vec<Line> {
    let by_row: Vec<Vec<Warning>> = rows.iter().map(warnings).collect();
    let mut kinds = Vec::new();
    for warning in by_row.iter().flatten() {
        if !kinds.contains(&warning.what) {
            kinds.push(warning.what);
        }
    }
    let cell = |found: Option<&Warning>| match found {
        None => "\u{2013}".to_string(),
        Some(Warning { count, of, .. }) => {
            let share = percent(*count as f64 / (*of).max(1) as f64);
            format!("{} of {} ({share}%)", whole(*count), whole(*of))
        }
    };
    let line = |name: &'static str| {
        let found = by_row
            .iter()
            .map(|row| row.iter().find(|warning| warning.what == name));
        Line {
            name,
            cells: found.map(cell).collect(),
        }
    };
    kinds.into_iter().map(line).collect()
}

fn counted_share(count: u64, of: u64) -> String {
    match count {
        0 => "0".into(),
        count => format!(
            "{} ({}%)",
            whole(count),
            percent(count as f64 / of.max(1) as f64)
        ),
    }
}

/// The beginning of a hash tells checkpoints apart; a name is shown as it is.
fn author(model: &str) -> String {
    let hash = model.len() == 64 && model.bytes().all(|byte| byte.is_ascii_hexdigit());
    number::shortened(model, if hash { 13 } else { 64 })
}

fn size(row: &Summary) -> String {
    format!(
        "{}, {} of {}",
        counted(row.problems as u64, "problem", "problems"),
        counted(row.groups as u64, "group", "groups"),
        counted(row.paths as u64, "path", "paths")
    )
}

fn settings(row: &Summary) -> String {
    let Some(settings) = &row.settings else {
        return UNKNOWN.into();
    };
    let sampling = &settings.sampling;
    let mut words = Vec::new();
    if row.method.exchanges() {
        words.push(format!("T = {}", settings.turn_tokens));
        words.push(format!("k = {}", settings.peers));
        words.push(format!("{:?} router", settings.router).to_lowercase());
    }
    words.push(format!(
        "at most {} tokens",
        whole(settings.max_tokens as u64)
    ));
    words.push(format!("temperature {}", sampling.temperature));
    words.push(format!("top-p {}", sampling.top_p));
    words.join(", ")
}
