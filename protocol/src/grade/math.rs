//! Mathematical answers: reading one from text, whole numbers, canonical keys.

use num_bigint::BigInt;

use super::answer::{Answer, Scalar, is_name, read};
use super::boxes::unwrapped;
use super::compare::{distinct_names, same};
use super::exact::form_of;
use super::lex::Commas;
use super::node::{Node, Op};
use super::print::{print_form, print_rational};

/// Longest whole number that counts as an answer, in bits.
const MAX_INTEGER_BITS: u64 = 512;

/// What a piece of text holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reading<T> {
    /// One value.
    One(T),
    /// Two or more values where one is asked for.
    Several,
    /// Nothing that can be read.
    Unreadable,
}

/// The whole number that `text` states: evaluated exactly, wrappers and units taken off, a
/// left-hand side dropped.
pub(super) fn integer(text: &str) -> Reading<BigInt> {
    if superscript_after_digit(text) {
        return Reading::Unreadable;
    }
    match read(text, Commas::Thousands) {
        Some(answer) => integer_of(&answer),
        None => Reading::Unreadable,
    }
}

/// A superscript two behind `204` makes it neither 204 nor 41616; behind `204 cm` it is a unit.
fn superscript_after_digit(text: &str) -> bool {
    let is_superscript =
        |c: char| matches!(c, '\u{b2}' | '\u{b3}' | '\u{b9}' | '\u{2070}'..='\u{207f}');
    let mut previous = ' ';
    text.chars().any(|c| {
        let hit = is_superscript(c) && (previous.is_ascii_digit() || previous == ')');
        previous = c;
        hit
    })
}

fn integer_of(answer: &Answer) -> Reading<BigInt> {
    match answer {
        Answer::Scalar(scalar) => scalar
            .form
            .as_ref()
            .filter(|_| scalar.is_constant() && !matches!(scalar.node, Node::Ratio(_)))
            .and_then(|form| form.as_integer())
            .filter(|n| n.bits() <= MAX_INTEGER_BITS)
            .map_or(Reading::Unreadable, Reading::One),
        Answer::Named { value, .. } => integer_of(value),
        Answer::Set(items) => {
            let mut values = items.iter().map(integer_of);
            let first = values.next().unwrap_or(Reading::Unreadable);
            if values.all(|v| v == first && v != Reading::Unreadable) {
                first
            } else {
                Reading::Several
            }
        }
        Answer::Tuple { .. } | Answer::Union(_) | Answer::Ratio(_) | Answer::Matrix(_) => {
            Reading::Several
        }
        Answer::Text(_) | Answer::Relation { .. } => Reading::Unreadable,
    }
}

/// Whether two texts, each one answer and nothing else, state the same.
pub(super) fn same_answers(gold: &str, answer: &str) -> bool {
    let (gold, answer) = (unwrapped(gold), unwrapped(answer));
    if !gold.is_empty() && plain(gold) == plain(answer) {
        return true;
    }
    let list_or_thousands = |text: &str| match text.contains(',') {
        true => vec![Commas::Thousands, Commas::Separate],
        false => vec![Commas::Thousands],
    };
    // A comma of the answer means what makes the two agree: `1,22` against 1.22, `1,2` against {1, 2}.
    // One of gold is never a decimal comma, or a list of two would be right with one number.
    let decimal = is_with_decimal_comma(answer).then_some(Commas::Decimal);
    let agree = list_or_thousands(gold).into_iter().any(|gold_commas| {
        let Some(left) = read(gold, gold_commas) else {
            return false;
        };
        let decimal = decimal.filter(|_| gold_commas == Commas::Thousands);
        let readings = list_or_thousands(answer).into_iter().chain(decimal);
        let mut read = readings.filter_map(|commas| read(answer, commas));
        read.any(|right| same(&left, &right))
    });
    agree || canonical(gold) == canonical(answer)
}

/// Whether a comma may stand before decimals: `1,234` is a whole number already, and never 1.234.
fn is_with_decimal_comma(text: &str) -> bool {
    text.contains(',') && !matches!(integer(text), Reading::One(_))
}

/// Whether `text` reads as one answer.
pub(super) fn is_answer(text: &str) -> bool {
    read(text, Commas::Thousands).is_some()
}

/// Whether `text` reads as words only.
pub(super) fn is_words(text: &str) -> bool {
    matches!(read(text, Commas::Thousands), Some(Answer::Text(_)))
}

/// The key that votes are counted by. Texts that are not mathematics, or whose key would not be
/// read back as the same, are compared by their letters, in quotation marks.
pub(super) fn canonical(text: &str) -> String {
    let text = unwrapped(text);
    let key = |text: &str| read(text, Commas::Thousands).and_then(|answer| render(&answer));
    match key(text) {
        Some(first) if key(&first).as_ref() == Some(&first) && unwrapped(&first) == first => first,
        _ => text_key(text),
    }
}

/// The key of a text that is compared by its letters.
pub(super) fn text_key(text: &str) -> String {
    format!("\"{}\"", plain(unwrapped(text)))
}

/// Text for comparison as text: blanks evened out, words without case.
fn plain(text: &str) -> String {
    let text = text.replace('"', " ");
    let text = text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '.' | ','));
    let digits = text.contains(|c: char| c.is_ascii_digit());
    let glue = if digits { " " } else { "" };
    let even = text.split_whitespace().collect::<Vec<_>>().join(glue);
    // One letter is a name and keeps its case.
    let word = even.chars().count() > 1 && even.chars().all(char::is_alphabetic);
    if word { even.to_lowercase() } else { even }
}

fn render(answer: &Answer) -> Option<String> {
    match answer {
        Answer::Scalar(scalar) => render_scalar(scalar),
        Answer::Text(_) => None,
        Answer::Tuple { open, close, items } => {
            Some(format!("{open}{}{close}", render_all(items)?.join(", ")))
        }
        Answer::Set(items) => {
            let named = distinct_names(items) > 1;
            let member = |item| {
                if named {
                    render_named(item)
                } else {
                    render(item)
                }
            };
            let mut members: Vec<String> = items.iter().map(member).collect::<Option<_>>()?;
            members.sort();
            members.dedup();
            if members.len() == 1 {
                members.pop()
            } else {
                Some(format!("\\{{{}\\}}", members.join(", ")))
            }
        }
        Answer::Union(parts) => {
            let mut parts = render_all(parts)?;
            parts.sort();
            parts.dedup();
            Some(parts.join(" \\cup "))
        }
        Answer::Matrix(rows) => {
            let rows: Option<Vec<String>> = rows
                .iter()
                .map(|row| {
                    Some(
                        row.iter()
                            .map(render_scalar)
                            .collect::<Option<Vec<_>>>()?
                            .join(" & "),
                    )
                })
                .collect();
            Some(format!(
                "\\begin{{pmatrix}}{}\\end{{pmatrix}}",
                rows?.join(" \\\\ ")
            ))
        }
        Answer::Ratio(parts) => {
            let first = parts.first()?.node.clone();
            let scaled = parts.iter().map(|part| {
                let node = Node::Mul(vec![part.node.clone(), Node::inverse(first.clone())]);
                render_scalar(&Scalar::new(node))
            });
            Some(scaled.collect::<Option<Vec<_>>>()?.join(" : "))
        }
        Answer::Relation { sides, ops, .. } => render_chain(sides, ops),
        Answer::Named { name, value, sides } => {
            let number = matches!(&**value, Answer::Scalar(s) if s.is_constant());
            let sum_of_names = matches!(name, Node::Add(terms) if terms.iter().all(is_name));
            if sides.len() == 2 && !is_name(name) && !(number && sum_of_names) {
                let [left, right] = sides.as_slice() else {
                    return None;
                };
                return render_equation(left, right);
            }
            render(value)
        }
    }
}

/// A member of a list whose names tell its members apart: `x = 1` of `x = 1, y = 2`.
fn render_named(item: &Answer) -> Option<String> {
    match item {
        Answer::Named { name, value, .. } => Some(format!(
            "{} = {}",
            print_form(&form_of(name).ok()?),
            render(value)?
        )),
        other => render(other),
    }
}

fn render_all(items: &[Answer]) -> Option<Vec<String>> {
    items.iter().map(render).collect()
}

fn render_scalar(scalar: &Scalar) -> Option<String> {
    let form = scalar.form.as_ref()?;
    Some(
        form.as_rational()
            .map_or_else(|| print_form(form), |r| print_rational(&r)),
    )
}

/// An equation with everything on the left and a leading coefficient of one.
fn render_equation(left: &Node, right: &Node) -> Option<String> {
    let difference = Node::Add(vec![left.clone(), Node::negative(right.clone())]);
    let form = form_of(&difference).ok()?;
    let (_, leading) = form.terms().find(|(monomial, _)| !monomial.is_empty())?;
    let mut fuel = super::form::Fuel(10_000);
    let scaled = form
        .mul(&super::form::Form::rational(leading.recip()), &mut fuel)
        .ok()?;
    Some(format!("{} = 0", print_form(&scaled)))
}

/// A chain of inequalities that rises from left to right.
fn render_chain(sides: &[Node], ops: &[Op]) -> Option<String> {
    let falls = ops
        .iter()
        .any(|op| matches!(op, Op::Greater | Op::GreaterEqual));
    let rises = ops.iter().any(|op| matches!(op, Op::Less | Op::LessEqual));
    if falls && rises {
        return None;
    }
    let mut sides: Vec<String> = sides
        .iter()
        .map(|s| form_of(s).ok().map(|f| print_form(&f)))
        .collect::<Option<_>>()?;
    let mut ops: Vec<Op> = ops.to_vec();
    if falls {
        sides.reverse();
        ops = ops.into_iter().rev().map(Op::flipped).collect();
    }
    let mut sides = sides.into_iter();
    let mut text = sides.next()?;
    for (op, side) in ops.into_iter().zip(sides) {
        let sign = match op {
            Op::Less => " < ",
            Op::LessEqual => " \\le ",
            Op::NotEqual => " \\ne ",
            Op::Equal => " = ",
            _ => return None,
        };
        text.push_str(sign);
        text.push_str(&side);
    }
    Some(text)
}
