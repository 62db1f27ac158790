//! Who answers: the engine that a recipe names, opened once for as many rows as it serves.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use infer::engine::Engine;
use infer::local::LocalEngine;
use infer::simulated::{SimulatedEngine, Simulation};
use infer::solve::{Solved, solve};
use infer::vocab::TokenizerVocab;
use model::device::Device;
use protocol::{ByteVocab, Group, Method, Problem, Settings, Setup, Stream, Vocab};

use super::recipe::EvalRecipe;
use crate::{interrupt, road};

/// The vocabulary of a row: a checkpoint's tokenizer, or bytes for the simulated reasoner.
pub(crate) enum RowVocab {
    Tokenizer(Box<TokenizerVocab>),
    Bytes,
}

impl RowVocab {
    pub(crate) fn get(&self) -> &dyn Vocab {
        match self {
            Self::Tokenizer(vocab) => vocab.as_ref(),
            Self::Bytes => &ByteVocab,
        }
    }
}

/// An engine on a vocabulary.
pub(crate) enum RowEngine<'v> {
    Local(Box<LocalEngine<'v>>),
    Simulated(SimulatedEngine<'v>),
}

impl<'v> RowEngine<'v> {
    pub(crate) fn local(
        folder: &Path,
        vocab: &'v RowVocab,
        recipe: &EvalRecipe,
        device: &Device,
    ) -> Result<Self> {
        let RowVocab::Tokenizer(vocab) = vocab else {
            anyhow::bail!("a checkpoint needs its tokenizer");
        };
        let dtype = recipe.model.dtype;
        let (engine, _) = road::open_local(folder, vocab, &recipe.engine, dtype, device)?;
        Ok(Self::Local(Box::new(engine)))
    }

    pub(crate) fn simulated(simulation: Simulation, vocab: &'v RowVocab) -> Self {
        Self::Simulated(SimulatedEngine::new(simulation, vocab.get()))
    }

    pub(crate) fn get(&mut self) -> &mut dyn Engine {
        match self {
            Self::Local(engine) => engine.as_mut(),
            Self::Simulated(engine) => engine,
        }
    }
}

/// The reasoner that writes `count` lying paths, if there are any.
///
/// # Errors
/// If there are, and the recipe does not say how it works.
pub(crate) fn liar<'v>(
    count: u32,
    recipe: &EvalRecipe,
    vocab: &'v RowVocab,
) -> Result<Option<SimulatedEngine<'v>>> {
    if count == 0 {
        return Ok(None);
    }
    let simulation = recipe.model.simulated;
    let simulation = simulation.context("the recipe has no [model.simulated]")?;
    let lying = Simulation {
        lies: true,
        ..simulation
    };
    Ok(Some(SimulatedEngine::new(lying, vocab.get())))
}

/// Tokens a second of this engine, over a few paths on one problem that are thrown away.
///
/// # Errors
/// If the engine fails.
pub(crate) fn rate(
    engine: &mut dyn Engine,
    vocab: &dyn Vocab,
    recipe: &EvalRecipe,
    problem: &Problem,
) -> Result<f64> {
    const TOKENS: usize = 24;
    let paths = recipe
        .engine
        .max_rows
        .min(recipe.protocol.paths.max(1) * recipe.engine.wave);
    let settings = Settings {
        paths,
        max_tokens: TOKENS,
        answer_tokens: 1,
        ..recipe.protocol.settings(Method::Cot)
    };
    let setup = Setup {
        question: problem.question.clone(),
        settings,
        prompts: recipe.prompts.clone(),
        stream: Stream::of_run(recipe.seed).named("forecast"),
        positions: engine.positions(),
        beginnings: Vec::new(),
        planted: 0,
    };
    let mut groups = [Group::new(0, setup, vocab).context("the forecast")?];
    let started = Instant::now();
    let mut sampled = 0;
    let solved = solve(&mut groups, engine, vocab, &mut |progress| {
        sampled = progress.sampled;
        match interrupt::asked() {
            true => std::ops::ControlFlow::Break(()),
            false => std::ops::ControlFlow::Continue(()),
        }
    })?;
    let seconds = started.elapsed().as_secs_f64().max(1e-9);
    Ok(match solved {
        Solved::Done | Solved::Stopped => sampled as f64 / seconds,
    })
}
