//! The launches of a step, recorded once and sent again as one.
//!
//! A step of one token per row is a few hundred small kernels, and a card waits for the host between
//! them. Where the rows stay the same, only the numbers that the host says change, and these lie in
//! one tensor: it is written anew in its place, and what was recorded runs over it.
//!
//! What is sent again is not trusted: the step that was recorded and the one behind it are computed
//! both ways, and if their logits differ, nothing is recorded any more.

use burn::backend::{Backend, BackendTypes, Dispatch};
use burn::tensor::{Int, Tensor};

use super::single::Single;
use crate::decoder::Decoder;
use crate::kv_cache::{DeviceTexts, Slot};
use crate::ops::product::{self, Held};
use crate::rope::Turns;
use crate::step::Row;

/// Steps of the same rows before they are recorded: what is used a few times only is not worth it.
const BEFORE: usize = 4;

/// Runs before the recording: kernels are chosen and memory is taken outside of it.
const WARM_UP: usize = 3;

/// How far logits may be apart that are computed both ways, as a share of the largest.
const APART: f32 = 1e-3;

type Graph = <Dispatch as BackendTypes>::GraphPrimitive;

/// What has been recorded of a cache's steps.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    last: Option<Key>,
    /// Steps in a row that had this key.
    seen: usize,
    recorded: Option<Recorded>,
    /// Why nothing is recorded any more.
    off: Option<String>,
    replayed: u64,
}

/// What may not change between a recording and its use.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    slots: Vec<Slot>,
    places: usize,
    memory: [usize; 4],
}

struct Recorded {
    graph: Graph,
    /// Written anew before each use.
    numbers: Tensor<1, Int>,
    /// Where it leaves the logits.
    logits: Tensor<2>,
    /// Whether a step with other numbers than the recorded ones came out right.
    proved: bool,
    /// Keep weights, tables and what products use where they are.
    held: Held,
    _decoder: Decoder,
    _turns: Turns,
}

impl std::fmt::Debug for Recorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let proved = self.proved;
        f.debug_struct("Recorded").field("proved", &proved).finish()
    }
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

    fn give_up(&mut self, reason: impl std::fmt::Display) {
        self.off = Some(reason.to_string());
        self.recorded = None;
    }
}

impl Decoder {
    /// A step of one token per row, from a recording if there is one for these rows.
    pub(crate) fn single_recorded(&self, rows: &[Row<'_>], texts: &mut DeviceTexts) -> Tensor<2> {
        let longest = rows.iter().map(|row| texts.len(row.slot) + 1).max();
        texts.reserve(longest.unwrap_or(0));
        let step = self.single(rows, texts);
        let key = Key {
            slots: step.slots.clone(),
            places: step.places,
            memory: texts.shape(),
        };
        let recorder = &mut texts.recorder;
        if recorder.last.as_ref() == Some(&key) {
            recorder.seen += 1;
        } else {
            recorder.last = Some(key);
            recorder.seen = 1;
            recorder.recorded = None;
        }
        let logits = match (recorder.off.is_some(), recorder.recorded.take()) {
            (false, Some(recorded)) => self.send_again(recorded, &step, texts),
            (false, None) if recorder.seen > BEFORE => self.record(&step, texts),
            _ => self.write_single(&step, texts),
        };
        step.end(texts);
        logits
    }

    fn record(&self, step: &Single, texts: &mut DeviceTexts) -> Tensor<2> {
        let device = texts.device.clone();
        let device = device.as_dispatch();
        let expected = self.write_single(step, texts);
        // The tokens are written again and again, into the same places.
        let mut recorded = (|| {
            Dispatch::graph_prepare(device)?;
            for _ in 0..WARM_UP {
                let logits = self.write_single(step, texts);
                // Held until it is computed: what nobody holds need not be.
                Dispatch::sync(device)?;
                drop(logits);
            }
            product::hold(&texts.device);
            Dispatch::graph_start_capture(device)?;
            let logits = self.write_single(step, texts);
            let graph = Dispatch::graph_stop_capture(device)?;
            replay(device, &graph)?;
            Ok::<_, burn::tensor::ExecutionError>(Recorded {
                graph,
                numbers: step.numbers.clone(),
                logits,
                proved: false,
                held: Held::default(),
                _decoder: self.clone(),
                _turns: self.rope().turns(texts.all_places(), &texts.device),
            })
        })();
        let held = product::held(&texts.device);
        if let Ok(recorded) = &mut recorded {
            recorded.held = held;
        }
        match recorded {
            Ok(recorded) => match differ(&recorded.logits, &expected) {
                None => texts.recorder.recorded = Some(recorded),
                Some(reason) => texts.recorder.give_up(reason),
            },
            Err(error) => texts.recorder.give_up(error),
        }
        expected
    }

    fn send_again(
        &self,
        mut recorded: Recorded,
        step: &Single,
        texts: &mut DeviceTexts,
    ) -> Tensor<2> {
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
            if let Some(reason) = differ(&sent, &expected) {
                texts.recorder.give_up(reason);
                return expected;
            }
            recorded.proved = true;
        }
        texts.recorder.replayed += 1;
        let logits = recorded.logits.clone();
        texts.recorder.recorded = Some(recorded);
        logits
    }
}

#[expect(
    unsafe_code,
    reason = "sends recorded launches to the memory they were recorded with"
)]
fn replay(
    device: &<Dispatch as BackendTypes>::Device,
    graph: &Graph,
) -> Result<(), burn::tensor::ExecutionError> {
    // SAFETY: weights, tables, numbers and logits are held by `Recorded`, keys and values by the cache
    // that holds it (whose memory is part of the key); all work of a cache is ordered by the one thread
    // that borrows it.
    unsafe { Dispatch::graph_replay(device, graph) }
}

/// What is wrong with logits that should be the same; None if nothing is.
fn differ(found: &Tensor<2>, expected: &Tensor<2>) -> Option<String> {
    let most = expected.clone().abs().max();
    let apart = (found.clone() - expected.clone()).abs().max() / most;
    match apart.try_into_scalar::<f32>() {
        Ok(apart) if apart <= APART => None,
        Ok(apart) => Some(format!("a recorded step was off by {apart:.1e}")),
        Err(error) => Some(error.to_string()),
    }
}
