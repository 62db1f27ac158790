//! AdamW, in f32: in one pass over each parameter in host memory, or by the same operations on
//! tensors of the device.
//!
//! Burn's own AdamW makes a tensor for each of its dozen intermediate results and decays every
//! parameter alike; the pass on the host reads and writes each number once.

use burn::tensor::Tensor;
use model::ops::{self, AdamWNumbers};
use rayon::prelude::*;

use crate::eight::{BLOCK, EightPart};
use crate::settings::TrainSettings;

/// The numbers of one step, as f32 once for all elements.
///
/// Source: `torch.optim.AdamW`, single-tensor form: scalars are computed in f64, elements in f32,
/// `p *= 1 - lr * decay`, then `p -= lr / c1 * m / (sqrt(v) / sqrt(c2) + eps)` with the bias
/// corrections `c1 = 1 - beta1^n` and `c2 = 1 - beta2^n` of the n-th step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamW {
    /// Those of weights that do not decay.
    numbers: AdamWNumbers,
    keep_decayed: f32,
}

/// Gradients in host memory.
pub(crate) trait Gradients: Sized + Send {
    /// Those of stretches of `size` elements, in order.
    fn parts(self, size: usize) -> impl IndexedParallelIterator<Item = Self>;
    /// The numbers.
    fn values(&self) -> &[f32];
    /// Takes the new weights in, if they are to take the place of what they were updated by.
    fn leave(self, weights: &[f32]);
}

/// They stay.
impl Gradients for &[f32] {
    fn parts(self, size: usize) -> impl IndexedParallelIterator<Item = Self> {
        self.par_chunks(size)
    }

    fn values(&self) -> &[f32] {
        self
    }

    fn leave(self, _: &[f32]) {}
}

/// The new weights take their place, a stretch at a time, while both are in the processor's caches.
impl Gradients for &mut [f32] {
    fn parts(self, size: usize) -> impl IndexedParallelIterator<Item = Self> {
        self.par_chunks_mut(size)
    }

    fn values(&self) -> &[f32] {
        self
    }

    fn leave(self, weights: &[f32]) {
        self.copy_from_slice(weights);
    }
}

impl AdamW {
    /// The numbers of the `step`-th update, from 0, at rate `lr`; gradients are multiplied by
    /// `gradient_scale` first.
    pub(crate) fn new(settings: &TrainSettings, step: usize, lr: f64, gradient_scale: f64) -> Self {
        let count = (step + 1) as f64;
        let (beta1, beta2) = (settings.beta1, settings.beta2);
        Self {
            keep_decayed: (1.0 - lr * settings.weight_decay) as f32,
            numbers: AdamWNumbers {
                keep: 1.0,
                gradient_scale: gradient_scale as f32,
                mix1: (1.0 - beta1) as f32,
                beta2: beta2 as f32,
                mix2: (1.0 - beta2) as f32,
                rate: (lr / (1.0 - libm::pow(beta1, count))) as f32,
                root_correction: (1.0 - libm::pow(beta2, count)).sqrt() as f32,
                eps: settings.eps as f32,
            },
        }
    }

    /// The numbers for a parameter that decays or does not.
    fn numbers(&self, decays: bool) -> AdamWNumbers {
        match decays {
            true => AdamWNumbers {
                keep: self.keep_decayed,
                ..self.numbers
            },
            false => self.numbers,
        }
    }

    /// Updates the weights of one parameter and its moments.
    ///
    /// # Panics
    /// If the lengths differ: a bug of the caller.
    pub(crate) fn update(
        &self,
        weights: &mut [f32],
        gradient: impl Gradients,
        (first, second): (&mut [f32], &mut [f32]),
        decays: bool,
    ) {
        assert!(
            [gradient.values().len(), first.len(), second.len()]
                .iter()
                .all(|n| *n == weights.len()),
            "weights, gradient and moments have the same length"
        );
        let numbers = self.numbers(decays);
        // Elements do not depend on each other, so the split changes no bit.
        if weights.len() < 2 * SPLIT {
            update_chunk(weights, gradient.values(), first, second, numbers);
            return gradient.leave(weights);
        }
        weights
            .par_chunks_mut(SPLIT)
            .zip(gradient.parts(SPLIT))
            .zip(first.par_chunks_mut(SPLIT))
            .zip(second.par_chunks_mut(SPLIT))
            .for_each(|(((weights, gradient), first), second)| {
                update_chunk(weights, gradient.values(), first, second, numbers);
                gradient.leave(weights);
            });
    }

    /// [`AdamW::update`] with moments in 8 bits: those of a block are read, updated in f32, used, and
    /// written again.
    ///
    /// # Panics
    /// If the lengths differ: a bug of the caller.
    pub(crate) fn update_coded(
        &self,
        weights: &mut [f32],
        gradient: impl Gradients,
        [first, second]: [EightPart<'_>; 2],
        decays: bool,
    ) {
        assert!(
            [
                gradient.values().len(),
                first.codes.len(),
                second.codes.len()
            ]
            .iter()
            .all(|n| *n == weights.len()),
            "weights, gradient and moments have the same length"
        );
        let numbers = self.numbers(decays);
        let codes = [first.code, second.code];
        // Whole blocks go together, and blocks do not depend on each other.
        const BLOCKS: usize = SPLIT / BLOCK;
        weights
            .par_chunks_mut(SPLIT)
            .zip(gradient.parts(SPLIT))
            .zip(first.codes.par_chunks_mut(SPLIT))
            .zip(first.scales.par_chunks_mut(BLOCKS))
            .zip(second.codes.par_chunks_mut(SPLIT))
            .zip(second.scales.par_chunks_mut(BLOCKS))
            .for_each(
                |(((((weights, gradient), codes1), scales1), codes2), scales2)| {
                    let of = |code, codes, scales| EightPart {
                        code,
                        codes,
                        scales,
                    };
                    let moments = [of(codes[0], codes1, scales1), of(codes[1], codes2, scales2)];
                    update_blocks(weights, gradient.values(), moments, numbers);
                    gradient.leave(weights);
                },
            );
    }

    /// [`AdamW::update`] on tensors of a device, moments as `[first, second]`; the new weights, and them once more,
    /// rounded to bf16 if there is a `model` (see [`ops::adamw`]). Moments are taken, so that nobody else holds them
    /// and they can be changed where they lie.
    ///
    /// # Panics
    /// If there are no moments: a bug of the caller.
    pub(crate) fn update_tensors(
        &self,
        weights: Tensor<1>,
        gradient: Tensor<1>,
        moments: [&mut Option<Tensor<1>>; 2],
        decays: bool,
        model: Option<Tensor<1>>,
    ) -> [Tensor<1>; 2] {
        let [first, second] = moments;
        let taken = [&mut *first, second].map(|moment| moment.take().expect("there are moments"));
        let numbers = self.numbers(decays);
        let [weights, mean, square, again] = ops::adamw(weights, gradient, taken, numbers, model);
        (*first, *second) = (Some(mean), Some(square));
        [weights, again]
    }
}

#[inline(always)]
fn update_chunk(
    weights: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    numbers: AdamWNumbers,
) {
    let elements = weights.iter_mut().zip(gradient).zip(first).zip(second);
    for (((weight, gradient), first), second) in elements {
        let gradient = gradient * numbers.gradient_scale;
        *first += numbers.mix1 * (gradient - *first);
        *second = numbers.beta2 * *second + numbers.mix2 * gradient * gradient;
        let root = second.sqrt() / numbers.root_correction + numbers.eps;
        *weight = *weight * numbers.keep - numbers.rate * *first / root;
    }
}

/// [`update_chunk`] of each block, with the widest vectors of the processor: they change no bit, as nothing is
/// added across them and no product is fused with a sum.
fn update_blocks(
    weights: &mut [f32],
    gradient: &[f32],
    moments: [EightPart<'_>; 2],
    numbers: AdamWNumbers,
) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;

        #[target_feature(enable = "avx2")]
        fn by_8(w: &mut [f32], g: &[f32], moments: [EightPart<'_>; 2], numbers: AdamWNumbers) {
            update_blocks_in(w, g, moments, numbers);
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn by_16(w: &mut [f32], g: &[f32], moments: [EightPart<'_>; 2], numbers: AdamWNumbers) {
            update_blocks_in(w, g, moments, numbers);
        }
        if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
            #[expect(
                unsafe_code,
                reason = "the processor was just seen to have these vectors"
            )]
            // SAFETY: all features that `by_16` is compiled with were asked for.
            return unsafe { by_16(weights, gradient, moments, numbers) };
        }
        if has!("avx2") {
            #[expect(
                unsafe_code,
                reason = "the processor was just seen to have these vectors"
            )]
            // SAFETY: the feature that `by_8` is compiled with was asked for.
            return unsafe { by_8(weights, gradient, moments, numbers) };
        }
    }
    update_blocks_in(weights, gradient, moments, numbers);
}

#[inline(always)]
fn update_blocks_in(
    weights: &mut [f32],
    gradient: &[f32],
    [one, two]: [EightPart<'_>; 2],
    numbers: AdamWNumbers,
) {
    let mut read = [[0.0; BLOCK]; 2];
    let blocks = weights.chunks_mut(BLOCK).zip(gradient.chunks(BLOCK));
    let ones = one.codes.chunks_mut(BLOCK).zip(one.scales);
    let twos = two.codes.chunks_mut(BLOCK).zip(two.scales);
    for (((weights, gradient), (codes1, scale1)), (codes2, scale2)) in blocks.zip(ones).zip(twos) {
        let [first, second] = &mut read;
        let (first, second) = (&mut first[..weights.len()], &mut second[..weights.len()]);
        one.code.read(codes1, *scale1, first);
        two.code.read(codes2, *scale2, second);
        update_chunk(weights, gradient, first, second, numbers);
        *scale1 = one.code.write(first, codes1);
        *scale2 = two.code.write(second, codes2);
    }
}

/// Elements of one parallel task.
const SPLIT: usize = 1 << 15;

#[cfg(test)]
pub(crate) mod tests {
    use protocol::Stream;

    use super::*;
    use crate::eight::{Eight, Meaning};
    use crate::settings::{ClipNorm, DecayOn};
    use crate::{Schedule, TrainOn};

    pub(crate) fn settings() -> TrainSettings {
        TrainSettings {
            epochs: None,
            steps: Some(100),
            tokens: None,
            samples_per_step: 1,
            tokens_per_micro_batch: 8,
            max_tokens: 8,
            lr: 1e-3,
            schedule: Schedule::Constant,
            warmup: 0.0,
            min_lr_ratio: 0.0,
            weight_decay: 0.1,
            decay_on: DecayOn::All,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            clip_norm: ClipNorm::None,
            train_on: TrainOn::Own,
            save_every_steps: 0,
            keep: 1,
            recompute: crate::settings::Recompute::None,
            optimizer: crate::settings::Placement::Host,
            sums: crate::settings::Placement::Device,
            moments: crate::settings::Precision::F32,
            lora: None,
            guard: None,
            held_out: None,
        }
    }

    fn draws(name: &str, count: usize) -> Vec<f32> {
        let stream = Stream::of_run(1).named(name);
        (0..count)
            .map(|n| (stream.uniform(n as u64) * 2.0 - 1.0) as f32)
            .collect()
    }

    /// The textbook form, in f64.
    fn reference(weights: &[f32], gradients: &[Vec<f32>], settings: &TrainSettings) -> Vec<f64> {
        let mut weights: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
        let (mut first, mut second) = (vec![0.0; weights.len()], vec![0.0; weights.len()]);
        for (step, gradient) in gradients.iter().enumerate() {
            let corrections =
                [settings.beta1, settings.beta2].map(|b| 1.0 - b.powi(step as i32 + 1));
            for index in 0..weights.len() {
                let g = f64::from(gradient[index]);
                first[index] = settings.beta1 * first[index] + (1.0 - settings.beta1) * g;
                second[index] = settings.beta2 * second[index] + (1.0 - settings.beta2) * g * g;
                let root = f64::sqrt(second[index] / corrections[1]) + settings.eps;
                weights[index] -= settings.lr * settings.weight_decay * weights[index];
                weights[index] -= settings.lr * first[index] / corrections[0] / root;
            }
        }
        weights
    }

    #[test]
    fn a_hundred_steps_in_f32_are_those_in_f64() {
        let (settings, count) = (settings(), 3 * SPLIT + 7);
        let mut weights = draws("weights", count);
        let gradients: Vec<Vec<f32>> = (0..100).map(|n| draws(&format!("{n}"), count)).collect();
        let expected = reference(&weights, &gradients, &settings);
        let (mut first, mut second) = (vec![0.0; count], vec![0.0; count]);
        for (step, gradient) in gradients.iter().enumerate() {
            // The factor of a clipped gradient is applied on the way.
            let halved: Vec<f32> = gradient.iter().map(|g| g * 2.0).collect();
            let adamw = AdamW::new(&settings, step, settings.lr, 0.5);
            adamw.update(&mut weights, &halved[..], (&mut first, &mut second), true);
        }
        let distances = weights
            .iter()
            .zip(&expected)
            .map(|(w, e)| (f64::from(*w) - e).abs());
        let worst = distances.fold(0.0, f64::max);
        // A hundred roundings of weights below 1 in f32, each at most 6e-8.
        assert!(worst < 6e-6, "{worst}");
    }

    #[test]
    fn with_moments_in_8_bits_weights_move_as_with_f32() {
        // A rate without decay, and gradients whose sizes differ by row, as those of a model do.
        let settings = TrainSettings {
            weight_decay: 0.0,
            ..settings()
        };
        let count = SPLIT + 3 * BLOCK + 7;
        let begin = draws("weights", count);
        let rows: Vec<f32> = draws("rows", count / 64 + 1);
        let gradient = |step: usize| -> Vec<f32> {
            let means = draws("means", count);
            let noise = draws(&format!("{step}"), count);
            let of = |n: usize| 1e-3 * rows[n / 64] * (means[n] + noise[n]);
            (0..count).map(of).collect()
        };
        let (mut exact, mut coded) = (begin.clone(), begin.clone());
        let (mut first, mut second) = (vec![0.0; count], vec![0.0; count]);
        let mut eight = [Meaning::Signed, Meaning::Square].map(|of| Eight::zeros(count, of));
        for step in 0..100 {
            let (gradient, adamw) = (gradient(step), AdamW::new(&settings, step, 1e-3, 1.0));
            adamw.update(&mut exact, &gradient[..], (&mut first, &mut second), true);
            let moments = eight.each_mut().map(|eight| eight.part(0..count));
            adamw.update_coded(&mut coded, &gradient[..], moments, true);
        }
        let square = |values: &[f32], from: &[f32]| {
            let pairs = values.iter().zip(from);
            pairs.map(|(v, f)| f64::from(v - f).powi(2)).sum::<f64>()
        };
        let off = (square(&coded, &exact) / square(&exact, &begin)).sqrt();
        // With squares that become 0 where they are small it would be 0.19.
        assert!(off < 0.06, "{off} of the way");
        assert!(off > 1e-6, "{off}: the moments were not rounded at all");
        let worst = coded.iter().zip(&begin).map(|(w, b)| (w - b).abs());
        let worst = worst.fold(0.0, f32::max);
        // In f32 no weight goes further than a hundred steps of 1e-3. In 8 bits one whose gradients are
        // far below the largest of its block goes up to 0.21: their mean has few sizes down there.
        assert!(worst < 0.3, "{worst}");
    }

    #[test]
    fn new_weights_take_the_place_of_gradients_that_can_be_changed() {
        let (settings, count) = (settings(), 2 * SPLIT + 2 * BLOCK + 3);
        let adamw = AdamW::new(&settings, 0, settings.lr, 1.0);
        let gradient = draws("gradient", count);
        // In pieces that begin with a block, as they come from a card.
        let pieces = [0..SPLIT, SPLIT..SPLIT + BLOCK, SPLIT + BLOCK..count];
        for coded in [false, true] {
            let begin = || {
                let eight = [Meaning::Signed, Meaning::Square].map(|of| Eight::zeros(count, of));
                (
                    draws("weights", count),
                    [vec![0.0; count], vec![0.0; count]],
                    eight,
                )
            };
            let (mut whole, [mut first, mut second], mut eight) = begin();
            match coded {
                false => adamw.update(&mut whole, &gradient[..], (&mut first, &mut second), true),
                true => {
                    let moments = eight.each_mut().map(|eight| eight.part(0..count));
                    adamw.update_coded(&mut whole, &gradient[..], moments, true);
                }
            }
            let (mut weights, [mut first, mut second], mut of_parts) = begin();
            let mut left = gradient.clone();
            for range in pieces.clone() {
                let (weights, left) = (&mut weights[range.clone()], &mut left[range.clone()]);
                match coded {
                    false => {
                        let moments = (&mut first[range.clone()], &mut second[range]);
                        adamw.update(weights, left, moments, true);
                    }
                    true => {
                        let moments = of_parts.each_mut().map(|eight| eight.part(range.clone()));
                        adamw.update_coded(weights, left, moments, true);
                    }
                }
            }
            assert_eq!([&weights, &left], [&whole, &whole]);
            assert_eq!(of_parts, eight);
        }
    }

    #[test]
    fn the_split_over_threads_changes_no_bit() {
        let (settings, count) = (settings(), 3 * SPLIT + 7);
        let gradient = draws("gradient", count);
        let adamw = AdamW::new(&settings, 0, settings.lr, 1.0);
        let (mut whole, mut parts) = (draws("weights", count), draws("weights", count));
        let (mut first, mut second) = (vec![0.0; count], vec![0.0; count]);
        adamw.update(&mut whole, &gradient[..], (&mut first, &mut second), true);
        let (mut first, mut second) = (vec![0.0; count], vec![0.0; count]);
        for range in (0..count)
            .step_by(1000)
            .map(|from| from..(from + 1000).min(count))
        {
            let moments = (&mut first[range.clone()], &mut second[range.clone()]);
            adamw.update(&mut parts[range.clone()], &gradient[range], moments, true);
        }
        assert_eq!(whole, parts);
    }
}
