//! Samples as the trainer sees them: checked once, then trusted.

use protocol::{Sample, SpanKind};
use serde::Serialize;

use crate::train_on::TrainOn;

/// A sample that cannot be trained on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// There is none.
    #[error("there are no samples to train on")]
    None,
    /// Two samples of one id: an error about one of them would name both.
    #[error("two samples have the id `{id}`")]
    Twice {
        /// The id.
        id: String,
    },
    /// Its ids come from another tokenizer.
    #[error("sample `{id}` was made with tokenizer {found}, but the model has {expected}")]
    Tokenizer {
        /// The sample.
        id: String,
        /// Hash in the sample.
        found: String,
        /// Hash of the model's tokenizer.
        expected: String,
    },
    /// It is longer than the settings allow.
    #[error("sample `{id}` has {tokens} tokens, more than `max_tokens` = {limit}")]
    TooLong {
        /// The sample.
        id: String,
        /// Its length.
        tokens: usize,
        /// The limit.
        limit: usize,
    },
    /// It is longer than the model's positions.
    #[error("sample `{id}` has {tokens} tokens, but the model has {positions} positions")]
    Positions {
        /// The sample.
        id: String,
        /// Its length.
        tokens: usize,
        /// `max_position_embeddings` of the model.
        positions: usize,
    },
    /// An id that is no row of the embedding.
    #[error("sample `{id}` holds token {token}, but the vocabulary ends at {vocabulary}")]
    Token {
        /// The sample.
        id: String,
        /// The token.
        token: u32,
        /// Rows of the embedding.
        vocabulary: usize,
    },
    /// No token of it carries loss.
    #[error("no token of sample `{id}` carries loss: see `train_on`")]
    Untrained {
        /// The sample.
        id: String,
    },
    /// A problem that is held out is trained on.
    #[error("held-out sample `{id}` is on problem `{problem}`, which is trained on too")]
    Seen {
        /// The held-out sample.
        id: String,
        /// Its problem.
        problem: String,
    },
    /// It begins with the begin-of-text token twice: a template and a tokenizer both added it.
    #[error("sample `{id}` begins with two begin-of-text tokens ({bos})")]
    DoubleBos {
        /// The sample.
        id: String,
        /// The token.
        bos: u32,
    },
}

/// What the samples must fit.
#[derive(Clone, Copy, Debug)]
pub struct Requirements<'a> {
    /// Hash of the model's tokenizer.
    pub tokenizer_hash: &'a str,
    /// Begin-of-text id of the tokenizer (not of config.json, which can be wrong).
    pub bos: Option<u32>,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Positions of the model.
    pub positions: usize,
    /// The settings' limit.
    pub max_tokens: usize,
}

/// What one sample weighs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Weight {
    /// Tokens in all.
    pub(crate) tokens: usize,
    /// Tokens with loss.
    pub(crate) trained: usize,
    /// The sum of their weights.
    pub(crate) sum: f64,
}

/// Tokens of one kind in all samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct KindCount {
    /// The kind.
    pub kind: SpanKind,
    /// Tokens of this kind.
    pub tokens: u64,
    /// Those of them that carry loss.
    pub trained: u64,
}

/// The weight of predicting each token of `sample`, in order, with the token itself.
///
/// The first token has weight 0: nothing stands before it that could predict it.
pub(crate) fn weighted<'a>(
    sample: &'a Sample,
    train_on: &'a TrainOn,
) -> impl Iterator<Item = (u32, f64, SpanKind)> + 'a {
    let tokens = sample
        .spans
        .iter()
        .flat_map(|span| span.ids.iter().map(|id| (*id, span.kind)));
    tokens.enumerate().map(|(index, (id, kind))| {
        (
            id,
            if index == 0 {
                0.0
            } else {
                train_on.weight(kind)
            },
            kind,
        )
    })
}

pub(crate) fn weigh(samples: &[Sample], train_on: &TrainOn) -> Vec<Weight> {
    let weigh = |sample| {
        weighted(sample, train_on).fold(
            Weight {
                tokens: 0,
                trained: 0,
                sum: 0.0,
            },
            |w, token| Weight {
                tokens: w.tokens + 1,
                trained: w.trained + usize::from(token.1 > 0.0),
                sum: w.sum + token.1,
            },
        )
    };
    samples.iter().map(weigh).collect()
}

/// How many tokens of each kind there are, and how many of them carry loss; kinds without a token
/// are left out.
pub fn count_kinds(samples: &[Sample], train_on: &TrainOn) -> Vec<KindCount> {
    let mut counts = SpanKind::ALL.map(|kind| KindCount {
        kind,
        tokens: 0,
        trained: 0,
    });
    for (_, weight, kind) in samples.iter().flat_map(|sample| weighted(sample, train_on)) {
        let count = counts.iter_mut().find(|count| count.kind == kind);
        let count = count.expect("every kind is counted");
        count.tokens += 1;
        count.trained += u64::from(weight > 0.0);
    }
    counts
        .into_iter()
        .filter(|count| count.tokens > 0)
        .collect()
}

/// Checks every sample.
///
/// # Errors
/// The first sample that cannot be trained on.
pub fn check(
    samples: &[Sample],
    train_on: &TrainOn,
    needs: &Requirements<'_>,
) -> Result<(), SampleError> {
    if samples.is_empty() {
        return Err(SampleError::None);
    }
    let mut ids: Vec<&str> = samples.iter().map(|sample| sample.id.as_str()).collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(SampleError::Twice {
            id: pair[0].to_owned(),
        });
    }
    samples
        .iter()
        .try_for_each(|sample| check_one(sample, train_on, needs))
}

/// Checks that no problem of `held_out` is trained on.
///
/// # Errors
/// The first sample whose problem is.
pub(crate) fn check_unseen(samples: &[Sample], held_out: &[Sample]) -> Result<(), SampleError> {
    let trained: std::collections::BTreeSet<&str> = samples
        .iter()
        .map(|sample| sample.problem.as_str())
        .collect();
    match held_out
        .iter()
        .find(|sample| trained.contains(sample.problem.as_str()))
    {
        Some(sample) => Err(SampleError::Seen {
            id: sample.id.clone(),
            problem: sample.problem.clone(),
        }),
        None => Ok(()),
    }
}

fn check_one(
    sample: &Sample,
    train_on: &TrainOn,
    needs: &Requirements<'_>,
) -> Result<(), SampleError> {
    let id = sample.id.clone();
    if sample.tokenizer != needs.tokenizer_hash {
        let (found, expected) = (sample.tokenizer.clone(), needs.tokenizer_hash.to_owned());
        return Err(SampleError::Tokenizer {
            id,
            found,
            expected,
        });
    }
    let tokens = sample.len();
    if tokens > needs.max_tokens {
        return Err(SampleError::TooLong {
            id,
            tokens,
            limit: needs.max_tokens,
        });
    }
    if tokens > needs.positions {
        return Err(SampleError::Positions {
            id,
            tokens,
            positions: needs.positions,
        });
    }
    let mut all = sample.spans.iter().flat_map(|span| &span.ids);
    if let Some(token) = all
        .clone()
        .find(|token| **token as usize >= needs.vocabulary)
    {
        return Err(SampleError::Token {
            id,
            token: *token,
            vocabulary: needs.vocabulary,
        });
    }
    if let Some(bos) = needs.bos
        && all.next() == Some(&bos)
        && all.next() == Some(&bos)
    {
        return Err(SampleError::DoubleBos { id, bos });
    }
    if !weighted(sample, train_on).any(|token| token.1 > 0.0) {
        return Err(SampleError::Untrained { id });
    }
    Ok(())
}
