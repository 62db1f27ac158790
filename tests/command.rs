//! The command as a user meets it: exit codes, messages, streams.

mod bench;

use bench::{Bench, check_error};

#[test]
fn help_walks_through_the_road_in_order() {
    let bench = Bench::new();
    let help = bench.leap(&["--help"]).succeeds().stdout;
    let at = |word: &str| {
        help.find(word)
            .unwrap_or_else(|| panic!("no {word} in {help}"))
    };
    assert!(at("  run") < at("  data-gen") && at("  data-gen") < at("  train"));
    assert!(at("  run") < at("  infer") && at("  infer") < at("  recipe"));
    let version = bench.leap(&["--version"]).succeeds().stdout;
    assert!(
        version.contains("flex") && version.contains("commit"),
        "{version}"
    );
}

#[test]
fn mistakes_are_named_with_advice_and_exit_code_2() {
    check_error(
        &["run", "tinny"],
        "there is no recipe `tinny`",
        "did you mean `tiny`?",
    );
    check_error(
        &["run", "tiny", "protocol.turn_token=3"],
        "recipe `tiny` has no key `turn_token`",
        "did you mean `turn_tokens`?",
    );
    check_error(
        &["run", "tiny", "seed"],
        "`seed` is no override",
        "key=value",
    );
    check_error(
        &["run", "tiny", "seed=x"],
        "recipe `tiny` is not valid",
        "leap recipe keys tiny",
    );
    check_error(
        &["run", "tiny", "protocol.paths=0"],
        "`paths` must be at least 1",
        "",
    );
    check_error(&["run", "tiny", "engine.wave=0"], "`wave` is 0", "");
    check_error(
        &["run", "tiny", "model.scratch.heads=0"],
        "`model.scratch`",
        "",
    );
    check_error(
        &["run", "tiny", "model.scratch.heads=5"],
        "`model.scratch",
        "",
    );
    check_error(
        &["run", "tiny", "model.scratch.thought_tokens=[9, 3]"],
        "`model.scratch.thought_tokens`",
        "[30, 230]",
    );
    check_error(
        &["run", "tiny", "train.leap_t.lr=-1"],
        "`train.leap_t`",
        "`lr`",
    );
    check_error(
        &["run", "tiny", "traces.leap.groups=0"],
        "nothing to train on",
        "at least 1",
    );
    check_error(
        &["run", "tiny", "traces.control.groups=0"],
        "[train.control]",
        "drop the table",
    );
    check_error(
        &["run", "smollm2"],
        "the recipe names no model",
        "model.checkpoint=DIR",
    );
    check_error(
        &["run", "smollm2", "model.checkpoint=nowhere"],
        "there is no model folder `nowhere`",
        "config.json",
    );
    check_error(&["run", "tiny", "--device", "tpu"], "tpu", "");
    check_error(
        &["infer", "nowhere", "1 + 1?"],
        "there is no model folder `nowhere`",
        "",
    );
    check_error(&["infer", ".", "  "], "the problem is empty", "stdin");
    check_error(
        &["infer", ".", "1 + 1?", "--method", "moa2"],
        "no method `moa2`",
        "leap-t",
    );
    check_error(
        &["run", "missing.toml"],
        "cannot read the recipe `missing.toml`",
        "",
    );
    check_error(&["runs", "nowhere"], "cannot read the folder `nowhere`", "");
}

#[test]
fn a_model_folder_without_a_part_names_the_part() {
    let bench = Bench::new();
    bench.write("model/readme.txt", "nothing here");
    let run = ["run", "smollm2", "model.checkpoint=model"];
    bench.leap(&run).fails("config.json");
    assert!(
        !bench.path("runs/smollm2/problems.jsonl").exists(),
        "nothing half-written is left"
    );
}

#[test]
fn a_broken_problems_file_is_named_with_its_line() {
    let bench = Bench::new();
    let run = |bench: &Bench| {
        bench.leap(&[
            "run",
            "tiny",
            "problems.test.file=mine.jsonl",
            "--out",
            "out",
        ])
    };
    run(&bench).fails("mine.jsonl");
    bench.write(
        "mine.jsonl",
        "{\"id\":\"a\",\"problem\":\"p\",\"answer\":1}\nnot json\n",
    );
    run(&bench).fails("line 2");
    bench.write(
        "mine.jsonl",
        "{\"id\":\"a\",\"problem\":\"p\",\"answer\":\"one\"}\n",
    );
    run(&bench).fails("no integer");
    let line = "{\"id\":\"a\",\"problem\":\"p\",\"answer\":1}\n";
    bench.write("mine.jsonl", &(line.to_string() + line));
    run(&bench).fails("appears twice");
}

#[test]
fn recipes_can_be_listed_copied_checked_and_explained() {
    let bench = Bench::new();
    let list = bench.leap(&["recipe", "ls"]).succeeds().stdout;
    assert!(list.contains("tiny") && list.contains("smollm2"));
    bench
        .leap(&["recipe", "cp", "tiny", "mine.toml"])
        .succeeds();
    bench
        .leap(&["recipe", "cp", "tiny", "mine.toml"])
        .fails("exists");
    bench
        .leap(&["recipe", "check", "mine.toml", "tiny"])
        .succeeds();
    let text = std::fs::read_to_string(bench.path("mine.toml")).expect("the copy");
    bench.write("mine.toml", &text.replace("turn_tokens", "turn_tokenz"));
    let checked = bench.leap(&["recipe", "check", "mine.toml"]);
    assert_eq!(checked.code, Some(1), "{}", checked.stderr);
    assert!(
        checked.stderr.contains("did you mean `turn_tokens`?"),
        "{}",
        checked.stderr
    );
    let keys = bench
        .leap(&["recipe", "keys", "tiny", "protocol."])
        .succeeds()
        .stdout;
    assert!(keys.lines().all(|line| line.starts_with("protocol.")) && keys.contains("# N"));
    let cat = bench.leap(&["recipe", "cat", "tiny"]).succeeds().stdout;
    assert!(cat.starts_with("# Everything from nothing"));
}

/// These arguments fail with this message and this advice, and succeed with the change behind them.
#[track_caller]
fn check_way_out(bench: &Bench, args: &[&str], message: &str, change: &str) {
    let refused = bench.leap(args).fails(message);
    let advised = change.split('=').next().expect("a key");
    assert!(
        refused.stderr.contains(&format!("`{advised}=`")),
        "no `{advised}=` in {}",
        refused.stderr
    );
    bench.leap(&[args, &[change]].concat()).succeeds();
}

#[test]
fn a_key_without_a_value_is_left_out() {
    let bench = Bench::new();
    bench.golden_model();
    bench.write(
        "mine.jsonl",
        "{\"id\":\"a\",\"problem\":\"6 * 7?\",\"answer\":42}\n",
    );
    for name in ["aime24", "aime25", "aimo25"] {
        let args = [
            "eval",
            name,
            "model.checkpoint=model",
            "problems.file=mine.jsonl",
            "eval.rows.1.method=leap-t",
            "--dry-run",
        ];
        check_way_out(&bench, &args, "here are 1", "problems.benchmark=");
        let header = bench.leap(&["recipe", "cat", name]).succeeds().stdout;
        assert!(header.contains("problems.file=mine.jsonl problems.benchmark= "));
    }
    check_way_out(
        &bench,
        &[
            "eval",
            "search",
            "problems.file=mine.jsonl",
            "problems.count=0",
            "--dry-run",
        ],
        "problems in 2 ways: problems.file, problems.search",
        "problems.search=",
    );
    check_way_out(
        &bench,
        &[
            "data-gen",
            "traces",
            "teacher-simulated",
            "problems.file=mine.jsonl",
            "problems.count=0",
            "--dry-run",
        ],
        "problems in 2 ways",
        "problems.search=",
    );
    let plan = ["train", "sft-tiny", "train.epochs=1", "--plan"];
    let expected = [
        "model.shape=r1-distill-qwen-1.5b",
        "samples.expected.count=10",
        "samples.expected.tokens=100",
    ];
    let plan = [&plan[..], &expected, &["--on", "80GB"]].concat();
    check_way_out(
        &bench,
        &plan,
        "2 of `epochs`, `steps` and `tokens` are given",
        "train.tokens=",
    );
}

#[test]
fn what_cannot_be_left_out_is_named() {
    // A key that could be there and is not is left out already.
    let bench = Bench::new();
    for fine in ["problems.file=", "eval.baseline=none", "protocol.turns="] {
        bench
            .leap(&["eval", "search", fine, "--dry-run"])
            .succeeds();
    }
    check_error(
        &["eval", "search", "problems.serch="],
        "has no key `serch`",
        "did you mean `search`?",
    );
    check_error(
        &["eval", "search", "protocol.path="],
        "has no key `path`",
        "did you mean `paths`?",
    );
    check_error(
        &["run", "tiny", "seed="],
        "missing field `seed`",
        "leap recipe keys tiny",
    );
    check_error(
        &["run", "table2-mini", "road.train.control="],
        "cannot be left out",
        "[road]",
    );
    check_error(
        &["train", "leap-t-1.5b", "train.epochs=none"],
        "epochs = \"none\"",
        "`epochs=` without one leaves the key out",
    );
    check_error(
        &["infer", ".", "1 + 1?", "turnz="],
        "no setting `turnz` to leave out",
        "turns",
    );
}

#[test]
fn keys_are_told_with_their_preset_and_their_choices() {
    let bench = Bench::new();
    let keys = |args: &[&str]| {
        let args = [&["recipe", "keys"], args].concat();
        bench.leap(&args).succeeds().stdout
    };
    let paper = keys(&["leap-t-teacher-32b", "protocol.paths"]);
    assert_eq!(
        paper,
        "protocol.paths = 32   # left out: from the preset `paper`\n"
    );
    assert!(keys(&["tiny", "protocol."]).contains("from the preset `default`"));
    for (recipe, key, choices) in [
        (
            "sft-tiny",
            "train.schedule",
            "one of cosine, linear, constant",
        ),
        ("sft-tiny", "train.decay_on", "one of matrices, all"),
        ("sft-tiny", "train.train_on", "own+trigger"),
        ("sft-tiny", "train.guard.then", "or \"stop\""),
        ("aime24", "protocol.router", "dispersed"),
        ("aime24", "eval.rows.1.method", "leap-t"),
    ] {
        let told = keys(&[recipe, key]);
        assert!(told.contains(choices), "no `{choices}` in {told}");
    }
    check_error(
        &["recipe", "keys", "tiny", "nonsense"],
        "no key of recipe `tiny` begins with `nonsense`",
        "leap recipe keys tiny",
    );
    for (wrong, right) in [
        ("train.learning_rate=1", "lr"),
        ("train.batch_size=1", "samples_per_step"),
        ("train.lora.r=1", "rank"),
    ] {
        check_error(
            &["train", "leap-t-1.5b", wrong],
            "has no key",
            &format!("did you mean `{right}`?"),
        );
    }
    check_error(
        &["train", "leap-t-1.5b", "train.lora.rank=8"],
        "missing field `alpha`",
        "leap recipe keys leap-t-1.5b",
    );
}

#[test]
fn a_recipe_that_leaves_a_part_to_the_call_is_valid() {
    let bench = Bench::new();
    let list = bench.leap(&["recipe", "ls"]).succeeds().stdout;
    let names: Vec<&str> = list
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let checked = bench.leap(&[&["recipe", "check"], &names[..]].concat());
    let checked = checked.succeeds().stdout;
    for line in [
        "tiny: valid",
        "aime24: valid; to be given: model.checkpoint=DIR",
        "aimo25: valid; to be given: problems.file=FILE model.checkpoint=DIR",
        "smollm2: valid; to be given: model.checkpoint=DIR",
        "leap-t-1.5b: valid; to be given: model.checkpoint=DIR samples.file=FILE",
        "leap-t-teacher-32b: valid; to be given: problems.file=FILE teacher.folder=DIR",
    ] {
        assert!(
            checked.lines().any(|there| there == line),
            "no `{line}` in {checked}"
        );
    }
    let given = ["recipe", "check", "aime24", "model.checkpoint=DIR"];
    assert_eq!(bench.leap(&given).succeeds().stdout, "aime24: valid\n");
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let bench = Bench::new();
    let dry = bench.leap(&["run", "tiny", "--dry-run"]).succeeds();
    assert!(
        dry.stderr.contains("LeaP-T") && dry.stderr.contains("seed 1"),
        "{}",
        dry.stderr
    );
    assert!(!bench.path("runs").exists());
}

#[test]
fn completions_are_data() {
    let script = Bench::new().leap(&["completions", "bash"]).succeeds();
    assert!(script.stdout.contains("_leap") && script.stderr.is_empty());
}

#[test]
fn schemas_name_what_a_line_must_hold() {
    let bench = Bench::new();
    let required = |of: &str| {
        let schema = bench.leap(&["schema", of]).succeeds().stdout;
        let schema: serde_json::Value = serde_json::from_str(&schema).expect("JSON");
        let keys = schema["required"].as_array().expect("a list").clone();
        let keys: Vec<String> = keys
            .iter()
            .map(|key| key.as_str().unwrap_or("").into())
            .collect();
        keys.join(" ")
    };
    assert_eq!(required("problem"), "id problem answer");
    let trace = required("trace");
    for key in ["version", "setup", "origin", "counted", "paths", "blocks"] {
        assert!(trace.contains(key), "no {key} in {trace}");
    }
    assert!(required("sample").contains("tokenizer"));
    assert!(required("summary").contains("scores"));
    assert!(required("prompts").contains("openers"));
    bench
        .leap(&["schema", "report"])
        .fails("invalid value 'report'");
}

#[test]
fn prompt_sets_are_printed_checked_and_used_from_a_file() {
    let bench = Bench::new();
    let clean = bench.leap(&["prompts", "cat"]).succeeds().stdout;
    bench.write(
        "mine.toml",
        &clean.replace("name = \"clean\"", "name = \"mine\""),
    );
    bench.write("broken.toml", &clean.replace("{peers}", "peers"));
    let checked = bench.leap(&["prompts", "check", "mine.toml", "broken.toml"]);
    assert_eq!(checked.code, Some(1));
    assert_eq!(checked.stdout.trim(), "mine.toml: valid");
    assert!(
        checked
            .stderr
            .contains("`comment` of prompt set `clean` has no {peers}")
    );
    let used = ["recipe", "check", "tiny", "prompts=mine.toml"];
    assert!(bench.leap(&used).succeeds().stdout.contains("valid"));
    bench
        .leap(&["prompts", "cat", "mine"])
        .fails("there is no prompt set `mine`");
    bench
        .leap(&["prompts", "cat", "none.toml"])
        .fails("cannot read the prompt set `none.toml`");
}

#[test]
fn an_import_takes_the_published_wording_only_and_overwrites_nothing() {
    let bench = Bench::new();
    let import = ["prompts", "import", "checkout", "-o", "official.toml"];
    bench
        .leap(&import)
        .fails("cannot read `checkout/leap/prompts.py`");
    bench.write("checkout/leap/prompts.py", "MATH_cot = \"Solve it.\"\n");
    let refused = bench.leap(&import).fails("`MATH_cot` has 9 characters");
    assert!(refused.stderr.contains("589ff64"), "{}", refused.stderr);
    assert!(!bench.path("official.toml").exists());
}

#[test]
fn presets_are_explained_and_need_their_wording() {
    let bench = Bench::new();
    let presets = bench.leap(&["recipe", "presets"]).succeeds().stdout;
    for part in [
        "default: N = 8, T = 4096, k = 4",
        "paper: N = 32",
        "authors-code",
        "min_p",
    ] {
        assert!(presets.contains(part), "no {part} in {presets}");
    }
    let paper = ["recipe", "check", "tiny", "protocol.preset=paper"];
    let refused = bench.leap(&paper);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("leap prompts import"),
        "{}",
        refused.stderr
    );
    let ours = [
        "recipe",
        "check",
        "tiny",
        "protocol.preset=paper",
        "prompts=clean",
    ];
    bench.leap(&ours).succeeds();
    check_error(
        &["run", "tiny", "protocol.preset=papr"],
        "there is no preset \"papr\"",
        "default, paper, authors-code",
    );
}

#[test]
fn a_bench_prints_one_object() {
    let bench = Bench::new();
    let args = [
        "bench",
        "route",
        "--summaries",
        "4",
        "--chars",
        "50",
        "--repeat",
        "3",
    ];
    let found = bench.leap(&args).succeeds().stdout;
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!(found["pairs"], 6);
    for similarity in ["indel", "levenshtein"] {
        assert!(found["similarity"][similarity]["median_ms"].as_f64() > Some(0.0));
    }
    check_error(
        &["bench", "route", "--repeat", "0"],
        "nothing to measure",
        "at least once",
    );
}

#[test]
fn a_bench_of_servers_prints_one_object() {
    let bench = Bench::new();
    let args = [
        "bench",
        "remote",
        "--paths",
        "8",
        "--prompt",
        "40",
        "--new",
        "5",
        "--servers",
        "2",
        "--seconds",
        "0.2",
        "--repeat",
        "1",
    ];
    let found = bench.leap(&args).succeeds().stdout;
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    assert!(
        found["requests_per_second"]["median"].as_f64() > Some(0.0),
        "{found}"
    );
    assert_eq!(found["failures"], "");
    check_error(
        &["bench", "remote", "--paths", "0"],
        "nothing to measure",
        "above 0",
    );
}

#[test]
fn a_bench_needs_a_model_and_something_to_measure() {
    check_error(
        &["bench", "decode", "nowhere"],
        "no model folder `nowhere`",
        "config.json",
    );
    check_error(
        &["bench", "decode", ".", "--repeat", "0"],
        "nothing to measure",
        "at least 1",
    );
    check_error(
        &["bench", "leap", ".", "--problems", "0"],
        "nothing to measure",
        "at least 1",
    );
}

#[test]
#[cfg(target_os = "linux")]
fn data_that_cannot_be_written_is_an_error() {
    let bench = Bench::new();
    let full = std::fs::File::options().write(true).open("/dev/full");
    let mut command = bench.command(&["recipe", "cat", "tiny"]);
    command.stdout(full.expect("the device that is always full"));
    let ran = command.output().expect("leap starts");
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("cannot write to stdout"), "{stderr}");
    // Who has read enough is no error.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = bench.command(&["recipe", "cat", "tiny"]);
    let ran = command.stdout(writer).output().expect("leap starts");
    assert_eq!(
        (ran.status.code(), ran.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}

#[test]
fn a_recipe_whose_path_looks_like_an_override_is_checked() {
    let bench = Bench::new();
    let tiny = bench.leap(&["recipe", "cat", "tiny"]).succeeds().stdout;
    let wrong = tiny.replace("turn_tokens", "turn_tokenz");
    for name in ["lr=1/own.toml", "seed=2.toml"] {
        bench.write(name, &wrong);
        let checked = bench.leap(&["recipe", "check", name]);
        assert_eq!(checked.code, Some(1), "{name}: {}", checked.stderr);
        bench.write(name, &tiny);
        let checked = bench.leap(&["recipe", "check", name, "seed=3"]).succeeds();
        assert_eq!(checked.stdout, format!("{name}: valid\n"));
    }
    bench
        .leap(&["recipe", "check", "no/a=b.toml"])
        .code
        .filter(|code| *code == 1)
        .expect("a file that is not there is no override");
    bench
        .leap(&["recipe", "check", "seed=abc"])
        .fails("there is no recipe to be checked");
}

#[test]
fn a_recipe_with_line_ends_of_two_characters_is_shown_as_toml() {
    let bench = Bench::new();
    bench.write("mine.toml", "# Mine\r\nseed = 1\r\n# \u{1b} \r end\r\n");
    let cat = bench
        .leap(&["recipe", "cat", "mine.toml"])
        .succeeds()
        .stdout;
    assert_eq!(cat, "# Mine\nseed = 1\n# \\u001b \\u000d end\n");
}
