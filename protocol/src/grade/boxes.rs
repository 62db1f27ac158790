//! Finds `\boxed{...}` and its relatives in one pass over the text.

/// A closed box.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Framed<'a> {
    /// Where the command starts, in bytes.
    pub(super) start: usize,
    /// One past the closing brace.
    pub(super) end: usize,
    /// What is inside the braces.
    pub(super) content: &'a str,
}

const COMMANDS: &[&str] = &["\\boxed", "\\fbox", "\\framebox"];
/// What models write in a box when they repeat an instruction instead of answering.
const PLACEHOLDERS: &[&str] = &[
    "answer",
    "your answer",
    "final answer",
    "your final answer",
    "the answer",
    "answer here",
    "...",
    "\\ldots",
    "\\dots",
    "\\cdots",
    "?",
    "??",
    "\\text{?}",
    "letter",
    "your answer here",
    "number",
    "value",
    "result",
    "\\cdot",
    "\\quad",
    "\\,",
    "\\ ",
    "~",
    "\\_",
    "$letter",
    "ans",
];

/// The closed boxes that hold something, in order; a box inside a box is part of the outer one,
/// unless it is all that the outer one holds.
pub(super) fn boxes(text: &str) -> Vec<Framed<'_>> {
    let mut closed = all_closed(text);
    closed.sort_by_key(|b| b.start);
    let mut kept = Vec::new();
    let mut rest = closed.as_slice();
    while let Some((outer, inside)) = rest.split_first() {
        let mut innermost = outer;
        let mut next = 0;
        // By length, not by text: comparing the contents of n nested boxes takes n^2 steps.
        while let Some(inner) = inside.get(next) {
            if innermost.content.trim().len() != inner.end - inner.start || inner.end > outer.end {
                break;
            }
            innermost = inner;
            next += 1;
        }
        if holds_something(innermost.content) {
            kept.push(*innermost);
        }
        let skip = inside.iter().take_while(|b| b.start < outer.end).count();
        rest = &inside[skip..];
    }
    kept
}

fn all_closed(text: &str) -> Vec<Framed<'_>> {
    let bytes = text.as_bytes();
    let mut closed = Vec::new();
    // Open braces; those of boxes with the start of the command.
    let mut open: Vec<(usize, Option<usize>)> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => {
                if let Some(brace) = box_brace(text, at) {
                    open.push((brace, Some(at)));
                    at = brace + 1;
                } else {
                    // An escaped brace or backslash opens nothing; a command name is skipped
                    // letter by letter.
                    let escaped = matches!(bytes.get(at + 1), Some(b'{' | b'}'));
                    at += if escaped { 2 } else { 1 };
                }
                continue;
            }
            b'{' => open.push((at, None)),
            b'}' => {
                if let Some((brace, Some(start))) = open.pop() {
                    let content = text.get(brace + 1..at).unwrap_or_default();
                    closed.push(Framed {
                        start,
                        end: at + 1,
                        content,
                    });
                }
            }
            _ => {}
        }
        at += 1;
    }
    closed
}

/// Where the brace of a box command at `at` is; `\framebox[3cm][c]{` has options before it.
fn box_brace(text: &str, at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let command = COMMANDS.iter().find(|c| rest.starts_with(**c))?;
    let mut brace = at + command.len();
    let bytes = text.as_bytes();
    for _ in 0..2 {
        if bytes.get(brace) == Some(&b'[') {
            let close = text
                .get(brace..)?
                .char_indices()
                .take(40)
                .find(|(_, c)| *c == ']')?
                .0;
            brace += close + 1;
        }
    }
    while bytes.get(brace).is_some_and(|b| b.is_ascii_whitespace()) {
        brace += 1;
    }
    (bytes.get(brace) == Some(&b'{')).then_some(brace)
}

fn holds_something(content: &str) -> bool {
    let inner = unwrapped(content);
    let bare: String = inner
        .chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, '$' | '{' | '}' | '_'))
        .collect();
    let invisible = ["\\phantom{", "\\hspace{", "\\hphantom{"];
    let invisible = invisible.iter().any(|command| inner.starts_with(command));
    let invisible = invisible && inner.find('}') == Some(inner.len() - 1);
    !bare.is_empty() && !invisible && !PLACEHOLDERS.contains(&inner.to_ascii_lowercase().as_str())
}

/// The text inside `\text{...}`, `$...$` and the like when they wrap all of it.
pub(super) fn unwrapped(text: &str) -> &str {
    const WRAPPERS: &[&str] = &[
        "\\text{",
        "\\textbf{",
        "\\textit{",
        "\\textrm{",
        "\\textnormal{",
        "\\mathrm{",
        "\\mathbf{",
        "\\mathit{",
        "\\mbox{",
        "\\mathsf{",
        "\\texttt{",
        "\\mathtt{",
        "\\operatorname{",
        "\\boxed{",
        "\\boldsymbol{",
        "\\bm{",
        "\\textup{",
        "\\emph{",
        "\\underline{",
        "\\bf{",
        "\\mathcal{",
        "\\hbox{",
        "\\textsf{",
        "\\fbox{",
        "{",
    ];
    let mut text = text.trim();
    // Each round removes at least two bytes; wrappers of wrappers are few, texts may be long.
    for _ in 0..16 {
        let inner = WRAPPERS
            .iter()
            .find_map(|w| text.strip_prefix(w))
            .and_then(|rest| rest.strip_suffix('}'))
            .filter(|inner| balanced(inner))
            .or_else(|| strip_pair(text, "$$", "$$"))
            .or_else(|| strip_pair(text, "$", "$"))
            .or_else(|| strip_pair(text, "\\(", "\\)"))
            .or_else(|| strip_pair(text, "\\[", "\\]"))
            .or_else(|| strip_pair(text, "**", "**"));
        match inner {
            Some(inner) => text = inner.trim(),
            None => break,
        }
    }
    text
}

fn strip_pair<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let inner = text.strip_prefix(open)?.strip_suffix(close)?;
    (!inner.contains(open)).then_some(inner)
}

/// Whether no closing brace comes before its opening one.
fn balanced(text: &str) -> bool {
    let mut depth = 0i64;
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            b'\\' if !escaped => {
                escaped = true;
                continue;
            }
            b'{' if !escaped => depth += 1,
            b'}' if !escaped => depth -= 1,
            _ => {}
        }
        escaped = false;
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}
