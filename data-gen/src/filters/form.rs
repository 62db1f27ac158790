//! Filters on the form of a path: tags, control tokens, length.

use protocol::{
    PathEnd, PathTrace, SUMMARY_CLOSE, SUMMARY_OPEN, SpanKind, THINK_CLOSE, THINK_OPEN,
};

use super::{Column, Seen};

const COMMENT_OPEN: &str = "<comment>";
const COMMENT_CLOSE: &str = "</comment>";

/// Every tag, and the kinds of spans in which it may begin.
const TAGS: [(&str, &[SpanKind]); 6] = [
    (
        THINK_OPEN,
        &[SpanKind::Thought, SpanKind::Beginning, SpanKind::Bridge],
    ),
    (
        THINK_CLOSE,
        &[SpanKind::Thought, SpanKind::Bridge, SpanKind::Forced],
    ),
    (SUMMARY_OPEN, &[SpanKind::Trigger, SpanKind::Thought]),
    (SUMMARY_CLOSE, &[SpanKind::Summary, SpanKind::Bridge]),
    (COMMENT_OPEN, &[SpanKind::Comment]),
    (COMMENT_CLOSE, &[SpanKind::Comment]),
];

/// Where in a path a tag stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before any tag, where the prompt opened no thought.
    Start,
    Thought,
    Summary,
    /// Behind a summary, before the comment on it.
    Between,
    Comment,
    Answer,
}

/// Tags behind the prompt and the sentence that an untrained model begins with: `thought (summary comment thought)* answer`, nothing inside another, none
/// in the answer, and each in a span that may hold it. What a path invents of a peer is found here.
pub(super) fn grammar(seen: &Seen<'_>) -> Column {
    Column::faultless(fault(seen))
}

fn fault(seen: &Seen<'_>) -> Option<String> {
    let spans = seen.trace.after_prompt(seen.index as usize).iter();
    let mut text = String::new();
    let mut borders = Vec::new();
    for span in spans {
        text += &span.text;
        borders.push((text.len(), span.kind));
    }
    let kind_at = |at: usize| {
        borders
            .iter()
            .find(|(end, _)| at < *end)
            .map(|(_, kind)| *kind)
    };
    let mut place = match seen.trace.think_open {
        true => Place::Thought,
        false => Place::Start,
    };
    let mut from = 0;
    for (at, tag, kinds) in tags(&text) {
        let kind = kind_at(at)?;
        if kind == SpanKind::Answer {
            return Some(format!("{tag} in the answer"));
        }
        if !kinds.contains(&kind) {
            return Some(format!("{tag} in a span of kind {}", kind.name()));
        }
        let blank = text[from..at].trim().is_empty();
        place = match (place, tag) {
            (Place::Start, THINK_OPEN) => Place::Thought,
            // A thought that no tag opened begins with the path.
            (Place::Start | Place::Thought, THINK_CLOSE) => Place::Answer,
            (Place::Start | Place::Thought, SUMMARY_OPEN) => Place::Summary,
            // Where a comment would not have fitted, the path is made to answer.
            (Place::Between, THINK_CLOSE) if kind == SpanKind::Forced => Place::Answer,
            (Place::Summary, SUMMARY_CLOSE) => Place::Between,
            (Place::Between, COMMENT_OPEN) if blank => Place::Comment,
            (Place::Comment, COMMENT_CLOSE) => Place::Thought,
            _ => return Some(format!("{tag} {}", behind(place))),
        };
        from = at + tag.len();
    }
    match place {
        Place::Summary => Some("a summary is open at the end".to_owned()),
        Place::Comment => Some("a comment is open at the end".to_owned()),
        // Released and failed paths end anywhere; `finished` says so.
        Place::Thought if seen.path.end == PathEnd::Stopped && seen.trace.think_open => {
            Some("a thought is open at the end".to_owned())
        }
        _ => None,
    }
}

/// The tags of a text with their places, in order.
fn tags(text: &str) -> impl Iterator<Item = (usize, &'static str, &'static [SpanKind])> + '_ {
    let opens = text.match_indices('<');
    opens.filter_map(|(at, _)| {
        let tag = TAGS.iter().find(|(tag, _)| text[at..].starts_with(tag));
        tag.map(|(tag, kinds)| (at, *tag, *kinds))
    })
}

fn behind(place: Place) -> &'static str {
    match place {
        Place::Start => "without a tag before it",
        Place::Thought => "in a thought",
        Place::Summary => "in a summary",
        Place::Between => "right behind a summary",
        Place::Comment => "in a comment",
        Place::Answer => "behind the thought",
    }
}

/// How control tokens of the usual model families begin and end, as text.
const CONTROL: [(&str, &str); 4] = [
    ("<|", "|>"),
    ("<\u{ff5c}", "\u{ff5c}>"),
    ("<start_of_turn", ">"),
    ("<end_of_turn", ">"),
];
/// Most characters between the two.
const NAME: usize = 40;

/// A control token in the middle of what the path wrote: an invented next turn.
pub(super) fn stray(path: &PathTrace) -> Column {
    let own = path.spans.iter().filter(|span| span.kind.is_sampled());
    let mut texts = own.map(|span| span.text.as_str());
    Column::faultless(texts.find_map(control))
}

fn control(text: &str) -> Option<String> {
    CONTROL.iter().find_map(|(open, close)| {
        text.match_indices(open).find_map(|(at, _)| {
            let name = &text[at + open.len()..];
            let end = name.find(close)?;
            let plain = name[..end]
                .chars()
                .all(|c| c.is_alphanumeric() || "_\u{2581}".contains(c));
            (plain && end <= NAME).then(|| text[at..at + open.len() + end + close.len()].to_owned())
        })
    })
}

/// Tokens of the sample that the path would be.
pub(super) fn length(seen: &Seen<'_>) -> Column {
    let tokens = seen.trace.trained_len(seen.index as usize);
    Column::new(tokens, tokens <= seen.settings.max_tokens)
}
