//! `leap data-gen traces` and `merge`: groups of a teacher, kept as they come, in shards.

mod merge;
pub(crate) mod recipe;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use data_gen::filters::{Verdict, verdicts};
use infer::generation::{Generation, GenerationProgress, Shard};
use infer::simulated::SimulatedEngine;
use infer::units::Units;
use infer::vocab::TokenizerVocab;
use infer::waves::Ran;
use model::device::{Device, DeviceSpec};
use protocol::{Origin, Problem, Stream, Trace};
use serde_json::json;

pub(crate) use self::merge::merge;
use self::recipe::{TracesRecipe, WriterEngine};
use crate::cli::ServerArgs;
use crate::commands::ExitStatus;
use crate::evaluation::engine::{RowEngine, RowVocab, Trial, at_stop};
use crate::evaluation::folder::Folder;
use crate::evaluation::forecast::{hours, thousands};
use crate::evaluation::questions;
use crate::fault::Fault;
use crate::output::Output;
use crate::road::{self, model_folder, read_records, write_records};
use crate::{devices, interrupt, ledger, recipes, servers};

/// The problems, as they were asked.
const PROBLEMS: &str = "problems.jsonl";
/// The groups.
const TRACES: &str = "traces.jsonl";
/// Names of the steps in the ledger.
const PROBLEMS_STEP: &str = "problems";
const TRACES_STEP: &str = "traces";

/// What is asked of a generation besides its recipe.
pub(crate) struct Call<'a> {
    pub(crate) out: &'a Path,
    pub(crate) shard: Shard,
    pub(crate) device: &'a DeviceSpec,
    pub(crate) overwrite: bool,
    pub(crate) servers: &'a ServerArgs,
}

/// Who writes, as far as it is known before an engine is opened.
struct Teacher {
    vocab: RowVocab,
    folder: Option<PathBuf>,
    /// What traces call the model.
    model: String,
}

/// One generation in its folder.
struct Work<'a> {
    recipe: &'a TracesRecipe,
    call: &'a Call<'a>,
    folder: Folder,
    output: &'a mut Output,
    problems: Vec<Problem>,
}

/// Runs a recipe, or what is left of it.
///
/// # Errors
/// If the folder belongs to another recipe or another process, the teacher cannot be used, or a file
/// cannot be written.
pub(crate) fn run(
    recipe: &TracesRecipe,
    call: &Call<'_>,
    output: &mut Output,
) -> Result<ExitStatus> {
    check(recipe, call)?;
    let given = questions::file_hash(&recipe.problems)?;
    if recipe.problems.file.is_some() {
        // A mistake in the file leaves nothing behind.
        questions::load(&recipe.problems, recipe.seed, output)?;
    }
    let device = devices::open(call.device, output)?;
    let folder = open_folder(
        recipe,
        call.out,
        call.shard,
        &place(recipe, call),
        call.overwrite,
    )?;
    let mut work = Work {
        recipe,
        call,
        folder,
        output,
        problems: Vec::new(),
    };
    match work.walk(&given, &device) {
        Ok(Some(worked)) => {
            work.folder.finish()?;
            let file = call.out.join(TRACES);
            match worked {
                true => work.output.step("Traces", &file.display().to_string()),
                false => work.output.note(&format!(
                    "`{}` is finished: nothing to do",
                    call.out.display()
                )),
            }
            Ok(ExitStatus::Done)
        }
        Ok(None) => {
            work.folder.event("stopped", &json!({}));
            work.output
                .note("stopped; everything that was said is kept");
            work.output.hint("the same command continues it");
            Ok(ExitStatus::Interrupted)
        }
        Err(error) => {
            let text = format!("{error:#}");
            work.folder.event("failed", &json!({ "error": text }));
            Err(error)
        }
    }
}

/// Says what a recipe would do.
///
/// # Errors
/// If it cannot work, or its problems cannot be read.
pub(crate) fn describe(
    recipe: &TracesRecipe,
    call: &Call<'_>,
    output: &mut Output,
) -> Result<Vec<String>> {
    recipe.check()?;
    let hash = recipes::hash(recipe)?;
    let mut lines = vec![
        recipe.title.clone(),
        format!(
            "recipe {}, seed {}, device {}, output {}",
            &hash[..12],
            recipe.seed,
            place(recipe, call),
            call.out.display()
        ),
    ];
    if call.shard != Shard::WHOLE {
        lines.push(format!("shard {} of {}", call.shard.index, call.shard.of));
    }
    let problems = &recipe.problems;
    let here =
        problems.hub.is_none() && (problems.file.is_some() || problems.usual_place().is_none());
    let count = match here {
        true => questions::load(problems, recipe.seed, output)?.map(|problems| problems.len()),
        false => problems.benchmark.map(|benchmark| benchmark.problems()),
    };
    match count {
        Some(count) => lines.push(forecast(recipe, count, call.shard).words(None)),
        None => lines.push("the problems are fetched when it starts".to_owned()),
    }
    Ok(lines)
}

/// Upper bounds of a generation.
struct Forecast {
    groups: u64,
    paths: u64,
    tokens: u64,
}

fn forecast(recipe: &TracesRecipe, problems: usize, shard: Shard) -> Forecast {
    let mine = (0..problems).filter(|problem| shard.has(*problem)).count();
    let settings = recipe.settings();
    let groups = mine as u64 * u64::from(recipe.traces.groups);
    let paths = groups * settings.all_paths() as u64;
    Forecast {
        groups,
        paths,
        tokens: paths * settings.most_sampled() as u64,
    }
}

impl Forecast {
    /// In words; with a rate in tokens a second also how long it takes.
    fn words(&self, rate: Option<f64>) -> String {
        let mut text = format!(
            "{} groups, {} paths, at most {} tokens",
            self.groups,
            self.paths,
            thousands(self.tokens)
        );
        if let Some(rate) = rate.filter(|rate| *rate > 0.0) {
            let longest = hours(self.tokens as f64 / rate);
            text += &format!("; at {rate:.0} tokens/s, measured now, at most {longest}");
        }
        text
    }
}

/// What the ledger calls the place of computation.
fn place(recipe: &TracesRecipe, call: &Call<'_>) -> String {
    match recipe.teacher.engine {
        WriterEngine::Local => call.device.to_string(),
        WriterEngine::Remote => "servers".to_owned(),
        WriterEngine::Simulated => "simulated".to_owned(),
    }
}

fn check(recipe: &TracesRecipe, call: &Call<'_>) -> Result<()> {
    recipe.check()?;
    if recipe.teacher.engine == WriterEngine::Remote {
        servers::are_named(call.servers)?;
    }
    if let Some(folder) = &recipe.teacher.folder {
        TokenizerVocab::load(&model_folder(folder)?)?;
    }
    Ok(())
}

/// The output folder, with the recipe in it.
fn open_folder(
    recipe: &TracesRecipe,
    out: &Path,
    shard: Shard,
    place: &str,
    overwrite: bool,
) -> Result<Folder> {
    let hash = match shard {
        Shard::WHOLE => recipes::hash(recipe)?,
        Shard { index, of } => recipes::hash(&(recipe, index, of))?,
    };
    let mut folder = Folder::open(out, &hash, place, overwrite)?;
    let text = toml::to_string(recipe).context("cannot write the recipe as TOML")?;
    let header = format!(
        "# {}\n#\n#   leap data-gen traces recipe.toml --out DIR\n\n",
        recipe.title
    );
    ledger::write_whole(&out.join("recipe.toml"), (header + &text).as_bytes())?;
    folder.event("start", &json!({ "recipe": hash, "device": place }));
    Ok(folder)
}

impl Work<'_> {
    /// Whether anything had to be done; `None` if it was asked to stop.
    fn walk(&mut self, given: &str, device: &Device) -> Result<Option<bool>> {
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
        let vocab = match &folder {
            Some(folder) => RowVocab::Tokenizer(Box::new(TokenizerVocab::load(folder)?)),
            None => RowVocab::Bytes,
        };
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
            at_stop: infer::generation::AtStop::Cancel,
            file: &file,
            key,
        };
        if generation.is_done()? {
            // It was cut off between the last group and the ledger.
            return Ok(Ran::Done);
        }
        let mut engine = self.engine(teacher, device)?;
        generation.at_stop = at_stop(&engine);
        generation.units.origin.device = match &engine {
            RowEngine::Local(_) => format!("{} {}", self.call.device, recipe.teacher.dtype),
            RowEngine::Remote(engine) => engine.device(),
            RowEngine::Simulated(_) => "simulated".to_owned(),
        };
        self.forecast(&mut engine, teacher, &problems)?;
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
            progress.show(now.groups as u64, now.of as u64, "groups", &more);
            match interrupt::asked() {
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
                "accepted": counts.accepted, "paths": counts.paths, "failures": failed,
                "servers": servers,
            }),
        );
        ran.map_err(servers::explained)
    }

    /// Says what is ahead, with hours where the teacher's speed is worth measuring.
    fn forecast(
        &mut self,
        engine: &mut RowEngine<'_>,
        teacher: &Teacher,
        problems: &[Problem],
    ) -> Result<()> {
        let recipe = self.recipe;
        let forecast = forecast(recipe, problems.len(), self.call.shard);
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
            (_, Some(first)) => Some(trial.rate(engine.get(), teacher.vocab.get(), first)?),
        };
        self.output.step("Forecast", &forecast.words(rate));
        Ok(())
    }
}

/// Paths of the groups that this process has ended, and how many of them would be trained on.
struct Accepted<'a> {
    problems: BTreeMap<&'a str, &'a Problem>,
    accepted: usize,
    paths: usize,
}

impl<'a> Accepted<'a> {
    fn of(problems: &'a [Problem]) -> Self {
        let by_id = problems
            .iter()
            .map(|problem| (problem.id.as_str(), problem));
        Self {
            problems: by_id.collect(),
            accepted: 0,
            paths: 0,
        }
    }

    fn add(&mut self, trace: &Trace, max_tokens: usize) {
        let Some(problem) = self.problems.get(trace.problem.as_str()) else {
            return;
        };
        let verdicts = verdicts(trace, problem, max_tokens);
        self.paths += verdicts.len();
        let kept = verdicts.iter().filter(|verdict| **verdict == Verdict::Kept);
        self.accepted += kept.count();
    }

    fn words(&self) -> String {
        format!("{} of {} paths accepted", self.accepted, self.paths)
    }
}

/// The folder of a shard, or of the whole, as it was left.
fn finished(folder: &Path) -> Result<ledger::Ledger> {
    let standing = road::standing(folder)?;
    let found = ledger::Ledger::read(folder)?;
    match (standing, found) {
        (Some(standing), Some(ledger)) if standing.finished => Ok(ledger),
        (Some(_), _) => Err(Fault::new(
            format!("`{}` is not finished", folder.display()),
            "run its command again until it is",
        )
        .into()),
        _ => Err(Fault::new(
            format!(
                "`{}` holds no traces of `leap data-gen traces`",
                folder.display()
            ),
            "name the folders that it made",
        )
        .into()),
    }
}
