//! The small pictures beside the numbers of a table: scores, differences, tokens.

use protocol::SpanKind;
use protocol::stats::Interval;

use super::number::{self, mean, percent, points};
use super::svg::{Mark, Scale, Svg, ticks};
use crate::score::{Comparison, Summary};

/// Size of a picture inside a table cell.
const CELL: (f64, f64) = (260.0, 34.0);

/// The axis that the scores of all rows share, from 0 to a round value not below any interval.
pub(super) fn score_scale(rows: &[Summary]) -> Scale {
    let scores = rows
        .iter()
        .flat_map(|row| [row.scores.pass_at_1, row.scores.cons_at_n]);
    let most = ticks(
        scores
            .map(|score| score.over_problems.high)
            .fold(0.05, f64::max),
        4,
    )
    .last()
    .copied()
    .unwrap_or(1.0);
    Scale {
        values: (0.0, most.min(1.0)),
        pixels: (14.0, CELL.0 - 18.0),
    }
}

/// The axis that all differences share: as far to the left as to the right.
pub(super) fn difference_scale(comparisons: &[Comparison]) -> Scale {
    let reach = |found: &Comparison| found.difference.low.abs().max(found.difference.high.abs());
    let most = comparisons.iter().map(reach).fold(0.05, f64::max);
    let most = ticks(most, 2).last().copied().unwrap_or(1.0);
    Scale {
        values: (-most, most),
        pixels: (18.0, CELL.0 - 18.0),
    }
}

/// The head of a column of pictures: where the values of `scale` lie.
pub(super) fn axis(scale: Scale, label: fn(f64) -> String) -> String {
    let mut svg = Svg::new(CELL.0, 16.0);
    for value in marks(scale) {
        svg.text("tick middle", (scale.at(value), 11.0), &label(value));
    }
    svg.finish("axis")
}

/// Pass@1 above, the vote below, each with its interval.
pub(super) fn scores(index: usize, row: &Summary, vote: &str, scale: Scale) -> String {
    let mut svg = Svg::new(CELL.0, CELL.1);
    grid(&mut svg, scale, CELL.1);
    let pairs = [
        (row.scores.pass_at_1, 10.0, Mark::Disc),
        (row.scores.cons_at_n, 24.0, Mark::Ring),
    ];
    for (score, y, mark) in pairs {
        let class = format!("s{}", index % 6);
        let score = score.over_problems;
        svg.whisker(
            &format!("{class} line"),
            (scale.at(score.low), scale.at(score.high)),
            y,
        );
        svg.mark(&class, mark, (scale.at(score.estimate), y), 4.5);
    }
    let [pass, cons] = pairs.map(|(score, ..)| number::score(&score.over_problems));
    svg.finish(&format!("{}: Pass@1 {pass}, {vote} {cons}", row.name))
}

/// A difference with its interval around zero.
pub(super) fn difference(comparison: &Comparison, scale: Scale) -> String {
    let height = 24.0;
    let mut svg = Svg::new(CELL.0, height);
    grid(&mut svg, scale, height);
    svg.line("zero", (scale.at(0.0), 0.0), (scale.at(0.0), height));
    let Interval {
        estimate,
        low,
        high,
        ..
    } = comparison.difference;
    let clear = low > 0.0 || high < 0.0;
    svg.whisker("ink line", (scale.at(low), scale.at(high)), height / 2.0);
    let mark = if clear { Mark::Disc } else { Mark::Ring };
    svg.mark("ink", mark, (scale.at(estimate), height / 2.0), 4.5);
    svg.finish(&format!("{} points", points(estimate)))
}

/// The tokens of a path by what they are, sampled ones first; `most` is the longest of all rows.
pub(super) fn tokens(row: &Summary, most: f64) -> String {
    let height = 18.0;
    let mut svg = Svg::new(CELL.0, height);
    let scale = Scale {
        values: (0.0, most),
        pixels: (0.0, CELL.0),
    };
    let mut start = 0.0;
    for kind in token_order() {
        let tokens = row.tokens.per_path(row.tokens.of(kind));
        let (from, to) = (scale.at(start), scale.at(start + tokens));
        let height = if kind.is_sampled() { 14.0 } else { 7.0 };
        svg.rect(
            &format!("k-{}", kind_name(kind)),
            (from, 16.0 - height),
            (to - from, height),
        );
        start += tokens;
    }
    svg.finish(&format!("{} tokens per path after the prompt", mean(start)))
}

/// Span kinds after the prompt: sampled first, so that their sum can be compared by eye.
pub(super) fn token_order() -> impl Iterator<Item = SpanKind> {
    let after = SpanKind::ALL
        .into_iter()
        .filter(|kind| *kind != SpanKind::Prompt);
    let (sampled, injected): (Vec<_>, Vec<_>) = after.partition(|kind| kind.is_sampled());
    sampled.into_iter().chain(injected)
}

/// The name of a span kind, as files, classes and legends have it.
pub(super) fn kind_name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Prompt => "prompt",
        SpanKind::Beginning => "beginning",
        SpanKind::Thought => "thought",
        SpanKind::Trigger => "trigger",
        SpanKind::Summary => "summary",
        SpanKind::Comment => "comment",
        SpanKind::Bridge => "bridge",
        SpanKind::Forced => "forced",
        SpanKind::Answer => "answer",
    }
}

/// The values of an axis in percent: `25%`.
pub(super) fn axis_percent(value: f64) -> String {
    let text = percent(value);
    text.strip_suffix(".0").unwrap_or(&text).to_string()
}

/// The values of an axis in points: `+5`.
pub(super) fn axis_points(value: f64) -> String {
    let text = points(value);
    text.strip_suffix(".0").unwrap_or(&text).to_string()
}

fn marks(scale: Scale) -> Vec<f64> {
    let (low, high) = scale.values;
    let steps = if low < 0.0 { 2 } else { 4 };
    let up = ticks(high, steps)
        .into_iter()
        .filter(|value| *value <= high * 1.001);
    let up: Vec<f64> = up.collect();
    let down = up
        .iter()
        .filter(|value| low < 0.0 && **value > 0.0)
        .map(|value| -value);
    down.chain(up.iter().copied()).collect()
}

fn grid(svg: &mut Svg, scale: Scale, height: f64) {
    for value in marks(scale) {
        svg.line("grid", (scale.at(value), 0.0), (scale.at(value), height));
    }
}
