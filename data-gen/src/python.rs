//! Reads string constants out of Python source, as text: nothing is executed.
//!
//! Only what constants are made of is understood: module-level names that are bound to a string,
//! to strings in a row, or to a list of them. Everything else is passed over.

use std::collections::BTreeMap;

/// A constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constant {
    /// `NAME = "..."`.
    Text(String),
    /// `NAME = ["...", ...]`.
    List(Vec<String>),
}

/// The constants of a module by name; a name that is bound twice has its last value.
pub fn constants(source: &str) -> BTreeMap<String, Constant> {
    let mut found = BTreeMap::new();
    let mut rest = source;
    while !rest.is_empty() {
        let bound = binding(rest).and_then(|(name, value)| {
            let mut reader = Reader { rest: value };
            let constant = reader.constant()?;
            Some((name, constant, reader.rest))
        });
        rest = match bound {
            Some((name, constant, behind)) => {
                found.insert(name.to_string(), constant);
                behind
            }
            None => rest,
        };
        rest = rest.split_once('\n').map_or("", |(_, next)| next);
    }
    found
}

/// Every string constant of a text, wherever it stands; formatted ones (`f"..."`) are left out.
pub fn strings(source: &str) -> Vec<String> {
    let mut reader = Reader { rest: source };
    let mut found = Vec::new();
    while let Some(next) = reader.rest.chars().next() {
        match next {
            '#' => reader.comment(),
            '"' | '\'' => match reader.string() {
                Some(text) => found.push(text),
                None => return found,
            },
            c if c.is_alphanumeric() || c == '_' => {
                let word = reader.word();
                // A prefix changes what a string means: only plain ones are read.
                if reader.rest.starts_with(['"', '\'']) && !word.is_empty() {
                    let _ = reader.string();
                }
            }
            c => reader.skip(c.len_utf8()),
        }
    }
    found
}

/// `NAME = value` at the start of a line.
fn binding(line: &str) -> Option<(&str, &str)> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
    let (name, rest) = line.split_at(end);
    let value = rest.trim_start_matches(' ').strip_prefix('=')?;
    let other = name.chars().next()?.is_ascii_digit() || value.starts_with('=');
    (!other).then_some((name, value))
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn comment(&mut self) {
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        self.skip(end);
    }

    fn word(&mut self) -> String {
        let inside = |c: char| c.is_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !inside(c)).unwrap_or(self.rest.len());
        let word = self.rest[..end].to_string();
        self.skip(end);
        word
    }

    /// Blanks, comments and, inside brackets, line ends.
    fn blanks(&mut self, lines: bool) {
        loop {
            let blank = |c: char| c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'));
            self.rest = self.rest.trim_start_matches(blank);
            match self.rest.as_bytes() {
                [b'#', ..] => self.comment(),
                [b'\\', b'\n', ..] => self.skip(2),
                _ => return,
            }
        }
    }

    fn constant(&mut self) -> Option<Constant> {
        self.blanks(false);
        if self.rest.starts_with('[') {
            return self.list().map(Constant::List);
        }
        if self.rest.starts_with('(') {
            self.skip(1);
            let text = self.strings_in_a_row(true)?;
            self.blanks(true);
            self.rest.starts_with(')').then(|| self.skip(1))?;
            return Some(Constant::Text(text));
        }
        let text = self.strings_in_a_row(false)?;
        self.blanks(false);
        let ends = self.rest.is_empty() || self.rest.starts_with(['\n', '\r', ';']);
        ends.then_some(Constant::Text(text))
    }

    fn list(&mut self) -> Option<Vec<String>> {
        self.skip(1);
        let mut items = Vec::new();
        loop {
            self.blanks(true);
            if self.rest.starts_with(']') {
                self.skip(1);
                return Some(items);
            }
            items.push(self.strings_in_a_row(true)?);
            self.blanks(true);
            if self.rest.starts_with(',') {
                self.skip(1);
            } else if !self.rest.starts_with(']') {
                return None;
            }
        }
    }

    fn strings_in_a_row(&mut self, lines: bool) -> Option<String> {
        self.blanks(lines);
        let mut text = self.string()?;
        loop {
            self.blanks(lines);
            if !self.rest.starts_with(['"', '\'']) {
                return Some(text);
            }
            text += &self.string()?;
        }
    }

    /// A string without a prefix; `None` if there is none or it does not end.
    fn string(&mut self) -> Option<String> {
        let quote = ["\"\"\"", "'''", "\"", "'"]
            .into_iter()
            .find(|quote| self.rest.starts_with(quote))?;
        self.skip(quote.len());
        let mut text = String::new();
        loop {
            if self.rest.starts_with(quote) {
                self.skip(quote.len());
                return Some(text);
            }
            let next = self.rest.chars().next()?;
            match next {
                '\\' => self.escape(&mut text)?,
                '\n' if quote.len() == 1 => return None,
                c => {
                    text.push(c);
                    self.skip(c.len_utf8());
                }
            }
        }
    }

    /// One escape sequence; an unknown one stays as it is, backslash included.
    fn escape(&mut self, text: &mut String) -> Option<()> {
        self.skip(1);
        let kind = self.rest.chars().next()?;
        let simple = match kind {
            '\n' => Some(None),
            '\\' | '\'' | '"' => Some(Some(kind)),
            'n' => Some(Some('\n')),
            't' => Some(Some('\t')),
            'r' => Some(Some('\r')),
            'a' => Some(Some('\u{7}')),
            'b' => Some(Some('\u{8}')),
            'f' => Some(Some('\u{c}')),
            'v' => Some(Some('\u{b}')),
            _ => None,
        };
        if let Some(meaning) = simple {
            self.skip(kind.len_utf8());
            text.extend(meaning);
            return Some(());
        }
        let (skip, digits, radix) = match kind {
            'x' => (1, 2, 16),
            'u' => (1, 4, 16),
            'U' => (1, 8, 16),
            '0'..='7' => (0, self.octal_digits(), 8),
            _ => {
                text.push('\\');
                return Some(());
            }
        };
        let code = self.rest.get(skip..skip + digits)?;
        text.push(char::from_u32(u32::from_str_radix(code, radix).ok()?)?);
        self.skip(skip + digits);
        Some(())
    }

    fn octal_digits(&self) -> usize {
        let octal = self.rest.bytes().take(3);
        octal
            .take_while(|byte| (b'0'..=b'7').contains(byte))
            .count()
    }
}
