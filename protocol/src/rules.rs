//! How the protocol treats text: our rules, and those of the authors' code for comparison.
//!
//! Everything in which the two differ is in this file, so that no other place asks which one is
//! in force. Facts about the authors' code: `leap/leap.py`, `leap/utils/util.py` at 589ff64.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cut::find;
use crate::prompt::{SUMMARY_CLOSE, SUMMARY_OPEN, THINK_CLOSE};

/// What separates paragraphs.
pub(crate) const BLANK_LINE: &str = "\n\n";
/// What stands in for the end of a summary that was cut at its limit.
const ELLIPSIS: &str = "...";

/// How text is cut, summaries are closed and read, and hybrid routing fills up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rules {
    /// A cut takes only what was thought since the last block; a summary is what the path wrote in
    /// its block; a reader hears different peers.
    #[default]
    Clean,
    /// As the authors' code: a cut takes everything behind the last blank line of the whole path,
    /// be it the prompt; a summary is what follows the last tag of the whole path; hybrid routing
    /// can choose a peer twice.
    AuthorsCode,
}

/// How a summary is closed that did not close itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Bytes of the sampled text that stay.
    pub keep: usize,
    /// Text put behind them; empty if nothing is missing.
    pub add: String,
}

impl Rules {
    /// Bytes of `text` that a cut before a block keeps: up to the end of its last blank line.
    ///
    /// `text` is the thought since the last block, or the whole path under
    /// [`Rules::AuthorsCode`]. A run of line ends is read from its start, two at a time. Without a
    /// blank line all of it stays, but nothing under [`Rules::AuthorsCode`].
    pub fn cut(self, text: &[u8]) -> usize {
        let last = blank_lines(text).last();
        last.unwrap_or(match self {
            Self::Clean => text.len(),
            Self::AuthorsCode => 0,
        })
    }

    /// Whether a cut can reach behind the thought since the last block.
    pub(crate) fn cuts_whole_path(self) -> bool {
        self == Self::AuthorsCode
    }

    /// Whether hybrid routing may choose a peer twice.
    pub(crate) fn repeats_peers(self) -> bool {
        self == Self::AuthorsCode
    }

    /// How the sampled text of a summary is closed.
    ///
    /// [`Rules::Clean`]: a closing tag ends the summary; what follows the end of a thought is left
    /// out, for a thought cannot end inside a summary; a tag that was begun is completed.
    /// [`Rules::AuthorsCode`]: every end of a thought is deleted, and a tag counts only if it is
    /// the last thing.
    pub fn close(self, text: &[u8]) -> Closing {
        let thought = find(text, THINK_CLOSE);
        match self {
            Self::Clean => {
                let end = thought.unwrap_or(text.len());
                match find(&text[..end], SUMMARY_CLOSE) {
                    Some(at) => Closing {
                        keep: at + SUMMARY_CLOSE.len(),
                        add: String::new(),
                    },
                    None => Closing {
                        keep: end,
                        add: missing(&text[..end]),
                    },
                }
            }
            Self::AuthorsCode => {
                let keep = thought.unwrap_or(text.len());
                let rest = String::from_utf8_lossy(&text[keep..]).replace(THINK_CLOSE, "");
                let whole = [&text[..keep], rest.as_bytes()].concat();
                Closing {
                    keep,
                    add: rest + &missing(&whole),
                }
            }
        }
    }

    /// What peers read of a path: `path` is its whole text, `block` that of the block, from its
    /// trigger on.
    pub fn heard(self, path: &str, block: &str) -> String {
        match self {
            Self::Clean => {
                let own = block.split_once(SUMMARY_OPEN).map_or(block, |(_, own)| own);
                let own = own.strip_suffix(SUMMARY_CLOSE).unwrap_or(own);
                own.trim().to_string()
            }
            Self::AuthorsCode => {
                let open = path.rfind(SUMMARY_OPEN);
                let own = &path[open.map_or(0, |at| at + SUMMARY_OPEN.len())..];
                let own = own.split(SUMMARY_CLOSE).next().unwrap_or_default();
                // Python's `strip` takes four separators for white space that Unicode does not.
                let blank = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
                own.trim_matches(blank).to_string()
            }
        }
    }
}

/// Where each blank line of `text` ends.
fn blank_lines(text: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..)?;
        at += find(rest, BLANK_LINE)? + BLANK_LINE.len();
        Some(at)
    })
}

/// What `summary` needs to end with its closing tag. A tag that was begun is completed; a lone `<`
/// may be anything.
fn missing(summary: &[u8]) -> String {
    let begun = (2..=SUMMARY_CLOSE.len())
        .rev()
        .find(|&length| summary.ends_with(&SUMMARY_CLOSE.as_bytes()[..length]));
    match begun {
        Some(length) => SUMMARY_CLOSE[length..].to_string(),
        None => longest_closing(),
    }
}

/// Most that [`Rules::close`] can add to a summary that ends at its limit.
pub(crate) fn longest_closing() -> String {
    format!("{ELLIPSIS} {SUMMARY_CLOSE}")
}
