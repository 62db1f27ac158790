//! Who answers: the engine that a recipe names, opened once for as many rows as it serves.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use infer::engine::Engine;
use infer::generation::{AtFailure, AtStop};
use infer::local::{LocalEngine, LocalSettings};
use infer::remote::RemoteEngine;
use infer::simulated::{SimulatedEngine, Simulation};
use infer::solve::{Solved, solve};
use infer::vocab::TokenizerVocab;
use model::device::{Device, Dtype};
use protocol::{ByteVocab, Group, Method, Problem, PromptSet, Settings, Setup, Stream, Vocab};

use super::recipe::EvalRecipe;
use crate::cli::ServerArgs;
use crate::recipe::Protocol;
use crate::{interrupt, road, servers};

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
    Remote(Box<RemoteEngine<'v>>),
}

impl<'v> RowEngine<'v> {
    pub(crate) fn local(
        folder: &Path,
        vocab: &'v RowVocab,
        settings: &LocalSettings,
        dtype: Dtype,
        device: &Device,
    ) -> Result<Self> {
        let RowVocab::Tokenizer(vocab) = vocab else {
            anyhow::bail!("a checkpoint needs its tokenizer");
        };
        let (engine, _) = road::open_local(folder, vocab, settings, dtype, device)?;
        Ok(Self::Local(Box::new(engine)))
    }

    pub(crate) fn simulated(simulation: Simulation, vocab: &'v RowVocab) -> Self {
        Self::Simulated(SimulatedEngine::new(simulation, vocab.get()))
    }

    pub(crate) fn get(&mut self) -> &mut dyn Engine {
        match self {
            Self::Local(engine) => engine.as_mut(),
            Self::Simulated(engine) => engine,
            Self::Remote(engine) => engine.as_mut(),
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

/// What becomes of requests under way when a run is stopped.
pub(crate) fn at_stop(engine: &RowEngine<'_>) -> AtStop {
    match engine {
        // A server samples on whether or not anybody waits for it.
        RowEngine::Remote(_) => AtStop::Drain,
        RowEngine::Local(_) | RowEngine::Simulated(_) => AtStop::Cancel,
    }
}

/// What becomes of a path that the engine could not serve.
pub(crate) fn at_failure(engine: &RowEngine<'_>, servers: &ServerArgs) -> AtFailure {
    match engine {
        RowEngine::Remote(_) if !servers.drop_failed => AtFailure::AskAgain,
        // The same request would fail again.
        _ => AtFailure::Leave,
    }
}

/// What an engine is tried with, to know how fast it is.
pub(crate) struct Trial<'a> {
    pub(crate) protocol: &'a Protocol,
    pub(crate) prompts: &'a PromptSet,
    pub(crate) seed: u64,
    /// Paths at a time.
    pub(crate) paths: usize,
}

impl Trial<'_> {
    /// Tokens a second of this engine, over a few paths on one problem that are thrown away.
    ///
    /// # Errors
    /// If the engine fails.
    pub(crate) fn rate(
        &self,
        engine: &mut dyn Engine,
        vocab: &dyn Vocab,
        problem: &Problem,
    ) -> Result<f64> {
        const TOKENS: usize = 24;
        const LONGEST: Duration = Duration::from_secs(10);
        let settings = Settings {
            paths: self.paths.max(1),
            max_tokens: TOKENS,
            answer_tokens: 1,
            ..self.protocol.settings(Method::Cot)
        };
        let setup = Setup {
            question: problem.question.clone(),
            settings,
            prompts: self.prompts.clone(),
            stream: Stream::of_run(self.seed).named("forecast"),
            positions: engine.positions(),
            beginnings: Vec::new(),
            planted: 0,
        };
        let mut groups = [Group::new(0, setup, vocab).context("the forecast")?];
        let started = Instant::now();
        let mut sampled = 0;
        let solved = solve(&mut groups, engine, vocab, &mut |progress| {
            sampled = progress.sampled;
            match interrupt::asked() || sampled > 0 && started.elapsed() > LONGEST {
                true => std::ops::ControlFlow::Break(()),
                false => std::ops::ControlFlow::Continue(()),
            }
        })
        .map_err(|error| servers::explained(error.into()))?;
        let seconds = started.elapsed().as_secs_f64().max(1e-9);
        Ok(match solved {
            Solved::Done | Solved::Stopped => sampled as f64 / seconds,
        })
    }
}
