//! The rate of data: traces through filters into samples, and the search for copies.

use std::collections::BTreeMap;
use std::io::{BufReader, sink};
use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::Result;
use data_gen::collection::collect;
use data_gen::contamination::Benchmarks;
use data_gen::import::Imported;
use data_gen::rehearsal::Rehearsal;
use data_gen::synthetic::{Family, Order};
use data_gen::training_set::{Of, Pass, Plan, Progress, Sinks};
use model::memory;
use protocol::Problem;
use serde_json::{Value, json};

use crate::cli::BenchDataGen;
use crate::fault::Fault;
use crate::recipes;
use crate::sample_recipe::SampleRecipe;

/// Groups on a problem.
const PER_PROBLEM: usize = 10;
/// Paths of a group.
const PATHS: usize = 8;
/// Bytes that a path samples, at most.
const TOKENS: usize = 1200;
/// Problems that the others are held against.
const BENCHMARK: usize = 100;

pub(super) fn run(args: &BenchDataGen) -> Result<Value> {
    if args.groups == 0 || args.problems == 0 || args.threads == Some(0) {
        return Err(Fault::new(
            "there is nothing to measure",
            "`--groups`, `--problems` and `--threads` must be at least 1",
        )
        .into());
    }
    if let Some(threads) = args.threads {
        memory::use_threads(threads)?;
    }
    let filters = filter(args.groups)?;
    // The peak is of the whole process: what comes second may hide behind what came first.
    let peak = memory::peak_bytes();
    let problems = search(args.problems)?;
    Ok(json!({
        "bench": "data-gen",
        "threads": memory::threads(),
        "commit": env!("LEAP_VERSION"),
        "filters": filters,
        "peak_bytes_after_filters": peak,
        "problems": problems,
        "peak_bytes": memory::peak_bytes(),
    }))
}

/// Groups through all filters, whether or not the recipe asks for them, into samples.
fn filter(groups: usize) -> Result<Value> {
    let recipe: SampleRecipe = recipes::find("leap-t-samples")?.resolve(&[])?;
    let traces = Rehearsal::new(groups, PER_PROBLEM, PATHS, TOKENS);
    let problems = traces.problems();
    let by_id: BTreeMap<&str, &Problem> = problems
        .iter()
        .map(|problem| (problem.id.as_str(), problem))
        .collect();
    let mut pass = Pass::new(Plan {
        problems: &by_id,
        filters: &recipe.filters,
        choice: &recipe.leap,
        held_out: recipe.held_out,
        seed: recipe.seed,
        of: Of::Exchange,
    });
    let mut last = Progress::default();
    let started = Instant::now();
    let (mut verdicts, mut samples, mut held_out) = (sink(), sink(), sink());
    pass.read(
        BufReader::with_capacity(1 << 20, traces),
        &mut Sinks {
            verdicts: &mut verdicts,
            samples: &mut samples,
            held_out: &mut held_out,
        },
        &mut |now| {
            last = now;
            ControlFlow::Continue(())
        },
    )?;
    let seconds = started.elapsed().as_secs_f64();
    let account = pass.finish();
    let megabytes = last.bytes as f64 / 1e6;
    Ok(json!({
        "groups": account.groups,
        "paths": account.paths,
        "samples": account.samples,
        "megabytes": megabytes,
        "seconds": seconds,
        "megabytes_per_s": megabytes / seconds,
        "groups_per_s": account.groups as f64 / seconds,
    }))
}

/// Synthetic problems of two families, each held against those before it and a benchmark.
fn search(count: usize) -> Result<Value> {
    let of = |family, count, seed| {
        let order = Order {
            family,
            choice: false,
            count,
        };
        order.problems(seed)
    };
    let mut problems = of(Family::Recurrence, count.div_ceil(2), 1)?;
    problems.extend(of(Family::System, count / 2, 1)?);
    let rows: Vec<Imported> = problems
        .into_iter()
        .map(|problem| Imported {
            problem,
            id_given: true,
            year: None,
        })
        .collect();
    let mut benchmarks = Benchmarks::default();
    benchmarks.add("remainder", &of(Family::Remainder, BENCHMARK, 2)?);
    let started = Instant::now();
    let made = collect(rows, None, &benchmarks);
    let seconds = started.elapsed().as_secs_f64();
    Ok(json!({
        "problems": count,
        "benchmark_problems": BENCHMARK,
        "kept": made.problems.len(),
        "seconds": seconds,
        "problems_per_s": count as f64 / seconds,
    }))
}
