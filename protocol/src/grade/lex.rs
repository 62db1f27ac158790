//! Cuts an answer into tokens: LaTeX, plain text and mixtures of both.
//!
//! Models and golds mix `$\frac{1}{2}$`, `1/2`, `1,\!000 \text{ cm}^2` and words in one string,
//! so wrappers, spacing commands and currency signs vanish here and the parser sees values only.

use num_rational::BigRational;

use super::lexicon::{LETTER_UNITS, PROSE, SILENT, SILENT_WITH_ARGUMENT, TEXT, UNITS, WORDS};

/// Longest answer that is read as mathematics, in bytes. Longer ones are compared as text.
pub(super) const MAX_BYTES: usize = 4096;
/// How deep `\text{\textbf{...}}` may nest.
const MAX_NESTING: u32 = 16;

/// What a comma between digits means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Commas {
    /// `1,204` is 1204 outside brackets; every other comma separates.
    Thousands,
    /// Every comma separates.
    Separate,
    /// `1,22` is 1.22 outside brackets.
    Decimal,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Tok {
    /// Digits, with at most one point.
    Num(String),
    /// A repeating decimal.
    Repeating(BigRational),
    Letter(char),
    /// `and`, `or`, and names of functions and constants written without a backslash.
    Word(String),
    /// Prose or a unit.
    Text(String),
    Cmd(String),
    Ch(char),
    RowBreak,
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) tok: Tok,
    pub(super) space_before: bool,
}

/// The tokens of `text`; `None` if it is too long, nests too deep, or holds a character that
/// mathematics in ASCII and LaTeX does not have.
pub(super) fn tokens(text: &str, commas: Commas) -> Option<Vec<Token>> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let chars: Vec<char> = halve_backslashes(text).chars().collect();
    let mut lexer = Lexer {
        chars: &chars,
        at: 0,
        out: Vec::new(),
        space: false,
        brackets: 0,
    };
    lexer.run(commas, 0)?;
    Some(lexer.out)
}

/// Text that went through one escaping too many has every command with two backslashes.
fn halve_backslashes(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut doubled = 0;
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        let run = bytes[at..].iter().take_while(|&&b| b == b'\\').count();
        at += run;
        if bytes.get(at).is_some_and(u8::is_ascii_alphabetic) {
            if run % 2 == 1 {
                return text.to_owned();
            }
            doubled += 1;
        }
    }
    if doubled == 0 {
        text.to_owned()
    } else {
        text.replace("\\\\", "\\")
    }
}

pub(super) struct Lexer<'a> {
    pub(super) chars: &'a [char],
    pub(super) at: usize,
    pub(super) out: Vec<Token>,
    space: bool,
    pub(super) brackets: u32,
}

impl Lexer<'_> {
    pub(super) fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    pub(super) fn push(&mut self, tok: Tok) {
        self.out.push(Token {
            tok,
            space_before: self.space,
        });
        self.space = false;
    }

    fn run(&mut self, commas: Commas, nesting: u32) -> Option<()> {
        while let Some(c) = self.peek(0) {
            match c {
                c if is_blank(c) => self.skip(),
                // Math delimiters, currency and markup of prose carry no value.
                '$' | '\u{20ac}' | '\u{a3}' | '\u{a5}' | '\u{20b9}' | '`' | '"' | '\u{201c}'
                | '\u{201d}' => self.skip(),
                '*' if self.peek(1) == Some('*') => {
                    self.at += 2;
                    // Between two values `**` is Python's power, otherwise bold type.
                    if self.ends_in_value() && self.peek(0).is_some_and(|n| n.is_ascii_digit()) {
                        self.push(Tok::Ch('^'));
                    }
                    self.space = true;
                }
                '0'..='9' => self.number(commas)?,
                '.' if self.peek(1).is_some_and(|n| n.is_ascii_digit()) => self.number(commas)?,
                c if c.is_ascii_alphabetic() => self.letters(),
                '\\' => self.command(commas, nesting)?,
                _ => self.symbol(c)?,
            }
        }
        Some(())
    }

    fn skip(&mut self) {
        self.at += 1;
        self.space = true;
    }

    fn after_number(&self) -> bool {
        matches!(self.out.last().map(|t| &t.tok), Some(Tok::Num(_)))
    }

    /// Whether a degree sign stands before, in any of its writings.
    fn after_degree(&self) -> bool {
        let before = self.out.iter().rev().map(|token| &token.tok);
        let mut marks = before.skip_while(|tok| **tok == Tok::Ch('}')).take(1);
        marks.any(|tok| matches!(tok, Tok::Cmd(name) if name == "circ" || name == "degree"))
    }

    /// Whether an exponent begins here.
    fn after_caret(&self) -> bool {
        let before = self.out.iter().rev().map(|token| &token.tok);
        let mut marks = before.skip_while(|tok| **tok == Tok::Ch('{')).take(1);
        marks.any(|tok| *tok == Tok::Ch('^'))
    }

    fn ends_in_value(&self) -> bool {
        matches!(
            self.out.last().map(|t| &t.tok),
            Some(Tok::Num(_) | Tok::Letter(_) | Tok::Ch(')' | '}' | ']'))
        )
    }

    fn symbol(&mut self, c: char) -> Option<()> {
        let (tok, width) = match (c, self.peek(1)) {
            ('<', Some('=')) => (Tok::Cmd("le".into()), 2),
            ('>', Some('=')) => (Tok::Cmd("ge".into()), 2),
            ('!', Some('=')) => (Tok::Cmd("ne".into()), 2),
            ('=', Some('=')) => (Tok::Ch('='), 2),
            ('-', Some('>')) | ('=', Some('>')) => return None,
            ('\u{2264}' | '\u{2a7d}', _) => (Tok::Cmd("le".into()), 1),
            ('\u{2265}' | '\u{2a7e}', _) => (Tok::Cmd("ge".into()), 1),
            ('\u{2260}', _) => (Tok::Cmd("ne".into()), 1),
            ('\u{2248}', _) => (Tok::Cmd("approx".into()), 1),
            ('\u{2208}', _) => (Tok::Cmd("in".into()), 1),
            ('\u{221e}', _) => (Tok::Cmd("infty".into()), 1),
            ('\u{222a}', _) => (Tok::Cmd("cup".into()), 1),
            ('\u{b1}', _) => (Tok::Cmd("pm".into()), 1),
            ('\u{3c0}', _) => (Tok::Cmd("pi".into()), 1),
            ('\u{221a}', _) => (Tok::Cmd("sqrt".into()), 1),
            ('\u{b0}' | '\u{ba}', _) => (Tok::Cmd("degree".into()), 1),
            ('\u{2205}', _) => (Tok::Cmd("emptyset".into()), 1),
            ('\u{d7}' | '\u{22c5}' | '\u{b7}' | '\u{2217}', _) => (Tok::Ch('*'), 1),
            ('\u{f7}', _) => (Tok::Ch('/'), 1),
            ('\u{2212}' | '\u{2013}' | '\u{2010}' | '\u{2011}', _) => (Tok::Ch('-'), 1),
            ('\u{ff0c}' | '\u{3001}', _) => (Tok::Ch(','), 1),
            ('\u{b2}' | '\u{b3}', _) => {
                let power = if c == '\u{b2}' { "2" } else { "3" };
                self.at += 1;
                self.unit_before_superscript();
                self.push(Tok::Ch('^'));
                self.push(Tok::Num(power.into()));
                return Some(());
            }
            (
                '+' | '-' | '*' | '/' | '^' | '_' | '=' | '<' | '>' | '!' | '|' | ':' | ',' | ';',
                _,
            )
            | ('(' | ')' | '[' | ']' | '{' | '}' | '%' | '&' | '\'' | '.' | '?', _) => {
                (Tok::Ch(c), 1)
            }
            ('\u{3b1}'..='\u{3c9}' | '\u{391}'..='\u{3a9}', _) => (Tok::Letter(c), 1),
            _ => return None,
        };
        // `204_{10}`: a number in the base that all numbers are in.
        if c == '_' && self.after_number() && self.starts_at(1, "{10}") {
            self.at += 5;
            return Some(());
        }
        match c {
            '(' | '[' => self.brackets += 1,
            ')' | ']' => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        self.at += width;
        self.push(tok);
        Some(())
    }

    /// `99m` before a superscript two is metres: no variable is written that way.
    fn unit_before_superscript(&mut self) {
        let n = self.out.len();
        if n >= 2
            && matches!(self.out[n - 1].tok, Tok::Letter('m'))
            && matches!(self.out[n - 2].tok, Tok::Num(_))
        {
            self.out[n - 1].tok = Tok::Text("m".into());
        }
    }

    fn letters(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(|c| c.is_ascii_alphabetic()) {
            self.at += 1;
        }
        let run: String = self.chars[start..self.at].iter().collect();
        let after_number = self.after_number();
        let closed = matches!(self.out.last().map(|t| &t.tok), Some(Tok::Ch(')' | '}')));
        let after_value = after_number || (closed && self.space);
        let lower = run.to_ascii_lowercase();
        // `NO` is a segment, `No` a word.
        let capitals = run.chars().all(|c| c.is_ascii_uppercase());
        let temperature = matches!(run.as_str(), "C" | "F") && self.after_degree();
        if temperature || (after_value && UNITS.contains(&run.as_str())) {
            self.push(Tok::Text(run));
        } else if run.len() >= 2 && WORDS.contains(&lower.as_str()) {
            self.push(Tok::Word(lower));
        } else if let Some(rest) = run
            .strip_prefix("or")
            .filter(|_| after_number && run.len() == 3)
        {
            // `1orW(x)=-1`
            self.push(Tok::Word("or".into()));
            self.letters_of(rest);
        } else if run.len() >= 4 || (PROSE.contains(&lower.as_str()) && !capitals) {
            self.push(Tok::Text(run));
        } else {
            self.letters_of(&run);
        }
    }

    fn letters_of(&mut self, run: &str) {
        run.chars().for_each(|c| self.push(Tok::Letter(c)));
    }

    fn command(&mut self, commas: Commas, nesting: u32) -> Option<()> {
        self.at += 1;
        let Some(c) = self.peek(0) else {
            return Some(());
        };
        if !c.is_ascii_alphabetic() {
            return self.control_symbol(c);
        }
        let start = self.at;
        while self.peek(0).is_some_and(|c| c.is_ascii_alphabetic()) {
            self.at += 1;
        }
        let name: String = self.chars[start..self.at].iter().collect();
        if matches!(
            name.as_str(),
            "left" | "right" | "lvert" | "rvert" | "lVert" | "rVert"
        ) {
            self.delimiter(&name);
        } else if SILENT.contains(&name.as_str()) {
            self.space = true;
        } else if SILENT_WITH_ARGUMENT.contains(&name.as_str()) {
            self.argument();
            self.space = true;
        } else if TEXT.contains(&name.as_str()) {
            self.text(&name, commas, nesting)?;
        } else if let Some(letters) = name.strip_prefix("quad") {
            // `\quadx`: a space command that lost the blank before a letter.
            self.space = true;
            self.letters_of(letters);
        } else {
            self.push(Tok::Cmd(name));
        }
        Some(())
    }

    fn control_symbol(&mut self, c: char) -> Option<()> {
        self.at += 1;
        match c {
            '\\' => {
                self.push(Tok::RowBreak);
            }
            '{' => {
                self.brackets += 1;
                self.push(Tok::Cmd("{".into()));
            }
            '}' => {
                self.brackets = self.brackets.saturating_sub(1);
                self.push(Tok::Cmd("}".into()));
            }
            '%' => self.push(Tok::Ch('%')),
            '|' => self.push(Tok::Cmd("Vert".into())),
            '&' | '#' | '_' => return None,
            // `\,`, `\!`, `\(`, `\[`, `\$` and the like.
            _ => self.space = true,
        }
        Some(())
    }

    fn delimiter(&mut self, name: &str) {
        while self.peek(0).is_some_and(is_blank) {
            self.at += 1;
        }
        let side = if matches!(name, "left" | "lvert" | "lVert") {
            "lvert"
        } else {
            "rvert"
        };
        if name.ends_with("vert") || name.ends_with("Vert") {
            self.push(Tok::Cmd(side.into()));
        } else if self.peek(0) == Some('|') {
            self.at += 1;
            self.push(Tok::Cmd(side.into()));
        } else if self.peek(0) == Some('.') {
            self.at += 1;
        }
    }

    /// The text of a braced argument, which the lexer steps over.
    fn argument(&mut self) -> Vec<char> {
        while self.peek(0).is_some_and(is_blank) {
            self.at += 1;
        }
        if self.peek(0) != Some('{') {
            return Vec::new();
        }
        self.at += 1;
        let start = self.at;
        let mut depth = 1;
        while let Some(c) = self.peek(0) {
            match c {
                '\\' => self.at += 1,
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            self.at += 1;
        }
        let end = self.at.min(self.chars.len());
        self.at = end + 1;
        self.chars[start..end].to_vec()
    }

    fn text(&mut self, name: &str, commas: Commas, nesting: u32) -> Option<()> {
        if nesting >= MAX_NESTING {
            return None;
        }
        let inner = self.argument();
        let content: String = inner.iter().collect();
        let content = content.trim_matches(is_blank).to_owned();
        let prose = content
            .chars()
            .all(|c| c.is_ascii_alphabetic() || matches!(c, ' ' | '-' | '.' | '/'))
            && content.starts_with(|c: char| c.is_ascii_alphabetic())
            && !content
                .split([' ', '/'])
                .skip(1)
                .any(|word| matches!(word, "and" | "or"));
        let lower = content.trim_end_matches('.').to_ascii_lowercase();
        if content.is_empty() {
            self.space = true;
        } else if let Some(modulus) = modulus(&content) {
            self.push(Tok::Cmd("pmod".into()));
            self.push(Tok::Ch('{'));
            self.push(Tok::Num(modulus));
            self.push(Tok::Ch('}'));
        } else if matches!(content.as_str(), "o" | "\\circ") && self.after_caret() {
            self.push(Tok::Cmd("circ".into()));
        } else if (matches!(content.as_str(), "C" | "F") && self.after_degree())
            || (self.after_number() && UNITS.contains(&content.as_str()))
        {
            self.push(Tok::Text(content));
        } else if WORDS.contains(&lower.as_str()) && content.len() > 1 {
            self.push(Tok::Word(lower));
        } else if self.after_number() && is_rate(&content) {
            self.push(Tok::Text("unit".into()));
        } else if prose && content.len() == 1 && name == "mathbb" {
            self.push(Tok::Cmd(format!("mathbb{content}")));
        } else if prose && content.len() == 1 && name != "unit" {
            let after_number = self.after_number();
            match content.chars().next() {
                // `5 \text{ m}` is a length, `\mathrm{e}` a constant.
                Some(c)
                    if after_number
                        && (inner.len() > 1 || (self.space && LETTER_UNITS.contains(&c))) =>
                {
                    self.push(Tok::Text(c.into()));
                }
                Some(c) => self.push(Tok::Letter(c)),
                None => {}
            }
        } else if prose {
            self.push(Tok::Text(content));
        } else {
            let mut lexer = Lexer {
                chars: &inner,
                at: 0,
                out: std::mem::take(&mut self.out),
                space: self.space,
                brackets: self.brackets,
            };
            let done = lexer.run(commas, nesting + 1);
            self.out = lexer.out;
            done?;
            self.space = true;
        }
        Some(())
    }
}

/// The 1000 of `(mod 1000)` in words.
fn modulus(content: &str) -> Option<String> {
    let inner = content.trim_start_matches('(').trim_end_matches(')');
    let digits = inner.trim().strip_prefix("mod ")?.trim();
    let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    number.then(|| digits.to_owned())
}

/// `m/s^2`: a unit with a slash in it.
fn is_rate(content: &str) -> bool {
    content.contains('/')
        && content.starts_with(|c: char| c.is_ascii_alphabetic())
        && content
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '^' | ' ' | '{' | '}'))
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || matches!(c, '~' | '\u{200b}' | '\u{feff}' | '\u{2060}')
}
