//! `leap data-gen`: problems in, samples out, one file per step.

mod export;
mod folder;
mod inspect;
mod merge;
mod problems;
mod samples;
mod traces;

use std::path::Path;

use anyhow::Result;
use infer::vocab::TokenizerVocab;
use protocol::{ByteVocab, SpanKind, Vocab};
use train::TrainOn;

use super::ExitStatus;
use crate::cli::{DataGenCommand, Loss};
use crate::fault::Fault;
use crate::output::Output;
use crate::road;

pub(super) fn run(command: DataGenCommand, output: &mut Output) -> Result<ExitStatus> {
    match command {
        DataGenCommand::Problems(args) => problems::run(&args, output),
        DataGenCommand::Traces(args) => traces::run(args, output),
        DataGenCommand::Merge(args) => merge::run(&args, output),
        DataGenCommand::Samples(args) => samples::run(&args, output),
        DataGenCommand::Inspect(args) => inspect::run(&args, output),
        DataGenCommand::Export(args) => export::run(&args, output),
    }
}

/// The tokenizer that made ids, checked by its hash; ids that are bytes need no folder.
fn tokenizer(hash: &str, folder: Option<&Path>) -> Result<Box<dyn Vocab>> {
    let vocab: Box<dyn Vocab> = match folder {
        Some(folder) => Box::new(TokenizerVocab::load(&road::model_folder(folder)?)?),
        None if hash == ByteVocab.hash() => Box::new(ByteVocab),
        None => {
            return Err(Fault::new(
                format!("the samples need the tokenizer {hash}"),
                "give its folder: --tokenizer DIR, the checkpoint that wrote the traces or the \
                 tokenizer/ of their run",
            )
            .into());
        }
    };
    match vocab.hash() == hash {
        true => Ok(vocab),
        false => Err(Fault::new(
            format!(
                "the samples were made with tokenizer {hash}, and this is {}",
                vocab.hash()
            ),
            "give the folder of the model that wrote the traces",
        )
        .into()),
    }
}

/// The weight of a kind of token in the loss.
fn weight(loss: Loss) -> impl Fn(SpanKind) -> f64 {
    let train_on = match loss {
        Loss::Own => TrainOn::Own,
        Loss::OwnAndTrigger => TrainOn::OwnAndTrigger,
        Loss::All => TrainOn::All,
    };
    move |kind| train_on.weight(kind)
}
