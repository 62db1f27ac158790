//! Draws one token from the logits of one row.
//!
//! The order of the filters is that of vLLM V1: temperature, min-p, top-k, top-p; each sees what
//! the one before it left, renormalised. Ties with the last token that top-k keeps are kept, as
//! there. What is left is ordered by probability, equal ones by id, and one uniform number picks
//! by inverse CDF. A draw is a function of the row, the settings and that number, whatever machine
//! or thread computes it: the exponential is our own, and sums run in a fixed order.

use protocol::Sampling;

/// A logit is NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the logit of token {id} is not finite")]
pub struct NotFinite {
    /// The first such token.
    pub id: usize,
}

/// Tokens whose largest logit is kept, so that most of a row is passed over unread.
const CHUNK: usize = 64;

/// How far below the best token (in units of temperature) candidates are looked for, step by step.
const REACHES: [f32; 5] = [4.0, 8.0, 16.0, 32.0, f32::INFINITY];

/// The natural logarithm of the probability that a softmax over `logits` gives to `id`.
///
/// Nothing is filtered and the temperature is 1: this is what the model says, whatever is drawn.
/// Sums run in f64, in order of ids.
///
/// # Panics
/// If `id` is no index of `logits`.
pub fn logprob(logits: &[f32], id: u32) -> f32 {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let above = |logit: f32| f64::from(logit) - f64::from(best);
    let sum: f64 = logits.iter().map(|&logit| above(logit).exp()).sum();
    (above(logits[id as usize]) - sum.ln()) as f32
}

/// Draws tokens; holds only scratch memory.
///
/// A candidate is one number: its distance to the best token's scaled logit, as bits, in the high
/// half (distances are not negative, so their bits have their order), the id in the low half.
/// Ascending numbers are descending probability, equal ones by id.
#[derive(Clone, Debug, Default)]
pub struct Sampler {
    /// Largest logit of each chunk.
    tops: Vec<f32>,
    candidates: Vec<u64>,
    /// Weights of the candidates, once they are in order.
    weights: Vec<f64>,
}

impl Sampler {
    /// Draws a token; `uniform` gives a number in `[0, 1)` and is called at most once, not at all
    /// at temperature 0.
    ///
    /// # Errors
    /// If a logit is not finite.
    ///
    /// # Panics
    /// If there is no logit.
    pub fn draw(
        &mut self,
        logits: &[f32],
        sampling: &Sampling,
        uniform: impl FnOnce() -> f64,
    ) -> Result<u32, NotFinite> {
        assert!(!logits.is_empty(), "a vocabulary has at least one token");
        let best = self.scan(logits)?;
        if sampling.temperature == 0.0 {
            return Ok(self.first_of(logits, best));
        }
        let row = Row {
            logits,
            best,
            temperature: sampling.temperature,
        };
        let is_cut = sampling.min_p > 0.0 || (1..logits.len()).contains(&sampling.top_k);
        let u = uniform();
        Ok(if is_cut {
            self.draw_cut(row, sampling, u)
        } else {
            self.draw_open(row, sampling, u)
        })
    }

    /// The largest logit; fills `tops`.
    fn scan(&mut self, logits: &[f32]) -> Result<f32, NotFinite> {
        self.tops.clear();
        let mut all_finite = true;
        for chunk in logits.chunks(CHUNK) {
            let (top, finite) = top_of(chunk);
            self.tops.push(top);
            all_finite &= finite;
        }
        if !all_finite {
            let id = logits
                .iter()
                .position(|logit| !logit.is_finite())
                .unwrap_or(0);
            return Err(NotFinite { id });
        }
        Ok(self.tops.iter().copied().fold(f32::NEG_INFINITY, f32::max))
    }

    /// The lowest id whose logit is `best`.
    fn first_of(&self, logits: &[f32], best: f32) -> u32 {
        let chunk = self.tops.iter().position(|top| *top == best).unwrap_or(0) * CHUNK;
        let at = logits[chunk..]
            .iter()
            .position(|logit| *logit == best)
            .unwrap_or(0);
        (chunk + at) as u32
    }

    /// With min-p or top-k: few candidates are left, and all are looked at.
    fn draw_cut(&mut self, row: Row<'_>, sampling: &Sampling, u: f64) -> u32 {
        let &Sampling {
            min_p,
            top_k,
            top_p,
            ..
        } = sampling;
        let top_k = if top_k == 0 { row.logits.len() } else { top_k };
        // Where the weight comes near min-p; a little farther, it is surely too small.
        let near = if min_p > 0.0 {
            -min_p.ln() - 1e-3
        } else {
            80.0
        };
        let limit = if min_p > 0.0 {
            near + 2e-3
        } else {
            f32::INFINITY
        };
        self.candidates.clear();
        let mut nearer = None;
        for reach in REACHES {
            let reach = reach.min(limit);
            self.gather(row, nearer, reach);
            if self.candidates.len() >= top_k || reach == limit {
                break;
            }
            nearer = Some(reach);
        }
        // What decides is the weight itself, not the logarithm, whose bits differ by machine.
        self.candidates.retain(|&candidate| {
            distance_of(candidate) < near || weight(candidate) >= min_p.max(f32::MIN_POSITIVE)
        });
        if self.candidates.len() > top_k {
            let (_, &mut last, _) = self.candidates.select_nth_unstable(top_k - 1);
            self.candidates
                .retain(|candidate| candidate >> 32 <= last >> 32);
        }
        self.candidates.sort_unstable();
        self.weights.clear();
        let weights = self
            .candidates
            .iter()
            .map(|&candidate| f64::from(weight(candidate)));
        self.weights.extend(weights);
        self.pick(self.weights.iter().sum(), top_p, u)
    }

    /// Without min-p and top-k: the whole row has a share in the total, but only as many tokens
    /// are ordered as are needed to reach the drawn one.
    fn draw_open(&mut self, row: Row<'_>, sampling: &Sampling, u: f64) -> u32 {
        let total = row.total();
        let top_p = sampling.top_p;
        let enough = total * if top_p < 1.0 { f64::from(top_p) } else { u };
        self.candidates.clear();
        self.weights.clear();
        let mut mass = 0.0;
        let mut nearer = None;
        for reach in REACHES {
            let first = self.candidates.len();
            self.gather(row, nearer, reach);
            self.candidates[first..].sort_unstable();
            for &candidate in &self.candidates[first..] {
                self.weights.push(f64::from(weight(candidate)));
                mass += f64::from(weight(candidate));
            }
            if mass > enough {
                break;
            }
            nearer = Some(reach);
        }
        // What has no weight is never drawn, whatever rounding does.
        let count = self.weights.iter().position(|weight| *weight == 0.0);
        self.weights.truncate(count.unwrap_or(self.weights.len()));
        self.pick(total, top_p, u)
    }

    /// The token at `u` of the mass that top-p leaves of `total`, among weights in falling order.
    fn pick(&self, total: f64, top_p: f32, u: f64) -> u32 {
        let mut kept = &self.weights[..];
        let mut mass = total;
        if top_p < 1.0 {
            let enough = f64::from(top_p) * total;
            mass = 0.0;
            for (count, weight) in self.weights.iter().enumerate() {
                if mass >= enough {
                    kept = &self.weights[..count];
                    break;
                }
                mass += weight;
            }
        }
        let target = u * mass;
        let mut sum = 0.0;
        let reached = kept.iter().position(|weight| {
            sum += weight;
            sum > target
        });
        // Only rounding can leave the target unreached. The best token's weight is 1, so one is kept.
        self.candidates[reached.unwrap_or(kept.len() - 1)] as u32
    }

    /// Adds the candidates at a distance above `nearer` and up to `reach`.
    fn gather(&mut self, row: Row<'_>, nearer: Option<f32>, reach: f32) {
        let nearer = nearer.unwrap_or(-1.0);
        let floor = row.floor(reach);
        for (index, (chunk, top)) in row.logits.chunks(CHUNK).zip(&self.tops).enumerate() {
            if *top < floor {
                continue;
            }
            for (at, logit) in chunk.iter().enumerate() {
                if *logit < floor {
                    continue;
                }
                let distance = row.distance(*logit);
                if distance <= reach && distance > nearer {
                    let id = (index * CHUNK + at) as u64;
                    self.candidates
                        .push(u64::from(distance.to_bits()) << 32 | id);
                }
            }
        }
    }
}

/// A row with what its probabilities are relative to.
#[derive(Clone, Copy)]
struct Row<'a> {
    logits: &'a [f32],
    best: f32,
    temperature: f32,
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

    /// Sum of all weights: eight running sums, added in order.
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

/// Probability relative to the best token's, in `[0, 1]`.
fn weight(candidate: u64) -> f32 {
    exp_of_minus(distance_of(candidate))
}

fn distance_of(candidate: u64) -> f32 {
    f32::from_bits((candidate >> 32) as u32)
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
fn top_of(chunk: &[f32]) -> (f32, bool) {
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
