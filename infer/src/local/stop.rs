//! Finds stop strings in text that arrives token by token.
//!
//! It works on bytes, because a token may hold a part of a character, and a stop string may begin
//! in one token and end inside another.

/// Searches newly sampled text for stop strings; text from before it was made is never seen.
#[derive(Clone, Debug)]
pub(crate) struct StopScanner {
    strings: Vec<Vec<u8>>,
    /// What was sampled last, as far as a stop string can reach back.
    tail: Vec<u8>,
}

impl StopScanner {
    /// A scanner that has seen nothing yet; no string may be empty.
    pub(crate) fn new(strings: &[String]) -> Self {
        let strings = strings
            .iter()
            .map(|string| string.as_bytes().to_vec())
            .collect();
        Self {
            strings,
            tail: Vec::new(),
        }
    }

    /// Whether there is anything to search for.
    pub(crate) fn is_needed(&self) -> bool {
        !self.strings.is_empty()
    }

    /// Takes the bytes of the next token; the index of the string that is completed first in them,
    /// the lowest if several end at the same byte.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Option<usize> {
        let old = self.tail.len();
        self.tail.extend_from_slice(bytes);
        let ends = old + 1..=self.tail.len();
        let stop = ends
            .flat_map(|end| (0..self.strings.len()).map(move |index| (end, index)))
            .find(|&(end, index)| self.tail[..end].ends_with(&self.strings[index]));
        let reach = self
            .strings
            .iter()
            .map(Vec::len)
            .max()
            .unwrap_or(0)
            .saturating_sub(1);
        self.tail.drain(..self.tail.len().saturating_sub(reach));
        stop.map(|(_, index)| index)
    }
}
