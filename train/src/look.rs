//! The loss on samples that are not trained on, by kind of span.
//!
//! There is no graph, and logits exist for some rows at a time, as in training.

use std::time::Instant;

use burn::module::Module;
use model::decoder::Decoder;
use model::ops;
use protocol::{Sample, SpanKind};

use crate::batch::pack;
use crate::event::{Event, KindLoss, LookReport, Watch};
use crate::forecast::Computer;
use crate::gradients::logit_rows;
use crate::job::Job;
use crate::samples::{weigh, weighted};
use crate::train_on::TrainOn;

/// Looks at all held-out samples; `None` if a stop was asked for.
pub(crate) fn look(
    job: &Job<'_>,
    decoder: &Decoder,
    step: usize,
    watch: &mut dyn Watch,
) -> Option<LookReport> {
    let began = Instant::now();
    let plain = decoder.valid();
    let samples = job.held_out;
    let weights = weigh(samples, &TrainOn::All);
    let indices: Vec<usize> = (0..samples.len()).collect();
    let groups = pack(&indices, &weights, job.settings.tokens_per_micro_batch);
    let mut sums = SpanKind::ALL.map(|kind| (kind, 0_u64, 0_f64));
    for (done, group) in groups.iter().enumerate() {
        if job.stop.should_stop() {
            return None;
        }
        add(&plain, samples, group, &mut sums);
        let (done, of) = (done + 1, groups.len());
        watch.event(&Event::LookBatch { step, done, of });
    }
    let train_on = &job.settings.train_on;
    let weight = |part: &(SpanKind, u64, f64)| train_on.weight(part.0);
    let loss: f64 = sums.iter().map(|part| weight(part) * part.2).sum();
    let total: f64 = sums.iter().map(|part| weight(part) * part.1 as f64).sum();
    let kinds = sums.iter().filter(|part| part.1 > 0);
    Some(LookReport {
        step,
        loss: loss / total,
        kinds: kinds
            .map(|(kind, tokens, sum)| KindLoss {
                kind: *kind,
                tokens: *tokens,
                loss: sum / *tokens as f64,
            })
            .collect(),
        best: false,
        seconds: began.elapsed().as_secs_f64(),
    })
}

fn add(
    decoder: &Decoder,
    samples: &[Sample],
    group: &[usize],
    sums: &mut [(SpanKind, u64, f64); SpanKind::ALL.len()],
) {
    let mut packed = model::Packed::default();
    let (mut targets, mut kinds) = (Vec::new(), Vec::new());
    for index in group {
        let tokens: Vec<_> = weighted(&samples[*index], &TrainOn::All).collect();
        let ids: Vec<u32> = tokens.iter().map(|token| token.0).collect();
        targets.extend_from_slice(&ids[1..]);
        targets.push(ids[0]);
        kinds.extend(tokens[1..].iter().map(|token| Some(token.2)));
        kinds.push(None);
        packed.push(&ids);
    }
    let hidden = decoder.hidden(&packed); // [T, d]
    let head = decoder.head_weight();
    let chunk = logit_rows(head.dims()[0], Computer::of(&head.device()));
    for (kind, tokens, sum) in sums {
        let weights: Vec<f32> = kinds
            .iter()
            .map(|of| if *of == Some(*kind) { 1.0 } else { 0.0 })
            .collect();
        let count = weights.iter().filter(|weight| **weight > 0.0).count() as u64;
        if count > 0 {
            let part = ops::cross_entropy(hidden.clone(), head.clone(), &targets, &weights, chunk);
            *tokens += count;
            *sum += f64::from(part.into_scalar::<f32>());
        }
    }
}
