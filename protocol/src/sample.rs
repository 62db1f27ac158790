//! What is trained on: one path of a trace, as spans of ids.

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::trace::{NoPlainPrompt, Span, SpanKind, Trace};

/// One line of samples.jsonl.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// Version of this format; another one than [`Sample::VERSION`] is refused where it is read.
    #[serde(deserialize_with = "known_version")]
    pub version: u32,
    /// `problem#group.path`, unique in its file.
    pub id: String,
    /// Id of the problem.
    pub problem: String,
    /// Hash of the tokenizer that made the ids; training with another one is refused.
    pub tokenizer: String,
    /// The ids, by what they are; the kind decides whether a token carries loss.
    pub spans: Vec<SampleSpan>,
}

fn known_version<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        Sample::VERSION => Ok(Sample::VERSION),
        found => Err(D::Error::custom(format!(
            "the sample has version {found}, but this build reads version {}",
            Sample::VERSION
        ))),
    }
}

/// Consecutive ids of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SampleSpan {
    /// What these ids are.
    pub kind: SpanKind,
    /// The ids.
    pub ids: Vec<u32>,
}

/// Why spans cannot be encoded again with another tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sample `{id}` was made with tokenizer {found}, but this is the text of {expected}")]
pub struct WrongTokenizer {
    /// The sample.
    pub id: String,
    /// Hash in the sample.
    pub found: String,
    /// Hash of the tokenizer it should be decoded with.
    pub expected: String,
}

impl Sample {
    /// The version this build reads and writes.
    pub const VERSION: u32 = 1;

    /// Changes with what [`Sample::of_path`] makes of a trace, so that what was made before is made again: since 2 the
    /// prompt is that of a trained model.
    pub const MAKING: u32 = 2;

    /// Path `path` of `trace`, as a trained model would have it: it begins with the prompt that such
    /// a model is asked with, also where the model that wrote it was shown an example
    /// ([`Trace::as_trained`]).
    ///
    /// # Errors
    /// If the trace does not hold that prompt.
    ///
    /// # Panics
    /// If the trace has no such path: a bug of the caller.
    pub fn of_path(trace: &Trace, path: usize) -> Result<Self, NoPlainPrompt> {
        let (prompt, rest) = trace.as_trained(path)?;
        let prompt = (SpanKind::Prompt, prompt);
        let rest = rest.iter().map(|span: &Span| (span.kind, &*span.ids));
        Ok(Self {
            version: Self::VERSION,
            id: format!("{}#{}.{path}", trace.problem, trace.group),
            problem: trace.problem.clone(),
            tokenizer: trace.origin.tokenizer.clone(),
            spans: [prompt]
                .into_iter()
                .chain(rest)
                .filter(|(_, ids)| !ids.is_empty())
                .map(|(kind, ids)| SampleSpan {
                    kind,
                    ids: ids.to_vec(),
                })
                .collect(),
        })
    }

    /// Tokens in all.
    pub fn len(&self) -> usize {
        self.spans.iter().map(|span| span.ids.len()).sum()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of the kinds that `counts` accepts.
    pub fn tokens(&self, counts: impl Fn(SpanKind) -> bool) -> usize {
        self.spans
            .iter()
            .filter(|span| counts(span.kind))
            .map(|span| span.ids.len())
            .sum()
    }

    /// The same texts in the ids of another tokenizer, span by span, so that every span keeps its
    /// kind and its loss. An explicit step: ids change, so this is not what was sampled any more.
    ///
    /// # Errors
    /// If `from` is not the tokenizer that made the sample.
    pub fn reencode(
        &self,
        from: &dyn crate::Vocab,
        to: &dyn crate::Vocab,
    ) -> Result<Self, WrongTokenizer> {
        if from.hash() != self.tokenizer {
            return Err(WrongTokenizer {
                id: self.id.clone(),
                found: self.tokenizer.clone(),
                expected: from.hash().to_string(),
            });
        }
        let spans = self.spans.iter().map(|span| {
            let ended = span.ids.last().is_some_and(|id| from.eos().contains(id));
            let kept = &span.ids[..span.ids.len() - usize::from(ended)];
            let mut ids = to.encode(&from.text(kept));
            ids.extend(to.eos().first().filter(|_| ended));
            SampleSpan {
                kind: span.kind,
                ids,
            }
        });
        let spans = spans.collect();
        Ok(Self {
            tokenizer: to.hash().to_string(),
            spans,
            ..self.clone()
        })
    }
}
