//! A micro-batch without padding: documents laid end to end.

/// Token ids of several documents in one row, with the length of each.
///
/// Positions restart at 0 in each document and attention never crosses from one document into
/// another, so a packed batch computes the same as its documents one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// The ids of all documents, one after the other: `[T]`.
    pub ids: Vec<u32>,
    /// The length of each document, in order. They sum to `ids.len()`.
    pub lengths: Vec<usize>,
}

impl Packed {
    /// Lays `documents` end to end.
    pub fn new<D: AsRef<[u32]>>(documents: impl IntoIterator<Item = D>) -> Self {
        let mut packed = Self::default();
        for document in documents {
            packed.push(document.as_ref());
        }
        packed
    }

    /// Appends one document.
    pub fn push(&mut self, document: &[u32]) {
        self.ids.extend_from_slice(document);
        self.lengths.push(document.len());
    }

    /// How many tokens the batch holds.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }
}
