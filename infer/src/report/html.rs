//! The report as one page: no network, no script needed to read it.

use std::collections::BTreeSet;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use super::exchange::{self, Shown};
use super::number::{self, mean, percent, points, whole};
use super::{Fact, Report, details, figure, flips, grid, picture, table};
use crate::score::{Comparison, Summary};

/// The page: HTML with places for values, which are escaped unless a picture of ours is put there.
const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const KEYS: &str = include_str!("page.js");

/// The report as a self-contained HTML document.
///
/// Everything that comes from models, problems or recipes is escaped. The bytes depend on the
/// report alone.
pub fn html(report: &Report) -> String {
    let mut page = Environment::new();
    page.set_undefined_behavior(UndefinedBehavior::Strict);
    page.set_auto_escape_callback(|_| AutoEscape::Html);
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    page.set_syntax(syntax.expect("the syntax is the usual one"));
    let template = page
        .template_from_str(PAGE)
        .expect("the page is part of the program");
    let rendered = template.render(Serde(Page::new(report)));
    rendered.expect("every value the page names is given")
}

/// Everything the page names.
#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    style: Value,
    keys: Value,
    facts: &'a [Fact],
    notes: &'a [String],
    vote: String,
    score_axis: Value,
    rows: Vec<RowView>,
    difference_axis: Value,
    comparisons: Vec<ComparisonView>,
    accuracy: Value,
    pass_at_k: Option<Value>,
    exchanging: bool,
    warnings: Vec<details::Line>,
    tokens: Vec<details::Line>,
    measured: Vec<details::Line>,
    ends: Vec<details::Line>,
    kinds: Vec<&'static str>,
    examples: Vec<Shown>,
    changes: Vec<flips::Line>,
    marks: Vec<(Value, &'static str)>,
    grid: Vec<grid::Line>,
    problems: usize,
    most_problems: usize,
    trainings: Vec<(&'a str, Value)>,
}

impl<'a> Page<'a> {
    fn new(report: &'a Report) -> Self {
        let rows = &report.rows;
        let (vote, scale) = (table::vote_name(rows), picture::score_scale(rows));
        let longest = rows.iter().map(after_prompt).fold(1.0, f64::max);
        let row_view = |(at, row)| {
            RowView::new(
                row,
                picture::scores(at, row, &vote, scale),
                picture::tokens(row, longest),
            )
        };
        let differences = picture::difference_scale(&report.comparisons);
        let difference_view =
            |found| ComparisonView::new(found, drawn(picture::difference(found, differences)));
        let drawable = report
            .trainings
            .iter()
            .filter(|training| !training.points.is_empty());
        let problems: BTreeSet<&str> = rows
            .iter()
            .flat_map(|row| &row.by_problem)
            .map(|problem| problem.id.as_str())
            .collect();
        Self {
            title: &report.title,
            style: drawn(STYLE.into()),
            keys: drawn(KEYS.into()),
            facts: &report.facts,
            notes: &report.notes,
            score_axis: drawn(picture::axis(scale, picture::axis_percent)),
            rows: rows.iter().enumerate().map(row_view).collect(),
            difference_axis: drawn(picture::axis(differences, picture::axis_points)),
            comparisons: report.comparisons.iter().map(difference_view).collect(),
            accuracy: drawn(figure::accuracy_by_tokens(rows)),
            pass_at_k: rows
                .iter()
                .any(|row| row.paths > 1)
                .then(|| drawn(figure::pass_at_k(rows))),
            exchanging: rows.iter().any(|row| row.method.exchanges()),
            warnings: details::warned(rows),
            tokens: details::tokens(rows),
            measured: details::measured(rows),
            ends: details::ends(rows),
            kinds: picture::token_order()
                .filter(|kind| rows.iter().any(|row| row.tokens.of(*kind) > 0))
                .map(picture::kind_name)
                .collect(),
            examples: report
                .examples
                .iter()
                .take(Report::MOST_EXAMPLES)
                .map(exchange::shown)
                .collect(),
            changes: flips::lines(rows),
            marks: grid::legend(),
            grid: grid::lines(rows),
            problems: problems.len(),
            most_problems: grid::MOST_PROBLEMS,
            trainings: drawable
                .map(|t| (t.name.as_str(), drawn(figure::loss(t))))
                .collect(),
            vote,
        }
    }
}

/// Markup that pictures of ours are made of; any text in it has been escaped.
fn drawn(svg: String) -> Value {
    Value::from_safe_string(svg)
}

fn after_prompt(row: &Summary) -> f64 {
    row.tokens
        .per_path(row.tokens.sampled() + row.tokens.injected())
}

#[derive(Serialize)]
struct RowView {
    name: String,
    title: String,
    pass: String,
    pass_interval: String,
    cons: String,
    cons_interval: String,
    sampled: String,
    injected: String,
    prompt: String,
    prefilled: String,
    all_sampled: String,
    no_answer: String,
    picture: Value,
    tokens: Value,
}

impl RowView {
    fn new(row: &Summary, picture: String, tokens_picture: String) -> Self {
        let (scores, tokens) = (&row.scores, &row.tokens);
        let (pass, cons) = (
            &scores.pass_at_1.over_problems,
            &scores.cons_at_n.over_problems,
        );
        Self {
            name: row.name.clone(),
            title: row.title.clone(),
            pass: percent(pass.estimate),
            pass_interval: number::ends(pass),
            cons: percent(cons.estimate),
            cons_interval: number::ends(cons),
            sampled: mean(tokens.per_path(tokens.sampled())),
            injected: mean(tokens.per_path(tokens.injected())),
            prompt: mean(tokens.per_path(tokens.prompt())),
            prefilled: whole(tokens.prefilled),
            all_sampled: whole(tokens.sampled()),
            no_answer: percent(scores.no_answer),
            picture: drawn(picture),
            tokens: drawn(tokens_picture),
        }
    }
}

#[derive(Serialize)]
struct ComparisonView {
    row: String,
    baseline: String,
    difference: String,
    interval: String,
    vote: String,
    vote_interval: String,
    counts: String,
    picture: Value,
}

impl ComparisonView {
    fn new(comparison: &Comparison, picture: Value) -> Self {
        Self {
            row: comparison.row.clone(),
            baseline: comparison.baseline.clone(),
            difference: points(comparison.difference.estimate),
            interval: number::difference_ends(&comparison.difference),
            vote: points(comparison.vote.estimate),
            vote_interval: number::difference_ends(&comparison.vote),
            counts: format!(
                "{} / {} / {}",
                comparison.better, comparison.same, comparison.worse
            ),
            picture,
        }
    }
}
