//! Stage 3: groups of the teacher on the training problems, with exchange and without.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use infer::engine::Engine;
use infer::simulated::SimulatedEngine;
use infer::vocab::TokenizerVocab;
use infer::waves::{Ran, WaveProgress, Waves};
use protocol::{Origin, Problem, Settings, Stream, Vocab};
use serde_json::json;

use super::{Flow, Road, problems};
use crate::interrupt;
use crate::recipe::TeacherEngine;

/// Traces with exchange.
pub(crate) const LEAP: &str = "traces.jsonl";
/// Traces without.
pub(crate) const CONTROL: &str = "traces-control.jsonl";

pub(super) fn stages(road: &mut Road<'_>, worked: &mut bool) -> Result<Flow> {
    let recipe = road.recipe;
    let sets = [
        ("traces", LEAP, &recipe.traces.leap),
        ("control traces", CONTROL, &recipe.traces.control),
    ];
    for (name, file, set) in sets {
        if set.groups == 0 {
            continue;
        }
        let by = recipe.teacher.engine;
        let settings = (
            recipe.seed,
            &recipe.protocol,
            &recipe.prompts,
            &recipe.teacher,
            set,
        );
        let engine = (by == TeacherEngine::Model).then_some((&recipe.engine, recipe.model.dtype));
        let base = road.base_hash();
        let reads = [problems::FILE, base.as_str()];
        let flow = road.stage(
            name,
            &(settings, engine),
            &reads,
            &[file],
            worked,
            |road, key| {
                let settings = road.recipe.protocol.settings(set.method);
                write(road, name, file, key, by, settings, set.groups)
            },
        )?;
        if flow == Flow::Stopped {
            return Ok(flow);
        }
    }
    Ok(Flow::Done)
}

/// Writes groups on the training problems with the given teacher.
pub(super) fn write(
    road: &mut Road<'_>,
    name: &str,
    file: &str,
    key: &str,
    by: TeacherEngine,
    settings: Settings,
    groups: u32,
) -> Result<Flow> {
    let train = problems::read(road)?.train;
    let train: Vec<&Problem> = train.iter().collect();
    let vocab = road.vocab()?;
    let work = Groups {
        what: name,
        stream: name,
        problems: &train,
        groups,
        file: &road.out.join(file),
        key,
        settings: &|_| settings.clone(),
    };
    match (by, &road.recipe.teacher.simulated) {
        (TeacherEngine::Simulated, Some(simulation)) => {
            let mut engine = SimulatedEngine::new(*simulation, &vocab);
            let model = SimulatedEngine::name(simulation);
            work.run(road, &mut engine, &vocab, model)
        }
        (TeacherEngine::Simulated, None) => anyhow::bail!("the recipe has no [teacher.simulated]"),
        (TeacherEngine::Model, _) => {
            let folder = road.base_folder();
            let mut engine = road.local_engine(&folder, &vocab)?;
            let model = road.base_hash();
            work.run(road, &mut engine, &vocab, model)
        }
    }
}

/// A number of groups on a list of problems, written to one file.
pub(super) struct Groups<'a> {
    /// What the progress line says.
    pub(super) what: &'a str,
    /// Names the random stream; two stages that must draw the same noise share a name.
    pub(super) stream: &'a str,
    pub(super) problems: &'a [&'a Problem],
    pub(super) groups: u32,
    pub(super) file: &'a Path,
    pub(super) key: &'a str,
    /// The settings of the group with this number.
    pub(super) settings: &'a dyn Fn(usize) -> Settings,
}

impl Groups<'_> {
    /// Runs them on `engine`, with a progress line.
    pub(super) fn run(
        &self,
        road: &mut Road<'_>,
        engine: &mut dyn Engine,
        vocab: &TokenizerVocab,
        model: String,
    ) -> Result<Flow> {
        let origin = Origin {
            seed: road.recipe.seed,
            recipe: self.key.to_string(),
            model,
            tokenizer: vocab.hash().to_string(),
            device: format!("{} {}", road.device_name, road.recipe.model.dtype),
        };
        let waves = Waves {
            problems: self.problems,
            groups: self.groups,
            wave: road.recipe.engine.wave,
            prompts: &road.recipe.prompts,
            settings: self.settings,
            beginnings: &|_| Vec::new(),
            planted: 0,
            stream: Stream::of_run(road.recipe.seed).named(self.stream),
            origin,
            file: self.file,
            key: self.key,
        };
        let mut progress = road.output.progress("Running", self.what);
        let mut last = WaveProgress::default();
        let started = std::time::Instant::now();
        let ran = waves
            .run(engine, vocab, &mut |now: WaveProgress| {
                last = now;
                let rate = now.sampled as f64 / started.elapsed().as_secs_f64().max(1e-9);
                let more = format!("{rate:.0} tokens/s");
                progress.show(now.groups as u64, now.of as u64, "groups", &more);
                match interrupt::asked() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })
            .with_context(|| format!("stage `{}`", self.what))?;
        let seconds = started.elapsed().as_secs_f64();
        let summary = format!(
            "{} groups, {} tokens sampled, {:.0} tokens/s",
            last.groups,
            last.sampled,
            last.sampled as f64 / seconds.max(1e-9)
        );
        progress.finish(&summary);
        road.event(
            "groups",
            json!({ "stage": self.what, "groups": last.groups, "sampled": last.sampled, "seconds": seconds }),
        );
        Ok(if ran == Ran::Done {
            Flow::Done
        } else {
            Flow::Stopped
        })
    }
}
