//! What a training reads, looked at before anything is written.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use model::config::ModelConfig;
use model::tokenizer::Tokenizer;
use protocol::{Sample, Stream};
use sha2::{Digest, Sha256};
use train::Requirements;

use crate::fault::Fault;
use crate::recipes::Gap;
use crate::train_recipe::TrainRecipe;
use crate::{ledger, recipes, road, sample_file};

/// The model's folder and the samples.
pub(super) struct Inputs {
    pub(super) folder: PathBuf,
    pub(super) config: ModelConfig,
    pub(super) tokenizer: Tokenizer,
    pub(super) samples: Vec<Sample>,
    pub(super) held_out: Vec<Sample>,
    /// Of all files of samples.
    pub(super) samples_hash: String,
}

impl Inputs {
    /// Reads all that the recipe names.
    ///
    /// # Errors
    /// What is not named, not there or cannot be read.
    pub(super) fn read(recipe: &TrainRecipe) -> Result<Self> {
        Gap::refuse(recipe.gaps())?;
        let folder = recipe.model.checkpoint.as_ref();
        let folder = folder.context("the recipe names no model")?;
        let file = recipe.samples.file.as_ref();
        let file = file.context("the recipe names no samples")?;
        let folder = road::weights_folder(folder)?;
        let config = ModelConfig::read(&folder)?;
        let tokenizer = Tokenizer::load(&folder)?;
        tokenizer.check_fits(&config)?;
        let mut hashes = vec![ledger::checked_hash(file)?];
        let (samples, mut held_out) = parted(file, recipe)?;
        if let Some(file) = &recipe.samples.held_out {
            hashes.push(ledger::checked_hash(file)?);
            held_out = sample_file::read(file)?;
        }
        let needs = Requirements {
            tokenizer_hash: tokenizer.hash(),
            bos: tokenizer.bos().filter(|_| tokenizer.adds_bos()),
            vocabulary: config.vocab_size,
            positions: config.max_position_embeddings,
            max_tokens: recipe.train.max_tokens,
        };
        train::check(&samples, &recipe.train.train_on, &needs)?;
        let samples_hash = match hashes.as_slice() {
            [one] => one.clone(),
            several => recipes::hex(&Sha256::digest(several.concat())),
        };
        Ok(Self {
            folder,
            config,
            tokenizer,
            samples,
            held_out,
            samples_hash,
        })
    }

    /// The token that every text begins with, if the tokenizer has one.
    pub(super) fn bos(&self) -> Option<u32> {
        self.tokenizer.bos().filter(|_| self.tokenizer.adds_bos())
    }
}

/// The samples of a file that are trained on, and those of it that are held out.
pub(super) fn parted(file: &Path, recipe: &TrainRecipe) -> Result<(Vec<Sample>, Vec<Sample>)> {
    let samples = sample_file::read(file)?;
    match recipe.samples.hold_out_problems {
        0 => Ok((samples, Vec::new())),
        _ => hold_out(samples, recipe),
    }
}

/// Takes all samples of some problems out.
fn hold_out(samples: Vec<Sample>, recipe: &TrainRecipe) -> Result<(Vec<Sample>, Vec<Sample>)> {
    let mut problems: Vec<String> = samples.iter().map(|s| s.problem.clone()).collect();
    problems.sort_unstable();
    problems.dedup();
    let (all, wanted) = (problems.len(), recipe.samples.hold_out_problems);
    if wanted >= all {
        return Err(Fault::new(
            format!("{wanted} problems cannot be held out: the samples are on {all}"),
            "`samples.hold_out_problems` must leave something to train on",
        )
        .into());
    }
    Stream::of_run(recipe.seed)
        .named("held-out problems")
        .shuffle(&mut problems);
    problems.truncate(wanted);
    let held = |sample: &Sample| problems.contains(&sample.problem);
    Ok(samples.into_iter().partition(|sample| !held(sample)))
}

/// Samples of this size with nothing in them: what a plan counts.
pub(super) fn expected(count: usize, tokens: usize) -> Vec<Sample> {
    let sample = |number: usize| Sample {
        version: Sample::VERSION,
        id: number.to_string(),
        problem: number.to_string(),
        tokenizer: String::new(),
        spans: vec![protocol::SampleSpan {
            kind: protocol::SpanKind::Thought,
            ids: vec![0; tokens],
        }],
    };
    (0..count).map(sample).collect()
}
