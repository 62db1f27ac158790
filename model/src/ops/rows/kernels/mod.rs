//! The kernels, in CubeCL's language: a cube of units for each row, sums in f32.
//!
//! Matrices lie row by row, seen as vectors of N elements; `width` counts such vectors. Nothing is
//! checked here: the functions that launch them have made the sizes agree.
#![expect(
    clippy::needless_range_loop,
    clippy::reversed_empty_ranges,
    reason = "CubeCL has ranges and indices, and clippy takes what the card says for 0"
)]

mod attention;
mod cube;
mod dropout;
mod gates;
mod heads;
mod norms;
mod scores;
mod shortlists;
mod sums;
mod updates;

pub(super) use self::attention::{HEADS, LANES, PLANES, attend_places, attend_tiles, join_parts};
pub(super) use self::cube::UNITS;
pub(super) use self::dropout::drop_values;
pub(super) use self::gates::{gate, gate_backward, gate_both};
pub(super) use self::heads::{turn, write_heads};
pub(super) use self::norms::{add_norm, norm, norm_backward, norm_weight_parts};
pub(super) use self::scores::{losses, shares, shares_backward};
pub(super) use self::shortlists::{near_peak, peaks};
#[cfg(feature = "cuda")]
pub(super) use self::sums::row_product;
pub(super) use self::sums::{COLUMNS, SHARING, largest, parts_of_rows, squares, sum_of_rows};
pub(super) use self::updates::adamw;
