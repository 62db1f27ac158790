//! What a training keeps from step to step, and what it does in one.

mod states;

use std::time::Instant;

use burn::module::Module;
use model::decoder::Decoder;
use model::device::DeviceSpec;
use model::lora::Dropout;
use protocol::{Sample, Stream};
use sha2::{Digest, Sha256};

use crate::adamw::AdamW;
use crate::batch::{MicroBatch, pack};
use crate::carrier::Landed;
use crate::event::{Event, Started, StepReport, Watch, WorstReport};
use crate::forecast::{self, flops_of_model};
use crate::gradients::{self, Gather, Layout, Sums};
use crate::guard::{self, Fault};
use crate::job::{Job, TrainError};
use crate::look;
use crate::optimizer::Optimizer;
use crate::plan::{Order, Plan, count};
use crate::samples::{self, Requirements, Weight, count_kinds, weigh};
use crate::schedule::learning_rate;
use crate::settings::{ClipNorm, OnSpike, Placement, TrainSettings};
use crate::state::{self, Best, Standing, Store};
use crate::{train, weights};

/// Everything but the weights.
pub(crate) struct Trainer<'a> {
    job: &'a Job<'a>,
    weights: Vec<Weight>,
    order: Order,
    plan: Plan,
    layout: Layout,
    optimizer: Optimizer,
    /// Where gradients are summed.
    gather: Gather,
    /// The memory of sums that are taken to the host, between two steps.
    landed: Vec<Landed>,
    standing: Standing,
    /// The step that an earlier process was stopped in.
    begun: Option<Begun>,
    store: Store,
}

/// A step of which some micro-batches are behind.
pub(crate) struct Begun {
    micro_batches: usize,
    sums: Sums,
}

/// What came of computing a step.
pub(crate) enum Step {
    /// Its loss and gradient.
    Computed(Computed),
    /// A stop was asked for. What was begun is more than the newest state has.
    Stopped(Option<Begun>),
}

/// A step whose gradient is known.
pub(crate) struct Computed {
    sums: Sums,
    indices: Vec<usize>,
    began: Instant,
}

/// How a look at the held-out samples ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    /// None is due.
    Not,
    /// A stop was asked for before its end.
    Stopped,
    /// An earlier one was better.
    Done,
    /// The loss is lower than ever.
    Best,
}

impl<'a> Trainer<'a> {
    pub(crate) fn new(job: &'a Job<'a>, decoder: &Decoder) -> Result<Self, TrainError> {
        Self::keyed(job, decoder, || key(job, decoder))
    }

    /// One whose states have this key: it is asked for once all is checked, as it reads all weights.
    pub(crate) fn keyed(
        job: &'a Job<'a>,
        decoder: &Decoder,
        key: impl FnOnce() -> String,
    ) -> Result<Self, TrainError> {
        let settings = job.settings;
        let needs = Requirements {
            tokenizer_hash: job.tokenizer_hash,
            bos: job.bos,
            vocabulary: decoder.config().vocab_size,
            positions: decoder.config().max_position_embeddings,
            max_tokens: settings.max_tokens,
        };
        samples::check(job.samples, &settings.train_on, &needs)?;
        match (&settings.held_out, job.held_out) {
            (None, []) => {}
            (None, _) => {
                return Err(TrainError::HeldOut(
                    "there are held-out samples, but the settings have no `held_out`",
                ));
            }
            (Some(_), []) => {
                return Err(TrainError::HeldOut(
                    "the settings have `held_out`, but there are no held-out samples",
                ));
            }
            (Some(_), held_out) => {
                samples::check(held_out, &settings.train_on, &needs)?;
                samples::check_unseen(job.samples, held_out)?;
            }
        }
        let weights = weigh(job.samples, &settings.train_on);
        let mut order = Order::new(job.seed, job.samples.len(), settings.samples_per_step);
        let plan = count(settings, &weights, &mut order)?;
        let layout = Layout::of(decoder);
        if !DeviceSpec::is_cpu(job.device) {
            let bytes = forecast::largest_on_card(decoder.config(), settings, job.dtype);
            model::memory::take_pages_for(job.device, bytes);
        }
        let optimizer = Optimizer::new(decoder, &layout, settings, job.dtype);
        let gather = match (DeviceSpec::is_cpu(job.device), settings.optimizer) {
            // There is one memory, and one set of processors: nothing to take anywhere.
            (true, placement) => Gather::In(placement),
            (false, Placement::Device) => Gather::In(Placement::Device),
            (false, Placement::Host) => match settings.sums {
                Placement::Device => Gather::In(Placement::Device),
                Placement::Host => Gather::HostByLayers,
            },
        };
        let store = Store {
            folder: job.state.to_owned(),
            key: key(),
        };
        Ok(Self {
            job,
            weights,
            order,
            plan,
            layout,
            optimizer,
            gather,
            landed: Vec::new(),
            standing: Standing::default(),
            begun: None,
            store,
        })
    }

    /// Steps behind.
    pub(crate) fn step(&self) -> usize {
        self.standing.step
    }

    /// Micro-batches behind of the step that an earlier process was stopped in.
    fn micro_batches_behind(&self) -> usize {
        self.begun.as_ref().map_or(0, |begun| begun.micro_batches)
    }

    /// Tokens with loss so far.
    pub(crate) fn trained_tokens(&self) -> u64 {
        self.standing.trained_tokens
    }

    /// The best look: its step and its loss.
    pub(crate) fn best(&self) -> Option<(usize, f64)> {
        self.standing.best.map(|best| (best.step, best.loss))
    }

    /// Whether there is nothing left to train: all steps are behind, or held-out losses no longer
    /// fall.
    pub(crate) fn is_done(&self) -> bool {
        let patience = self.job.settings.held_out.map_or(0, |held| held.patience);
        let patient = patience == 0 || self.standing.looks_since_best < patience;
        self.standing.step >= self.plan.steps || !patient
    }

    pub(crate) fn started(&self, decoder: &Decoder) -> Started {
        let (samples, train_on) = (self.job.samples, &self.job.settings.train_on);
        let ids = |sample: &'a Sample| sample.spans.iter().flat_map(|span| span.ids.iter());
        let bos = self.job.bos;
        let starts = |sample: &&'a Sample| bos.is_some() && ids(sample).next() == bos.as_ref();
        let several = |sample: &&'a Sample| {
            bos.is_some_and(|bos| ids(sample).filter(|id| **id == bos).count() > 1)
        };
        let ends: Vec<(bool, bool)> = samples
            .iter()
            .map(|sample| {
                let tokens = samples::weighted(sample, train_on);
                let is_end = |(id, weight, _): (u32, f64, _)| {
                    weight > 0.0 && decoder.config().eos_token_id.contains(&id)
                };
                let mut tokens: Vec<bool> = tokens.map(is_end).collect();
                let last = tokens.pop().unwrap_or(false);
                (last, tokens.contains(&true))
            })
            .collect();
        let elements = |parameters: Vec<model::parameters::Parameter>| {
            let elements = |p: &model::parameters::Parameter| p.shape().iter().product::<usize>();
            parameters.iter().map(|p| elements(p) as u64).sum::<u64>()
        };
        Started {
            plan: self.plan.clone(),
            done: self.standing.step,
            micro_batches: self.micro_batches_behind(),
            samples: samples.len(),
            kinds: count_kinds(samples, train_on),
            with_bos: samples.iter().filter(starts).count(),
            with_several_bos: samples.iter().filter(several).count(),
            with_trained_end: ends.iter().filter(|(last, _)| *last).count(),
            with_early_end: ends.iter().filter(|(_, early)| *early).count(),
            parameters: elements(decoder.parameters()) + elements(decoder.adapter_parameters()),
            trained_parameters: elements(decoder.trained_parameters()),
        }
    }

    /// Computes loss and gradient of the largest micro-batch, and forgets them.
    ///
    /// Not if nothing is left to compute, nor within a step: there are its sums already, and a second set
    /// beside them is more than any step holds.
    pub(crate) fn rehearse(&mut self, decoder: &Decoder, watch: &mut dyn Watch) {
        if self.begun.is_some() || self.is_done() {
            return;
        }
        let began = Instant::now();
        let limit = self.job.settings.tokens_per_micro_batch;
        let mut worst = ((0, 0), Vec::new(), 0);
        for step in 0..self.plan.steps {
            for group in pack(&self.order.step(step), &self.weights, limit) {
                let lengths = group.iter().map(|index| self.weights[*index].tokens as u64);
                // Layers take memory by the token, attention time by the square.
                let size = (
                    lengths.clone().sum::<u64>(),
                    lengths.map(|tokens| tokens * tokens).sum::<u64>(),
                );
                if size > worst.0 {
                    worst = (size, group, step);
                }
            }
        }
        let ((tokens, _), group, step) = worst;
        let mut sums = self.no_sums();
        self.add(&mut sums, decoder, (&group, true), step, 1.0);
        sums.end();
        self.landed = sums.into_landed();
        let lengths = group.iter().map(|index| self.weights[*index].tokens as u64);
        watch.event(&Event::Worst(WorstReport {
            tokens,
            longest: lengths.max().unwrap_or(0),
            seconds: began.elapsed().as_secs_f64(),
            peak_bytes: model::memory::peak_bytes(),
        }));
    }

    fn no_sums(&mut self) -> Sums {
        Sums::new(&self.layout, self.gather, std::mem::take(&mut self.landed))
    }

    /// Adds the micro-batch of the samples `group`, the last one of its step or not.
    fn add(
        &self,
        sums: &mut Sums,
        decoder: &Decoder,
        (group, last): (&[usize], bool),
        step: usize,
        total: f64,
    ) {
        let settings = self.job.settings;
        let batch = MicroBatch::new(self.job.samples, group, &settings.train_on, total);
        let rate = settings.lora.as_ref().map_or(0.0, |lora| lora.dropout);
        let dropout = (rate > 0.0).then(|| {
            let stream = Stream::of_run(self.job.seed)
                .named("dropout")
                .indexed(step as u64);
            let keys = batch
                .samples
                .iter()
                .map(|sample| stream.bits(*sample as u64));
            Dropout::new(rate, &keys.collect::<Vec<_>>(), &batch.packed.lengths)
        });
        sums.add(decoder, &batch, dropout.as_ref(), settings.recompute, last);
    }

    /// Loss and gradient of the next step, or of what is left of it.
    pub(crate) fn compute(&mut self, decoder: &Decoder, watch: &mut dyn Watch) -> Step {
        let (settings, began) = (self.job.settings, Instant::now());
        let step = self.standing.step;
        let indices = self.order.step(step);
        // The weight of the whole step, whatever its micro-batches.
        let total: f64 = indices.iter().map(|index| self.weights[*index].sum).sum();
        let groups = pack(&indices, &self.weights, settings.tokens_per_micro_batch);
        let (behind, mut sums) = match self.begun.take() {
            Some(begun) => (begun.micro_batches, begun.sums),
            None => (0, self.no_sums()),
        };
        for (done, group) in groups.iter().enumerate().skip(behind) {
            if self.job.stop.should_stop() {
                sums.end();
                // A loss that is no number is found anew by the step that has it.
                let more = done > behind && sums.loss.is_finite();
                let micro_batches = done;
                return Step::Stopped(more.then_some(Begun {
                    micro_batches,
                    sums,
                }));
            }
            let last = done + 1 == groups.len();
            self.add(&mut sums, decoder, (group, last), step, total);
            let (step, of) = (step + 1, groups.len());
            watch.event(&Event::MicroBatch {
                step,
                done: done + 1,
                of,
            });
        }
        sums.end();
        Step::Computed(Computed {
            sums,
            indices,
            began,
        })
    }

    /// Updates the weights, or rolls them back.
    pub(crate) fn apply(
        &mut self,
        decoder: Decoder,
        computed: Computed,
        watch: &mut dyn Watch,
    ) -> Result<Decoder, TrainError> {
        let Computed {
            sums,
            indices,
            began,
        } = computed;
        let (settings, step) = (self.job.settings, self.standing.step);
        let of_sums = sums.squares();
        let norm = gradients::norm(&of_sums);
        let lr = learning_rate(settings, step, self.plan.steps);
        let of_step = |amount: fn(&Weight) -> usize| {
            indices
                .iter()
                .map(|index| amount(&self.weights[*index]) as u64)
                .sum::<u64>()
        };
        let (tokens, trained_tokens) = (
            of_step(|weight| weight.tokens),
            of_step(|weight| weight.trained),
        );
        let squares = of_step(|weight| weight.tokens * weight.tokens);
        let mut report = StepReport {
            step: step + 1,
            of: self.plan.steps,
            loss: sums.loss,
            lr,
            grad_norm: norm,
            samples: indices.len(),
            tokens,
            trained_tokens,
            trained_so_far: self.standing.trained_tokens + trained_tokens,
            model_flops: flops_of_model(decoder.config(), settings, tokens, squares),
            memory_bytes: None,
            seconds: began.elapsed().as_secs_f64(),
            update_seconds: 0.0,
        };
        let guard = settings.guard.as_ref();
        if let Some(fault) = guard::fault(guard, &self.standing.recent, sums.loss, norm) {
            report.memory_bytes = self.memory_bytes();
            watch.event(&Event::Step(report));
            // Nothing comes of them, and going back takes memory.
            self.landed = sums.into_landed();
            return self.fail(decoder, fault, &report, &indices, watch);
        }
        // The loss is that of the weights in the state of `step`: now they are known to be sound.
        if let Some(anchor) = self.standing.next_anchor.take() {
            self.standing.anchor = anchor;
        }
        self.all_reached(&sums, &of_sums, step)?;
        let clip = clip_factor(settings, norm);
        let adamw = AdamW::new(settings, self.standing.updates(), lr, clip);
        let decoder = self.optimizer.update(
            decoder,
            &self.layout,
            &sums.gradients,
            &adamw,
            settings.decay_on,
        );
        let loss = sums.loss;
        self.landed = sums.into_landed();
        self.standing.step = step + 1;
        self.standing.trained_tokens = report.trained_so_far;
        guard::remember(&mut self.standing.recent, loss);
        if self.is_anchor() {
            self.standing.next_anchor = Some(step + 1);
        }
        let passes = std::mem::replace(&mut report.seconds, began.elapsed().as_secs_f64());
        report.update_seconds = report.seconds - passes;
        report.memory_bytes = self.memory_bytes();
        watch.event(&Event::Step(report));
        Ok(decoder)
    }

    /// What is held now.
    fn memory_bytes(&self) -> Option<u64> {
        match model::memory::of_device(self.job.device) {
            Some(memory) => Some(memory.in_use),
            None => model::memory::resident_bytes(),
        }
    }

    /// Ends the training, or goes back to the anchor and on behind the step that is not believed.
    fn fail(
        &mut self,
        decoder: Decoder,
        fault: Fault,
        report: &StepReport,
        indices: &[usize],
        watch: &mut dyn Watch,
    ) -> Result<Decoder, TrainError> {
        let (step, loss, grad_norm) = (report.step, report.loss, report.grad_norm);
        let id = |index: &usize| self.job.samples[*index].id.clone();
        let samples: Vec<String> = indices.iter().map(id).collect();
        let guard = self.job.settings.guard;
        let may = guard.is_some_and(|guard| {
            guard.then == OnSpike::RollBack && self.standing.roll_backs < guard.most
        });
        if !may {
            return Err(match fault {
                Fault::NotFinite => TrainError::NotFinite {
                    step,
                    loss,
                    grad_norm,
                    samples,
                },
                Fault::Spike(median) => TrainError::Spike {
                    step,
                    loss,
                    spike: guard.map_or(0.0, |guard| guard.spike),
                    median,
                    samples,
                },
            });
        }
        let before = self.standing.clone();
        let decoder = match before.anchor {
            0 => {
                // The first weights and a new optimizer take the memory of the old ones.
                drop(decoder);
                self.optimizer.forget();
                let decoder = train::load(self.job)?;
                let (settings, dtype) = (self.job.settings, self.job.dtype);
                self.layout = Layout::of(&decoder);
                self.optimizer = Optimizer::new(&decoder, &self.layout, settings, dtype);
                self.standing = Standing::default();
                decoder
            }
            anchor => self.go_to(anchor, decoder)?,
        };
        let updates = self.standing.updates();
        self.standing = Standing {
            step,
            skipped: step - updates,
            roll_backs: before.roll_backs + 1,
            // Looks are behind, whatever the weights are now.
            looked: before.looked,
            best: before.best,
            looks_since_best: before.looks_since_best,
            anchor: before.anchor,
            next_anchor: None,
            ..self.standing.clone()
        };
        watch.event(&Event::RolledBack {
            step,
            to: before.anchor,
            loss,
            samples,
        });
        Ok(decoder)
    }

    /// Whether the first gradients reach every trained parameter.
    ///
    /// A bias of the keys is let off: it shifts all scores of a query nearly alike, which softmax
    /// ignores, so that its gradient can be lost in rounding. The first matrix of an adapter has
    /// none until the second one has moved from 0. `squares` are those of `sums`: a gradient is read only if
    /// there is nothing in them, as squares of very small numbers are 0, too.
    fn all_reached(
        &self,
        sums: &Sums,
        squares: &[Vec<f64>],
        step: usize,
    ) -> Result<(), TrainError> {
        let moves = |step| learning_rate(self.job.settings, step, self.plan.steps) > 0.0;
        let moved = step > 0 && moves(step - 1) && !(step > 1 && moves(step - 2));
        let adapters_moved = moved && self.standing.skipped == 0;
        if step > 0 && !(adapters_moved && self.job.settings.lora.is_some()) {
            return Ok(());
        }
        let entries = self.layout.parameters.iter();
        let names: Vec<String> = entries
            .zip(sums.gradients.iter().zip(squares))
            .filter(|(entry, _)| !entry.name.ends_with("k_proj.bias"))
            .filter(|(entry, _)| step > 0 || !entry.name.contains("lora_A"))
            .filter(|(_, (_, squares))| squares.iter().all(|square| *square == 0.0))
            .filter(|(_, (gradient, _))| gradient.are_zero())
            .map(|(entry, _)| entry.name.clone())
            .collect();
        if names.is_empty() {
            Ok(())
        } else {
            Err(TrainError::NoGradient { names })
        }
    }

    /// Whether the weights after the last step are those of the next anchor, once a loss of theirs is
    /// believed: the update itself may have broken them.
    fn is_anchor(&self) -> bool {
        let (settings, step) = (self.job.settings, self.standing.step);
        let guard = settings.guard.filter(|_| rolls_back(settings));
        guard.is_some_and(|guard| step.is_multiple_of(guard.anchor_every_steps))
    }

    /// Whether the state is saved after this step.
    pub(crate) fn saves_now(&self) -> bool {
        let (step, every) = (self.standing.step, self.job.settings.save_every_steps);
        let regular = every > 0 && step.is_multiple_of(every) && step < self.plan.steps;
        regular || (self.standing.next_anchor == Some(step) && step < self.plan.steps)
    }

    /// Looks at the held-out samples, if that is due and not done.
    pub(crate) fn look(
        &mut self,
        decoder: &Decoder,
        watch: &mut dyn Watch,
    ) -> Result<Looked, TrainError> {
        let step = self.standing.step;
        let Some(settings) = self.job.settings.held_out else {
            return Ok(Looked::Not);
        };
        let due = step.is_multiple_of(settings.every_steps) || step == self.plan.steps;
        if !due || self.standing.looked == Some(step) {
            return Ok(Looked::Not);
        }
        let Some(mut report) = look::look(self.job, decoder, step, watch) else {
            return Ok(Looked::Stopped);
        };
        self.standing.looked = Some(step);
        let lower = self
            .standing
            .best
            .is_none_or(|best| report.loss < best.loss);
        // Without a look before it, a loss that is no number would be the best for ever.
        report.best = step > 0 && lower && report.loss.is_finite();
        if report.best {
            let loss = report.loss;
            self.standing.best = Some(Best { step, loss });
            self.standing.looks_since_best = 0;
        } else if step > 0 {
            self.standing.looks_since_best += 1;
        }
        let best = report.best;
        watch.event(&Event::Look(report));
        let plain = || decoder.valid().merged();
        if let Some(obedience) = watch.obedience(step, &plain) {
            watch.event(&Event::Obedience(obedience));
        }
        Ok(match best {
            true => Looked::Best,
            false => Looked::Done,
        })
    }
}

fn rolls_back(settings: &TrainSettings) -> bool {
    let guard = settings.guard.as_ref();
    guard.is_some_and(|guard| guard.then == OnSpike::RollBack)
}

/// What gradients are multiplied by, as `torch.nn.utils.clip_grad_norm_` does.
fn clip_factor(settings: &TrainSettings, norm: f64) -> f64 {
    match settings.clip_norm {
        ClipNorm::None => 1.0,
        ClipNorm::At(limit) => (limit / (norm + 1e-6)).min(1.0),
    }
}

/// The hash of everything that decides the result: version, settings (less those that change none),
/// number format, seed, samples, tokenizer, and the model's shape and first weights.
fn key(job: &Job<'_>, decoder: &Decoder) -> String {
    let mut hash = Sha256::new();
    let mut put = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    put(concat!("leap-t training 4, ", env!("CARGO_PKG_VERSION")).as_bytes());
    put(&serde_json::to_vec(&job.settings.essence()).expect("settings are plain data"));
    if rolls_back(job.settings) {
        put(b"anchors are believed");
    }
    put(job.dtype.to_string().as_bytes());
    put(&job.seed.to_le_bytes());
    put(job.tokenizer_hash.as_bytes());
    put(decoder.config().to_json().to_string().as_bytes());
    put(weights::hash(decoder).as_bytes());
    for samples in [job.samples, job.held_out] {
        put(&(samples.len() as u64).to_le_bytes());
        for sample in samples {
            put(&serde_json::to_vec(sample).expect("a sample is plain data"));
        }
    }
    state::hex(&hash.finalize())
}
