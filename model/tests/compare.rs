//! Checkpoint folders beside each other, in other number formats, and with all that is wrong.

#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests fail on files that cannot be read"
)]

mod place;
mod small;

use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use model::checkpoint::{
    self, CheckpointError, ExportSettings, Presence, SaveSettings, TensorType, compare, damages,
    describe, export,
};
use model::decoder::Decoder;
use model::device::Dtype;
use place::{Place, config, content, device, every, lineage, values};
use serde_json::{Value, json};

const NORM: &str = "model.norm.weight";
const QUERY: &str = "model.layers.1.self_attn.q_proj.weight";

fn model() -> Decoder {
    Decoder::init(&config("qwen2", false), 5, &device())
}

/// The model with other values in one tensor.
fn with(model: &Decoder, tensor: &str, change: impl Fn(&mut [f32])) -> Decoder {
    let (_, bits) = values(model)[tensor].clone();
    let mut numbers: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
    change(&mut numbers);
    model
        .clone()
        .with_values(|name, _| (name == tensor).then(|| numbers.clone()))
}

fn saved(place: &Place, name: &str, model: &Decoder) -> PathBuf {
    place
        .save(name, model, SaveSettings::new(Dtype::F32))
        .unwrap();
    place.path(name)
}

fn to(stored: TensorType) -> ExportSettings {
    ExportSettings {
        stored,
        shard_bytes: 5_000_000_000,
    }
}

fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn equal_folders_have_no_difference_whatever_their_files() {
    let place = Place::new();
    let one = saved(&place, "one", &model());
    place.save("many", &model(), every(700)).unwrap();
    let found = compare(&one, &place.path("many")).unwrap();
    assert!(found.is_equal(), "{found:?}");
    assert_eq!(
        found.equal_tensors,
        checkpoint::tensors(&config("qwen2", false)).len()
    );
    assert_eq!((found.max_abs, found.relative), (0.0, Some(0.0)));
    assert_eq!(
        (found.tokenizer, found.chat_template),
        (Presence::Absent, Presence::Equal)
    );
}

#[test]
fn differences_are_measured_as_by_hand() {
    let place = Place::new();
    let a = with(&model(), NORM, |values| {
        values.copy_from_slice(&[3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    });
    let b = with(&a, NORM, |values| {
        values[1] = 3.5;
        values[5] = -0.25;
    });
    let found = compare(&saved(&place, "a", &a), &saved(&place, "b", &b)).unwrap();
    let [tensor] = found.tensors.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((tensor.name.as_str(), tensor.max_abs), (NORM, Some(0.5)));
    // |(0.5, 0.25)| / |(3, 4)|
    let expected = ((0.25_f64 + 0.0625) / 25.0).sqrt();
    assert_eq!((tensor.relative, tensor.not_finite), (Some(expected), 0));
    assert_eq!(found.max_abs, 0.5);
    assert!(
        found.relative.unwrap() < expected,
        "the other tensors count too"
    );
    assert!(!found.is_equal() && found.config.is_empty());
    // From zeros there is no share.
    let zeros = with(&a, NORM, |values| values.fill(0.0));
    let found = compare(&saved(&place, "zeros", &zeros), &place.path("a")).unwrap();
    assert_eq!(
        (found.tensors[0].relative, found.tensors[0].max_abs),
        (None, Some(4.0))
    );
    // A zero of the other sign is another bit, at no distance.
    let sign = with(&a, NORM, |values| values[7] = -0.0);
    let found = compare(&place.path("a"), &saved(&place, "sign", &sign)).unwrap();
    assert_eq!(
        (found.tensors.len(), found.tensors[0].max_abs),
        (1, Some(0.0))
    );
}

#[test]
fn numbers_that_are_not_finite_are_counted_apart() {
    let place = Place::new();
    let (a, b) = (saved(&place, "a", &model()), saved(&place, "b", &model()));
    // The last tensor of the file is the last query, key or value of a layer: any will do.
    let path = b.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[length - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let found = compare(&a, &b).unwrap();
    let [tensor] = found.tensors.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((tensor.not_finite, tensor.max_abs), (1, Some(0.0)));
    assert!(
        compare(&b, &b).unwrap().is_equal(),
        "the same NaN is no difference"
    );
}

#[test]
fn everything_else_of_two_folders_is_compared_too() {
    let place = Place::new();
    let a = saved(&place, "a", &model());
    let other = Decoder::init(&config("qwen3", true), 5, &device());
    let b = saved(&place, "b", &other);
    small::tokenizer().save(&b).unwrap();
    fs::write(b.join("chat_template.jinja"), "{{ bos_token }}").unwrap();
    let found = compare(&a, &b).unwrap();
    let keys: Vec<&str> = found.config.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "architectures",
            "attention_bias",
            "model_type",
            "tie_word_embeddings"
        ]
    );
    let tied = &found.config[3];
    assert_eq!((&tied.a, &tied.b), (&json!(false), &json!(true)));
    assert!(found.only_in_a.contains(&"lm_head.weight".to_owned()));
    assert!(
        found
            .only_in_b
            .contains(&"model.layers.0.self_attn.q_norm.weight".to_owned())
    );
    assert_eq!(
        (found.tokenizer, found.chat_template),
        (Presence::OnlyInB, Presence::Differs)
    );
    let back = compare(&b, &a).unwrap();
    assert_eq!(
        (back.only_in_b, back.tokenizer),
        (found.only_in_a, Presence::OnlyInA)
    );
    // Shapes that differ are said, not measured.
    let mut narrow = config("qwen2", false);
    narrow.vocab_size = 20;
    let narrow = saved(&place, "narrow", &Decoder::init(&narrow, 5, &device()));
    let found = compare(&a, &narrow).unwrap();
    let head = found
        .tensors
        .iter()
        .find(|one| one.name == "lm_head.weight")
        .unwrap();
    assert_eq!(
        (&head.shape_a, &head.shape_b, head.max_abs),
        (&vec![24, 8], &vec![20, 8], None)
    );
    assert!(compare(&a, &place.path("from")).is_err() && compare(&a, &place.path("no")).is_err());
}

#[test]
fn an_export_rounds_to_the_nearest_and_says_what_it_is_from() {
    for (stored, name, round) in [
        (
            TensorType::F16,
            "float16",
            (|x| f16::from_f32(x).to_f32()) as fn(f32) -> f32,
        ),
        (TensorType::Bf16, "bfloat16", |x| bf16::from_f32(x).to_f32()),
        (TensorType::F32, "float32", |x| x),
    ] {
        let place = Place::new();
        let dir = saved(&place, "model", &model());
        small::tokenizer().save(&dir).unwrap();
        for (file, text) in [
            ("LICENSE.txt", "free"),
            ("README.md", "# m"),
            ("notes", "no"),
        ] {
            fs::write(dir.join(file), text).unwrap();
        }
        edit_json(&dir.join("config.json"), |config| {
            config["transformers_version"] = json!("4.5")
        });
        let out = place.path("out");
        let written = export(&dir, &out, to(stored)).unwrap();
        let (_, loaded) = checkpoint::load(&out, &device(), Dtype::F32).unwrap();
        let rounded = values(&loaded);
        for (name, (_, bits)) in values(&model()) {
            let expected: Vec<u32> = bits
                .iter()
                .map(|&x| round(f32::from_bits(x)).to_bits())
                .collect();
            assert_eq!(rounded[&name].1, expected, "{name} {stored:?}");
        }
        let (before, after) = (content(&dir), content(&out));
        for file in [
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
            "LICENSE.txt",
            "README.md",
            "generation_config.json",
        ] {
            assert_eq!(before[file], after[file], "{file}");
        }
        assert!(!after.contains_key("notes"));
        let read: Value = serde_json::from_slice(&after["config.json"]).unwrap();
        assert_eq!(
            (&read["torch_dtype"], &read["transformers_version"]),
            (&json!(name), &json!("4.5"))
        );
        let (_, record) = checkpoint::verify(&out).unwrap();
        let made = record.unwrap().made_from;
        let exported = made.exported.clone().unwrap();
        assert_eq!(exported.from, checkpoint::hash(&dir).unwrap());
        assert_eq!(
            exported.from_weights,
            checkpoint::weights_hash(&dir).unwrap()
        );
        assert_eq!(
            (made.step, made.samples),
            (lineage().step, lineage().samples)
        );
        assert_eq!(written.sha256, checkpoint::weights_hash(&out).unwrap());
        assert_eq!(
            place.names(),
            ["from", "model", "out"],
            "nothing is left beside it"
        );
    }
}

#[test]
fn an_export_of_an_export_in_f32_is_the_same_weights() {
    let place = Place::new();
    let dir = saved(&place, "model", &model());
    let steps = [
        ("short", TensorType::Bf16),
        ("long", TensorType::F32),
        ("again", TensorType::Bf16),
    ];
    let mut from = dir;
    for (name, stored) in steps {
        let settings = ExportSettings {
            stored,
            shard_bytes: 700,
        };
        let saved = export(&from, &place.path(name), settings).unwrap();
        assert!(saved.files.len() > 2, "{:?}", saved.files);
        from = place.path(name);
    }
    let hash = |name: &str| checkpoint::weights_hash(&place.path(name)).unwrap();
    assert_eq!(hash("short"), hash("again"));
    assert_ne!(hash("short"), hash("long"));
}

#[test]
fn an_export_writes_nothing_that_is_broken() {
    let place = Place::new();
    let large = with(&model(), NORM, |values| values[2] = 70_000.0);
    let dir = saved(&place, "model", &large);
    let error = export(&dir, &place.path("out"), to(TensorType::F16)).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::NotFinite { name, element: 2, .. } if name == NORM),
        "{error}"
    );
    export(&dir, &place.path("out"), to(TensorType::Bf16)).unwrap();
    let again = export(&dir, &place.path("out"), to(TensorType::Bf16));
    assert!(matches!(again, Err(CheckpointError::Exists { .. })));
    // Weights that are not those of the lineage are damaged, whatever they were.
    let path = dir.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let changed = export(&dir, &place.path("more"), to(TensorType::F32));
    assert!(matches!(changed, Err(CheckpointError::Changed { .. })));
    assert_eq!(place.names(), ["from", "model", "out"]);
}

/// All that is wrong with a folder, a line each.
fn wrong(dir: &Path) -> Vec<String> {
    let found = damages(dir).unwrap().into_iter();
    found
        .map(|one| format!("{}: {}", one.file, one.problem))
        .collect()
}

/// Breaks a saved model and checks what is said: a line for each, with these words in it.
#[track_caller]
fn check_wrong(lines: &[&[&str]], break_it: impl FnOnce(&Path)) {
    let place = Place::new();
    place.save("model", &model(), every(700)).unwrap();
    let dir = place.path("model");
    assert_eq!(wrong(&dir), Vec::<String>::new());
    break_it(&dir);
    let found = wrong(&dir);
    assert_eq!(found.len(), lines.len(), "{found:#?}");
    for (line, words) in found.iter().zip(lines) {
        for word in *words {
            assert!(line.contains(word), "`{word}` is not in: {line}");
        }
    }
}

/// The file that holds a tensor, by the index.
fn home(dir: &Path, tensor: &str) -> PathBuf {
    let index = fs::read(dir.join("model.safetensors.index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    dir.join(index["weight_map"][tensor].as_str().unwrap())
}

#[test]
fn all_that_is_wrong_is_named_with_its_file() {
    check_wrong(&[&["lineage.json", "hash"]], |dir| {
        let path = home(dir, QUERY);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    });
    check_wrong(
        &[&["generation_config.json", "99999", "outside the vocabulary"]],
        |dir| {
            let path = dir.join("generation_config.json");
            fs::write(path, r#"{"eos_token_id": [1, 99999]}"#).unwrap();
        },
    );
    // A file that is gone is one thing that is wrong, not one for each of its tensors.
    check_wrong(
        &[&["model-00001-of-", "cannot read or write it: "]],
        |dir| {
            fs::remove_file(home(dir, "model.embed_tokens.weight")).unwrap();
        },
    );
    check_wrong(
        &[
            &["model-0", ": it is not a sound safetensors file"],
            &["tokenizer.json", "JSON"],
            &["chat_template.jinja", "chat template"],
        ],
        |dir| {
            fs::write(home(dir, QUERY), [2, 0, 0, 0, 0, 0, 0, 0, b'{', b'}', 1]).unwrap();
            fs::write(dir.join("tokenizer.json"), "{").unwrap();
            fs::write(dir.join("chat_template.jinja"), "{% if").unwrap();
        },
    );
    check_wrong(&[&["config.json", "JSON"], &["lineage.json"]], |dir| {
        fs::write(dir.join("config.json"), "{\"model_type\": ").unwrap();
        fs::write(dir.join("lineage.json"), "[]").unwrap();
    });
    check_wrong(&[&["model.safetensors.index.json: EOF", "line 1"]], |dir| {
        fs::write(dir.join("model.safetensors.index.json"), "{").unwrap();
    });
    check_wrong(&[&["tokenizer.json", "ids up to"]], |dir| {
        small::tokenizer().save(dir).unwrap();
    });
    check_wrong(
        &[
            &["model.safetensors.index.json", "lm_head.weight", "missing"],
            &["model-0", "model.layers.1.", "no place"],
        ],
        |dir| {
            // The head is gone from the index too, and there is a tensor too many.
            let head = home(dir, "lm_head.weight");
            edit_json(&dir.join("model.safetensors.index.json"), |index| {
                index["weight_map"]
                    .as_object_mut()
                    .unwrap()
                    .remove("lm_head.weight");
            });
            let lone = fs::read(&head).unwrap();
            let lone = safetensors::SafeTensors::deserialize(&lone).unwrap();
            assert_eq!(lone.names(), ["lm_head.weight"]);
            fs::remove_file(&head).unwrap();
            let extra = home(dir, QUERY);
            let bytes = fs::read(&extra).unwrap();
            let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let mut tensors: Vec<_> = tensors.tensors().into_iter().collect();
            let more = (
                "model.layers.1.more.weight".to_owned(),
                tensors[0].1.clone(),
            );
            tensors.push(more);
            let written = safetensors::serialize(tensors, None).unwrap();
            let name = extra.file_name().unwrap().to_string_lossy().into_owned();
            fs::write(&extra, written).unwrap();
            edit_json(&dir.join("model.safetensors.index.json"), |index| {
                index["weight_map"]["model.layers.1.more.weight"] = json!(name);
            });
        },
    );
    let place = Place::new();
    let dir = saved(&place, "model", &model());
    let path = dir.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize + 8;
    bytes[header..header + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let length = bytes.len();
    bytes[length - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let found = wrong(&dir);
    assert_eq!(found.len(), 2, "every bad tensor is named: {found:#?}");
    assert!(
        found
            .iter()
            .all(|line| line.starts_with("model.safetensors: tensor `"))
    );
}

#[test]
fn what_is_no_checkpoint_is_not_called_damaged() {
    let place = Place::new();
    assert!(matches!(
        damages(&place.path("no")),
        Err(CheckpointError::NoFolder { .. })
    ));
    assert!(matches!(
        damages(&place.path("from")),
        Err(CheckpointError::Config(_))
    ));
    let dir = saved(&place, "model", &model());
    edit_json(&dir.join("config.json"), |config| {
        config["architectures"] = json!(["GPT2LMHeadModel"])
    });
    assert!(matches!(damages(&dir), Err(CheckpointError::Config(_))));
    let dir = saved(&place, "other", &model());
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    assert!(matches!(
        damages(&dir),
        Err(CheckpointError::NoWeights { .. })
    ));
}

#[test]
fn a_folder_is_described_by_what_is_in_it() {
    let place = Place::new();
    place.save("model", &model(), every(700)).unwrap();
    let dir = place.path("model");
    let found = describe(&dir).unwrap();
    let config = config("qwen2", false);
    assert_eq!(
        (found.architecture, found.parameters),
        ("qwen2", config.parameter_count())
    );
    assert_eq!(found.bytes, 4 * config.parameter_count());
    assert_eq!(
        found.tensors.into_iter().collect::<Vec<_>>(),
        [("F32", checkpoint::tensors(&config).len())]
    );
    assert!(found.files > 4 && found.chat_template && !found.tied);
    assert_eq!(
        (found.tokenizer, found.lineage.unwrap().made_from),
        (None, lineage())
    );
    assert_eq!(found.hash, checkpoint::hash(&dir).unwrap());
    assert_eq!(found.weights_hash, checkpoint::weights_hash(&dir).unwrap());
}
