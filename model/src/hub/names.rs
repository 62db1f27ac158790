//! Names of files that a stranger chose, and which of them are wanted.

use glob::Pattern;

use super::record::PullRecord;
use super::{HubError, Kind, RemoteFile};

/// Work in progress in a folder that is being pulled.
pub(super) const WORK: &str = ".pull";

/// What a checkpoint needs, and what says what may be done with it; all in the repository's root.
const CHECKPOINT: [&str; 18] = [
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "*.safetensors",
    "model.safetensors.index.json",
    "lineage.json",
    "LICENSE*",
    "LICENCE*",
    "NOTICE*",
    "USE_POLICY*",
    "README.md",
    "license*",
];
/// The same weights once more in another layout, and parts of a model that need another.
const NO_CHECKPOINT: [&str; 2] = ["consolidated*", "adapter_*"];

/// Refuses a name that would leave the folder, or means different things on different systems.
pub(super) fn check(repo: &str, name: &str) -> Result<(), HubError> {
    let drive = |part: &str| {
        let bytes = part.as_bytes();
        bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':'
    };
    let problem = if name.is_empty() {
        Some("it is empty")
    } else if name.chars().any(char::is_control) {
        Some("it holds control characters")
    } else if name.contains('\\') {
        Some("it holds a backslash")
    } else if name.starts_with('/') {
        Some("it is absolute")
    } else if drive(name) {
        Some("it begins with a drive")
    } else if name.split('/').any(|part| part == ".." || part == ".") {
        Some("it leads out of the folder")
    } else if name.split('/').any(str::is_empty) {
        Some("a part of it is empty")
    } else if name.len() > 1024 || name.split('/').any(|part| part.len() > 255) {
        Some("it is too long")
    } else {
        None
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(HubError::Name {
            repo: repo.to_owned(),
            name: name.to_owned(),
            problem,
        }),
    }
}

/// Divides a listing into what is wanted and what is left out. Without patterns of one's own, a
/// model's files are those that a checkpoint needs, and a data set's are all.
///
/// # Errors
/// A pattern that cannot be read.
pub(super) fn choose(
    kind: Kind,
    patterns: &[String],
    files: Vec<RemoteFile>,
) -> Result<(Vec<RemoteFile>, Vec<RemoteFile>), HubError> {
    let own = parse(patterns.iter().map(String::as_str))?;
    let (checkpoint, other) = (parse(CHECKPOINT)?, parse(NO_CHECKPOINT)?);
    let any = |patterns: &[Pattern], name: &str| patterns.iter().any(|one| one.matches(name));
    let wanted = |file: &RemoteFile| {
        let name = file.name.as_str();
        if is_ours(name) {
            false
        } else if !own.is_empty() {
            any(&own, name)
        } else if kind == Kind::Dataset {
            name != ".gitattributes"
        } else {
            !name.contains('/') && any(&checkpoint, name) && !any(&other, name)
        }
    };
    Ok(files.into_iter().partition(wanted))
}

/// Whether a name is one that pulling itself writes.
pub(super) fn is_ours(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or_default();
    // File systems that do not tell cases apart would mix them up.
    first.eq_ignore_ascii_case(WORK) || name.eq_ignore_ascii_case(PullRecord::FILE)
}

fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Vec<Pattern>, HubError> {
    let read = |pattern: &str| {
        Pattern::new(pattern).map_err(|error| HubError::Pattern {
            pattern: pattern.to_owned(),
            problem: error.msg.to_owned(),
        })
    };
    patterns.into_iter().map(read).collect()
}
