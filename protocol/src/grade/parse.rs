//! Recursive descent from tokens to a [`Node`]. Depth and size are bounded; no input panics.

use super::lex::{Commas, Tok, Token, tokens};
use super::node::{Node, Op};
use super::numerals::decimal;

/// How deep brackets, fractions and exponents may nest.
const MAX_DEPTH: u32 = 48;

/// Reads all of `text` as one answer.
pub(super) fn parse(text: &str, commas: Commas) -> Option<Node> {
    let mut tokens = tokens(text, commas)?;
    trim_punctuation(&mut tokens);
    if tokens.is_empty() {
        return None;
    }
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
        bars: 0,
        set_builder: 0,
    };
    let node = parser.list()?;
    (parser.at == parser.tokens.len()).then_some(node)
}

fn trim_punctuation(tokens: &mut Vec<Token>) {
    while matches!(
        tokens.last().map(|t| &t.tok),
        Some(Tok::Ch('.' | ',' | ';' | ':' | '?') | Tok::RowBreak)
    ) {
        tokens.pop();
    }
    let lead = tokens
        .iter()
        .take_while(|t| matches!(t.tok, Tok::Ch(',' | ';' | ':' | '.') | Tok::RowBreak))
        .count();
    tokens.drain(..lead);
}

pub(super) struct Parser {
    pub(super) tokens: Vec<Token>,
    pub(super) at: usize,
    depth: u32,
    /// Open absolute-value bars: inside, a bar closes.
    pub(super) bars: u32,
    /// Open set-builder braces: inside, a bar separates.
    pub(super) set_builder: u32,
}

impl Parser {
    pub(super) fn peek(&self) -> Option<&Tok> {
        self.tokens.get(self.at).map(|t| &t.tok)
    }

    pub(super) fn ahead(&self, n: usize) -> Option<&Tok> {
        self.tokens.get(self.at + n).map(|t| &t.tok)
    }

    pub(super) fn is_ch(&self, c: char) -> bool {
        self.peek() == Some(&Tok::Ch(c))
    }

    pub(super) fn is_cmd(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Tok::Cmd(n)) if n == name)
    }

    pub(super) fn eat(&mut self, c: char) -> bool {
        let hit = self.is_ch(c);
        self.at += usize::from(hit);
        hit
    }

    pub(super) fn eat_cmd(&mut self, name: &str) -> bool {
        let hit = self.is_cmd(name);
        self.at += usize::from(hit);
        hit
    }

    pub(super) fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth >= MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    // ---- lists and relations -------------------------------------------------------------

    pub(super) fn list(&mut self) -> Option<Node> {
        let mut items = vec![self.relation()?];
        while self.separator() {
            if self.closes() {
                break;
            }
            items.push(self.relation()?);
        }
        Some(if items.len() == 1 {
            items.remove(0)
        } else {
            Node::List(items)
        })
    }

    fn closes(&self) -> bool {
        match self.peek() {
            None | Some(Tok::Ch(')' | ']' | '}')) => true,
            Some(Tok::Cmd(name)) => matches!(name.as_str(), "}" | "rangle" | "rvert"),
            _ => false,
        }
    }

    fn separator(&mut self) -> bool {
        let start = self.at;
        loop {
            match self.peek() {
                Some(Tok::Ch(',' | ';') | Tok::RowBreak) => self.at += 1,
                Some(Tok::Word(w)) if w == "and" || w == "or" => self.at += 1,
                Some(Tok::Cmd(c)) if matches!(c.as_str(), "land" | "lor" | "wedge" | "vee") => {
                    self.at += 1;
                }
                _ => return self.at > start,
            }
        }
    }

    fn operator(&mut self) -> Option<Op> {
        let op = match self.peek()? {
            Tok::Ch('=') => Op::Equal,
            Tok::Ch('<') => Op::Less,
            Tok::Ch('>') => Op::Greater,
            Tok::Cmd(name) => match name.as_str() {
                "le" | "leq" | "leqslant" | "leqq" => Op::LessEqual,
                "ge" | "geq" | "geqslant" | "geqq" => Op::GreaterEqual,
                "lt" => Op::Less,
                "gt" => Op::Greater,
                "ne" | "neq" => Op::NotEqual,
                "approx" | "approxeq" | "simeq" | "sim" | "thickapprox" => Op::Approx,
                "in" => Op::In,
                "equiv" | "cong" => Op::Congruent,
                "not" if self.ahead(1) == Some(&Tok::Ch('=')) => {
                    self.at += 1;
                    Op::NotEqual
                }
                _ => return None,
            },
            _ => return None,
        };
        self.at += 1;
        // `&=` of an aligned block.
        while self.is_ch('&') {
            self.at += 1;
        }
        Some(op)
    }

    pub(super) fn relation(&mut self) -> Option<Node> {
        let mut sides = Vec::new();
        let mut ops = Vec::new();
        // `= 5` and `\approx 5` continue a chain that starts outside the answer.
        if self
            .operator()
            .is_some_and(|op| !matches!(op, Op::Equal | Op::Approx))
        {
            return None;
        }
        sides.push(self.ratio()?);
        loop {
            if self.is_ch('&') {
                self.at += 1;
            }
            let Some(op) = self.operator() else { break };
            ops.push(op);
            sides.push(self.ratio()?);
        }
        Some(if ops.is_empty() {
            sides.remove(0)
        } else {
            Node::Relation(sides, ops)
        })
    }

    fn ratio(&mut self) -> Option<Node> {
        let first = self.union()?;
        if !self.is_ch(':') || self.set_builder > 0 {
            return Some(first);
        }
        let label = matches!(&first, Node::Text(words) if is_label(words));
        let mut parts = vec![first];
        while self.eat(':') {
            parts.push(self.union()?);
        }
        // `Answer: 204`
        if label && parts.len() == 2 {
            parts.pop()
        } else {
            Some(Node::Ratio(parts))
        }
    }

    fn union(&mut self) -> Option<Node> {
        let mut parts = vec![self.sum()?];
        while self.eat_cmd("cup") || self.eat_word("cup") || self.eat_word("union") {
            parts.push(self.sum()?);
        }
        if self.is_cmd("setminus") || self.is_cmd("backslash") || self.is_cmd("cap") {
            let name = if self.is_cmd("cap") {
                "cap"
            } else {
                "setminus"
            };
            self.at += 1;
            let right = self.sum()?;
            let left = if parts.len() == 1 {
                parts.remove(0)
            } else {
                Node::Union(parts)
            };
            return Some(Node::Call(name.into(), vec![left, right]));
        }
        Some(if parts.len() == 1 {
            parts.remove(0)
        } else {
            Node::Union(parts)
        })
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let hit = matches!(self.peek(), Some(Tok::Word(w)) if w == word);
        self.at += usize::from(hit);
        hit
    }
}

/// `Area` of `Area: 204`: a few words that say what the value is.
fn is_label(words: &str) -> bool {
    let lower = words.to_ascii_lowercase();
    let doubts = ["not", "wrong", "incorrect", "previous", "wait", "peer"];
    lower.split(' ').count() <= 3 && !lower.split(' ').any(|w| doubts.contains(&w))
}

pub(super) fn number(digits: &str) -> Option<Node> {
    let places = digits
        .split_once('.')
        .map(|(_, fraction)| fraction.len() as u32);
    Some(Node::Num {
        value: decimal(digits)?,
        places,
    })
}
