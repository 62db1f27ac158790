//! `leap checkpoint`: show, verify, diff, export.

mod bench;

use std::fs;

use bench::{Bench, Ran, artefacts};
use serde_json::Value;

/// A folder `model` with a checkpoint that can be loaded.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.golden_model();
    bench.write("model/README.md", "# A model\n");
    bench
}

fn says_no(ran: Ran) -> Ran {
    assert_eq!(
        ran.code,
        Some(1),
        "stdout {}, stderr {}",
        ran.stdout,
        ran.stderr
    );
    ran
}

fn show(bench: &Bench, folder: &str) -> Value {
    let ran = bench
        .leap(&["checkpoint", "show", folder, "--json"])
        .succeeds();
    serde_json::from_str(&ran.stdout).expect("JSON")
}

#[test]
fn show_says_what_a_folder_holds() {
    let bench = bench();
    let found = show(&bench, "model");
    let config = fs::read(bench.path("model/config.json")).expect("the config");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    assert_eq!(found["architecture"], "qwen2");
    assert_eq!(found["layers"], config["num_hidden_layers"]);
    assert_eq!(found["hidden"], config["hidden_size"]);
    assert_eq!(
        (&found["tied"], &found["tokenizer"]),
        (&true.into(), &Value::Null)
    );
    assert_eq!(found["weights_hash"].as_str().map(str::len), Some(64));
    let text = bench
        .leap(&["checkpoint", "show", "model"])
        .succeeds()
        .stdout;
    let parameters = format!("parameters     {}", found["parameters"]);
    for word in [
        parameters.as_str(),
        "tied to the embedding",
        "lineage        not known",
    ] {
        assert!(text.contains(word), "no `{word}` in {text}");
    }
    let nowhere = bench
        .leap(&["checkpoint", "show", "nowhere"])
        .fails("`nowhere`");
    assert!(nowhere.stderr.contains("leap pull"), "{}", nowhere.stderr);
}

#[test]
fn verify_names_everything_that_is_wrong() {
    let bench = bench();
    let verify = |bench: &Bench| bench.leap(&["checkpoint", "verify", "model"]);
    let mute = says_no(verify(&bench)).stdout;
    assert!(
        mute.starts_with("model/tokenizer.json: it is not there"),
        "{mute}"
    );
    bench.byte_tokenizer();
    fs::copy(
        bench.path("bytes/tokenizer.json"),
        bench.path("model/tokenizer.json"),
    )
    .expect("a tokenizer");
    assert_eq!(verify(&bench).succeeds().stdout, "model: good\n");
    let weights = bench.path("model/model.safetensors");
    let whole = fs::read(&weights).expect("weights");
    let mut bytes = whole.clone();
    let length = bytes.len();
    bytes[length - 2..].copy_from_slice(&[0xff, 0x7f]);
    fs::write(&weights, &bytes).expect("weights");
    bench.write("model/tokenizer.json", "{");
    let ran = says_no(verify(&bench));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ran.stdout);
    assert!(lines[0].starts_with("model/model.safetensors: tensor `") && lines[0].contains("NaN"));
    assert!(
        lines[1].starts_with("model/tokenizer.json: "),
        "{}",
        ran.stdout
    );
    fs::write(&weights, &whole[..length - 1]).expect("weights");
    says_no(verify(&bench));
    fs::remove_file(&weights).expect("weights");
    verify(&bench).fails("neither model.safetensors nor");
    fs::remove_file(bench.path("model/config.json")).expect("the config");
    verify(&bench).fails("config.json");
    bench
        .leap(&["checkpoint", "verify", "nowhere"])
        .fails("nowhere");
}

#[test]
fn export_writes_a_folder_that_diff_understands() {
    let bench = bench();
    let stored = show(&bench, "model")["tensors"].clone();
    bench
        .leap(&["checkpoint", "export", "model", "wide", "--dtype", "f32"])
        .succeeds();
    let args = [
        "checkpoint",
        "export",
        "wide",
        "narrow",
        "--dtype",
        "bf16",
        "--shard-size",
        "50kB",
    ];
    let ran = bench.leap(&args).succeeds();
    assert_eq!(ran.stdout, "narrow\n");
    assert!(bench.path("narrow/model.safetensors.index.json").exists());
    // The model has none.
    let verified = says_no(bench.leap(&["checkpoint", "verify", "narrow"])).stdout;
    assert!(
        verified.lines().count() == 1 && verified.contains("tokenizer.json"),
        "{verified}"
    );
    let files = artefacts(&bench.path("narrow"));
    assert!(
        files
            .iter()
            .any(|(name, bytes)| name == "README.md" && bytes == b"# A model\n")
    );
    let narrow = show(&bench, "narrow");
    assert_eq!(
        narrow["lineage"]["made_from"]["exported"]["from"],
        show(&bench, "wide")["hash"]
    );
    assert!(
        narrow["tensors"]["BF16"].is_number() && stored.is_object(),
        "{narrow}"
    );
    let text = bench
        .leap(&["checkpoint", "show", "narrow"])
        .succeeds()
        .stdout;
    assert!(text.contains("exported as bf16 from checkpoint"), "{text}");

    let diff = |a: &str, b: &str| bench.leap(&["checkpoint", "diff", a, b, "--json"]);
    let same: Value =
        serde_json::from_str(&diff("narrow", "narrow").succeeds().stdout).expect("JSON");
    assert_eq!(
        (&same["tensors"], &same["max_abs"]),
        (&Value::Array(Vec::new()), &0.0.into())
    );
    let other: Value = serde_json::from_str(&says_no(diff("wide", "narrow")).stdout).expect("JSON");
    assert_eq!(other["config"][0]["key"], "torch_dtype", "{other}");
    assert_eq!(other["tensors"][0]["stored_a"], "F32");
    // The model is in bf16: through f32 and back, no bit changes.
    let text = bench
        .leap(&["checkpoint", "diff", "model", "narrow"])
        .succeeds()
        .stdout;
    assert!(text.contains("tokenizer: in neither"), "{text}");

    let again = ["checkpoint", "export", "model", "wide", "--dtype", "f32"];
    bench.leap(&again).fails("`wide` is there already");
    let size = [
        "checkpoint",
        "export",
        "model",
        "x",
        "--dtype",
        "f32",
        "--shard-size",
        "5 pounds",
    ];
    bench.leap(&size).fails("--shard-size cannot be used");
    bench
        .leap(&["checkpoint", "export", "model", "x", "--dtype", "int4"])
        .fails("int4");
    bench
        .leap(&["checkpoint", "diff", "model", "nowhere"])
        .fails("nowhere");
    assert!(!bench.path("x").exists());
}
