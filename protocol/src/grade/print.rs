//! Writes exact forms so that the parser reads them back: these are the keys of votes.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed};

use super::form::{Atom, Form};

/// A form as text, e.g. `1/2+3*5^(1/2)`.
pub(super) fn print_form(form: &Form) -> String {
    if form.is_zero() {
        return "0".to_owned();
    }
    let mut text = String::new();
    for (monomial, coefficient) in form.terms() {
        let size = coefficient.abs();
        if coefficient.is_negative() {
            text.push('-');
        } else if !text.is_empty() {
            text.push('+');
        }
        if monomial.is_empty() {
            text.push_str(&print_rational(&size));
            continue;
        }
        if !size.is_one() {
            text.push_str(&print_rational(&size));
            text.push('*');
        }
        let factors: Vec<String> = monomial.iter().map(|(a, e)| print_power(a, e)).collect();
        text.push_str(&factors.join("*"));
    }
    text
}

/// `3`, `-3`, `14/3`.
pub(super) fn print_rational(value: &BigRational) -> String {
    if value.is_integer() {
        value.numer().to_string()
    } else {
        format!("{}/{}", value.numer(), value.denom())
    }
}

fn print_power(atom: &Atom, exponent: &BigRational) -> String {
    let base = match atom {
        Atom::Prime(p) => p.to_string(),
        Atom::Imaginary => "i".into(),
        Atom::Euler => "e".into(),
        Atom::Pi => "\\pi ".trim_end().into(),
        Atom::Symbol(name) => print_symbol(name),
        Atom::Sum(form) => format!("({})", print_form(form)),
        Atom::Call(name, arguments) => {
            let arguments: Vec<String> = arguments.iter().map(print_form).collect();
            match (name.as_str(), arguments.as_slice()) {
                ("factorial", [of]) => format!("(({of})!)"),
                ("binom", [n, k]) => format!("\\binom{{{n}}}{{{k}}}"),
                _ => format!("{}({})", print_symbol(name), arguments.join(",")),
            }
        }
        Atom::Power(base, power) => format!("({})^({})", print_form(base), print_form(power)),
    };
    let two = BigRational::from_integer(BigInt::from(2));
    if exponent.is_one() {
        base
    } else if *exponent == two.recip() {
        format!("\\sqrt{{{base}}}")
    } else if exponent.is_integer() && exponent.is_positive() {
        format!("{base}^{}", exponent.numer())
    } else {
        format!("{base}^({})", print_rational(exponent))
    }
}

fn print_symbol(name: &str) -> String {
    let plain = name.chars().count() == 1 || !name.chars().all(|c| c.is_ascii_alphabetic());
    if plain {
        name.to_owned()
    } else {
        format!("\\{name}")
    }
}
