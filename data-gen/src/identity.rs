//! Ids that a problem keeps, whatever stands around it.

use protocol::Question;
use sha2::{Digest, Sha256};

/// `prefix` and twelve hex digits of a hash of what is asked: statement, with runs of blanks as one,
/// and options. A file in another order, or with more in it, gives the same ids.
pub(crate) fn of(prefix: &str, question: &Question) -> String {
    let mut hash = Sha256::new();
    for text in [&question.text].into_iter().chain(&question.choices) {
        for word in text.split_whitespace() {
            hash.update(word.as_bytes());
            hash.update([b' ']);
        }
        hash.update([0]);
    }
    let digest = hash.finalize();
    let digits: String = digest[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{prefix}-{digits}")
}
