//! Files of a checkpoint folder: headers, indices, configs, tokenizers, templates.

use std::collections::BTreeMap;

use model::chat::{ChatTemplate, Message};
use model::checkpoint::{self, AdapterFile, Weights};
use model::config::ModelConfig;
use model::hub::PullRecord;
use model::tokenizer::{AddedToken, SpecialTokens, Tokenizer, TokenizerTraining};
use serde_json::json;

use super::{Corpus, Place, Target, fuzz};

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\"dtype\"",
    "\"F32\"",
    "\"F16\"",
    "\"BF16\"",
    "\"I64\"",
    "\"F4\"",
    "\"shape\"",
    "\"data_offsets\"",
    "\"__metadata__\"",
    "[0,0]",
    "[0,4]",
    "[4,0]",
    "[2,2]",
    "[]",
    "\"weight_map\"",
    "\"model.safetensors\"",
    "\"../a.safetensors\"",
    "\"/etc/passwd\"",
    "\"model.norm.weight\"",
    " ",
];

/// A safetensors file with this header, and so many bytes of tensors.
fn file(header: &str, bytes: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + bytes, 0);
    file
}

fn headers() -> Vec<Vec<u8>> {
    vec![
        file(
            r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[16,24]}}"#,
            24,
        ),
        file(
            r#"{"__metadata__":{"format":"pt"},"w":{"dtype":"F16","shape":[3],"data_offsets":[0,6]}}   "#,
            6,
        ),
        file("{}", 0),
    ]
}

fn all_of(weights: &Weights) -> bool {
    let names: Vec<String> = weights.tensors().map(|(name, _)| name.to_owned()).collect();
    names.iter().all(|name| weights.read(name).is_ok())
}

#[test]
fn safetensors() {
    let corpus = Corpus {
        valid: headers(),
        words: WORDS,
        json: false,
    };
    let target = Target {
        name: "safetensors",
        corpus,
        inputs: [100_000, 1_000_000],
        base: 256 << 10,
        factor: 200,
        elsewhere: false,
    };
    fuzz(&target, Place::new, |place, input| {
        place.write("model.safetensors", input);
        Weights::open(place.0.path()).is_ok_and(|weights| all_of(&weights))
    });
}

/// Headers whose length is right, so that damage gets past it.
#[test]
fn safetensors_headers() {
    let valid = headers().into_iter().map(|file| {
        String::from_utf8_lossy(&file[8..])
            .trim_matches('\0')
            .to_owned()
    });
    let target = Target {
        name: "safetensors: header",
        corpus: Corpus::json(valid.collect(), WORDS),
        inputs: [100_000, 1_000_000],
        base: 256 << 10,
        factor: 200,
        elsewhere: false,
    };
    fuzz(&target, Place::new, |place, input| {
        place.write(
            "model.safetensors",
            &file(&String::from_utf8_lossy(input), 24),
        );
        Weights::open(place.0.path()).is_ok_and(|weights| all_of(&weights))
    });
}

#[test]
fn safetensors_indices() {
    let valid = vec![
        r#"{"metadata":{"total_size":24},"weight_map":{"a":"model-1.safetensors","b":"model-1.safetensors","w":"model-2.safetensors"}}"#.to_owned(),
        r#"{"weight_map":{"w":"model-2.safetensors"}}"#.to_owned(),
    ];
    let target = Target {
        name: "safetensors: index",
        corpus: Corpus::json(valid, WORDS),
        inputs: [100_000, 1_000_000],
        base: 256 << 10,
        factor: 200,
        elsewhere: false,
    };
    let start = || {
        let place = Place::new();
        let files = headers();
        place.write("model-1.safetensors", &files[0]);
        place.write("model-2.safetensors", &files[1]);
        place
    };
    fuzz(&target, start, |place, input| {
        place.write("model.safetensors.index.json", input);
        Weights::open(place.0.path()).is_ok_and(|weights| all_of(&weights))
    });
}

const CONFIG: &str = r#"{"model_type":"qwen2","architectures":["Qwen2ForCausalLM"],"vocab_size":24,"hidden_size":8,"intermediate_size":12,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"hidden_act":"silu","rms_norm_eps":1e-6,"rope_theta":10000.0,"max_position_embeddings":64,"tie_word_embeddings":false,"eos_token_id":[1,2],"bos_token_id":0}"#;

#[test]
fn configs() {
    let llama = CONFIG
        .replace("qwen2", "llama")
        .replace("Qwen2For", "LlamaFor");
    let llama = llama.replace("\"bos_token_id\":0", "\"bos_token_id\":0,\"head_dim\":8,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,\"original_max_position_embeddings\":32}");
    let qwen3 = CONFIG
        .replace("qwen2", "qwen3")
        .replace("Qwen2For", "Qwen3For");
    let target = Target {
        name: "config.json",
        corpus: Corpus::json(
            vec![CONFIG.to_owned(), llama, qwen3],
            &[
                "\"rope_scaling\"",
                "\"yarn\"",
                "\"eos_token_id\"",
                "\"sliding_window\"",
                "\"use_sliding_window\":true",
                "\"quantization_config\"",
                "\"hidden_size\"",
                "1.5",
                "0",
                ":",
                ",",
                "{",
                "}",
            ],
        ),
        inputs: [100_000, 1_000_000],
        // The names of all tensors of ten thousand layers, which is the most that is taken.
        base: 48 << 20,
        factor: 200,
        elsewhere: false,
    };
    fuzz(&target, Place::new, |place, input| {
        place.write("config.json", input);
        let Ok(config) = ModelConfig::read(place.0.path()) else {
            return false;
        };
        let _ = (config.parameter_count(), config.to_json());
        let _ = checkpoint::tensors(&config);
        // There are no weights, which is an error and no more.
        checkpoint::verify(place.0.path()).is_err()
    });
}

/// The smallest tokenizer that has all bytes, as text.
fn tokenizer() -> String {
    let settings = TokenizerTraining {
        vocab_size: 262,
        added: vec![AddedToken {
            text: "<end>".into(),
            special: true,
        }],
        bos: None,
        eos: Some("<end>".into()),
        digits: 1,
        chat_template: None,
    };
    let place = Place::new();
    let trained = Tokenizer::train(["the the then".to_owned()].into_iter(), &settings);
    trained
        .expect("it can be trained")
        .save(place.0.path())
        .expect("it can be saved");
    let text = std::fs::read(place.path("tokenizer.json")).expect("a tokenizer");
    serde_json::from_slice::<serde_json::Value>(&text)
        .expect("JSON")
        .to_string()
}

#[test]
fn tokenizers() {
    // The whole vocabulary leaves no room for damage: most of it is left out.
    let mut small: serde_json::Value = serde_json::from_str(&tokenizer()).expect("JSON");
    if let Some(vocab) = small["model"]["vocab"].as_object_mut() {
        vocab.retain(|_, id| id.as_u64().is_some_and(|id| !(40..=255).contains(&id)));
    }
    let normalized = |normalizer: serde_json::Value, splitter: serde_json::Value| {
        let mut other = small.clone();
        other["normalizer"] = normalizer;
        other["pre_tokenizer"] = splitter;
        other.to_string()
    };
    let valid = vec![
        small.to_string(),
        normalized(json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"}]}), json!({"type": "Split", "pattern": {"Regex": "\\d{1,3}|(x*)*y"}, "behavior": "Isolated", "invert": false})),
        normalized(json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}), json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]})),
        json!({"version": "1.0", "decoder": {"type": "ByteLevel"}, "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "b"}}).to_string(),
        json!({"version": "1.0", "decoder": {"type": "ByteLevel"}, "model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.5], ["b", -1e9]], "byte_fallback": true}}).to_string(),
        json!({"version": "1.0", "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true}, "model": {"type": "WordPiece", "unk_token": "u", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {"u": 0}}}).to_string(),
        json!({"version": "1.0", "added_tokens": [{"id": 0, "content": "<a>", "single_word": true, "lstrip": true, "rstrip": true, "normalized": true, "special": false}], "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<a>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {"<a>": {"id": "<a>", "ids": [0], "tokens": ["<a>"]}}}, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]], "dropout": 0.5, "unk_token": "a", "fuse_unk": true, "byte_fallback": true, "ignore_merges": true}}).to_string(),
    ];
    let target = Target {
        name: "tokenizer.json",
        corpus: Corpus::json(
            valid,
            &[
                "\"type\"",
                "\"BPE\"",
                "\"Split\"",
                "\"Regex\"",
                "(?i:a)",
                "((a*)*)*b",
                "[a-z]{1000}",
                "\\\\p{L}",
                "(?=a)",
                "\"merges\"",
                "\"a b\"",
                "\"ids\"",
                "\"Strip\"",
                "\"left\"",
                "\"Metaspace\"",
                "\"Truncation\"",
                "\"padding\"",
                "\"BertNormalizer\"",
                "\"Lowercase\"",
                "\"Prepend\"",
                "\"ByteFallback\"",
                "\"Fuse\"",
                ":",
                ",",
                "{",
                "}",
            ],
        ),
        inputs: [100_000, 1_000_000],
        // An id of 16 million is taken, and makes a table of so many ids.
        base: 640 << 20,
        factor: 100_000,
        elsewhere: false,
    };
    let texts = [
        "then a0 12\n",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
        "\u{e9}\u{202e}\0<a> <end>",
    ];
    fuzz(&target, Place::new, |place, input| {
        place.write("tokenizer.json", input);
        let Ok(tokenizer) = Tokenizer::load(place.0.path()) else {
            return false;
        };
        let mut good = true;
        for text in texts {
            match tokenizer.encode(text) {
                Ok(ids) => drop(tokenizer.decode(&ids)),
                Err(_) => good = false,
            }
        }
        let _ = tokenizer.token_bytes(3);
        good
    });
}

#[test]
fn tokenizer_settings() {
    let valid = [
        r#"{"eos_token":"<end>","bos_token":{"content":"<end>"},"add_bos_token":true,"added_tokens_decoder":{"0":{"content":"<end>","special":true}},"chat_template":"{{ messages[0].content }}"}"#,
        r#"{"eos_token":"<end>","additional_special_tokens":["<end>"],"chat_template":[{"name":"default","template":"a"},{"name":"b","template":"{% for m in messages %}{{ m.role }}{% endfor %}"}]}"#,
    ];
    let target = Target {
        name: "tokenizer_config.json",
        corpus: Corpus::json(
            valid.map(str::to_owned).to_vec(),
            &[
                "\"eos_token\"",
                "\"content\"",
                "\"chat_template\"",
                "{{",
                "}}",
                "{%",
                "%}",
                ":",
                ",",
                "{",
                "}",
            ],
        ),
        inputs: [100_000, 1_000_000],
        base: 4 << 20,
        factor: 1000,
        elsewhere: true,
    };
    let start = || {
        let place = Place::new();
        let small = json!({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"<end>": 0}, "unk_token": "<end>"}});
        place.write("tokenizer.json", small.to_string().as_bytes());
        place
    };
    fuzz(&target, start, |place, input| {
        place.write("tokenizer_config.json", input);
        let template = ChatTemplate::load(place.0.path());
        Tokenizer::load(place.0.path()).is_ok() && template.is_ok()
    });
}

#[test]
fn templates() {
    let valid = [
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "{%- if tools %}{{- tools | tojson(indent=4) }}{%- endif %}{%- set ns = namespace(found=false, x='') %}{% for m in messages[::-1] %}{% if m.content.split('</think>')[-1].strip() %}{% set ns.found = true %}{% set ns.x = ns.x ~ m.content %}{% endif %}{% endfor %}{{ ns.x | replace('a', 'bb') | trim | upper }}",
        "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}{{ raise_exception('no') if messages | length > 5 }}",
        "{{ bos_token }}{% for i in range(3) %}{{ loop.index }}{% if i == 1 %}{% break %}{% endif %}{% endfor %}{{ strftime_now('%d %b %Y') }}{{ 'x' * 3 }}{{ '%s' % 'a' }}",
        "{% generation %}{{ messages | map(attribute='content') | join(', ') | indent(2) }}{% endgeneration %}{{ messages | tojson }}",
    ];
    let words: &[&str] = &[
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "{%-",
        "-%}",
        "for i in range(99999)",
        "for x in y recursive",
        "endfor",
        "if true",
        "endif",
        "set x = x ~ x",
        "set x = 'ab' * 99999999",
        "set x = [x, x]",
        "set x = x + x",
        "macro f()",
        "f()",
        "endmacro",
        "endset",
        "set x",
        "call f()",
        "endcall",
        "filter upper",
        "endfilter",
        "include 'a'",
        "import 'a' as b",
        "extends 'a'",
        "block b",
        "endblock",
        "super()",
        "self.b()",
        "loop(x)",
        "messages",
        "| tojson",
        "| indent(99)",
        "| replace('', 'aaaaaaaa')",
        "| join(x)",
        "| list",
        "| batch(1)",
        "| slice(99999999)",
        "| center(9999999)",
        "| round(99999)",
        "| format(1)",
        "'%099999999d'",
        "| sort",
        "| unique",
        "| groupby('role')",
        "| reverse",
        "| string",
        "| items",
        "| pprint",
        "** 99999",
        "// 0",
        "% 0",
        "9 ** 99 ** 99",
        "x[::-1]",
        "x[-9223372036854775808:]",
        "x[::0]",
        ".split('')",
        ".replace('a', x)",
        ".join(x)",
        ".format(1)",
        ".zfill(9)",
        "range(0, 9, -1)",
        "range(10 ** 12)",
        "dict(a=1)",
        "lipsum(99999)",
        "namespace()",
        "debug()",
        "cycler(1)",
        "~",
        "is defined",
        "not in",
        "x",
        "'",
        "\"",
        "(",
        ")",
        "[",
        "]",
    ];
    let target = Target {
        name: "chat template",
        corpus: Corpus::of(&valid, words),
        inputs: [100_000, 1_000_000],
        // What its fuel buys; see the constant beside it.
        base: 200 << 20,
        factor: 1000,
        elsewhere: true,
    };
    let tokens = SpecialTokens::default();
    let messages = [
        Message {
            role: "system".into(),
            content: "Be brief.".into(),
        },
        Message::user("What is 6 * 7? <|im_end|> {{ x }} {% y %}"),
    ];
    fuzz(
        &target,
        || (),
        |(), input| {
            let text = String::from_utf8_lossy(input);
            let Ok(template) = ChatTemplate::new(&text, tokens.clone()) else {
                return false;
            };
            template.render(&messages, true).is_ok()
        },
    );
}

#[test]
fn adapters() {
    let config: ModelConfig = ModelConfig::parse(CONFIG).expect("a config");
    let valid = [
        r#"{"peft_type":"LORA","r":2,"lora_alpha":4,"lora_dropout":0.1,"target_modules":["q_proj"],"bias":"none","use_rslora":true}"#,
        r#"{"peft_type":"LORA","r":1,"lora_alpha":1.5,"target_modules":["up_proj","o_proj"],"modules_to_save":null}"#,
    ];
    let target = Target {
        name: "adapter_config.json",
        corpus: Corpus::json(valid.map(str::to_owned).to_vec(), WORDS),
        inputs: [100_000, 1_000_000],
        base: 256 << 10,
        factor: 200,
        elsewhere: false,
    };
    let mut header = BTreeMap::new();
    let mut at = 0;
    for layer in 0..2 {
        for (side, shape) in [("A", [2, 8]), ("B", [8, 2])] {
            let name = format!(
                "base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{side}.weight"
            );
            header.insert(
                name,
                json!({"dtype": "F32", "shape": shape, "data_offsets": [at, at + 64]}),
            );
            at += 64;
        }
    }
    let matrices = file(&json!(header).to_string(), at);
    let start = || {
        let place = Place::new();
        place.write("adapter_model.safetensors", &matrices);
        place
    };
    fuzz(&target, start, |place, input| {
        place.write("adapter_config.json", input);
        AdapterFile::read(place.0.path(), &config).is_ok()
    });
}

#[test]
fn pull_records() {
    let record = r#"{"version":1,"repo":"owner/name","kind":"model","revision":"main","commit":"00","complete":true,"files":{"config.json":{"bytes":3,"sha256":"aa"},"a/b.jsonl":{"bytes":0,"sha256":""}}}"#;
    let target = Target {
        name: "pull.json",
        corpus: Corpus::json(
            vec![record.to_owned()],
            &[
                "..",
                "/",
                "\\\\",
                "C:",
                "\"dataset\"",
                "./",
                "//",
                "\"bytes\"",
                ":",
                ",",
                "{",
                "}",
            ],
        ),
        inputs: [100_000, 1_000_000],
        base: 64 << 10,
        factor: 100,
        elsewhere: false,
    };
    fuzz(&target, Place::new, |place, input| {
        place.write("pull.json", input);
        let Ok(Some(record)) = PullRecord::read(place.0.path()) else {
            return false;
        };
        // No name that was taken leads out of the folder.
        for name in record.files.keys() {
            assert!(
                !name.starts_with('/')
                    && name.split('/').all(|part| part != ".." && !part.is_empty()),
                "{name}"
            );
        }
        true
    });
}
