//! Stage 5: the fine-tunings, and the training of a base from scratch.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use model::config::ModelConfig;
use model::lineage::Lineage;
use model::tokenizer::Tokenizer;
use protocol::Sample;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use train::{Event, Interrupter, Job, Outcome, Rehearsal, Start, StepReport, TrainSettings, Watch};

use super::{Flow, Road, checkpoint_path, read_records, samples};
use crate::growing::{self, Growing};
use crate::output::Progress;
use crate::recipe::Trained;
use crate::{interrupt, ledger};

/// Where the losses of a training lie.
pub(crate) fn losses_file(name: &str) -> String {
    format!("losses-{name}.jsonl")
}

/// One line of them; a loss that is no number is text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Loss {
    pub(crate) step: u64,
    pub(crate) loss: Value,
}

pub(super) fn stages(road: &mut Road<'_>, worked: &mut bool) -> Result<Flow> {
    let recipe = road.recipe;
    let control = recipe
        .train
        .control
        .as_ref()
        .map(|settings| (Trained::Control, settings));
    let students = control
        .into_iter()
        .chain([(Trained::LeapT, &recipe.train.leap_t)]);
    for (student, settings) in students {
        let file = if student == Trained::Control {
            samples::CONTROL
        } else {
            samples::LEAP
        };
        let (name, base) = (student.name(), road.base_hash());
        let makes = [checkpoint_path(name), losses_file(name)];
        let makes: Vec<&str> = makes.iter().map(String::as_str).collect();
        let keyed = (recipe.seed, settings, recipe.model.dtype);
        let reads = [file, base.as_str()];
        let stage = format!("train {name}");
        let flow = road.stage(&stage, &keyed, &reads, &makes, worked, |road, key| {
            let start = Start::Checkpoint(road.base_folder());
            let from = road.base_folder();
            train(road, name, start, &from, settings, file, key)
        })?;
        if flow == Flow::Stopped {
            return Ok(flow);
        }
    }
    Ok(Flow::Done)
}

/// Trains the base from fresh weights.
pub(super) fn from_scratch(
    road: &mut Road<'_>,
    config: ModelConfig,
    settings: &TrainSettings,
    file: &str,
    key: &str,
) -> Result<Flow> {
    let start = Start::FromScratch {
        config: Box::new(config),
        seed: road.recipe.seed,
    };
    let from = road.tokenizer_folder();
    train(
        road,
        Trained::Base.name(),
        start,
        &from,
        settings,
        file,
        key,
    )
}

pub(super) fn train(
    road: &mut Road<'_>,
    name: &str,
    start: Start,
    files_from: &Path,
    settings: &TrainSettings,
    file: &str,
    key: &str,
) -> Result<Flow> {
    let samples: Vec<Sample> = read_records(&road.out.join(file))?;
    let tokenizer = Tokenizer::load(&road.tokenizer_folder())?;
    let lineage = Lineage {
        base: road.base_hash(),
        samples: road.hash(file).to_string(),
        recipe: key.to_string(),
        ..Lineage::default()
    };
    let out = road.out.join(checkpoint_path(name));
    // A checkpoint that is there although its stage is not done belongs to other settings, or to a
    // run that was killed between its last write and the ledger's: it is made again.
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot replace `{}`", out.display()))?;
    }
    let state = road.out.join(format!(".state-{name}"));
    let part = Growing::path(road.out, &losses_file(name), key);
    let losses = Growing::open(&part, &state)?;
    let stop = Interrupter::new();
    let mut watch = Steps {
        progress: Some(road.output.progress("Training", name)),
        losses,
        stop: &stop,
        last: None,
        failed: None,
        resumed: None,
        first_tokens: 0,
    };
    let job = Job {
        settings,
        start,
        dtype: road.recipe.model.dtype,
        samples: &samples,
        held_out: &[],
        seed: road.recipe.seed,
        tokenizer_hash: tokenizer.hash(),
        bos: tokenizer.bos().filter(|_| tokenizer.adds_bos()),
        files_from,
        out: &out,
        state: &state,
        device: &road.device,
        lineage: &lineage,
        rehearsal: Rehearsal::None,
        card: None,
        stop: &stop,
    };
    let outcome = train::train(&job, &mut watch).with_context(|| format!("training `{name}`"))?;
    // Of no use to what comes next.
    model::memory::release();
    if let Some(failed) = watch.failed.take() {
        return Err(failed);
    }
    let last = watch.last;
    if let Some(done) = watch.resumed {
        road.event("resumed", json!({ "training": name, "steps": done }));
    }
    let Outcome::Done {
        steps,
        trained_tokens,
        ..
    } = outcome
    else {
        return Ok(Flow::Stopped);
    };
    let loss = last.map_or(f64::NAN, |last| last.loss);
    if let Some(progress) = watch.progress.take() {
        progress.finish(&format!(
            "{steps} steps, {trained_tokens} trained tokens, loss {loss:.3}"
        ));
    }
    let losses: Vec<u8> = watch
        .losses
        .objects()
        .flat_map(|object| [object, b"\n"].concat())
        .collect();
    ledger::write_whole(&road.out.join(losses_file(name)), &losses)?;
    if state.exists() {
        fs::remove_dir_all(&state)
            .with_context(|| format!("cannot remove `{}`", state.display()))?;
    }
    // After the states: a training that goes on from one of them needs the lines before it.
    growing::remove(&part)?;
    Ok(Flow::Done)
}

/// Shows the steps, keeps their losses, and passes a Ctrl-C on.
struct Steps<'a> {
    progress: Option<Progress>,
    losses: Growing,
    stop: &'a Interrupter,
    last: Option<StepReport>,
    failed: Option<anyhow::Error>,
    resumed: Option<usize>,
    first_tokens: u64,
}

impl Watch for Steps<'_> {
    fn event(&mut self, event: &Event) {
        if interrupt::asked() {
            self.stop.stop(Some("Ctrl-C"));
        }
        let kept = match event {
            Event::Started(started) => {
                self.resumed = (started.done > 0).then_some(started.done);
                self.losses.keep(started.done as u64)
            }
            Event::Step(step) => {
                self.show(step);
                let (step, loss) = (step.step as u64, growing::number(step.loss));
                self.losses.add(step, &Loss { step, loss })
            }
            _ => Ok(()),
        };
        if let Err(error) = kept {
            self.stop.stop(Some("the losses cannot be written"));
            self.failed.get_or_insert(error);
        }
    }

    fn is_kept(&mut self) -> bool {
        if self.failed.is_none() {
            self.failed = self.losses.sync().err();
        }
        self.failed.is_none()
    }
}

impl Steps<'_> {
    fn show(&mut self, step: &StepReport) {
        self.first_tokens += step.tokens;
        self.last = Some(*step);
        if let Some(progress) = &mut self.progress {
            let rate = step.tokens as f64 / step.seconds.max(1e-9);
            let more = format!(
                "loss {:.3}, lr {:.1e}, {rate:.0} tokens/s",
                step.loss, step.lr
            );
            progress.show(step.step as u64, step.of as u64, "steps", &more);
        }
    }
}
