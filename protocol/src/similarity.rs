//! How alike two summaries are: the paper's measure and the one of the authors' code.

use rapidfuzz::distance::{indel, levenshtein};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A similarity in `[0, 1]` over Unicode code points; two empty texts are equal (1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Similarity {
    /// `1 - lev(a, b) / max(|a|, |b|)`. Source: LeaP paper, eq. 4.
    Levenshtein,
    /// `1 - indel(a, b) / (|a| + |b|)`, which the authors' code uses (`Levenshtein.ratio`). It
    /// favours short summaries for dispersed routing.
    Indel,
}

impl Similarity {
    /// The similarity of `a` and `b`.
    pub fn of(self, a: &str, b: &str) -> f64 {
        match self {
            Self::Levenshtein => levenshtein::normalized_similarity(a.chars(), b.chars()),
            Self::Indel => indel::normalized_similarity(a.chars(), b.chars()),
        }
    }

    /// All pairs of `texts`, each computed once; row-major `n x n` with 1 on the diagonal.
    pub fn matrix(self, texts: &[&str]) -> Vec<f64> {
        let n = texts.len();
        let mut all = vec![1.0; n * n];
        for row in 0..n {
            let alike = self.to(texts[row]);
            for column in row + 1..n {
                let value = alike(texts[column]);
                all[row * n + column] = value;
                all[column * n + row] = value;
            }
        }
        all
    }

    /// The similarity to `text`, which is prepared once for many comparisons.
    fn to(self, text: &str) -> Box<dyn Fn(&str) -> f64> {
        match self {
            Self::Levenshtein => {
                let text = levenshtein::BatchComparator::new(text.chars());
                Box::new(move |other| text.normalized_similarity(other.chars()))
            }
            Self::Indel => {
                let text = indel::BatchComparator::new(text.chars());
                Box::new(move |other| text.normalized_similarity(other.chars()))
            }
        }
    }
}
