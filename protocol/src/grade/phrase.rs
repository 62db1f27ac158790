//! Finds explicit answer phrases: `The answer is ...`, `**Final Answer:** ...`.
//!
//! A number that merely stands somewhere is never an answer; only what follows such a phrase is.

/// What follows an answer phrase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Clause<'a> {
    /// The text after the phrase, up to the next one or the end.
    pub(super) text: &'a str,
    /// `The answer is not ...`: says what the answer is not.
    pub(super) negated: bool,
}

/// Most bytes between `answer` and its verb: `The answer to the second question is`.
const MAX_REACH: usize = 80;
/// Most bytes and words of a heading: `### The final answer`.
const MAX_HEADING: usize = 40;
const MAX_HEADING_WORDS: usize = 4;
/// Most clauses that are looked at, from the end: an answer that comes before so many is none.
pub(super) const MAX_CLAUSES: usize = 400;
/// Most bytes of a clause that are read.
const MAX_CLAUSE: usize = 1200;

/// The clauses after each phrase that has one of `nouns` in it, in order.
pub(super) fn clauses<'a>(text: &'a str, nouns: &[&str]) -> Vec<Clause<'a>> {
    let lower = text.to_ascii_lowercase();
    let mut starts: Vec<(usize, usize)> = nouns
        .iter()
        .flat_map(|noun| {
            lower
                .match_indices(noun)
                .map(|(at, _)| (at, at + noun.len()))
        })
        .filter(|(at, _)| !lower[..*at].ends_with(|c: char| c.is_ascii_alphanumeric()))
        .collect();
    starts.sort_unstable();
    // A noun without a verb starts no clause: `the answer is option C` is one clause.
    let mut phrases = Vec::new();
    for (index, (at, end)) in starts.iter().enumerate() {
        let limit = starts
            .get(index + 1)
            .map_or(text.len(), |next| next.0.max(*end));
        if let Some(offset) = connector(&lower, *end, limit) {
            phrases.push((*at, *end, offset));
        }
    }
    let mut found = Vec::new();
    for (index, (at, end, offset)) in phrases.iter().enumerate() {
        let limit = phrases
            .get(index + 1)
            .map_or(text.len(), |next| next.0.max(*offset));
        if doubtful(&lower[..*at]) {
            continue;
        }
        let rest = &text[*offset..limit];
        let body = without_markup(rest);
        let negated = negated(&lower[*end..*offset]) || starts_negated(body);
        found.push(Clause {
            text: cut(body, MAX_CLAUSE),
            negated,
        });
    }
    found
}

/// `text` up to `limit` bytes, at a character boundary.
pub(super) fn cut(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The last `limit` bytes of `text` or a little less, from a character boundary.
fn tail(text: &str, limit: usize) -> &str {
    let mut start = text.len().saturating_sub(limit);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// `rest` behind its markup; a `>` that quotes no line is a relation.
fn without_markup(rest: &str) -> &str {
    let body = rest.trim_start_matches(is_markup);
    let skipped = &rest[..rest.len() - body.len()];
    match skipped.rfind('>') {
        Some(at) if !skipped[..at].contains('\n') => &rest[at..],
        _ => body,
    }
}

/// Blanks and typographic marks that may stand between a phrase and its answer.
pub(super) fn is_markup(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '*' | '_' | '#' | '`' | '"' | '\'' | ':' | '\u{201c}' | '>'
        )
}

/// Where the answer starts after the noun that ends at `from`.
fn connector(lower: &str, from: usize, limit: usize) -> Option<usize> {
    let rest = &lower[from..limit];
    // `Answer:`, `**Answer** =`, `"answer": `, `Answer - `
    let plain = rest.trim_start_matches(|c: char| {
        c == '}' || (is_markup(c) && !matches!(c, ':' | '\n')) || c == ')'
    });
    let skipped = rest.len() - plain.len();
    // `<answer>204</answer>`
    if rest.starts_with('>') && lower[..from].ends_with("<answer") {
        return Some(from + 1);
    }
    // Chinese: `is`, which models trained on both languages fall into.
    for verb in ["\u{662f}", "\u{4e3a}"] {
        if plain.starts_with(verb) {
            return Some(from + skipped + verb.len());
        }
    }
    for mark in [":", "=", "\u{2013}", "\u{2014}", "- ", "\u{ff1a}"] {
        if plain.starts_with(mark) {
            return Some(from + skipped + mark.len());
        }
    }
    if bracketed_letter(plain) {
        return Some(from + skipped);
    }
    // A heading of its own line, or the answer in math right behind the noun.
    let line = tail(&lower[..from], MAX_HEADING + 1)
        .rsplit('\n')
        .next()
        .unwrap_or_default();
    let alone = line.len() <= MAX_HEADING && line.split(' ').count() <= MAX_HEADING_WORDS;
    let heading = plain.starts_with('\n') && alone;
    let math = plain.starts_with('$') || plain.starts_with("\\(") || plain.starts_with("\\[");
    if (heading || math) && !plain.trim().is_empty() {
        return Some(from + skipped);
    }
    let reach = cut(rest, MAX_REACH);
    let sentence = reach.split(['\n', '?', '!']).next().unwrap_or(reach);
    let sentence = sentence.split(". ").next().unwrap_or(sentence);
    let verb = |v: &&str| sentence.find(*v).map(|at| (at, v.len()));
    let (at, length) = [
        " is ",
        " is:",
        " is\n",
        "s are ",
        " are ",
        " would be ",
        " must be ",
        " equals ",
        "=",
        " should be ",
        " isn't ",
        " comes to ",
    ]
    .iter()
    .filter_map(verb)
    .min()
    .or_else(|| line_end_verb(rest))?;
    Some(from + at + length - usize::from(rest[at..at + length].ends_with('\n')))
}

/// `Answer (C)`, where the line ends.
fn bracketed_letter(text: &str) -> bool {
    let bytes = text.as_bytes();
    let [b'(' | b'[', b'a'..=b'j', b')' | b']', ..] = bytes else {
        return false;
    };
    let rest = text[3..].trim_start_matches(|c: char| is_markup(c) && c != '\n');
    rest.is_empty() || rest.starts_with(['\n', '.'])
}

/// `The answer is` at the end of a line, with the answer on the next one.
fn line_end_verb(rest: &str) -> Option<(usize, usize)> {
    let line = rest.split('\n').next().unwrap_or_default();
    let trimmed = line.trim_end();
    (trimmed.len() <= MAX_REACH && trimmed.ends_with(" is") && rest.len() > line.len())
        .then_some((trimmed.len(), 0))
}

fn negated(between: &str) -> bool {
    between
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .any(|word| {
            matches!(
                word,
                "not" | "isn't" | "never" | "neither" | "unlikely" | "cannot" | "can't" | "n't"
            )
        })
}

fn starts_negated(body: &str) -> bool {
    // The words before the value, e.g. `definitely not 204`.
    let lead = cut(body, 40);
    let end = lead.find(|c: char| !c.is_alphabetic() && !matches!(c, ' ' | '\''));
    let words = lead[..end.unwrap_or(lead.len())].split(' ');
    // A capital letter that stands alone is the value: `C and not A`.
    let letter = |word: &str| word.len() == 1 && word.bytes().all(|b| b.is_ascii_uppercase());
    let lead: Vec<&str> = words.take_while(|word| !letter(word)).collect();
    negated(&lead.join(" ").to_ascii_lowercase())
}

/// `if the answer is`, `the previous answer was wrong`: not a claim of an answer.
fn doubtful(before: &str) -> bool {
    let tail = tail(before, 40);
    let sentence = tail
        .rsplit(['.', '\n', '!', '?', ',', ';', ':'])
        .next()
        .unwrap_or(tail);
    let mut words = sentence.split_whitespace();
    // `Peer 1's answer is`
    let owner = words.clone().skip_while(|word| *word != "peer").nth(1);
    owner.is_some_and(|word| word.ends_with("'s"))
        || words.any(|word| {
            matches!(
                word,
                "if" | "whether"
                    | "suppose"
                    | "assume"
                    | "assuming"
                    | "wrong"
                    | "incorrect"
                    | "previous"
                    | "earlier"
                    | "peer's"
                    | "could"
                    | "might"
                    | "unless"
                    | "peers'"
            )
        })
}
