//! Powers and roots of numbers: factors, reduced roots, logarithms that come out even.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};

use super::form::{Atom, Form, Fuel, MAX_BITS, Monomial, Refused, settled};

/// Primes up to this are found when a root is reduced.
pub(super) const TRIAL_LIMIT: u32 = 4000;

/// Greatest common divisor of non-negative numbers.
pub(super) fn gcd(mut a: BigInt, mut b: BigInt) -> BigInt {
    while !b.is_zero() {
        (a, b) = (b.clone(), a % b);
    }
    a
}

/// The exponent as a small whole number.
pub(super) fn whole(value: &BigRational) -> Option<i64> {
    value
        .is_integer()
        .then(|| value.to_integer().to_i64())
        .flatten()
}

pub(super) fn integer_power(
    base: &BigRational,
    exponent: &BigRational,
) -> Result<BigRational, Refused> {
    let times = whole(exponent).ok_or(Refused::TooLarge)?;
    if times == 0 || base.is_one() {
        return Ok(BigRational::one());
    }
    let bits = base.numer().bits().max(base.denom().bits());
    if bits.saturating_mul(times.unsigned_abs()) > MAX_BITS + bits {
        return Err(Refused::TooLarge);
    }
    let times = i32::try_from(times).map_err(|_| Refused::TooLarge)?;
    Ok(base.pow(times))
}

/// `base^power` for a non-zero base: exact integer powers, reduced roots.
pub(super) fn rational_power(
    base: &BigRational,
    power: &BigRational,
    fuel: &mut Fuel,
) -> Result<Form, Refused> {
    if power.is_integer() {
        if (-base.clone()).is_one() {
            let even = (power.to_integer() % BigInt::from(2)).is_zero();
            return Ok(Form::int(if even { 1 } else { -1 }));
        }
        return Ok(Form::rational(integer_power(base, power)?));
    }
    if base.is_negative() {
        let of_size = rational_power(&-base.clone(), power, fuel)?;
        if *power.denom() == BigInt::from(2) {
            let turn = Monomial::from([(
                Atom::Imaginary,
                BigRational::from_integer(power.numer().clone()),
            )]);
            return of_size.mul(&settled(turn, BigRational::one(), fuel)?, fuel);
        }
        // `(-8)^{1/3}` means the real root when there is one, as school and contests do.
        let odd = !(power.denom() % BigInt::from(2)).is_zero();
        if !odd {
            return Err(Refused::NotANumber);
        }
        let flips = !(power.numer() % BigInt::from(2)).is_zero();
        return Ok(if flips { of_size.negated() } else { of_size });
    }
    let mut monomial = Monomial::new();
    for (number, sign) in [(base.numer(), 1), (base.denom(), -1)] {
        for (prime, times) in factors(number, fuel)? {
            let exponent = power * BigRational::from_integer(BigInt::from(times * sign));
            *monomial
                .entry(Atom::Prime(prime))
                .or_insert_with(BigRational::zero) += exponent;
        }
    }
    settled(monomial, BigRational::one(), fuel)
}

/// Prime factors by trial division; what is left may be composite, but no power.
fn factors(number: &BigInt, fuel: &mut Fuel) -> Result<Vec<(BigInt, i64)>, Refused> {
    let mut rest = number.clone();
    let mut found = Vec::new();
    let mut candidate = 2u32;
    while candidate <= TRIAL_LIMIT && BigInt::from(candidate) * candidate <= rest {
        let mut times = 0;
        while (&rest % candidate).is_zero() {
            rest /= candidate;
            times += 1;
        }
        if times > 0 {
            fuel.burn(1)?;
            found.push((BigInt::from(candidate), times));
        }
        candidate += if candidate == 2 { 1 } else { 2 };
    }
    fuel.burn(1 + (candidate / 40) as usize * rest.bits() as usize / 64)?;
    if !rest.is_one() {
        // A perfect square or cube of a large number is the case that answers do contain.
        let root =
            |degree: u32| Some(rest.nth_root(degree)).filter(|r| Pow::pow(r, degree) == rest);
        let (root, times) = [6, 5, 4, 3, 2]
            .into_iter()
            .find_map(|degree| Some((root(degree)?, i64::from(degree))))
            .unwrap_or((rest.clone(), 1));
        found.push((root, times));
    }
    Ok(found)
}

/// The whole number `k` with `base^k = value`, or a fraction with `base^(p/q) = value`.
pub(super) fn exact_logarithm(
    base: &BigRational,
    value: &BigRational,
    fuel: &mut Fuel,
) -> Result<Option<BigRational>, Refused> {
    if !base.is_positive() || !value.is_positive() || base.is_one() {
        return Err(Refused::Undefined);
    }
    if value.is_one() {
        return Ok(Some(BigRational::zero()));
    }
    let signed =
        |number: &BigRational, fuel: &mut Fuel| -> Result<BTreeMap<BigInt, i64>, Refused> {
            let mut map = BTreeMap::new();
            for (part, sign) in [(number.numer(), 1), (number.denom(), -1)] {
                for (prime, times) in factors(part, fuel)? {
                    *map.entry(prime).or_insert(0) += times * sign;
                }
            }
            map.retain(|_, times| *times != 0);
            Ok(map)
        };
    let (of_base, of_value) = (signed(base, fuel)?, signed(value, fuel)?);
    if of_base.len() != of_value.len() {
        return Ok(None);
    }
    let mut ratio = None;
    for ((p, times), (q, wanted)) in of_base.iter().zip(&of_value) {
        let this = BigRational::new(BigInt::from(*wanted), BigInt::from(*times));
        if p != q || ratio.as_ref().is_some_and(|r| *r != this) {
            return Ok(None);
        }
        ratio = Some(this);
    }
    Ok(ratio)
}
