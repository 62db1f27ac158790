//! Sums, products and factors: operators, units, exponents and the marks behind a value.

use super::lex::Tok;
use super::node::Node;
use super::parse::{Parser, number};

/// Number words: dropping them like a unit would change the value.
const COUNTING: &[&str] = &[
    "hundred",
    "hundreds",
    "thousand",
    "thousands",
    "million",
    "millions",
    "billion",
    "billions",
    "trillion",
    "dozen",
    "dozens",
    "squared",
    "cubed",
    "factorial",
    "half",
    "halves",
    "third",
    "thirds",
    "quarter",
    "quarters",
    "less",
    "more",
    "times",
    "plus",
    "minus",
    "over",
    "divided",
    "than",
    "not",
    "or",
    "and",
    "to",
    "mod",
    "modulo",
    "choose",
    "th",
    "st",
    "nd",
    "rd",
    "base",
];

impl Parser {
    pub(super) fn sum(&mut self) -> Option<Node> {
        let mut terms = Vec::new();
        loop {
            let sign = self.sign();
            if terms.is_empty() || sign.is_some() {
                let term = self.product()?;
                terms.push(match sign {
                    None | Some(Sign::Plus) => term,
                    Some(Sign::Minus) => Node::negative(term),
                    Some(Sign::Both { upper }) => Node::PlusMinus {
                        upper,
                        of: Box::new(term),
                    },
                });
            } else {
                break;
            }
        }
        Some(if terms.len() == 1 {
            terms.remove(0)
        } else {
            Node::Add(terms)
        })
    }

    fn sign(&mut self) -> Option<Sign> {
        let sign = match self.peek()? {
            Tok::Ch('+') => Sign::Plus,
            Tok::Ch('-') => Sign::Minus,
            Tok::Cmd(c) if c == "pm" => Sign::Both { upper: true },
            Tok::Cmd(c) if c == "mp" => Sign::Both { upper: false },
            _ => return None,
        };
        self.at += 1;
        Some(sign)
    }

    pub(super) fn product(&mut self) -> Option<Node> {
        let mut factors: Vec<Node> = vec![self.signed_factor()?];
        // `\text{The answer is } 204`
        if matches!(&factors[..], [Node::Text(lead)] if leads_up(lead)) && self.starts_factor() {
            factors = vec![self.signed_factor()?];
        }
        let mut after_unit = false;
        loop {
            let explicit = match self.peek() {
                Some(Tok::Ch('*')) => Some(false),
                Some(Tok::Ch('/')) => Some(true),
                Some(Tok::Cmd(c)) => match c.as_str() {
                    "cdot" | "times" | "ast" | "bullet" => Some(false),
                    "div" => Some(true),
                    _ => None,
                },
                _ => None,
            };
            if let Some(divide) = explicit {
                self.at += 1;
                // `204 km/h`: the unit behind the slash goes with the unit before it.
                if divide && matches!(self.peek(), Some(Tok::Text(_))) {
                    self.unit()?;
                    continue;
                }
                let per_hour = matches!(self.peek(), Some(Tok::Letter('h' | 's')));
                if divide && per_hour && after_unit {
                    self.at += 1;
                    continue;
                }
                after_unit = false;
                let factor = self.signed_factor()?;
                factors.push(if divide {
                    Node::inverse(factor)
                } else {
                    factor
                });
                continue;
            }
            if matches!(self.peek(), Some(Tok::Text(_))) {
                self.unit()?;
                after_unit = true;
                // A value after the unit would be a second one.
                if self.starts_factor() {
                    return None;
                }
                continue;
            }
            if !self.starts_factor() {
                break;
            }
            let factor = self.juxtaposed(factors.last())?;
            match factor {
                Juxtaposed::Mixed(fraction) => {
                    let whole = factors.pop()?;
                    factors.push(Node::Add(vec![whole, fraction]));
                }
                Juxtaposed::Factor(factor) => factors.push(factor),
            }
        }
        Some(if factors.len() == 1 {
            factors.remove(0)
        } else {
            Node::Mul(factors)
        })
    }

    /// A factor without an operator before it.
    fn juxtaposed(&mut self, before: Option<&Node>) -> Option<Juxtaposed> {
        let whole = match before {
            Some(Node::Num {
                value,
                places: None,
            }) if value.is_integer() => true,
            Some(Node::Num { .. }) => false,
            _ => return Some(Juxtaposed::Factor(self.factor()?)),
        };
        if matches!(self.peek(), Some(Tok::Num(_) | Tok::Repeating(_))) {
            // `3 1/2` is a mixed number; any other pair of numbers side by side is no value.
            let slash = self.ahead(1) == Some(&Tok::Ch('/'));
            if !(whole && slash) {
                return None;
            }
            let top = self.factor()?;
            self.at += 1;
            let bottom = self.factor()?;
            return proper(&top, &bottom)
                .then(|| Juxtaposed::Mixed(Node::Mul(vec![top, Node::inverse(bottom)])));
        }
        let is_fraction = matches!(
            self.peek(), Some(Tok::Cmd(c)) if matches!(c.as_str(), "frac" | "dfrac" | "tfrac" | "cfrac")
        );
        let factor = self.factor()?;
        let mixed = whole
            && is_fraction
            && matches!(&factor, Node::Mul(parts) if matches!(
                parts.as_slice(), [top, Node::Pow(bottom, _)] if proper(top, bottom)
            ));
        Some(if mixed {
            Juxtaposed::Mixed(factor)
        } else {
            Juxtaposed::Factor(factor)
        })
    }

    /// Steps over words after a value: its unit, with exponent.
    fn unit(&mut self) -> Option<()> {
        while let Some(Tok::Text(word)) = self.peek() {
            let counting = word
                .split(|c: char| !c.is_ascii_alphabetic())
                .any(|w| COUNTING.contains(&w.to_ascii_lowercase().as_str()));
            if counting {
                return None;
            }
            self.at += 1;
            if self.eat('^') {
                self.argument()?;
            }
            // The words of one phrase, single letters among them.
            while matches!(self.peek(), Some(Tok::Letter(_)))
                && matches!(self.ahead(1), Some(Tok::Text(_)))
            {
                self.at += 1;
            }
        }
        Some(())
    }

    pub(super) fn starts_factor(&self) -> bool {
        match self.peek() {
            Some(Tok::Num(_) | Tok::Repeating(_) | Tok::Letter(_)) => true,
            Some(Tok::Ch('(' | '[' | '{')) => true,
            Some(Tok::Ch('|')) => self.bars == 0 && self.set_builder == 0,
            Some(Tok::Word(w)) => !matches!(w.as_str(), "and" | "or" | "cup" | "union"),
            Some(Tok::Cmd(c)) => !matches!(
                c.as_str(),
                "}" | "rangle"
                    | "rvert"
                    | "rfloor"
                    | "rceil"
                    | "cup"
                    | "cap"
                    | "setminus"
                    | "backslash"
                    | "le"
                    | "leq"
                    | "leqslant"
                    | "leqq"
                    | "ge"
                    | "geq"
                    | "geqslant"
                    | "geqq"
                    | "lt"
                    | "gt"
                    | "ne"
                    | "neq"
                    | "approx"
                    | "approxeq"
                    | "simeq"
                    | "sim"
                    | "thickapprox"
                    | "in"
                    | "equiv"
                    | "cong"
                    | "not"
                    | "land"
                    | "lor"
                    | "wedge"
                    | "vee"
                    | "pm"
                    | "mp"
                    | "cdot"
                    | "times"
                    | "ast"
                    | "bullet"
                    | "div"
                    | "end"
                    | "mid"
                    | "Rightarrow"
                    | "implies"
                    | "to"
                    | "rightarrow"
                    | "iff"
                    | "degree"
                    | "circ"
                    | "bmod"
                    | "mod"
                    | "pmod"
                    | "Vert"
                    | "vert"
            ),
            _ => false,
        }
    }

    pub(super) fn signed_factor(&mut self) -> Option<Node> {
        match self.sign() {
            None => self.factor(),
            Some(Sign::Plus) => self.nested(Self::signed_factor),
            Some(Sign::Minus) => self.nested(Self::signed_factor).map(Node::negative),
            Some(Sign::Both { upper }) => {
                let of = Box::new(self.nested(Self::signed_factor)?);
                Some(Node::PlusMinus { upper, of })
            }
        }
    }

    pub(super) fn factor(&mut self) -> Option<Node> {
        let base = self.nested(Self::base)?;
        self.postfix(base)
    }

    fn postfix(&mut self, mut node: Node) -> Option<Node> {
        // Each round nests one level deeper, so rounds are bounded like brackets.
        for _ in 0..8 {
            match self.peek() {
                Some(Tok::Ch('^')) => {
                    self.at += 1;
                    if self.degree_mark() {
                        node = Node::Degree(Box::new(node));
                        continue;
                    }
                    if self.eat('\'') || self.eat_cmd("prime") {
                        node = Node::Call("prime".into(), vec![node]);
                        continue;
                    }
                    let exponent = self.nested(Self::argument)?;
                    node = Node::Pow(Box::new(node), Box::new(exponent));
                }
                Some(Tok::Ch('_')) => {
                    self.at += 1;
                    let index = self.nested(Self::argument)?;
                    node = Node::Sub(Box::new(node), Box::new(index));
                }
                Some(Tok::Ch('!')) => {
                    self.at += 1;
                    node = Node::Call("factorial".into(), vec![node]);
                }
                Some(Tok::Ch('%')) => {
                    self.at += 1;
                    node = Node::Percent(Box::new(node));
                }
                Some(Tok::Ch('\'')) => {
                    self.at += 1;
                    node = Node::Call("prime".into(), vec![node]);
                }
                Some(Tok::Cmd(c)) if matches!(c.as_str(), "degree" | "circ") => {
                    self.at += 1;
                    node = Node::Degree(Box::new(node));
                }
                Some(Tok::Cmd(c)) if matches!(c.as_str(), "bmod" | "mod" | "pmod") => {
                    let bracketed = c == "pmod";
                    self.at += 1;
                    let modulus = if bracketed {
                        self.nested(Self::argument)?
                    } else {
                        self.nested(Self::factor)?
                    };
                    node = Node::Call("mod".into(), vec![node, modulus]);
                }
                _ => return Some(node),
            }
        }
        None
    }

    /// `\circ`, `{\circ}` or `\degree` at an exponent.
    fn degree_mark(&mut self) -> bool {
        let is_mark = |tok: Option<&Tok>| matches!(tok, Some(Tok::Cmd(c)) if matches!(c.as_str(), "circ" | "degree"));
        if is_mark(self.peek()) {
            self.at += 1;
            return true;
        }
        if self.is_ch('{') && is_mark(self.ahead(1)) && self.ahead(2) == Some(&Tok::Ch('}')) {
            self.at += 3;
            return true;
        }
        false
    }

    /// A TeX argument: a braced group or a single token (of a number, a single digit).
    pub(super) fn argument(&mut self) -> Option<Node> {
        match self.peek()? {
            Tok::Ch('{') => {
                self.at += 1;
                let node = self.nested(Self::list)?;
                self.eat('}').then_some(node)
            }
            Tok::Ch('(') => self.nested(Self::base),
            Tok::Num(digits) => {
                let digits = digits.clone();
                // Plain text writes `2^10`, LaTeX would read `2^1 0`; nobody means the latter.
                self.at += 1;
                number(&digits)
            }
            Tok::Ch('-' | '+') => {
                let minus = self.is_ch('-');
                self.at += 1;
                let node = self.nested(Self::argument)?;
                Some(if minus { Node::negative(node) } else { node })
            }
            Tok::Ch('*') => {
                self.at += 1;
                Some(Node::Sym("*".into()))
            }
            _ => self.nested(Self::base),
        }
    }

    /// An argument of `\frac` or `\sqrt`, where a bare number gives its first digit only.
    pub(super) fn digit_argument(&mut self) -> Option<Node> {
        let Some(Tok::Num(digits)) = self.peek() else {
            return self.argument();
        };
        let digits = digits.clone();
        let (first, rest) = digits.split_at(1);
        if rest.is_empty() || first == "." {
            self.at += 1;
            return number(&digits);
        }
        self.tokens[self.at].tok = Tok::Num(rest.to_owned());
        number(first)
    }
}

enum Sign {
    Plus,
    Minus,
    Both { upper: bool },
}

enum Juxtaposed {
    Factor(Node),
    /// The fraction of a mixed number: added, not multiplied.
    Mixed(Node),
}

/// Words that only announce the value behind them.
fn leads_up(words: &str) -> bool {
    let lower = words.to_ascii_lowercase();
    let announces = ["is", "answer", "equals", "be"]
        .iter()
        .any(|w| lower.ends_with(w));
    announces
        && !lower
            .split(' ')
            .any(|w| matches!(w, "not" | "isn" | "never"))
}

/// Whether `top/bottom` is a fraction of whole numbers below one, as in a mixed number.
fn proper(top: &Node, bottom: &Node) -> bool {
    match (top, bottom) {
        (
            Node::Num {
                value: a,
                places: None,
            },
            Node::Num {
                value: b,
                places: None,
            },
        ) => a.is_integer() && b.is_integer() && a < b,
        _ => false,
    }
}
