//! Adapters: against `peft`, merged, saved, and what they leave alone.

use std::path::{Path, PathBuf};

use crate::miniature::{Place, Training, config, curve, device, sample, samples, settings};
use model::checkpoint::{self, AdapterFile, ExportSettings, TensorType};
use model::decoder::Decoder;
use model::device::Dtype;
use model::lora::{Linear, LoraSettings};
use model::packed::Packed;
use protocol::{Sample, SpanKind};
use safetensors::SafeTensors;
use train::{Event, Outcome, Start, TrainError, TrainOn, TrainSettings, loss_and_gradients};

fn lora(dropout: f64) -> LoraSettings {
    LoraSettings {
        rank: 4,
        alpha: 8.0,
        dropout,
        targets: Linear::ALL.to_vec(),
    }
}

fn training(dropout: f64) -> Training {
    Training::new(TrainSettings {
        lora: Some(lora(dropout)),
        ..settings()
    })
}

fn logits(decoder: &Decoder, ids: &[u32]) -> Vec<f32> {
    let logits = decoder.logits(decoder.hidden(&Packed::new([ids])));
    logits.into_data().try_into_vec().expect("f32")
}

fn distance(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    let distances = one.iter().zip(other).map(|(a, b)| (a - b).abs());
    distances.fold(0.0, f32::max)
}

/// The base of the miniature as a folder.
fn base_folder(place: &Place) -> PathBuf {
    let folder = place.path("base");
    let decoder = Decoder::init(&config(), 5, &device());
    let lineage = crate::miniature::lineage();
    let from = place.path("no tokenizer");
    std::fs::create_dir_all(&from).expect("a folder");
    checkpoint::save(&folder, &config(), &decoder, &from, &lineage).expect("it saves");
    folder
}

#[test]
fn only_adapters_are_trained_saved_and_merged() {
    let place = Place::new();
    let events = training(0.0).finish(&place);
    let Event::Started(started) = &events[0] else {
        panic!("{:?}", events[0])
    };
    let per_layer = 4 * (32 + 32 + 2 * (32 + 16) + 32 + 32 + 3 * (32 + 48));
    assert_eq!(started.trained_parameters, 2 * per_layer);
    assert!(started.parameters > started.trained_parameters);
    let names: Vec<String> = place.checkpoint().into_iter().map(|file| file.0).collect();
    for name in [
        "adapter_config.json",
        "adapter_model.safetensors",
        "lineage.json",
        "tokenizer.json",
    ] {
        assert!(names.iter().any(|found| found == name), "no {name}");
    }
    assert!(!names.iter().any(|name| name == "model.safetensors"));

    let adapter = AdapterFile::read(&place.path("out"), &config()).expect("it is sound");
    assert_eq!(adapter.settings, lora(0.0));
    let moved = |values: &Vec<f32>| values.iter().any(|value| *value != 0.0);
    assert!(adapter.matrices.values().all(moved), "both matrices moved");

    let ids = [3, 9, 17, 4, 30, 31];
    let base = Decoder::init(&config(), 5, &device());
    let plain = logits(&base, &ids);
    let adapted = adapter.put_on(base);
    let with_adapter = logits(&adapted, &ids);
    assert!(distance(&plain, &with_adapter) > 1e-3, "it does something");
    assert!(distance(&with_adapter, &logits(&adapted.merged(), &ids)) < 1e-5);

    let base = base_folder(&place);
    let export = |stored| ExportSettings {
        stored,
        shard_bytes: 1 << 30,
    };
    let merged = place.path("merged");
    checkpoint::merge(&base, &place.path("out"), &merged, export(TensorType::F32))
        .expect("it merges");
    let (_, merged) = checkpoint::load(&merged, &device(), Dtype::F32).expect("it loads");
    assert!(distance(&with_adapter, &logits(&merged, &ids)) < 1e-5);
    // One rounding: each bf16 weight is the nearest to the f32 one.
    let rounded = place.path("rounded");
    let settings = export(TensorType::Bf16);
    checkpoint::merge(&base, &place.path("out"), &rounded, settings).expect("it merges");
    let (_, rounded) = checkpoint::load(&rounded, &device(), Dtype::F32).expect("it loads");
    for (exact, rounded) in merged.parameters().iter().zip(rounded.parameters()) {
        let values = |data: model::parameters::Parameter| {
            data.data().try_into_vec::<f32>().expect("f32 values")
        };
        for (exact, rounded) in values(exact.clone()).iter().zip(values(rounded)) {
            assert!(
                (exact - rounded).abs() <= exact.abs() / 256.0,
                "{exact} {rounded}"
            );
        }
    }
}

#[test]
fn frozen_weights_get_no_gradient_and_no_state() {
    let decoder = Decoder::init(&config(), 5, &device().autodiff());
    let decoder = decoder.with_fresh_adapters(&lora(0.0), 1);
    let found = loss_and_gradients(&decoder, &samples(4), &TrainOn::Own, 64);
    assert_eq!(found.parameters.len(), 28);
    for (name, gradient) in &found.parameters {
        let zero = gradient.iter().all(|g| *g == 0.0);
        // The second matrix is 0 at first, so nothing reaches the first one.
        assert_eq!(zero, name.contains("lora_A"), "{name}");
    }
    let place = Place::new();
    let mut with_state = training(0.0);
    with_state.settings.save_every_steps = 19;
    with_state.finish(&place);
    let path = place.path("state/step-00000019/trainer.safetensors");
    let bytes = std::fs::read(path).expect("the state");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    assert_eq!(tensors.len(), 3 * 28);
    assert!(tensors.names().iter().all(|name| name.contains(".lora_")));
}

#[test]
fn dropout_depends_on_the_sample_and_not_on_its_company() {
    let losses = |dropout, tokens_per_micro_batch| {
        let mut training = training(dropout);
        training.settings.tokens_per_micro_batch = tokens_per_micro_batch;
        let curve = curve(&training.finish(&Place::new()));
        curve
            .into_iter()
            .map(|step| f64::from_bits(step.1))
            .collect::<Vec<_>>()
    };
    let (alone, together, without) = (losses(0.4, 64), losses(0.4, 1000), losses(0.0, 64));
    let far = |one: &[f64], other: &[f64]| {
        let distances = one.iter().zip(other).map(|(a, b)| (a - b).abs());
        distances.fold(0.0, f64::max)
    };
    assert!(far(&alone, &together) < 1e-5, "{}", far(&alone, &together));
    assert!(far(&alone, &without) > 1e-4, "it drops something");
}

#[test]
fn stopped_at_any_step_it_ends_with_the_same_bytes() {
    let straight = Place::new();
    training(0.2).finish(&straight);
    for at in [1, 2, 10, 19] {
        let place = Place::new();
        let outcome = training(0.2).run(&place, |event, stop| {
            if matches!(event, Event::Step(step) if step.step == at) {
                stop.stop(None);
            }
        });
        assert!(
            matches!(outcome, Ok(Outcome::Stopped { .. })),
            "{outcome:?}"
        );
        training(0.2).finish(&place);
        assert!(
            place.checkpoint() == straight.checkpoint(),
            "stopped at {at}"
        );
    }
}

#[test]
fn an_adapter_that_nothing_reaches_is_named() {
    let mut training = training(0.0);
    let config = model::ModelConfig {
        initializer_range: 0.0,
        ..config()
    };
    training.start = Start::FromScratch {
        config: Box::new(config),
        seed: 5,
    };
    let error = training.run(&Place::new(), |_, _| {}).expect_err("idle");
    let TrainError::NoGradient { names } = &error else {
        panic!("{error}")
    };
    assert!(
        names.iter().all(|name| name.ends_with("lora_B.weight")),
        "{error}"
    );
}

#[test]
fn an_adapter_of_another_model_or_kind_is_refused() {
    let place = Place::new();
    training(0.0).finish(&place);
    let folder = place.path("out");
    let read = |folder: &Path| AdapterFile::read(folder, &config()).map_err(|e| e.to_string());
    let path = folder.join("adapter_config.json");
    let sound = std::fs::read_to_string(&path).expect("the config");
    for (change, with, words) in [
        ("\"LORA\"", "\"IA3\"", "`peft_type` is \"IA3\""),
        (
            "\"use_dora\": false",
            "\"use_dora\": true",
            "`use_dora` is true",
        ),
        (
            "\"bias\": \"none\"",
            "\"bias\": \"all\"",
            "`bias` is \"all\"",
        ),
        ("\"r\": 4", "\"r\": 0", "`r` is 0"),
        ("\"r\": 4", "\"r\": 5", "has shape"),
        ("\"up_proj\"", "\"lm_head\"", "`target_modules` is"),
        (",\n    \"v_proj\"", "", "has no place"),
        ("\"lora_alpha\": 8", "\"lora_alpha\": 0", "`target_modules`"),
    ] {
        let changed = sound.replace(change, with);
        assert_ne!(changed, sound, "{change} is in {sound}");
        std::fs::write(&path, changed).expect("a file");
        let error = read(&folder).expect_err(words);
        assert!(error.contains(words), "`{error}` does not say `{words}`");
    }
    std::fs::write(&path, &sound).expect("a file");
    // Its lineage names another base.
    let lineage = folder.join("lineage.json");
    let text = std::fs::read_to_string(&lineage).expect("the lineage");
    let other = text.replace("\"base\": \"\"", "\"base\": \"0123\"");
    assert_ne!(text, other);
    std::fs::write(&lineage, other).expect("a file");
    let base = base_folder(&place);
    let settings = ExportSettings {
        stored: TensorType::F32,
        shard_bytes: 1 << 30,
    };
    let error = checkpoint::merge(&base, &folder, &place.path("merged"), settings);
    let error = error.expect_err("another base").to_string();
    assert!(error.contains("was trained on checkpoint 0123"), "{error}");
    std::fs::remove_file(folder.join("adapter_model.safetensors")).expect("it was there");
    assert!(
        read(&folder)
            .expect_err("gone")
            .contains("no adapter folder")
    );
}

/// `peft`'s adapter on the golden qwen2, if there are golden files (see `parity.rs`).
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn golden() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = match std::env::var_os("LEAP_FIXTURES") {
        Some(folder) => root.join(folder),
        None => root.join("../shared/fixtures"),
    };
    let folder = folder.join("qwen2");
    if !folder.join("adapter").is_dir() {
        assert!(
            std::env::var_os("LEAP_FIXTURES").is_none(),
            "no qwen2/adapter"
        );
        eprintln!("skipped: LEAP_FIXTURES is not set");
        return None;
    }
    Some(folder)
}

#[test]
fn logits_loss_gradients_and_merged_weights_are_those_of_peft() {
    let Some(folder) = golden() else { return };
    let bytes = std::fs::read(folder.join("expected.safetensors")).expect("arrays");
    let arrays = SafeTensors::deserialize(&bytes).expect("safetensors");
    let floats = |name: &str| -> Vec<f32> {
        let view = arrays.tensor(name).expect("an array");
        let words = view.data().as_chunks::<4>().0.iter();
        words.map(|word| f32::from_le_bytes(*word)).collect()
    };
    let integers = |name: &str| -> Vec<i64> {
        let view = arrays.tensor(name).expect("an array");
        let words = view.data().as_chunks::<8>().0.iter();
        words.map(|word| i64::from_le_bytes(*word)).collect()
    };
    let text = std::fs::read_to_string(folder.join("expected.json")).expect("expected.json");
    let expected: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let device = device().autodiff();
    let (config, decoder) = checkpoint::load(&folder, &device, Dtype::F32).expect("it loads");
    let adapter = AdapterFile::read(&folder.join("adapter"), &config).expect("it is sound");
    assert_eq!(adapter.settings.scale(), 2.0);
    let decoder = adapter.put_on(decoder);
    let (ids, kept, loss) = (
        integers("input_ids"),
        integers("attention_mask"),
        integers("loss_mask"),
    );
    let width = arrays.tensor("input_ids").expect("an array").shape()[1];
    let expected_logits = floats("lora.logits");
    let mut samples: Vec<Sample> = Vec::new();
    for row in 0..ids.len() / width {
        let places: Vec<usize> = (row * width..(row + 1) * width)
            .filter(|place| kept[*place] == 1)
            .collect();
        let row_ids: Vec<u32> = places.iter().map(|place| ids[*place] as u32).collect();
        let found = logits(&decoder, &row_ids);
        for (position, place) in places.iter().enumerate() {
            let size = config.vocab_size;
            let found = &found[position * size..(position + 1) * size];
            let expected = &expected_logits[place * size..(place + 1) * size];
            let far = distance(found, expected);
            assert!(far < 5e-5, "logits at {place} differ by {far}");
        }
        let spans: Vec<(SpanKind, [u32; 1])> = places
            .iter()
            .map(|place| {
                let kind = match loss[*place] {
                    1 => SpanKind::Answer,
                    _ => SpanKind::Prompt,
                };
                (kind, [ids[*place] as u32])
            })
            .collect();
        let spans: Vec<(SpanKind, &[u32])> = spans
            .iter()
            .map(|(kind, id)| (*kind, id.as_slice()))
            .collect();
        samples.push(sample(&format!("row {row}"), &spans));
    }
    let found = loss_and_gradients(&decoder, &samples, &TrainOn::Own, 64);
    let expected_loss = expected["lora"]["loss"].as_f64().expect("a loss");
    assert!((found.loss - expected_loss).abs() < 2e-6, "{}", found.loss);
    let mut compared = 0;
    for (name, gradient) in &found.parameters {
        let short = name.trim_start_matches("base_model.model.");
        let expected = floats(&format!("lora.grad.{short}"));
        let norm = expected.iter().map(|g| g * g).sum::<f32>().sqrt();
        let far = distance(gradient, &expected);
        assert!(far <= 1e-5 * norm + 1e-6, "{name} differs by {far}");
        compared += 1;
    }
    assert_eq!(compared, 12);
    let merged = decoder.merged();
    for (which, name) in [
        ("q_proj", "lora.merged.q_proj"),
        ("v_proj", "lora.merged.v_proj"),
    ] {
        let expected = floats(name);
        let near = merged
            .parameters()
            .into_iter()
            .filter(|parameter| parameter.name.ends_with(&format!("{which}.weight")));
        let closest = near
            .map(|parameter| {
                let values = parameter.data().try_into_vec::<f32>().expect("f32");
                distance(&values, &expected)
            })
            .fold(f32::INFINITY, f32::min);
        assert!(closest < 1e-6, "{name} differs by {closest}");
    }
}
