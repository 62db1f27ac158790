//! `leap bench`: how fast the parts are, as one JSON object.

mod data_gen;
mod decode;
mod exchange;
mod gpu;
mod prefill;
mod remote;
mod route;
mod train;

use std::path::Path;

use anyhow::Result;
use infer::local::{LocalEngine, LocalSettings};
use infer::vocab::TokenizerVocab;
use model::device::DeviceSpec;
use model::memory;
use protocol::{PathKey, Request, Sampling, Stop, Stream};
use serde_json::{Value, json};

use super::ExitStatus;
use crate::cli::{BenchCommand, BenchModel};
use crate::devices;
use crate::fault::Fault;
use crate::output::Output;
use crate::road;

pub(super) fn run(command: &BenchCommand, output: &mut Output) -> Result<ExitStatus> {
    let found = match command {
        BenchCommand::Route(args) => route::run(args)?,
        BenchCommand::Remote(args) => remote::run(args)?,
        BenchCommand::Decode(args) => decode::run(args)?,
        BenchCommand::Prefill(args) => prefill::run(args)?,
        BenchCommand::Leap(args) => exchange::run(args)?,
        BenchCommand::Train(args) => train::run(args)?,
        BenchCommand::DataGen(args) => data_gen::run(args)?,
        BenchCommand::Gpu(args) => return gpu::run(args, output),
    };
    output.data(&serde_json::to_string_pretty(&found)?);
    Ok(ExitStatus::Done)
}

/// What every measurement of a model says of where it was taken.
fn machine(args: &BenchModel) -> Value {
    json!({
        "threads": memory::threads(),
        "device": args.device,
        "commit": env!("LEAP_VERSION"),
        "peak_bytes": memory::peak_bytes(),
    })
}

/// A folder's tokenizer, with as many threads as are asked for.
fn vocab(args: &BenchModel) -> Result<TokenizerVocab> {
    let folder = road::model_folder(&args.checkpoint)?;
    if args.repeat == 0 || args.threads == Some(0) {
        return Err(Fault::new(
            "there is nothing to measure",
            "`--repeat` and `--threads` must be at least 1",
        )
        .into());
    }
    if let Some(threads) = args.threads {
        memory::use_threads(threads)?;
    }
    Ok(TokenizerVocab::load(&folder)?)
}

fn engine<'v>(
    folder: &Path,
    vocab: &'v TokenizerVocab,
    model: &BenchModel,
    settings: &LocalSettings,
) -> Result<LocalEngine<'v>> {
    let spec: DeviceSpec = model.device.parse()?;
    let device = spec.open()?;
    let dtype = devices::dtype(model.dtype.map(Into::into), &device);
    let (engine, _) = road::open_local(folder, vocab, settings, dtype, &device)?;
    Ok(engine)
}

/// Fixed token ids, different in each row; what they say does not matter for speed.
fn ids(row: usize, count: usize, vocabulary: usize) -> Vec<u32> {
    let id =
        |at: usize| (7919 * (row + 1) + 104_729 * at) % (vocabulary.saturating_sub(200).max(1));
    (0..count)
        .map(|at| (id(at) + 100).min(vocabulary - 1) as u32)
        .collect()
}

/// A greedy request that only its budget ends.
fn request(key: PathKey, keep: usize, append: Vec<u32>, max_tokens: usize) -> Request {
    Request {
        key,
        keep,
        append,
        sampling: Sampling::GREEDY,
        stop: Stop::default(),
        max_tokens,
        logprobs: false,
        stream: Stream::of_run(1),
    }
}

/// The path of a row.
fn key(row: usize) -> PathKey {
    PathKey {
        group: row as u32,
        path: 0,
    }
}

/// Least, middle and most of some seconds.
fn spread(seconds: &mut [f64]) -> [f64; 3] {
    seconds.sort_by(f64::total_cmp);
    [
        seconds[0],
        seconds[seconds.len() / 2],
        seconds[seconds.len() - 1],
    ]
}
