//! The training loop.

use std::borrow::Cow;
use std::fs;
use std::time::Instant;

use model::checkpoint::{self, CheckpointError};
use model::decoder::Decoder;
use model::device::Dtype;
use model::lineage::Lineage;
use protocol::Sample;
use sha2::{Digest, Sha256};

use crate::adamw::{AdamW, Moments};
use crate::batch::{MicroBatch, pack};
use crate::event::{Event, Started, StepReport, Watch};
use crate::gradients::{Layout, Sums};
use crate::job::{Job, Outcome, Start, TrainError};
use crate::plan::{Order, Plan, count};
use crate::samples::{self, Requirements, Weight, count_kinds, weigh};
use crate::schedule::learning_rate;
use crate::settings::{ClipNorm, DecayOn, TrainSettings};
use crate::state::{self, Standing, Store, Table};
use crate::weights;

/// Trains, or goes on with what an earlier call with the same job has left in `job.state`.
///
/// The newest whole state of the same job is used, and training goes on bitwise as if it had never
/// ended. A damaged or foreign state is named in an [`Event::PassedOver`]. A stop is heard between
/// micro-batches: the state of the last full step is saved.
///
/// # Errors
/// If settings, samples, model or disk cannot work, the checkpoint is there already, or a loss or
/// gradient is not a finite number.
pub fn train(job: &Job<'_>, watch: &mut dyn Watch) -> Result<Outcome, TrainError> {
    job.settings.check()?;
    // Not only when all the work is done.
    if fs::read_dir(job.out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(CheckpointError::Exists {
            path: job.out.to_owned(),
        }
        .into());
    }
    let decoder = load(job)?;
    let mut trainer = Trainer::new(job, &decoder)?;
    let mut decoder = trainer.restore(decoder, watch)?;
    watch.event(&Event::Started(trainer.started(&decoder)));
    let mut saved = trainer.standing.step;
    while trainer.standing.step < trainer.plan.steps {
        let Some(step) = trainer.compute(&decoder, watch) else {
            let step = trainer.standing.step;
            if step > saved {
                trainer.save(&decoder, watch)?;
            }
            return Ok(Outcome::Stopped { step });
        };
        decoder = trainer.apply(decoder, step, watch)?;
        let (step, every) = (trainer.standing.step, job.settings.save_every_steps);
        if every > 0 && step.is_multiple_of(every) && step < trainer.plan.steps {
            trainer.save(&decoder, watch)?;
            saved = step;
        }
    }
    let Standing {
        step: steps,
        trained_tokens,
    } = trainer.standing;
    let lineage = Lineage {
        step: steps as u64,
        ..job.lineage.clone()
    };
    let checkpoint = checkpoint::save(
        job.out,
        decoder.config(),
        &decoder,
        job.files_from,
        &lineage,
    )?;
    Ok(Outcome::Done {
        checkpoint,
        steps,
        trained_tokens,
    })
}

fn load(job: &Job<'_>) -> Result<Decoder, TrainError> {
    let device = job.device.clone().autodiff();
    Ok(match &job.start {
        Start::FromScratch { config, seed } => Decoder::init(config, *seed, &device),
        Start::Checkpoint(folder) => checkpoint::load(folder, &device, Dtype::F32)?.1,
    })
}

/// Everything but the weights.
struct Trainer<'a> {
    job: &'a Job<'a>,
    weights: Vec<Weight>,
    order: Order,
    plan: Plan,
    layout: Layout,
    moments: Moments,
    standing: Standing,
    table: Table,
    store: Store,
}

/// A step whose gradient is known.
struct Computed {
    sums: Sums,
    indices: Vec<usize>,
    began: Instant,
}

impl<'a> Trainer<'a> {
    fn new(job: &'a Job<'a>, decoder: &Decoder) -> Result<Self, TrainError> {
        let settings = job.settings;
        let needs = Requirements {
            tokenizer_hash: job.tokenizer_hash,
            bos: job.bos,
            vocabulary: decoder.config().vocab_size,
            positions: decoder.config().max_position_embeddings,
            max_tokens: settings.max_tokens,
        };
        samples::check(job.samples, &settings.train_on, &needs)?;
        let weights = weigh(job.samples, &settings.train_on);
        let mut order = Order::new(job.seed, job.samples.len(), settings.samples_per_step);
        let plan = count(settings, &weights, &mut order)?;
        let layout = Layout::of(decoder);
        let moments = Moments::zeros(layout.elements());
        let store = Store {
            folder: job.state.to_owned(),
            key: key(job, decoder),
        };
        let standing = Standing {
            step: 0,
            trained_tokens: 0,
        };
        let table = table(&layout);
        Ok(Self {
            job,
            weights,
            order,
            plan,
            layout,
            moments,
            standing,
            table,
            store,
        })
    }

    /// Goes on from the newest whole state, if there is one.
    fn restore(&mut self, decoder: Decoder, watch: &mut dyn Watch) -> Result<Decoder, TrainError> {
        let found = self.store.newest(&self.table)?;
        for (folder, error) in found.passed_over {
            watch.event(&Event::PassedOver {
                folder,
                reason: error.to_string(),
            });
        }
        let Some((standing, mut values)) = found.state else {
            return Ok(decoder);
        };
        self.standing = standing;
        let count = self.layout.parameters.len();
        self.moments.second = values.split_off(2 * count);
        self.moments.first = values.split_off(count);
        Ok(weights::update(decoder, &self.layout, |place, old| {
            old.copy_from_slice(&values[place]);
        }))
    }

    fn started(&self, decoder: &Decoder) -> Started {
        let (samples, train_on) = (self.job.samples, &self.job.settings.train_on);
        let begins = |sample: &&Sample| {
            let first = sample.spans.iter().find_map(|span| span.ids.first());
            self.job.bos.is_some_and(|bos| first == Some(&bos))
        };
        let ends = |sample: &&Sample| {
            let last = samples::weighted(sample, train_on).last();
            last.is_some_and(|(id, weight, _)| {
                weight > 0.0 && decoder.config().eos_token_id.contains(&id)
            })
        };
        Started {
            plan: self.plan.clone(),
            done: self.standing.step,
            samples: samples.len(),
            kinds: count_kinds(samples, train_on),
            with_bos: samples.iter().filter(begins).count(),
            with_trained_end: samples.iter().filter(ends).count(),
            parameters: self.layout.elements().map(|elements| elements as u64).sum(),
        }
    }

    /// Loss and gradient of the next step; `None` if a stop was asked for.
    fn compute(&mut self, decoder: &Decoder, watch: &mut dyn Watch) -> Option<Computed> {
        let (settings, began) = (self.job.settings, Instant::now());
        let indices = self.order.step(self.standing.step);
        // The weight of the whole step, whatever its micro-batches.
        let total: f64 = indices.iter().map(|index| self.weights[*index].sum).sum();
        let groups = pack(&indices, &self.weights, settings.tokens_per_micro_batch);
        let mut sums = Sums::new(&self.layout);
        for (done, group) in groups.iter().enumerate() {
            if self.job.stop.should_stop() {
                return None;
            }
            let batch = MicroBatch::new(self.job.samples, group, &settings.train_on, total);
            sums.add(decoder, &batch);
            let (step, of) = (self.standing.step + 1, groups.len());
            watch.event(&Event::MicroBatch {
                step,
                done: done + 1,
                of,
            });
        }
        Some(Computed {
            sums,
            indices,
            began,
        })
    }

    /// Updates the weights.
    fn apply(
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
        let norm = sums.norm();
        let lr = learning_rate(settings, step, self.plan.steps);
        let of_step = |amount: fn(&Weight) -> usize| {
            indices
                .iter()
                .map(|index| amount(&self.weights[*index]) as u64)
                .sum::<u64>()
        };
        let trained_tokens = of_step(|weight| weight.trained);
        let mut report = StepReport {
            step: step + 1,
            of: self.plan.steps,
            loss: sums.loss,
            lr,
            grad_norm: norm,
            samples: indices.len(),
            tokens: of_step(|weight| weight.tokens),
            trained_tokens,
            trained_so_far: self.standing.trained_tokens + trained_tokens,
            seconds: began.elapsed().as_secs_f64(),
        };
        if !(sums.loss.is_finite() && norm.is_finite()) {
            watch.event(&Event::Step(report));
            let samples = indices
                .iter()
                .map(|index| self.job.samples[*index].id.clone())
                .collect();
            let (step, loss) = (report.step, report.loss);
            return Err(TrainError::NotFinite {
                step,
                loss,
                grad_norm: norm,
                samples,
            });
        }
        if step == 0 {
            self.all_reached(&sums)?;
        }
        let adamw = AdamW::new(settings, step, lr, clip_factor(settings, norm));
        let Self {
            layout, moments, ..
        } = self;
        let decoder = weights::update(decoder, layout, |place, weights| {
            let gradient = &sums.gradients[place];
            if gradient.is_empty() {
                return;
            }
            let moments = (&mut *moments.first[place], &mut *moments.second[place]);
            let decays = match settings.decay_on {
                DecayOn::Matrices => layout.parameters[place].shape.len() > 1,
                DecayOn::All => true,
            };
            adamw.update(weights, gradient, moments, decays);
        });
        self.standing = Standing {
            step: step + 1,
            trained_tokens: report.trained_so_far,
        };
        report.seconds = began.elapsed().as_secs_f64();
        watch.event(&Event::Step(report));
        Ok(decoder)
    }

    /// Whether the first gradient reaches every parameter.
    ///
    /// A bias of the keys is let off: it shifts all scores of a query nearly alike, which softmax
    /// ignores, so that its gradient can be lost in rounding.
    fn all_reached(&self, sums: &Sums) -> Result<(), TrainError> {
        let entries = self.layout.parameters.iter().zip(&sums.gradients);
        let names: Vec<String> = entries
            .filter(|(_, gradient)| gradient.iter().all(|g| *g == 0.0))
            .map(|(entry, _)| entry.name.clone())
            .filter(|name| !name.ends_with("k_proj.bias"))
            .collect();
        if names.is_empty() {
            Ok(())
        } else {
            Err(TrainError::NoGradient { names })
        }
    }

    fn save(&self, decoder: &Decoder, watch: &mut dyn Watch) -> Result<(), TrainError> {
        let began = Instant::now();
        let (parameters, count) = (decoder.parameters(), self.layout.parameters.len());
        let values = |index: usize| match (index / count, index % count) {
            (0, place) => {
                let values = parameters[place].data().try_into_vec::<f32>();
                Cow::Owned(values.expect("weights under training are f32"))
            }
            (1, place) => Cow::Borrowed(self.moments.first[place].as_slice()),
            (_, place) => Cow::Borrowed(self.moments.second[place].as_slice()),
        };
        let tensors = (&self.table, &values as &dyn Fn(usize) -> _);
        let keep = self.job.settings.keep;
        let folder = self
            .store
            .save(self.standing, tensors, keep, &mut || Ok(()))?;
        let (step, seconds) = (self.standing.step, began.elapsed().as_secs_f64());
        watch.event(&Event::Saved {
            step,
            folder,
            seconds,
        });
        Ok(())
    }
}

/// What gradients are multiplied by, as `torch.nn.utils.clip_grad_norm_` does.
fn clip_factor(settings: &TrainSettings, norm: f64) -> f64 {
    match settings.clip_norm {
        ClipNorm::None => 1.0,
        ClipNorm::At(limit) => (limit / (norm + 1e-6)).min(1.0),
    }
}

/// The tensors of a trainer state: weights, then first, then second moments.
fn table(layout: &Layout) -> Table {
    let mut table = Table::default();
    for part in ["weights", "first", "second"] {
        for entry in &layout.parameters {
            table.push(format!("{part}.{}", entry.name), &entry.shape);
        }
    }
    table
}

/// The hash of everything that decides the result: version, settings (less how often and how many
/// states are saved), seed, samples, tokenizer, and the model's shape and first weights.
fn key(job: &Job<'_>, decoder: &Decoder) -> String {
    let settings = TrainSettings {
        save_every_steps: 0,
        keep: 1,
        ..job.settings.clone()
    };
    let mut hash = Sha256::new();
    let mut put = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    put(concat!("leap-t training 1, ", env!("CARGO_PKG_VERSION")).as_bytes());
    put(&serde_json::to_vec(&settings).expect("settings are plain data"));
    put(&job.seed.to_le_bytes());
    put(job.tokenizer_hash.as_bytes());
    put(decoder.config().to_json().to_string().as_bytes());
    put(weights::hash(decoder).as_bytes());
    for sample in job.samples {
        put(&serde_json::to_vec(sample).expect("a sample is plain data"));
    }
    state::hex(&hash.finalize())
}
