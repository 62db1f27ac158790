//! Sets of real numbers that inequalities in one variable and unions of intervals describe.

use super::exact::form_of;
use super::node::{Node, Op};
use super::numeric::value;

/// One end of an interval; `at` may be infinite.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct End {
    pub(super) at: f64,
    pub(super) closed: bool,
}

/// Disjoint intervals in ascending order.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Region {
    parts: Vec<(End, End)>,
}

impl Region {
    /// The union of `parts`: sorted, with touching intervals joined.
    pub(super) fn new(mut parts: Vec<(End, End)>) -> Self {
        parts.retain(|(low, high)| {
            low.at < high.at || (low.at == high.at && low.closed && high.closed)
        });
        parts.sort_by(|a, b| a.0.at.total_cmp(&b.0.at).then(b.0.closed.cmp(&a.0.closed)));
        let mut joined: Vec<(End, End)> = Vec::new();
        for (low, high) in parts {
            match joined.last_mut() {
                Some((_, end))
                    if low.at < end.at || (low.at == end.at && (low.closed || end.closed)) =>
                {
                    if high.at > end.at || (high.at == end.at && high.closed) {
                        *end = high;
                    }
                }
                _ => joined.push((low, high)),
            }
        }
        Self { parts: joined }
    }

    /// The whole real line.
    pub(super) fn line() -> Self {
        let end = |at| End { at, closed: false };
        Self {
            parts: vec![(end(f64::NEG_INFINITY), end(f64::INFINITY))],
        }
    }

    /// The region without single `points`.
    pub(super) fn without(self, points: &[f64]) -> Self {
        let mut parts = self.parts;
        for &at in points {
            let edge = End { at, closed: false };
            let split = |(low, high): (End, End)| {
                if low.at <= at && at <= high.at {
                    vec![(low, edge), (edge, high)]
                } else {
                    vec![(low, high)]
                }
            };
            parts = parts.into_iter().flat_map(split).collect();
        }
        Self::new(parts)
    }

    /// All points of `regions`.
    pub(super) fn union(regions: &[Self]) -> Self {
        Self::new(
            regions
                .iter()
                .flat_map(|r| r.parts.iter().copied())
                .collect(),
        )
    }

    /// Whether both are the same set, ends compared within rounding.
    pub(super) fn same(&self, other: &Self) -> bool {
        let end = |a: &End, b: &End| {
            let near = (a.at - b.at).abs() <= 1e-10 * a.at.abs().max(1.0);
            (a.at == b.at || near) && (a.closed == b.closed || a.at.is_infinite())
        };
        self.parts.len() == other.parts.len()
            && self
                .parts
                .iter()
                .zip(&other.parts)
                .all(|(a, b)| end(&a.0, &b.0) && end(&a.1, &b.1))
    }

    fn mirrored_around(&self, shift: f64, scale: f64) -> Vec<(End, End)> {
        // |scale * x + shift| in self: both branches.
        let solve = |end: End, sign: f64| End {
            at: (sign * end.at - shift) / scale,
            ..end
        };
        let mut parts = Vec::new();
        for (low, high) in &self.parts {
            let low = if low.at < 0.0 {
                End {
                    at: 0.0,
                    closed: true,
                }
            } else {
                *low
            };
            if high.at < low.at {
                continue;
            }
            for sign in [1.0, -1.0] {
                let (a, b) = (solve(low, sign), solve(*high, sign));
                parts.push(if a.at <= b.at { (a, b) } else { (b, a) });
            }
        }
        parts
    }
}

/// The real value of a bound, infinity included.
pub(super) fn bound(node: &Node) -> Option<f64> {
    match node {
        Node::Sym(name) if name == "infty" => Some(f64::INFINITY),
        Node::Mul(parts) => match parts.as_slice() {
            [sign, Node::Sym(name)] if name == "infty" => {
                (*sign == Node::int(-1)).then_some(f64::NEG_INFINITY)
            }
            _ => real(node),
        },
        _ => real(node),
    }
}

fn real(node: &Node) -> Option<f64> {
    if let Some(exact) = form_of(node).ok().and_then(|form| form.as_rational()) {
        return num_traits::ToPrimitive::to_f64(&exact);
    }
    if node.any(&|n| matches!(n, Node::Sym(name) if !matches!(name.as_str(), "pi" | "e"))) {
        return None;
    }
    value(node, 0).filter(|v| v.im == 0.0).map(|v| v.re)
}

/// Solves a chain such as `-2 <= x < 7`, `5 >= x`, `x != 3` or `1 <= |z| <= 3/2`.
pub(super) fn solve(sides: &[Node], ops: &[Op]) -> Option<Region> {
    let middle = sides
        .iter()
        .position(|side| real(side).is_none() && bound(side).is_none())?;
    let variable = &sides[middle];
    let mut low = End {
        at: f64::NEG_INFINITY,
        closed: false,
    };
    let mut high = End {
        at: f64::INFINITY,
        closed: false,
    };
    let mut hole = None;
    for (index, side) in sides.iter().enumerate().filter(|(i, _)| *i != middle) {
        let at = bound(side)?;
        // Only neighbours of the variable bound it.
        let op = if index + 1 == middle {
            ops[index].flipped()
        } else if index == middle + 1 {
            ops[middle]
        } else {
            return None;
        };
        let closed = matches!(op, Op::LessEqual | Op::GreaterEqual);
        match op {
            Op::Less | Op::LessEqual => high = End { at, closed },
            Op::Greater | Op::GreaterEqual => low = End { at, closed },
            Op::NotEqual => hole = Some(at),
            _ => return None,
        }
    }
    let region = match hole {
        None => Region::new(vec![(low, high)]),
        Some(at) => {
            let edge = End { at, closed: false };
            Region::new(vec![(low, edge), (edge, high)])
        }
    };
    let (inner, absolute) = match variable {
        Node::Call(name, arguments) if name == "abs" => (arguments.first()?, true),
        other => (other, false),
    };
    let (scale, shift) = affine(inner)?;
    if absolute {
        return Some(Region::new(region.mirrored_around(shift, scale)));
    }
    let solved = region.parts.iter().map(|(low, high)| {
        let (a, b) = (
            End {
                at: (low.at - shift) / scale,
                ..*low
            },
            End {
                at: (high.at - shift) / scale,
                ..*high
            },
        );
        if a.at <= b.at { (a, b) } else { (b, a) }
    });
    Some(Region::new(solved.collect()))
}

/// `(a, b)` with `node = a * x + b` for its only variable `x`.
fn affine(node: &Node) -> Option<(f64, f64)> {
    let form = form_of(node).ok()?;
    let mut variable = None;
    let mut scale = 0.0;
    let mut shift = 0.0;
    for (monomial, coefficient) in form.terms() {
        let number = num_traits::ToPrimitive::to_f64(coefficient)?;
        match monomial.iter().next() {
            None => shift = number,
            Some((atom, exponent)) => {
                let plain = monomial.len() == 1 && num_traits::One::is_one(exponent);
                let symbol = matches!(atom, super::form::Atom::Symbol(_));
                if !plain || !symbol || variable.replace(atom).is_some() {
                    return None;
                }
                scale = number;
            }
        }
    }
    (scale != 0.0).then_some((scale, shift))
}
