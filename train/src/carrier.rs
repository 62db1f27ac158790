//! Takes gradients to host memory and adds them up there while others are still computed.
//!
//! An optimizer in host memory needs the sums of gradients there, and the norm of all of them before
//! its first update. The copies are waited for by a thread of their own, so that the one that computes is
//! not held up; on a card where cuBLAS and cuDNN are in use they lie in the one stream between what is
//! computed. What comes of it has the bits of sums made in one place.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{JoinHandle, spawn};

use burn::tensor::{DType, Tensor, TensorData};
use half::bf16;
use rayon::prelude::*;

use crate::numbers::{STRETCH, on_host, slice, slice_mut, squares};

/// A thread that takes gradients to host memory.
pub(crate) struct Carrier {
    to: SyncSender<Load>,
    thread: JoinHandle<Vec<Landed>>,
}

/// The sum of the gradients of one parameter, in host memory.
#[derive(Clone, Debug)]
pub(crate) struct Landed {
    /// Empty until there are any.
    pub(crate) sum: TensorData,
    /// The sums of the squares of its stretches, once it is whole.
    pub(crate) squares: Vec<f64>,
    /// Whether anything came in this step; else what `sum` holds is of an earlier one.
    pub(crate) begun: bool,
}

/// A gradient on its way.
struct Load {
    place: usize,
    gradient: Tensor<1>,
    /// Whether the sum is whole with it.
    last: bool,
}

impl Landed {
    /// Nothing yet.
    pub(crate) fn none() -> Self {
        Self {
            sum: on_host(Vec::new()),
            squares: Vec::new(),
            begun: false,
        }
    }

    fn add(&mut self, gradient: Tensor<1>, last: bool) {
        // This is where the copy is made and waited for.
        let gradient = gradient.into_data();
        let count = gradient.num_elements();
        if self.sum.num_elements() != count {
            self.sum = on_host(vec![0.0; count]);
        }
        let begins = !std::mem::replace(&mut self.begun, true);
        let sum = slice_mut(&mut self.sum);
        let squares = match gradient.dtype() {
            DType::F32 => pass(sum, slice(&gradient), |g| g, begins, last),
            DType::BF16 => {
                let values = gradient.as_slice().expect("the format is that of bf16");
                pass(sum, values, bf16::to_f32, begins, last)
            }
            _ => pass(sum, slice(&gradient.convert::<f32>()), |g| g, begins, last),
        };
        self.squares = if last { squares } else { Vec::new() };
    }
}

/// Writes a gradient over the sum, or adds it, in f32; with the squares of a sum that is whole.
fn pass<G: Copy + Sync>(
    sum: &mut [f32],
    gradient: &[G],
    as_f32: impl Fn(G) -> f32 + Sync,
    begins: bool,
    last: bool,
) -> Vec<f64> {
    let stretches = sum
        .par_chunks_mut(STRETCH)
        .zip(gradient.par_chunks(STRETCH));
    let squares = stretches.map(|(sum, gradient)| {
        for (sum, gradient) in sum.iter_mut().zip(gradient) {
            let gradient = as_f32(*gradient);
            *sum = if begins { gradient } else { *sum + gradient };
        }
        if last { squares(sum) } else { 0.0 }
    });
    squares.collect()
}

impl Carrier {
    /// Starts the thread. `landed` is the memory it writes to, one for each parameter; `waiting` is
    /// how many gradients may wait for it before [`Carrier::take`] does.
    pub(crate) fn start(mut landed: Vec<Landed>, waiting: usize) -> Self {
        landed.iter_mut().for_each(|landed| landed.begun = false);
        let (to, from): (_, Receiver<Load>) = sync_channel(waiting);
        let thread = spawn(move || {
            for load in from {
                landed[load.place].add(load.gradient, load.last);
            }
            landed
        });
        Self { to, thread }
    }

    /// Hands over a gradient of the parameter at `place`, the last one of the step or not.
    pub(crate) fn take(&self, place: usize, gradient: Tensor<1>, last: bool) {
        // A thread that has failed hears nothing; `end` tells why.
        let _ = self.to.send(Load {
            place,
            gradient,
            last,
        });
    }

    /// Waits until all is there.
    ///
    /// # Panics
    /// As the thread did, if it did: the device has failed.
    pub(crate) fn end(self) -> Vec<Landed> {
        drop(self.to);
        match self.thread.join() {
            Ok(landed) => landed,
            Err(panic) => resume_unwind(panic),
        }
    }
}

#[cfg(test)]
mod tests {
    use model::config::{Architecture, ModelConfig};
    use model::decoder::Decoder;
    use model::device::{DeviceSpec, Dtype};
    use model::parameters::Parameter;
    use protocol::{Sample, SampleSpan, SpanKind};

    use super::*;
    use crate::adamw::{self, AdamW};
    use crate::batch::MicroBatch;
    use crate::gradients::{Gather, Layout, Sums, norm};
    use crate::optimizer::Optimizer;
    use crate::settings::{Placement, Precision, Recompute, TrainSettings};
    use crate::train_on::TrainOn;

    fn config(tied: bool) -> ModelConfig {
        ModelConfig {
            architecture: Architecture::Qwen2,
            vocab_size: 600,
            hidden_size: 32,
            intermediate_size: 48,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 8,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            rope_scaling: None,
            max_position_embeddings: 128,
            tie_word_embeddings: tied,
            attention_bias: true,
            qk_norm: false,
            bos_token_id: None,
            eos_token_id: vec![2],
            initializer_range: 0.1,
        }
    }

    fn sample(number: u32) -> Sample {
        Sample {
            version: Sample::VERSION,
            id: number.to_string(),
            problem: number.to_string(),
            tokenizer: "none".to_owned(),
            spans: vec![SampleSpan {
                kind: SpanKind::Thought,
                ids: (0..9 + number)
                    .map(|n| (n * 71 + number * 13) % 600)
                    .collect(),
            }],
        }
    }

    /// Bits of the loss, of the norm and of each gradient.
    type Found = (u64, u64, Vec<Vec<u32>>);

    fn found(sums: &Sums) -> Found {
        let bits = |sum: &crate::numbers::Numbers| {
            let values = sum.to_host();
            values.iter().map(|value| value.to_bits()).collect()
        };
        (
            sums.loss.to_bits(),
            norm(&sums.squares()).to_bits(),
            sums.gradients.iter().map(bits).collect(),
        )
    }

    #[test]
    fn carried_sums_have_the_bits_of_those_made_in_one_place() {
        let samples: Vec<Sample> = (0..5).map(sample).collect();
        let device = DeviceSpec::Cpu.open().expect("a processor").autodiff();
        let step = |decoder: &Decoder, recompute, gather, micro_batches: &[&[usize]], landed| {
            let mut sums = Sums::new(&Layout::of(decoder), gather, landed);
            for (done, group) in micro_batches.iter().enumerate() {
                let batch = MicroBatch::new(&samples, group, &TrainOn::Own, 60.0);
                let last = done + 1 == micro_batches.len();
                sums.add(decoder, &batch, None, recompute, last);
            }
            sums.end();
            sums
        };
        let steps: [&[&[usize]]; 3] = [&[&[0, 1], &[2], &[3, 4]], &[&[4, 2]], &[&[1], &[3]]];
        for tied in [false, true] {
            let decoder = Decoder::init(&config(tied), 3, &device);
            for recompute in [Recompute::None, Recompute::Blocks] {
                for gather in [Gather::In(Placement::Device), Gather::HostByLayers] {
                    let mut landed = Vec::new();
                    for micro_batches in steps {
                        let one = Gather::In(Placement::Host);
                        let one = step(&decoder, recompute, one, micro_batches, Vec::new());
                        let sums = step(&decoder, recompute, gather, micro_batches, landed);
                        assert!(found(&sums).2.iter().all(|gradient| !gradient.is_empty()));
                        let same = found(&sums) == found(&one);
                        assert!(same, "{gather:?}, {recompute:?}, tied: {tied}");
                        landed = sums.into_landed();
                    }
                }
            }
        }
    }

    #[test]
    fn sums_of_a_process_before_have_the_bits_of_those_made_in_one_go() {
        let samples: Vec<Sample> = (0..5).map(sample).collect();
        let plain = DeviceSpec::Cpu.open().expect("a processor");
        let decoder = Decoder::init(&config(true), 3, &plain.clone().autodiff());
        let layout = Layout::of(&decoder);
        let groups: [&[usize]; 3] = [&[0, 1], &[2], &[3, 4]];
        let add = |sums: &mut Sums, numbers: std::ops::Range<usize>| {
            for number in numbers {
                let batch = MicroBatch::new(&samples, groups[number], &TrainOn::Own, 60.0);
                let last = number + 1 == groups.len();
                sums.add(&decoder, &batch, None, Recompute::Blocks, last);
            }
            sums.end();
        };
        let gathers = [
            Gather::In(Placement::Host),
            Gather::In(Placement::Device),
            Gather::HostByLayers,
        ];
        let mut straight = Sums::new(&layout, gathers[0], Vec::new());
        add(&mut straight, 0..3);
        for (before, after) in gathers
            .iter()
            .flat_map(|a| gathers.iter().map(move |b| (a, b)))
        {
            let mut first = Sums::new(&layout, *before, Vec::new());
            add(&mut first, 0..2);
            let values = first.gradients.iter().map(|sum| sum.to_host().into_owned());
            let mut second = Sums::new(&layout, *after, Vec::new());
            second.go_on_from(first.loss, values.enumerate(), &plain);
            add(&mut second, 2..3);
            assert!(
                found(&second) == found(&straight),
                "{before:?}, then {after:?}"
            );
        }
    }

    #[test]
    fn sums_that_are_fetched_change_weights_as_those_that_were_carried_do() {
        let samples: Vec<Sample> = (0..3).map(sample).collect();
        let device = DeviceSpec::Cpu.open().expect("a processor").autodiff();
        for moments in [Precision::F32, Precision::EightBit] {
            let settings = TrainSettings {
                moments,
                ..adamw::tests::settings()
            };
            let weights = [Gather::In(Placement::Device), Gather::HostByLayers].map(|gather| {
                let mut decoder = Decoder::init(&config(false), 3, &device);
                let layout = Layout::of(&decoder);
                let mut optimizer = Optimizer::new(&decoder, &layout, &settings, Dtype::Bf16);
                for (step, group) in [[0, 1], [2, 0]].iter().enumerate() {
                    let mut sums = Sums::new(&layout, gather, Vec::new());
                    let batch = MicroBatch::new(&samples, group, &TrainOn::Own, 30.0);
                    sums.add(&decoder, &batch, None, Recompute::Blocks, true);
                    sums.end();
                    let adamw = AdamW::new(&settings, step, 1e-2, 1.0);
                    let (gradients, on) = (&sums.gradients, settings.decay_on);
                    decoder = optimizer.update(decoder, &layout, gradients, &adamw, on);
                }
                let parameters = decoder.parameters().into_iter();
                let bits = |parameter: Parameter| {
                    let values = parameter.data().try_into_vec::<f32>().expect("f32");
                    values.into_iter().map(f32::to_bits).collect()
                };
                let bits: Vec<Vec<u32>> = parameters.map(bits).collect();
                (bits, optimizer)
            });
            assert!(weights[0] == weights[1], "{moments:?}");
        }
    }

    #[test]
    fn what_no_micro_batch_reached_is_none_though_its_memory_holds_an_older_step() {
        let device = DeviceSpec::Cpu.open().expect("a processor");
        let gradient = || Tensor::from_data([1.0_f32, 2.0], &device);
        let carrier = Carrier::start(vec![Landed::none(); 2], 1);
        carrier.take(0, gradient(), false);
        carrier.take(0, gradient(), true);
        carrier.take(1, gradient(), true);
        let landed = carrier.end();
        assert_eq!(slice(&landed[0].sum), [2.0, 4.0]);
        assert_eq!(landed[0].squares, [20.0]);
        assert!(landed[1].begun);
        let carrier = Carrier::start(landed, 1);
        carrier.take(0, gradient(), true);
        let landed = carrier.end();
        assert_eq!(slice(&landed[0].sum), [1.0, 2.0]);
        assert!(!landed[1].begun);
    }

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn a_thread_that_fails_is_heard_at_the_end() {
        let device = DeviceSpec::Cpu.open().expect("a processor");
        let carrier = Carrier::start(Vec::new(), 1);
        carrier.take(0, Tensor::from_data([1.0_f32], &device), true);
        carrier.end();
    }
}
