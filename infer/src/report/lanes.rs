//! The exchange of a group as a picture: time runs to the right, a lane is a path.

use protocol::{PathTrace, SpanKind, Trace};

use super::example::Example;
use super::exchange::{UNCOUNTED, heard};
use super::grid::verdict;
use super::number::{counted, shortened};
use super::picture::kind_name;
use super::svg::Svg;

/// Most paths that are shown.
pub(super) const MOST_PATHS: usize = 16;
/// Width all phases share at most, of one phase at least, and of the arrows of a block.
const WIDTH: f64 = 620.0;
const LEAST: f64 = 10.0;
const ARROWS: f64 = 44.0;
/// From one path to the next, and the room for names and answers.
const LANE: f64 = 30.0;
const NAMES: f64 = 26.0;
const ANSWERS: f64 = 130.0;
const TOP: f64 = 22.0;

/// A stretch of the picture in which every path does the same kind of thing.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// Thoughts before block `.0`; an answer stays with the thought it follows.
    Think(u32),
    /// Summaries of a block.
    Tell(u32),
    /// What was heard in a block.
    Hear(u32),
}

fn phases(path: &PathTrace) -> Vec<(Phase, SpanKind, usize)> {
    let mut next = 0;
    let mut heard = None;
    let spans = path
        .spans
        .iter()
        .filter(|span| span.kind != SpanKind::Prompt && !span.ids.is_empty());
    spans
        .map(|span| {
            let phase = match (span.block, span.kind) {
                (None, _) => Phase::Think(next),
                (Some(block), kind) => {
                    next = block + 1;
                    if kind == SpanKind::Comment {
                        heard = Some(block);
                    }
                    // A bridge before the comment mends the end of a cut summary.
                    if heard == Some(block) {
                        Phase::Hear(block)
                    } else {
                        Phase::Tell(block)
                    }
                }
            };
            (phase, span.kind, span.ids.len())
        })
        .collect()
}

/// Where each phase begins and ends, and the pixels of a token.
struct Columns {
    think: Vec<(f64, f64)>,
    tell: Vec<(f64, f64)>,
    hear: Vec<(f64, f64)>,
    token: f64,
}

impl Columns {
    fn of(trace: &Trace) -> Self {
        let blocks = trace.blocks.len();
        let lanes: Vec<_> = trace.paths.iter().take(MOST_PATHS).map(phases).collect();
        let longest = |wanted: Phase| {
            let sum = |lane: &Vec<(Phase, SpanKind, usize)>| -> usize {
                lane.iter()
                    .filter(|(phase, ..)| *phase == wanted)
                    .map(|(.., tokens)| tokens)
                    .sum()
            };
            lanes.iter().map(sum).max().unwrap_or(0) as f64
        };
        let all =
            (0..blocks as u32).flat_map(|b| [Phase::Think(b), Phase::Tell(b), Phase::Hear(b)]);
        let all = all.chain([Phase::Think(blocks as u32)]);
        let tokens: f64 = all.clone().map(longest).sum();
        let token = WIDTH / tokens.max(1.0);
        let mut columns = Self {
            think: Vec::new(),
            tell: Vec::new(),
            hear: Vec::new(),
            token,
        };
        let mut x = NAMES;
        for phase in all {
            let end = x + (longest(phase) * token).max(LEAST);
            match phase {
                Phase::Think(_) => columns.think.push((x, end)),
                Phase::Tell(_) => columns.tell.push((x, end)),
                Phase::Hear(_) => columns.hear.push((x, end)),
            }
            x = end
                + if matches!(phase, Phase::Tell(_)) {
                    ARROWS
                } else {
                    3.0
                };
        }
        columns
    }

    fn of_phase(&self, phase: Phase) -> Option<(f64, f64)> {
        match phase {
            Phase::Think(block) => self.think.get(block as usize),
            Phase::Tell(block) => self.tell.get(block as usize),
            Phase::Hear(block) => self.hear.get(block as usize),
        }
        .copied()
    }

    fn end(&self) -> f64 {
        self.think.last().map_or(NAMES, |(_, end)| *end)
    }
}

/// The group as a picture: a lane for each path, an arrow from each summary to who read it.
pub(super) fn picture(example: &Example) -> String {
    let trace = &example.trace;
    let columns = Columns::of(trace);
    let lanes = trace.paths.len().min(MOST_PATHS);
    let height = TOP + lanes as f64 * LANE;
    let mut svg = Svg::new(columns.end() + ANSWERS, height);
    let middle = |path: usize| TOP + path as f64 * LANE + LANE / 2.0;
    for (block, ((_, from), (to, _))) in columns.tell.iter().zip(&columns.hear).enumerate() {
        svg.rect("exchange", (*from, TOP), (to - from, height - TOP));
        svg.text(
            "tick middle",
            ((from + to) / 2.0, TOP - 8.0),
            &format!("block {}", block + 1),
        );
    }
    for (at, path) in trace.paths.iter().take(lanes).enumerate() {
        let y = middle(at);
        svg.text("label", (0.0, y + 4.0), &format!("{}", at + 1));
        let mut place = None;
        let mut x = NAMES;
        for (phase, kind, tokens) in phases(path) {
            let Some((start, end)) = columns.of_phase(phase) else {
                continue;
            };
            if place != Some(phase) {
                // What is told lies against the arrows that carry it away.
                let told = phases(path)
                    .into_iter()
                    .filter(|(other, ..)| *other == phase);
                let told = told
                    .map(|(.., tokens)| tokens as f64 * columns.token)
                    .sum::<f64>();
                x = if matches!(phase, Phase::Tell(_)) {
                    end - told
                } else {
                    start
                };
                place = Some(phase);
            }
            let width = tokens as f64 * columns.token;
            let tall = if kind.is_sampled() { 16.0 } else { 8.0 };
            svg.rect(
                &format!("k-{}", kind_name(kind)),
                (x, y - tall / 2.0),
                (width, tall),
            );
            x += width;
        }
        for claim in example
            .verdict(at)
            .into_iter()
            .flat_map(|score| &score.claims)
        {
            if let Some((_, end)) = columns.of_phase(Phase::Tell(claim.block)) {
                let (class, mark, _) = verdict(claim.grade);
                let class = format!("claim {class}-text");
                svg.text(&class, (end, y - 10.0), mark);
            }
        }
        let score = example.verdict(at);
        let (class, mark, _) = score.map_or(UNCOUNTED, |score| verdict(score.grade));
        let answer = score.map_or("not counted".into(), |score| {
            let answer = score.answer.as_deref();
            answer.map_or("no answer".into(), |text| shortened(text, 12))
        });
        svg.text(
            &format!("label {class}-text"),
            (x + 6.0, y + 4.0),
            &format!("{mark} {answer}"),
        );
    }
    for block in &trace.blocks {
        let tell = columns.of_phase(Phase::Tell(block.index));
        let hear = columns.of_phase(Phase::Hear(block.index));
        let (Some((_, from)), Some((to, _))) = (tell, hear) else {
            continue;
        };
        let routes = block
            .routes
            .iter()
            .filter(|route| (route.reader as usize) < lanes);
        for route in routes {
            svg.open(
                "hear",
                &format!("path {} heard {}", route.reader + 1, heard(route)),
            );
            for peer in route.peers.iter().filter(|peer| (**peer as usize) < lanes) {
                arrow(
                    &mut svg,
                    (from + 2.0, middle(*peer as usize)),
                    (to - 2.0, middle(route.reader as usize)),
                );
            }
            svg.close();
        }
    }
    let label = format!(
        "{} over {}: what each path wrote, whom it heard, and its answer; the text below says the same",
        counted(trace.paths.len() as u64, "path", "paths"),
        counted(trace.blocks.len() as u64, "block", "blocks"),
    );
    svg.finish(&label)
}

fn arrow(svg: &mut Svg, (x0, y0): (f64, f64), (x1, y1): (f64, f64)) {
    let bend = (x1 - x0) * 0.45;
    let (near, far) = (x0 + bend, x1 - bend);
    svg.curve(
        "arrow",
        &format!("M{x0:.1} {y0:.1}C{near:.1} {y0:.1} {far:.1} {y1:.1} {x1:.1} {y1:.1}"),
    );
    svg.curve(
        "arrow",
        &format!(
            "M{:.1} {:.1}L{x1:.1} {y1:.1}L{:.1} {:.1}",
            x1 - 4.0,
            y1 - 3.0,
            x1 - 4.0,
            y1 + 3.0
        ),
    );
}
