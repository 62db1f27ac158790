//! Losses, gradients and parameters after AdamW steps against `transformers` and `torch`.
//!
//! The models come from the folder LEAP_FIXTURES (default: ../shared/fixtures beside the
//! workspace); every folder with an expected.safetensors is a case. Unset and absent: skipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::miniature::{Place, Training, curve, device, sample, settings};
use model::checkpoint;
use model::device::Dtype;
use protocol::{Sample, SpanKind};
use safetensors::SafeTensors;
use serde::Deserialize;
use train::{
    ClipNorm, DecayOn, Event, Outcome, Schedule, Start, TrainOn, TrainSettings, loss_and_gradients,
};

#[derive(Deserialize)]
struct Expected {
    sft_loss: f64,
    loss_tokens: usize,
    grad_norms: BTreeMap<String, f64>,
    grad_global_norm: f64,
    grad_rows_ids: Vec<usize>,
    runs: BTreeMap<String, Run>,
}

#[derive(Deserialize)]
struct Run {
    /// The rate of each step.
    lr: Vec<f64>,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    max_norm: Option<f64>,
    warmup_steps: Option<usize>,
    total_steps: Option<usize>,
    loss: Vec<f64>,
    grad_norm: Vec<f64>,
    loss_after: f64,
    max_abs_param_diff_f32_vs_f64_stored: f64,
    update_norms: BTreeMap<String, f64>,
}

struct Case {
    folder: PathBuf,
    expected: Expected,
    arrays: Vec<u8>,
}

impl Case {
    fn read(folder: PathBuf) -> Self {
        let text = std::fs::read_to_string(folder.join("expected.json")).expect("expected.json");
        let expected = serde_json::from_str(&text).expect("the format of the generator");
        let arrays = std::fs::read(folder.join("expected.safetensors")).expect("arrays");
        Self {
            folder,
            expected,
            arrays,
        }
    }

    fn arrays(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.arrays).expect("a safetensors file")
    }

    fn integers(&self, name: &str) -> Vec<i64> {
        let view = self.arrays().tensor(name).expect("an array");
        view.data()
            .as_chunks::<8>()
            .0
            .iter()
            .map(|word| i64::from_le_bytes(*word))
            .collect()
    }

    /// Each row as a sample whose tokens with loss are an answer.
    fn samples(&self) -> Vec<Sample> {
        let row = self.arrays().tensor("input_ids").expect("an array").shape()[1];
        let (ids, kept, loss) = (
            self.integers("input_ids"),
            self.integers("attention_mask"),
            self.integers("loss_mask"),
        );
        let rows = ids
            .chunks(row)
            .zip(kept.chunks(row))
            .zip(loss.chunks(row))
            .enumerate();
        rows.map(|(index, ((ids, kept), loss))| {
            let tokens = ids
                .iter()
                .zip(loss)
                .zip(kept)
                .filter(|(_, kept)| **kept == 1);
            let spans: Vec<(SpanKind, [u32; 1])> = tokens
                .map(|((id, loss), _)| {
                    let kind = if *loss == 1 {
                        SpanKind::Answer
                    } else {
                        SpanKind::Prompt
                    };
                    (kind, [u32::try_from(*id).expect("an id")])
                })
                .collect();
            let spans: Vec<(SpanKind, &[u32])> = spans
                .iter()
                .map(|(kind, ids)| (*kind, ids.as_slice()))
                .collect();
            sample(&format!("row {index}"), &spans)
        })
        .collect()
    }
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let view = tensors
        .tensor(name)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    view.data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| f32::from_le_bytes(*word))
        .collect()
}

/// All cases; `None` if there is no folder and none was asked for.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn cases() -> Option<Vec<Case>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = match std::env::var_os("LEAP_FIXTURES") {
        Some(folder) => root.join(folder),
        None => {
            let folder = root.join("../shared/fixtures");
            if !folder.is_dir() {
                eprintln!("skipped: LEAP_FIXTURES is not set");
                return None;
            }
            folder
        }
    };
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut folders: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.retain(|folder| folder.join("expected.safetensors").is_file());
    folders.sort();
    assert!(!folders.is_empty(), "no model in {}", folder.display());
    Some(folders.into_iter().map(Case::read).collect())
}

#[track_caller]
fn check_close(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance,
        "{what}: {found}, not {expected}"
    );
}

fn distance(one: &[f32], other: &[f32]) -> f64 {
    assert_eq!(one.len(), other.len());
    one.iter()
        .zip(other)
        .map(|(a, b)| f64::from((a - b).abs()))
        .fold(0.0, f64::max)
}

fn norm(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|v| f64::from(*v).powi(2))
        .sum::<f64>()
        .sqrt()
}

#[test]
fn loss_and_gradients_are_those_of_transformers() {
    for case in cases().into_iter().flatten() {
        let name = case.folder.display().to_string();
        let (_, decoder) = checkpoint::load(&case.folder, &device().autodiff(), Dtype::F32)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let samples = case.samples();
        let answers: usize = samples
            .iter()
            .map(|s| s.tokens(|k| k == SpanKind::Answer))
            .sum();
        assert_eq!(answers, case.expected.loss_tokens, "{name}");
        // Both rows at once, and one by one.
        for limit in [64, 12] {
            let found = loss_and_gradients(&decoder, &samples, &TrainOn::Own, limit);
            check_close(&name, found.loss, case.expected.sft_loss, 2e-6);
            let expected = case.expected.grad_global_norm;
            check_close(&name, found.norm, expected, 1e-5 * expected);
            let found: BTreeMap<_, _> = found.parameters.into_iter().collect();
            assert_eq!(
                found.keys().collect::<Vec<_>>(),
                case.expected.grad_norms.keys().collect::<Vec<_>>(),
                "{name}"
            );
            for (parameter, gradient) in &found {
                let what = format!("{name}: gradient of {parameter}");
                let expected = case.expected.grad_norms[parameter];
                check_close(&what, norm(gradient), expected, 1e-5 * expected + 1e-6);
            }
            check_stored_gradients(&name, &case, &found);
        }
    }
}

fn check_stored_gradients(name: &str, case: &Case, found: &BTreeMap<String, Vec<f32>>) {
    let arrays = case.arrays();
    for stored in arrays.names() {
        let Some(parameter) = stored.strip_prefix("grad.") else {
            continue;
        };
        let expected = floats(&arrays, stored);
        let largest = expected.iter().fold(0.0, |most: f32, g| most.max(g.abs()));
        let distance = distance(&found[parameter], &expected);
        assert!(
            distance <= 1e-5 * f64::from(largest) + 1e-6,
            "{name}: {parameter}: {distance}"
        );
    }
    let rows = floats(&arrays, "grad_rows.embed");
    let embedding = &found["model.embed_tokens.weight"];
    let width = rows.len() / case.expected.grad_rows_ids.len();
    for (id, row) in case.expected.grad_rows_ids.iter().zip(rows.chunks(width)) {
        let distance = distance(&embedding[id * width..(id + 1) * width], row);
        assert!(distance <= 2e-6, "{name}: embedding of {id}: {distance}");
    }
}

/// Settings of a run, of at least four steps: the fourth step's loss is that after three.
fn settings_of(run: &Run, peak: f64) -> TrainSettings {
    let steps = run.total_steps.unwrap_or(10);
    TrainSettings {
        steps: Some(steps),
        samples_per_step: 2,
        lr: peak,
        schedule: if run.total_steps.is_some() {
            Schedule::Cosine
        } else {
            Schedule::Constant
        },
        warmup: run.warmup_steps.unwrap_or(0) as f64 / steps as f64,
        min_lr_ratio: 0.0,
        weight_decay: run.weight_decay,
        decay_on: DecayOn::All,
        beta1: run.betas[0],
        beta2: run.betas[1],
        eps: run.eps,
        clip_norm: run.max_norm.map_or(ClipNorm::None, ClipNorm::At),
        save_every_steps: 3,
        ..settings()
    }
}

#[test]
fn adamw_steps_are_those_of_torch() {
    for case in cases().into_iter().flatten() {
        for (run_name, run) in &case.expected.runs {
            let name = format!("{}, run {run_name}", case.folder.display());
            // The peak is reached in every run: after the warm-up, or at once.
            let peak = run.lr.iter().fold(0.0, |most: f64, lr| most.max(*lr));
            let mut training = Training::new(settings_of(run, peak));
            training.samples = case.samples();
            training.start = Start::Checkpoint(case.folder.clone());
            let (place, mut events) = (Place::new(), Vec::new());
            let outcome = training.run(&place, |event, stop| {
                events.push(event.clone());
                if matches!(event, Event::Step(step) if step.step == 4) {
                    stop.stop(None);
                }
            });
            assert!(
                matches!(outcome, Ok(Outcome::Stopped { step: 4 })),
                "{name}: {outcome:?}"
            );
            check_run(&name, run, &events);
            check_parameters(&name, run_name, run, &case, &place);
        }
    }
}

fn check_run(name: &str, run: &Run, events: &[Event]) {
    let rates = events.iter().filter_map(|event| match event {
        Event::Step(step) => Some(step.lr),
        _ => None,
    });
    for (rate, expected) in rates.zip(&run.lr) {
        check_close(name, rate, *expected, 1e-15);
    }
    let losses = run.loss.iter().chain([&run.loss_after]);
    let found = curve(events);
    assert_eq!(found.len(), 4);
    for (step, loss) in found.iter().zip(losses) {
        check_close(name, f64::from_bits(step.1), *loss, 1e-5);
    }
    for (step, norm) in found.iter().zip(&run.grad_norm) {
        check_close(name, f64::from_bits(step.2), *norm, 2e-5 * norm);
    }
}

fn check_parameters(name: &str, run_name: &str, run: &Run, case: &Case, place: &Place) {
    let path = place
        .path("state")
        .join("step-00000003/trainer.safetensors");
    let bytes = std::fs::read(path).expect("the state after three steps");
    let (state, arrays) = (
        SafeTensors::deserialize(&bytes).expect("a file"),
        case.arrays(),
    );
    // How far f32 lies from f64 for the stored parameters was measured where they were made.
    let tolerance = 4.0 * run.max_abs_param_diff_f32_vs_f64_stored + 1e-6;
    let mut compared = 0;
    for stored in arrays.names() {
        let Some(parameter) = stored.strip_prefix(&format!("{run_name}.")) else {
            continue;
        };
        let found = floats(&state, &format!("weights.{parameter}"));
        let distance = distance(&found, &floats(&arrays, stored));
        assert!(
            distance <= tolerance,
            "{name}: {parameter} is {distance} off, not {tolerance}"
        );
        compared += 1;
    }
    assert!(compared > 0, "{name} holds no parameters");
    let (_, before) =
        checkpoint::load(&case.folder, &device(), Dtype::F32).expect("it was loaded before");
    for parameter in before.parameters() {
        let before: Vec<f32> = parameter.data().try_into_vec().expect("f32");
        let after = floats(&state, &format!("weights.{}", parameter.name));
        let update: Vec<f32> = before.iter().zip(&after).map(|(b, a)| a - b).collect();
        let expected = run.update_norms[&parameter.name];
        let what = format!("{name}: update of {}", parameter.name);
        check_close(&what, norm(&update), expected, 1e-3 * expected);
    }
}
