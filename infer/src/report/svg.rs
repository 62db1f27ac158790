//! SVG by hand: a few shapes, and text that cannot break out of them.
//!
//! Colours and strokes are classes of the page's style sheet, so that a picture follows light and
//! dark. Lengths are CSS pixels.

use std::fmt::Write;

/// A picture that grows by shapes; later ones lie over earlier ones.
pub(super) struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// What a mark looks like; a row keeps its shape in every picture, so colour is not needed.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    Disc,
    Square,
    Diamond,
    Triangle,
    Ring,
    Frame,
}

impl Mark {
    const ALL: [Self; 6] = [
        Self::Disc,
        Self::Square,
        Self::Diamond,
        Self::Triangle,
        Self::Ring,
        Self::Frame,
    ];

    /// The mark of row `index`.
    pub(super) fn of_row(index: usize) -> Self {
        Self::ALL[index % Self::ALL.len()]
    }
}

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self {
            width,
            height,
            body: String::new(),
        }
    }

    /// A straight line.
    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.curve(
            class,
            &format!("M{} {}L{} {}", n(from.0), n(from.1), n(to.0), n(to.1)),
        );
    }

    /// A line through all points.
    pub(super) fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        let mut path = String::new();
        for (at, (x, y)) in points.iter().enumerate() {
            let _ = write!(
                path,
                "{}{} {}",
                if at == 0 { 'M' } else { 'L' },
                n(*x),
                n(*y)
            );
        }
        self.curve(class, &path);
    }

    /// Any path data.
    pub(super) fn curve(&mut self, class: &str, path: &str) {
        let _ = write!(
            self.body,
            r#"<path class="{}" d="{}"/>"#,
            Safe(class),
            Safe(path)
        );
    }

    /// A filled box.
    pub(super) fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        let (x, y, width, height) = (n(x), n(y), n(width.max(0.0)), n(height.max(0.0)));
        let _ = write!(
            self.body,
            r#"<rect class="{}" x="{x}" y="{y}" width="{width}" height="{height}"/>"#,
            Safe(class)
        );
    }

    /// A mark around a point.
    pub(super) fn mark(&mut self, class: &str, mark: Mark, (x, y): (f64, f64), radius: f64) {
        let r = radius;
        let hollow = matches!(mark, Mark::Ring | Mark::Frame);
        let class = format!("{class} {}", if hollow { "hollow" } else { "solid" });
        match mark {
            Mark::Disc | Mark::Ring => {
                let _ = write!(
                    self.body,
                    r#"<circle class="{}" cx="{}" cy="{}" r="{}"/>"#,
                    Safe(&class),
                    n(x),
                    n(y),
                    n(r)
                );
            }
            Mark::Square | Mark::Frame => {
                let r = r * 0.9;
                self.rect(&class, (x - r, y - r), (2.0 * r, 2.0 * r));
            }
            Mark::Diamond => {
                let r = r * 1.25;
                let corners = [(x, y - r), (x + r, y), (x, y + r), (x - r, y)];
                self.polygon(&class, &corners);
            }
            Mark::Triangle => {
                let r = r * 1.2;
                let corners = [(x, y - r), (x + r, y + 0.8 * r), (x - r, y + 0.8 * r)];
                self.polygon(&class, &corners);
            }
        }
    }

    /// Text; `class` decides where its anchor is.
    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let (class, x, y, text) = (Safe(class), n(x), n(y), Safe(text));
        let _ = write!(
            self.body,
            r#"<text class="{class}" x="{x}" y="{y}">{text}</text>"#
        );
    }

    /// A whisker from `low` to `high` along a horizontal axis.
    pub(super) fn whisker(&mut self, class: &str, (low, high): (f64, f64), y: f64) {
        self.line(class, (low, y), (high, y));
        self.line(class, (low, y - 3.0), (low, y + 3.0));
        self.line(class, (high, y - 3.0), (high, y + 3.0));
    }

    /// Opens a group; its title is what a pointer resting on it shows.
    pub(super) fn open(&mut self, class: &str, title: &str) {
        let _ = write!(
            self.body,
            r#"<g class="{}"><title>{}</title>"#,
            Safe(class),
            Safe(title)
        );
    }

    /// Closes the group opened last.
    pub(super) fn close(&mut self) {
        self.body.push_str("</g>");
    }

    /// The picture as markup. It keeps its size; `label` says what it shows to who cannot see it.
    pub(super) fn finish(self, label: &str) -> String {
        let (width, height) = (n(self.width), n(self.height));
        format!(
            r#"<svg role="img" aria-label="{}" width="{width}" height="{height}" viewBox="0 0 {width} {height}">{}</svg>"#,
            Safe(label),
            self.body
        )
    }

    fn polygon(&mut self, class: &str, corners: &[(f64, f64)]) {
        let points: Vec<String> = corners
            .iter()
            .map(|(x, y)| format!("{},{}", n(*x), n(*y)))
            .collect();
        let points = points.join(" ");
        let _ = write!(
            self.body,
            r#"<polygon class="{}" points="{points}"/>"#,
            Safe(class)
        );
    }
}

/// A linear map from values to pixels.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    pub(super) values: (f64, f64),
    pub(super) pixels: (f64, f64),
}

impl Scale {
    /// The pixel of `value`; values outside lie on the edge.
    pub(super) fn at(&self, value: f64) -> f64 {
        let (low, high) = self.values;
        let span = if high > low { high - low } else { 1.0 };
        let share = ((value - low) / span).clamp(0.0, 1.0);
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }
}

/// Round values that cover `0..=most` in about `steps` steps, 0 included.
pub(super) fn ticks(most: f64, steps: usize) -> Vec<f64> {
    let rough = most.max(f64::MIN_POSITIVE) / steps.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
    let step = step
        .into_iter()
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(10.0 * power);
    let count = (most / step - 1e-9).ceil().max(1.0) as usize;
    (0..=count).map(|at| at as f64 * step).collect()
}

/// A pixel number: one decimal is enough, and the same everywhere.
fn n(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" {
        "0".into()
    } else {
        text.into()
    }
}

/// Text inside markup or a double-quoted attribute.
pub(super) struct Safe<'a>(pub(super) &'a str);

impl std::fmt::Display for Safe<'_> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{}", minijinja::HtmlEscape(self.0))
    }
}
