//! What must hold for always: walls between crates, one printer, recipes that name their command.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files below a folder with this ending, in order.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                walk(&path, ending, found);
            } else if path.extension().is_some_and(|found| found == ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), ending, &mut found);
    found.sort();
    found
}

const CRATES: [&str; 5] = ["protocol", "model", "infer", "data-gen", "train"];
const SOURCES: [&str; 6] = [
    "protocol/src",
    "model/src",
    "infer/src",
    "data-gen/src",
    "train/src",
    "src",
];

#[test]
fn crates_depend_on_each_other_only_as_the_map_says() {
    let allowed = BTreeMap::from([
        ("protocol", vec![]),
        ("model", vec![]),
        ("infer", vec!["model", "protocol"]),
        ("train", vec!["model", "protocol"]),
        ("data-gen", vec!["infer", "protocol"]),
    ]);
    for name in CRATES {
        let manifest: toml::Table = read(format!("{name}/Cargo.toml"))
            .parse()
            .expect("a manifest");
        let dependencies = manifest["dependencies"].as_table().expect("a table");
        let ours: Vec<&str> = CRATES
            .into_iter()
            .filter(|other| dependencies.contains_key(*other))
            .collect();
        let mut expected = allowed[name].clone();
        expected.sort_by_key(|name| CRATES.iter().position(|known| known == name));
        assert_eq!(ours, expected, "dependencies of {name}");
        let tensors = dependencies.keys().any(|key| key.starts_with("burn"));
        assert!(
            !tensors || name == "model" || name == "train",
            "{name} depends on burn"
        );
        for (key, value) in dependencies {
            let shared = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
            assert!(
                shared,
                "{name}: the version of {key} belongs in the root manifest"
            );
        }
    }
}

#[test]
fn the_protocol_does_no_io_and_holds_no_tensor() {
    for path in files("protocol/src", "rs") {
        let text = fs::read_to_string(&path).expect("a source file");
        for forbidden in [
            "std::fs",
            "std::net",
            "std::time",
            "std::thread",
            "burn::",
            "rayon",
        ] {
            assert!(
                !text.contains(forbidden),
                "{} has {forbidden}",
                path.display()
            );
        }
    }
}

#[test]
fn only_the_printer_prints() {
    for folder in SOURCES {
        for path in files(folder, "rs") {
            if path.ends_with("src/output.rs") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source file");
            for (number, line) in text.lines().enumerate() {
                let code = line.trim_start();
                let prints = ["println!(", "eprintln!(", "print!(", "eprint!(", "dbg!("]
                    .iter()
                    .any(|call| code.contains(call));
                assert!(
                    !prints || code.starts_with("//"),
                    "{}:{}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn every_file_name_says_what_is_in_it() {
    let vague = [
        "utils", "util", "common", "base_", "helpers", "misc", "types", "manager",
    ];
    for folder in SOURCES {
        for path in files(folder, "rs") {
            let name = path.file_stem().expect("a name").to_string_lossy();
            assert!(!vague.contains(&name.as_ref()), "{}", path.display());
        }
    }
}

#[test]
fn every_module_begins_with_why_it_exists() {
    let mut seen = 0;
    for folder in SOURCES {
        for path in files(folder, "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            assert!(
                text.starts_with("//!"),
                "{} has no module text",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} files were looked at");
}

#[test]
fn every_recipe_is_built_in_and_its_header_is_the_command_that_runs_it() {
    let built_in = read("src/recipes.rs");
    let recipes = files("recipes", "toml");
    assert!(!recipes.is_empty());
    for path in recipes {
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        assert!(
            built_in.contains(&format!("recipes/{name}.toml")),
            "{name} is not built in"
        );
        let text = fs::read_to_string(&path).expect("a recipe");
        let table: toml::Table = text.parse().expect("TOML");
        let job = table["job"].as_str().expect("a job");
        // A study is a run of several seeds.
        let verb = if job == "study" { "run" } else { job };
        let command = format!("#   leap {verb} {name}");
        assert!(
            text.lines().take(6).any(|line| line.starts_with(&command)),
            "{name}: {command}"
        );
    }
}

#[test]
fn the_readme_names_the_test_command_that_ci_runs() {
    assert!(read("README.md").contains("cargo test --workspace"));
    assert!(read(".ci/run").contains("cargo test --workspace"));
}

#[test]
fn every_test_that_the_numerics_page_names_exists() {
    let mut sources = String::new();
    for folder in ["protocol", "model", "infer", "data-gen", "train", "tests"] {
        for path in files(folder, "rs") {
            sources += &fs::read_to_string(&path).expect("a source file");
        }
    }
    let page = read("docs/NUMERICS.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with('|')).collect();
    let named: Vec<&str> = rows
        .iter()
        .flat_map(|row| {
            row.rsplit('|')
                .nth(1)
                .unwrap_or_default()
                .split('`')
                .skip(1)
                .step_by(2)
        })
        .filter(|name| {
            name.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
        .collect();
    assert!(named.len() > 40, "only {} tests are named", named.len());
    for name in named {
        assert!(
            sources.contains(&format!("fn {name}()")),
            "docs/NUMERICS.md names `{name}`, which is no test"
        );
    }
    let bugs = (1..=32).map(|number| format!("| B{number} |"));
    for bug in bugs.chain(["| B5b |".to_owned()]) {
        assert!(rows.iter().any(|row| row.starts_with(&bug)), "no row {bug}");
    }
}

#[test]
fn every_variable_of_the_environment_is_documented() {
    let page = read("docs/FORMATS.md");
    let mut asked = Vec::new();
    for folder in [
        "src",
        "protocol/src",
        "model/src",
        "infer/src",
        "data-gen/src",
        "train/src",
    ] {
        for path in files(folder, "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            let quoted = text.split('"').skip(1).step_by(2);
            let names = quoted.filter(|text| {
                let is_ours = text.starts_with("LEAP_") || text.starts_with("HF_");
                is_ours && text.chars().all(|c| c.is_ascii_uppercase() || c == '_')
            });
            asked.extend(names.map(str::to_owned));
        }
    }
    // The compiler's, not the user's.
    asked.retain(|name| name != "LEAP_VERSION");
    assert!(asked.len() > 8, "only {asked:?}");
    for name in asked {
        assert!(
            page.contains(&format!("`{name}`")),
            "docs/FORMATS.md says nothing of `{name}`"
        );
    }
}

#[test]
fn the_release_of_burn_is_the_one_that_is_pinned() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("a manifest");
    let versions = &manifest["workspace"]["dependencies"];
    let pinned = format!("={}", model::BURN);
    for name in ["burn", "burn-std"] {
        assert_eq!(versions[name]["version"].as_str(), Some(&*pinned), "{name}");
    }
    // What stands in for the compiler that CubeCL would bring moves with CubeCL.
    let stand_in: toml::Table = read("model/cubecl-llvm/Cargo.toml")
        .parse()
        .expect("a manifest");
    let cubecl = versions["cubecl"]["version"].as_str();
    let version = stand_in["package"]["version"].as_str();
    assert_eq!(cubecl.and_then(|pin| pin.strip_prefix('=')), version);
}
