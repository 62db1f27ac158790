//! The words of a problem, so that two spellings of one statement are the same words.
//!
//! Copies of a problem differ in case, spacing, LaTeX and in how numbers are written. What is left
//! here is words and numbers: dollars, braces, font commands and signs of operations are gone, a
//! command is its name, `\frac{m}{n}` and `m/n` are both `m n`, `four` is `4` and `1,000` is `1000`.
//! Different formulas can have the same words: their signs and answers tell them apart.

mod spellings;

use protocol::{Problem, Question};

use self::spellings::{
    BARS, COMPARISONS, FRACTIONS, NUMBERS, SAME, SEPARATED, SIGNS, SILENT, UNEQUAL, in_words,
    or_equal,
};

/// A statement with its options, as it is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wording {
    /// Words and numbers, in order.
    pub words: Vec<String>,
    /// Sums, differences, powers, comparisons, percents and factorials, each with the number of words
    /// before it. Products are left out: they are written with a sign or without.
    pub signs: Vec<(usize, char)>,
    /// How many divisions there are: `\frac{m}{n}` has its sign at another place than `m/n`.
    pub divisions: usize,
    /// Brackets that hold terms together, and bars, each with the number of words before it. What is
    /// left out holds nothing together: brackets around one word or around prose, braces of LaTeX.
    pub grouping: Vec<(usize, char)>,
}

impl Wording {
    /// Of a question; the order of its options does not matter.
    pub fn of(question: &Question) -> Self {
        let mut wording = Self::of_text(&question.text);
        let mut options: Vec<Self> = question.choices.iter().map(|c| Self::of_text(c)).collect();
        options.sort_unstable_by(|a, b| {
            (&a.words, &a.signs, &a.grouping).cmp(&(&b.words, &b.signs, &b.grouping))
        });
        for option in options {
            let before = wording.words.len();
            wording.words.extend(option.words);
            let signs = option.signs.into_iter();
            wording
                .signs
                .extend(signs.map(|(at, sign)| (before + at, sign)));
            let grouping = option.grouping.into_iter();
            wording
                .grouping
                .extend(grouping.map(|(at, sign)| (before + at, sign)));
        }
        wording
    }

    /// Of a text.
    pub fn of_text(text: &str) -> Self {
        let text = without_drawings(text);
        let mut reader = Reader {
            chars: folded(&text),
            at: 0,
            words: Vec::new(),
            signs: Vec::new(),
            divisions: 0,
            grouping: Vec::new(),
            open: Vec::new(),
        };
        reader.read();
        reader.grouping.sort_by_key(|(order, _)| *order);
        Self {
            words: reader.words,
            signs: reader.signs,
            divisions: reader.divisions,
            grouping: reader.grouping.into_iter().map(|(_, one)| one).collect(),
        }
    }

    /// The words as one text.
    pub fn text(&self) -> String {
        self.words.join(" ")
    }

    /// Numbers among the words, ascending by their text: what a problem is made with.
    pub fn numbers(&self) -> Vec<&str> {
        let is_number = |word: &&String| word.starts_with(|c: char| c.is_ascii_digit());
        let words = self.words.iter().filter(is_number);
        let mut numbers: Vec<&str> = words.map(String::as_str).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// The answer as it is compared between problems: of a multiple-choice problem the words of the
/// right option, for its letter depends on the order.
pub fn answer(problem: &Problem) -> String {
    let gold = problem.gold.as_str().trim();
    let place = gold
        .bytes()
        .next()
        .map(|byte| usize::from(byte.wrapping_sub(b'A')));
    let option = place.and_then(|place| problem.question.choices.get(place));
    match option {
        Some(option) => {
            let wording = Wording::of_text(option);
            let (signs, divisions) = (&wording.signs, wording.divisions);
            let grouping = &wording.grouping;
            format!("{} {signs:?} {divisions} {grouping:?}", wording.text())
        }
        None => protocol::grade::canonical(gold, problem.question.kind),
    }
}

/// Source code of figures says how something is drawn, and is often left out of copies.
fn without_drawings(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some((before, from)) = rest.split_once("[asy]") {
        kept.push_str(before);
        rest = from.split_once("[/asy]").map_or("", |(_, after)| after);
    }
    kept + rest
}

/// Small letters, and characters that are written in several ways written in one.
fn folded(text: &str) -> Vec<char> {
    let mut folded = Vec::with_capacity(text.len());
    let mut raised = false;
    for character in text.chars() {
        let digit = raised_or_lowered(character);
        // A raised 2 behind 10 is 10 and 2, not 102.
        if digit.is_some() && !raised {
            folded.push('^');
        }
        raised = digit.is_some();
        match (digit, character) {
            (Some(value), _) => folded.push(char::from_digit(value, 10).unwrap_or('0')),
            // Full-width forms of ASCII.
            (None, '\u{ff01}'..='\u{ff5e}') => {
                let ascii = char::from_u32(character as u32 - 0xff01 + 0x21);
                folded.extend(ascii.unwrap_or(character).to_lowercase());
            }
            (None, _) => folded.extend(character.to_lowercase()),
        }
    }
    folded
}

/// The value of a superscript or subscript digit.
fn raised_or_lowered(character: char) -> Option<u32> {
    match character {
        '\u{00b9}' => Some(1),
        '\u{00b2}' => Some(2),
        '\u{00b3}' => Some(3),
        '\u{2070}' | '\u{2074}'..='\u{2079}' => Some(character as u32 - 0x2070),
        '\u{2080}'..='\u{2089}' => Some(character as u32 - 0x2080),
        _ => None,
    }
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    words: Vec<String>,
    signs: Vec<(usize, char)>,
    divisions: usize,
    /// Brackets and bars that count, each with where it was read.
    grouping: Vec<(usize, (usize, char))>,
    /// Brackets that are open.
    open: Vec<Opened>,
}

/// A bracket that is open.
struct Opened {
    bracket: char,
    /// Where it was read.
    at: usize,
    /// Words and signs before it.
    words: usize,
    signs: usize,
    /// Whether it holds an exponent or an index.
    raised: bool,
}

impl Reader {
    fn read(&mut self) {
        while let Some(character) = self.peek(0) {
            match character {
                '\\' => self.command(),
                '0'..='9' => self.number(),
                _ if in_words(character) => self.word(),
                _ => {
                    self.group(character);
                    self.at += 1;
                    self.sign(character);
                    match SIGNS.iter().find(|(sign, _)| *sign == character) {
                        Some((_, name)) => self.words.push((*name).to_owned()),
                        // Scripts without blanks: every character is a word.
                        None if character.is_alphabetic() => self.words.push(character.into()),
                        None => {}
                    }
                }
            }
        }
    }

    /// Notes a bracket or a bar, before it is passed over.
    fn group(&mut self, character: char) {
        match character {
            '|' => self.bar(),
            '(' | '[' | '{' => {
                let before = self.at.checked_sub(1).map(|at| self.chars[at]);
                self.open.push(Opened {
                    bracket: character,
                    at: self.at,
                    words: self.words.len(),
                    signs: self.signs.len(),
                    raised: matches!(before, Some('^' | '_')),
                });
            }
            ')' | ']' | '}' => {
                // The brace behind `\begin{...` closes nothing, and an interval may be half open.
                let pair = |one: &Opened| (one.bracket == '{') == (character == '}');
                if let Some(at) = self.open.iter().rposition(pair) {
                    let opened = self.open.drain(at..).next();
                    opened.inspect(|opened| self.close(opened, character));
                }
            }
            _ => {}
        }
    }

    fn bar(&mut self) {
        self.grouping.push((self.at, (self.words.len(), '|')));
    }

    /// Notes both brackets of a pair, if they hold something together.
    fn close(&mut self, opened: &Opened, character: char) {
        let held = &self.words[opened.words..];
        let term = |word: &String| {
            word.chars().nth(1).is_none() || word.starts_with(|c: char| c.is_ascii_digit())
        };
        let terms = held.len() > 1 && held.iter().all(term);
        let adds = |(_, sign): &(usize, char)| matches!(sign, '+' | '-');
        let brace = opened.bracket == '{';
        let sum = self.signs[opened.signs..].iter().any(adds) && (held.len() > 1 || !brace);
        if !(sum || terms && (opened.raised || !brace)) {
            return;
        }
        // A brace holds together what a round bracket does.
        let plain = |bracket| match bracket {
            '{' => '(',
            '}' => ')',
            other => other,
        };
        let (begin, end) = (plain(opened.bracket), plain(character));
        self.grouping.push((opened.at, (opened.words, begin)));
        self.grouping.push((self.at, (self.words.len(), end)));
    }

    fn sign(&mut self, character: char) {
        let sign = match character {
            '+' | '^' | '%' => character,
            // A hyphen stands before a word.
            '-' | '\u{2212}' | '\u{2013}' if !self.before_word() => '-',
            '/' | '\u{f7}' => return self.divisions += 1,
            // The end of a sentence stands behind a word.
            '!' if self.behind_number() => '!',
            '<' | '>' if self.peek(0) == Some('=') => or_equal(character),
            '<' | '>' => character,
            '\u{2264}' => or_equal('<'),
            '\u{2265}' => or_equal('>'),
            '\u{2260}' => UNEQUAL,
            _ => return,
        };
        self.signs.push((self.words.len(), sign));
    }

    /// Whether a number, one letter or a bracket stands before the sign that was just read.
    fn behind_number(&self) -> bool {
        let back = |steps: usize| self.at.checked_sub(steps).map(|at| self.chars[at]);
        match back(2) {
            Some(')' | '0'..='9') => true,
            Some(letter) if letter.is_alphabetic() => !back(3).is_some_and(char::is_alphabetic),
            _ => false,
        }
    }

    /// Whether two letters follow.
    fn before_word(&self) -> bool {
        let letter = |ahead| self.peek(ahead).is_some_and(in_words);
        letter(0) && letter(1)
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn take(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let rest = self.chars[self.at..].iter();
        let taken: String = rest.take_while(|c| belongs(**c)).collect();
        self.at += taken.chars().count();
        taken
    }

    /// A command of LaTeX: left out, a word of its own, or the word that it stands for.
    fn command(&mut self) {
        self.at += 1;
        let name = self.take(|c| c.is_ascii_alphabetic());
        if name.is_empty() {
            // `\,`, `\$`, `\\`, `\{`: spacing and escaped signs, of which one says something.
            match self.peek(0) {
                Some('%') => self.signs.push((self.words.len(), '%')),
                Some('|') => self.bar(),
                _ => {}
            }
            self.at += 1;
            return;
        }
        if matches!(name.as_str(), "begin" | "end") && self.peek(0) == Some('{') {
            self.take(|c| c != '}');
            return;
        }
        let sign = COMPARISONS
            .iter()
            .find(|(names, _)| names.contains(&name.as_str()));
        if let Some((_, sign)) = sign {
            return self.signs.push((self.words.len(), *sign));
        }
        if matches!(name.as_str(), "div" | "over") {
            return self.divisions += 1;
        }
        if FRACTIONS.contains(&name.as_str()) {
            self.divisions += 1;
            return self.fraction();
        }
        if BARS.contains(&name.as_str()) {
            return self.bar();
        }
        if SILENT.contains(&name.as_str()) {
            return;
        }
        let same = SAME.iter().find(|(command, _)| *command == name);
        self.words
            .push(same.map_or(name, |(_, word)| (*word).to_owned()));
    }

    /// Behind `\frac`, where no brace holds it, a part is one character: `\frac mn` is m over n.
    fn fraction(&mut self) {
        for _ in 0..2 {
            self.take(char::is_whitespace);
            match self.peek(0) {
                Some(character) if character.is_ascii_alphanumeric() => {
                    self.at += 1;
                    self.words.push(character.into());
                }
                _ => return,
            }
        }
    }

    /// Digits, with commas or narrow spaces between thousands, and a fraction.
    fn number(&mut self) {
        let mut number = self.take(|c| c.is_ascii_digit());
        loop {
            let thousands = match self.peek(0) {
                Some(',' | '\u{2009}' | '\u{202f}') => 1,
                Some('{') if self.peek(1) == Some(',') && self.peek(2) == Some('}') => 3,
                Some('\\') if matches!(self.peek(1), Some(',' | '!')) => 2,
                _ => break,
            };
            let digit = |ahead| {
                self.peek(thousands + ahead)
                    .is_some_and(|c| c.is_ascii_digit())
            };
            if number.len() > 3 && !number.contains(SEPARATED)
                || !(digit(0) && digit(1) && digit(2))
                || digit(3)
            {
                break;
            }
            self.at += thousands;
            number.push(SEPARATED);
            number += &self.take(|c| c.is_ascii_digit());
        }
        number.retain(|c| c != SEPARATED);
        if self.peek(0) == Some('.') && self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
            number = number + "." + &self.take(|c| c.is_ascii_digit());
        }
        let plain = number.trim_start_matches('0');
        self.words.push(match plain.chars().next() {
            None => "0".to_owned(),
            Some('.') => format!("0{plain}"),
            Some(_) => plain.to_owned(),
        });
    }

    fn word(&mut self) {
        let word = self.take(in_words);
        let number = NUMBERS.iter().position(|name| *name == word);
        self.words
            .push(number.map_or(word, |value| value.to_string()));
    }
}
