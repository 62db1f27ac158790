//! `leap train` as a user meets it: its artefacts, its plan, its mistakes, and that nothing that
//! happens to the process changes a byte.

mod bench;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bench::{Bench, Ran, artefacts, check_error, micro};

/// A base model and samples, made once by `leap run`.
fn made() -> &'static Path {
    static MADE: OnceLock<(Bench, PathBuf)> = OnceLock::new();
    let (_, path) = MADE.get_or_init(|| {
        let bench = Bench::new();
        bench.leap(&micro("made")).succeeds();
        let path = bench.path("made");
        (bench, path)
    });
    path
}

/// Arguments of a training of a second or two, into `out`.
fn training(out: &str, more: &[&str]) -> Vec<String> {
    let made = made().display();
    let mut args: Vec<String> = [
        "train",
        "sft-tiny",
        "train.tokens=4000",
        "train.save_every_steps=2",
        "train.held_out.every_steps=4",
        "train.held_out.patience=0",
        "samples.hold_out_problems=3",
    ]
    .map(str::to_string)
    .to_vec();
    args.push(format!("model.checkpoint={made}/checkpoints/base"));
    args.push(format!("samples.file={made}/samples.jsonl"));
    args.extend(["--out".to_string(), out.to_string()]);
    args.extend(more.iter().map(|arg| (*arg).to_string()));
    args
}

fn leap(bench: &Bench, args: &[String]) -> Ran {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    bench.leap(&args)
}

const LORA: [&str; 3] = [
    "train.lora.rank=4",
    "train.lora.alpha=8",
    "train.lora.dropout=0.1",
];

/// The artefacts of an undisturbed training, and how long it took.
fn undisturbed(more: &[&str]) -> (Vec<(String, Vec<u8>)>, Duration) {
    let bench = Bench::new();
    let args = training("out", more);
    let began = Instant::now();
    leap(&bench, &args).succeeds();
    (artefacts(&bench.path("out")), began.elapsed())
}

/// What the steps told adds up to the plan.
#[track_caller]
fn check_events(bench: &Bench) {
    let mut plan = training("none", &["--plan", "--json"]);
    plan.retain(|arg| arg != "--out" && arg != "none");
    let plan = leap(bench, &plan).succeeds();
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).expect("JSON");
    let events = std::fs::read_to_string(bench.path("out/events.jsonl")).expect("events");
    let lines = events
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let steps: Vec<serde_json::Value> = lines
        .filter(|line: &serde_json::Value| line["event"] == "step")
        .collect();
    let sum = |key: &str| {
        let numbers = steps
            .iter()
            .map(|step| step[key].as_f64().expect("a number"));
        numbers.sum::<f64>()
    };
    assert_eq!(plan["work"]["steps"], steps.len());
    assert_eq!(plan["work"]["tokens"].as_f64(), Some(sum("tokens")));
    let flops = plan["forecast"]["model_flops"].as_f64().expect("a number");
    assert!((sum("model_flops") / flops - 1.0).abs() < 1e-12);
    assert!(
        steps
            .iter()
            .all(|step| step["memory_bytes"].as_u64() > Some(1 << 20))
    );
    // Nobody knows the best rate of a processor.
    assert!(steps.iter().all(|step| step.get("mfu").is_none()));
}

#[test]
fn a_training_leaves_a_checkpoint_with_its_card_and_curves() {
    let bench = Bench::new();
    let ran = leap(&bench, &training("out", &["--try-worst"])).succeeds();
    assert_eq!(ran.stdout.trim(), "out/checkpoint");
    for words in [
        "Sample",
        "no loss",
        "with loss (*)",
        "Tried the largest micro-batch",
        "Held out after step 4",
        "planned",
        "Wrote",
    ] {
        assert!(ran.stderr.contains(words), "no `{words}` in {}", ran.stderr);
    }
    for file in [
        "recipe.toml",
        "events.jsonl",
        "curves.jsonl",
        "report.html",
        "checkpoint/model.safetensors",
        "checkpoint/tokenizer.json",
        "checkpoint/lineage.json",
        "checkpoint/README.md",
    ] {
        assert!(bench.path("out").join(file).is_file(), "no {file}");
    }
    assert!(
        !bench.path("out/trainer").exists(),
        "states are needed no more"
    );
    check_events(&bench);
    let text = |file: &str| std::fs::read_to_string(bench.path("out").join(file)).expect("a text");
    let card = text("checkpoint/README.md");
    for words in [
        "library_name: transformers",
        "| base | checkpoint `",
        "[train]",
        "held out",
    ] {
        assert!(card.contains(words), "no `{words}` in {card}");
    }
    assert!(
        !card.contains("checkpoints/base") && !card.contains("/tmp"),
        "{card}"
    );
    let report = text("report.html");
    assert!(report.contains("<svg") && report.contains("Held-out loss by kind"));
    assert!(text("events.jsonl").contains("\"event\":\"look\""));
    bench
        .leap(&["checkpoint", "verify", "out/checkpoint"])
        .succeeds();
    let shown = bench
        .leap(&["checkpoint", "show", "out/checkpoint"])
        .succeeds();
    assert!(
        shown.stdout.contains("trained from checkpoint"),
        "{}",
        shown.stdout
    );

    let first = artefacts(&bench.path("out"));
    let again = leap(&bench, &training("out", &[])).succeeds();
    assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);
    assert!(artefacts(&bench.path("out")) == first);
    let listed = bench.leap(&["runs", "."]).succeeds().stdout;
    assert!(listed.contains("out  finished"), "{listed}");
    // The resolved recipe gives the same.
    bench
        .leap(&["train", "out/recipe.toml", "--out", "again"])
        .succeeds();
    assert!(artefacts(&bench.path("again")) == first);
    leap(&bench, &training("out", &["seed=2"])).fails("holds a run of another recipe");
    leap(&bench, &training("out", &["seed=2", "--overwrite"])).succeeds();
    assert!(artefacts(&bench.path("out")) != first);
    // Where layers are computed again, and where moments and sums lie, is no other training.
    let weights = |out: &str| std::fs::read(bench.path(out).join("checkpoint/model.safetensors"));
    for place in ["train.optimizer=device", "train.sums=host"] {
        let same = ["train.recompute=blocks", place];
        leap(&bench, &training(place, &same)).succeeds();
        let same = weights(place).expect("weights") == weights("again").expect("weights");
        assert!(same, "{place}");
    }
}

#[test]
fn killed_at_any_moment_it_ends_with_the_same_bytes() {
    for more in [&[][..], &LORA] {
        let (expected, whole) = undisturbed(more);
        let bench = Bench::new();
        let args = training("out", more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let kills = 8;
        for kill in 0..kills {
            let mut child = bench.start(&args);
            let part = 0.25 + 0.75 * f64::from(kill) / f64::from(kills);
            sleep(whole.mul_f64(part));
            child.kill().expect("killed");
            child.wait().expect("gone");
        }
        bench.leap(&args).succeeds();
        let found = artefacts(&bench.path("out"));
        let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
            files.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(&found), names(&expected));
        for (found, expected) in found.iter().zip(&expected) {
            assert!(found.1 == expected.1, "{} differs", found.0);
        }
    }
}

#[test]
fn killed_while_it_wrote_its_first_file_it_starts_anew() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("out")).expect("a folder");
    std::fs::write(bench.path("out/.stages.json.tmp"), "{\"ver").expect("half a file");
    leap(&bench, &training("out", &["train.tokens=2000"])).succeeds();
}

#[cfg(unix)]
#[test]
fn every_signal_saves_all_and_a_second_one_leaves() {
    // Long enough to be met at work.
    let longer = ["train.tokens=120000", "train.held_out.every_steps=60"];
    let (expected, _) = undisturbed(&longer);
    let bench = Bench::new();
    let args = training("out", &longer);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let steps = || {
        let events = std::fs::read_to_string(bench.path("out/events.jsonl")).unwrap_or_default();
        events.matches("\"event\":\"step\"").count()
    };
    for signals in [
        &["TERM"][..],
        &["INT"],
        &["USR1"],
        &["USR2"],
        &["TERM", "TERM"],
    ] {
        let before = steps();
        let mut child = bench.start(&args);
        while steps() < before + 3 && child.try_wait().expect("a state").is_none() {
            sleep(Duration::from_millis(5));
        }
        for signal in signals {
            let id = child.id().to_string();
            // It may have left at the first one.
            let _ = Command::new("kill").args(["-s", signal, &id]).output();
        }
        let ended = child.wait().expect("it ends").code();
        assert_eq!(ended, Some(130), "{signals:?} after {} steps", steps());
        if signals.len() == 1 {
            let states = std::fs::read_dir(bench.path("out/trainer"));
            assert!(states.is_ok_and(|states| states.count() > 0), "{signals:?}");
        }
    }
    bench.leap(&args).succeeds();
    assert!(artefacts(&bench.path("out")) == expected);
}

#[test]
fn a_training_goes_on_when_nobody_reads_what_it_says() {
    let (expected, _) = undisturbed(&[]);
    let bench = Bench::new();
    let args = training("out", &[]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_leap"))
        .args(&args)
        .current_dir(bench.path("."))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("leap starts");
    // As `2>&1 | head -2` does: it reads two lines, and closes its end.
    let mut said = BufReader::new(child.stderr.take().expect("its stderr"));
    for _ in 0..2 {
        said.read_line(&mut String::new()).expect("a line");
    }
    drop(said);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert!(artefacts(&bench.path("out")) == expected);
}

/// What `leap checkpoint` and a training say of an adapter.
#[track_caller]
fn check_adapter(bench: &Bench, base: &str) {
    let show = |more: &[&str]| {
        let args = [&["checkpoint", "show", "out/adapter"], more].concat();
        bench.leap(&args).succeeds()
    };
    let shown = show(&[]);
    for words in [
        "rank           4, alpha 8, dropout 0.1",
        "q_proj",
        "base           checkpoint ",
        "trained from checkpoint",
    ] {
        assert!(
            shown.stdout.contains(words),
            "no `{words}` in {}",
            shown.stdout
        );
    }
    assert!(shown.stderr.contains("leap checkpoint merge BASE ADAPTER"));
    let value: serde_json::Value = serde_json::from_str(&show(&["--json"]).stdout).expect("JSON");
    assert_eq!(value["rank"], 4);
    let verify = |folder: &str| bench.leap(&["checkpoint", "verify", folder]);
    let good = verify("out/adapter").succeeds();
    assert_eq!(good.stdout, "out/adapter: good, an adapter\n");
    let diff = ["checkpoint", "diff", base, "out/adapter"];
    let refused = bench.leap(&diff).fails("config.json");
    assert!(refused.stderr.contains("leap checkpoint merge"));
    let on = ["model.checkpoint=out/adapter"];
    leap(bench, &training("other", &on)).fails("holds an adapter, and no model");
    // One byte of a matrix is another.
    std::fs::create_dir(bench.path("damaged")).expect("a folder");
    for name in ["adapter_config.json", "lineage.json"] {
        let there = bench.path("out/adapter").join(name);
        std::fs::copy(there, bench.path("damaged").join(name)).expect("a file");
    }
    let mut bytes =
        std::fs::read(bench.path("out/adapter/adapter_model.safetensors")).expect("matrices");
    let last = bytes.len() - 4;
    bytes[last] ^= 1;
    std::fs::write(bench.path("damaged/adapter_model.safetensors"), bytes).expect("written");
    let damaged = verify("damaged");
    assert_eq!(damaged.code, Some(1), "{}", damaged.stderr);
    assert!(damaged.stdout.contains("have hash"), "{}", damaged.stdout);
}

#[test]
fn an_adapter_is_merged_into_its_base_and_no_other() {
    let bench = Bench::new();
    let ran = leap(&bench, &training("out", &LORA)).succeeds();
    assert_eq!(ran.stdout.trim(), "out/adapter");
    check_adapter(
        &bench,
        &made().join("checkpoints/base").display().to_string(),
    );
    let base = made().join("checkpoints/base").display().to_string();
    let other = made().join("checkpoints/leap-t").display().to_string();
    let merge = |base: &str, out: &str, dtype: &str| {
        bench.leap(&[
            "checkpoint",
            "merge",
            base,
            "out/adapter",
            out,
            "--dtype",
            dtype,
        ])
    };
    merge(&base, "merged", "f32").succeeds();
    bench.leap(&["checkpoint", "verify", "merged"]).succeeds();
    let shown = bench.leap(&["checkpoint", "show", "merged"]).succeeds();
    assert!(
        shown.stdout.contains("merged as f32 from base"),
        "{}",
        shown.stdout
    );
    let diff = bench.leap(&["checkpoint", "diff", &base, "merged"]);
    assert_eq!(diff.code, Some(1));
    assert!(
        diff.stdout.contains("q_proj.weight: max"),
        "{}",
        diff.stdout
    );
    assert!(
        !diff.stdout.contains("norm.weight"),
        "only adapted maps differ"
    );
    merge(&base, "merged", "f32").fails("is there already");
    let refused = merge(&other, "wrong", "bf16").fails("was trained on checkpoint");
    assert!(refused.stderr.contains("leap checkpoint show"));
    merge(&base, "rounded", "bf16").succeeds();
    let none = bench.leap(&[
        "checkpoint",
        "merge",
        &base,
        &base,
        "none",
        "--dtype",
        "f32",
    ]);
    none.fails("no adapter folder");
}

#[test]
fn every_training_recipe_has_a_plan_that_its_header_names() {
    let bench = Bench::new();
    for (name, fits) in [
        ("leap-t-1.5b", "fits"),
        ("leap-t-7b", "fits"),
        (
            "leap-t-14b",
            "does not fit as it is; fits with train.sums=host",
        ),
        ("leap-t-1.5b-lora", "fits"),
        ("leap-t-7b-lora", "fits"),
        ("leap-t-14b-lora", "fits"),
        ("control-1.5b", "fits"),
        ("control-7b", "fits"),
        (
            "control-14b",
            "does not fit as it is; fits with train.sums=host",
        ),
    ] {
        let began = Instant::now();
        let plan = bench.leap(&["train", name, "--plan", "--on", "h100-80gb"]);
        let code = if fits == "fits" { 0 } else { 1 };
        assert_eq!(plan.code, Some(code), "{name}: {}", plan.stderr);
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{name} takes too long"
        );
        let row = |row: &str| {
            let line = plan.stdout.lines().find_map(|line| line.strip_prefix(row));
            line.unwrap_or_else(|| panic!("no {row} in {}", plan.stdout))
                .trim()
                .to_string()
        };
        assert!(
            row("verdict").starts_with(fits),
            "{name}: {}",
            row("verdict")
        );
        assert_eq!(row("verdict") == "fits", fits == "fits", "{name}");
        let memory = row("memory on h100-80gb");
        let memory = memory.split(" of ").next().expect("a size").to_string();
        let hours = row("hours");
        let hours = hours.split(' ').next().expect("a number").to_string();
        let header = bench.leap(&["recipe", "cat", name]).succeeds().stdout;
        let line = header.lines().find(|line| line.starts_with("# Planned:"));
        let line = line.expect("a line that says what is planned");
        assert!(
            line.contains(&memory) && line.contains(&format!("{hours} hours")),
            "{name}: `{line}` does not name {memory} and {hours} hours"
        );
    }
}

#[test]
fn a_model_under_training_is_asked_and_its_form_is_counted() {
    let bench = Bench::new();
    let problems = format!("obedience.problems={}/problems.jsonl", made().display());
    let asked = [
        problems.as_str(),
        "obedience.count=2",
        "obedience.paths=3",
        "obedience.turn_tokens=20",
        "obedience.max_tokens=60",
        "obedience.summary_tokens=8",
        "obedience.answer_tokens=8",
        "obedience.prompts=clean",
    ];
    let ran = leap(&bench, &training("out", &asked)).succeeds();
    assert!(
        ran.stderr.contains("Form after step 4: 6 paths"),
        "{}",
        ran.stderr
    );
    let events = std::fs::read_to_string(bench.path("out/events.jsonl")).expect("events");
    assert!(events.contains("\"event\":\"obedience\""));
    // Asking changes no weight.
    leap(&bench, &training("plain", &[])).succeeds();
    let weights = |out: &str| std::fs::read(bench.path(out).join("checkpoint/model.safetensors"));
    assert!(weights("out").expect("weights") == weights("plain").expect("weights"));
}

#[test]
fn a_plan_counts_what_is_there_and_says_what_would_fit() {
    let bench = Bench::new();
    let json = bench.leap(&[
        "train",
        "leap-t-7b",
        "--plan",
        "--on",
        "h100-80gb",
        "--json",
    ]);
    let plan: serde_json::Value = serde_json::from_str(&json.succeeds().stdout).expect("JSON");
    // 1000 samples of 16384 tokens, 8 times, 16 a step.
    assert_eq!(plan["work"]["tokens"], 131_072_000_u64);
    assert_eq!(plan["work"]["steps"], 500);
    assert_eq!(plan["work"]["squares"], 8000_u64 * 16384 * 16384);
    assert_eq!(plan["forecast"]["parameters"], 7_615_616_512_u64);
    let part = |what: &str| {
        let parts = plan["forecast"]["parts"].as_array().expect("parts").iter();
        let found = parts.clone().find(|part| part["what"] == what);
        found.unwrap_or_else(|| panic!("no {what}"))["bytes"]
            .as_u64()
            .expect("bytes")
    };
    assert_eq!(part("weights"), 2 * 7_615_616_512);
    assert_eq!(part("moments"), 8 * 7_615_616_512);
    assert_eq!(part("f32 masters"), 4 * 7_615_616_512);
    assert_eq!(part("inputs of layers"), 29 * 16384 * 3584 * 2);
    // 6 N + 12 L h S / 2 a token, and another forward pass of the layers.
    let model = 131_072_000.0 * (6.0 * 7.070e9 + 6.0 * 28.0 * 3584.0 * 16384.0);
    let found = plan["forecast"]["model_flops"].as_f64().expect("a number");
    assert!((found / model - 1.0).abs() < 1e-3, "{found} {model}");

    let plan_14b = ["train", "leap-t-14b", "--plan", "--on", "h100-80gb"];
    for (plan, ways) in [
        (
            &["train", "leap-t-1.5b", "--plan", "--on", "24GB"][..],
            &["fits with train.optimizer=host and "][..],
        ),
        (
            &plan_14b,
            &[
                "fits with train.sums=host and 236.32 GB of host memory",
                "148.16 GB with train.moments=8bit",
            ],
        ),
    ] {
        let plan = bench.leap(plan);
        assert_eq!(plan.code, Some(1), "{}", plan.stdout);
        for way in ways {
            assert!(plan.stdout.contains(way), "no `{way}` in {}", plan.stdout);
        }
    }
    let tiny = bench.leap(&["train", "leap-t-14b", "--plan", "--on", "8GB"]);
    assert_eq!(tiny.code, Some(1), "{}", tiny.stdout);
    assert!(tiny.stdout.contains("does not fit"));
    let mut args = training("none", &["--plan"]);
    args.retain(|arg| arg != "--out" && arg != "none");
    let own = leap(&bench, &args).succeeds();
    assert!(
        own.stdout.contains("memory of this machine"),
        "{}",
        own.stdout
    );
}

#[test]
fn a_plan_is_for_a_device_that_is_named_and_nothing_else_is_asked_of_it() {
    check_error(
        &["train", "leap-t-1.5b", "--on", "h100-80gb"],
        "--plan",
        "required",
    );
    // No machine has a thousand cards.
    check_error(
        &["train", "leap-t-1.5b", "--plan", "--device", "cuda:1000"],
        "cuda:1000",
        "--on h100-80gb",
    );
}

#[test]
fn a_dry_run_shows_the_samples_and_writes_nothing() {
    let bench = Bench::new();
    let dry = leap(&bench, &training("out", &["--dry-run"])).succeeds();
    assert!(
        dry.stderr.contains("with loss; checkpoint goes to `out`"),
        "{}",
        dry.stderr
    );
    assert!(!bench.path("out").exists());
}

#[test]
fn every_key_of_a_training_recipe_is_explained() {
    let bench = Bench::new();
    let keys = bench
        .leap(&["recipe", "keys", "sft-tiny", "train."])
        .succeeds()
        .stdout;
    for key in [
        "train.lr =",
        "train.guard.then =",
        "train.held_out.patience =",
        "train.lora.rank =",
    ] {
        assert!(keys.contains(key), "no {key} in {keys}");
    }
    assert!(!keys.contains("protocol."));
    bench
        .leap(&["recipe", "check", "sft-tiny", "leap-t-7b", "tiny"])
        .succeeds();
}

#[test]
fn mistakes_are_named_with_advice() {
    check_error(
        &["train", "leap-t-1.5"],
        "there is no recipe `leap-t-1.5`",
        "did you mean `leap-t-1.5b`?",
    );
    check_error(
        &["train", "tiny"],
        "is not for `leap train`",
        "leap run tiny",
    );
    check_error(
        &["run", "sft-tiny"],
        "is not for `leap run`",
        "leap train sft-tiny",
    );
    check_error(
        &["train", "leap-t-1.5b", "train.warmups=0.1"],
        "has no key `warmups`",
        "did you mean `warmup`?",
    );
    check_error(
        &[
            "train",
            "leap-t-1.5b",
            "train.lora.rank=0",
            "train.lora.alpha=1",
            "train.lora.dropout=0",
        ],
        "`train`",
        "`lora.rank` is 0",
    );
    check_error(
        &["train", "leap-t-1.5b"],
        "names no model",
        "model.checkpoint=DIR",
    );
    check_error(
        &["train", "leap-t-1.5b", "model.checkpoint=."],
        "names no samples",
        "samples.file=FILE",
    );
    check_error(
        &[
            "train",
            "leap-t-1.5b",
            "model.shape=r1-distil-qwen-7b",
            "--plan",
        ],
        "there is no shape",
        "did you mean `r1-distill-qwen-7b`?",
    );
    check_error(
        &["train", "leap-t-1.5b", "--plan", "--on", "h100"],
        "there is no device `h100`",
        "did you mean `h100-80gb`?",
    );
    check_error(
        &["train", "sft-tiny", "samples.hold_out_problems=0"],
        "there are no held-out samples",
        "samples.hold_out_problems=8",
    );
    let bench = Bench::new();
    leap(
        &bench,
        &training(
            "out",
            &["train.max_tokens=8", "train.tokens_per_micro_batch=8"],
        ),
    )
    .fails("more than `max_tokens` = 8");
    assert!(!bench.path("out").exists());
    leap(
        &bench,
        &training("out2", &["samples.hold_out_problems=5000"]),
    )
    .fails("cannot be held out");
    assert!(
        !bench.path("out2").exists(),
        "a mistake leaves nothing behind"
    );
}

#[test]
fn overwriting_removes_neither_inputs_nor_what_others_wrote() {
    let bench = Bench::new();
    leap(&bench, &training("out", &[])).succeeds();
    bench.write("out/notes.md", "mine");
    bench.write("out/reports/mine.txt", "mine, too");
    let before = artefacts(&bench.path("out"));
    let more = ["--overwrite", "seed=2", "model.checkpoint=out/checkpoint"];
    let refused = leap(&bench, &training("out", &more)).fails("which --overwrite clears");
    assert!(
        refused.stderr.contains("`out/checkpoint`"),
        "{}",
        refused.stderr
    );
    assert!(artefacts(&bench.path("out")) == before);
    leap(&bench, &training("out", &["--overwrite", "seed=2"])).succeeds();
    let after = artefacts(&bench.path("out"));
    let other = |name: &str| {
        let of = |files: &[(String, Vec<u8>)]| files.iter().find(|file| file.0 == name).cloned();
        of(&after) != of(&before)
    };
    assert!(other("checkpoint/model.safetensors") && other("curves.jsonl"));
    assert!(!other("notes.md") && !other("reports/mine.txt"));
}

#[test]
fn a_finished_training_names_what_has_changed_and_makes_the_rest_again() {
    let bench = Bench::new();
    leap(&bench, &training("out", &[])).succeeds();
    let whole = artefacts(&bench.path("out"));
    let again = || leap(&bench, &training("out", &[]));
    for name in ["out/report.html", "out/curves.jsonl"] {
        std::fs::remove_file(bench.path(name)).expect("removed");
        let again = again().succeeds();
        assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);
        assert!(artefacts(&bench.path("out")) == whole, "{name}");
    }
    bench.write("out/checkpoint/README.md", "# My model\n");
    again().succeeds();
    let card = std::fs::read(bench.path("out/checkpoint/README.md")).expect("the card");
    assert_eq!(card, b"# My model\n");
    bench.write("out/checkpoint/tokenizer_config.json", "{}");
    again().fails("`out/checkpoint/tokenizer_config.json` is not what was written");
}
