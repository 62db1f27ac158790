//! From what a server told to ids of the path: stop strings found, ids held against the text.

use protocol::{Finish, Vocab};

use super::failure::{Class, Failure};
use super::wire::{Ask, Ended, Reply};
use crate::local::StopScanner;

/// What a broken character is shown as; a text that was cut inside one ends with it.
const BROKEN: char = '\u{fffd}';
/// How much longer one of text and decoded ids can be where the text was ended: an end-of-text token
/// that is shown, a stop string that is cut off, the rest of a token behind it.
const MOST_APART: usize = 128;
/// How many bytes of a token in which a character begins a server may hold back.
const HELD_BACK: usize = 16;

/// The ids that were sampled and why sampling ended.
///
/// # Errors
/// If ids and text do not belong together, or nothing was sampled.
pub(super) fn judge(
    ask: &Ask,
    reply: Reply,
    vocab: &dyn Vocab,
) -> Result<(Vec<u32>, Finish), Failure> {
    let Reply {
        mut text,
        ids,
        ended,
        ..
    } = reply;
    let named = match &ended {
        Ended::Stop(Some(text)) => ask.stop.strings.iter().position(|stop| stop == text),
        _ => None,
    };
    let ids = match ids {
        Some(mut ids) => {
            check(ask, &ids, &text, ended == Ended::Length, vocab)?;
            // A stop string can be cut off the ids and be in the text.
            let stop = first_stop(&text, &ask.stop.strings).map(|end| &text[..end]);
            let decoded = vocab.text(&ids);
            if let Some(rest) = stop.and_then(|stop| stop.strip_prefix(decoded.as_str()))
                && ended != Ended::Length
            {
                ids.extend(vocab.encode(rest));
                ids.truncate(ask.max_tokens);
            }
            ids
        }
        None => {
            if ended == Ended::Length {
                text.truncate(text.trim_end_matches(BROKEN).len());
            }
            let stop = first_stop(&text, &ask.stop.strings);
            if let Some(end) = stop {
                text.truncate(end);
            } else if let Some(index) = named {
                text += &ask.stop.strings[index];
            }
            let mut ids = vocab.encode(&text);
            // Encoded anew a text can be longer than it was sampled.
            ids.truncate(ask.max_tokens);
            ids
        }
    };
    let (mut ids, mut finish) = scan(ask, ids, vocab);
    if finish.is_none() && ended != Ended::Length {
        // The server does not tell the ids that ended the text.
        finish = Some(match named {
            Some(index) => {
                ids.extend(vocab.encode(&ask.stop.strings[index]));
                Finish::Stop(index)
            }
            None => {
                ids.extend(ask.stop.eos.first());
                Finish::Eos
            }
        });
        if ids.len() > ask.max_tokens {
            ids.truncate(ask.max_tokens);
            finish = None;
        }
    }
    match ids.is_empty() {
        // Asked again it could go on for ever.
        true => Err(Failure::new(Class::WrongIds, "nothing was sampled")),
        false => Ok((ids, finish.unwrap_or(Finish::Length))),
    }
}

/// Cuts behind what ended the text; servers may tell more than that.
fn scan(ask: &Ask, mut ids: Vec<u32>, vocab: &dyn Vocab) -> (Vec<u32>, Option<Finish>) {
    let mut stop = StopScanner::new(&ask.stop.strings);
    for (place, &id) in ids.iter().enumerate() {
        let finish = match ask.stop.eos.contains(&id) {
            true => Some(Finish::Eos),
            false if stop.is_needed() => stop.push(&vocab.bytes(id)).map(Finish::Stop),
            false => None,
        };
        if finish.is_some() {
            ids.truncate(place + 1);
            return (ids, finish);
        }
    }
    (ids, None)
}

/// The byte behind the stop string that is completed first.
fn first_stop(text: &str, stops: &[String]) -> Option<usize> {
    let ends = stops
        .iter()
        .filter_map(|stop| text.find(stop.as_str()).map(|at| at + stop.len()));
    ends.min()
}

/// Whether these can be the ids of this text.
fn check(
    ask: &Ask,
    ids: &[u32],
    text: &str,
    by_length: bool,
    vocab: &dyn Vocab,
) -> Result<(), Failure> {
    if ids.len() > ask.max_tokens {
        let (told, most) = (ids.len(), ask.max_tokens);
        let text = format!("{told} ids came back, {most} were asked for");
        return Err(Failure::new(Class::WrongIds, text));
    }
    // It would show in no text, and in what is trained on.
    let unknown = |id: &&u32| vocab.bytes(**id).is_empty() && !ask.stop.eos.contains(id);
    if let Some(id) = ids.iter().find(unknown) {
        let text = format!("id {id} came back, which no token of the vocabulary has");
        return Err(Failure::new(Class::WrongIds, text));
    }
    let decoded = vocab.text(ids);
    let apart = match by_length {
        false => MOST_APART,
        true if decoded.ends_with(BROKEN) => HELD_BACK,
        true => 0,
    };
    match belong_together(&decoded, text, apart) {
        true => Ok(()),
        false => Err(Failure::new(
            Class::WrongIds,
            "the ids that came back are not those of the text",
        )),
    }
}

/// Whether the ids of an answer to a known question are those of its text.
pub(super) fn is_spoken(ids: &[u32], text: &str, vocab: &dyn Vocab) -> bool {
    belong_together(&vocab.text(ids), text, MOST_APART)
}

/// Whether one text is the other, or the beginning of it but for so many bytes. A character that is
/// cut at the end counts for nothing.
fn belong_together(a: &str, b: &str, apart: usize) -> bool {
    let [a, b] = [a, b].map(|text| text.trim_end_matches(BROKEN));
    let rest = a.strip_prefix(b).or_else(|| b.strip_prefix(a));
    rest.is_some_and(|rest| rest.len() <= apart)
}
