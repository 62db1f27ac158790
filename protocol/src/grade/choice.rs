//! Answers that are a letter: multiple choice with options A to J.

use super::Found;
use super::boxes::{boxes, unwrapped};
use super::phrase::{MAX_CLAUSES, clauses, is_markup};

/// What a piece of text says about the letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Letter(char),
    /// Two letters: undecided.
    Several,
    Nothing,
}

/// The letter that `text` gives as its answer.
pub(super) fn extract(text: &str) -> (Option<String>, Found) {
    if let Some(last) = boxes(text).last() {
        let found = match said(last.content, Lower::Alone) {
            // `\boxed{\text{The answer is C}}`
            Said::Nothing => stated(unwrapped(last.content)),
            found => found,
        };
        return (letter(found), Found::Boxed);
    }
    match stated(text) {
        Said::Nothing => {}
        found => return (letter(found), Found::Phrase),
    }
    for find in [bare_option, verdict] {
        match find(text) {
            Said::Nothing => {}
            found => return (letter(found), Found::Phrase),
        }
    }
    match standing_alone(text) {
        Said::Nothing => (None, Found::None),
        found => (letter(found), Found::Whole),
    }
}

/// What the last explicit phrase says.
fn stated(text: &str) -> Said {
    clauses(text, &["answer", "choice", "option", "\u{7b54}\u{6848}"])
        .iter()
        .rev()
        .take(MAX_CLAUSES)
        .filter(|clause| !clause.negated)
        .map(|clause| said(clause.text, Lower::Alone))
        .find(|found| *found != Said::Nothing)
        .unwrap_or(Said::Nothing)
}

/// The letter of a gold such as `C`, `(D) Alina` or `C Cecile`.
pub(super) fn letter_of(text: &str) -> Option<String> {
    let read = extract(text).0;
    read.or_else(|| letter(said(text, Lower::Alone)))
}

fn letter(said: Said) -> Option<String> {
    match said {
        Said::Letter(c) => Some(c.to_string()),
        Said::Several | Said::Nothing => None,
    }
}

/// When a lower-case letter counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lower {
    /// Where nothing but punctuation follows: `c.` is an answer, `a careful look` is not.
    Alone,
    Never,
}

/// The letter that `text` starts with, after markup and brackets.
fn said(text: &str, lower: Lower) -> Said {
    let text = unwrapped(text);
    let mut rest = text;
    // Wrappers that do not span all of the text, and words that only lead up to the letter.
    for _ in 0..6 {
        let before = rest.len();
        rest =
            rest.trim_start_matches(|c| is_markup(c) || matches!(c, '(' | '[' | '{' | '$' | '-'));
        for lead in [
            "\\text{",
            "\\textbf{",
            "\\mathrm{",
            "\\mathbf{",
            "\\boxed{",
            "\\(",
            "\\[",
            "\\{",
            "\\ ",
            "\\,",
            "\\displaystyle",
            "\\large",
            "\\Large",
            "\\bf",
            "\\rm",
            "\\color{red}",
            "\\color{blue}",
        ] {
            rest = rest.strip_prefix(lead).unwrap_or(rest);
        }
        rest = without_lead(rest);
        if rest.len() == before {
            break;
        }
    }
    let mut chars = rest.chars();
    let Some(first) = chars.next() else {
        return Said::Nothing;
    };
    let after = chars.as_str();
    let upper = first.to_ascii_uppercase();
    if !upper.is_ascii_uppercase() || upper > 'J' || !boundary(after) {
        return Said::Nothing;
    }
    if first.is_ascii_lowercase() && (lower == Lower::Never || !ends_here(after)) {
        return Said::Nothing;
    }
    // `A.M.`
    let initials =
        after.starts_with('.') && after[1..].starts_with(|c: char| c.is_ascii_alphanumeric());
    if initials || matches!(first, 'A' | 'I') && reads_as_word(after) {
        return Said::Nothing;
    }
    if second_letter(after) {
        return Said::Several;
    }
    if rejected(after) {
        Said::Nothing
    } else {
        Said::Letter(upper)
    }
}

/// `option C`, `definitely C`, `for sure C`: the words before the letter.
fn without_lead(text: &str) -> &str {
    const LEADS: &[&str] = &[
        "option ",
        "option\\ ",
        "choice ",
        "answer ",
        "letter ",
        "definitely ",
        "clearly ",
        "for sure ",
        "therefore ",
        "thus ",
        "indeed ",
        "most likely ",
        "likely ",
        "probably ",
        "the option ",
        "the letter ",
        "the choice ",
        "simply ",
        "just ",
        "surely ",
        "certainly ",
        "obviously ",
    ];
    let head: String = text
        .chars()
        .take(16)
        .collect::<String>()
        .to_ascii_lowercase();
    LEADS
        .iter()
        .find(|l| head.starts_with(**l))
        .map_or(text, |l| &text[l.len()..])
}

/// Whether a letter may end here: `D2O`, `don't` and `LETTER` are no letters.
fn boundary(after: &str) -> bool {
    // An underscore is a subscript if something follows it, and markdown if not.
    let subscript = after
        .strip_prefix('_')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '{'));
    let contraction = after
        .strip_prefix(['\'', '\u{2019}'])
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()));
    let goes_on = |c: char| c.is_ascii_alphanumeric() || matches!(c, '^' | '+');
    let equation = after.trim_start().starts_with('=');
    !subscript && !contraction && !equation && !after.starts_with(goes_on)
}

fn ends_here(after: &str) -> bool {
    let rest = after.trim_start_matches(|c: char| {
        matches!(
            c,
            '.' | ')'
                | ']'
                | '}'
                | '*'
                | '_'
                | '"'
                | '\''
                | '$'
                | '!'
                | '`'
                | '\u{201d}'
                | ' '
                | ','
        )
    });
    rest.is_empty() || rest.starts_with('\n') || after.starts_with(')')
}

/// `A careful look`: an article (or the pronoun `I`) and not a letter.
fn reads_as_word(after: &str) -> bool {
    const CONTINUES: &[&str] = &[
        "because", "since", "as", "is", "and", "or", "so", "for", "which", "but", "due", "with",
        "not", "by", "from", "if", "based", "are", "option", "in", "would", "i", "it", "that",
    ];
    let Some(rest) = after.strip_prefix(' ') else {
        return false;
    };
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    word.starts_with(|c: char| c.is_ascii_lowercase()) && !CONTINUES.contains(&word.as_str())
}

/// `A, C`, `A or B`, `A/C`: a second letter.
fn second_letter(after: &str) -> bool {
    let rest = after.trim_start_matches([')', ']', '}', '*', '"', ' ', '.', '$']);
    // `A C`, where nothing else follows.
    let apart = rest.trim_start_matches("\\ ").trim_start_matches("\\,");
    if after.starts_with([' ', '\\', ')']) && only_letter(apart).is_some() {
        return true;
    }
    let joined = [
        "|",
        "and",
        "or",
        "&",
        "/",
        ",",
        "\\text{ and }",
        "\\text{ or }",
        "\\&",
        "\\text{and}",
        "\\text{or}",
        ";",
    ];
    let Some(rest) = joined.iter().find_map(|j| rest.strip_prefix(j)) else {
        return false;
    };
    let rest = rest.trim_start_matches(|c: char| {
        is_markup(c) || matches!(c, '(' | '[' | '{' | '$' | '\\' | ',' | ';')
    });
    let rest = rest
        .strip_prefix("text{")
        .unwrap_or(rest)
        .trim_start_matches(['(', ' ']);
    let rest = rest
        .strip_prefix("and ")
        .or_else(|| rest.strip_prefix("or "))
        .unwrap_or(rest);
    let mut chars = rest.chars();
    let letter = chars.next().is_some_and(|c| ('A'..='J').contains(&c));
    letter
        && boundary(chars.as_str())
        && !(rest.starts_with(['A', 'I']) && reads_as_word(chars.as_str()))
}

/// `(C) is wrong`
fn rejected(after: &str) -> bool {
    let rest = after.trim_start_matches([')', ']', '*', '"', ' ']);
    let head: String = rest
        .chars()
        .take(24)
        .collect::<String>()
        .to_ascii_lowercase();
    [
        "is wrong",
        "is incorrect",
        "is not",
        "isn't",
        "is false",
        "can't",
        "cannot",
        "is ruled out",
        "are ",
    ]
    .iter()
    .any(|w| head.starts_with(w))
}

/// `Option C`, the last one, where nothing better was said.
fn bare_option(text: &str) -> Said {
    let head = text.trim_start_matches(is_markup);
    let lower = head.to_ascii_lowercase();
    for noun in ["option ", "choice "] {
        if lower.starts_with(noun) && only_letter(&head[noun.len()..]).is_some() {
            return said(&head[noun.len()..], Lower::Never);
        }
    }
    Said::Nothing
}

/// `B is correct`, `it's B`: a judgement about a letter; the last one counts.
fn verdict(text: &str) -> Said {
    let mut last = (0, Said::Nothing);
    for mark in [
        " is valid",
        " is correct",
        " is right",
        " is the correct",
        " is the right",
        " is the answer",
        " is true",
    ] {
        for (at, _) in text.match_indices(mark) {
            let before = text[..at].trim_end_matches([')', ']', '*', '"', '$', '}']);
            let Some(c) = before
                .chars()
                .next_back()
                .filter(|c| ('A'..='J').contains(c))
            else {
                continue;
            };
            let lead = &before[..before.len() - 1];
            let alone = !lead
                .ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '\\' | '_' | '\''));
            if alone && at >= last.0 {
                last = (at, Said::Letter(c));
            }
        }
    }
    for mark in [
        "it's ", "it is ", "It's ", "It is ", "choose ", "pick ", "select ", "go with ",
        "I think ", "must be ",
    ] {
        for (at, _) in text.match_indices(mark) {
            let found = said(&text[at + mark.len()..], Lower::Never);
            if found != Said::Nothing && at >= last.0 {
                last = (at, found);
            }
        }
    }
    last.1
}

/// A letter that opens the text as an option does (`C. Because ...`, `(C)`), is all of it, or is
/// alone on the last line.
fn standing_alone(text: &str) -> Said {
    let text = text.trim();
    if let Some(c) = only_letter(text) {
        return Said::Letter(c);
    }
    let letters: Vec<char> = text
        .lines()
        .filter_map(|line| only_letter(line.trim()))
        .collect();
    if letters.len() > 1 {
        return Said::Several;
    }
    // A list of options opens with letters, too, and chooses none of them.
    let mut openings: Vec<char> = text.lines().filter_map(option_letter).collect();
    openings.sort_unstable();
    openings.dedup();
    if openings.len() > 2 {
        return Said::Several;
    }
    let opening = text.trim_start_matches(['*', '_', '#', ' ']);
    let bracketed = opening.starts_with(['(', '[']);
    let inner = opening.trim_start_matches(['(', '[']);
    let mut chars = inner.chars();
    if chars.next().is_some_and(|c| ('A'..='J').contains(&c)) {
        let after = chars.as_str();
        let marked = if bracketed {
            after.starts_with([')', ']'])
        } else {
            after.starts_with(['.', ')', ':', '*', '\n'])
                || after.starts_with(|c: char| !c.is_ascii() && !c.is_whitespace())
        };
        // `C.D. Smith` and `A.M.` are no options.
        let initials =
            after.starts_with('.') && after[1..].starts_with(|c: char| c.is_ascii_alphanumeric());
        if marked && !initials {
            return said(inner, Lower::Never);
        }
    }
    let last = text
        .lines()
        .next_back()
        .and_then(|line| only_letter(line.trim()));
    last.map_or(Said::Nothing, Said::Letter)
}

/// The C of a line `C. 42` or `(C) 42`.
fn option_letter(line: &str) -> Option<char> {
    let inner = line.trim_start_matches(['*', '_', '#', ' ', '-', '(', '[']);
    let mut chars = inner.chars();
    let first = chars.next().filter(|c| ('A'..='J').contains(c))?;
    chars
        .as_str()
        .starts_with(['.', ')', ':', ']'])
        .then_some(first)
}

/// The capital letter, if `text` is one with at most brackets, markup and a full stop around it.
fn only_letter(text: &str) -> Option<char> {
    let bare = unwrapped(text).trim_matches(|c: char| {
        is_markup(c) || matches!(c, '(' | ')' | '[' | ']' | '.' | ',' | '$')
    });
    let mut chars = bare.chars();
    let first = chars.next()?;
    (chars.next().is_none() && ('A'..='J').contains(&first)).then_some(first)
}
