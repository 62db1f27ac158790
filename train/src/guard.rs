//! Which losses are not believed.

use crate::settings::Guard;

/// How many losses the median is over; before as many are known there is no spike.
pub(crate) const WINDOW: usize = 20;

/// Why a step is not believed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Loss or gradient norm is no finite number.
    NotFinite,
    /// The loss is above the limit; the median before it.
    Spike(f64),
}

/// What is wrong with a step, if anything. `recent` are the losses before it, oldest first.
pub(crate) fn fault(
    guard: Option<&Guard>,
    recent: &[f64],
    loss: f64,
    grad_norm: f64,
) -> Option<Fault> {
    if !(loss.is_finite() && grad_norm.is_finite()) {
        return Some(Fault::NotFinite);
    }
    let spike = guard.map_or(0.0, |guard| guard.spike);
    if spike == 0.0 || recent.len() < WINDOW {
        return None;
    }
    let mut sorted = recent.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let median = (sorted[(WINDOW - 1) / 2] + sorted[WINDOW / 2]) / 2.0;
    (loss > spike * median).then_some(Fault::Spike(median))
}

/// Adds a loss that was believed.
pub(crate) fn remember(recent: &mut Vec<f64>, loss: f64) {
    recent.push(loss);
    if recent.len() > WINDOW {
        recent.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::OnSpike;

    fn guard(spike: f64) -> Guard {
        Guard {
            spike,
            then: OnSpike::Stop,
            anchor_every_steps: 1,
            most: 0,
        }
    }

    #[test]
    fn a_spike_is_measured_by_the_median_of_twenty_losses() {
        let mut recent = Vec::new();
        for loss in 0..25 {
            remember(&mut recent, f64::from(loss));
        }
        // 5 to 24: the median is 14.5.
        let found = |spike, loss| fault(Some(&guard(spike)), &recent, loss, 1.0);
        assert_eq!(found(2.0, 29.0), None);
        assert_eq!(found(2.0, 29.1), Some(Fault::Spike(14.5)));
        assert_eq!(found(0.0, 1e9), None);
        assert_eq!(fault(None, &recent, 1e9, 1.0), None);
        assert_eq!(found(2.0, f64::NAN), Some(Fault::NotFinite));
        let infinite = fault(None, &recent, 1.0, f64::INFINITY);
        assert_eq!(infinite, Some(Fault::NotFinite));
        assert_eq!(fault(Some(&guard(2.0)), &recent[1..], 1e9, 1.0), None);
    }
}
