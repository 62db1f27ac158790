//! Reads a mathematical answer out of running text.
//!
//! Order of evidence: the last closed box that holds something; an explicit phrase; a text that
//! is the answer and nothing else. A number that merely stands in the text is never an answer.

use super::boxes::{boxes, unwrapped};
use super::math::{Reading, integer, is_answer, is_words};
use super::phrase::{MAX_CLAUSES, clauses, cut, is_markup};
use super::{AnswerKind, Found};

/// Longest text that can be an answer and nothing else, in bytes.
const MAX_WHOLE: usize = 400;
/// Longest solution whose formulas are looked at, in bytes.
const MAX_STATEMENT: usize = 200_000;

/// The answer that `text` gives, as it is written there.
pub(super) fn extract(text: &str, kind: AnswerKind) -> (Option<String>, Found) {
    let framed = boxes(text);
    if !framed.is_empty() {
        let content = if kind == AnswerKind::Math {
            joined(text, &framed)
        } else {
            None
        };
        let content = content.or_else(|| framed.last().map(|b| b.content.to_owned()));
        let answer = content.filter(|c| kind != AnswerKind::Integer || is_integer(c));
        return (answer, Found::Boxed);
    }
    for clause in clauses(text, &["answer", "final result", "\u{7b54}\u{6848}"])
        .iter()
        .rev()
        .take(MAX_CLAUSES)
    {
        if clause.negated {
            continue;
        }
        match of_clause(clause.text, kind) {
            Reading::One(answer) => return (Some(answer), Found::Phrase),
            Reading::Several => return (None, Found::Phrase),
            Reading::Unreadable => {}
        }
    }
    let whole = text.trim().trim_matches(is_markup);
    let fits = whole.len() <= MAX_WHOLE && !starts_in_prose(whole) && holds_answer(whole, kind);
    if fits {
        (Some(whole.to_owned()), Found::Whole)
    } else {
        (None, Found::None)
    }
}

fn is_integer(text: &str) -> bool {
    matches!(integer(text), Reading::One(_))
}

fn holds_answer(text: &str, kind: AnswerKind) -> bool {
    match kind {
        AnswerKind::Integer => is_integer(text),
        _ => is_answer(text) && !is_words(text),
    }
}

/// Several boxes in a row that make one answer: `\boxed{1} \text{ and } \boxed{-2}`.
fn joined(text: &str, framed: &[super::boxes::Framed<'_>]) -> Option<String> {
    const RETRACTIONS: &[&str] = &[
        "not", "rather", "correct", "actually", "wait", "instead", "sorry", "should", "becomes",
    ];
    let mut first = framed.len() - 1;
    while first > 0 {
        let gap = &text[framed[first - 1].end..framed[first].start];
        let lower = gap.to_ascii_lowercase();
        let links = lower.contains("and") || lower.contains("or") || lower.contains([',', ';']);
        let breaks = gap.len() > 60
            || gap.contains(['!', '?', '\n'])
            || gap.contains(". ")
            || RETRACTIONS.iter().any(|word| lower.contains(word));
        if !links || breaks {
            break;
        }
        first -= 1;
    }
    let parts: Vec<&str> = framed[first..].iter().map(|b| b.content).collect();
    (parts.len() > 1).then(|| parts.join(" ; "))
}

/// The answer that follows a phrase.
fn of_clause(clause: &str, kind: AnswerKind) -> Reading<String> {
    // `The answer is > 204` bounds it.
    if clause.starts_with('>') {
        return Reading::Unreadable;
    }
    if starts_math(clause) {
        let reading = of_segment(clause, kind);
        if reading != Reading::Unreadable {
            return reading;
        }
    }
    let sentence = sentence(clause);
    // `Final Answer: The largest $n$ is 34.`
    for verb in [" is ", " equals ", " are "] {
        if let Some((_, tail)) = sentence.rsplit_once(verb) {
            let tail = tail.trim_start_matches(is_markup);
            return if tail.to_ascii_lowercase().starts_with("not ") {
                Reading::Unreadable
            } else {
                of_sentence(tail, kind)
            };
        }
    }
    of_sentence(sentence, kind)
}

/// A clause that starts with mathematics in delimiters.
fn of_segment(clause: &str, kind: AnswerKind) -> Reading<String> {
    let Some((content, rest)) = segment(clause) else {
        return Reading::Unreadable;
    };
    let rest = rest.trim_start();
    let lower = cut(rest, 8).to_ascii_lowercase();
    let goes_on = [
        "is ", "are ", "equals", "=", "and $", "or $", ", $", "and \\", "or \\",
    ];
    if goes_on.iter().any(|g| lower.starts_with(g)) {
        return Reading::Unreadable;
    }
    read_as(content, kind)
}

fn of_sentence(sentence: &str, kind: AnswerKind) -> Reading<String> {
    let sentence = without_adverb(sentence.trim().trim_matches(is_markup));
    let whole = read_as(sentence, kind);
    if whole != Reading::Unreadable {
        return whole;
    }
    if starts_math(sentence) {
        let reading = of_segment(sentence, kind);
        if reading != Reading::Unreadable {
            return reading;
        }
    }
    // The longest reason-free beginning: `204 because 5 divides it`.
    const REASONS: &[&str] = &[
        " because", " since", " as ", " which", " where", " when", " (", ", ", "; ", " so ",
        " by ", " for ", " after", " - ",
    ];
    let mut cuts: Vec<usize> = REASONS.iter().filter_map(|r| sentence.find(r)).collect();
    cuts.sort_unstable();
    cuts.iter()
        .rev()
        .map(|at| read_as(sentence[..*at].trim_matches(is_markup), kind))
        .find(|reading| *reading != Reading::Unreadable)
        .unwrap_or(Reading::Unreadable)
}

/// `clearly 204`: words that only lead up to the answer.
fn without_adverb(sentence: &str) -> &str {
    const ADVERBS: &[&str] = &[
        "clearly ",
        "exactly ",
        "therefore ",
        "therefore, ",
        "thus ",
        "thus, ",
        "then ",
        "hence ",
        "simply ",
        "just ",
        "approximately ",
        "about ",
        "equal to ",
        "indeed ",
        "definitely ",
        "obviously ",
        "now ",
        "precisely ",
        "given by ",
        "found to be ",
    ];
    let head = cut(sentence, 16).to_ascii_lowercase();
    ADVERBS
        .iter()
        .find(|adverb| head.starts_with(**adverb))
        .map_or(sentence, |adverb| sentence[adverb.len()..].trim_start())
}

fn read_as(text: &str, kind: AnswerKind) -> Reading<String> {
    match kind {
        AnswerKind::Integer => match integer(text) {
            Reading::One(_) => Reading::One(text.to_owned()),
            Reading::Several => Reading::Several,
            Reading::Unreadable => Reading::Unreadable,
        },
        _ if is_words(text) && idle(text) => Reading::Unreadable,
        _ if is_answer(text) => Reading::One(text.to_owned()),
        _ => Reading::Unreadable,
    }
}

/// Words that follow `the answer is` without being an answer.
fn idle(text: &str) -> bool {
    const IDLE: &[&str] = &[
        "correct",
        "incorrect",
        "wrong",
        "right",
        "clear",
        "obvious",
        "below",
        "above",
        "as",
        "that",
        "follows",
        "given",
        "simply",
        "the",
        "a",
        "an",
        "unknown",
        "found",
        "in",
        "of",
        "to",
        "it",
        "unique",
        "then",
        "therefore",
        "thus",
        "hence",
        "so",
        "this",
        "known",
        "required",
    ];
    let text = unwrapped(text);
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or_default().to_ascii_lowercase();
    IDLE.contains(&first.trim_matches(|c: char| !c.is_alphanumeric())) || words.count() > 3
}

/// Whether `text` starts with mathematics in delimiters.
fn starts_math(text: &str) -> bool {
    ["$", "\\(", "\\["].iter().any(|d| text.starts_with(d))
}

/// The content of the delimiters that `text` starts with, and what follows them.
fn segment(text: &str) -> Option<(&str, &str)> {
    for (open, close) in [("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")] {
        if let Some(inner) = text.strip_prefix(open) {
            let mut from = 0;
            while let Some(at) = inner[from..].find(close) {
                let at = from + at;
                // `\$` is a dollar sign.
                if close == "$" && inner[..at].ends_with('\\') {
                    from = at + 1;
                    continue;
                }
                return Some((&inner[..at], &inner[at + close.len()..]));
            }
        }
    }
    None
}

/// Up to the end of the first sentence or line.
fn sentence(text: &str) -> &str {
    let text = text.trim_start_matches(is_markup);
    let mut end = text.find('\n').unwrap_or(text.len());
    for mark in [". ", "! ", "? ", "<|", "</", "\u{3002}"] {
        end = text[..end].find(mark).unwrap_or(end);
    }
    // `{"answer": "204"}`
    end = text[..end].find('"').unwrap_or(end);
    let text = &text[..end];
    if text.contains('{') {
        text
    } else {
        text.trim_end_matches('}')
    }
}

/// Every piece of mathematics in delimiters in `text`, in order, with where it ends.
fn segments(text: &str) -> Vec<(&str, usize)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    // A delimiter that was not closed once will not be closed later: looking again and again
    // would take quadratic time.
    let mut unclosed = [false; 3];
    while at < bytes.len() {
        let opener = match (bytes[at], bytes.get(at + 1)) {
            (b'\\', Some(b'(')) => 0,
            (b'\\', Some(b'[')) => 1,
            (b'\\', Some(b'$')) => {
                at += 2;
                continue;
            }
            (b'$', _) => 2,
            _ => {
                at += 1;
                continue;
            }
        };
        let read = if unclosed[opener] {
            None
        } else {
            segment(&text[at..])
        };
        match read {
            Some((content, after)) => {
                at = text.len() - after.len();
                found.push((content, at));
            }
            None => {
                unclosed[opener] = true;
                at += 1;
            }
        }
    }
    found
}

/// What a full text states, read with more good will than [`extract`]: used where the text is
/// known to be an answer (a gold, a solution), never for grading a path.
pub(super) fn statement(text: &str, kind: AnswerKind) -> Option<String> {
    let trimmed = text.trim();
    if boxes(text).is_empty() && trimmed.len() <= MAX_WHOLE && !prose_around_math(trimmed) {
        let fits = match kind {
            AnswerKind::Integer => is_integer(trimmed),
            _ => is_answer(trimmed),
        };
        if fits {
            return Some(trimmed.to_owned());
        }
    }
    if let (Some(answer), _) = extract(text, kind) {
        return Some(answer);
    }
    if let Some((_, open)) = text.rsplit_once("boxed{")
        && boxes(text).is_empty()
        && is_answer(open)
    {
        return Some(open.to_owned());
    }
    // What comes last: a formula or a number in prose.
    let formula = segments(cut(text, MAX_STATEMENT))
        .into_iter()
        .rev()
        .find(|(p, _)| holds_answer(p, kind));
    match (formula, last_number(text)) {
        (Some((_, end)), Some((at, number))) if at >= end && !rounded(&text[..at]) => Some(number),
        (Some((formula, _)), _) => Some(formula.to_owned()),
        (None, number) => number.map(|(_, number)| number),
    }
}

/// A sentence with formulas in it, not a formula with words in it.
fn prose_around_math(text: &str) -> bool {
    let letters = text.chars().take_while(char::is_ascii_alphabetic).count();
    letters > 1 && ["$", "\\(", "\\["].iter().any(|d| text.contains(d))
}

/// `The total is 204.`: a statement, but nobody said that it is the answer.
fn starts_in_prose(text: &str) -> bool {
    let letters = text.chars().take_while(char::is_ascii_alphabetic).count();
    let next = text[letters..].trim_start().chars().next();
    let relates = next.is_some_and(|c| matches!(c, '=' | '<' | '>' | ':'));
    prose_around_math(text) || (letters > 1 && text[letters..].starts_with(' ') && !relates)
}

/// Whether the number behind `before` only repeats a formula: `or about 0.83`.
fn rounded(before: &str) -> bool {
    let marks = [
        "about",
        "approximately",
        "roughly",
        "nearly",
        "almost",
        "\\approx",
        "\u{2248}",
    ];
    marks.iter().any(|word| before.trim_end().ends_with(word))
}

/// Where the last number of prose starts, and the number with its sign, separators and fraction
/// bar.
fn last_number(text: &str) -> Option<(usize, String)> {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '/');
    let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = text[..end].rfind(|c: char| !is_part(c)).map_or(0, |at| {
        at + text[at..].chars().next().map_or(1, char::len_utf8)
    });
    let before = text[..start].chars().next_back();
    if before.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '^' | '{')) {
        return None;
    }
    let number = text[start..end].trim_start_matches([',', '/']);
    let sign = if before == Some('-') { "-" } else { "" };
    let tail = text[end..].trim_start();
    let percent = if tail.starts_with('%') || tail.starts_with("\\%") {
        "%"
    } else {
        ""
    };
    Some((start, format!("{sign}{number}{percent}")))
}
