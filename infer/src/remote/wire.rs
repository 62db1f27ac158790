//! Completions as JSON: what is sent, and what is read of the answer.
//!
//! One body serves vLLM, SGLang and servers like them; llama.cpp is asked at its own `/completion`,
//! because only there it tells ids and which stop string was met.

use protocol::{Sampling, Stop};
use serde::{Deserialize, Serialize};

use super::able::{Able, Dialect, Extras, Prompts, Stops};
use super::failure::{Class, Failure};

/// One thing a server is asked, whoever it is.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// The whole path.
    pub(super) ids: Vec<u32>,
    /// The same as text, where a server takes no ids.
    pub(super) text: Option<String>,
    pub(super) sampling: Sampling,
    pub(super) stop: Stop,
    pub(super) max_tokens: usize,
    /// Below 2^31: what every server can take.
    pub(super) seed: u32,
}

/// Why a server stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The budget was used up, or the server's longest text reached.
    Length,
    /// An end id, or a stop string, whose text may be told.
    Stop(Option<String>),
}

/// A completion as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) text: String,
    pub(super) ids: Option<Vec<u32>>,
    pub(super) ended: Ended,
    /// Tokens of the prompt, as the server counts them.
    pub(super) prompt_tokens: Option<usize>,
    /// Tokens that were sampled, as the server counts them.
    pub(super) sampled_tokens: Option<usize>,
}

impl Reply {
    /// After how many tokens at most it was ended for its length, where that is told.
    pub(super) fn ended_at(&self) -> Option<usize> {
        match (&self.ended, &self.ids) {
            (Ended::Stop(_), _) => None,
            (Ended::Length, Some(ids)) => Some(ids.len()),
            // Not every server counts the last one.
            (Ended::Length, None) => self.sampled_tokens.map(|count| count + 1),
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Prompt<'a> {
    Ids(&'a [u32]),
    Text(&'a str),
}

#[derive(Serialize)]
struct OpenAi<'a> {
    model: &'a str,
    prompt: Prompt<'a>,
    max_tokens: usize,
    temperature: f32,
    top_p: f32,
    seed: u32,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    ranks: Option<Ranks>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    more: Option<More<'a>>,
}

#[derive(Serialize)]
struct Ranks {
    /// -1 = all: 0 is refused by older servers.
    top_k: i64,
    min_p: f32,
}

/// What vLLM and SGLang understand beyond that; each passes over what only the other knows.
#[derive(Serialize)]
struct More<'a> {
    stop_token_ids: &'a [u32],
    return_token_ids: bool,
    include_stop_str_in_output: bool,
    no_stop_trim: bool,
    skip_special_tokens: bool,
    spaces_between_special_tokens: bool,
    /// A begin-of-text token is among the ids; a second one costs accuracy.
    add_special_tokens: bool,
    repetition_penalty: f32,
}

#[derive(Serialize)]
struct LlamaCpp<'a> {
    prompt: Prompt<'a>,
    n_predict: usize,
    temperature: f32,
    top_p: f32,
    top_k: i64,
    min_p: f32,
    seed: u32,
    stop: &'a [String],
    /// Its own order is another one, in which the temperature comes last.
    samplers: [&'static str; 4],
    cache_prompt: bool,
    return_tokens: bool,
    response_fields: [&'static str; 5],
}

/// Writes the body of a request into `to`, which is emptied first.
pub(super) fn write(to: &mut Vec<u8>, ask: &Ask, model: &str, able: &Able) {
    to.clear();
    let prompt = match (able.prompts, &ask.text) {
        (Prompts::Ids, _) => Prompt::Ids(&ask.ids),
        (Prompts::Text { .. }, text) => Prompt::Text(text.as_deref().unwrap_or_default()),
    };
    let Sampling {
        temperature,
        top_k,
        top_p,
        min_p,
    } = ask.sampling;
    let top_k = match top_k {
        0 => -1,
        top_k => top_k as i64,
    };
    // A server whose stops cannot be told apart is not given any: its text is cut here.
    let stop: &[String] = match able.stops {
        Stops::Ours => &[],
        _ => &ask.stop.strings,
    };
    let written = match able.dialect {
        Dialect::LlamaCpp => serde_json::to_writer(
            to,
            &LlamaCpp {
                prompt,
                n_predict: ask.max_tokens,
                temperature,
                top_p,
                top_k,
                min_p,
                seed: ask.seed,
                stop,
                samplers: ["temperature", "min_p", "top_k", "top_p"],
                cache_prompt: true,
                return_tokens: true,
                response_fields: [
                    "content",
                    "tokens",
                    "stop_type",
                    "stopping_word",
                    "tokens_evaluated",
                ],
            },
        ),
        Dialect::Vllm | Dialect::Sglang | Dialect::OpenAi => serde_json::to_writer(
            to,
            &OpenAi {
                model,
                prompt,
                max_tokens: ask.max_tokens,
                temperature,
                top_p,
                seed: ask.seed,
                stop,
                ranks: (able.extras != Extras::None).then_some(Ranks { top_k, min_p }),
                more: (able.extras == Extras::All).then_some(More {
                    stop_token_ids: &ask.stop.eos,
                    return_token_ids: true,
                    include_stop_str_in_output: true,
                    no_stop_trim: true,
                    skip_special_tokens: false,
                    spaces_between_special_tokens: false,
                    add_special_tokens: false,
                    repetition_penalty: 1.0,
                }),
            },
        ),
    };
    written.expect("numbers and texts can be written");
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Default, Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: Option<usize>,
    #[serde(default)]
    completion_tokens: Option<usize>,
}

#[derive(Deserialize)]
struct Choice {
    text: String,
    #[serde(default)]
    finish_reason: Option<String>,
    /// vLLM's name for what was met: a text, an id, or nothing for the end of text.
    #[serde(default)]
    stop_reason: Option<Met>,
    /// SGLang's.
    #[serde(default)]
    matched_stop: Option<Met>,
    #[serde(default)]
    token_ids: Option<Vec<u32>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Met {
    Text(String),
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct RawLlamaCpp {
    content: String,
    tokens: Vec<u32>,
    stop_type: String,
    #[serde(default)]
    stopping_word: String,
    #[serde(default)]
    tokens_evaluated: Option<usize>,
}

/// Reads an answer.
pub(super) fn read(body: &[u8], dialect: Dialect) -> Result<Reply, Failure> {
    match dialect {
        Dialect::LlamaCpp => read_llama_cpp(body),
        Dialect::Vllm | Dialect::Sglang | Dialect::OpenAi => read_open_ai(body),
    }
}

fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::new(
        Class::Unreadable,
        format!("the answer is no completion: {error}"),
    )
}

fn read_open_ai(body: &[u8]) -> Result<Reply, Failure> {
    let raw: Raw = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    let choices = raw.choices.unwrap_or_default();
    let count = choices.len();
    let [choice] = <[Choice; 1]>::try_from(choices).map_err(|_| {
        Failure::new(
            Class::WrongCount,
            format!("{count} choices came back for one request"),
        )
    })?;
    let met = [choice.stop_reason, choice.matched_stop];
    let text = met.into_iter().flatten().find_map(|met| match met {
        Met::Text(text) => Some(text),
        Met::Other(_) => None,
    });
    let ended = match choice.finish_reason.as_deref() {
        Some("length") => Ended::Length,
        Some("stop") => Ended::Stop(text),
        other => return Err(given_up(other.unwrap_or("none"))),
    };
    let usage = raw.usage.unwrap_or_default();
    Ok(Reply {
        text: choice.text,
        ids: choice.token_ids,
        ended,
        prompt_tokens: usage.prompt_tokens,
        sampled_tokens: usage.completion_tokens,
    })
}

fn read_llama_cpp(body: &[u8]) -> Result<Reply, Failure> {
    let raw: RawLlamaCpp = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    let ended = match raw.stop_type.as_str() {
        "limit" => Ended::Length,
        "eos" => Ended::Stop(None),
        "word" => Ended::Stop(Some(raw.stopping_word)),
        other => return Err(given_up(other)),
    };
    Ok(Reply {
        text: raw.content,
        ids: Some(raw.tokens),
        ended,
        prompt_tokens: raw.tokens_evaluated,
        sampled_tokens: None,
    })
}

fn given_up(reason: &str) -> Failure {
    let text = format!("the server gave the request up (finish reason `{reason}`)");
    Failure::new(Class::ServerError, text)
}
