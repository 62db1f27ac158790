//! From messages to a prompt: the chat template that a checkpoint folder carries.
//!
//! Templates are programs written for transformers' Jinja. They run here with the same settings,
//! with limits on their work, memory and time, without files and network, and without a clock: the
//! same messages give the same prompt on every day. Training texts are not built here: many templates drop the reasoning of an assistant's turn.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::Environment;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::tokenizer::{SpecialTokens, TokenizerError};

mod jinja;
mod prompt;

pub use prompt::{OpenThink, Prompt, Prompter};

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A user's message.
    pub fn user(content: impl Into<String>) -> Self {
        Self {
            role: "user".to_owned(),
            content: content.into(),
        }
    }

    fn value(&self) -> minijinja::Value {
        minijinja::Value::from_pairs([("role", self.role.as_str()), ("content", &self.content)])
    }
}

/// A compiled chat template. Cloning is cheap.
#[derive(Clone)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    source: Arc<str>,
    path: PathBuf,
    special: SpecialTokens,
}

/// Why a prompt could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// A file could not be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// `tokenizer_config.json` is not JSON.
    #[error("`{}` is not valid JSON: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        problem: serde_json::Error,
    },
    /// `chat_template` is neither a text nor a list of named texts.
    #[error("`{}`: `chat_template` is neither a text nor a list of named texts", path.display())]
    NotATemplate {
        /// `tokenizer_config.json`.
        path: PathBuf,
    },
    /// A list of templates without the one that is used.
    #[error("`{}` has chat templates {names:?}, but none named `default`", path.display())]
    NoDefault {
        /// `tokenizer_config.json`.
        path: PathBuf,
        /// The names it has.
        names: Vec<String>,
    },
    /// The template is broken, refuses these messages, or works for too long.
    #[error("the chat template of `{}` failed: {problem}", path.display())]
    Template {
        /// The file the template is from.
        path: PathBuf,
        /// What went wrong, with the template's line.
        problem: Box<minijinja::Error>,
    },
    /// The prompt could not be encoded, or the folder's tokenizer not be read.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl ChatTemplate {
    /// Reads the template of a folder: `chat_template.jinja`, else `chat_template` of
    /// `tokenizer_config.json` (of a list, the one named `default`). None if it has neither.
    ///
    /// # Errors
    /// A file that cannot be read, a list without `default`, or a template that does not compile.
    pub fn load(dir: &Path) -> Result<Option<Self>, ChatError> {
        let config_path = dir.join("tokenizer_config.json");
        let settings: Value = match read(dir, "tokenizer_config.json")? {
            Some(text) => serde_json::from_str(&text).map_err(|problem| ChatError::Syntax {
                path: config_path.clone(),
                problem,
            })?,
            None => Value::Null,
        };
        let special = SpecialTokens::new(&settings);
        let path = dir.join("chat_template.jinja");
        if let Some(source) = read(dir, "chat_template.jinja")? {
            return Self::compile(&source, path, special).map(Some);
        }
        match &settings["chat_template"] {
            Value::Null => Ok(None),
            Value::String(source) => Self::compile(source, config_path, special).map(Some),
            Value::Array(named) => {
                let default = named.iter().find(|entry| entry["name"] == "default");
                match default.and_then(|entry| entry["template"].as_str()) {
                    Some(source) => Self::compile(source, config_path, special).map(Some),
                    None => {
                        let names = named.iter().filter_map(|entry| entry["name"].as_str());
                        let names = names.map(str::to_owned).collect();
                        Err(ChatError::NoDefault {
                            path: config_path,
                            names,
                        })
                    }
                }
            }
            _ => Err(ChatError::NotATemplate { path: config_path }),
        }
    }

    /// Compiles a template that is not in a folder. `special` are the tokens it can name, such as
    /// `bos_token`.
    ///
    /// # Errors
    /// [`ChatError::Template`] with the line that does not compile.
    pub fn new(source: &str, special: SpecialTokens) -> Result<Self, ChatError> {
        Self::compile(source, PathBuf::from("chat_template"), special)
    }

    fn compile(source: &str, path: PathBuf, special: SpecialTokens) -> Result<Self, ChatError> {
        let text = source.to_owned();
        let environment = jinja::guarded(move || jinja::environment(&text));
        let environment = environment.map_err(failed(&path))?;
        Ok(Self {
            environment: Arc::new(environment),
            source: source.into(),
            path,
            special,
        })
    }

    /// The text of `messages`; with `add_generation_prompt` it ends where the assistant begins.
    ///
    /// # Errors
    /// [`ChatError::Template`] if the template refuses the messages, is wrong, or does not end.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ChatError> {
        let mut values: Vec<(&str, minijinja::Value)> = vec![
            ("messages", messages.iter().map(Message::value).collect()),
            ("add_generation_prompt", add_generation_prompt.into()),
            ("tools", ().into()),
            ("documents", ().into()),
        ];
        values.extend(
            self.special
                .roles()
                .map(|(role, token)| (role, token.into())),
        );
        if !self.special.additional().is_empty() {
            let tokens = self.special.additional().iter().map(String::as_str);
            values.push(("additional_special_tokens", tokens.collect()));
        }
        let values = minijinja::Value::from_pairs(values);
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let mut environment = Environment::clone(&self.environment);
        environment.set_fuel(Some(jinja::FUEL + bytes as u64));
        let rendered =
            jinja::guarded(move || environment.get_template(jinja::NAME)?.render(values));
        rendered.map_err(failed(&self.path))
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn failed(path: &Path) -> impl FnOnce(minijinja::Error) -> ChatError {
    let path = path.to_owned();
    |problem| ChatError::Template {
        path,
        problem: Box::new(problem),
    }
}

fn read(dir: &Path, name: &str) -> Result<Option<String>, ChatError> {
    crate::folder::read_text(dir, name).map_err(|source| ChatError::Io {
        path: dir.join(name),
        source,
    })
}
