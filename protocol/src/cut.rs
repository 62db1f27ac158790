//! Cutting sampled ids at a place in their text.

use crate::vocab::Vocab;

/// Ids cut at a byte of their text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Ids that lie wholly before the cut; they stay as they were sampled.
    pub whole: usize,
    /// Text before the cut that belongs to the token the cut divides; empty if it divides none.
    ///
    /// It has to be encoded again, so it counts as injected and not as sampled.
    pub rest: String,
}

/// Cuts `ids` so that `keep` bytes of their text stay.
///
/// Where the divided token begins or would be cut inside a UTF-8 character, the rest is dropped:
/// half a character cannot be encoded.
pub fn cut_at(vocab: &dyn Vocab, ids: &[u32], keep: usize) -> Cut {
    let mut at = 0;
    for (whole, &id) in ids.iter().enumerate() {
        let bytes = vocab.bytes(id);
        if at + bytes.len() > keep {
            let rest = String::from_utf8(bytes[..keep - at].to_vec()).unwrap_or_default();
            return Cut { whole, rest };
        }
        at += bytes.len();
    }
    Cut {
        whole: ids.len(),
        rest: String::new(),
    }
}

/// The byte behind the first `needle` in the text of `ids`.
pub fn end_of_first(vocab: &dyn Vocab, ids: &[u32], needle: &str) -> Option<usize> {
    find(&bytes_of(vocab, ids), needle).map(|at| at + needle.len())
}

/// The bytes of `ids`.
pub(crate) fn bytes_of(vocab: &dyn Vocab, ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|&id| vocab.bytes(id)).collect()
}

/// Where the first `needle` begins.
pub(crate) fn find(text: &[u8], needle: &str) -> Option<usize> {
    text.windows(needle.len().max(1))
        .position(|window| window == needle.as_bytes())
}

/// Bytes of `text` without a character that is not finished at its end.
pub(crate) fn whole_characters(text: &[u8]) -> usize {
    let last = text.utf8_chunks().last();
    // More bytes could only finish what may begin a character.
    let broken = last.map_or(&[][..], |chunk| chunk.invalid());
    let begins = broken.first().is_some_and(|&byte| byte >= 0xc2);
    text.len() - if begins { broken.len() } else { 0 }
}
