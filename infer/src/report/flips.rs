//! Changes of mind: what paths claimed before and after each exchange.

use minijinja::value::Value;
use serde::Serialize;

use super::number::{percent, points, whole};
use super::svg::{Scale, Svg, ticks};
use crate::score::{BlockFlips, Summary};

/// Most blocks that are shown one by one; later ones are summed up.
const MOST_BLOCKS: usize = 8;
/// Size of the picture of a line.
const CELL: (f64, f64) = (260.0, 22.0);

/// A line of changes.
pub(super) struct Change {
    /// The block or blocks, counted from 1.
    pub(super) block: String,
    pub(super) flips: BlockFlips,
}

/// The changes of a row, by block.
pub(super) fn shown(row: &Summary) -> Vec<Change> {
    let one = |flips: &BlockFlips| Change {
        block: (flips.block + 1).to_string(),
        flips: *flips,
    };
    if row.flips.len() <= MOST_BLOCKS {
        return row.flips.iter().map(one).collect();
    }
    let (first, rest) = row.flips.split_at(MOST_BLOCKS - 1);
    let mut sum = BlockFlips::default();
    for flips in rest {
        sum.paths += flips.paths;
        sum.stayed_right += flips.stayed_right;
        sum.wrong_to_right += flips.wrong_to_right;
        sum.none_to_right += flips.none_to_right;
        sum.right_to_wrong += flips.right_to_wrong;
        sum.right_to_none += flips.right_to_none;
    }
    let from = rest.first().map_or(0, |flips| flips.block + 1);
    let to = rest.last().map_or(0, |flips| flips.block + 1);
    let rest = Change {
        block: format!("{from} to {to}"),
        flips: sum,
    };
    first.iter().map(one).chain([rest]).collect()
}

/// A line of the page.
#[derive(Serialize)]
pub(super) struct Line {
    row: String,
    block: String,
    paths: String,
    right_before: String,
    wrong_to_right: String,
    none_to_right: String,
    right_to_wrong: String,
    right_to_none: String,
    net: String,
    picture: Value,
}

/// The lines of all rows; empty if nobody claimed anything.
pub(super) fn lines(rows: &[Summary]) -> Vec<Line> {
    let all: Vec<(&Summary, Change)> = rows
        .iter()
        .flat_map(|row| shown(row).into_iter().map(move |change| (row, change)))
        .collect();
    let share = |count: u64, of: u64| count as f64 / of.max(1) as f64;
    let reach = |flips: &BlockFlips| share(gained(flips).max(lost(flips)), flips.paths);
    let most = all.iter().map(|(_, change)| reach(&change.flips));
    let most = ticks(most.fold(0.01, f64::max), 2)
        .last()
        .copied()
        .unwrap_or(1.0);
    all.into_iter()
        .map(|(row, Change { block, flips })| Line {
            row: row.name.clone(),
            block,
            paths: whole(flips.paths),
            right_before: percent(share(
                flips.stayed_right + flips.right_to_wrong + flips.right_to_none,
                flips.paths,
            )),
            wrong_to_right: whole(flips.wrong_to_right),
            none_to_right: whole(flips.none_to_right),
            right_to_wrong: whole(flips.right_to_wrong),
            right_to_none: whole(flips.right_to_none),
            net: points(share(gained(&flips), flips.paths) - share(lost(&flips), flips.paths)),
            picture: Value::from_safe_string(picture(&flips, most)),
        })
        .collect()
}

fn gained(flips: &BlockFlips) -> u64 {
    flips.wrong_to_right + flips.none_to_right
}

fn lost(flips: &BlockFlips) -> u64 {
    flips.right_to_wrong + flips.right_to_none
}

/// What was lost to the left of a line, what was gained to its right.
fn picture(flips: &BlockFlips, most: f64) -> String {
    let mut svg = Svg::new(CELL.0, CELL.1);
    let scale = Scale {
        values: (-most, most),
        pixels: (4.0, CELL.0 - 4.0),
    };
    let share = |count: u64| count as f64 / flips.paths.max(1) as f64;
    let (zero, height, top) = (scale.at(0.0), 12.0, 5.0);
    let mut bar = |class: &str, from: f64, to: f64| {
        let (left, right) = (scale.at(from.min(to)), scale.at(from.max(to)));
        svg.rect(class, (left, top), (right - left, height));
    };
    let (wrong, silent) = (share(flips.wrong_to_right), share(flips.none_to_right));
    bar("gain", 0.0, wrong);
    bar("gain pale", wrong, wrong + silent);
    let (wrong, silent) = (share(flips.right_to_wrong), share(flips.right_to_none));
    bar("loss", -wrong, 0.0);
    bar("loss pale", -wrong - silent, -wrong);
    svg.line("zero", (zero, 0.0), (zero, CELL.1));
    let (gained, lost) = (gained(flips), lost(flips));
    svg.finish(&format!(
        "{gained} claims became right, {lost} were given up"
    ))
}
