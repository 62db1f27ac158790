//! Hears a training: progress for people, events and curves for files, signals for the training.

use std::path::Path;

use anyhow::Result;
use model::Decoder;
use serde_json::json;
use train::{
    Event, Interrupter, LookReport, Obedience, Outcome, Started, StepReport, TrainError, Watch,
};

use super::curves::{self, Point};
use super::obedience::Examiner;
use crate::events::Events;
use crate::growing::{Growing, number};
use crate::interrupt;
use crate::output::{Output, Progress, count, flops, size};

/// What hears.
pub(super) struct Progressing<'a> {
    output: &'a mut Output,
    progress: Option<Progress>,
    events: Events,
    curves: Growing,
    stop: &'a Interrupter,
    examiner: Option<Examiner>,
    /// Operations a second that the device reaches at best, if that is known.
    peak: Option<f64>,
    failed: Option<anyhow::Error>,
    last: Option<StepReport>,
}

impl<'a> Progressing<'a> {
    pub(super) fn new(
        out: &Path,
        states: &Path,
        key: &str,
        stop: &'a Interrupter,
        examiner: Option<Examiner>,
        peak: Option<f64>,
        output: &'a mut Output,
    ) -> Result<Self> {
        let events = Events::open(out)?;
        Ok(Self {
            output,
            progress: None,
            events,
            curves: curves::open(out, states, key)?,
            stop,
            examiner,
            peak,
            failed: None,
            last: None,
        })
    }

    /// Ends the progress line, and passes on how the training ended, with its curves.
    pub(super) fn end(
        mut self,
        outcome: Result<Outcome, TrainError>,
    ) -> Result<(Outcome, Growing)> {
        let text = match &outcome {
            Ok(Outcome::Done { steps, .. }) => count(*steps, "step"),
            Ok(Outcome::Stopped { step }) if self.failed.is_none() => {
                format!("stopped after step {step}; all is saved")
            }
            Ok(Outcome::Stopped { .. }) | Err(_) => "failed".to_string(),
        };
        let loss = self
            .last
            .map_or(String::new(), |last| format!(", loss {:.4}", last.loss));
        if let Some(progress) = self.progress.take() {
            progress.finish(&format!("{text}{loss}"));
        }
        let kind = match &outcome {
            Ok(Outcome::Done { .. }) => json!({ "event": "done" }),
            Ok(Outcome::Stopped { step }) => json!({ "event": "stopped", "step": step }),
            Err(error) => json!({ "event": "failed", "error": error.to_string() }),
        };
        self.events.add(kind);
        match self.failed {
            Some(failed) => Err(failed),
            None => Ok((outcome?, self.curves)),
        }
    }

    fn started(&mut self, started: &Started) -> Result<()> {
        let Started { samples, plan, .. } = started;
        self.output.step(
            "Training",
            &format!(
                "{} of {} parameters on {}, {} ({} of warm-up), {} tokens with loss",
                started.trained_parameters,
                started.parameters,
                count(*samples, "sample"),
                count(plan.steps, "step"),
                plan.warmup_steps,
                plan.trained_tokens
            ),
        );
        if started.done + started.micro_batches > 0 {
            let within = match started.micro_batches {
                0 => String::new(),
                1 => " and 1 micro-batch of the next".to_owned(),
                several => format!(" and {several} micro-batches of the next"),
            };
            let done = count(started.done, "step");
            self.output
                .step("Resumed", &format!("after {done}{within}"));
        }
        let mut warn = |number: usize, what: &str| {
            if number > 0 {
                let samples = count(number, "sample");
                self.output.note(&format!("warning: {samples} {what}"));
            }
        };
        warn(
            started.with_several_bos,
            "hold the begin-of-text token more than once",
        );
        if started.with_bos > 0 {
            warn(
                samples - started.with_bos,
                "begin without the begin-of-text token, and others with it",
            );
        }
        warn(
            samples - started.with_trained_end,
            "do not end with a trained end-of-text token: the model does not learn to stop there",
        );
        warn(
            started.with_early_end,
            "have a trained end-of-text token before their end",
        );
        self.progress = Some(self.output.progress("Training", "step"));
        self.curves.keep(started.done as u64)
    }

    fn step(&mut self, report: &StepReport) -> Result<()> {
        self.last = Some(*report);
        let more = self.words(report);
        if let Some(progress) = &mut self.progress {
            progress.show(report.step as u64, report.of as u64, "steps", &more);
        }
        self.add(&Point::Step {
            step: report.step as u64,
            loss: number(report.loss),
            grad_norm: number(report.grad_norm),
            lr: report.lr,
            tokens: report.tokens,
            trained_tokens: report.trained_tokens,
        })
    }

    /// A step in words.
    fn words(&self, report: &StepReport) -> String {
        let rate = |number: f64| number / report.seconds.max(1e-9);
        let used = match self.peak {
            Some(peak) => format!("MFU {:.1}%", 100.0 * rate(report.model_flops) / peak),
            None => flops(rate(report.model_flops)),
        };
        let held = report.memory_bytes;
        let held = held.map_or(String::new(), |bytes| format!(", {}", size(bytes)));
        format!(
            "loss {:.4}, lr {:.2e}, grad norm {:.3}, {:.0} tokens/s, {used}{held}",
            report.loss,
            report.lr,
            report.grad_norm,
            rate(report.tokens as f64)
        )
    }

    fn look(&mut self, look: &LookReport) -> Result<()> {
        let parts: Vec<String> = look
            .kinds
            .iter()
            .map(|part| format!("{} {:.4}", part.kind.name(), part.loss))
            .collect();
        let best = if look.best { ", the best so far" } else { "" };
        self.output.step(
            "Held out",
            &format!(
                "after step {}: loss {:.4}{best}; {}",
                look.step,
                look.loss,
                parts.join(", ")
            ),
        );
        let kinds = look.kinds.iter();
        self.add(&Point::Look {
            step: look.step as u64,
            loss: number(look.loss),
            kinds: kinds
                .map(|part| (part.kind.name().to_string(), number(part.loss)))
                .collect(),
        })
    }
}

impl Progressing<'_> {
    fn add(&mut self, point: &Point) -> Result<()> {
        self.curves.add(point.step(), point)
    }
}

impl Watch for Progressing<'_> {
    fn event(&mut self, event: &Event) {
        if interrupt::asked() {
            self.stop.stop(Some("a signal"));
        }
        let heard = match event {
            Event::Started(started) => self.started(started),
            Event::Step(report) => self.step(report),
            Event::Look(look) => self.look(look),
            Event::PassedOver { folder, reason } => {
                let folder = folder.display();
                self.output
                    .note(&format!("warning: state `{folder}` is not used: {reason}"));
                Ok(())
            }
            Event::RolledBack {
                step,
                to,
                loss,
                samples,
            } => {
                self.output.note(&format!(
                    "warning: step {step} has loss {loss}; back to the weights of step {to}, and on \
                     behind it; its samples are {}",
                    samples.join(", ")
                ));
                Ok(())
            }
            Event::Worst(worst) => {
                let peak = worst
                    .peak_bytes
                    .map_or(String::new(), |bytes| format!(", {} at most", size(bytes)));
                self.output.step(
                    "Tried",
                    &format!(
                        "the largest micro-batch: {} tokens in {:.1} s{peak}",
                        worst.tokens, worst.seconds
                    ),
                );
                Ok(())
            }
            Event::Obedience(found) => {
                let paths = count(found.paths, "path");
                self.output.step(
                    "Form",
                    &format!(
                        "after step {}: {paths}, {} of {} summaries closed, {} answered",
                        found.step, found.closed, found.summaries, found.answered
                    ),
                );
                Ok(())
            }
            Event::Saved { .. } | Event::MicroBatch { .. } | Event::LookBatch { .. } => Ok(()),
        };
        if let Err(error) = heard {
            self.stop.stop(Some("the curves cannot be written"));
            self.failed.get_or_insert(error);
        }
        if !matches!(event, Event::MicroBatch { .. } | Event::LookBatch { .. })
            && let Ok(mut line) = serde_json::to_value(event)
        {
            if let (Event::Step(step), Some(peak)) = (event, self.peak) {
                line["mfu"] = json!(step.model_flops / step.seconds.max(1e-9) / peak);
            }
            self.events.add(line);
        }
    }

    fn is_kept(&mut self) -> bool {
        if self.failed.is_none() {
            self.failed = self.curves.sync().err();
        }
        self.failed.is_none()
    }

    fn obedience(&mut self, step: usize, decoder: &dyn Fn() -> Decoder) -> Option<Obedience> {
        let examiner = self.examiner.as_ref()?;
        match examiner.ask(step, decoder()) {
            Ok(found) => found,
            Err(error) => {
                let text = format!("warning: the model cannot be asked: {error:#}");
                self.output.note(&text);
                None
            }
        }
    }
}
