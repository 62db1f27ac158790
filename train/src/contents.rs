//! The tensors of a trainer state: what each of them is, where it comes from and where it goes.
//!
//! Numbers of four bytes come first, so that they are aligned.

use std::borrow::Cow;

use model::decoder::Decoder;
use model::parameters::Parameter;

use crate::eight::{BLOCK, Eight, Meaning};
use crate::gradients::Layout;
use crate::numbers::Numbers;
use crate::optimizer::{Kept, Moment, Optimizer};
use crate::state::{Format, StateError, Stored, Table, Values, Within};

/// What a state holds.
pub(crate) struct Contents {
    parts: Vec<Part>,
    pub(crate) table: Table,
}

/// One tensor, of the parameter at a place.
#[derive(Clone, Copy, PartialEq)]
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

    /// Puts weights and moments of a state in place of those that are there, one tensor at a time; returns
    /// the decoder with the weights.
    ///
    /// # Errors
    /// If one of them cannot be read. Those before it are replaced by then: nothing can go on.
    pub(crate) fn restore(
        &self,
        stored: &mut Stored,
        optimizer: &mut Optimizer,
        decoder: Decoder,
        layout: &Layout,
    ) -> Result<Decoder, StateError> {
        let device = decoder.device().inner();
        let decoder = optimizer.replace_weights(decoder, layout, |place| {
            let values = stored.read(self.index(Part::Weights(place)))?;
            Ok(values.into_f32())
        })?;
        for (index, part) in self.parts.iter().enumerate() {
            match *part {
                Part::Exact(meaning, place) => {
                    optimizer.replace_moment(meaning, place, &device, || {
                        Ok(Kept::Exact(stored.read(index)?.into_f32()))
                    })?;
                }
                Part::Scales(meaning, place) => {
                    optimizer.replace_moment(meaning, place, &device, || {
                        let scales = stored.read(index)?.into_f32();
                        let codes = stored.read(self.index(Part::Codes(meaning, place)))?;
                        Ok(Kept::Eight(Eight {
                            meaning,
                            codes: codes.into_codes(),
                            scales,
                        }))
                    })?;
                }
                // Codes come with their scales, sums by themselves.
                Part::Weights(_) | Part::Codes(..) | Part::Sum(_) => {}
            }
        }
        Ok(decoder)
    }

    /// The sums of a step under way with their places, each of which is read when it is asked for.
    pub(crate) fn sums<'a>(
        &'a self,
        stored: &'a mut Stored,
    ) -> impl Iterator<Item = Result<(usize, Vec<f32>), StateError>> + 'a {
        let parts = self.parts.iter().enumerate();
        let sums = parts.filter_map(|(index, part)| match *part {
            Part::Sum(place) => Some((index, place)),
            _ => None,
        });
        sums.map(|(index, place)| Ok((place, stored.read(index)?.into_f32())))
    }

    fn index(&self, part: Part) -> usize {
        let mut parts = self.parts.iter();
        let found = parts.position(|other| *other == part);
        found.expect("every parameter has weights, and scales have codes")
    }
}
