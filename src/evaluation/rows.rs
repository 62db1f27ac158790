//! The rows of an evaluation, those of one checkpoint after each other on one engine.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context, Result};
use infer::engine::Engine;
use infer::generation::{Generation, GenerationProgress, Shard};
use infer::planted::PlantedEngine;
use infer::score;
use infer::simulated::SimulatedEngine;
use infer::units::Units;
use infer::vocab::TokenizerVocab;
use infer::waves::Ran;
use protocol::{Method, Origin, Problem, Settings, Stream, Trace};
use serde_json::json;

use super::engine::{RowEngine, RowVocab, Trial, at_failure, at_stop, liar};
use super::forecast::Forecast;
use super::recipe::{EvalEngine, EvalRow};
use super::{Evaluation, PROBLEMS, groups_file, matched, summary_file, trap};
use crate::road::{Flow, model_folder, read_records};
use crate::{interrupt, ledger, servers};

/// Groups to be run: what decides them, and under which name they are kept.
pub(super) struct Work<'a> {
    /// Folder name under reports/.
    pub(super) name: &'a str,
    /// Name in the table, and what it is in words.
    pub(super) title: (&'a str, &'a str),
    pub(super) settings: Settings,
    pub(super) problems: Vec<&'a Problem>,
    pub(super) groups: u32,
    /// What the paths of a group begin with, by group; empty outside of a trap.
    pub(super) beginnings: Vec<Vec<u32>>,
    /// The first so many paths of each group are written by the lying reasoner.
    pub(super) liars: u32,
    /// A row that was run with these very settings on this checkpoint: its groups are taken.
    pub(super) same_as: Option<&'a str>,
}

/// The engine of consecutive rows, opened when the first of them needs it.
pub(super) struct Place<'v> {
    vocab: &'v RowVocab,
    folder: Option<PathBuf>,
    /// What traces call the model.
    model: String,
    engine: Option<RowEngine<'v>>,
}

impl Evaluation<'_> {
    /// Runs every row.
    pub(super) fn rows(&mut self, worked: &mut bool) -> Result<Flow> {
        let recipe = self.recipe;
        let mut rest = recipe.eval.rows.as_slice();
        while let Some(first) = rest.first() {
            let checkpoint = recipe.checkpoint(first);
            let same = rest
                .iter()
                .take_while(|row| recipe.checkpoint(row) == checkpoint)
                .count();
            let (here, behind) = rest.split_at(same);
            if self.rows_of(here, worked)? == Flow::Stopped {
                return Ok(Flow::Stopped);
            }
            rest = behind;
        }
        Ok(Flow::Done)
    }

    /// Rows of one checkpoint.
    fn rows_of(&mut self, rows: &[EvalRow], worked: &mut bool) -> Result<Flow> {
        let recipe = self.recipe;
        let (vocab, folder, model) = match recipe.model.engine {
            EvalEngine::Local => {
                let folder = rows.first().and_then(|row| recipe.checkpoint(row));
                let folder = model_folder(folder.context("a row names no model")?)?;
                let model = model::checkpoint::hash(&folder)?;
                let vocab = TokenizerVocab::load(&folder)?;
                (RowVocab::Tokenizer(Box::new(vocab)), Some(folder), model)
            }
            EvalEngine::Remote => {
                let folder = rows.first().and_then(|row| recipe.checkpoint(row));
                let folder = model_folder(folder.context("a row names no model")?)?;
                let served = recipe.model.remote.as_ref();
                let served = served.context("the recipe has no [model.remote]")?;
                let vocab = TokenizerVocab::load(&folder)?;
                // Who knows the weights is the server: here they have a name and a tokenizer.
                let vocab = RowVocab::Tokenizer(Box::new(vocab));
                (vocab, None, served.model.clone())
            }
            EvalEngine::Simulated => {
                let simulation = recipe.model.simulated.as_ref();
                let simulation = simulation.context("the recipe has no [model.simulated]")?;
                (RowVocab::Bytes, None, SimulatedEngine::name(simulation))
            }
        };
        let mut place = Place {
            vocab: &vocab,
            folder,
            model,
            engine: None,
        };
        for row in rows {
            let flow = match row.method.method() {
                Some(method) => self.row(row, method, &mut place, worked)?,
                None => trap::run(self, row, &mut place, worked)?,
            };
            if flow == Flow::Stopped {
                return Ok(flow);
            }
        }
        Ok(Flow::Done)
    }

    fn row(
        &mut self,
        row: &EvalRow,
        method: Method,
        place: &mut Place<'_>,
        worked: &mut bool,
    ) -> Result<Flow> {
        let recipe = self.recipe;
        let problems = std::mem::take(&mut self.problems);
        let words = format!("method {}", method.name());
        let work = Work {
            name: &row.name,
            title: (&row.title, &words),
            settings: recipe.settings(row, method)?,
            problems: problems.iter().collect(),
            groups: recipe.eval.groups,
            beginnings: Vec::new(),
            liars: row.liars,
            same_as: None,
        };
        let flow = self.groups(&work, place, worked);
        let flow = match flow {
            Ok(Flow::Done) if recipe.is_matched(row) => {
                matched::run(self, row, &problems, place, worked)
            }
            flow => flow,
        };
        self.problems = problems;
        flow
    }

    /// Runs groups and scores them, unless that is done.
    pub(super) fn groups(
        &mut self,
        work: &Work<'_>,
        place: &mut Place<'_>,
        worked: &mut bool,
    ) -> Result<Flow> {
        let recipe = self.recipe;
        let (file, scores) = (groups_file(work.name), summary_file(work.name));
        let local = (recipe.model.engine == EvalEngine::Local)
            .then_some((&recipe.engine, recipe.model.dtype));
        let settings = (
            (recipe.seed, &work.settings, &recipe.prompts, local),
            (work.groups, &work.beginnings, recipe.model.simulated),
            work.liars,
        );
        let remote = recipe.model.remote.as_ref();
        let served = remote.map_or(String::new(), |served| {
            format!("{} {}", served.positions, place.vocab.get().hash())
        });
        let mut reads = vec![PROBLEMS, place.model.as_str()];
        if recipe.model.engine == EvalEngine::Remote {
            reads.push(&served);
        }
        let name = format!("evaluate {}", work.name);
        match self.folder.begin(&name, &settings, &reads, &[&file])? {
            None => self.output.step("Fresh", work.name),
            Some(step) => {
                *worked = true;
                match work.same_as {
                    Some(other) => self.copy(other, work.name)?,
                    None if self.solve(work, place, &step.key)? == Ran::Stopped => {
                        return Ok(Flow::Stopped);
                    }
                    None => {}
                }
                self.folder.end(step)?;
            }
        }
        let name = format!("score {}", work.name);
        let reads = [PROBLEMS, file.as_str()];
        let shown = (work.title, &work.settings);
        if let Some(step) = self.folder.begin(&name, &shown, &reads, &[&scores])? {
            *worked = true;
            let traces: Vec<Trace> = read_records(&self.folder.path.join(&file))?;
            let about = score::Row {
                name: work.title.0.to_owned(),
                title: work.title.1.to_owned(),
                settings: Some(work.settings.clone()),
            };
            let problems: Vec<Problem> = work.problems.iter().map(|p| (*p).clone()).collect();
            let summary = score::score(&about, &problems, traces.into_iter())
                .with_context(|| format!("cannot score `{file}`"))?;
            let text = serde_json::to_string_pretty(&summary)? + "\n";
            ledger::write_whole(&self.folder.path.join(&scores), text.as_bytes())?;
            self.folder.end(step)?;
        }
        if !self.done.iter().any(|name| name == work.name) {
            self.done.push(work.name.to_owned());
        }
        Ok(match interrupt::asked() {
            true => Flow::Stopped,
            false => Flow::Done,
        })
    }

    /// Takes the groups of another row.
    fn copy(&mut self, from: &str, to: &str) -> Result<()> {
        let [from, to] = [from, to].map(|name| self.folder.path.join(groups_file(name)));
        let bytes = fs::read(&from).with_context(|| format!("cannot read `{}`", from.display()))?;
        ledger::write_whole(&to, &bytes)
    }

    fn solve(&mut self, work: &Work<'_>, place: &mut Place<'_>, key: &str) -> Result<Ran> {
        let recipe = self.recipe;
        let file = self.folder.path.join(groups_file(work.name));
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).context("cannot make the row's folder")?;
        }
        self.open(place, work)?;
        let engine = place.engine.as_mut().context("the engine was opened")?;
        let device = match &engine {
            RowEngine::Local(_) => format!("{} {}", self.device_name, recipe.model.dtype),
            RowEngine::Simulated(_) => "simulated".to_owned(),
            RowEngine::Remote(engine) => engine.device(),
        };
        let at_stop = at_stop(engine);
        let at_failure = at_failure(engine, self.servers);
        let mut liar = liar(work.liars, recipe, place.vocab)?;
        let mut among_liars = None;
        let engine: &mut dyn Engine = match &mut liar {
            Some(liar) => among_liars.insert(PlantedEngine::new(work.liars, liar, engine.get())),
            None => engine.get(),
        };
        let settings = |_| work.settings.clone();
        let beginnings = |index: usize| -> Vec<Vec<u32>> {
            work.beginnings.get(index).cloned().into_iter().collect()
        };
        let generation = Generation {
            units: Units {
                problems: &work.problems,
                groups: work.groups,
                prompts: &recipe.prompts,
                settings: &settings,
                beginnings: &beginnings,
                planted: work.liars,
                // All rows draw the same noise, so that their differences are less noisy.
                stream: Stream::of_run(recipe.seed).named("evaluate"),
                origin: Origin {
                    seed: recipe.seed,
                    recipe: key.to_owned(),
                    model: place.model.clone(),
                    tokenizer: place.vocab.get().hash().to_owned(),
                    device,
                },
            },
            shard: Shard::WHOLE,
            open: recipe.engine.wave,
            at_stop,
            at_failure,
            file: &file,
            key,
        };
        let mut progress = self.output.progress("Running", work.title.0);
        let mut last = GenerationProgress::default();
        let started = std::time::Instant::now();
        let ran = generation
            .run(engine, place.vocab.get(), &mut |now, _| {
                last = now;
                let seconds = started.elapsed().as_secs_f64().max(1e-9);
                let more = format!("{:.0} tokens/s", now.sampled as f64 / seconds);
                progress.show(now.groups as u64, now.of as u64, "groups", &more);
                match interrupt::asked() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })
            .map_err(servers::explained)
            .with_context(|| format!("row `{}`", work.name))?;
        let seconds = started.elapsed().as_secs_f64();
        progress.finish(&format!(
            "{} groups, {} tokens sampled, {:.0} tokens/s",
            last.groups,
            last.sampled,
            last.sampled as f64 / seconds.max(1e-9)
        ));
        let what = json!({
            "row": work.name, "groups": last.groups, "sampled": last.sampled, "seconds": seconds,
        });
        self.folder.event("groups", &what);
        Ok(ran)
    }

    /// Opens the engine of consecutive rows, and says what is ahead the first time.
    fn open(&mut self, place: &mut Place<'_>, work: &Work<'_>) -> Result<()> {
        let recipe = self.recipe;
        if place.engine.is_none() {
            let (local, dtype) = (&recipe.engine, recipe.model.dtype);
            let model = &recipe.model;
            place.engine = Some(match (model.engine, &place.folder) {
                (EvalEngine::Local, Some(folder)) => {
                    RowEngine::local(folder, place.vocab, local, dtype, &self.device)?
                }
                (EvalEngine::Local, None) => anyhow::bail!("a row names no model"),
                (EvalEngine::Simulated, _) => {
                    let simulation = model.simulated.as_ref();
                    let simulation = simulation.context("the recipe has no [model.simulated]")?;
                    RowEngine::simulated(*simulation, place.vocab)
                }
                (EvalEngine::Remote, _) => {
                    let served = model.remote.as_ref();
                    let served = served.context("the recipe has no [model.remote]")?;
                    let (name, positions) = (served.model.as_str(), served.positions);
                    let vocab = place.vocab.get();
                    let (asked, output) = (self.servers, &mut *self.output);
                    let engine = servers::open(asked, Some(name), Some(positions), vocab, output)?;
                    RowEngine::Remote(Box::new(engine))
                }
            });
        }
        if let Some(RowEngine::Remote(engine)) = &place.engine {
            let sampling = &work.settings.sampling;
            engine
                .check(sampling)
                .map_err(|error| servers::advised(&error))?;
        }
        if self.forecast_told {
            return Ok(());
        }
        self.forecast_told = true;
        let problems = work.problems.len();
        let forecast = Forecast::of(recipe, problems)?;
        let engine = place.engine.as_mut().context("the engine was opened")?;
        let measured = match (recipe.model.engine, work.problems.first()) {
            (EvalEngine::Local | EvalEngine::Remote, Some(first)) => {
                let trial = Trial {
                    protocol: &recipe.protocol,
                    prompts: &recipe.prompts,
                    seed: recipe.seed,
                    paths: recipe
                        .engine
                        .max_rows
                        .min(recipe.protocol.paths.max(1) * recipe.engine.wave),
                };
                Some(trial.rate(engine.get(), place.vocab.get(), first)?)
            }
            _ => None,
        };
        self.output.step("Forecast", &forecast.words(measured));
        Ok(())
    }
}
