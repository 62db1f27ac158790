//! The training loop.

use std::error::Error;
use std::fs;
use std::iter::successors;

use burn::module::Module;
use model::checkpoint::{self, CheckpointError, SaveSettings};
use model::decoder::Decoder;
use model::device::Dtype;
use model::lineage::Lineage;

use crate::event::{Event, Watch};
use crate::job::{Finished, Job, Outcome, Rehearsal, Start, TrainError};
use crate::optimizer;
use crate::settings::Chosen;
use crate::trainer::{Looked, Step, Trainer};

/// Trains, or goes on with what an earlier call with the same job has left in `job.state`.
///
/// The newest whole state of the same job is used, and training goes on bitwise as if it had never
/// ended. A damaged or foreign state is named in an [`Event::PassedOver`]. A stop is heard between
/// micro-batches: what the last full step left is saved, and the sums of what is behind of the next one.
///
/// # Errors
/// If settings, samples, model or disk cannot work, the checkpoint is there already, or a loss or
/// gradient is not a finite number. If only the checkpoint cannot be written, the steps are saved
/// before ([`TrainError::Unwritten`]).
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
    let mut saved = trainer.step();
    if job.rehearsal == Rehearsal::Worst {
        trainer.rehearse(&decoder, watch);
    }
    // A look that an earlier process had not finished, or the one before the first step.
    let mut looked = trainer.look(&decoder, watch)?;
    let ending = loop {
        if looked == Looked::Best {
            if !trainer.save(&decoder, None, watch)? {
                break Ending::Stopped;
            }
            saved = trainer.step();
        }
        let computed = match looked {
            Looked::Stopped => Step::Stopped(None),
            _ if trainer.is_done() => break Ending::Done,
            _ => trainer.compute(&decoder, watch),
        };
        let computed = match computed {
            Step::Computed(computed) => computed,
            Step::Stopped(begun) => {
                if trainer.step() > saved || begun.is_some() {
                    trainer.save(&decoder, begun.as_ref(), watch)?;
                }
                break Ending::Stopped;
            }
        };
        decoder = trainer.apply(decoder, computed, watch)?;
        looked = trainer.look(&decoder, watch)?;
        if trainer.saves_now() && looked != Looked::Best {
            if !trainer.save(&decoder, None, watch)? {
                break Ending::Stopped;
            }
            saved = trainer.step();
        }
    };
    match ending {
        Ending::Done if watch.is_kept() => finish(job, &mut trainer, decoder, saved, watch),
        _ => Ok(Outcome::Stopped {
            step: trainer.step(),
        }),
    }
}

/// Why there is no next step.
enum Ending {
    /// All are behind, or held-out losses no longer fall.
    Done,
    /// A stop was asked for, or what was told could not be kept.
    Stopped,
}

/// Takes the steps of a job on a decoder that is in memory, for measuring: nothing is read, saved or
/// looked at, and `job.start` is not asked.
///
/// # Errors
/// If settings or samples cannot work, or a loss or gradient is not a finite number.
pub fn steps(
    job: &Job<'_>,
    mut decoder: Decoder,
    watch: &mut dyn Watch,
) -> Result<Decoder, TrainError> {
    job.settings.check()?;
    // Nothing is saved that would have to be known again.
    let mut trainer = Trainer::keyed(job, &decoder, String::new)?;
    while !trainer.is_done()
        && let Step::Computed(computed) = trainer.compute(&decoder, watch)
    {
        decoder = trainer.apply(decoder, computed, watch)?;
    }
    Ok(decoder)
}

/// The weights that training begins with, adapters and rounding included.
pub(crate) fn load(job: &Job<'_>) -> Result<Decoder, TrainError> {
    let device = job.device.clone().autodiff();
    let decoder = match &job.start {
        Start::FromScratch { config, seed } => match job.dtype {
            Dtype::F32 => Decoder::init(config, *seed, &device),
            Dtype::Bf16 => optimizer::rounded(Decoder::init(config, *seed, &device)),
        },
        Start::Checkpoint(folder) => checkpoint::load(folder, &device, job.dtype)?.1,
    };
    Ok(match &job.settings.lora {
        Some(settings) => decoder.with_fresh_adapters(settings, job.seed),
        None => decoder,
    })
}

/// Writes what came of it. If that fails, the last step is kept as a state, unless it is the one that was
/// `saved` last: the same job then only writes the checkpoint.
fn finish(
    job: &Job<'_>,
    trainer: &mut Trainer<'_>,
    decoder: Decoder,
    saved: usize,
    watch: &mut dyn Watch,
) -> Result<Outcome, TrainError> {
    let steps = trainer.step();
    let best = trainer.best();
    let wanted = job.settings.held_out.map(|held_out| held_out.checkpoint);
    let mut keep = |trainer: &Trainer<'_>, decoder: &Decoder| match steps > saved {
        true => trainer.save(decoder, None, watch),
        false => Ok(true),
    };
    let (decoder, kept) = match (wanted, best) {
        (Some(Chosen::Best), Some((step, _))) if step != steps => {
            // Once the weights of another step are in their place, those of the last one are gone.
            let kept = keep(trainer, &decoder);
            (trainer.go_to(step, decoder)?, Some(kept))
        }
        _ => (decoder, None),
    };
    let chosen = trainer.step();
    let lineage = Lineage {
        step: chosen as u64,
        ..job.lineage.clone()
    };
    let trained_tokens = trainer.trained_tokens();
    let finished = Finished {
        steps,
        chosen,
        trained_tokens,
        best,
    };
    let card = job
        .card
        .map(|card| ("README.md".to_owned(), card(&finished)));
    let documents: Vec<(String, String)> = card.into_iter().collect();
    let plain = decoder.valid();
    let written = match plain.lora() {
        Some(_) => checkpoint::save_adapter(job.out, &plain, job.files_from, &lineage, &documents),
        None => checkpoint::save_documented(
            job.out,
            plain.config(),
            &plain,
            job.files_from,
            &lineage,
            SaveSettings::new(job.dtype),
            &documents,
        ),
    };
    let source = match written {
        Ok(checkpoint) => {
            return Ok(Outcome::Done {
                checkpoint,
                steps,
                trained_tokens,
            });
        }
        Err(source) => Box::new(source),
    };
    drop(plain);
    let reason = match kept.unwrap_or_else(|| keep(trainer, &decoder)) {
        Ok(true) => return Err(TrainError::Unwritten { steps, source }),
        Ok(false) => "what was told on the way is not kept".to_owned(),
        Err(error) => in_a_line(&error),
    };
    Err(TrainError::Lost {
        steps,
        saved,
        reason,
        source,
    })
}

/// An error with what caused it.
fn in_a_line(error: &dyn Error) -> String {
    let causes = successors(error.source(), |error| (*error).source());
    let causes = causes.map(|cause| format!(": {cause}"));
    format!("{error}{}", causes.collect::<String>())
}
