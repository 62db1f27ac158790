//! Whether two answers are the same.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Pow, Signed, Zero};

use super::answer::{Answer, Scalar, interpret, is_name};
use super::node::{Node, Op};
use super::numeric::{SAMPLES, close, value};
use super::region::{End, Region, bound};

/// Digits after the point from which a decimal may stand for a number it cannot write out.
const ROUNDED_PLACES: u32 = 6;

/// Whether `answer` states what `gold` states.
pub(super) fn same(gold: &Answer, answer: &Answer) -> bool {
    match (gold, answer) {
        (Answer::Scalar(a), Answer::Scalar(b)) => same_value(a, b),
        (Answer::Text(a), Answer::Text(b)) => words(a) == words(b),
        (Answer::Named { .. }, _) | (_, Answer::Named { .. }) => same_named(gold, answer),
        (Answer::Matrix(a), Answer::Matrix(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|(x, y)| {
                    x.len() == y.len() && x.iter().zip(y).all(|(p, q)| same_value(p, q))
                })
        }
        (Answer::Matrix(rows), Answer::Tuple { items, .. })
        | (Answer::Tuple { items, .. }, Answer::Matrix(rows)) => same_vector(rows, items),
        (Answer::Ratio(a), Answer::Ratio(b)) => same_ratio(a, b),
        (
            Answer::Tuple {
                open,
                close,
                items: a,
            },
            Answer::Tuple {
                open: other_open,
                close: other_close,
                items: b,
            },
        ) => open == other_open && close == other_close && in_order(a, b),
        // Brackets may be left out.
        (Answer::Tuple { items: a, .. }, Answer::Set(b))
        | (Answer::Set(a), Answer::Tuple { items: b, .. }) => in_order(a, b),
        (Answer::Set(a), Answer::Set(b)) | (Answer::Union(a), Answer::Union(b))
            if same_set(a, b) =>
        {
            true
        }
        // Members that are all the same are one value.
        (Answer::Set(a) | Answer::Union(a), other) | (other, Answer::Set(a) | Answer::Union(a))
            if !matches!(other, Answer::Set(_) | Answer::Union(_))
                && !a.is_empty()
                && a.iter().all(|x| same(x, &a[0])) =>
        {
            same(&a[0], other)
        }
        (
            Answer::Relation {
                sides: a,
                ops: x,
                region: None,
            },
            Answer::Relation {
                sides: b,
                ops: y,
                region: None,
            },
        ) => same_chain(a, x, b, y),
        _ => match (region(gold), region(answer)) {
            (Some(a), Some(b)) => a.same(&b),
            _ => false,
        },
    }
}

fn words(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

// ---- values --------------------------------------------------------------------------------

fn same_value(gold: &Scalar, answer: &Scalar) -> bool {
    if same_number(gold, answer) {
        return true;
    }
    // 10% is 10% and 10 (see `same_number`), and also 0.1.
    match (gold.percent, answer.percent) {
        (true, false) => same_number(&hundredth(gold), answer),
        (false, true) => same_number(gold, &hundredth(answer)),
        _ => false,
    }
}

fn hundredth(of: &Scalar) -> Scalar {
    let node = Node::Mul(vec![of.node.clone(), Node::inverse(Node::int(100))]);
    Scalar::new(node)
}

fn same_number(gold: &Scalar, answer: &Scalar) -> bool {
    if let (Some(a), Some(b)) = (&gold.form, &answer.form) {
        if a == b {
            return true;
        }
        let rounded = rounds_to(gold, answer) || rounds_to(answer, gold);
        if rounded {
            return true;
        }
        if a.decides(b) {
            return false;
        }
    }
    // A written decimal is exact but for the rule of `rounds_to`.
    if gold.places.is_some() && answer.is_constant()
        || answer.places.is_some() && gold.is_constant()
    {
        return rounds_to(gold, answer) || rounds_to(answer, gold);
    }
    same_at_samples(
        &gold.node,
        &answer.node,
        gold.is_constant() && answer.is_constant(),
    )
}

/// Whether `decimal` is `exact`, rounded or cut off at its last digit. It needs six digits after
/// the point, and `exact` must be a number that no decimal can write: so nothing ever rounds to
/// a whole number or to a shorter decimal.
fn rounds_to(decimal: &Scalar, exact: &Scalar) -> bool {
    let Some(places) = decimal.places.filter(|p| *p >= ROUNDED_PLACES) else {
        return false;
    };
    let Some(written) = decimal.rational() else {
        return false;
    };
    let Ok(power) = u16::try_from(places) else {
        return false;
    };
    let step = BigRational::new(BigInt::one(), Pow::pow(BigInt::from(10), power));
    match exact.rational() {
        Some(value) => !terminates(&value) && (value - written).abs() <= step,
        None if exact.is_constant() => {
            let Some(number) = value(&exact.node, 0).filter(|v| v.im == 0.0) else {
                return false;
            };
            let Some(written) = num_traits::ToPrimitive::to_f64(&written) else {
                return false;
            };
            let step = 10f64.powi(-i32::from(power)).max(1e-14 * number.re.abs());
            (number.re - written).abs() <= step
        }
        None => false,
    }
}

/// Whether a fraction can be written as a decimal.
fn terminates(value: &BigRational) -> bool {
    let mut rest = value.denom().clone();
    for factor in [2u32, 5] {
        while BigInt::is_zero(&(&rest % factor)) {
            rest /= factor;
        }
    }
    rest.is_one()
}

fn same_at_samples(a: &Node, b: &Node, constant: bool) -> bool {
    let samples = if constant { 1 } else { SAMPLES };
    let mut agreed = 0;
    for sample in 0..samples {
        match (value(a, sample), value(b, sample)) {
            (Some(x), Some(y)) if close(x, y) => agreed += 1,
            (None, None) => {}
            _ => return false,
        }
    }
    agreed >= if constant { 1 } else { 2 }
}

fn same_ratio(a: &[Scalar], b: &[Scalar]) -> bool {
    let scaled = |by: &[Scalar], other: &Scalar| {
        Scalar::new(Node::Mul(vec![by[0].node.clone(), other.node.clone()]))
    };
    a.len() == b.len()
        && !a.is_empty()
        && a.iter()
            .zip(b)
            .all(|(x, y)| same_number(&scaled(b, x), &scaled(a, y)))
}

fn same_vector(rows: &[Vec<Scalar>], items: &[Answer]) -> bool {
    let line = rows.len() == 1 || rows.iter().all(|row| row.len() == 1);
    let cells: Vec<Answer> = rows.iter().flatten().cloned().map(Answer::Scalar).collect();
    line && in_order(&cells, items)
}

// ---- collections ---------------------------------------------------------------------------

fn in_order(a: &[Answer], b: &[Answer]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| same(x, y))
}

fn same_set(gold: &[Answer], answer: &[Answer]) -> bool {
    // `x = 1, y = 2` against `1, 2`: the names fix the order.
    if ordered_by_names(gold, answer) || ordered_by_names(answer, gold) {
        return in_order(gold, answer);
    }
    let names_matter = distinct_names(gold) > 1 && distinct_names(answer) > 1;
    let equal = |x: &Answer, y: &Answer| same(x, y) && (!names_matter || name_of(x) == name_of(y));
    let a = distinct(gold, &equal);
    let b = distinct(answer, &equal);
    a.len() == b.len() && a.iter().all(|x| b.iter().any(|y| equal(x, y)))
}

fn distinct<'a>(items: &'a [Answer], equal: &dyn Fn(&Answer, &Answer) -> bool) -> Vec<&'a Answer> {
    let mut kept: Vec<&Answer> = Vec::new();
    for item in items {
        if !kept.iter().any(|k| equal(k, item)) {
            kept.push(item);
        }
    }
    kept
}

fn name_of(answer: &Answer) -> Option<&Node> {
    match answer {
        Answer::Named { name, .. } => Some(name),
        _ => None,
    }
}

/// How many different names the values of a list have.
pub(super) fn distinct_names(items: &[Answer]) -> usize {
    let mut names: Vec<&Node> = Vec::new();
    for name in items.iter().filter_map(name_of) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.len()
}

fn ordered_by_names(named: &[Answer], bare: &[Answer]) -> bool {
    named.len() > 1 && distinct_names(named) == named.len() && distinct_names(bare) == 0
}

// ---- statements ----------------------------------------------------------------------------

fn same_named(gold: &Answer, answer: &Answer) -> bool {
    match (gold, answer) {
        (
            Answer::Named { name, value, sides },
            Answer::Named {
                value: other,
                sides: other_sides,
                name: other_name,
            },
        ) => {
            let values = is_name(name) && (is_name(other_name) || other_sides.len() != 2);
            (values && same(value, other))
                || same_equation(sides, other_sides)
                || (sides.is_empty() || other_sides.is_empty()) && same(value, other)
        }
        // An equation of gold is the answer itself unless it only names a value.
        (Answer::Named { name, value, sides }, other) => {
            (is_name(name) || sides.is_empty()) && same(value, other)
        }
        (other, Answer::Named { value, .. }) => same(other, value),
        _ => false,
    }
}

/// Whether two equations have the same solutions because one is a multiple of the other.
fn same_equation(a: &[Node], b: &[Node]) -> bool {
    let ([a_left, a_right], [b_left, b_right]) = (a, b) else {
        return false;
    };
    let mut factor = None;
    let mut agreed = 0;
    for sample in 0..SAMPLES {
        let difference = |l, r| Some(value(l, sample)?.sub(value(r, sample)?));
        let (Some(x), Some(y)) = (difference(a_left, a_right), difference(b_left, b_right)) else {
            continue;
        };
        let Some(ratio) = x.div(y) else { return false };
        if ratio.size() < 1e-9 || factor.is_some_and(|f| !close(f, ratio)) {
            return false;
        }
        factor = Some(ratio);
        agreed += 1;
    }
    agreed >= 3
}

fn same_chain(a: &[Node], a_ops: &[Op], b: &[Node], b_ops: &[Op]) -> bool {
    let direct = |sides: Vec<Node>, ops: Vec<Op>| {
        sides.len() == a.len()
            && ops == a_ops
            && sides
                .into_iter()
                .zip(a)
                .all(|(x, y)| same_value(&Scalar::new(x), &Scalar::new(y.clone())))
    };
    let flipped: Vec<Op> = b_ops.iter().rev().map(|op| op.flipped()).collect();
    direct(b.to_vec(), b_ops.to_vec()) || direct(b.iter().rev().cloned().collect(), flipped)
}

/// The set of numbers that an answer describes, if it is an interval, a union or an inequality.
fn region(answer: &Answer) -> Option<Region> {
    match answer {
        Answer::Relation { region, .. } => region.clone(),
        Answer::Tuple { .. } => Some(Region::new(vec![interval(answer)?])),
        Answer::Union(parts) => Some(Region::new(
            parts.iter().map(interval).collect::<Option<_>>()?,
        )),
        Answer::Named { value, .. } => region(value),
        Answer::Scalar(scalar) => region_of_node(&scalar.node),
        // `x < 1 \text{ or } x > 3`
        Answer::Set(parts) if parts.len() > 1 => {
            let all: Option<Vec<Region>> = parts
                .iter()
                .map(|p| match p {
                    Answer::Relation { region, .. } => region.clone(),
                    _ => None,
                })
                .collect();
            Some(Region::union(&all?))
        }
        _ => None,
    }
}

/// The real line, with or without single points.
fn region_of_node(node: &Node) -> Option<Region> {
    match node {
        Node::Sym(name) if name == "mathbbR" => Some(Region::line()),
        Node::Call(name, sides) if name == "setminus" => {
            let [from, Node::List(points)] = sides.as_slice() else {
                return None;
            };
            let points: Option<Vec<f64>> = points.iter().map(bound).collect();
            Some(region(&interpret(from.clone())?)?.without(&points?))
        }
        _ => None,
    }
}

fn interval(answer: &Answer) -> Option<(End, End)> {
    match answer {
        Answer::Tuple { open, close, items } => {
            let [Answer::Scalar(low), Answer::Scalar(high)] = items.as_slice() else {
                return None;
            };
            let low = End {
                at: bound(&low.node)?,
                closed: *open == '[',
            };
            let high = End {
                at: bound(&high.node)?,
                closed: *close == ']',
            };
            Some((low, high))
        }
        Answer::Set(items) => {
            let [Answer::Scalar(point)] = items.as_slice() else {
                return None;
            };
            let end = End {
                at: bound(&point.node)?,
                closed: true,
            };
            Some((end, end))
        }
        _ => None,
    }
}
