//! How numbers are written: separators of thousands, decimals, repeating decimals, exponents.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Pow, Zero};

use super::lex::{Commas, Lexer, Tok, Token};

/// Longest run of digits that is read as a number.
const MAX_DIGITS: usize = 600;

impl Lexer<'_> {
    fn digits(&mut self) -> String {
        let start = self.at;
        while self.peek(0).is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    pub(super) fn number(&mut self, commas: Commas) -> Option<()> {
        let mut text = self.digits();
        let mut grouped = false;
        if (1..=3).contains(&text.len()) && !text.starts_with('0') {
            while let Some(width) = self.thousands_mark(commas) {
                self.at += width;
                text.push_str(&self.digits());
                grouped = true;
            }
        }
        let mark = self.peek(0);
        // In brackets a comma separates: `(1,5)` is a pair.
        let decimals = commas == Commas::Decimal && self.brackets == 0;
        let decimal_comma = decimals && mark == Some(',') && !grouped;
        if (mark == Some('.') || decimal_comma) && self.fraction_follows() {
            self.at += 1;
            text.push('.');
            text.push_str(&self.digits());
            if let Some(value) = self.repeating(&text)? {
                self.push(Tok::Repeating(value));
                return Some(());
            }
        }
        if text.len() > MAX_DIGITS {
            return None;
        }
        if let Some(power) = self.power_of_ten() {
            self.push(Tok::Num(text));
            self.push(Tok::Ch('*'));
            self.push(Tok::Num("10".into()));
            self.push(Tok::Ch('^'));
            self.push(Tok::Ch('{'));
            power
                .chars()
                .next()
                .filter(|&c| c == '-')
                .into_iter()
                .for_each(|c| {
                    self.out.push(Token {
                        tok: Tok::Ch(c),
                        space_before: false,
                    });
                });
            self.push(Tok::Num(power.trim_start_matches(['+', '-']).to_owned()));
            self.push(Tok::Ch('}'));
            return Some(());
        }
        self.push(Tok::Num(text));
        Some(())
    }

    fn fraction_follows(&self) -> bool {
        self.peek(1).is_some_and(|c| c.is_ascii_digit())
            || self.starts_at(1, "\\overline{")
            || self.starts_at(1, "\\dot{")
    }

    pub(super) fn starts_at(&self, ahead: usize, what: &str) -> bool {
        what.chars()
            .enumerate()
            .all(|(i, c)| self.peek(ahead + i) == Some(c))
    }

    /// Width of a thousands separator here, if exactly three digits follow it.
    fn thousands_mark(&self, commas: Commas) -> Option<usize> {
        const MARKS: &[&str] = &[
            "{,}", ",\\! ", ",\\!", ",{\\!}", "\\!,", ",\\,\\!", "\\,\\!", ",\\,", "\\,", "\\!",
            "\\ ", "\\;", "~", "\u{a0}", "\u{202f}", "\u{2009}", " ",
        ];
        let plain = (commas == Commas::Thousands && self.brackets == 0).then_some(",");
        MARKS.iter().copied().chain(plain).find_map(|mark| {
            let width = mark.chars().count();
            let three = (0..3).all(|i| self.peek(width + i).is_some_and(|c| c.is_ascii_digit()));
            let more = self.peek(width + 3).is_some_and(|c| c.is_ascii_digit());
            (self.starts_at(0, mark) && three && !more).then_some(width)
        })
    }

    /// The value of `0.1\overline{6}`, `0.\dot{3}`; `text` is what stands before the bar.
    fn repeating(&mut self, text: &str) -> Option<Option<BigRational>> {
        let Some(open) = ["\\overline{", "\\dot{"]
            .iter()
            .find(|o| self.starts_at(0, o))
        else {
            return Some(None);
        };
        self.at += open.len();
        let period = self.digits();
        if period.is_empty() || period.len() > 50 || text.len() > 50 || self.peek(0) != Some('}') {
            return None;
        }
        self.at += 1;
        let before = decimal(text)?;
        let places = text.split_once('.').map_or(0, |(_, f)| f.len());
        let nines = BigInt::from(10).pow(period.len()) - BigInt::one();
        let tail = BigRational::new(
            period.parse::<BigInt>().ok()?,
            nines * BigInt::from(10).pow(places),
        );
        Some(Some(before + tail))
    }

    /// The exponent of `2.04e2`, sign included.
    fn power_of_ten(&mut self) -> Option<String> {
        if !matches!(self.peek(0), Some('e' | 'E')) {
            return None;
        }
        let signed = matches!(self.peek(1), Some('+' | '-'));
        let first = if signed { 2 } else { 1 };
        if !self.peek(first).is_some_and(|c| c.is_ascii_digit()) {
            return None;
        }
        let minus = self.peek(1) == Some('-');
        self.at += first;
        let digits = self.digits();
        Some(if minus { format!("-{digits}") } else { digits })
    }
}

/// The exact value of plain digits with at most one point.
pub(super) fn decimal(text: &str) -> Option<BigRational> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    let value: BigInt = if digits.is_empty() {
        BigInt::zero()
    } else {
        digits.parse().ok()?
    };
    Some(BigRational::new(
        value,
        BigInt::from(10).pow(fraction.len()),
    ))
}
