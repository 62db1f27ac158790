//! Chat templates and prompts, against texts that transformers rendered.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail on files that cannot be read, and say what they skipped"
)]

mod small;

use std::path::{Path, PathBuf};

use model::chat::{ChatError, ChatTemplate, Message, OpenThink, Prompter};
use model::tokenizer::Tokenizer;
use serde_json::{Value, json};

/// What a committed or outside golden file says of one rendering.
#[track_caller]
fn check_rendering(what: &str, template: &ChatTemplate, case: &Value) -> String {
    let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
    let generation = case["add_generation_prompt"].as_bool().unwrap();
    match (
        template.render(&messages, generation),
        case["text"].as_str(),
    ) {
        (Ok(text), Some(expected)) => {
            assert_eq!(text, expected, "{what}");
            text
        }
        (Err(_), None) => String::new(),
        (Ok(text), None) => panic!("{what}: transformers refuses, we wrote {text:?}"),
        (Err(error), Some(_)) => panic!("{what}: {error}"),
    }
}

/// A folder with nothing but a template in it.
fn folder(settings: Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("tokenizer_config.json"),
        settings.to_string(),
    )
    .unwrap();
    dir
}

#[track_caller]
fn template(source: &str) -> ChatTemplate {
    let dir = folder(json!({"chat_template": source, "bos_token": "<s>", "eos_token": "</s>"}));
    ChatTemplate::load(dir.path()).unwrap().unwrap()
}

#[test]
fn templates_render_as_in_transformers() {
    let text = include_str!("golden/chat/templates.json");
    let golden: Value = serde_json::from_str(text).unwrap();
    for entry in golden["templates"].as_array().unwrap() {
        let template = template(entry["template"].as_str().unwrap());
        for case in entry["cases"].as_array().unwrap() {
            check_rendering(&entry["name"].to_string(), &template, case);
        }
    }
}

/// The outside goldens are of published models; they need the models' own tokenizer folders, as
/// `tokenizers/<name>` beside `chat/<name>.json`.
#[test]
fn published_templates_render_as_in_transformers() {
    for (name, golden, dir) in published() {
        let tokenizer = Tokenizer::load(&dir).unwrap();
        let template = ChatTemplate::load(&dir).unwrap().unwrap();
        let check = |template: &ChatTemplate, cases: &Value| {
            for case in cases.as_array().unwrap() {
                let text = check_rendering(&name, template, case);
                let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
                assert_eq!(tokenizer.encode(&text).unwrap(), ids, "{name}: {text:?}");
            }
        };
        check(&template, &golden["chats"]);
        if let Some(cases) = golden.get("chats_think_revision_from_memory") {
            let old = template.source();
            let end = "{{'<｜Assistant｜>'}}{% endif %}";
            let start = old
                .strip_suffix(end)
                .expect("the revision without a think block");
            let new = format!("{start}{{{{'<｜Assistant｜><think>\\n'}}}}{{% endif %}}");
            let new = ChatTemplate::new(&new, tokenizer.special_tokens().clone()).unwrap();
            check(&new, cases);
            // Both revisions end in the same prompt.
            let prompt = |template: &ChatTemplate| {
                let template = Some(template.clone());
                let prompter = Prompter::new(tokenizer.clone(), template, OpenThink::Auto);
                prompter.user("What is 7 times 6?").unwrap()
            };
            assert_eq!(prompt(&template), prompt(&new));
            let prompt = prompt(&new);
            assert!(prompt.in_think && prompt.text.ends_with("<think>\n"));
            let bos = tokenizer.bos().unwrap();
            assert_eq!(prompt.ids.iter().filter(|id| **id == bos).count(), 1);
            assert_eq!(prompt.ids[0], bos);
        }
    }
}

fn published() -> Vec<(String, Value, PathBuf)> {
    let Some(root) = small::fixtures() else {
        return Vec::new();
    };
    let chats = root.join("chat");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&chats)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let golden = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let dir = root.join("tokenizers").join(&name);
        if dir.join("tokenizer.json").exists() {
            found.push((name, golden, dir));
        } else {
            eprintln!("skipped: no tokenizer in {}", dir.display());
        }
    }
    found
}

#[test]
fn the_template_file_is_found() {
    let load = |settings: Value| ChatTemplate::load(folder(settings).path());
    assert!(load(json!({})).unwrap().is_none());
    assert!(
        ChatTemplate::load(tempfile::tempdir().unwrap().path())
            .unwrap()
            .is_none()
    );
    let named = json!({"chat_template": [
        {"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"},
    ]});
    assert_eq!(load(named).unwrap().unwrap().source(), "plain");
    let dir = folder(json!({"chat_template": "in the config"}));
    std::fs::write(dir.path().join("chat_template.jinja"), "in its own file").unwrap();
    assert_eq!(
        ChatTemplate::load(dir.path()).unwrap().unwrap().source(),
        "in its own file"
    );
    let other = load(json!({"chat_template": [{"name": "tool_use", "template": "t"}]}));
    assert!(matches!(other, Err(ChatError::NoDefault { names, .. }) if names == ["tool_use"]));
    assert!(matches!(
        load(json!({"chat_template": 7})),
        Err(ChatError::NotATemplate { .. })
    ));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), "{").unwrap();
    assert!(matches!(
        ChatTemplate::load(dir.path()),
        Err(ChatError::Syntax { .. })
    ));
}

#[track_caller]
fn check_fails(source: &str, word: &str) {
    let dir = folder(json!({"chat_template": source}));
    let render = |template: Option<ChatTemplate>| {
        template
            .expect("there is a template")
            .render(&[Message::user("x")], true)
    };
    let error = ChatTemplate::load(dir.path())
        .and_then(render)
        .expect_err("it fails");
    let text = error.to_string();
    assert!(
        text.contains(word) && text.contains("tokenizer_config.json"),
        "{text}"
    );
}

#[test]
fn broken_and_endless_templates_are_errors() {
    check_fails("a\n{% if %}", "chat_template:2");
    check_fails(
        "{{ raise_exception('only tools here') }}",
        "only tools here",
    );
    check_fails(
        "{{ messages[0].content.no_such_method() }}",
        "no_such_method",
    );
    check_fails("{{ missing.attribute }}", "undefined");
    check_fails(
        "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
        "fuel",
    );
    check_fails(
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "recursion",
    );
    check_fails("{{ strftime_now('%Q') }}", "%Q");
    check_fails("{{ 'x' * 4000000000 }}", "fuel");
}

/// Found by tests/fire/fuzz: what fuel does not count, and what ended the process.
#[test]
fn hostile_templates_are_errors() {
    check_fails("{%}", "syntax error");
    check_fails("{% include 'a' %}", "not found");
    check_fails("{% import 'a' as b %}", "not found");
    check_fails("{% extends 'a' %}", "not found");
    check_fails("{{ range(10 ** 12) }}", "");
    check_fails("{{ '%099999999d' | format(1) }}", "");
    let list = "([[[1] * 9999] * 9999] * 9999)";
    check_fails(&format!("{{{{ {list} }}}}"), "fuel");
    check_fails(&format!("{{{{ {list} | tojson }}}}"), "fuel");
    check_fails(&format!("{{{{ {list} == {list} }}}}"), "does not end");
    check_fails("{{ ('\n' * 9000000) | indent(100, blank=true) }}", "lines");
    check_fails(
        "{% macro f(n) %}{{ f(n - 1) }}{% endmacro %}{{ f(3) }}",
        "recursion",
    );
    let itself = "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns.x | upper }}";
    check_fails(itself, "attributes of the namespace");
    check_fails(
        "{% set ns = namespace(x=namespace()) %}{{ ns.x }}",
        "a namespace is made by",
    );
    check_fails(
        "{% set make = namespace %}{{ make() }}",
        "a namespace is made by",
    );
    check_fails("{{ debug() }}", "unknown function");
    check_fails("{{ messages | pprint }}", "unknown filter");
    check_fails(&"a".repeat(200_000), "bytes");
    let nested =
        "{% set ns = namespace(x=1) %}{% for i in range(N) %}{% set ns.x = [ns.x] %}{% endfor %}";
    check_fails(&nested.replace('N', "90000"), "fuel");
    check_fails(
        &(nested.replace('N', "20000") + "{{ ns.x }}"),
        "nested too deeply",
    );
    // The deepest that fuel can nest goes, and so does a source of nothing but operators.
    let deep = nested.replace('N', "20000") + "{{ (ns.x ~ '') | length }}";
    assert!(template(&deep).render(&[], false).is_ok());
    let signs = format!("{{{{ {}1 }}}}", "-".repeat(120_000));
    assert!(template(&signs).render(&[], false).is_ok());
    check_fails("{{ 'x' | indent(4000000000) }}", "100 spaces");
    check_fails("{{ [1] | tojson(indent=4000000000) }}", "100 spaces");
    check_fails("{% include '/etc/passwd' %}", "passwd");
}

#[test]
fn a_date_in_a_template_is_the_same_every_day() {
    let text = template("{{ strftime_now('%d %b %Y, %A') }}")
        .render(&[], false)
        .unwrap();
    assert_eq!(text, "26 Jul 2024, Friday");
}

/// A chat template of our own in the manner of the reasoning models'.
const REASONING: &str = "{{ bos_token }}{% for m in messages %}<|user|>{{ m.content.split('</think>')[-1] }}\
                         {% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
/// The same for a model without reasoning.
const PLAIN: &str = "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}<|assistant|>";

#[track_caller]
fn check_prompt(source: &str, open: OpenThink, user: &str, text: &str, in_think: bool) {
    let template = (!source.is_empty()).then(|| template(source));
    let tokenizer = small::tokenizer();
    let prompt = Prompter::new(tokenizer.clone(), template, open)
        .user(user)
        .unwrap();
    assert_eq!((prompt.text.as_str(), prompt.in_think), (text, in_think));
    let bos = tokenizer.bos().unwrap();
    assert_eq!(prompt.ids[0], bos);
    assert_eq!(prompt.ids.iter().filter(|id| **id == bos).count(), 1);
    let whole = if text.starts_with("<s>") {
        text.to_owned()
    } else {
        format!("<s>{text}")
    };
    assert_eq!(prompt.ids, tokenizer.encode(&whole).unwrap());
}

#[test]
fn a_think_block_is_opened_once_and_only_where_it_belongs() {
    use OpenThink::{Always, Auto, Never};
    let opened = "<s><|user|>hi<|assistant|><think>\n";
    check_prompt(REASONING, Auto, "hi", opened, true);
    check_prompt(REASONING, Always, "hi", opened, true);
    check_prompt(REASONING, Never, "hi", "<s><|user|>hi<|assistant|>", false);
    let opens_itself = format!("{REASONING}<think>\n ");
    let itself = "<s><|user|>hi<|assistant|><think>\n ";
    check_prompt(&opens_itself, Auto, "hi", itself, true);
    check_prompt(&opens_itself, Never, "hi", itself, true);
    check_prompt(&opens_itself, Always, "hi", itself, true);
    let closed = "<s><|user|>hi<|assistant|><think>\n\n</think>\n\n";
    check_prompt(
        &format!("{REASONING}<think>\n\n</think>\n\n{{# #}}"),
        Auto,
        "hi",
        closed,
        false,
    );
    check_prompt(PLAIN, Auto, "hi", "<|user|>hi<|assistant|>", false);
    check_prompt(
        PLAIN,
        Always,
        "hi",
        "<|user|>hi<|assistant|><think>\n",
        true,
    );
    // A user who writes of think blocks opens none.
    let asked = "<|user|>what is <think><|assistant|>";
    check_prompt(PLAIN, Auto, "what is <think>", asked, false);
}

#[test]
fn a_folder_without_a_template_gives_the_text_itself() {
    check_prompt(
        "",
        OpenThink::Auto,
        "Once upon a time",
        "Once upon a time",
        false,
    );
    check_prompt(
        "",
        OpenThink::Auto,
        "ends in <think>",
        "ends in <think>",
        false,
    );
    check_prompt("", OpenThink::Always, "hi", "hi<think>\n", true);
    let dir = tempfile::tempdir().unwrap();
    small::tokenizer().save(dir.path()).unwrap();
    let prompter = Prompter::load(dir.path(), OpenThink::Auto).unwrap();
    assert!(prompter.is_plain());
    let system = Message {
        role: "system".to_owned(),
        content: "Be brief.".to_owned(),
    };
    let prompt = prompter.prompt(&[system, Message::user("hi")]).unwrap();
    assert_eq!(prompt.text, "Be brief.\n\nhi");
    std::fs::write(dir.path().join("chat_template.jinja"), PLAIN).unwrap();
    assert!(
        !Prompter::load(dir.path(), OpenThink::Auto)
            .unwrap()
            .is_plain()
    );
    assert!(Prompter::load(Path::new("/no/such/folder"), OpenThink::Auto).is_err());
}
