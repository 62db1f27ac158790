//! Every command that leaves an output, small enough to be disturbed often.

use crate::bench::Bench;
use crate::crash::SMALL;
use crate::work::Work;

/// The road's output, as number 0 of [`Work::road`], is what the other works read.
const ROAD: &str = "0/run";

/// The road, and every other command with an output on what the road made.
pub(crate) fn works(bench: &Bench) -> (Work, Vec<Work>) {
    let road = Work::road(SMALL);
    road.finish(bench, 0);
    let at = |file: &str| format!("{ROAD}/{file}");
    let (checkpoint, samples) = (at("checkpoints/base"), at("samples.jsonl"));
    let (problems, traces) = (at("problems.jsonl"), at("traces.jsonl"));
    let control = at("traces-control.jsonl");
    let set = |key: &str, value: &str| format!("{key}={value}");
    let work = |name, args: &[&str], out| Work::new(name, args, out);
    let train = [
        &set("model.checkpoint", &checkpoint) as &str,
        &set("samples.file", &samples),
        "samples.hold_out_problems=4",
        "train.tokens=2000",
        "train.save_every_steps=1",
        "train.held_out.every_steps=2",
    ];
    let trap = [
        &control as &str,
        "--problems",
        &problems,
        "--checkpoint",
        &checkpoint,
        "--method",
        "leap",
        "--continuations",
        "3",
        "--other-model",
    ];
    let all = vec![
        work(
            "train",
            &[&["train", "sft-tiny"], &train[..], &["--out", "OUT"]].concat(),
            "training",
        ),
        work(
            "data-gen traces",
            &[
                "data-gen",
                "traces",
                "teacher-simulated",
                "problems.count=12",
                "--out",
                "OUT",
            ],
            "traces",
        ),
        work(
            "data-gen samples",
            &[
                "data-gen",
                "samples",
                "leap-t-samples",
                &set("problems", &problems),
                &set("traces.leap", &traces),
                "--out",
                "OUT",
            ],
            "samples",
        ),
        work(
            "data-gen problems",
            &[
                "data-gen",
                "problems",
                "--synthetic",
                "divisors=40",
                "--out",
                "OUT",
            ],
            "problems.jsonl",
        ),
        work(
            "data-gen export",
            &[
                "data-gen",
                "export",
                &samples,
                "--tokenizer",
                &checkpoint,
                "--out",
                "OUT",
            ],
            "export",
        ),
        work(
            "eval",
            &["eval", "search", "problems.count=12", "--out", "OUT"],
            "evaluation",
        ),
        work(
            "trap",
            &[&["trap"], &trap[..], &["--out", "OUT"]].concat(),
            "trap",
        ),
        work(
            "checkpoint export",
            &[
                "checkpoint",
                "export",
                &checkpoint,
                "OUT",
                "--dtype",
                "bf16",
            ],
            "exported",
        ),
    ];
    (road, all)
}
