//! What an expression means as an answer: a value, a tuple, a set, a region of the line.

use num_rational::BigRational;

use super::exact::form_of;
use super::form::Form;
use super::lex::Commas;
use super::node::{Node, Op};
use super::parse::parse;
use super::region::{Region, solve};

/// Most members of a list, after plus-minus signs are written out.
const MAX_ITEMS: usize = 64;

/// Most matrices that are multiplied out in one answer.
const MAX_MATRICES: usize = 6;

/// An expression with the forms that comparison needs.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub(super) node: Node,
    /// The exact form, unless it is too large or undefined.
    pub(super) form: Option<Form>,
    /// Written with a percent sign.
    pub(super) percent: bool,
    /// Digits after the point, if it is one decimal number.
    pub(super) places: Option<u32>,
}

impl Scalar {
    pub(super) fn new(node: Node) -> Self {
        let places = match &node {
            Node::Num { places, .. } => *places,
            Node::Percent(of) => match **of {
                Node::Num { places, .. } => places,
                _ => None,
            },
            _ => None,
        };
        let form = form_of(&node).ok();
        Self {
            form,
            percent: matches!(node, Node::Percent(_)),
            places,
            node,
        }
    }

    pub(super) fn rational(&self) -> Option<BigRational> {
        self.form.as_ref().and_then(Form::as_rational)
    }

    /// Whether no symbol but pi, e and i occurs.
    pub(super) fn is_constant(&self) -> bool {
        !self.node.any(&|n| match n {
            Node::Sym(name) => !matches!(name.as_str(), "pi" | "e" | "i" | "infty"),
            Node::Sub(..) | Node::Text(_) => true,
            _ => false,
        })
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Scalar(Scalar),
    /// Words.
    Text(String),
    /// Ordered values in brackets: tuple, vector or interval.
    Tuple {
        open: char,
        close: char,
        items: Vec<Answer>,
    },
    /// Values without order.
    Set(Vec<Answer>),
    Union(Vec<Answer>),
    Matrix(Vec<Vec<Scalar>>),
    Ratio(Vec<Scalar>),
    /// A statement about one variable that is solved, or a chain that is only compared.
    Relation {
        sides: Vec<Node>,
        ops: Vec<Op>,
        region: Option<Region>,
    },
    /// `name = value`: what is named and what it is.
    Named {
        name: Node,
        value: Box<Answer>,
        sides: Vec<Node>,
    },
}

/// Reads `text` as one answer.
pub(super) fn read(text: &str, commas: Commas) -> Option<Answer> {
    interpret(parse(text, commas)?)
}

/// What a parsed expression means as an answer.
pub(super) fn interpret(node: Node) -> Option<Answer> {
    // The cells of a product hold sums of products: every further factor multiplies their size.
    if node.count(&|n| matches!(n, Node::Matrix(_))) > MAX_MATRICES {
        return None;
    }
    let node = fold_matrices(node)?;
    match node {
        Node::Text(words) => Some(Answer::Text(words)),
        Node::Tuple { open, close, items } => {
            let items = items.into_iter().map(interpret).collect::<Option<_>>()?;
            Some(Answer::Tuple { open, close, items })
        }
        Node::List(items) => {
            let mut set = Vec::new();
            for item in items {
                match interpret(item)? {
                    Answer::Set(more) => set.extend(more),
                    one => set.push(one),
                }
                if set.len() > MAX_ITEMS {
                    return None;
                }
            }
            Some(Answer::Set(set))
        }
        Node::Union(parts) => Some(Answer::Union(
            parts.into_iter().map(interpret).collect::<Option<_>>()?,
        )),
        Node::Matrix(rows) => {
            let rows = rows
                .into_iter()
                .map(|r| r.into_iter().map(Scalar::new).collect());
            Some(Answer::Matrix(rows.collect()))
        }
        Node::Ratio(parts) if parts.len() > 2 => {
            Some(Answer::Ratio(parts.into_iter().map(Scalar::new).collect()))
        }
        Node::Relation(sides, ops) => relation(sides, ops),
        other if other.any(&|n| matches!(n, Node::PlusMinus { .. })) => {
            let both = [true, false].map(|first| with_sign(&other, first));
            Some(Answer::Set(
                both.into_iter()
                    .map(|n| Answer::Scalar(Scalar::new(n)))
                    .collect(),
            ))
        }
        // Words in the middle of an expression: prose, not mathematics.
        other if other.has_words() => None,
        other => Some(Answer::Scalar(Scalar::new(other))),
    }
}

/// The node with every plus-minus replaced by one of its signs, all at once.
fn with_sign(node: &Node, first: bool) -> Node {
    let walk = |n: &Node| with_sign(n, first);
    let all = |v: &[Node]| v.iter().map(walk).collect::<Vec<_>>();
    match node {
        Node::PlusMinus { upper, of } => {
            let of = walk(of);
            if *upper == first {
                of
            } else {
                Node::negative(of)
            }
        }
        Node::Add(v) => Node::Add(all(v)),
        Node::Mul(v) => Node::Mul(all(v)),
        Node::Call(name, v) => Node::Call(name.clone(), all(v)),
        Node::Pow(a, b) => Node::Pow(Box::new(walk(a)), Box::new(walk(b))),
        Node::Root(a, degree) => Node::Root(Box::new(walk(a)), *degree),
        Node::Percent(a) => Node::Percent(Box::new(walk(a))),
        Node::Degree(a) => Node::Degree(Box::new(walk(a))),
        other => other.clone(),
    }
}

fn relation(sides: Vec<Node>, ops: Vec<Op>) -> Option<Answer> {
    let prose = |n: &Node| !matches!(n, Node::Text(_)) && n.has_words();
    if sides.iter().any(prose) {
        return None;
    }
    if ops
        .iter()
        .all(|op| matches!(op, Op::Equal | Op::Approx | Op::Congruent))
    {
        return chain(sides, &ops);
    }
    // `x \in S` says the set.
    if ops == [Op::In] {
        let set = interpret(sides.get(1)?.clone())?;
        let value = Box::new(set);
        return Some(Answer::Named {
            name: sides.first()?.clone(),
            value,
            sides: Vec::new(),
        });
    }
    let region = solve(&sides, &ops);
    Some(Answer::Relation { sides, ops, region })
}

/// `x = 5+5+1 = 11`, `1/3 \approx 0.333`: the name and the value that the chain ends in.
fn chain(sides: Vec<Node>, ops: &[Op]) -> Option<Answer> {
    // What follows an approximation sign is rounded: the exact value stands before it.
    let exact = 1 + ops.iter().take_while(|op| **op != Op::Approx).count();
    let kept = if exact == 1 && is_name(&sides[0]) {
        sides.len()
    } else {
        exact
    };
    let mut sides = sides;
    sides.truncate(kept);
    if sides.len() == 1 {
        return interpret(sides.remove(0));
    }
    let last = sides.last()?.clone();
    let first = sides.first()?.clone();
    // `204 = m + n`: the number is the value, whichever side it is on.
    let swapped = sides.len() == 2 && is_number(&first) && !is_number(&last);
    let (name, value) = if swapped {
        (last, first)
    } else {
        (first, last)
    };
    let value = Box::new(interpret(value)?);
    Some(Answer::Named { name, value, sides })
}

fn is_number(node: &Node) -> bool {
    form_of(node).is_ok_and(|f| f.as_rational().is_some())
}

/// Whether `node` only names a quantity (`x`, `f(x)`, `\frac{NO}{BO}`, `A:B`, `(p, q)`), so that
/// an equation with it on the left states a value and is not an equation to compare.
pub(super) fn is_name(node: &Node) -> bool {
    match node {
        Node::Sym(_) | Node::Sub(..) | Node::Text(_) => true,
        Node::Call(name, arguments) => {
            let opaque = !matches!(name.as_str(), "sin" | "cos" | "tan" | "log" | "ln" | "exp");
            opaque || arguments.iter().all(is_name)
        }
        Node::Mul(parts)
        | Node::Ratio(parts)
        | Node::List(parts)
        | Node::Tuple { items: parts, .. } => parts.iter().all(is_name),
        Node::Pow(base, exponent) => is_name(base) && **exponent == Node::int(-1),
        Node::Degree(of) => is_name(of),
        _ => false,
    }
}

/// Works out sums and products of matrices.
fn fold_matrices(node: Node) -> Option<Node> {
    if !node.any(&|n| matches!(n, Node::Matrix(_))) {
        return Some(node);
    }
    match node {
        Node::Add(terms) => {
            let mut terms = terms.into_iter().map(fold_matrices);
            let mut sum = terms.next()??;
            for term in terms {
                sum = match (sum, term?) {
                    (Node::Matrix(a), Node::Matrix(b)) => Node::Matrix(matrix_sum(a, b)?),
                    _ => return None,
                };
            }
            Some(sum)
        }
        Node::Mul(factors) => {
            let mut factors = factors.into_iter().map(fold_matrices);
            let mut product = factors.next()??;
            for factor in factors {
                product = match (product, factor?) {
                    (Node::Matrix(a), Node::Matrix(b)) => Node::Matrix(matrix_product(&a, &b)?),
                    (Node::Matrix(m), scalar) | (scalar, Node::Matrix(m)) => {
                        let scaled = |cell| Node::Mul(vec![scalar.clone(), cell]);
                        let rows = m.into_iter().map(|r| r.into_iter().map(scaled).collect());
                        Node::Matrix(rows.collect())
                    }
                    (a, b) => Node::Mul(vec![a, b]),
                };
            }
            Some(product)
        }
        other => Some(other),
    }
}

fn matrix_sum(a: Vec<Vec<Node>>, b: Vec<Vec<Node>>) -> Option<Vec<Vec<Node>>> {
    let same = a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| x.len() == y.len());
    let add = |(x, y): (Node, Node)| Node::Add(vec![x, y]);
    same.then(|| {
        a.into_iter()
            .zip(b)
            .map(|(x, y)| x.into_iter().zip(y).map(add).collect())
            .collect()
    })
}

fn matrix_product(a: &[Vec<Node>], b: &[Vec<Node>]) -> Option<Vec<Vec<Node>>> {
    let inner = b.len();
    let width = b.first()?.len();
    // Answers have small matrices.
    if a.iter().any(|row| row.len() != inner) || a.len() * inner * width > 64 {
        return None;
    }
    let cell = |row: &[Node], column: usize| {
        let products = row
            .iter()
            .zip(b)
            .map(|(x, other)| Node::Mul(vec![x.clone(), other[column].clone()]));
        Node::Add(products.collect())
    };
    Some(
        a.iter()
            .map(|row| (0..width).map(|c| cell(row, c)).collect())
            .collect(),
    )
}
