//! The curves of a training as one page without network: SVG in HTML.

use std::collections::BTreeMap;
use std::fmt::Write;

use model::lineage::Lineage;
use serde_json::Value;

use super::curves::Point;
use crate::train_recipe::TrainRecipe;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
/// Room for labels: left, top, right, bottom.
const MARGIN: [f64; 4] = [64.0, 14.0, 130.0, 36.0];
const COLOURS: [&str; 8] = [
    "#3366cc", "#dc3912", "#109618", "#990099", "#0099c6", "#b82e2e", "#66aa00", "#994499",
];

/// A curve: a name and its points.
type Curve = (String, Vec<(f64, f64)>);

/// The page.
pub(super) fn html(recipe: &TrainRecipe, points: &[Point], lineage: &Lineage) -> String {
    let steps = |of: &dyn Fn(&Point) -> Option<(u64, Value)>| -> Vec<(f64, f64)> {
        let points = points.iter().filter_map(of);
        points
            .filter_map(|(step, value)| Some((step as f64, value.as_f64()?)))
            .collect()
    };
    let loss = steps(&|point| match point {
        Point::Step { step, loss, .. } => Some((*step, loss.clone())),
        Point::Look { .. } => None,
    });
    let norm = steps(&|point| match point {
        Point::Step {
            step, grad_norm, ..
        } => Some((*step, grad_norm.clone())),
        Point::Look { .. } => None,
    });
    let rate = steps(&|point| match point {
        Point::Step { step, lr, .. } => Some((*step, Value::from(*lr))),
        Point::Look { .. } => None,
    });
    let held_out = steps(&|point| match point {
        Point::Look { step, loss, .. } => Some((*step, loss.clone())),
        Point::Step { .. } => None,
    });
    let mut kinds: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for point in points {
        if let Point::Look {
            step, kinds: of, ..
        } = point
        {
            for (kind, loss) in of {
                if let Some(loss) = loss.as_f64() {
                    kinds.entry(kind).or_default().push((*step as f64, loss));
                }
            }
        }
    }
    let mut figures = String::new();
    let mut figure = |title: &str, curves: Vec<Curve>| {
        if curves.iter().any(|curve| !curve.1.is_empty()) {
            let _ = write!(figures, "<h2>{title}</h2>\n{}", svg(title, &curves));
        }
    };
    let losses = vec![
        ("trained".to_string(), loss),
        ("held out".to_string(), held_out),
    ];
    figure("Loss, nats a token", losses);
    let kinds = kinds.into_iter();
    let by_kind = kinds.map(|(kind, points)| (kind.to_string(), points));
    figure("Held-out loss by kind of token", by_kind.collect());
    figure("Gradient norm before clipping", vec![(String::new(), norm)]);
    figure("Learning rate", vec![(String::new(), rate)]);
    let essence = toml::to_string(&recipe.essence()).unwrap_or_default();
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n\
         <style>body{{font:15px/1.5 system-ui,sans-serif;max-width:760px;margin:2em auto;\
         padding:0 1em}}h2{{font-size:1em;margin:1.5em 0 0}}svg{{width:100%;height:auto}}\
         text{{font-size:12px;fill:#444}}pre{{background:#f4f4f4;padding:1em;overflow:auto}}\
         @media(prefers-color-scheme:dark){{body{{background:#16181c;color:#ddd}}text{{fill:#bbb}}\
         pre{{background:#22252b}}}}</style>\n<h1>{title}</h1>\n<p>From checkpoint <code>{base}</code>\
         on samples <code>{samples}</code>.</p>\n{figures}<h2>Recipe</h2>\n<pre>{essence}</pre>\n\
         </html>\n",
        title = escaped(&recipe.title),
        base = short(&lineage.base),
        samples = short(&lineage.samples),
        essence = escaped(&essence),
    )
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn svg(title: &str, curves: &[Curve]) -> String {
    let all = || curves.iter().flat_map(|curve| curve.1.iter().copied());
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::MIN, f64::max);
    let least = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::MAX, f64::min);
    let (last, top) = (
        most(&mut all().map(|point| point.0)).max(1.0),
        most(&mut all().map(|point| point.1)),
    );
    let bottom = least(&mut all().map(|point| point.1)).min(0.0);
    let span = if top > bottom { top - bottom } else { 1.0 };
    let [left, above, right, below] = MARGIN;
    let x = |step: f64| left + (WIDTH - left - right) * step / last;
    let y = |value: f64| HEIGHT - below - (HEIGHT - above - below) * (value - bottom) / span;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        escaped(title)
    );
    for part in 0..=4 {
        let value = bottom + span * f64::from(part) / 4.0;
        let (at, end) = (y(value), WIDTH - right);
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#8884\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            at + 4.0,
            label(value)
        );
        let step = last * f64::from(part) / 4.0;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(step),
            HEIGHT - 12.0,
            label(step)
        );
    }
    for (index, (name, points)) in curves.iter().enumerate() {
        let Some(end) = points.last() else { continue };
        let colour = COLOURS[index % COLOURS.len()];
        let places: Vec<String> = points
            .iter()
            .map(|(step, value)| format!("{:.1},{:.1}", x(*step), y(*value)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>",
            places.join(" ")
        );
        let height = match curves.len() {
            1 => y(end.1) + 4.0,
            _ => above + 14.0 * (index as f64 + 1.0),
        };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{height:.1}\" style=\"fill:{colour}\">{} {}</text>",
            WIDTH - right + 8.0,
            escaped(name),
            label(end.1)
        );
    }
    svg + "</svg>\n"
}

/// A number in at most four digits.
fn label(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_string(),
        size if size < 1e-3 => format!("{value:.1e}"),
        size if size < 10.0 => format!("{value:.3}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
