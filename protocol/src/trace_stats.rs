//! What a set of traces holds, counted.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reaction::{Reaction, reactions};
use crate::trace::{PathEnd, SpanKind, Trace};

/// Counts over traces. Token counts are over all paths, those whose answer does not count included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceStats {
    /// Traces, each a group.
    pub groups: u64,
    /// Problems they are on.
    pub problems: u64,
    /// Groups by method.
    pub methods: BTreeMap<String, u64>,
    /// Paths.
    pub paths: u64,
    /// Paths by how they ended.
    pub ends: BTreeMap<String, u64>,
    /// Tokens that stand in the paths, by what they are.
    pub tokens: BTreeMap<SpanKind, u64>,
    /// Sampled tokens that were cut off again.
    pub dropped: u64,
    /// Longest path in tokens, prompt included.
    pub longest: u64,
    /// Blocks, summed over groups.
    pub rounds: u64,
    /// Times a path read its peers.
    pub readings: u64,
    /// Readings in which nobody was left to be heard.
    pub without_peers: u64,
    /// Summaries written.
    pub summaries: u64,
    /// Those that the path opened itself.
    pub self_opened: u64,
    /// Those that were cut at their limit.
    pub cut_summaries: u64,
    /// Readings by block and by what the reader did: see [`crate::reaction`].
    pub reactions: BTreeMap<u32, BTreeMap<Reaction, u64>>,
}

impl TraceStats {
    /// Counts these traces.
    ///
    /// # Panics
    /// If a trace names a path that it does not hold: [`Trace::check`] finds that.
    pub fn of<'a>(traces: impl IntoIterator<Item = &'a Trace>) -> Self {
        let mut stats = Self::default();
        let mut problems = std::collections::BTreeSet::new();
        for trace in traces {
            problems.insert(&trace.problem);
            stats.add(trace);
        }
        stats.problems = problems.len() as u64;
        stats
    }

    fn add(&mut self, trace: &Trace) {
        self.groups += 1;
        *self.methods.entry(trace.method.name().into()).or_default() += 1;
        self.rounds += trace.blocks.len() as u64;
        for route in trace.blocks.iter().flat_map(|block| &block.routes) {
            self.readings += 1;
            self.without_peers += u64::from(route.peers.is_empty());
        }
        for (block, counts) in reactions(trace) {
            let sums = self.reactions.entry(block).or_default();
            for (reaction, count) in counts {
                *sums.entry(reaction).or_default() += count;
            }
        }
        for path in &trace.paths {
            self.paths += 1;
            *self.ends.entry(end_name(&path.end).into()).or_default() += 1;
            self.dropped += path.dropped() as u64;
            self.longest = self.longest.max(path.len() as u64);
            self.cut_summaries += u64::from(path.cut_summaries);
            for span in &path.spans {
                *self.tokens.entry(span.kind).or_default() += span.ids.len() as u64;
                if span.kind == SpanKind::Summary {
                    self.summaries += 1;
                    // Where a path opens a summary itself, nothing or a divided token is put before.
                    let opened = path.spans.iter().any(|other| {
                        other.kind == SpanKind::Trigger
                            && other.block == span.block
                            && other.text.contains(crate::prompt::SUMMARY_OPEN)
                    });
                    self.self_opened += u64::from(!opened);
                }
            }
        }
    }

    /// How many readings had this reaction, over all blocks.
    pub fn reacted(&self, reaction: Reaction) -> u64 {
        let counts = self.reactions.values().filter_map(|by| by.get(&reaction));
        counts.sum()
    }
}

/// How a path ended, in a word.
pub fn end_name(end: &PathEnd) -> &'static str {
    match end {
        PathEnd::Answered => "answered",
        PathEnd::Stopped => "stopped",
        PathEnd::Forced => "forced",
        PathEnd::Outgrown => "outgrown",
        PathEnd::Released => "released",
        PathEnd::Failed(_) => "failed",
    }
}
