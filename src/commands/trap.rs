//! `leap trap`: what a bad beginning costs, and what peers repair.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use infer::engine::Engine;
use infer::generation::{AtFailure, AtStop, Generation, Shard};
use infer::local::LocalSettings;
use infer::units::Units;
use infer::vocab::TokenizerVocab;
use infer::waves::Ran;
use model::device::DeviceSpec;
use protocol::stats::Interval;
use protocol::trap::{Beginning, Beginnings, Outcome, Trap, outcome};
use protocol::{Method, Origin, Problem, PromptSet, Settings, Stream, Trace, Vocab};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::ExitStatus;
use crate::cli::{TrapArgs, WhichBeginnings};
use crate::fault::Fault;
use crate::lock::Lock;
use crate::output::Output;
use crate::road::{self, read_records};
use crate::{devices, interrupt, ledger, presets, recipes};

const PLAN: &str = "plan.json";
const SUMMARY: &str = "summary.json";
/// The two rows, by folder.
const INDEPENDENT: &str = "independent";
const WITH_PEERS: &str = "with-peers";

/// Everything that decides the result.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    version: u32,
    groups: String,
    problems: String,
    model: String,
    tokenizer: String,
    device: String,
    seed: u64,
    trap: Trap,
    settings: Settings,
    prompts: PromptSet,
    beginnings: Vec<Beginning>,
}

pub(super) fn run(args: &TrapArgs, output: &mut Output) -> Result<ExitStatus> {
    let folder = road::weights_folder(&args.checkpoint)?;
    ledger::check_listed(&args.problems)?;
    ledger::check_listed(&args.groups)?;
    let problems = data_gen::problems::read(&args.problems)?;
    let traces: Vec<Trace> = read_records(&args.groups)?;
    for trace in &traces {
        let problem = trace.check();
        problem.map_err(|problem| anyhow::anyhow!("`{}`: {problem}", args.groups.display()))?;
    }
    let vocab = TokenizerVocab::load(&folder)?;
    let first = traces.first().context("there is no group to begin from")?;
    if let Some(other) = traces.iter().find(|t| t.origin.tokenizer != vocab.hash()) {
        return Err(Fault::new(
            format!(
                "the groups were written with tokenizer {}, but `{}` has {}",
                other.origin.tokenizer,
                folder.display(),
                vocab.hash()
            ),
            "beginnings are ids: the model that goes on needs the tokenizer of the one that began",
        )
        .into());
    }
    check_model(args, &traces, &folder, output)?;
    let (settings, prompts) = settings(args, first)?;
    let trap = Trap {
        beginnings: match args.beginnings {
            WhichBeginnings::Wrong => Beginnings::Wrong,
            WhichBeginnings::Right => Beginnings::Right,
        },
        problems: args.most,
        share: args.share,
    };
    let stream = Stream::of_run(args.seed).named("trap");
    let beginnings = trap.choose(&traces, &problems, &stream.named("choose"))?;
    let spec: DeviceSpec = args.device.parse()?;
    let device = devices::open(&spec, output)?;
    let dtype = devices::dtype(args.dtype.map(Into::into), &device);
    let local = LocalSettings {
        wave: beginnings.len(),
        ..LocalSettings::for_one_group(settings.all_paths() * beginnings.len().min(8))
    };
    let (mut engine, _) = road::open_local(&folder, &vocab, &local, dtype, &device)?;
    interrupt::listen()?;
    let plan = Plan {
        version: 1,
        groups: ledger::hash_of(&args.groups)?,
        problems: ledger::hash_of(&args.problems)?,
        model: model::checkpoint::weights_hash(&folder)?,
        tokenizer: vocab.hash().to_string(),
        device: format!("{spec} {dtype}"),
        seed: args.seed,
        trap,
        settings,
        prompts,
        beginnings,
    };
    if args.overwrite {
        let inputs = [&args.groups, &args.problems, &folder];
        road::keep_files(inputs.into_iter().map(PathBuf::as_path), &args.out)?;
    }
    let _lock = Lock::output(&args.out)?;
    open_folder(&args.out, &plan, args.overwrite)?;
    output.step(
        "Trap",
        &format!(
            "{} beginnings, {} paths go on from each, independently and by {}",
            plan.beginnings.len(),
            plan.settings.paths,
            plan.settings.method.name()
        ),
    );
    let rows = [
        (INDEPENDENT, Method::Cot),
        (WITH_PEERS, plan.settings.method),
    ];
    for (name, method) in rows {
        let row = Row {
            name,
            method,
            plan: &plan,
            problems: &problems,
            file: &args.out.join(name).join("groups.jsonl"),
        };
        if row.run(&mut engine, &vocab, &stream, output)? == Ran::Stopped {
            output.note("stopped; the same command continues");
            return Ok(ExitStatus::Interrupted);
        }
    }
    let groups = |name: &str| read_records::<Trace>(&args.out.join(name).join("groups.jsonl"));
    let (alone, peers) = (groups(INDEPENDENT)?, groups(WITH_PEERS)?);
    let outcome = outcome(&plan.beginnings, &problems, &alone, &peers)?;
    let text = serde_json::to_string_pretty(&outcome)? + "\n";
    ledger::write_whole(&args.out.join(SUMMARY), text.as_bytes())?;
    match args.json {
        true => output.data(&text),
        false => output.data(&outcome_table(plan.settings.method, &outcome)),
    }
    Ok(ExitStatus::Done)
}

/// Holds the stored groups against the checkpoint: what they score is compared with what it scores.
fn check_model(
    args: &TrapArgs,
    traces: &[Trace],
    folder: &Path,
    output: &mut Output,
) -> Result<()> {
    // A trap of a trap names weights alone.
    let [whole, weights] = [
        model::checkpoint::hash(folder)?,
        model::checkpoint::weights_hash(folder)?,
    ];
    let is_it = |model: &str| model == whole || model == weights;
    let Some(other) = traces.iter().find(|trace| !is_it(&trace.origin.model)) else {
        return Ok(());
    };
    let text = format!(
        "`{}` was written by model {}, and `{}` is {whole}",
        args.groups.display(),
        other.origin.model,
        folder.display()
    );
    if args.other_model {
        output.note(&text);
        output.note("so a gap is the beginning's and the other model's together");
        return Ok(());
    }
    Err(Fault::new(
        text,
        "what the stored groups score without a trap is compared with what the checkpoint scores in \
         it: name groups that this checkpoint wrote, or --other-model if two models are to be compared",
    )
    .into())
}

/// Those of the stored groups, with as many paths as are asked for, edited by the overrides.
fn settings(args: &TrapArgs, first: &Trace) -> Result<(Settings, PromptSet)> {
    let method = presets::method(&args.method)?;
    if !method.exchanges() {
        return Err(Fault::new(
            format!("paths do not exchange by method `{}`", args.method),
            "the independent row is always run: choose leap, leap-t or leap-s for the other",
        )
        .into());
    }
    let mut protocol = Table::try_from(&first.setup.settings)?;
    protocol.remove("method");
    protocol.insert("paths".into(), Value::Integer(args.continuations as i64));
    let mut table = Table::new();
    table.insert("protocol".into(), Value::Table(protocol));
    table.insert("prompts".into(), Value::try_from(&first.setup.prompts)?);
    let (protocol, prompts) = presets::of_call(table, &args.overrides)?;
    let settings = protocol.settings(method);
    settings.check()?;
    Ok((settings, prompts))
}

/// Makes the folder, or finds it made by the same call.
fn open_folder(out: &Path, plan: &Plan, overwrite: bool) -> Result<()> {
    let path = out.join(PLAN);
    let text = serde_json::to_string_pretty(plan)? + "\n";
    if path.exists() {
        let found = fs::read_to_string(&path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        if found == text {
            return Ok(());
        }
        if !overwrite {
            return Err(Fault::new(
                format!("`{}` holds the trap of another call", out.display()),
                "choose another --out, or --overwrite",
            )
            .into());
        }
        for name in [INDEPENDENT, WITH_PEERS] {
            match fs::remove_dir_all(out.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove `{name}`"));
                }
                _ => {}
            }
        }
    }
    fs::create_dir_all(out).with_context(|| format!("cannot make `{}`", out.display()))?;
    ledger::write_whole(&path, text.as_bytes())
}

struct Row<'a> {
    name: &'a str,
    method: Method,
    plan: &'a Plan,
    problems: &'a [Problem],
    file: &'a Path,
}

impl Row<'_> {
    fn run(
        &self,
        engine: &mut dyn Engine,
        vocab: &TokenizerVocab,
        stream: &Stream,
        output: &mut Output,
    ) -> Result<Ran> {
        if self.file.exists() {
            return Ok(Ran::Done);
        }
        let plan = self.plan;
        let key = recipes::hash(plan)?;
        let problem = |id: &String| self.problems.iter().find(|problem| problem.id == *id);
        let chosen = plan.beginnings.iter().map(|beginning| &beginning.problem);
        let problems: Vec<&Problem> = chosen.filter_map(problem).collect();
        let settings = Settings {
            method: self.method,
            ..plan.settings.clone()
        };
        let generation = Generation {
            units: Units {
                problems: &problems,
                groups: 1,
                prompts: &plan.prompts,
                settings: &|_| settings.clone(),
                beginnings: &|index| vec![plan.beginnings[index].ids.clone()],
                planted: 0,
                stream: stream.named("paths"),
                origin: Origin {
                    seed: plan.seed,
                    recipe: key.clone(),
                    model: plan.model.clone(),
                    tokenizer: plan.tokenizer.clone(),
                    device: plan.device.clone(),
                },
            },
            shard: Shard::WHOLE,
            open: plan.beginnings.len(),
            at_stop: AtStop::Cancel,
            at_failure: AtFailure::Leave,
            file: self.file,
            key: &key,
        };
        let mut progress = output.progress("Running", self.name);
        let mut sampled = 0;
        let ran = generation.run(engine, vocab, &mut |now, _| {
            sampled = now.sampled;
            progress.show(now.groups as u64, now.of as u64, "groups", "");
            match interrupt::asked() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        progress.finish(&format!("{sampled} tokens sampled"));
        Ok(ran)
    }
}

/// The gaps of a trap as an aligned text; `method` is how the paths with peers worked.
pub(crate) fn outcome_table(method: Method, outcome: &Outcome) -> String {
    let percent = |it: &Interval| {
        let [estimate, low, high] = [it.estimate, it.low, it.high].map(|share| share * 100.0);
        format!("{estimate:>6.1} [{low:.1}, {high:.1}]")
    };
    let line = |name: &str, score: &Interval, gap: Option<&Interval>| {
        let gap = gap.map(percent).unwrap_or_default();
        format!("{name:<24} {:<24} {gap}", percent(score))
            .trim_end()
            .to_string()
    };
    let method = method.name();
    [
        format!("{:<24} {:<24} {}", "paths", " Pass@1 [95%]", " gap [95%]"),
        line("stored, unconstrained", &outcome.unconstrained, None),
        line(
            "going on, independent",
            &outcome.independent,
            Some(&outcome.gap_independent),
        ),
        line(
            &format!("going on, {method}"),
            &outcome.with_peers,
            Some(&outcome.gap_with_peers),
        ),
        format!(
            "peers repair {} points, over {} problems",
            percent(&outcome.repaired).trim_start(),
            outcome.by_problem.len()
        ),
    ]
    .join("\n")
}
