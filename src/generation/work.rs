//! One generation in its folder: the problems, the teacher, and groups until all have ended.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use infer::generation::{AtFailure, AtStop, Generation, GenerationProgress};
use infer::simulated::SimulatedEngine;
use infer::units::Units;
use infer::vocab::TokenizerVocab;
use infer::waves::Ran;
use model::device::Device;
use protocol::{Origin, Problem, Stream};
use serde_json::json;

use super::accepted::Accepted;
use super::forecast::Forecast;
use super::recipe::{TracesRecipe, WriterEngine};
use super::{Call, PROBLEMS, PROBLEMS_STEP, TRACES, TRACES_STEP};
use crate::evaluation::engine::{RowEngine, RowVocab, Trial, at_failure, at_stop};
use crate::evaluation::folder::Folder;
use crate::evaluation::questions;
use crate::output::{Output, count};
use crate::road::{model_folder, read_records, write_records};
use crate::{interrupt, servers};

/// Who writes, as far as it is known before an engine is opened.
pub(super) struct Teacher {
    vocab: RowVocab,
    folder: Option<PathBuf>,
    /// What traces call the model.
    model: String,
}

impl Teacher {
    /// How the recipe's teacher writes.
    ///
    /// # Errors
    /// If its tokenizer cannot be read.
    pub(super) fn vocab(recipe: &TracesRecipe) -> Result<RowVocab> {
        Ok(match &recipe.teacher.folder {
            Some(folder) => {
                RowVocab::Tokenizer(Box::new(TokenizerVocab::load(&model_folder(folder)?)?))
            }
            None => RowVocab::Bytes,
        })
    }
}

/// One generation in its folder.
pub(super) struct Work<'a> {
    pub(super) recipe: &'a TracesRecipe,
    pub(super) call: &'a Call<'a>,
    pub(super) folder: Folder,
    pub(super) output: &'a mut Output,
    pub(super) problems: Vec<Problem>,
}

impl Work<'_> {
    /// Whether anything had to be done; `None` if it was asked to stop.
    pub(super) fn walk(&mut self, given: &str, device: &Device) -> Result<Option<bool>> {
        let recipe = self.recipe;
        let mut worked = false;
        // A file is known by its content, wherever it lies.
        let mut asked = recipe.problems.clone();
        asked.file = None;
        let settings = (recipe.seed, asked);
        let step = self
            .folder
            .begin(PROBLEMS_STEP, &settings, &[given], &[PROBLEMS])?;
        if let Some(step) = step {
            worked = true;
            let found = questions::load(&recipe.problems, recipe.seed, self.output)?;
            let Some(problems) = found else {
                return Ok(None);
            };
            write_records(&self.folder.path.join(PROBLEMS), &problems)?;
            self.folder.end(step)?;
        }
        self.problems = read_records(&self.folder.path.join(PROBLEMS))?;
        self.output
            .step("Problems", &self.problems.len().to_string());
        let teacher = self.teacher()?;
        let local = (recipe.teacher.engine == WriterEngine::Local)
            .then_some((&recipe.engine, recipe.teacher.dtype));
        let positions = recipe
            .teacher
            .remote
            .as_ref()
            .map(|served| served.positions);
        let settings = (
            (recipe.seed, recipe.settings(), &recipe.prompts),
            (recipe.traces.groups, local, positions),
        );
        let reads = [PROBLEMS, &teacher.model, teacher.vocab.get().hash()];
        let step = self
            .folder
            .begin(TRACES_STEP, &settings, &reads, &[TRACES])?;
        if let Some(step) = step {
            worked = true;
            if self.write(&teacher, &step.key, device)? == Ran::Stopped {
                return Ok(None);
            }
            self.folder.end(step)?;
        }
        Ok(Some(worked))
    }

    fn teacher(&self) -> Result<Teacher> {
        let writer = &self.recipe.teacher;
        let folder = writer
            .folder
            .as_ref()
            .map(|path| model_folder(path))
            .transpose()?;
        let vocab = Teacher::vocab(self.recipe)?;
        let model = match (writer.engine, &folder, &writer.remote, &writer.simulated) {
            (WriterEngine::Local, Some(folder), ..) => model::checkpoint::hash(folder)?,
            (WriterEngine::Remote, _, Some(served), _) => served.model.clone(),
            (WriterEngine::Simulated, _, _, Some(simulation)) => SimulatedEngine::name(simulation),
            _ => anyhow::bail!("the recipe names no teacher"),
        };
        Ok(Teacher {
            vocab,
            folder,
            model,
        })
    }

    fn engine<'v>(&mut self, teacher: &'v Teacher, device: &Device) -> Result<RowEngine<'v>> {
        let recipe = self.recipe;
        let writer = &recipe.teacher;
        let vocab = &teacher.vocab;
        match (
            &writer.engine,
            &teacher.folder,
            &writer.remote,
            &writer.simulated,
        ) {
            (WriterEngine::Local, Some(folder), ..) => {
                RowEngine::local(folder, vocab, &recipe.engine, writer.dtype, device)
            }
            (WriterEngine::Remote, _, Some(served), _) => {
                let (name, positions) = (served.model.as_str(), served.positions);
                let (asked, vocab) = (self.call.servers, vocab.get());
                let engine = servers::open(asked, Some(name), Some(positions), vocab, self.output)?;
                let sampling = &recipe.protocol.sampling;
                engine
                    .check(sampling)
                    .map_err(|error| servers::advised(&error))?;
                Ok(RowEngine::Remote(Box::new(engine)))
            }
            (WriterEngine::Simulated, _, _, Some(simulation)) => {
                Ok(RowEngine::simulated(*simulation, vocab))
            }
            _ => anyhow::bail!("the recipe names no teacher"),
        }
    }

    /// Groups that are solved at a time: as many as keep the teacher busy.
    fn open(&self) -> usize {
        let recipe = self.recipe;
        let paths = recipe.settings().all_paths().max(1);
        match recipe.teacher.engine {
            WriterEngine::Local | WriterEngine::Simulated => recipe.engine.wave,
            // Paths that wait for others of their group leave places free: half as many again.
            WriterEngine::Remote => {
                let servers = &self.call.servers;
                (servers.in_flight * servers.servers.len() * 3 / 2).div_ceil(paths)
            }
        }
    }

    fn write(&mut self, teacher: &Teacher, key: &str, device: &Device) -> Result<Ran> {
        let recipe = self.recipe;
        let problems = std::mem::take(&mut self.problems);
        let file = self.folder.path.join(TRACES);
        let listed: Vec<&Problem> = problems.iter().collect();
        let settings = recipe.settings();
        let settings = |_| settings.clone();
        let open = self.open();
        let mut generation = Generation {
            units: Units {
                problems: &listed,
                groups: recipe.traces.groups,
                prompts: &recipe.prompts,
                settings: &settings,
                beginnings: &|_| Vec::new(),
                planted: 0,
                stream: Stream::of_run(recipe.seed).named("traces"),
                origin: Origin {
                    seed: recipe.seed,
                    recipe: key.to_owned(),
                    model: teacher.model.clone(),
                    tokenizer: teacher.vocab.get().hash().to_owned(),
                    device: String::new(),
                },
            },
            shard: self.call.shard,
            open,
            at_stop: AtStop::Cancel,
            at_failure: AtFailure::Leave,
            file: &file,
            key,
        };
        if generation.is_done()? {
            // It was cut off between the last group and the ledger.
            return Ok(Ran::Done);
        }
        self.tell_journals(&file, key)?;
        let unfit = |error| servers::unfit(&error);
        if let Some(positions) = recipe.positions()? {
            generation
                .check(positions, teacher.vocab.get())
                .map_err(unfit)?;
        }
        let mut engine = self.engine(teacher, device)?;
        generation.at_stop = at_stop(&engine);
        generation.at_failure = at_failure(&engine, self.call.servers);
        generation.units.origin.device = match &engine {
            RowEngine::Local(_) => format!("{} {}", self.call.device, recipe.teacher.dtype),
            RowEngine::Remote(engine) => engine.device(),
            RowEngine::Simulated(_) => "simulated".to_owned(),
        };
        let begun = infer::journal::path(&file, key).exists();
        self.forecast(&mut engine, teacher, &problems, begun)?;
        let tally = match &engine {
            RowEngine::Remote(engine) => Some(engine.tally()),
            _ => None,
        };
        let mut progress = self.output.progress("Writing", "traces");
        let mut last = GenerationProgress::default();
        let mut counts = Accepted::of(&problems);
        let started = Instant::now();
        let rate = |sampled: u64| sampled as f64 / started.elapsed().as_secs_f64().max(1e-9);
        let failures = || tally.as_ref().map_or(String::new(), |tally| tally.words());
        let vocab = teacher.vocab.get();
        let ran = generation.run(engine.get(), vocab, &mut |now, ended| {
            last = now;
            if let Some(trace) = ended {
                counts.add(trace, recipe.traces.max_tokens);
            }
            let mut more = format!("{}, {:.0} tokens/s", counts.words(), rate(now.sampled));
            let failures = failures();
            if !failures.is_empty() {
                more += &format!(", {failures}");
            }
            let stopping = interrupt::asked();
            if stopping {
                more += ", stopping: waits for what is under way";
            }
            progress.show(now.groups as u64, now.of as u64, "groups", &more);
            match stopping {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        let servers = match &engine {
            RowEngine::Remote(engine) => engine.servers(),
            _ => Vec::new(),
        };
        let mut summary = format!(
            "{} of {} groups, {}, {} tokens sampled, {:.0} tokens/s",
            last.groups,
            last.of,
            counts.words(),
            last.sampled,
            rate(last.sampled)
        );
        let failed = failures();
        if !failed.is_empty() {
            summary += &format!(", {failed}");
        }
        progress.finish(&summary);
        self.folder.event(
            "groups",
            &json!({
                "groups": last.groups, "sampled": last.sampled,
                "seconds": started.elapsed().as_secs_f64(),
                "accepted": counts.accepted, "paths": counts.paths, "failed": counts.failed,
                "failures": failed,
                "servers": servers,
            }),
        );
        if counts.failed > 0 && matches!(ran, Ok(Ran::Done)) {
            self.output.note(&format!(
                "{} failed and left their groups; `end` of a path says why",
                count(counts.failed, "path")
            ));
        }
        ran.map_err(servers::explained)
    }

    /// Names what was said to other problems or by other settings: it is not gone on with.
    fn tell_journals(&mut self, file: &Path, key: &str) -> Result<()> {
        let ours = infer::journal::path(file, key);
        let mut others = Vec::new();
        let entries = fs::read_dir(&self.folder.path);
        for entry in
            entries.with_context(|| format!("cannot read `{}`", self.folder.path.display()))?
        {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let journal = name.starts_with(&format!(".{TRACES}.")) && name.ends_with(".journal");
            if journal && path != ours {
                others.push(path);
            }
        }
        others.sort();
        for path in others {
            self.output.note(&format!(
                "`{}` holds what was said to other problems or by other settings: it is not gone on with",
                path.display()
            ));
            self.output.hint(
                "the same command on the problems of then goes on with it; delete it if it is not needed",
            );
        }
        Ok(())
    }

    /// Says what is ahead, with hours where the teacher's speed is worth measuring: not where groups
    /// have begun, which go on at once.
    fn forecast(
        &mut self,
        engine: &mut RowEngine<'_>,
        teacher: &Teacher,
        problems: &[Problem],
        begun: bool,
    ) -> Result<()> {
        let recipe = self.recipe;
        let forecast = Forecast::of(recipe, problems.len(), self.call.shard);
        let rows = match engine {
            RowEngine::Local(_) => recipe.engine.max_rows,
            RowEngine::Remote(_) => self.call.servers.in_flight * self.call.servers.servers.len(),
            RowEngine::Simulated(_) => 0,
        };
        let trial = Trial {
            protocol: &recipe.protocol,
            prompts: &recipe.prompts,
            seed: recipe.seed,
            paths: rows.min(recipe.settings().all_paths() * self.open()),
        };
        let rate = match (rows, problems.first()) {
            (0, _) | (_, None) => None,
            _ if begun => None,
            (_, Some(first)) => Some(trial.rate(engine.get(), teacher.vocab.get(), first)?),
        };
        self.output.step("Forecast", &forecast.words(rate));
        Ok(())
    }
}
