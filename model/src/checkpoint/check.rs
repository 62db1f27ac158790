//! All that is wrong with a checkpoint folder, where [`super::verify`] stops at the first thing.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use super::weights::{Index, SINGLE};
use super::{CheckpointError, Weights, files, identity, read};
use crate::chat::{ChatError, ChatTemplate};
use crate::config::{ConfigError, ModelConfig};
use crate::lineage::Record;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// One thing that is wrong with a checkpoint folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Name of the file it was found in, or that lacks something.
    pub file: String,
    /// What is wrong; names the tensor if it is about one.
    pub problem: String,
}

/// Looks for everything that is wrong with a checkpoint folder: files that are missing or broken,
/// tensors that are missing, left over, of another shape or not finite, a tokenizer or a chat
/// template that cannot be used, and weights that are not those of `lineage.json`. None of it: the
/// folder is good. Memory holds one tensor.
///
/// # Errors
/// There is nothing to be checked: no folder, no config.json, no weights, or a model that this
/// crate does not know.
pub fn damages(dir: &Path) -> Result<Vec<Damage>, CheckpointError> {
    files::check_folder(dir)?;
    let mut found = Vec::new();
    let config = config(dir, &mut found)?;
    if let Some(config) = &config {
        check_ends(dir, config, &mut found);
    }
    match Weights::survey(dir) {
        Ok((weights, problems)) => {
            check_weights(dir, config.as_ref(), &weights, problems, &mut found)?
        }
        Err(problem @ CheckpointError::NoWeights { .. }) => return Err(problem),
        Err(problem) => found.push(damage(super::weights::INDEX, &problem)),
    }
    match Tokenizer::load(dir).and_then(|tokenizer| match &config {
        Some(config) => tokenizer.check_fits(config),
        None => Ok(()),
    }) {
        Ok(()) | Err(TokenizerError::NotFound { .. }) => {}
        Err(problem) => found.push(damage(&file_of_tokenizer(&problem), &problem)),
    }
    match ChatTemplate::load(dir) {
        // The tokenizer's own files have had their say.
        Ok(_) | Err(ChatError::Syntax { .. } | ChatError::Tokenizer(_)) => {}
        Err(problem) => {
            let path = match &problem {
                ChatError::Io { path, .. }
                | ChatError::NotATemplate { path }
                | ChatError::NoDefault { path, .. }
                | ChatError::Template { path, .. } => file_name(path),
                ChatError::Syntax { .. } | ChatError::Tokenizer(_) => String::new(),
            };
            found.push(damage(&path, &problem));
        }
    }
    match read::record(dir) {
        // Damaged weights have another hash for sure.
        Ok(Some(record)) if found.is_empty() => {
            let weights = identity::weights_hash(dir)?;
            if let Err(problem) = read::check_unchanged(dir, &record, &weights) {
                found.push(damage(Record::FILE, &problem));
            }
        }
        Ok(_) => {}
        Err(problem) => found.push(damage(Record::FILE, &problem)),
    }
    Ok(found)
}

/// The config, or None and what is wrong with it. A config that is sound and describes a model that
/// is not supported is no damage.
fn config(dir: &Path, found: &mut Vec<Damage>) -> Result<Option<ModelConfig>, CheckpointError> {
    for name in ["config.json", "generation_config.json"] {
        files::inside(dir, name)?;
    }
    match ModelConfig::read(dir) {
        Ok(config) => Ok(Some(config)),
        Err(ConfigError::InFile { path, problem })
            if matches!(
                *problem,
                ConfigError::Syntax { .. } | ConfigError::NotAnObject { .. }
            ) =>
        {
            found.push(damage(&file_name(&path), &problem));
            Ok(None)
        }
        Err(problem) => Err(problem.into()),
    }
}

/// Whether a model can say the ids by which generation_config.json ends its texts.
fn check_ends(dir: &Path, config: &ModelConfig, found: &mut Vec<Damage>) {
    let ends = ModelConfig::generation_eos(dir).unwrap_or_default();
    for id in ends {
        if id as usize >= config.vocab_size {
            found.push(Damage {
                file: "generation_config.json".to_owned(),
                problem: format!(
                    "end-of-text id {id} is outside the vocabulary of {} ids",
                    config.vocab_size
                ),
            });
        }
    }
}

fn check_weights(
    dir: &Path,
    config: Option<&ModelConfig>,
    weights: &Weights,
    problems: Vec<(String, CheckpointError)>,
    found: &mut Vec<Damage>,
) -> Result<(), CheckpointError> {
    let broken: BTreeSet<String> = problems.iter().map(|(file, _)| file.clone()).collect();
    for (file, problem) in &problems {
        found.push(damage(file, problem));
    }
    // Of a model in several files, the index says where a tensor should have been.
    let index = match files::inside(dir, SINGLE)? {
        Some(_) => None,
        None => Index::read(dir)?,
    };
    let home = |name: &str| match &index {
        None => SINGLE.to_owned(),
        Some(index) => match index.weight_map.get(name) {
            Some(file) => file.clone(),
            None => super::weights::INDEX.to_owned(),
        },
    };
    if let Some(config) = config {
        for misfit in read::misfits(config, weights)? {
            let file = match &misfit {
                CheckpointError::Missing { name, .. } => {
                    let file = home(name);
                    if broken.contains(&file) {
                        continue;
                    }
                    file
                }
                CheckpointError::Shape { name, .. } | CheckpointError::Unexpected { name, .. } => {
                    weights.file_of(name).unwrap_or_default()
                }
                _ => "config.json".to_owned(),
            };
            found.push(damage(&file, &misfit));
        }
    }
    for (name, _) in weights.tensors() {
        if let Err(problem) = weights.read(name) {
            found.push(damage(&weights.file_of(name).unwrap_or_default(), &problem));
        }
    }
    Ok(())
}

fn file_of_tokenizer(problem: &TokenizerError) -> String {
    match problem {
        TokenizerError::NotFound { path }
        | TokenizerError::Io { path, .. }
        | TokenizerError::Syntax { path, .. }
        | TokenizerError::Parser { path, .. }
        | TokenizerError::UnknownToken { path, .. }
        | TokenizerError::Contradiction { path, .. } => file_name(path),
        TokenizerError::TooManyIds { .. }
        | TokenizerError::Encode { .. }
        | TokenizerError::Training { .. } => "tokenizer.json".to_owned(),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn damage(file: &str, problem: &dyn std::error::Error) -> Damage {
    let mut text = problem.to_string();
    if let Some(cause) = problem.source() {
        text = format!("{text}: {cause}");
    }
    Damage {
        file: file.to_owned(),
        problem: without_path(&text, file),
    }
}

/// The file is named already: a second time, and with its folder, it would hide what is wrong.
fn without_path(text: &str, file: &str) -> String {
    let quoted = text.split('`').enumerate().map(|(index, part)| {
        let named = index % 2 == 1 && Path::new(part).file_name() == Some(file.as_ref());
        match (index % 2, named) {
            (1, true) => "it".to_owned(),
            (1, false) => format!("`{part}`"),
            _ => part.to_owned(),
        }
    });
    let text: String = quoted.collect();
    text.strip_prefix("it: ").unwrap_or(&text).to_owned()
}
