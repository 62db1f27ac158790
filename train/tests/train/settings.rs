//! The keys of a recipe's training table: what is read, what is refused, and with which words.

use serde_json::{Value, json};
use train::TrainSettings;

/// A complete table.
fn table() -> Value {
    json!({
        "epochs": 2.0, "samples_per_step": 4, "tokens_per_micro_batch": 64, "max_tokens": 32,
        "lr": 1e-3, "schedule": "cosine", "warmup": 0.05, "min_lr_ratio": 0.0,
        "weight_decay": 1e-4, "decay_on": "matrices", "beta1": 0.9, "beta2": 0.999, "eps": 1e-8,
        "clip_norm": 1.0, "train_on": "own", "save_every_steps": 0, "keep": 1,
    })
}

/// The table with `changes`; a null takes a key out.
fn read(changes: Value) -> Result<TrainSettings, String> {
    let mut table = table();
    for (key, value) in changes.as_object().expect("an object") {
        match value {
            Value::Null => table.as_object_mut().expect("an object").remove(key),
            _ => table
                .as_object_mut()
                .expect("an object")
                .insert(key.clone(), value.clone()),
        };
    }
    let settings: TrainSettings = serde_json::from_value(table).map_err(|e| e.to_string())?;
    settings.check().map_err(|e| e.to_string())?;
    Ok(settings)
}

#[track_caller]
fn check_refused(changes: Value, words: &str) {
    let error = read(changes).expect_err("these settings cannot work");
    assert!(error.contains(words), "`{error}` does not say `{words}`");
}

#[track_caller]
fn check_same_after_writing(changes: Value) {
    let settings = read(changes).expect("these settings work");
    let text = serde_json::to_string(&settings).expect("settings can be written");
    assert_eq!(
        serde_json::from_str::<TrainSettings>(&text).expect("and read"),
        settings,
        "{text}"
    );
}

#[test]
fn written_settings_read_the_same() {
    check_same_after_writing(json!({}));
    check_same_after_writing(json!({ "epochs": null, "tokens": 1_000_000 }));
    check_same_after_writing(json!({ "epochs": null, "steps": 50, "schedule": "linear" }));
    check_same_after_writing(json!({ "clip_norm": "none", "decay_on": "all" }));
    check_same_after_writing(json!({ "clip_norm": 2, "schedule": "constant" }));
    check_same_after_writing(json!({ "train_on": "own+trigger" }));
    check_same_after_writing(json!({ "optimizer": "device", "recompute": "blocks" }));
    check_same_after_writing(json!({ "moments": "8bit", "sums": "host" }));
    check_same_after_writing(json!({ "train_on": "all" }));
    check_same_after_writing(json!({ "train_on": { "summary": 0.3, "answer": 2 } }));
}

#[test]
fn nothing_is_guessed() {
    for key in table().as_object().expect("an object").keys() {
        let words = if key == "epochs" {
            "0 of `epochs`"
        } else {
            "missing field"
        };
        check_refused(json!({ key: null }), words);
    }
    check_refused(json!({ "steps": 3 }), "2 of `epochs`, `steps` and `tokens`");
    check_refused(
        json!({ "learning_rate": 1e-4 }),
        "unknown field `learning_rate`",
    );
    check_refused(
        json!({ "train_on": { "sumary": 1.0 } }),
        "unknown field `sumary`",
    );
    check_refused(
        json!({ "train_on": "mine" }),
        "\"own\", \"own+trigger\", \"all\" or a table",
    );
    check_refused(json!({ "clip_norm": "off" }), "a number or \"none\"");
}

#[test]
fn ranges_are_checked() {
    check_refused(json!({ "lr": 0.0 }), "`lr` is 0");
    check_refused(json!({ "lr": -1e-5 }), "`lr` is -0.00001");
    check_refused(json!({ "epochs": 0.0 }), "`epochs` is 0");
    check_refused(json!({ "epochs": null, "steps": 0 }), "`steps` is 0");
    check_refused(json!({ "epochs": null, "tokens": 0 }), "`tokens` is 0");
    check_refused(json!({ "samples_per_step": 0 }), "`samples_per_step` is 0");
    check_refused(json!({ "warmup": 1.5 }), "`warmup` is 1.5");
    check_refused(json!({ "min_lr_ratio": -0.1 }), "`min_lr_ratio` is -0.1");
    check_refused(json!({ "beta2": 1.0 }), "`beta2` is 1");
    check_refused(json!({ "eps": 0.0 }), "`eps` is 0");
    check_refused(json!({ "clip_norm": 0.0 }), "`clip_norm` is 0");
    check_refused(json!({ "weight_decay": -1.0 }), "`weight_decay` is -1");
    check_refused(json!({ "keep": 0 }), "`keep` is 0");
    check_refused(json!({ "max_tokens": 1 }), "`max_tokens` is 1");
    check_refused(
        json!({ "max_tokens": 65 }),
        "`tokens_per_micro_batch` is 64, below",
    );
    check_refused(
        json!({ "sums": "host", "optimizer": "device" }),
        "`sums` is \"host\" and `optimizer` is \"device\"",
    );
    check_refused(
        json!({ "moments": "8bit", "optimizer": "device" }),
        "set `optimizer` to \"host\"",
    );
    check_refused(
        json!({ "train_on": { "answer": -1.0 } }),
        "`train_on` is -1",
    );
}
