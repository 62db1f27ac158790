//! What a factor can start with: numbers, names, brackets, commands, functions, environments.

use super::lex::Tok;
use super::node::Node;
use super::parse::{Parser, number};

/// Letters that name a function when a bracket follows: `f(x)` is not `f` times `x`.
const FUNCTION_LETTERS: &[char] = &['f', 'g', 'h', 'F', 'G', 'P'];
/// Functions with an argument in brackets or right after the name.
const FUNCTIONS: &[&str] = &[
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh",
    "log", "ln", "lg", "exp", "min", "max", "gcd", "lcm", "abs", "floor", "ceil", "det", "arg",
];
/// Marks over an argument: kept, compared by shape.
const ACCENTS: &[&str] = &[
    "overline",
    "bar",
    "vec",
    "hat",
    "widehat",
    "tilde",
    "widetilde",
    "overrightarrow",
    "dot",
    "ddot",
    "overarc",
    "wideparen",
    "overbrace",
    "underbrace",
];
const BIG_OPERATORS: &[&str] = &[
    "sum", "prod", "int", "iint", "oint", "lim", "bigcup", "bigcap",
];

impl Parser {
    pub(super) fn base(&mut self) -> Option<Node> {
        let tok = self.peek()?.clone();
        match tok {
            Tok::Num(digits) => {
                self.at += 1;
                number(&digits)
            }
            Tok::Repeating(value) => {
                self.at += 1;
                Some(Node::Num {
                    value,
                    places: None,
                })
            }
            Tok::Letter(c) => {
                self.at += 1;
                let next = self.tokens.get(self.at);
                let applied = next.is_some_and(|t| t.tok == Tok::Ch('(') && !t.space_before);
                if FUNCTION_LETTERS.contains(&c) && applied {
                    return self.applied(&c.to_string());
                }
                Some(Node::Sym(symbol_name(c)))
            }
            Tok::Word(word) => {
                self.at += 1;
                self.named(&word)
            }
            Tok::Text(_) => Some(self.words()),
            Tok::Ch('(') => self.bracketed('('),
            Tok::Ch('[') => self.bracketed('['),
            Tok::Ch('{') => {
                self.at += 1;
                if self.eat('}') {
                    return self.nested(Self::base);
                }
                let node = self.list()?;
                self.eat('}').then_some(node)
            }
            Tok::Ch('|') => self.absolute(),
            Tok::Cmd(name) => self.command(&name),
            _ => None,
        }
    }

    fn words(&mut self) -> Node {
        let mut text = String::new();
        loop {
            match self.peek() {
                Some(Tok::Text(word)) => {
                    text.push_str(word);
                    text.push(' ');
                }
                Some(Tok::Letter(c)) if !text.is_empty() && self.tokens[self.at].space_before => {
                    text.push(*c);
                    text.push(' ');
                }
                _ => break,
            }
            self.at += 1;
        }
        Node::Text(text.trim_end().to_owned())
    }

    fn absolute(&mut self) -> Option<Node> {
        self.at += 1;
        self.bars += 1;
        let inner = self.sum();
        self.bars -= 1;
        let closed = self.eat('|') || self.eat_cmd("rvert") || self.eat_cmd("vert");
        closed.then_some(Node::Call("abs".into(), vec![inner?]))
    }

    fn bracketed(&mut self, open: char) -> Option<Node> {
        self.at += 1;
        let (bars, set_builder) = (
            std::mem::take(&mut self.bars),
            std::mem::take(&mut self.set_builder),
        );
        let inner = self.list();
        (self.bars, self.set_builder) = (bars, set_builder);
        let inner = inner?;
        let close = match self.peek()? {
            Tok::Ch(c @ (')' | ']')) => *c,
            _ => return None,
        };
        self.at += 1;
        Some(match inner {
            Node::List(items) => Node::Tuple { open, close, items },
            matrix @ Node::Matrix(_) => matrix,
            one if matches!((open, close), ('(', ')') | ('[', ']')) => one,
            _ => return None,
        })
    }

    fn applied(&mut self, name: &str) -> Option<Node> {
        let argument = self.nested(|p| p.bracketed('('))?;
        let arguments = match argument {
            Node::Tuple { items, .. } => items,
            one => vec![one],
        };
        Some(Node::Call(name.to_owned(), arguments))
    }

    fn named(&mut self, word: &str) -> Option<Node> {
        match word {
            "pi" | "alpha" | "beta" | "theta" => Some(Node::Sym(word.to_owned())),
            "inf" | "infinity" | "infty" | "oo" => Some(Node::Sym("infty".into())),
            "sqrt" => self.root(),
            "frac" => self.fraction(),
            "and" | "or" | "cup" | "union" => None,
            function => self.function(function),
        }
    }

    fn command(&mut self, name: &str) -> Option<Node> {
        self.at += 1;
        match name {
            "frac" | "dfrac" | "tfrac" | "cfrac" => self.fraction(),
            "sqrt" => self.root(),
            "binom" | "dbinom" | "tbinom" => {
                let top = self.nested(Self::digit_argument)?;
                let bottom = self.nested(Self::digit_argument)?;
                Some(Node::Call("binom".into(), vec![top, bottom]))
            }
            "{" => self.braced_set(),
            "langle" => {
                let items = self.nested(Self::list)?;
                if !self.eat_cmd("rangle") {
                    return None;
                }
                let items = if let Node::List(items) = items {
                    items
                } else {
                    vec![items]
                };
                Some(Node::Tuple {
                    open: '(',
                    close: ')',
                    items,
                })
            }
            "lfloor" => self.fenced("floor", "rfloor"),
            "lceil" => self.fenced("ceil", "rceil"),
            "lvert" => {
                let bars = std::mem::take(&mut self.bars);
                let node = self.fenced("abs", "rvert");
                self.bars = bars;
                node
            }
            "vert" => {
                self.at -= 1;
                self.absolute()
            }
            "Vert" => self.fenced("norm", "Vert"),
            "emptyset" | "varnothing" => Some(Node::List(Vec::new())),
            "infty" => Some(Node::Sym("infty".into())),
            "begin" => self.environment(),
            "ldots" | "dots" | "cdots" | "dotsc" => Some(Node::Sym("ldots".into())),
            "min" | "max" | "gcd" | "lcm" => self.function(name),
            name if FUNCTIONS.contains(&name) => self.function(name),
            name if ACCENTS.contains(&name) => {
                let argument = self.nested(Self::argument)?;
                Some(Node::Call(name.to_owned(), vec![argument]))
            }
            name if BIG_OPERATORS.contains(&name) => self.big_operator(name),
            "end" | "rangle" | "}" | "rvert" | "rfloor" | "rceil" | "item" => None,
            // Arrows and implications make a chain of statements, not a value.
            "Rightarrow" | "implies" | "to" | "rightarrow" | "iff" | "mid" | "Leftrightarrow" => {
                None
            }
            // Greek letters and everything unknown: a symbol that equals itself only.
            symbol => Some(Node::Sym(symbol.to_owned())),
        }
    }

    fn fraction(&mut self) -> Option<Node> {
        let top = self.nested(Self::digit_argument)?;
        let bottom = self.nested(Self::digit_argument)?;
        Some(Node::Mul(vec![top, Node::inverse(bottom)]))
    }

    fn root(&mut self) -> Option<Node> {
        let mut degree = 2;
        if self.eat('[') {
            let Some(Tok::Num(digits)) = self.peek() else {
                return None;
            };
            degree = digits.parse().ok().filter(|d| (1..=1000).contains(d))?;
            self.at += 1;
            if !self.eat(']') {
                return None;
            }
        }
        let of = self.nested(Self::digit_argument)?;
        Some(Node::Root(Box::new(of), degree))
    }

    fn fenced(&mut self, function: &str, close: &str) -> Option<Node> {
        let inner = self.nested(Self::list)?;
        self.eat_cmd(close)
            .then_some(Node::Call(function.to_owned(), vec![inner]))
    }

    fn braced_set(&mut self) -> Option<Node> {
        if self.eat_cmd("}") {
            return Some(Node::List(Vec::new()));
        }
        let bars = std::mem::take(&mut self.bars);
        self.set_builder += 1;
        let inner = self.nested(Self::list);
        self.set_builder -= 1;
        self.bars = bars;
        let inner = inner?;
        // `{x | x > 5}`: the condition is the set.
        if self.eat('|') || self.eat_cmd("mid") || self.eat(':') || self.eat_cmd("vert") {
            let condition = self.nested(Self::list)?;
            return self.eat_cmd("}").then_some(condition);
        }
        if !self.eat_cmd("}") {
            return None;
        }
        Some(match inner {
            list @ Node::List(_) => list,
            one => Node::List(vec![one]),
        })
    }

    fn function(&mut self, name: &str) -> Option<Node> {
        let mut power = None;
        let mut base = None;
        for _ in 0..2 {
            if self.eat('^') {
                power = Some(self.nested(Self::argument)?);
            } else if self.eat('_') {
                base = Some(self.nested(Self::digit_argument)?);
            }
        }
        let mut arguments = match self.peek()? {
            Tok::Ch('(' | '[') => {
                let open = if self.is_ch('(') { '(' } else { '[' };
                match self.nested(|p| p.bracketed(open))? {
                    Node::Tuple { items, .. } => items,
                    one => vec![one],
                }
            }
            Tok::Ch('{') | Tok::Cmd(_) if self.is_ch('{') || self.is_cmd("{") => {
                match self.nested(Self::base)? {
                    Node::List(items) => items,
                    one => vec![one],
                }
            }
            _ => vec![self.nested(Self::bare_argument)?],
        };
        let mut name = name.to_owned();
        if let (Some(inverse), true) = (inverse_of(&name), power == Some(Node::int(-1))) {
            name = inverse.to_owned();
            power = None;
        }
        if let Some(base) = base {
            arguments.insert(0, base);
        } else if name == "lg" {
            name = "log".into();
            arguments.insert(0, Node::int(10));
        }
        let call = Node::Call(name, arguments);
        Some(match power {
            Some(power) => Node::Pow(Box::new(call), Box::new(power)),
            None => call,
        })
    }

    /// `2x` of `\sin 2x \cos y`: factors up to an operator or the next function.
    fn bare_argument(&mut self) -> Option<Node> {
        let mut factors = vec![self.signed_factor()?];
        while self.starts_factor() && !self.at_function() && !self.is_ch('(') {
            factors.push(self.factor()?);
        }
        Some(if factors.len() == 1 {
            factors.remove(0)
        } else {
            Node::Mul(factors)
        })
    }

    fn at_function(&self) -> bool {
        match self.peek() {
            Some(Tok::Cmd(c) | Tok::Word(c)) => FUNCTIONS.contains(&c.as_str()),
            _ => false,
        }
    }

    fn big_operator(&mut self, name: &str) -> Option<Node> {
        let mut parts = vec![Node::List(Vec::new()), Node::List(Vec::new())];
        for _ in 0..2 {
            if self.eat('_') {
                parts[0] = self.nested(Self::argument)?;
            } else if self.eat('^') {
                parts[1] = self.nested(Self::argument)?;
            }
        }
        parts.push(self.nested(Self::product)?);
        Some(Node::Call(name.to_owned(), parts))
    }

    fn environment_name(&mut self) -> Option<String> {
        if !self.eat('{') {
            return None;
        }
        let mut name = String::new();
        loop {
            match self.peek()? {
                Tok::Letter(c) => name.push(*c),
                Tok::Text(t) | Tok::Word(t) => name.push_str(t),
                Tok::Ch('*') => {}
                Tok::Ch('}') => break,
                _ => return None,
            }
            self.at += 1;
        }
        self.at += 1;
        Some(name)
    }

    fn environment(&mut self) -> Option<Node> {
        let name = self.environment_name()?;
        if name == "array" && self.is_ch('{') {
            while !self.eat('}') {
                self.peek()?;
                self.at += 1;
            }
        }
        let bars = std::mem::take(&mut self.bars);
        let rows = self.nested(Self::rows);
        self.bars = bars;
        let rows = rows?;
        if self.environment_name()? != name {
            return None;
        }
        match name.as_str() {
            "pmatrix" | "bmatrix" | "matrix" | "array" | "smallmatrix" | "Bmatrix" => {
                let width = rows.first()?.len();
                rows.iter()
                    .all(|r| r.len() == width)
                    .then_some(Node::Matrix(rows))
            }
            "vmatrix" => Some(Node::Call("det".into(), vec![Node::Matrix(rows)])),
            "cases" | "aligned" | "align" | "gathered" | "split" => {
                let mut items: Vec<Node> = rows.into_iter().flatten().collect();
                Some(if items.len() == 1 {
                    items.remove(0)
                } else {
                    Node::List(items)
                })
            }
            _ => None,
        }
    }

    /// Cells up to and over `\end`.
    fn rows(&mut self) -> Option<Vec<Vec<Node>>> {
        let mut rows = vec![Vec::new()];
        loop {
            if self.eat_cmd("end") {
                break;
            }
            match self.peek()? {
                Tok::Ch('&') => self.at += 1,
                Tok::RowBreak => {
                    self.at += 1;
                    // `\\[2pt]`
                    if self.is_ch('[') && !self.tokens[self.at].space_before {
                        while !self.eat(']') {
                            self.peek()?;
                            self.at += 1;
                        }
                    }
                    rows.push(Vec::new());
                }
                Tok::Ch(',' | '.' | ';') => self.at += 1,
                _ => {
                    let cell = self.relation()?;
                    rows.last_mut()?.push(cell);
                }
            }
        }
        rows.retain(|row| !row.is_empty());
        (!rows.is_empty()).then_some(rows)
    }
}

fn inverse_of(name: &str) -> Option<&'static str> {
    match name {
        "sin" => Some("arcsin"),
        "cos" => Some("arccos"),
        "tan" => Some("arctan"),
        _ => None,
    }
}

fn symbol_name(c: char) -> String {
    match c {
        '\u{3b1}' => "alpha".into(),
        '\u{3b2}' => "beta".into(),
        '\u{3b8}' => "theta".into(),
        c => c.to_string(),
    }
}
