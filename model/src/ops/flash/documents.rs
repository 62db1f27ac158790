//! Documents that lie one behind the other.

use super::super::Heads;
use super::graph::Sizes;

/// The fewest tokens that plans are made for.
const LEAST: usize = 1024;

/// The documents of a batch, none of them empty, and the heads of their attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Documents {
    heads: Heads,
    lengths: Vec<usize>,
}

impl Documents {
    /// Those of `lengths` that have a token.
    pub(super) fn new(heads: Heads, lengths: &[usize]) -> Self {
        let there = lengths.iter().copied().filter(|length| *length > 0);
        Self {
            heads,
            lengths: there.collect(),
        }
    }

    /// Query heads, H.
    #[cfg(feature = "cuda")]
    pub(super) fn query_heads(&self) -> usize {
        self.heads.query
    }

    /// The sizes of the graph that serves them: powers of four of documents and of two of tokens, so that
    /// few plans serve all batches. cuDNN takes seconds to compile for one, and what is not there costs little.
    pub(super) fn sizes(&self) -> Sizes {
        let longest = self.lengths.iter().copied().max().unwrap_or(1);
        let doublings = self.lengths.len().next_power_of_two().ilog2();
        Sizes {
            heads: self.heads,
            documents: 1 << (2 * doublings.div_ceil(2)),
            tokens: longest.next_power_of_two().max(LEAST),
        }
    }

    /// Whether offsets can be said in 32 bits.
    pub(super) fn fit(&self) -> bool {
        let tokens: usize = self.lengths.iter().sum();
        let elements = tokens.checked_mul(self.heads.query * self.heads.dim);
        elements.is_some_and(|elements| i32::try_from(elements).is_ok())
    }

    /// What the card is told of them: lengths twice over (for queries and keys it is the same), and where
    /// documents begin in arrays of H * D, of K * D and of H elements a token. Documents up to the graph's
    /// number are empty and lie at the end.
    pub(super) fn said(&self, sizes: Sizes) -> [Vec<i32>; 4] {
        let mut lengths = self.lengths.clone();
        lengths.resize(sizes.documents, 0);
        let Heads {
            query,
            key_value,
            dim,
        } = self.heads;
        let offsets = |width: usize| {
            let mut sum = 0;
            let ends = lengths.iter().map(|length| {
                sum += length * width;
                sum as i32
            });
            std::iter::once(0).chain(ends).collect::<Vec<i32>>()
        };
        let parts = [query * dim, key_value * dim, query].map(offsets);
        let [queries, keys, sums] = parts;
        let lengths = lengths.iter().map(|length| *length as i32).collect();
        [lengths, queries, keys, sums]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: Heads = Heads {
        query: 6,
        key_value: 2,
        dim: 8,
    };

    #[test]
    fn few_sizes_serve_all_batches() {
        for (lengths, documents, tokens) in [
            (&[1][..], 1, 1024),
            (&[1024, 0], 1, 1024),
            (&[1025], 1, 2048),
            (&[5, 7], 4, 1024),
            (&[5, 0, 7, 9000], 4, 16_384),
            (&[100; 5], 16, 1024),
            (&[100; 33], 64, 1024),
        ] {
            let sizes = Documents::new(HEADS, lengths).sizes();
            assert_eq!(
                (sizes.documents, sizes.tokens),
                (documents, tokens),
                "{lengths:?}"
            );
        }
    }

    #[test]
    fn offsets_are_in_elements_and_empty_documents_lie_at_the_end() {
        let documents = Documents::new(HEADS, &[3, 0, 5, 2]);
        let said = documents.said(documents.sizes());
        assert_eq!(said[0], [3, 5, 2, 0]);
        assert_eq!(said[1], [0, 144, 384, 480, 480]);
        assert_eq!(said[2], [0, 48, 128, 160, 160]);
        assert_eq!(said[3], [0, 18, 48, 60, 60]);
    }

    #[test]
    fn offsets_have_to_fit() {
        let heads = Heads {
            query: 40,
            key_value: 8,
            dim: 128,
        };
        assert!(Documents::new(heads, &[131_072]).fit());
        assert!(!Documents::new(heads, &[300_000, 131_072]).fit());
    }
}
