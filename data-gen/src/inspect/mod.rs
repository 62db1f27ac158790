//! Samples token by token: what each token is, whether it carries loss, and where spans meet.

pub mod html;

use protocol::{Sample, SpanKind, Vocab};

/// A sample, decoded.
pub struct Picture {
    /// Its id.
    pub id: String,
    /// Its spans, in order.
    pub spans: Vec<PicturedSpan>,
}

/// A span, decoded.
pub struct PicturedSpan {
    /// What it is.
    pub kind: SpanKind,
    /// Its tokens, in order.
    pub tokens: Vec<Token>,
}

/// A token, decoded.
pub struct Token {
    /// Its id.
    pub id: u32,
    /// What it stands for; see [`token_text`].
    pub text: String,
    /// Its weight in the loss; 0 for the first token of a sample, which nothing can predict.
    pub weight: f64,
}

/// Where two spans meet.
pub struct Border<'a> {
    /// What ends, with its last tokens.
    pub before: (SpanKind, &'a [Token]),
    /// What begins, with its first tokens.
    pub after: (SpanKind, &'a [Token]),
}

/// Tokens of one kind, and how many of them carry loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Tokens.
    pub tokens: u64,
    /// Those with loss.
    pub trained: u64,
}

/// Tokens by kind, in the order of [`SpanKind::ALL`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples.
    pub samples: u64,
    /// By kind.
    pub kinds: [Count; SpanKind::ALL.len()],
}

/// Tokens that are shown on each side of a border.
const BORDER: usize = 4;

impl Picture {
    /// Decodes a sample.
    pub fn of(sample: &Sample, vocab: &dyn Vocab, weight: &dyn Fn(SpanKind) -> f64) -> Self {
        let mut first = true;
        let spans = sample.spans.iter().map(|span| PicturedSpan {
            kind: span.kind,
            tokens: span
                .ids
                .iter()
                .map(|&id| Token {
                    id,
                    text: token_text(id, vocab),
                    weight: if std::mem::take(&mut first) {
                        0.0
                    } else {
                        weight(span.kind)
                    },
                })
                .collect(),
        });
        Self {
            id: sample.id.clone(),
            spans: spans.collect(),
        }
    }

    /// Tokens in all.
    pub fn len(&self) -> usize {
        self.spans.iter().map(|span| span.tokens.len()).sum()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where spans meet, in order.
    pub fn borders(&self) -> impl Iterator<Item = Border<'_>> {
        self.spans.windows(2).map(|pair| {
            let (before, after) = (&pair[0], &pair[1]);
            let last = before.tokens.len().saturating_sub(BORDER);
            Border {
                before: (before.kind, &before.tokens[last..]),
                after: (after.kind, &after.tokens[..after.tokens.len().min(BORDER)]),
            }
        })
    }
}

impl Counts {
    /// Counts the tokens of a sample.
    pub fn add(&mut self, sample: &Sample, weight: &dyn Fn(SpanKind) -> f64) {
        self.samples += 1;
        let mut first = true;
        for span in &sample.spans {
            let place = SpanKind::ALL.iter().position(|kind| *kind == span.kind);
            let count = &mut self.kinds[place.expect("every kind is counted")];
            let tokens = span.ids.len() as u64;
            let unseen = u64::from(tokens > 0 && std::mem::take(&mut first));
            count.tokens += tokens;
            count.trained += if weight(span.kind) > 0.0 {
                tokens - unseen
            } else {
                0
            };
        }
    }

    /// Kinds that occur, with their counts.
    pub fn present(&self) -> impl Iterator<Item = (SpanKind, Count)> + '_ {
        let kinds = SpanKind::ALL.into_iter().zip(self.kinds);
        kinds.filter(|(_, count)| count.tokens > 0)
    }

    /// Counts of all kinds together.
    pub fn all(&self) -> Count {
        self.kinds
            .iter()
            .fold(Count::default(), |sum, count| Count {
                tokens: sum.tokens + count.tokens,
                trained: sum.trained + count.trained,
            })
    }
}

/// What a token stands for: its text, bytes in hex where it holds a part of a character, or its
/// number where it stands for nothing.
pub fn token_text(id: u32, vocab: &dyn Vocab) -> String {
    let bytes = vocab.bytes(id);
    match std::str::from_utf8(&bytes) {
        Ok("") => format!("<{id}>"),
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect(),
    }
}
