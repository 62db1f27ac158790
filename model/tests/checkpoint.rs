//! Checkpoint folders: what is written reads back.

#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests fail on files that cannot be read"
)]

mod place;
mod small;

use std::fs;

use half::bf16;
use model::checkpoint::{self, CheckpointError, SaveSettings};
use model::decoder::Decoder;
use model::device::Dtype;
use model::lineage::Record;
use place::{Place, config, content, device, every, lineage, values};
use serde_json::{Value, json};

#[test]
fn what_is_written_reads_back_to_the_bit() {
    for family in ["qwen2", "qwen3", "llama"] {
        for tied in [false, true] {
            let place = Place::new();
            let config = config(family, tied);
            let model = Decoder::init(&config, 3, &device());
            let saved = place
                .save("one", &model, SaveSettings::new(Dtype::F32))
                .unwrap();
            let shards = place.save("many", &model, every(700)).unwrap();
            assert_eq!(saved.files, ["model.safetensors"]);
            assert!(shards.files.len() > 4, "{:?}", shards.files);
            assert_eq!(saved.bytes, 4 * config.parameter_count());
            for name in ["one", "many"] {
                let (read, loaded) =
                    checkpoint::load(&place.path(name), &device(), Dtype::F32).unwrap();
                assert_eq!(read, config);
                assert_eq!(values(&loaded), values(&model), "{family} {name}");
                let (_, record) = checkpoint::verify(&place.path(name)).unwrap();
                let record = record.unwrap();
                assert_eq!(
                    (&record.weights, record.made_from),
                    (&saved.sha256, lineage())
                );
            }
            assert_eq!(shards.sha256, saved.sha256);
            assert_eq!(
                checkpoint::weights_hash(&place.path("one")).unwrap(),
                saved.sha256
            );
            let hash = |name: &str| checkpoint::hash(&place.path(name)).unwrap();
            assert_eq!(hash("one"), hash("many"));
        }
    }
}

#[test]
fn the_tensors_of_a_config_are_those_of_its_decoder() {
    for (family, tied) in [("qwen2", false), ("qwen3", true), ("llama", false)] {
        let config = config(family, tied);
        let model = Decoder::init(&config, 1, &device());
        let mut expected = checkpoint::tensors(&config);
        let mut found: Vec<_> = model
            .parameters()
            .iter()
            .map(|p| (p.name.clone(), p.shape()))
            .collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        let count: usize = found
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        assert_eq!(count as u64, config.parameter_count());
    }
}

#[test]
fn equal_models_are_written_as_equal_bytes() {
    let place = Place::new();
    for name in ["a", "b"] {
        let model = Decoder::init(&config("qwen2", false), 9, &device());
        place.save(name, &model, every(900)).unwrap();
    }
    assert!(content(&place.path("a")) == content(&place.path("b")));
    let other = Decoder::init(&config("qwen2", false), 10, &device());
    place.save("c", &other, every(900)).unwrap();
    let hash = |name: &str| checkpoint::hash(&place.path(name)).unwrap();
    assert!(hash("a") == hash("b") && hash("a") != hash("c"));
}

#[test]
fn the_folder_holds_what_transformers_needs() {
    let place = Place::new();
    let dir = place.saved("qwen2", false);
    let files = content(&dir);
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let expected = [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "lineage.json",
        "model.safetensors",
        "tokenizer_config.json",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        files["tokenizer_config.json"], b"{ \"eos_token\" : null }",
        "copied unchanged"
    );
    let header = String::from_utf8_lossy(&files["model.safetensors"][8..200]).into_owned();
    assert!(
        header.starts_with(r#"{"__metadata__":{"format":"pt"}"#),
        "{header}"
    );
    let read = |name: &str| -> Value { serde_json::from_slice(&files[name]).unwrap() };
    assert_eq!(read("config.json")["torch_dtype"], "float32");
    assert_eq!(
        read("generation_config.json")["eos_token_id"],
        json!([2, 3])
    );
    let record: Record = serde_json::from_value(read("lineage.json")).unwrap();
    assert_eq!((record.schema, record.made_from.step), (1, 7));
    assert_eq!(record.made_from.toolkit, env!("CARGO_PKG_VERSION"));
    assert_eq!(
        place.names(),
        ["from", "model"],
        "nothing is left beside it"
    );
}

#[test]
fn a_generation_config_is_copied_and_read() {
    let place = Place::new();
    let text = r#"{"eos_token_id": [4], "temperature": 0.6}"#;
    fs::write(place.path("from/generation_config.json"), text).unwrap();
    let dir = place.saved("llama", true);
    assert_eq!(content(&dir)["generation_config.json"], text.as_bytes());
    let (config, _) = checkpoint::load(&dir, &device(), Dtype::F32).unwrap();
    assert_eq!(config.eos_token_id, [2, 3, 4]);
}

#[test]
fn nothing_is_overwritten() {
    let place = Place::new();
    let dir = place.saved("qwen2", true);
    let before = content(&dir);
    let model = Decoder::init(&config("qwen2", true), 6, &device());
    let again = place.save("model", &model, SaveSettings::new(Dtype::F32));
    assert!(matches!(again, Err(CheckpointError::Exists { path }) if path == dir));
    assert!(content(&dir) == before);
    // An empty folder is nobody's work; neither is what a killed run left under its hidden name.
    fs::create_dir(place.path("empty")).unwrap();
    fs::create_dir_all(place.path(".empty.partial/deep")).unwrap();
    fs::write(place.path(".empty.partial/model.safetensors"), "half").unwrap();
    place
        .save("empty", &model, SaveSettings::new(Dtype::F32))
        .unwrap();
    checkpoint::verify(&place.path("empty")).unwrap();
    place
        .save("new/deep/one", &model, SaveSettings::new(Dtype::F32))
        .unwrap();
    fs::write(place.path("file"), "x").unwrap();
    let file = place.save("file", &model, SaveSettings::new(Dtype::F32));
    assert!(matches!(file, Err(CheckpointError::Exists { .. })));
    let nameless = place.save("..", &model, SaveSettings::new(Dtype::F32));
    assert!(nameless.is_err());
    assert_eq!(place.names(), ["empty", "file", "from", "model", "new"]);
}

#[test]
fn a_model_with_a_broken_number_is_not_written() {
    for (value, dtype) in [
        (f32::NAN, Dtype::F32),
        (f32::NEG_INFINITY, Dtype::Bf16),
        (3.4e38, Dtype::Bf16),
    ] {
        let place = Place::new();
        let model = Decoder::init(&config("llama", true), 5, &device());
        let model = model.with_values(|name, shape| {
            (name == "model.norm.weight").then(|| {
                let mut values = vec![1.0; shape[0]];
                values[3] = value;
                values
            })
        });
        let error = place
            .save("out", &model, SaveSettings::new(dtype))
            .unwrap_err();
        let at = matches!(&error, CheckpointError::NotFinite { name, element: 3, .. } if name == "model.norm.weight");
        assert!(at, "{error}");
        assert_eq!(place.names(), ["from"]);
    }
}

#[test]
fn a_missing_part_is_named() {
    let place = Place::new();
    let load = |name: &str| {
        checkpoint::load(&place.path(name), &device(), Dtype::F32)
            .unwrap_err()
            .to_string()
    };
    assert!(load("nowhere").contains("nowhere"), "{}", load("nowhere"));
    assert!(load("from").contains("config.json"), "{}", load("from"));
    let dir = place.saved("qwen2", false);
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    assert!(
        load("model").contains("model.safetensors.index.json"),
        "{}",
        load("model")
    );
    let index = json!({"weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}});
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    assert!(
        load("model").contains("model-00001-of-00001.safetensors"),
        "{}",
        load("model")
    );
    fs::write(dir.join("model.safetensors.index.json"), "{").unwrap();
    assert!(load("model").contains("index.json"), "{}", load("model"));
    let nowhere = Place::new();
    let model = Decoder::init(&config("llama", true), 5, &device());
    let from = nowhere.path("no-such-folder");
    let saved = checkpoint::save(
        &nowhere.path("out"),
        model.config(),
        &model,
        &from,
        &lineage(),
    );
    assert!(matches!(saved, Err(CheckpointError::NoFolder { path }) if path == from));
}

#[test]
fn bf16_rounds_and_reads_back() {
    let place = Place::new();
    let model = Decoder::init(&config("qwen3", false), 3, &device());
    let saved = place
        .save("short", &model, SaveSettings::new(Dtype::Bf16))
        .unwrap();
    assert_eq!(saved.bytes, 2 * model.config().parameter_count());
    place
        .save("long", &model, SaveSettings::new(Dtype::F32))
        .unwrap();
    let load = |name: &str, dtype| {
        checkpoint::load(&place.path(name), &device(), dtype)
            .unwrap()
            .1
    };
    let short = values(&load("short", Dtype::F32));
    assert_eq!(
        short,
        values(&load("long", Dtype::Bf16)),
        "rounded when written or when read"
    );
    for (name, (_, bits)) in values(&model) {
        for (long, short) in bits.iter().zip(&short[&name].1) {
            let expected = bf16::from_f32(f32::from_bits(*long)).to_f32();
            assert_eq!(f32::from_bits(*short), expected, "{name}");
        }
    }
    assert_eq!(
        content(&place.path("short")).len(),
        content(&place.path("long")).len()
    );
}

#[test]
fn a_changed_weight_is_noticed() {
    let place = Place::new();
    let dir = place.saved("qwen2", true);
    checkpoint::verify(&dir).unwrap();
    let before = checkpoint::hash(&dir).unwrap();
    let path = dir.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(
        checkpoint::verify(&dir),
        Err(CheckpointError::Changed { .. })
    ));
    assert_ne!(checkpoint::hash(&dir).unwrap(), before);
}

#[test]
fn the_identity_is_of_what_the_model_does() {
    let place = Place::new();
    let dir = place.saved("qwen2", true);
    let before = checkpoint::hash(&dir).unwrap();
    fs::write(dir.join("README.md"), "a model").unwrap();
    fs::remove_file(dir.join("lineage.json")).unwrap();
    assert_eq!(checkpoint::hash(&dir).unwrap(), before);
    fs::write(dir.join("chat_template.jinja"), "{{ bos_token }}").unwrap();
    let other_template = checkpoint::hash(&dir).unwrap();
    assert_ne!(other_template, before);
    small::tokenizer().save(&dir).unwrap();
    let with_tokenizer = checkpoint::hash(&dir).unwrap();
    assert_ne!(with_tokenizer, other_template);
    let text = fs::read_to_string(dir.join("config.json")).unwrap();
    fs::write(dir.join("config.json"), text.replace("10000.0", "20000.0")).unwrap();
    assert_ne!(checkpoint::hash(&dir).unwrap(), with_tokenizer);
}

#[test]
fn a_trained_model_keeps_the_config_of_the_one_it_came_from() {
    let place = Place::new();
    let model = Decoder::init(&config("llama", true), 3, &device());
    let save = |from: &str, to: &str| {
        let settings = SaveSettings::new(Dtype::F32);
        let from = place.path(from);
        checkpoint::save_as(
            &place.path(to),
            model.config(),
            &model,
            &from,
            &lineage(),
            settings,
        )
    };
    place
        .save("base", &model, SaveSettings::new(Dtype::Bf16))
        .unwrap();
    let file = place.path("base").join("config.json");
    let read = |file: &std::path::Path| -> Value {
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    };
    let mut known = read(&file);
    known["pad_token_id"] = json!(2);
    known["transformers_version"] = json!("4.46.0");
    fs::write(&file, known.to_string()).unwrap();
    save("base", "trained").unwrap();
    known["torch_dtype"] = json!("float32");
    assert_eq!(read(&place.path("trained").join("config.json")), known);
    // The config of another shape is no source of keys.
    known["vocab_size"] = json!(known["vocab_size"].as_u64().unwrap() + 1);
    fs::write(&file, known.to_string()).unwrap();
    save("base", "other").unwrap();
    let written = read(&place.path("other").join("config.json"));
    assert_eq!(written.get("pad_token_id"), None);
}
