//! `config.json`: what is read, and what is refused by name.

#![expect(
    clippy::unwrap_used,
    reason = "tests fail on files that cannot be read"
)]

use model::config::{Architecture, ConfigError, Llama3Scaling, ModelConfig};
use serde_json::{Value, json};

/// A Qwen2 config with a few keys changed; null takes a key out.
fn qwen2(changes: Value) -> String {
    let mut config = json!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 512,
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2,
    });
    change(&mut config, changes);
    config.to_string()
}

fn change(config: &mut Value, changes: Value) {
    let config = config.as_object_mut().unwrap();
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => config.remove(key),
            value => config.insert(key.clone(), value.clone()),
        };
    }
}

fn llama(changes: Value) -> String {
    let mut config: Value = serde_json::from_str(&qwen2(json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
    })))
    .unwrap();
    change(&mut config, changes);
    config.to_string()
}

fn qwen3(changes: Value) -> String {
    let mut config: Value = serde_json::from_str(&qwen2(json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 32,
    })))
    .unwrap();
    change(&mut config, changes);
    config.to_string()
}

#[track_caller]
fn parse(text: &str) -> ModelConfig {
    ModelConfig::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The error must say each of `words`: the key and its value.
#[track_caller]
fn check_refused(text: String, words: &[&str]) {
    let error = ModelConfig::parse(&text)
        .expect_err("it is refused")
        .to_string();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

#[test]
fn sizes_and_flags_are_read() {
    let config = parse(&qwen2(json!({})));
    assert_eq!(config.architecture, Architecture::Qwen2);
    assert_eq!((config.head_dim, config.num_key_value_heads), (16, 2));
    assert_eq!(
        (config.bos_token_id, config.eos_token_id.as_slice()),
        (Some(1), &[2][..])
    );
    assert!(config.attention_bias && !config.qk_norm && config.rope_scaling.is_none());
    let config = parse(&qwen3(json!({"eos_token_id": [5, 6, 5]})));
    assert!(!config.attention_bias && config.qk_norm);
    assert_eq!((config.head_dim, config.eos_token_id), (32, vec![5, 6]));
    let config = parse(&llama(
        json!({"num_key_value_heads": null, "rope_theta": null}),
    ));
    assert_eq!(
        (config.num_key_value_heads, config.rope_theta),
        (4, 10_000.0)
    );
}

#[test]
fn harmless_keys_are_passed_over() {
    for changes in [
        json!({"torch_dtype": "bfloat16", "dtype": "bfloat16", "use_cache": false}),
        json!({"transformers_version": "4.44.0", "_name_or_path": "x", "pad_token_id": 0}),
        json!({"use_mrope": false, "unknown_thing": false, "other_thing": []}),
        json!({"sliding_window": 4096, "use_sliding_window": false, "max_window_layers": 21}),
        json!({"sliding_window": 4096, "use_sliding_window": true, "max_window_layers": 2}),
        json!({"layer_types": ["full_attention", "full_attention"]}),
        json!({"rope_scaling": {"rope_type": "default"}, "partial_rotary_factor": 1.0}),
        json!({"attention_dropout": 0.0, "architectures": null}),
    ] {
        parse(&qwen2(changes));
    }
    parse(&llama(
        json!({"pretraining_tp": 1, "rope_interleaved": false, "mlp_bias": false}),
    ));
    parse(&llama(
        json!({"transformers.js_config": {"dtype": "q4"}, "is_llama_config": true}),
    ));
}

#[test]
fn rope_of_both_layouts() {
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let mut parameters = scaling.clone();
    parameters["rope_theta"] = json!(500000.0);
    let expected = Llama3Scaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let old = json!({"rope_scaling": scaling, "rope_theta": 500000.0});
    let new = json!({"rope_parameters": parameters, "rope_theta": null});
    let both = json!({"rope_parameters": parameters, "rope_scaling": scaling, "rope_theta": 5e5});
    for layout in [old, new, both] {
        let config = parse(&llama(layout));
        assert_eq!(
            (config.rope_theta, config.rope_scaling),
            (500_000.0, Some(expected))
        );
    }
    let plain =
        json!({"rope_theta": null, "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}});
    assert_eq!(parse(&qwen2(plain)).rope_theta, 1e6);
}

/// The committed files are what transformers 5 writes for its own configs.
#[test]
fn configs_that_transformers_wrote_are_read() {
    let qwen2 = parse(include_str!("golden/config/qwen2.json"));
    assert_eq!(
        (qwen2.architecture, qwen2.rope_theta),
        (Architecture::Qwen2, 10_000.0)
    );
    let qwen3 = parse(include_str!("golden/config/qwen3.json"));
    assert_eq!(
        (qwen3.rope_theta, qwen3.head_dim, qwen3.tie_word_embeddings),
        (1e6, 32, true)
    );
    let llama = parse(include_str!("golden/config/llama3.json"));
    assert_eq!(llama.rope_theta, 5e5);
    assert_eq!(llama.rope_scaling.map(|scaling| scaling.factor), Some(8.0));
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    for (changes, words) in [
        (json!({"model_type": "mistral"}), ["model_type", "mistral"]),
        (
            json!({"architectures": ["Qwen2ForSequenceClassification"]}),
            ["architectures", "Seq"],
        ),
        (
            json!({"architectures": ["LlamaForCausalLM"]}),
            ["architectures", "LlamaForCausalLM"],
        ),
        (json!({"hidden_act": "gelu"}), ["hidden_act", "gelu"]),
        (
            json!({"attention_dropout": 0.1}),
            ["attention_dropout", "0.1"],
        ),
        (
            json!({"attention_bias": false}),
            ["attention_bias", "false"],
        ),
        (
            json!({"use_sliding_window": true, "sliding_window": 9}),
            ["use_sliding_window", "true"],
        ),
        (
            json!({"use_sliding_window": true, "max_window_layers": 1}),
            ["use_sliding_window", ""],
        ),
        (
            json!({"layer_types": ["full_attention", "sliding_attention"]}),
            ["layer_types", "slid"],
        ),
        (
            json!({"layer_types": ["full_attention"]}),
            ["layer_types", "full_attention"],
        ),
        (
            json!({"rope_scaling": {"type": "linear", "factor": 2.0}}),
            ["rope_scaling", "linear"],
        ),
        (
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
            ["rope_scaling", "yarn"],
        ),
        (
            json!({"rope_parameters": {"rope_type": "dynamic"}}),
            ["rope_parameters", "dynamic"],
        ),
        (
            json!({"rope_parameters": {"full_attention": {}, "x": 1}}),
            ["rope_parameters.x", "1"],
        ),
        (
            json!({"rope_scaling": {"rope_type": "default", "factor": 2.0}}),
            ["rope_scaling.factor", "2"],
        ),
        (json!({"rope_scaling": "yarn"}), ["rope_scaling", "yarn"]),
        (
            json!({"rope_parameters": {"rope_theta": 5.0}}),
            ["rope_theta", "5"],
        ),
        (
            json!({"partial_rotary_factor": 0.5}),
            ["partial_rotary_factor", "0.5"],
        ),
        (
            json!({"rope_parameters": {"partial_rotary_factor": 0.5}}),
            ["partial_rotary_factor", "0.5"],
        ),
        (
            json!({"quantization_config": {"bits": 4}}),
            ["quantization_config", "bits"],
        ),
        (json!({"use_mrope": true}), ["use_mrope", "true"]),
        (json!({"num_experts": 8}), ["num_experts", "8"]),
        (
            json!({"final_logit_softcapping": 30.0}),
            ["final_logit_softcapping", "30"],
        ),
    ] {
        check_refused(qwen2(changes), &words);
    }
    check_refused(
        llama(json!({"pretraining_tp": 2})),
        &["pretraining_tp", "2"],
    );
    check_refused(llama(json!({"mlp_bias": true})), &["mlp_bias", "true"]);
    check_refused(
        llama(json!({"attention_bias": true})),
        &["attention_bias", "true"],
    );
    check_refused(
        llama(json!({"sliding_window": 4096})),
        &["sliding_window", "4096"],
    );
    check_refused(
        qwen3(json!({"attention_bias": true})),
        &["attention_bias", "true"],
    );
}

#[test]
fn impossible_and_missing_numbers_are_refused_by_name() {
    for (changes, words) in [
        (json!({"hidden_size": null}), ["hidden_size", "missing"]),
        (json!({"rope_theta": null}), ["rope_theta", "missing"]),
        (
            json!({"num_key_value_heads": null}),
            ["num_key_value_heads", "missing"],
        ),
        (json!({"vocab_size": 0}), ["vocab_size", "0"]),
        (json!({"num_hidden_layers": 0}), ["num_hidden_layers", "0"]),
        (
            json!({"num_attention_heads": 0}),
            ["num_attention_heads", "0"],
        ),
        (
            json!({"num_key_value_heads": 0}),
            ["num_key_value_heads", "0"],
        ),
        (json!({"hidden_size": 66}), ["hidden_size", "66"]),
        // Each size is possible, and all together overflow.
        (
            json!({"hidden_size": 1_u64 << 31, "intermediate_size": 1_u64 << 31}),
            ["num_hidden_layers", "weights"],
        ),
        (json!({"hidden_size": -64}), ["hidden_size", "-64"]),
        (json!({"hidden_size": "64"}), ["hidden_size", "64"]),
        (json!({"hidden_size": 64.5}), ["hidden_size", "64.5"]),
        (
            json!({"intermediate_size": 1u64 << 40}),
            ["intermediate_size", "1099511627776"],
        ),
        (
            json!({"num_hidden_layers": 1u64 << 30}),
            ["num_hidden_layers", "1073741824"],
        ),
        (
            json!({"num_key_value_heads": 3}),
            ["num_key_value_heads", "3"],
        ),
        (json!({"head_dim": 15}), ["head_dim", "15"]),
        (json!({"head_dim": 1u64 << 31}), ["head_dim", "2147483648"]),
        (json!({"rms_norm_eps": 0.0}), ["rms_norm_eps", "0"]),
        (json!({"rope_theta": -1.0}), ["rope_theta", "-1"]),
        (
            json!({"initializer_range": 0.0}),
            ["initializer_range", "0"],
        ),
        (
            json!({"tie_word_embeddings": "yes"}),
            ["tie_word_embeddings", "yes"],
        ),
        (json!({"eos_token_id": "2"}), ["eos_token_id", "2"]),
        (json!({"eos_token_id": [2, -1]}), ["eos_token_id", "-1"]),
        (json!({"bos_token_id": 1.5}), ["bos_token_id", "1.5"]),
    ] {
        check_refused(qwen2(changes), &words);
    }
    check_refused(qwen3(json!({"head_dim": null})), &["head_dim", "missing"]);
    let scaling = |changes: Value| {
        let mut scaling = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        });
        change(&mut scaling, changes);
        llama(json!({"rope_scaling": scaling}))
    };
    check_refused(
        scaling(json!({"factor": null})),
        &["rope_scaling.factor", "missing"],
    );
    check_refused(
        scaling(json!({"factor": 0.5})),
        &["rope_scaling.factor", "0.5"],
    );
    check_refused(
        scaling(json!({"low_freq_factor": 4.0})),
        &["low_freq_factor", "4"],
    );
    check_refused(
        scaling(json!({"original_max_position_embeddings": 0})),
        &["original_max", "0"],
    );
    check_refused("[1]".to_owned(), &["object", "[1]"]);
    check_refused("{\"a\": ".to_owned(), &["JSON", "line 1"]);
    check_refused(qwen2(json!({})).replace("512", "NaN"), &["JSON"]);
}

#[test]
fn what_is_written_reads_back_the_same() {
    let scaling = json!({
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    for text in [
        qwen2(json!({})),
        qwen2(json!({"tie_word_embeddings": true, "eos_token_id": [2, 3], "bos_token_id": null})),
        qwen2(json!({"eos_token_id": null, "head_dim": 32})),
        qwen3(json!({"rope_theta": 1e6})),
        llama(json!({"rope_scaling": scaling, "rms_norm_eps": 1e-5})),
    ] {
        let config = parse(&text);
        assert_eq!(parse(&config.to_json().to_string()), config);
    }
}

#[test]
fn parameters_are_counted() {
    // Embedding and head 2*512*64; a layer: q, o 2*64*64, k, v 2*64*32, MLP 3*64*128, norms 2*64,
    // biases 64+2*32; the last norm 64.
    let layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64 + 64 + 2 * 32;
    let untied = 2 * 512 * 64 + 2 * layer + 64;
    assert_eq!(parse(&qwen2(json!({}))).parameter_count(), untied);
    let tied = parse(&qwen2(json!({"tie_word_embeddings": true})));
    assert_eq!(tied.parameter_count(), untied - 512 * 64);
}

#[test]
fn a_folder_gives_config_and_end_ids() {
    let dir = tempfile::tempdir().unwrap();
    let missing = ModelConfig::read(dir.path());
    assert!(
        matches!(missing, Err(ConfigError::NotFound { path }) if path.ends_with("config.json"))
    );
    std::fs::write(dir.path().join("config.json"), qwen2(json!({}))).unwrap();
    assert_eq!(ModelConfig::read(dir.path()).unwrap().eos_token_id, [2]);
    let generation = dir.path().join("generation_config.json");
    std::fs::write(
        &generation,
        r#"{"eos_token_id": [7, 2], "temperature": 0.6}"#,
    )
    .unwrap();
    assert_eq!(ModelConfig::read(dir.path()).unwrap().eos_token_id, [2, 7]);
    std::fs::write(&generation, r#"{"eos_token_id": "x"}"#).unwrap();
    let error = ModelConfig::read(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("generation_config.json") && error.contains("eos_token_id"),
        "{error}"
    );
}
