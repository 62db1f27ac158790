//! The tensors of a trainer state: what each of them is, where it comes from and where it goes.
//!
//! Numbers of four bytes come first, so that they are aligned.

use std::borrow::Cow;

use model::parameters::Parameter;

use crate::eight::{BLOCK, Eight, Meaning};
use crate::gradients::Layout;
use crate::numbers::Numbers;
use crate::optimizer::{Kept, Moment, Optimizer};
use crate::state::{Format, Table, Values, Within};

/// What a state holds.
pub(crate) struct Contents {
    parts: Vec<Part>,
    pub(crate) table: Table,
}

/// One tensor, of the parameter at a place.
#[derive(Clone, Copy)]
enum Part {
    /// Its values, or those of its master.
    Weights(usize),
    /// The sum of the gradients of a step under way.
    Sum(usize),
    /// A moment in f32.
    Exact(Meaning, usize),
    /// The scales of a moment in 8 bits.
    Scales(Meaning, usize),
    /// Its codes.
    Codes(Meaning, usize),
}

const MOMENTS: [(Meaning, &str); 2] = [(Meaning::Signed, "first"), (Meaning::Square, "second")];

/// What a state held.
pub(crate) struct Sorted {
    pub(crate) weights: Vec<Vec<f32>>,
    /// The first moments, then the second.
    pub(crate) moments: [Vec<Kept>; 2],
    /// Sums of gradients, and their places.
    pub(crate) sums: Vec<(usize, Vec<f32>)>,
}

impl Contents {
    /// Those of a state at the border of two steps, or within one.
    pub(crate) fn of(layout: &Layout, optimizer: &Optimizer, within: Option<&Within>) -> Self {
        let (mut parts, mut table, mut codes) = (Vec::new(), Table::default(), Vec::new());
        for (place, entry) in layout.parameters.iter().enumerate() {
            table.push(format!("weights.{}", entry.name), Format::F32, &entry.shape);
            parts.push(Part::Weights(place));
        }
        for (meaning, kind) in MOMENTS {
            for (place, entry) in layout.parameters.iter().enumerate() {
                let name = format!("{kind}.{}", entry.name);
                if let Moment::Exact(_) = optimizer.moment(meaning, place) {
                    table.push(name, Format::F32, &entry.shape);
                    parts.push(Part::Exact(meaning, place));
                    continue;
                }
                let blocks = entry.elements().div_ceil(BLOCK);
                table.push(format!("{name}.scale"), Format::F32, &[blocks]);
                parts.push(Part::Scales(meaning, place));
                codes.push((name, Part::Codes(meaning, place), entry));
            }
        }
        let reached = within.map_or(&[][..], |within| &within.reached);
        for (place, (entry, reached)) in layout.parameters.iter().zip(reached).enumerate() {
            if *reached {
                table.push(format!("sum.{}", entry.name), Format::F32, &entry.shape);
                parts.push(Part::Sum(place));
            }
        }
        for (name, part, entry) in codes {
            table.push(name, Format::U8, &entry.shape);
            parts.push(part);
        }
        Self { parts, table }
    }

    /// The values of the tensor at `index`; `parameters` are those that are trained, `sums` the
    /// gradients of a step under way.
    pub(crate) fn values<'a>(
        &self,
        index: usize,
        optimizer: &'a Optimizer,
        parameters: &[Parameter],
        sums: &'a [Numbers],
    ) -> Values<'a> {
        let eight = |meaning, place| match optimizer.moment(meaning, place) {
            Moment::Eight(eight) => eight,
            Moment::Exact(_) => unreachable!("a moment keeps its format"),
        };
        match self.parts[index] {
            Part::Weights(place) => Values::F32(match &optimizer.masters {
                Some(masters) => masters[place].to_host(),
                None => {
                    let values = parameters[place].data().try_into_vec_as::<f32>();
                    Cow::Owned(values.expect("float data converts to f32"))
                }
            }),
            Part::Sum(place) => Values::F32(sums[place].to_host()),
            Part::Exact(meaning, place) => match optimizer.moment(meaning, place) {
                Moment::Exact(numbers) => Values::F32(numbers.to_host()),
                Moment::Eight(_) => unreachable!("a moment keeps its format"),
            },
            Part::Scales(meaning, place) => {
                Values::F32(Cow::Borrowed(&eight(meaning, place).scales))
            }
            Part::Codes(meaning, place) => Values::U8(Cow::Borrowed(&eight(meaning, place).codes)),
        }
    }

    /// What a state held, by what it is.
    pub(crate) fn sort(&self, values: Vec<Values<'static>>) -> Sorted {
        let (mut weights, mut moments) = (Vec::new(), [Vec::new(), Vec::new()]);
        let mut sums = Vec::new();
        for (part, values) in self.parts.iter().zip(values) {
            let of = |meaning| match meaning {
                Meaning::Signed => 0,
                Meaning::Square => 1,
            };
            match *part {
                Part::Weights(_) => weights.push(values.into_f32()),
                Part::Sum(place) => sums.push((place, values.into_f32())),
                Part::Exact(meaning, _) => {
                    moments[of(meaning)].push(Kept::Exact(values.into_f32()));
                }
                Part::Scales(meaning, _) => moments[of(meaning)].push(Kept::Eight(Eight {
                    meaning,
                    codes: Vec::new(),
                    scales: values.into_f32(),
                })),
                Part::Codes(meaning, place) => {
                    if let Kept::Eight(eight) = &mut moments[of(meaning)][place] {
                        eight.codes = values.into_codes();
                    }
                }
            }
        }
        Sorted {
            weights,
            moments,
            sums,
        }
    }
}
