//! The tokens of a row of logits that can be drawn in practice, and what all of the row weighs.
//!
//! Who draws a token needs few of 150,000 logits: those near the best one, and the sum of all. On a CUDA
//! card kernels find both, so that a step reads 6 KB of each row instead of 600. Where a list does not
//! reach far enough for a draw, the row itself is there to be read.
//!
//! Distances are how far a logit lies below the best one, in units of the temperature: the probability of a
//! token is `exp(-distance)` times that of the best.

use burn::tensor::{Tensor, TensorData};

use crate::ops::rows::{self, shortlists as words};

/// The tokens of a row that are nearest to the best one.
#[derive(Clone, Debug, PartialEq)]
pub struct Shortlist {
    /// Length of the row.
    pub vocabulary: usize,
    /// The largest logit.
    pub best: f32,
    /// The temperature that distances are measured in; [`Shortlist::SHARPEST`] for 0.
    pub temperature: f32,
    /// Sum of `exp(-distance)` over the whole row, at least 1.
    pub total: f64,
    /// The same at temperature 1: what the probability of a token is a share of.
    pub plain: f64,
    /// The distance up to which all tokens are in `tokens`; negative if none is known.
    pub reach: f32,
    /// Ids and logits up to that distance: falling logits, equal ones by id.
    pub tokens: Vec<(u32, f32)>,
}

impl Shortlist {
    /// Distances in order, up to each of which [`Shortlist::ROOM`] tokens more are kept.
    pub const REACHES: [f32; 3] = words::REACHES;

    /// Tokens that are kept between two distances; if there are more, the list ends before them.
    pub const ROOM: usize = words::ROOM;

    /// The lowest temperature but 0: at lower ones rounding decides, and rows have to be read.
    pub const SHARPEST: f32 = 1e-5;

    /// The list of a row; None if a logit is not finite, or the row is empty.
    ///
    /// This is the definition: what kernels find agrees with it but for the rounding of sums, which are f32
    /// there.
    pub fn of(logits: &[f32], temperature: f32) -> Option<Self> {
        let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if logits.is_empty() || logits.iter().any(|logit| !logit.is_finite()) {
            return None;
        }
        let temperature = temperature.max(Self::SHARPEST);
        let gap = |logit: f32| f64::from(best) - f64::from(logit);
        let sum = |of: &dyn Fn(f32) -> f64| logits.iter().map(|&logit| (-of(logit)).exp()).sum();
        let mut found = Self {
            vocabulary: logits.len(),
            best,
            temperature,
            total: sum(&|logit| gap(logit) / f64::from(temperature)),
            plain: sum(&gap),
            reach: -1.0,
            tokens: Vec::new(),
        };
        let mut nearer = -1.0;
        for reach in Self::REACHES {
            let between: Vec<(u32, f32)> = (0..)
                .zip(logits.iter().copied())
                .filter(|(_, logit)| {
                    let distance = found.distance(*logit);
                    distance > nearer && distance <= reach
                })
                .collect();
            if between.len() > Self::ROOM {
                break;
            }
            found.tokens.extend(between);
            found.reach = reach;
            nearer = reach;
        }
        found.put_in_order();
        Some(found)
    }

    /// How far a logit of the row lies below the best one.
    pub fn distance(&self, logit: f32) -> f32 {
        (self.best - logit) / self.temperature
    }

    fn put_in_order(&mut self) {
        self.tokens
            .sort_unstable_by(|(a, of_a), (b, of_b)| of_b.total_cmp(of_a).then(a.cmp(b)));
    }
}

/// Rows of logits on the device that computed them.
#[derive(Clone, Debug)]
pub struct Logits(Tensor<2>);

impl From<Tensor<2>> for Logits {
    /// # Shapes
    /// `[N, V]` in f32.
    fn from(rows: Tensor<2>) -> Self {
        Self(rows)
    }
}

impl Logits {
    /// Whether the device makes shortlists itself; elsewhere rows are read for them.
    pub fn are_listed(&self) -> bool {
        rows::run_on(&self.0.device())
    }

    /// The shortlist of each row at its temperature (0 or more), read from the device at once; None for a
    /// row with a logit that is not finite: it has to be read to say which.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If there are not as many temperatures as rows.
    pub fn lists(&self, temperatures: &[f32]) -> Result<Vec<Option<Shortlist>>, String> {
        let [count, vocabulary] = self.0.dims();
        assert_eq!(count, temperatures.len(), "a temperature for each row");
        #[cfg(any(feature = "cuda", feature = "wgpu"))]
        if self.are_listed() && count > 0 {
            let scales: Vec<f32> = temperatures
                .iter()
                .map(|temperature| 1.0 / temperature.max(Shortlist::SHARPEST))
                .collect();
            let scales = TensorData::new(scales, [count]);
            let scales = Tensor::from_data(scales, &self.0.device());
            let found = words::of(self.0.clone(), scales).try_into_data();
            let found = found.map_err(|error| error.to_string())?;
            let found = found
                .as_slice::<i32>()
                .map_err(|error| format!("{error:?}"))?;
            let rows = found.chunks_exact(words::WORDS).zip(temperatures);
            return Ok(rows
                .map(|(row, temperature)| of_words(row, vocabulary, *temperature))
                .collect());
        }
        let rows = numbers(self.0.clone())?;
        let rows = rows.chunks_exact(vocabulary).zip(temperatures);
        Ok(rows
            .map(|(row, temperature)| Shortlist::of(row, *temperature))
            .collect())
    }

    /// The numbers of some rows, one row after the other.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn rows(&self, rows: &[usize]) -> Result<Vec<f32>, String> {
        let [count, _] = self.0.dims();
        assert!(rows.iter().all(|row| *row < count), "rows that are there");
        // Fewer than 2^31, as all kernels count.
        let rows: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
        let count = rows.len();
        let places = TensorData::new(rows, [count]);
        let places = Tensor::from_data(places, &self.0.device());
        numbers(self.0.clone().select(0, places))
    }

    /// The numbers of all rows.
    ///
    /// # Errors
    /// If the device fails.
    pub fn all(self) -> Result<Vec<f32>, String> {
        numbers(self.0)
    }
}

fn numbers(rows: Tensor<2>) -> Result<Vec<f32>, String> {
    let data = rows.try_into_data().map_err(|error| error.to_string())?;
    data.convert::<f32>()
        .try_into_vec::<f32>()
        .map_err(|error| format!("{error:?}"))
}

/// What a kernel wrote for a row.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn of_words(row: &[i32], vocabulary: usize, temperature: f32) -> Option<Shortlist> {
    let number = |word: &i32| f32::from_bits(word.cast_unsigned());
    let sum = |at: usize| -> f64 {
        let parts = row[at..at + words::PARTS].iter();
        parts.map(|word| f64::from(number(word))).sum()
    };
    let best = number(&row[words::BEST]);
    if best.abs() >= words::NOT_FINITE {
        return None;
    }
    let mut found = Shortlist {
        vocabulary,
        best,
        temperature: temperature.max(Shortlist::SHARPEST),
        total: sum(words::TOTALS),
        plain: sum(words::PLAINS),
        reach: -1.0,
        tokens: Vec::new(),
    };
    // The best token weighs 1: anything else is no answer of a device that computes.
    if !(found.total >= 1.0 && found.plain >= 1.0) {
        return None;
    }
    for (level, reach) in Shortlist::REACHES.into_iter().enumerate() {
        if row[words::OVERFLOWS + level] != 0 {
            break;
        }
        let first = level * words::ROOM;
        let ids = &row[words::IDS + first..][..words::ROOM];
        let logits = &row[words::LOGITS + first..][..words::ROOM];
        let there = ids.iter().zip(logits).take_while(|(id, _)| **id >= 0);
        found
            .tokens
            .extend(there.map(|(id, logit)| (id.cast_unsigned(), number(logit))));
        found.reach = reach;
    }
    // Kernels look a little farther, as they round otherwise.
    let mut tokens = std::mem::take(&mut found.tokens);
    tokens.retain(|(_, logit)| found.distance(*logit) <= found.reach);
    found.tokens = tokens;
    found.put_in_order();
    Some(found)
}
