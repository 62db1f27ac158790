//! Which peers a path hears.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::seed::Stream;

/// A rule that picks peers by how alike their summaries are to the reader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Router {
    /// The least similar peers, least first. Source: paper, eq. 1.
    Dispersed,
    /// The most similar peers, most first. Source: paper, eq. 2.
    #[serde(alias = "similar")]
    Clustered,
    /// `k/2` of the least similar, then most similar ones until `k` are chosen.
    ///
    /// Source: paper, eq. 3. The authors' code can pick the same peer twice; here the union is
    /// refilled, so that a reader hears `k` different peers.
    Hybrid,
    /// Peers by lot. Source: paper, appendix C.1.
    Random,
    /// Every peer, in path order.
    All,
}

/// What one path hears in one block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// The path that reads.
    pub reader: u32,
    /// The paths it hears, in the order they are shown to it.
    pub peers: Vec<u32>,
    /// Similarity of each heard summary to the reader's own.
    pub scores: Vec<f64>,
}

impl Router {
    /// Which of `n` summaries `reader` hears, at most `count`, in the order they are shown.
    ///
    /// `similarity` is the row of the reader: its similarity to each of the `n` summaries. The
    /// result never holds the reader, nor anybody twice, and has `min(count, n - 1)` entries
    /// (`n - 1` for [`Router::All`]). Ties keep path order; `lot` decides for [`Router::Random`].
    ///
    /// # Panics
    /// If `reader` is not below `similarity.len()`: a bug of the caller.
    pub fn select(
        self,
        similarity: &[f64],
        reader: usize,
        count: usize,
        lot: &Stream,
    ) -> Vec<usize> {
        let n = similarity.len();
        assert!(reader < n, "the reader is one of the paths");
        let mut peers: Vec<usize> = (0..n).filter(|&path| path != reader).collect();
        let count = count.min(peers.len());
        // Stable sorts: equal similarity keeps the lower path first.
        let nearest = |peers: &mut Vec<usize>| {
            peers.sort_by(|&a, &b| similarity[b].total_cmp(&similarity[a]));
        };
        match self {
            Self::All => return peers,
            Self::Dispersed => peers.sort_by(|&a, &b| similarity[a].total_cmp(&similarity[b])),
            Self::Clustered => nearest(&mut peers),
            Self::Random => lot.shuffle(&mut peers),
            Self::Hybrid => {
                let mut far = peers.clone();
                far.sort_by(|&a, &b| similarity[a].total_cmp(&similarity[b]));
                far.truncate(count / 2);
                nearest(&mut peers);
                peers.retain(|path| !far.contains(path));
                far.extend(peers);
                peers = far;
            }
        }
        peers.truncate(count);
        peers
    }

    /// As [`Router::select`], but both halves of [`Router::Hybrid`] are drawn from all peers, so
    /// that one can be heard twice. Source: `leap/utils/util.py`, `get_topk_all_gather`.
    ///
    /// # Panics
    /// As [`Router::select`].
    pub fn select_with_repeats(
        self,
        similarity: &[f64],
        reader: usize,
        count: usize,
        lot: &Stream,
    ) -> Vec<usize> {
        match self {
            Self::Hybrid => {
                let mut far = Self::Dispersed.select(similarity, reader, count / 2, lot);
                let near = count - count / 2;
                far.extend(Self::Clustered.select(similarity, reader, near, lot));
                far
            }
            other => other.select(similarity, reader, count, lot),
        }
    }
}
