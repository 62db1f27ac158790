//! Draws one token from the logits of one row.
//!
//! The order of the filters is that of vLLM V1: temperature, min-p, top-k, top-p; each sees what
//! the one before it left, renormalised. Ties with the last token that top-k keeps are kept, as
//! there. What is left is ordered by probability, equal ones by id, and one uniform number picks
//! by inverse CDF. A draw is a function of the row, the settings and that number, whatever machine
//! or thread computes it: the exponential is our own, and sums run in a fixed order.

mod source;

use model::shortlist::Shortlist;
use protocol::Sampling;

use self::source::{CHUNK, Row, Source, distance_of, id_of, top_of, weight};

/// A logit is NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the logit of token {id} is not finite")]
pub struct NotFinite {
    /// The first such token.
    pub id: usize,
}

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

/// As [`logprob`], from what is known of a row: None if the token is not in its list.
pub fn logprob_listed(list: &Shortlist, id: u32) -> Option<f32> {
    let (_, logit) = list.tokens.iter().find(|(listed, _)| *listed == id)?;
    let above = f64::from(*logit) - f64::from(list.best);
    Some((above - list.plain.ln()) as f32)
}

/// Draws tokens; holds only scratch memory.
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
        let tops = std::mem::take(&mut self.tops);
        let row = Row {
            logits,
            tops: &tops,
            best,
            temperature: sampling.temperature,
        };
        let drawn = self.draw_from(&row, sampling, uniform());
        self.tops = tops;
        Ok(drawn.expect("a whole row has all that can be asked for"))
    }

    /// As [`Sampler::draw`], from the list of a row that was made at the temperature of `sampling`; None if
    /// what is not in it may decide which token is drawn, so that the row has to be read.
    ///
    /// From the same logits it is the same token, but for numbers that lie within rounding of the border
    /// between two: the sum of the row is the list's.
    pub fn draw_listed(
        &mut self,
        list: &Shortlist,
        sampling: &Sampling,
        uniform: impl FnOnce() -> f64,
    ) -> Option<u32> {
        if sampling.temperature == 0.0 {
            let best = list.tokens.iter().filter(|(_, logit)| *logit == list.best);
            return best.map(|(id, _)| *id).min();
        }
        if sampling.temperature != list.temperature {
            return None;
        }
        self.draw_from(list, sampling, uniform())
    }

    /// None if the source does not know enough.
    fn draw_from(&mut self, source: &impl Source, sampling: &Sampling, u: f64) -> Option<u32> {
        let is_cut = sampling.min_p > 0.0 || (1..source.vocabulary()).contains(&sampling.top_k);
        match is_cut {
            true => self.draw_cut(source, sampling, u),
            false => self.draw_open(source, sampling, u),
        }
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

    /// With min-p or top-k: few candidates are left, and all are looked at, or shown not to matter.
    fn draw_cut(&mut self, source: &impl Source, sampling: &Sampling, u: f64) -> Option<u32> {
        let &Sampling {
            min_p,
            top_k,
            top_p,
            ..
        } = sampling;
        let top_k = if top_k == 0 {
            source.vocabulary()
        } else {
            top_k
        };
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
        let mut are_known = true;
        for reach in REACHES {
            let reach = reach.min(limit);
            are_known = source.gather(nearer, reach, &mut self.candidates);
            if !are_known || self.candidates.len() >= top_k || reach == limit {
                break;
            }
            nearer = Some(reach);
        }
        // What lies behind the last known one is farther than all that are known.
        let unknown = match are_known || self.candidates.len() >= top_k {
            true => 0.0,
            false => source.unknown(&self.candidates),
        };
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
        let total = self.weights.iter().sum();
        match unknown > 0.0 {
            true => self.pick_within(total, total + unknown, top_p, u),
            false => Some(self.pick(total, top_p, u)),
        }
    }

    /// Without min-p and top-k: the whole row has a share in the total, but only as many tokens
    /// are ordered as are needed to reach the drawn one.
    fn draw_open(&mut self, source: &impl Source, sampling: &Sampling, u: f64) -> Option<u32> {
        let total = source.total();
        let top_p = sampling.top_p;
        let enough = total * if top_p < 1.0 { f64::from(top_p) } else { u };
        self.candidates.clear();
        self.weights.clear();
        let mut mass = 0.0;
        let mut nearer = None;
        for reach in REACHES {
            let first = self.candidates.len();
            if !source.gather(nearer, reach, &mut self.candidates) {
                return None;
            }
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
        Some(self.pick(total, top_p, u))
    }

    /// The token at `u` of the mass that top-p leaves of `total`, among weights in falling order.
    fn pick(&self, total: f64, top_p: f32, u: f64) -> u32 {
        let (kept, mass) = self.nucleus(total, top_p);
        // Only rounding can leave the target unreached. The best token's weight is 1, so one is kept.
        let place = self.place_of(u * mass, kept).unwrap_or(kept - 1);
        id_of(self.candidates[place])
    }

    /// The same, where others follow that are not known, so that the total is one between `least` and `most`;
    /// None if the token may depend on which.
    ///
    /// A larger total lets top-p keep no fewer tokens, and the target is no nearer then: if both ends lead to
    /// one token, all between them do.
    fn pick_within(&self, least: f64, most: f64, top_p: f32, u: f64) -> Option<u32> {
        let (kept, mass) = self.nucleus(least, top_p);
        let first = self.place_of(u * mass, kept)?;
        let (kept, mass) = self.nucleus(most, top_p);
        // Where all known ones are kept, some of the others may be, too.
        let all = kept == self.weights.len();
        let last = self.place_of(u * if all { most } else { mass }, kept)?;
        (first == last).then(|| id_of(self.candidates[first]))
    }

    /// How many tokens top-p leaves where all of them weigh `total`, and what those weigh.
    fn nucleus(&self, total: f64, top_p: f32) -> (usize, f64) {
        if top_p >= 1.0 {
            return (self.weights.len(), total);
        }
        let enough = f64::from(top_p) * total;
        let mut mass = 0.0;
        for (count, weight) in self.weights.iter().enumerate() {
            if mass >= enough {
                return (count, mass);
            }
            mass += weight;
        }
        (self.weights.len(), mass)
    }

    /// The first of `kept` tokens with which their sum is above `target`.
    fn place_of(&self, target: f64, kept: usize) -> Option<usize> {
        let mut sum = 0.0;
        self.weights[..kept].iter().position(|weight| {
            sum += weight;
            sum > target
        })
    }
}
