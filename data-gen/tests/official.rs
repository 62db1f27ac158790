//! Python constants as text, and the refusal of wording that is not the published one.

#![expect(clippy::print_stderr, reason = "a test says what it skipped")]

use data_gen::official::{OfficialError, prompt_set};
use data_gen::python::{Constant, constants, strings};

#[track_caller]
fn check(source: &str, expected: &[(&str, &str)]) {
    let found: Vec<(String, String)> = constants(source)
        .into_iter()
        .map(|(name, value)| match value {
            Constant::Text(text) => (name, text),
            Constant::List(items) => (name, items.join("|")),
        })
        .collect();
    let expected: Vec<(String, String)> = expected
        .iter()
        .map(|(name, text)| (name.to_string(), text.to_string()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn strings_mean_what_they_mean_in_python() {
    check(r#"a = "x""#, &[("a", "x")]);
    check("a='x'  # why\nb = 'y'", &[("a", "x"), ("b", "y")]);
    check(
        "a = \"\"\"two\nlines \"quoted\" \"\"\"",
        &[("a", "two\nlines \"quoted\" ")],
    );
    check(
        r#"a = "\n\t\\\"\'\x41\u00e9\U0001F600\101\7""#,
        &[("a", "\n\t\\\"'A\u{e9}\u{1f600}A\u{7}")],
    );
    // An unknown escape keeps its backslash.
    check(r#"a = "\( b \)""#, &[("a", r"\( b \)")]);
    check("a = 'one ' \"two\"", &[("a", "one two")]);
    check("a = ('one '\n     'two')", &[("a", "one two")]);
    check("a = \"one \\\ntwo\"", &[("a", "one two")]);
    check(
        "a = [\n  'x', # first\n  'y' 'z',\n]\nb = []",
        &[("a", "x|yz"), ("b", "")],
    );
    check("a = 'old'\na = 'new'", &[("a", "new")]);
}

#[test]
fn what_is_no_constant_is_passed_over() {
    for source in [
        "a = f'{x}'",
        "a = r'x'",
        "a = 'x' + b",
        "a = 7",
        "a == 'x'",
        "a: str = 'x'",
        "  a = 'x'",
        "def f():\n    a = 'x'",
        "a = ['x', 7]",
        "a = 'x",
        "a = '''x",
        "a = '\\u12'",
        "9 = 'x'",
        "\u{e9} = 'x'",
        "",
        "=",
    ] {
        check(source, &[]);
    }
    check("import os\na = 1\nb = 'y'\n", &[("b", "y")]);
}

#[test]
fn strings_are_found_inside_functions() {
    let source = "def f(p):\n    # don't\n    p[0] = p[0] + ' <a> ' + f'no {p}' + \"b\"\n";
    assert_eq!(strings(source), [" <a> ", "b"]);
}

#[test]
fn another_wording_is_refused_by_name() {
    let missing = prompt_set("x = 'y'", None).expect_err("nothing is there");
    assert_eq!(missing, OfficialError::Missing { name: "MATH_cot" });
    let changed = prompt_set("MATH_cot = 'Solve it.'", None).expect_err("it is another sentence");
    let message = changed.to_string();
    assert!(message.contains("`MATH_cot` has 9 characters"), "{message}");
    assert!(message.contains("1ac42a4db949361d"), "{message}");
}

/// With a checkout of the authors' code at hand (`LEAP_CHECKOUT`), its wording becomes a set.
#[test]
fn the_published_wording_becomes_a_set_that_works() {
    let Some(folder) = std::env::var_os("LEAP_CHECKOUT").map(std::path::PathBuf::from) else {
        eprintln!("skipped: LEAP_CHECKOUT names no checkout");
        return;
    };
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a checkout");
    let (prompts, util) = (read("leap/prompts.py"), read("leap/utils/util.py"));
    let set = prompt_set(&prompts, Some(&util)).expect("the wording of 589ff64");
    set.check().expect("it works");
    assert_eq!((set.triggers.len(), set.openers.len()), (7, 6));
    assert!(set.choice.starts_with("{problem}\n{choices}\n\n"));
    assert!(set.no_peers.ends_with(" </comment>\n\n") && !set.alone.is_empty());
    assert!(set.forced_math.ends_with("\\boxed{") && set.forced_choice.contains("</think>"));
    let without = prompt_set(&prompts, None).expect("the rest is there");
    assert_eq!(without.reflection, set.reflection);
    assert_ne!(without.alone, set.alone);
}
