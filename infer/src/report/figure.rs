//! Pictures with two axes: scores against tokens, scores against paths, losses against steps.

use super::number::whole;
use super::picture::{axis_percent, score_scale};
use super::svg::{Mark, Scale, Svg, ticks};
use super::{LossPoint, Training};
use crate::score::Summary;

/// Size of a picture with axes.
const FIGURE: (f64, f64) = (440.0, 280.0);
/// Room for the labels of the axes: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (44.0, 26.0, 16.0, 40.0);
/// About the width of a character of a label.
const CHARACTER: f64 = 7.8;
/// Most points of a loss curve; more are averaged.
const MOST_POINTS: usize = 200;

/// Pass@1 and the vote of every row against the tokens a group samples: what is paid for them.
pub(super) fn accuracy_by_tokens(rows: &[Summary]) -> String {
    let tokens = |row: &Summary| row.tokens.sampled() as f64 / row.exchange.groups.max(1) as f64;
    let most = rows.iter().map(tokens).fold(1.0, f64::max);
    let top = score_scale(rows).values.1;
    let mut frame = Frame::new((0.0, most * 1.02), (0.0, top));
    frame.x_axis("sampled tokens per group", |value| whole(value as u64));
    frame.y_axis("right, %", axis_percent);
    let mut labels = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let class = format!("s{}", index % 6);
        let (x, score) = (frame.x.at(tokens(row)), row.scores.pass_at_1.over_problems);
        let [y, low, high] = [score.estimate, score.low, score.high].map(|value| frame.y.at(value));
        let line = format!("{class} line");
        frame.svg.line(&line, (x, low), (x, high));
        for end in [low, high] {
            frame.svg.line(&line, (x - 4.0, end), (x + 4.0, end));
        }
        let vote = frame.y.at(row.scores.cons_at_n.over_problems.estimate);
        if row.paths > 1 {
            frame.svg.mark(&class, Mark::Ring, (x, vote), 4.0);
        }
        frame.svg.mark(&class, Mark::of_row(index), (x, y), 5.0);
        labels.push((x, y, row.name.clone()));
    }
    frame.labels(labels);
    frame
        .svg
        .finish("Pass@1 and vote against sampled tokens per group")
}

/// The share of problems that at least one of k paths solves.
pub(super) fn pass_at_k(rows: &[Summary]) -> String {
    let log = |k: usize| (k as f64).log2();
    let most = rows.iter().map(|row| log(row.paths)).fold(1.0, f64::max);
    let values = rows
        .iter()
        .flat_map(|row| row.scores.pass_at_k.iter().map(|pass| pass.value));
    let top = ticks(values.fold(0.05, f64::max), 4)
        .last()
        .copied()
        .unwrap_or(1.0)
        .min(1.0);
    let longest = rows.iter().map(|row| row.name.chars().count()).max();
    let right = (longest.unwrap_or(0) as f64 * CHARACTER + 14.0).clamp(60.0, 150.0);
    let mut frame = Frame::with_right((0.0, most), (0.0, top), right);
    frame.y_axis("pass@k, %", axis_percent);
    let last = most.floor() as u32;
    let places: Vec<f64> = (0..=last).map(f64::from).collect();
    frame.x_ticks("paths k", &places, |log| whole(log.exp2().round() as u64));
    let mut labels = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let class = format!("s{}", index % 6);
        let at = |frame: &Frame, k, value| (frame.x.at(log(k)), frame.y.at(value));
        let points: Vec<(f64, f64)> = row
            .scores
            .pass_at_k
            .iter()
            .map(|pass| at(&frame, pass.k, pass.value))
            .collect();
        frame.svg.polyline(&format!("{class} line"), &points);
        for point in &points {
            frame.svg.mark(&class, Mark::of_row(index), *point, 3.5);
        }
        labels.extend(points.last().map(|(x, y)| (*x, *y, row.name.clone())));
    }
    frame.labels(labels);
    frame.svg.finish("pass@k by row")
}

/// The loss curve of a training.
pub(super) fn loss(training: &Training) -> String {
    let points = thinned(&training.points);
    let last = training
        .points
        .iter()
        .map(|point| point.step)
        .max()
        .unwrap_or(1);
    let top = points.iter().map(|(_, loss)| *loss).fold(0.0, f64::max);
    let top = ticks(top, 4).last().copied().unwrap_or(1.0);
    let mut frame = Frame::new((0.0, last as f64), (0.0, top));
    frame.x_axis("step", |value| whole(value as u64));
    frame.y_axis("loss, nats per token", |value| format!("{value:.1}"));
    let line: Vec<(f64, f64)> = points
        .iter()
        .map(|(step, loss)| (frame.x.at(*step), frame.y.at(*loss)))
        .collect();
    frame.svg.polyline("s0 line", &line);
    if let (Some((x, y)), Some((_, loss))) = (line.last(), points.last()) {
        frame.svg.mark("s0", Mark::Disc, (*x, *y), 3.5);
        frame
            .svg
            .text("label end", (*x - 4.0, *y - 8.0), &format!("{loss:.3}"));
    }
    frame.svg.finish(&format!("loss of {}", training.name))
}

/// Means of as many neighbours as needed to stay below [`MOST_POINTS`].
fn thinned(points: &[LossPoint]) -> Vec<(f64, f64)> {
    let known: Vec<&LossPoint> = points
        .iter()
        .filter(|point| point.loss.is_finite())
        .collect();
    let bucket = known.len().div_ceil(MOST_POINTS).max(1);
    let mean_of = |points: &[&LossPoint]| {
        let count = points.len() as f64;
        let step = points.iter().map(|point| point.step as f64).sum::<f64>() / count;
        (
            step,
            points.iter().map(|point| point.loss).sum::<f64>() / count,
        )
    };
    known.chunks(bucket).map(mean_of).collect()
}

/// A picture with two axes.
struct Frame {
    svg: Svg,
    x: Scale,
    y: Scale,
}

impl Frame {
    fn new(x: (f64, f64), y: (f64, f64)) -> Self {
        Self::with_right(x, y, MARGIN.2)
    }

    /// With room for names on the right.
    fn with_right(x: (f64, f64), y: (f64, f64), right: f64) -> Self {
        let (left, top, _, bottom) = MARGIN;
        Self {
            svg: Svg::new(FIGURE.0, FIGURE.1),
            x: Scale {
                values: x,
                pixels: (left, FIGURE.0 - right),
            },
            y: Scale {
                values: y,
                pixels: (FIGURE.1 - bottom, top),
            },
        }
    }

    fn x_axis(&mut self, name: &str, label: fn(f64) -> String) {
        let most = self.x.values.1;
        let inside: Vec<f64> = ticks(most, 5)
            .into_iter()
            .filter(|value| *value <= most)
            .collect();
        self.x_ticks(name, &inside, label);
    }

    fn x_ticks(&mut self, name: &str, values: &[f64], label: fn(f64) -> String) {
        let (bottom, middle) = (self.y.pixels.0, (self.x.pixels.0 + self.x.pixels.1) / 2.0);
        self.svg
            .line("axis", (self.x.pixels.0, bottom), (self.x.pixels.1, bottom));
        for value in values {
            let x = self.x.at(*value);
            self.svg.line("axis", (x, bottom), (x, bottom + 4.0));
            self.svg
                .text("tick middle", (x, bottom + 16.0), &label(*value));
        }
        self.svg.text("name middle", (middle, bottom + 33.0), name);
    }

    fn y_axis(&mut self, name: &str, label: fn(f64) -> String) {
        let (left, right) = self.x.pixels;
        let inside = ticks(self.y.values.1, 4)
            .into_iter()
            .filter(|v| *v <= self.y.values.1 * 1.001);
        for value in inside {
            let y = self.y.at(value);
            self.svg.line("grid", (left, y), (right, y));
            self.svg
                .text("tick end", (left - 6.0, y + 4.0), &label(value));
        }
        self.svg.text("name", (left, self.y.pixels.1 - 11.0), name);
    }

    /// Names beside their points, moved apart where they would lie over each other.
    fn labels(&mut self, mut labels: Vec<(f64, f64, String)>) {
        const LINE: f64 = 15.0;
        labels.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.total_cmp(&b.0)));
        let mut placed: Vec<(f64, f64, f64)> = Vec::new();
        for (x, y, name) in labels {
            let name = super::number::shortened(&name, 24);
            let width = name.chars().count() as f64 * CHARACTER;
            let before = x + 10.0 + width > FIGURE.0;
            let (from, to) = if before {
                (x - 10.0 - width, x - 10.0)
            } else {
                (x + 10.0, x + 10.0 + width)
            };
            let free = |base: &f64| {
                let (top, bottom) = (MARGIN.1, FIGURE.1 - MARGIN.3 - 2.0);
                let covers = |(left, right, taken): &(f64, f64, f64)| {
                    from < *right && *left < to && (base - taken).abs() < LINE
                };
                (top..=bottom).contains(base) && !placed.iter().any(covers)
            };
            // Below first, then above; never on the axis.
            let near = y.min(FIGURE.1 - MARGIN.3 - 6.0) + 4.0;
            let steps = (0..40).flat_map(|step| [step, -step]);
            let mut places = steps.map(|step| near + f64::from(step) * LINE / 2.0);
            let base = places.find(free).unwrap_or(near);
            placed.push((from, to, base));
            let (class, at) = if before {
                ("label end", to)
            } else {
                ("label", from)
            };
            self.svg.text(class, (at, base), &name);
        }
    }
}
