//! Licences of everything that is built in.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::row::tell;

/// Licences under which anything may be built and passed on together with ours.
const LICENCES: [&str; 17] = [
    // Asks for the source of its own files, which are unchanged.
    "MPL-2.0",
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
    "BSL-1.0",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
    "MIT-0",
    "bzip2-1.0.6",
    "NCSA",
    "Apache-2.0 WITH LLVM-exception",
];

/// Whether an expression can be met with licences of the list: of alternatives one, of parts all.
fn is_met(expression: &str) -> bool {
    let text = expression.replace('/', " OR ").replace(['(', ')'], " ");
    // No expression of the tree nests AND in OR otherwise than with brackets that change nothing.
    text.split(" AND ").all(|part| {
        part.split(" OR ").any(|one| {
            LICENCES.contains(
                &one.split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
                    .as_str(),
            )
        })
    })
}

#[test]
fn every_dependency_has_a_licence_that_allows_what_we_do() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let host = Command::new("rustc")
        .arg("-vV")
        .output()
        .expect("rustc runs");
    let host = String::from_utf8_lossy(&host.stdout).into_owned();
    let host = host
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("a host");
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            host,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let mut refused = Vec::new();
    let mut sources = BTreeSet::new();
    for package in packages {
        // One crate has the text of Apache-2.0 and no name for it.
        let licence = match package["name"].as_str() {
            Some("cfg_block") => "Apache-2.0",
            _ => package["license"].as_str().unwrap_or("none"),
        };
        if !is_met(licence) {
            refused.push(format!(
                "{} {}: {licence}",
                package["name"], package["version"]
            ));
        }
        sources.insert(package["source"].as_str().unwrap_or("path").to_owned());
    }
    tell(
        "security: licences",
        &[
            ("packages", &packages.len()),
            ("sources", &sources.len()),
            ("refused", &refused.len()),
        ],
    );
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    let known = |source: &String| source == "path" || source.starts_with("registry+");
    assert!(sources.iter().all(known), "{sources:?}");
}
