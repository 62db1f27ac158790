//! Where a draw finds logits: in a whole row, or in the list of those that matter.
//!
//! A candidate is one number: its distance to the best token's scaled logit, as bits, in the high
//! half (distances are not negative, so their bits have their order), the id in the low half.
//! Ascending numbers are descending probability, equal ones by id.

use model::shortlist::Shortlist;

/// Tokens whose largest logit is kept, so that most of a row is passed over unread.
pub(super) const CHUNK: usize = 64;

/// Logits, with what probabilities are relative to.
pub(super) trait Source {
    /// Tokens of the vocabulary.
    fn vocabulary(&self) -> usize;

    /// Adds the candidates at a distance above `nearer` and up to `reach`; false if not all of them are
    /// known.
    fn gather(&self, nearer: Option<f32>, reach: f32, candidates: &mut Vec<u64>) -> bool;

    /// At most so much do all tokens weigh together that are not known, where `known` are all that are.
    fn unknown(&self, known: &[u64]) -> f64;

    /// Sum of the weights of all tokens.
    fn total(&self) -> f64;
}

/// A whole row.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) logits: &'a [f32],
    /// Largest logit of each chunk.
    pub(super) tops: &'a [f32],
    pub(super) best: f32,
    pub(super) temperature: f32,
}

impl Row<'_> {
    /// How far the scaled logit lies below the best one: 0 or more, possibly infinite.
    fn distance(&self, logit: f32) -> f32 {
        (self.best - logit) / self.temperature
    }

    /// Below this logit the distance is surely above `reach`: a little lower than rounding asks for.
    fn floor(&self, reach: f32) -> f32 {
        self.best - reach * self.temperature * 1.000_1 - self.best.abs() * 1e-5
    }
}

impl Source for Row<'_> {
    fn vocabulary(&self) -> usize {
        self.logits.len()
    }

    fn gather(&self, nearer: Option<f32>, reach: f32, candidates: &mut Vec<u64>) -> bool {
        let nearer = nearer.unwrap_or(-1.0);
        let floor = self.floor(reach);
        for (index, (chunk, top)) in self.logits.chunks(CHUNK).zip(self.tops).enumerate() {
            if *top < floor {
                continue;
            }
            for (at, logit) in chunk.iter().enumerate() {
                if *logit < floor {
                    continue;
                }
                let distance = self.distance(*logit);
                if distance <= reach && distance > nearer {
                    candidates.push(candidate(distance, index * CHUNK + at));
                }
            }
        }
        true
    }

    fn unknown(&self, _: &[u64]) -> f64 {
        0.0
    }

    /// Eight running sums, added in order.
    fn total(&self) -> f64 {
        let mut sums = [0.0_f64; 8];
        let mut add = |eight: &[f32; 8]| {
            let weights = eight.map(|logit| exp_of_minus(self.distance(logit)));
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += f64::from(weight);
            }
        };
        let (eights, rest) = self.logits.as_chunks::<8>();
        eights.iter().for_each(&mut add);
        // Filled up with what has no weight.
        let mut last = [f32::NEG_INFINITY; 8];
        last[..rest.len()].copy_from_slice(rest);
        add(&last);
        sums.iter().sum()
    }
}

impl Source for Shortlist {
    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn gather(&self, nearer: Option<f32>, reach: f32, candidates: &mut Vec<u64>) -> bool {
        let nearer = nearer.unwrap_or(-1.0);
        for &(id, logit) in &self.tokens {
            let distance = self.distance(logit);
            if distance <= reach && distance > nearer {
                candidates.push(candidate(distance, id as usize));
            }
        }
        reach <= self.reach
    }

    /// What their number and distance allow, and what the sum of the row leaves, whichever is less. Kernels
    /// add that up in f32, and weights are rounded.
    fn unknown(&self, known: &[u64]) -> f64 {
        const OF_SUM: f64 = 1e-4;
        const OF_WEIGHT: f64 = 1e-5;
        if self.reach < 0.0 {
            return f64::INFINITY;
        }
        let mass: f64 = known
            .iter()
            .map(|&candidate| f64::from(weight(candidate)))
            .sum();
        let count = self.vocabulary.saturating_sub(known.len()) as f64;
        let by_number = count * f64::from(exp_of_minus(self.reach)) * (1.0 + OF_WEIGHT);
        let by_sum = (self.total - mass).max(0.0) + OF_SUM * self.total;
        by_number.min(by_sum)
    }

    fn total(&self) -> f64 {
        self.total
    }
}

fn candidate(distance: f32, id: usize) -> u64 {
    u64::from(distance.to_bits()) << 32 | id as u64
}

/// The token of a candidate.
pub(super) fn id_of(candidate: u64) -> u32 {
    candidate as u32
}

/// How far it lies below the best one.
pub(super) fn distance_of(candidate: u64) -> f32 {
    f32::from_bits((candidate >> 32) as u32)
}

/// Probability relative to the best token's, in `[0, 1]`.
pub(super) fn weight(candidate: u64) -> f32 {
    exp_of_minus(distance_of(candidate))
}

/// `exp(-x)` for `x >= 0`, within 2e-7 of it; 0 where the result would be subnormal.
///
/// Products and sums only, so that every machine gives the same bits.
fn exp_of_minus(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.min(88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (n * LN2_HIGH - x) + n * LN2_LOW; // -x + n ln 2, at most ln(2) / 2 in size
    let tail = 1.0 / 5040.0;
    let tail = tail * r + 1.0 / 720.0;
    let tail = tail * r + 1.0 / 120.0;
    let tail = tail * r + 1.0 / 24.0;
    let tail = tail * r + 1.0 / 6.0;
    let tail = tail * r + 0.5;
    let value = tail * r * r + r + 1.0;
    // The low bits of `rounded` are n, at most 127; then nothing is left of the exponent.
    let exponent = 127 - (rounded.to_bits() - ROUND.to_bits());
    let scale = f32::from_bits(exponent << 23);
    value * scale
}

/// The largest number, and whether all are finite.
pub(super) fn top_of(chunk: &[f32]) -> (f32, bool) {
    const INFINITE: i32 = f32::INFINITY.to_bits() as i32;
    let mut tops = [f32::NEG_INFINITY; 8];
    // Bits without the sign: those of NaN and infinity are the largest.
    let mut sizes = [0_i32; 8];
    let mut take = |eight: &[f32]| {
        for ((top, size), &x) in tops.iter_mut().zip(&mut sizes).zip(eight) {
            *top = if x > *top { x } else { *top };
            *size = (*size).max(x.abs().to_bits() as i32);
        }
    };
    let (eights, rest) = chunk.as_chunks::<8>();
    eights.iter().for_each(|eight| take(eight));
    take(rest);
    let top = tops.into_iter().fold(f32::NEG_INFINITY, f32::max);
    (top, sizes.iter().all(|size| *size < INFINITE))
}
