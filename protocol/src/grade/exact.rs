//! From an expression to its exact [`Form`].

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::form::{Atom, Form, Fuel, Refused};
use super::node::Node;
use super::print::print_form;
use super::roots::{exact_logarithm, gcd};

/// Work allowed for one expression; a contest answer needs less than a hundredth of it.
const FUEL: u32 = 20_000;
/// Largest factorial and binomial that are multiplied out.
const MAX_FACTORIAL: u32 = 100;

/// The exact form of `node`.
pub(super) fn form_of(node: &Node) -> Result<Form, Refused> {
    exact(node, &mut Fuel(FUEL))
}

fn exact(node: &Node, fuel: &mut Fuel) -> Result<Form, Refused> {
    fuel.burn(1)?;
    // Infinity is a bound and no number: 0 times it or it minus itself is nothing.
    let computes = matches!(
        node,
        Node::Add(_) | Node::Mul(_) | Node::Pow(..) | Node::Root(..)
    );
    if computes && !is_infinite(node) && node.children().into_iter().any(is_infinite) {
        return Err(Refused::Undefined);
    }
    match node {
        Node::Num { value, .. } => Ok(Form::rational(value.clone())),
        Node::Sym(name) => Ok(Form::atom(match name.as_str() {
            "pi" => Atom::Pi,
            "e" => Atom::Euler,
            "i" => Atom::Imaginary,
            name => Atom::Symbol(name.to_owned()),
        })),
        Node::Sub(base, index) => {
            let base = exact(base, fuel)?;
            let index = match &**index {
                Node::Text(words) => words.clone(),
                other => print_form(&exact(other, fuel)?),
            };
            let name = format!("{}_{{{index}}}", print_form(&base));
            Ok(Form::atom(Atom::Symbol(name)))
        }
        Node::Add(terms) => {
            let mut sum = Form::default();
            for term in terms {
                sum = sum.add(&exact(term, fuel)?, fuel)?;
            }
            Ok(sum)
        }
        Node::Mul(factors) => {
            let mut product = Form::int(1);
            for factor in factors {
                product = product.mul(&exact(factor, fuel)?, fuel)?;
            }
            Ok(product)
        }
        Node::Pow(base, exponent) => {
            let base = exact(base, fuel)?;
            let exponent = exact(exponent, fuel)?;
            base.pow(&exponent, fuel)
        }
        Node::Root(of, degree) => {
            let power = Form::rational(BigRational::new(BigInt::one(), BigInt::from(*degree)));
            exact(of, fuel)?.pow(&power, fuel)
        }
        Node::Percent(of) | Node::Degree(of) => exact(of, fuel),
        Node::Ratio(parts) if parts.len() == 2 => {
            let bottom = exact(&parts[1], fuel)?.pow(&Form::int(-1), fuel)?;
            exact(&parts[0], fuel)?.mul(&bottom, fuel)
        }
        Node::Call(name, arguments) => call(name, arguments, fuel),
        Node::Text(_)
        | Node::PlusMinus { .. }
        | Node::Relation(..)
        | Node::Ratio(_)
        | Node::Tuple { .. }
        | Node::List(_)
        | Node::Union(_)
        | Node::Matrix(_) => Err(Refused::NotANumber),
    }
}

/// Plus or minus infinity.
fn is_infinite(node: &Node) -> bool {
    match node {
        Node::Sym(name) => name == "infty",
        Node::Mul(parts) => {
            matches!(parts.as_slice(), [sign, of] if *sign == Node::int(-1) && is_infinite(of))
        }
        _ => false,
    }
}

fn call(name: &str, arguments: &[Node], fuel: &mut Fuel) -> Result<Form, Refused> {
    let angle = match trigonometric(name, arguments, fuel)? {
        Trigonometric::Value(value) => return Ok(value),
        Trigonometric::Argument(form) => Some(form),
        Trigonometric::No => None,
    };
    let mut forms = Vec::with_capacity(arguments.len());
    for argument in arguments {
        // Reading it twice would double the work with every level of nesting.
        if let Some(form) = &angle {
            forms.push(form.clone());
            continue;
        }
        forms.push(match argument {
            // The bounds of a sum are relations; they are kept by their shape.
            Node::Relation(sides, _) => {
                let mut shape = Vec::new();
                for side in sides {
                    shape.push(exact(side, fuel)?);
                }
                Form::atom(Atom::Call("relation".into(), shape))
            }
            Node::List(items) | Node::Tuple { items, .. } => {
                let mut shape = Vec::new();
                for item in items {
                    shape.push(exact(item, fuel)?);
                }
                Form::atom(Atom::Call("list".into(), shape))
            }
            other => exact(other, fuel)?,
        });
    }
    let rationals: Option<Vec<BigRational>> = forms.iter().map(Form::as_rational).collect();
    if let Some(values) = rationals
        && let Some(value) = of_rationals(name, &values, fuel)?
    {
        return Ok(value);
    }
    match (name, forms.as_slice()) {
        ("exp", [x]) => Form::atom(Atom::Euler).pow(x, fuel),
        ("ln" | "log", [x]) if *x == Form::atom(Atom::Euler) => Ok(Form::int(1)),
        ("abs", [x]) if x.terms().count() == 1 => absolute_of_term(x, fuel),
        _ => Ok(Form::atom(Atom::Call(name.to_owned(), forms))),
    }
}

/// `|c * a|` is `|c| * |a|` for a number `c`.
fn absolute_of_term(form: &Form, fuel: &mut Fuel) -> Result<Form, Refused> {
    let Some((_, coefficient)) = form.terms().next() else {
        return Ok(Form::default());
    };
    let size = Form::rational(coefficient.abs());
    let rest = form.mul(&Form::rational(coefficient.recip()), fuel)?;
    let positive =
        rest.is_algebraic() && !rest.terms().any(|(m, _)| m.contains_key(&Atom::Imaginary));
    let rest = if positive || rest == Form::atom(Atom::Pi) {
        rest
    } else if rest == Form::atom(Atom::Imaginary) {
        Form::int(1)
    } else {
        Form::atom(Atom::Call("abs".into(), vec![rest]))
    };
    size.mul(&rest, fuel)
}

fn of_rationals(
    name: &str,
    values: &[BigRational],
    fuel: &mut Fuel,
) -> Result<Option<Form>, Refused> {
    let whole = |value: &BigRational| value.is_integer().then(|| value.to_integer());
    let result = match (name, values) {
        ("abs", [x]) => x.abs(),
        ("floor", [x]) => x.floor(),
        ("ceil", [x]) => x.ceil(),
        ("exp", [x]) if x.is_zero() => BigRational::one(),
        ("ln", [x]) if x.is_one() => BigRational::zero(),
        ("min", values) if !values.is_empty() => {
            values.iter().min().cloned().ok_or(Refused::NotANumber)?
        }
        ("max", values) if !values.is_empty() => {
            values.iter().max().cloned().ok_or(Refused::NotANumber)?
        }
        ("log", [base, x]) => match exact_logarithm(base, x, fuel)? {
            Some(value) => value,
            None => return Ok(None),
        },
        ("factorial", [x]) => {
            let n = whole(x)
                .and_then(|n| n.to_u32())
                .ok_or(Refused::NotANumber)?;
            if n > MAX_FACTORIAL {
                return Err(Refused::TooLarge);
            }
            BigRational::from_integer((1..=n).fold(BigInt::one(), |product, k| product * k))
        }
        ("binom", [n, k]) => {
            let n = whole(n)
                .and_then(|n| n.to_u32())
                .ok_or(Refused::NotANumber)?;
            let k = whole(k)
                .and_then(|k| k.to_u32())
                .ok_or(Refused::NotANumber)?;
            if k > n {
                BigRational::zero()
            } else {
                let k = k.min(n - k);
                if k > MAX_FACTORIAL {
                    return Err(Refused::TooLarge);
                }
                let count = (1..=k).fold(BigInt::one(), |c, i| c * (n - k + i) / i);
                BigRational::from_integer(count)
            }
        }
        ("mod", [x, m]) => {
            let (x, m) = whole(x).zip(whole(m)).ok_or(Refused::NotANumber)?;
            if !m.is_positive() {
                return Err(Refused::Undefined);
            }
            BigRational::from_integer(((x % &m) + &m) % &m)
        }
        ("gcd", [a, b]) | ("lcm", [a, b]) => {
            let (a, b) = whole(a).zip(whole(b)).ok_or(Refused::NotANumber)?;
            let common = gcd(a.abs(), b.abs());
            if common.is_zero() {
                return Err(Refused::Undefined);
            }
            BigRational::from_integer(if name == "gcd" {
                common
            } else {
                (a * b).abs() / common
            })
        }
        _ => return Ok(None),
    };
    Ok(Some(Form::rational(result)))
}

/// What is known of a sine, cosine or tangent.
enum Trigonometric {
    /// Its value.
    Value(Form),
    /// Only its argument.
    Argument(Form),
    /// It is none of them.
    No,
}

/// Sine, cosine and tangent at multiples of 30 and 45 degrees.
fn trigonometric(
    name: &str,
    arguments: &[Node],
    fuel: &mut Fuel,
) -> Result<Trigonometric, Refused> {
    let ("sin" | "cos" | "tan", [argument]) = (name, arguments) else {
        return Ok(Trigonometric::No);
    };
    if matches!(
        argument,
        Node::Relation(..) | Node::List(_) | Node::Tuple { .. }
    ) {
        return Ok(Trigonometric::No);
    }
    let (turn, form) = match argument {
        Node::Degree(of) => {
            let degrees = exact(of, fuel)?;
            let turn = degrees.as_rational().map(|d| d / BigInt::from(15));
            // Elsewhere a degree sign is a unit; here it tells 2 degrees from 2.
            let unit = BigRational::new(BigInt::one(), BigInt::from(180));
            let unit = Form::atom(Atom::Pi).mul(&Form::rational(unit), fuel)?;
            (turn, degrees.mul(&unit, fuel)?)
        }
        other => {
            let form = exact(other, fuel)?;
            let pi = Form::atom(Atom::Pi).pow(&Form::int(-1), fuel)?;
            let part = form.mul(&pi, fuel)?;
            (part.as_rational().map(|d| d * BigInt::from(12)), form)
        }
    };
    // Units of 15 degrees.
    let Some(steps) = turn.filter(BigRational::is_integer).map(|t| t.to_integer()) else {
        return Ok(Trigonometric::Argument(form));
    };
    let full = BigInt::from(24);
    let steps = (((steps % &full) + &full) % &full).to_i64().unwrap_or(0);
    let Some((sine, cosine)) = sine_squared(steps).zip(sine_squared((steps + 6) % 24)) else {
        return Ok(Trigonometric::Argument(form));
    };
    let value = |(sign, top): (i64, i64), fuel: &mut Fuel| {
        // sin^2 is top/4.
        let half = Form::rational(BigRational::new(BigInt::one(), BigInt::from(2)));
        let root = Form::int(top).pow(&half, fuel)?;
        root.mul(&half, fuel)?.mul(&Form::int(sign), fuel)
    };
    let result = match name {
        "sin" => value(sine, fuel)?,
        "cos" => value(cosine, fuel)?,
        _ => {
            let inverse = value(cosine, fuel)?.pow(&Form::int(-1), fuel)?;
            value(sine, fuel)?.mul(&inverse, fuel)?
        }
    };
    Ok(Trigonometric::Value(result))
}

/// Sign and four times the square of the sine of `steps` times 15 degrees.
fn sine_squared(steps: i64) -> Option<(i64, i64)> {
    let sign = if steps > 12 { -1 } else { 1 };
    let folded = steps % 12;
    let top = match folded.min(12 - folded) {
        0 => 0,
        2 => 1,
        3 => 2,
        4 => 3,
        6 => 4,
        _ => return None,
    };
    Some((sign, top))
}
