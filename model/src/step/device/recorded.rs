//! The launches of a step, recorded once and sent again as one.
//!
//! A step of one token per row is a few hundred small kernels, and a card waits for the host between
//! them. Ids, slots and lengths lie in one tensor of numbers, so that a step's launches depend on the
//! number of its rows and on the cache's memory alone: what was recorded for a number of rows serves any
//! texts. Steps of other numbers are filled up with rows that stand for no text, so that few numbers occur.
//!
//! A recording writes to the addresses that it was made with. Whatever else wrote to the cache may have
//! moved its tensors, so their addresses are asked for again before the next use, and where one has
//! moved, steps are recorded anew.
//!
//! What is sent again is not trusted: the step that was recorded and the one behind it are computed
//! both ways, and if their logits differ, nothing is recorded any more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use burn::backend::{Backend, BackendTypes, Dispatch};
use burn::tensor::{ExecutionError, Int, Tensor};

use super::single::Single;
use crate::decoder::Decoder;
use crate::kv_cache::DeviceTexts;
use crate::ops::product::{self, Held};
use crate::rope::Turns;
use crate::step::{Row, Which};

/// Steps of so many rows before one is recorded: what is used a few times only is not worth it.
const BEFORE: usize = 4;

/// Runs before the recording, which take the memory that it needs: one, as kernels have been chosen by
/// the steps before; should that not do, some more.
const WARM_UP: [usize; 2] = [1, 3];

/// Recordings that are kept. Each holds on to the memory of a step in whole pages of CubeCL's, which are as large as
/// the largest tensor, a layer's keys: a gigabyte where many long texts are written. Making one takes as long as a few
/// steps, and few numbers of rows are in use at a time.
const KEPT: usize = 3;

/// Numbers of rows that are recorded; beyond them multiples of the last step.
const ROWS: [usize; 9] = [1, 2, 4, 8, 16, 24, 32, 48, 64];

/// How far logits may be apart that are computed both ways, as a share of the largest.
const APART: f32 = 1e-3;

type Graph = <Dispatch as BackendTypes>::GraphPrimitive;

/// What has been recorded of a cache's steps.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// The one that was used last at the end.
    recorded: Vec<Recorded>,
    /// Shape of the cache's tensors, and where they lay when steps were recorded.
    shape: [usize; 4],
    addresses: Vec<u64>,
    /// Steps of a number of rows that have not been recorded.
    seen: BTreeMap<usize, usize>,
    /// Why nothing is recorded any more.
    off: Option<String>,
    replayed: u64,
    /// Time that recordings took, with their proofs.
    time: Duration,
}

struct Recorded {
    rows: usize,
    graph: Graph,
    /// Written anew before each use.
    numbers: Tensor<1, Int>,
    /// Where it leaves the logits.
    logits: Tensor<2>,
    /// Whether a step with other numbers than the recorded ones came out right.
    proved: bool,
    /// Keep weights, tables and what products use where they are.
    _held: Held,
    _decoder: Decoder,
    _turns: Turns,
}

impl std::fmt::Debug for Recorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rows, proved, .. } = self;
        let mut named = f.debug_struct("Recorded");
        named.field("rows", rows).field("proved", proved).finish()
    }
}

/// The rows that a step of so many is filled up to.
fn filled(rows: usize) -> usize {
    let known = ROWS.into_iter().find(|known| *known >= rows);
    known.unwrap_or_else(|| rows.next_multiple_of(32))
}

impl Recorder {
    /// Steps that were sent as one.
    pub(crate) fn replayed(&self) -> u64 {
        self.replayed
    }

    /// Why nothing is recorded, if that is so.
    pub(crate) fn off(&self) -> Option<&str> {
        self.off.as_deref()
    }

    /// Time that recordings took, with the steps that proved them.
    pub(crate) fn time(&self) -> Duration {
        self.time
    }

    /// Drops what was recorded, and with it the memory that it holds on to.
    pub(crate) fn forget(&mut self) {
        self.recorded.clear();
    }

    fn give_up(&mut self, reason: impl std::fmt::Display) {
        self.off = Some(reason.to_string());
        self.forget();
    }

    fn take(&mut self, rows: usize) -> Option<Recorded> {
        let at = self.recorded.iter().position(|one| one.rows == rows)?;
        Some(self.recorded.remove(at))
    }

    fn keep(&mut self, recorded: Recorded) {
        if self.recorded.len() == KEPT {
            self.recorded.remove(0);
        }
        self.recorded.push(recorded);
    }

    /// Whether a step of so many rows is due for recording.
    fn is_due(&mut self, rows: usize) -> bool {
        let seen = self.seen.entry(rows).or_default();
        *seen += 1;
        *seen > BEFORE
    }
}

impl Decoder {
    /// A step of one token per row, from a recording if there is one for so many rows.
    pub(crate) fn single_recorded(&self, rows: &[Row<'_>], texts: &mut DeviceTexts) -> Tensor<2> {
        if !self.is_joined() {
            let reason = "steps are recorded on CUDA cards, of decoders made ready for writing";
            texts.recorder.off.get_or_insert_with(|| reason.to_owned());
        }
        if texts.recorder.off.is_some() {
            return self.advance_on_device(rows, texts, Which::Last);
        }
        let longest = rows.iter().map(|row| texts.len(row.slot) + 1).max();
        texts.reserve(longest.unwrap_or(0));
        let step = self.single(rows, filled(rows.len()), texts);
        forget_what_moved(texts);
        let logits = match texts.recorder.take(step.rows) {
            Some(recorded) => self.send_again(recorded, &step, texts),
            None if texts.recorder.is_due(step.rows) => self.record(&step, texts),
            None => self.write_single(&step, texts),
        };
        step.end(texts);
        logits.narrow(0, 0, rows.len())
    }

    fn record(&self, step: &Single, texts: &mut DeviceTexts) -> Tensor<2> {
        let started = Instant::now();
        let expected = self.write_single(step, texts);
        let mut recorded = Err(String::new());
        for runs in WARM_UP {
            recorded = self.recorded(step, texts, runs);
            if recorded.is_ok() {
                break;
            }
        }
        match recorded {
            Ok(recorded) => match differ(&recorded.logits, &expected, step.texts()) {
                None => texts.recorder.keep(recorded),
                Some(reason) => texts.recorder.give_up(reason),
            },
            Err(reason) => texts.recorder.give_up(reason),
        }
        texts.recorder.time += started.elapsed();
        expected
    }

    /// Records a step after some runs of it, and sends it once. The tokens are written again and again,
    /// into the same places.
    fn recorded(
        &self,
        step: &Single,
        texts: &mut DeviceTexts,
        runs: usize,
    ) -> Result<Recorded, String> {
        let device = texts.device.clone();
        let card = device.as_dispatch();
        let said = |error: ExecutionError| error.to_string();
        Dispatch::graph_prepare(card).map_err(said)?;
        let captured = self.captured(step, texts, runs);
        let (before, graph, logits, held) = captured.inspect_err(|_| {
            // The only way out of a preparation; there is nothing to stop, which it says as an error.
            drop(Dispatch::graph_stop_capture(card));
        })?;
        let after = texts.addresses()?;
        if before != after {
            return Err("a step moved the cache while it was recorded".to_owned());
        }
        if texts.recorder.addresses != after {
            texts.recorder.forget();
        }
        texts.recorder.addresses = after;
        texts.recorder.shape = texts.shape();
        replay(card, &graph).map_err(said)?;
        Ok(Recorded {
            rows: step.rows,
            graph,
            numbers: step.numbers.clone(),
            logits,
            proved: false,
            _held: held,
            _decoder: self.clone(),
            _turns: self.rope().turns(texts.all_places(), &device),
        })
    }

    /// Runs a step and records it, on a device that is prepared: where the cache lay before, and what the
    /// recording needs.
    fn captured(
        &self,
        step: &Single,
        texts: &mut DeviceTexts,
        runs: usize,
    ) -> Result<(Vec<u64>, Graph, Tensor<2>, Held), String> {
        let device = texts.device.clone();
        let card = device.as_dispatch();
        let said = |error: ExecutionError| error.to_string();
        for _ in 0..runs {
            // As much memory as the recording will need, which may not ask for more: products keep theirs.
            product::hold(&device);
            let logits = self.write_single(step, texts);
            // Held until it is computed: what nobody holds need not be.
            let done = Dispatch::sync(card).map_err(said);
            drop(product::held(&device));
            done?;
            drop(logits);
        }
        let before = texts.addresses()?;
        product::hold(&device);
        let captured = Dispatch::graph_start_capture(card).and_then(|()| {
            let logits = self.write_single(step, texts);
            Ok((Dispatch::graph_stop_capture(card)?, logits))
        });
        let held = product::held(&device);
        let (graph, logits) = captured.map_err(said)?;
        Ok((before, graph, logits, held))
    }

    fn send_again(
        &self,
        mut recorded: Recorded,
        step: &Single,
        texts: &mut DeviceTexts,
    ) -> Tensor<2> {
        let started = Instant::now();
        let count = step.numbers.dims()[0];
        recorded.numbers.inplace(|numbers| {
            let new = step.numbers.clone();
            numbers.slice_assign(0..count, new)
        });
        let device = texts.device.clone();
        if let Err(error) = replay(device.as_dispatch(), &recorded.graph) {
            texts.recorder.give_up(error);
            return self.write_single(step, texts);
        }
        if !recorded.proved {
            let sent = recorded.logits.clone() + 0.0;
            let expected = self.write_single(step, texts);
            if let Some(reason) = differ(&sent, &expected, step.texts()) {
                texts.recorder.give_up(reason);
                return expected;
            }
            recorded.proved = true;
            texts.recorder.time += started.elapsed();
        }
        texts.recorder.replayed += 1;
        let logits = recorded.logits.clone();
        texts.recorder.keep(recorded);
        logits
    }
}

/// Drops what was recorded if the cache has been written to since and its tensors are elsewhere now.
fn forget_what_moved(texts: &mut DeviceTexts) {
    if texts.recorder.shape != texts.shape() {
        texts.recorder.forget();
    }
    if texts.recorder.recorded.is_empty() || !texts.is_touched() {
        return;
    }
    match texts.addresses() {
        Ok(addresses) if addresses == texts.recorder.addresses => {}
        Ok(_) => texts.recorder.forget(),
        Err(reason) => texts.recorder.give_up(reason),
    }
}

#[expect(
    unsafe_code,
    reason = "sends recorded launches to the memory they were recorded with"
)]
fn replay(
    device: &<Dispatch as BackendTypes>::Device,
    graph: &Graph,
) -> Result<(), ExecutionError> {
    // SAFETY: weights, tables, numbers and logits are held by `Recorded`, keys and values by the cache that
    // holds it, whose addresses are compared whenever something else has written to it; all work of a
    // cache is ordered by the one thread that borrows it.
    unsafe { Dispatch::graph_replay(device, graph) }
}

/// What is wrong with logits that should be the same in the first `rows`; None if nothing is.
fn differ(found: &Tensor<2>, expected: &Tensor<2>, rows: usize) -> Option<String> {
    let [found, expected] = [found, expected].map(|logits| logits.clone().narrow(0, 0, rows));
    let most = expected.clone().abs().max();
    let apart = (found - expected).abs().max() / most;
    match apart.try_into_scalar::<f32>() {
        Ok(apart) if apart <= APART => None,
        Ok(apart) => Some(format!("a recorded step was off by {apart:.1e}")),
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::filled;

    #[test]
    fn steps_are_filled_up_to_few_numbers_of_rows() {
        let found = [1, 2, 3, 9, 17, 25, 33, 64, 65, 96, 97].map(filled);
        assert_eq!(found, [1, 2, 4, 16, 24, 32, 48, 64, 96, 96, 128]);
    }
}
