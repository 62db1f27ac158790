//! Exact normal form: a sum of rational multiples of products of powers of atoms.
//!
//! Two expressions with the same form are equal. The converse holds for rational numbers and for
//! sums of roots of whole numbers ([`Form::decides`]); beyond that it is a canonical key and
//! equality falls to the numeric test. Work is metered by [`Fuel`], sizes are capped.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

use super::roots::{TRIAL_LIMIT, gcd, integer_power, rational_power, whole};

/// Largest number of bits in a numerator or denominator.
pub(super) const MAX_BITS: u64 = 4096;
/// Most terms in a sum.
const MAX_TERMS: usize = 128;
/// Largest exponent that is multiplied out.
const MAX_EXPANDED_POWER: u32 = 12;

/// Why an expression has no exact form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// Division by zero, the logarithm of zero and the like.
    Undefined,
    /// Larger than the caps allow.
    TooLarge,
    /// Words, relations or sets where a number is needed.
    NotANumber,
}

/// How much work is left.
pub(super) struct Fuel(pub(super) u32);

impl Fuel {
    pub(super) fn burn(&mut self, amount: usize) -> Result<(), Refused> {
        self.0 = self
            .0
            .saturating_sub(u32::try_from(amount).unwrap_or(u32::MAX));
        if self.0 == 0 {
            Err(Refused::TooLarge)
        } else {
            Ok(())
        }
    }
}

/// Something a power can be taken of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Atom {
    /// A prime, or a whole number whose factors are beyond trial division.
    Prime(BigInt),
    Imaginary,
    Euler,
    Pi,
    Symbol(String),
    /// A sum in brackets, raised to a power that is not multiplied out.
    Sum(Form),
    /// A function that has no exact value here.
    Call(String, Vec<Form>),
    /// A power whose exponent is not a rational number.
    Power(Form, Form),
}

pub(super) type Monomial = BTreeMap<Atom, BigRational>;

/// A sum; the empty sum is zero.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Form {
    terms: BTreeMap<Monomial, BigRational>,
}

/// Length of a number in machine words, less the first.
fn words(value: &BigRational) -> usize {
    (value.numer().bits().max(value.denom().bits()) / 64) as usize
}

impl Form {
    pub(super) fn rational(value: BigRational) -> Self {
        let mut form = Self::default();
        if !value.is_zero() {
            form.terms.insert(Monomial::new(), value);
        }
        form
    }

    pub(super) fn int(value: i64) -> Self {
        Self::rational(BigRational::from_integer(value.into()))
    }

    pub(super) fn atom(atom: Atom) -> Self {
        Self::term(
            Monomial::from([(atom, BigRational::one())]),
            BigRational::one(),
        )
    }

    fn term(monomial: Monomial, coefficient: BigRational) -> Self {
        let mut form = Self::default();
        if !coefficient.is_zero() {
            form.terms.insert(monomial, coefficient);
        }
        form
    }

    /// The terms in canonical order.
    pub(super) fn terms(&self) -> impl Iterator<Item = (&Monomial, &BigRational)> {
        self.terms.iter()
    }

    pub(super) fn is_zero(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value, if it is rational.
    pub(super) fn as_rational(&self) -> Option<BigRational> {
        match self.terms.len() {
            0 => Some(BigRational::zero()),
            1 => self.terms.get(&Monomial::new()).cloned(),
            _ => None,
        }
    }

    /// The value, if it is a whole number.
    pub(super) fn as_integer(&self) -> Option<BigInt> {
        self.as_rational()
            .filter(BigRational::is_integer)
            .map(|r| r.to_integer())
    }

    /// Whether this is a sum of roots of numbers, which is a real number if `i` is absent.
    pub(super) fn is_algebraic(&self) -> bool {
        self.terms
            .keys()
            .flatten()
            .all(|(a, _)| matches!(a, Atom::Prime(_) | Atom::Imaginary))
    }

    /// Whether `self` and `other` are equal only if their forms are: roots of different
    /// square-free numbers are linearly independent over the rationals. Numbers that were not
    /// factored could share a factor, so at most one of them may occur.
    pub(super) fn decides(&self, other: &Self) -> bool {
        let limit = BigInt::from(TRIAL_LIMIT);
        let mut unfactored = None;
        for (atom, _) in self.terms.keys().chain(other.terms.keys()).flatten() {
            match atom {
                Atom::Prime(p) if *p > limit && unfactored.is_some_and(|u| u != p) => return false,
                Atom::Prime(p) if *p > limit => unfactored = Some(p),
                Atom::Prime(_) | Atom::Imaginary => {}
                _ => return false,
            }
        }
        true
    }

    pub(super) fn add(&self, other: &Self, fuel: &mut Fuel) -> Result<Self, Refused> {
        fuel.burn(1 + other.terms.len())?;
        let mut sum = self.clone();
        for (monomial, coefficient) in &other.terms {
            sum.add_term(monomial.clone(), coefficient.clone())?;
        }
        Ok(sum)
    }

    fn add_term(&mut self, monomial: Monomial, coefficient: BigRational) -> Result<(), Refused> {
        let entry = self
            .terms
            .entry(monomial.clone())
            .or_insert_with(BigRational::zero);
        *entry += coefficient;
        let bits = entry.numer().bits().max(entry.denom().bits());
        if entry.is_zero() {
            self.terms.remove(&monomial);
        }
        let fits = bits <= MAX_BITS && self.terms.len() <= MAX_TERMS;
        if fits { Ok(()) } else { Err(Refused::TooLarge) }
    }

    pub(super) fn negated(&self) -> Self {
        Self {
            terms: self
                .terms
                .iter()
                .map(|(m, c)| (m.clone(), -c.clone()))
                .collect(),
        }
    }

    pub(super) fn mul(&self, other: &Self, fuel: &mut Fuel) -> Result<Self, Refused> {
        let mut product = Self::default();
        for (left, a) in &self.terms {
            for (right, b) in &other.terms {
                // Reducing a fraction takes time with the square of its length.
                let words = words(a).max(words(b));
                fuel.burn(1 + left.len() + right.len() + words * words)?;
                let mut monomial = left.clone();
                for (atom, exponent) in right {
                    *monomial
                        .entry(atom.clone())
                        .or_insert_with(BigRational::zero) += exponent;
                }
                let term = settled(monomial, a * b, fuel)?;
                for (monomial, coefficient) in term.terms {
                    product.add_term(monomial, coefficient)?;
                }
            }
        }
        Ok(product)
    }

    /// `self` to the power of `exponent`.
    pub(super) fn pow(&self, exponent: &Form, fuel: &mut Fuel) -> Result<Self, Refused> {
        fuel.burn(4)?;
        let Some(power) = exponent.as_rational() else {
            return if self.is_zero() {
                Err(Refused::Undefined)
            } else if *self == Self::int(1) {
                Ok(Self::int(1))
            } else {
                Ok(Self::atom(Atom::Power(self.clone(), exponent.clone())))
            };
        };
        self.pow_rational(&power, fuel)
    }

    fn pow_rational(&self, power: &BigRational, fuel: &mut Fuel) -> Result<Self, Refused> {
        if self.is_zero() {
            // 0^0 is left undefined: no answer should depend on it.
            return if power.is_positive() {
                Ok(Self::default())
            } else {
                Err(Refused::Undefined)
            };
        }
        if power.is_zero() {
            return Ok(Self::int(1));
        }
        if self.terms.len() == 1 {
            return self.pow_of_term(power, fuel);
        }
        if let Some(times) = whole(power).filter(|t| t.unsigned_abs() <= MAX_EXPANDED_POWER.into())
        {
            let base = if times < 0 {
                self.inverse(fuel)?
            } else {
                self.clone()
            };
            let mut result = Self::int(1);
            for _ in 0..times.unsigned_abs() {
                result = result.mul(&base, fuel)?;
            }
            return Ok(result);
        }
        let (content, rest) = self.split_content();
        let outside = Self::rational(content).pow_rational(power, fuel)?;
        outside.mul(
            &Self::term(
                Monomial::from([(Atom::Sum(rest), power.clone())]),
                One::one(),
            ),
            fuel,
        )
    }

    fn pow_of_term(&self, power: &BigRational, fuel: &mut Fuel) -> Result<Self, Refused> {
        let Some((monomial, coefficient)) = self.terms.iter().next() else {
            return Err(Refused::Undefined);
        };
        let mut result = rational_power(coefficient, power, fuel)?;
        let mut kept = Monomial::new();
        for (atom, exponent) in monomial {
            let positive = matches!(atom, Atom::Prime(_) | Atom::Pi | Atom::Euler);
            if positive
                || power.is_integer()
                || (exponent.is_one() && monomial.len() == 1 && coefficient.is_one())
            {
                kept.insert(atom.clone(), exponent * power);
            } else {
                // The root of x^2 is not x: keep the term in brackets.
                let inner = Self::term(
                    Monomial::from([(atom.clone(), exponent.clone())]),
                    One::one(),
                );
                kept.insert(Atom::Sum(inner), power.clone());
            }
        }
        result = result.mul(&settled(kept, BigRational::one(), fuel)?, fuel)?;
        Ok(result)
    }

    /// One divided by a sum, with roots of numbers removed from the denominator.
    fn inverse(&self, fuel: &mut Fuel) -> Result<Self, Refused> {
        let mut top = Self::int(1);
        let mut bottom = self.clone();
        for _ in 0..6 {
            if bottom.terms.len() <= 1 {
                break;
            }
            let Some(conjugate) = bottom.conjugate() else {
                break;
            };
            top = top.mul(&conjugate, fuel)?;
            bottom = bottom.mul(&conjugate, fuel)?;
        }
        if bottom.is_zero() {
            return Err(Refused::Undefined);
        }
        let minus_one = -BigRational::one();
        let inverse = if bottom.terms.len() == 1 {
            bottom.pow_of_term(&minus_one, fuel)?
        } else {
            let (content, rest) = bottom.split_content();
            Self::term(
                Monomial::from([(Atom::Sum(rest), minus_one)]),
                content.recip(),
            )
        };
        top.mul(&inverse, fuel)
    }

    /// The sum with the sign of one square root (or of `i`) changed, if it is made of square roots.
    fn conjugate(&self) -> Option<Self> {
        let half = BigRational::new(BigInt::one(), BigInt::from(2));
        let pure = self
            .terms
            .keys()
            .flatten()
            .all(|(atom, exponent)| match atom {
                Atom::Prime(_) => *exponent == half,
                Atom::Imaginary => true,
                _ => false,
            });
        let chosen = self
            .terms
            .keys()
            .flatten()
            .map(|(atom, _)| atom)
            .next()
            .filter(|_| pure)?;
        let terms = self.terms.iter().map(|(m, c)| {
            (
                m.clone(),
                if m.contains_key(chosen) {
                    -c.clone()
                } else {
                    c.clone()
                },
            )
        });
        Some(Self {
            terms: terms.collect(),
        })
    }

    /// The sum as a positive number times a sum with coprime whole coefficients.
    fn split_content(&self) -> (BigRational, Self) {
        let mut top = BigInt::zero();
        let mut bottom = BigInt::one();
        for coefficient in self.terms.values() {
            top = gcd(top, coefficient.numer().abs());
            let shared = gcd(bottom.clone(), coefficient.denom().clone());
            bottom = bottom / shared * coefficient.denom();
        }
        let content = BigRational::new(top.max(BigInt::one()), bottom);
        let terms = self
            .terms
            .iter()
            .map(|(m, c)| (m.clone(), c / &content))
            .collect();
        (content, Self { terms })
    }
}

/// Reduces exponents: `2^(3/2)` is `2 * 2^(1/2)`, `i^2` is -1, a bracket to a whole power opens.
pub(super) fn settled(
    monomial: Monomial,
    coefficient: BigRational,
    fuel: &mut Fuel,
) -> Result<Form, Refused> {
    let mut coefficient = coefficient;
    let mut kept = Monomial::new();
    let mut opened = Vec::new();
    for (atom, exponent) in monomial {
        if exponent.is_zero() {
            continue;
        }
        match &atom {
            Atom::Prime(p) => {
                let floor = exponent.floor();
                coefficient *= integer_power(&BigRational::from_integer(p.clone()), &floor)?;
                let rest = exponent - floor;
                if !rest.is_zero() {
                    kept.insert(atom, rest);
                }
            }
            Atom::Imaginary if exponent.is_integer() => {
                let turns = exponent.to_integer() % BigInt::from(4);
                let turns = (turns + BigInt::from(4)) % BigInt::from(4);
                if turns >= BigInt::from(2) {
                    coefficient = -coefficient;
                }
                if (turns % BigInt::from(2)).is_one() {
                    kept.insert(atom, BigRational::one());
                }
            }
            Atom::Sum(form) => match whole(&exponent) {
                Some(times) if (1..=i64::from(MAX_EXPANDED_POWER)).contains(&times) => {
                    opened.push((form.clone(), times));
                }
                _ => {
                    kept.insert(atom, exponent);
                }
            },
            _ => {
                kept.insert(atom, exponent);
            }
        }
    }
    let mut result = Form::term(kept, coefficient);
    for (form, times) in opened {
        for _ in 0..times {
            fuel.burn(1)?;
            result = result.mul(&form, fuel)?;
        }
    }
    Ok(result)
}
