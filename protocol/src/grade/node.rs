//! The tree that an answer is parsed into, before any value is computed.

use num_bigint::BigInt;
use num_rational::BigRational;

/// How two sides of a relation are related.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    Equal,
    Approx,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Congruent,
}

impl Op {
    /// The relation read from right to left.
    pub(super) fn flipped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
            same => same,
        }
    }
}

/// An expression. Sums and products are flat, so the depth is what the author nested.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Node {
    /// A number; `places` counts the digits after a written decimal point.
    Num {
        value: BigRational,
        places: Option<u32>,
    },
    /// A variable or constant by its name (`x`, `pi`, `alpha`).
    Sym(String),
    /// A subscripted name: `x_1`, `F_{n-1}`, `204_5`.
    Sub(Box<Node>, Box<Node>),
    /// Words.
    Text(String),
    /// Sum.
    Add(Vec<Node>),
    /// Product; a quotient is a factor with exponent -1.
    Mul(Vec<Node>),
    /// Power.
    Pow(Box<Node>, Box<Node>),
    /// Real root of the given degree.
    Root(Box<Node>, u32),
    /// A function by its name; also everything that is only compared by its shape.
    Call(String, Vec<Node>),
    /// `a` times plus or minus one (`upper`: plus first).
    PlusMinus { upper: bool, of: Box<Node> },
    /// A value with a percent sign.
    Percent(Box<Node>),
    /// A value with a degree sign.
    Degree(Box<Node>),
    /// A chain of relations: one more side than operators.
    Relation(Vec<Node>, Vec<Op>),
    /// `a : b : c`
    Ratio(Vec<Node>),
    /// Two or more values, or one in brackets that say something: tuple, interval, vector.
    Tuple {
        open: char,
        close: char,
        items: Vec<Node>,
    },
    /// Values without order, with or without braces.
    List(Vec<Node>),
    /// A union of sets.
    Union(Vec<Node>),
    /// Rows of a matrix.
    Matrix(Vec<Vec<Node>>),
}

impl Node {
    /// A whole number.
    pub(super) fn int(value: i64) -> Self {
        Self::Num {
            value: BigRational::from_integer(BigInt::from(value)),
            places: None,
        }
    }

    /// One divided by `of`.
    pub(super) fn inverse(of: Node) -> Self {
        Self::Pow(Box::new(of), Box::new(Self::int(-1)))
    }

    /// `of` with the opposite sign.
    pub(super) fn negative(of: Node) -> Self {
        match of {
            Self::Num { value, places } => Self::Num {
                value: -value,
                places,
            },
            other => Self::Mul(vec![Self::int(-1), other]),
        }
    }

    /// The nodes directly below.
    pub(super) fn children(&self) -> Vec<&Node> {
        match self {
            Self::Num { .. } | Self::Sym(_) | Self::Text(_) => Vec::new(),
            Self::Sub(a, b) | Self::Pow(a, b) => vec![a, b],
            Self::Root(a, _) | Self::Percent(a) | Self::Degree(a) => vec![a],
            Self::PlusMinus { of, .. } => vec![of],
            Self::Add(v)
            | Self::Mul(v)
            | Self::Call(_, v)
            | Self::Ratio(v)
            | Self::List(v)
            | Self::Union(v)
            | Self::Relation(v, _)
            | Self::Tuple { items: v, .. } => v.iter().collect(),
            Self::Matrix(rows) => rows.iter().flatten().collect(),
        }
    }

    /// Whether there are words in this node, other than in a subscript.
    pub(super) fn has_words(&self) -> bool {
        match self {
            Self::Text(_) => true,
            Self::Sub(base, _) => base.has_words(),
            other => other.children().into_iter().any(Self::has_words),
        }
    }

    /// How many nodes `test` holds for.
    pub(super) fn count(&self, test: &dyn Fn(&Node) -> bool) -> usize {
        let below: usize = self
            .children()
            .into_iter()
            .map(|child| child.count(test))
            .sum();
        below + usize::from(test(self))
    }

    /// Whether `test` holds for this node or one below it.
    pub(super) fn any(&self, test: &dyn Fn(&Node) -> bool) -> bool {
        test(self) || self.children().into_iter().any(|child| child.any(test))
    }
}
