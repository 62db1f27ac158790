//! How well a model under training keeps the form of an exchange: it solves a few problems that it
//! is not trained on, and what it writes is counted.

use std::ops::ControlFlow;

use anyhow::Result;
use infer::engine::Engine;
use infer::local::{LocalEngine, LocalSettings};
use infer::solve::{Solved, solve};
use infer::vocab::TokenizerVocab;
use model::Decoder;
use protocol::preset::Preset;
use protocol::{
    Group, Method, Origin, PathEnd, Problem, PromptSet, Settings, Setup, SpanKind, Stream, Vocab,
};

use super::inputs::Inputs;
use crate::fault::Fault;
use crate::train_recipe::TrainRecipe;
use crate::{interrupt, presets};

/// Asks the questions.
pub(super) struct Examiner {
    vocab: TokenizerVocab,
    problems: Vec<Problem>,
    settings: Settings,
    prompts: PromptSet,
    stream: Stream,
    seed: u64,
}

impl Examiner {
    /// That of the recipe, if it has one.
    ///
    /// # Errors
    /// Problems or prompts that cannot be read, and settings that cannot work.
    pub(super) fn new(recipe: &TrainRecipe, inputs: &Inputs) -> Result<Option<Self>> {
        let Some(wanted) = &recipe.obedience else {
            return Ok(None);
        };
        let mut problems = data_gen::problems::read(&wanted.problems)?;
        let trained = inputs.samples.iter().map(|sample| sample.problem.as_str());
        let trained: std::collections::BTreeSet<&str> = trained.collect();
        problems.retain(|problem| !trained.contains(problem.id.as_str()));
        problems.truncate(wanted.count);
        if problems.is_empty() {
            return Err(Fault::new(
                format!("`{}` holds no problem to ask", wanted.problems.display()),
                "`obedience.problems` needs problems that are not trained on, and `obedience.count` \
                 at least 1",
            )
            .into());
        }
        let settings = Settings {
            paths: wanted.paths,
            turn_tokens: wanted.turn_tokens,
            max_tokens: wanted.max_tokens,
            summary_tokens: wanted.summary_tokens,
            answer_tokens: wanted.answer_tokens,
            ..Preset::Default.settings(Method::LeapT)
        };
        settings.check()?;
        Ok(Some(Self {
            vocab: TokenizerVocab::load(&inputs.folder)?,
            problems,
            settings,
            prompts: presets::prompt_set(&wanted.prompts)?,
            stream: Stream::of_run(recipe.seed).named("obedience"),
            seed: recipe.seed,
        }))
    }

    /// Lets `decoder`, the model after `step` steps, solve the problems; `None` if a stop was asked
    /// for meanwhile.
    ///
    /// # Errors
    /// If the engine cannot serve the model.
    pub(super) fn ask(&self, step: usize, decoder: Decoder) -> Result<Option<train::Obedience>> {
        let all = self.settings.all_paths() * self.problems.len();
        let local = LocalSettings::for_one_group(all);
        let mut engine = LocalEngine::new(decoder, &self.vocab, local)?;
        let positions = engine.positions();
        let group = |(index, problem): (usize, &Problem)| {
            let setup = Setup {
                question: problem.question.clone(),
                settings: self.settings.clone(),
                prompts: self.prompts.clone(),
                stream: self.stream.named(&problem.id),
                positions,
                beginnings: Vec::new(),
                planted: 0,
            };
            Group::new(index as u32, setup, &self.vocab)
        };
        let groups: Result<Vec<Group>, _> = self.problems.iter().enumerate().map(group).collect();
        let mut groups = groups?;
        let solved = solve(
            &mut groups,
            &mut engine,
            &self.vocab,
            &mut |_| match interrupt::asked() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            },
        )?;
        if solved == Solved::Stopped {
            return Ok(None);
        }
        let mut found = train::Obedience {
            step,
            paths: 0,
            summaries: 0,
            closed: 0,
            answered: 0,
        };
        for (problem, group) in self.problems.iter().zip(groups) {
            let origin = Origin {
                seed: self.seed,
                recipe: String::new(),
                model: String::new(),
                tokenizer: self.vocab.hash().to_string(),
                device: String::new(),
            };
            for path in group.into_trace(problem.id.clone(), 0, origin).paths {
                let of_kind = |kind| path.spans.iter().filter(|span| span.kind == kind).count();
                let summaries = of_kind(SpanKind::Summary);
                found.paths += 1;
                found.summaries += summaries;
                found.closed += summaries.saturating_sub(path.cut_summaries as usize);
                found.answered += usize::from(path.end == PathEnd::Answered);
            }
        }
        Ok(Some(found))
    }
}
