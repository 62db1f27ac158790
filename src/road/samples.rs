//! Stage 4: what the students are trained on.

use std::collections::BTreeMap;

use anyhow::Result;
use data_gen::samples::{Accounting, Selection};
use protocol::{Method, Problem, Sample, Trace};
use serde::Serialize;

use super::{Flow, NothingAccepted, Road, problems, read_records, traces, write_records};
use crate::ledger;
use crate::recipe::TeacherEngine;

/// Samples of the LeaP-T student.
pub(crate) const LEAP: &str = "samples.jsonl";
/// Samples of the control.
pub(crate) const CONTROL: &str = "samples-control.jsonl";
/// What became of the traces' paths.
const ACCOUNT: &str = "samples-report.json";
/// Traces with which the simulated reasoner fills a set that is too small.
const FILL: &str = "traces-simulated.jsonl";

/// What became of the paths of each set.
#[derive(Debug, Default, Serialize)]
struct Account {
    /// Of the traces with exchange.
    leap: Accounting,
    /// Of the traces without.
    control: Accounting,
    /// Of what the simulated reasoner added; empty if it was not needed.
    fill: Accounting,
    /// Samples without exchange in the LeaP-T set.
    mixed_in: usize,
}

pub(super) fn stages(road: &mut Road<'_>, worked: &mut bool) -> Result<Flow> {
    let recipe = road.recipe;
    let mut reads = vec![problems::FILE, traces::LEAP];
    if recipe.traces.control.groups > 0 {
        reads.push(traces::CONTROL);
    }
    if recipe.teacher.fill_below > 0 && own_samples(road)? < recipe.teacher.fill_below {
        let settings = (
            recipe.seed,
            &recipe.protocol,
            &recipe.prompts,
            &recipe.teacher.simulated,
        );
        let base = road.base_hash();
        let inputs = [problems::FILE, base.as_str()];
        let set = &recipe.traces.leap;
        let name = "simulated traces";
        let flow = road.stage(
            name,
            &(settings, set.groups),
            &inputs,
            &[FILL],
            worked,
            |road, key| write_fill(road, name, key),
        )?;
        if flow == Flow::Stopped {
            return Ok(flow);
        }
        reads.push(FILL);
    }
    let control = recipe.train.control.is_some();
    let mut makes = vec![LEAP, ACCOUNT];
    if control {
        makes.push(CONTROL);
    }
    let settings = (recipe.seed, &recipe.samples, control, Sample::MAKING);
    let inputs = reads.clone();
    road.stage("samples", &settings, &inputs, &makes, worked, |road, _| {
        select(road, &reads)
    })
}

fn write_fill(road: &mut Road<'_>, name: &str, key: &str) -> Result<Flow> {
    let groups = road.recipe.traces.leap.groups;
    let settings = road.recipe.protocol.settings(Method::LeapT);
    traces::write(
        road,
        name,
        FILL,
        key,
        TeacherEngine::Simulated,
        settings,
        groups,
    )
}

/// How many samples the teacher's own traces give.
fn own_samples(road: &Road<'_>) -> Result<usize> {
    let mut account = Accounting::default();
    let all = problems::read(road)?.train;
    Ok(take(
        road,
        traces::LEAP,
        &all,
        &road.recipe.samples.select,
        &mut account,
    )?
    .len())
}

pub(super) fn take(
    road: &Road<'_>,
    file: &str,
    all: &[Problem],
    selection: &Selection,
    account: &mut Accounting,
) -> Result<Vec<Sample>> {
    let by_id: BTreeMap<&str, &Problem> = all
        .iter()
        .map(|problem| (problem.id.as_str(), problem))
        .collect();
    let mut taken = BTreeMap::new();
    let mut samples = Vec::new();
    for trace in read_records::<Trace>(&road.out.join(file))? {
        samples.extend(selection.take(&trace, &by_id, &mut taken, account)?);
    }
    Ok(samples)
}

fn select(road: &mut Road<'_>, reads: &[&str]) -> Result<Flow> {
    let recipe = road.recipe;
    let all = problems::read(road)?.train;
    let mut account = Account::default();
    let select = &recipe.samples.select;
    let mut leap = take(road, traces::LEAP, &all, select, &mut account.leap)?;
    let said = account.leap.line();
    road.output.step("Accepted", &format!("traces: {said}"));
    if reads.contains(&FILL) {
        for mut sample in take(road, FILL, &all, select, &mut account.fill)? {
            // The same problem, group and path can be in both files.
            sample.id = format!("simulated:{}", sample.id);
            leap.push(sample);
        }
        road.output.step(
            "Accepted",
            &format!("simulated traces: {}", account.fill.line()),
        );
    }
    if leap.is_empty() {
        return Err(NothingAccepted(said).into());
    }
    let mut control = Vec::new();
    if reads.contains(&traces::CONTROL) {
        control = take(road, traces::CONTROL, &all, select, &mut account.control)?;
        road.output.step(
            "Accepted",
            &format!("control traces: {}", account.control.line()),
        );
    }
    account.mixed_in = mix_in(&mut leap, &control, recipe.samples.plain_share);
    write_records(&road.out.join(LEAP), &leap)?;
    if recipe.train.control.is_some() {
        if control.is_empty() {
            return Err(NothingAccepted(account.control.line()).into());
        }
        write_records(&road.out.join(CONTROL), &control)?;
    }
    let text = serde_json::to_string_pretty(&account)? + "\n";
    ledger::write_whole(&road.out.join(ACCOUNT), text.as_bytes())?;
    Ok(Flow::Done)
}

/// Adds samples without exchange until they are `share` of the set, as far as there are any; returns
/// how many.
pub(super) fn mix_in(leap: &mut Vec<Sample>, control: &[Sample], share: f64) -> usize {
    let plain = (leap.len() as f64 * share / (1.0 - share)).round() as usize;
    let mixed_in = plain.min(control.len());
    // The two sets number their groups alike, and an id is there once.
    leap.extend(control.iter().take(mixed_in).map(|sample| Sample {
        id: format!("control:{}", sample.id),
        ..sample.clone()
    }));
    mixed_in
}
