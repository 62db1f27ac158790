//! Stage 6: students besides LeaP-T and its control, each with what differs.

use anyhow::Result;
use data_gen::samples::Accounting;
use protocol::Sample;
use train::Start;

use super::samples::{mix_in, take};
use super::training::{losses_file, train};
use super::{Flow, NothingAccepted, Road, checkpoint_path, problems, traces, write_records};
use crate::recipe::{Protocol, Student, TeacherEngine};

pub(super) fn stages(road: &mut Road<'_>, worked: &mut bool) -> Result<Flow> {
    let recipe = road.recipe;
    for student in &recipe.students {
        let mut file = traces::LEAP.to_owned();
        if let Some(protocol) = student.protocol(recipe)? {
            file = format!("traces-{}.jsonl", student.name);
            if write(road, student, &protocol, &file, worked)? == Flow::Stopped {
                return Ok(Flow::Stopped);
            }
        }
        if learn(road, student, &file, worked)? == Flow::Stopped {
            return Ok(Flow::Stopped);
        }
    }
    Ok(Flow::Done)
}

/// Traces of its own.
fn write(
    road: &mut Road<'_>,
    student: &Student,
    protocol: &Protocol,
    file: &str,
    worked: &mut bool,
) -> Result<Flow> {
    let (recipe, set) = (road.recipe, &road.recipe.traces.leap);
    let by = recipe.teacher.engine;
    let engine = (by == TeacherEngine::Model).then_some((&recipe.engine, recipe.model.dtype));
    let keyed = (recipe.seed, protocol, &recipe.prompts, &recipe.teacher);
    let name = format!("traces {}", student.name);
    let base = road.base_hash();
    let reads = [problems::FILE, base.as_str()];
    road.stage(
        &name,
        &(keyed, set, engine),
        &reads,
        &[file],
        worked,
        |road, key| {
            let settings = protocol.settings(set.method);
            // The stream of LeaP-T's traces: what differs is what the student names, and no draw.
            traces::write(road, "traces", file, key, by, settings, set.groups)
        },
    )
}

/// Its samples and its fine-tuning.
fn learn(road: &mut Road<'_>, student: &Student, traces: &str, worked: &mut bool) -> Result<Flow> {
    let (recipe, name) = (road.recipe, student.name.as_str());
    let (select, settings) = (student.select(recipe)?, student.train(recipe)?);
    let samples = format!("samples-{name}.jsonl");
    let control = recipe.traces.control.groups > 0;
    let mut reads = vec![problems::FILE, traces];
    reads.extend(control.then_some(traces::CONTROL));
    let share = recipe.samples.plain_share;
    let keyed = (recipe.seed, &select, share, Sample::MAKING);
    let stage = format!("samples {name}");
    let flow = road.stage(&stage, &keyed, &reads, &[&samples], worked, |road, _| {
        let all = problems::read(road)?.train;
        let mut account = Accounting::default();
        let mut kept = take(road, traces, &all, &select, &mut account)?;
        let said = account.line();
        road.output.step("Accepted", &format!("{name}: {said}"));
        if kept.is_empty() {
            return Err(NothingAccepted(said).into());
        }
        if control {
            let select = &road.recipe.samples.select;
            let mut account = Accounting::default();
            let control = take(road, traces::CONTROL, &all, select, &mut account)?;
            mix_in(&mut kept, &control, share);
        }
        write_records(&road.out.join(&samples), &kept)?;
        Ok(Flow::Done)
    })?;
    if flow == Flow::Stopped {
        return Ok(flow);
    }
    let (base, made) = (road.base_hash(), [checkpoint_path(name), losses_file(name)]);
    let made: Vec<&str> = made.iter().map(String::as_str).collect();
    let reads = [samples.as_str(), base.as_str()];
    let keyed = (recipe.seed, &settings, recipe.model.dtype);
    let stage = format!("train {name}");
    road.stage(&stage, &keyed, &reads, &made, worked, |road, key| {
        let from = road.base_folder();
        let start = Start::Checkpoint(from.clone());
        train(road, name, start, &from, &settings, &samples, key)
    })
}
