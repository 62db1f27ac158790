//! Numeric values of expressions at sample points, for identities that have no exact form.
//!
//! Every symbol gets a fixed pseudo-random value per sample, derived from its name. Expressions
//! that agree at all samples are taken as equal; disagreement at one refutes it.

use num_rational::BigRational;
use num_traits::ToPrimitive;

use super::exact::form_of;
use super::node::Node;
use super::print::print_form;

/// Number of sample points: three with positive symbols, then mixed signs, then all negative.
pub(super) const SAMPLES: u32 = 8;
/// Relative tolerance: far above rounding errors of f64 in expressions of answer size, and far
/// below the difference of two answers that a problem could have.
pub(super) const TOLERANCE: f64 = 1e-10;

/// A complex number.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Complex {
    pub(super) re: f64,
    pub(super) im: f64,
}

impl Complex {
    pub(super) const fn real(re: f64) -> Self {
        Self { re, im: 0.0 }
    }

    fn add(self, other: Self) -> Self {
        Self {
            re: self.re + other.re,
            im: self.im + other.im,
        }
    }

    pub(super) fn sub(self, other: Self) -> Self {
        Self {
            re: self.re - other.re,
            im: self.im - other.im,
        }
    }

    fn mul(self, other: Self) -> Self {
        Self {
            re: self.re * other.re - self.im * other.im,
            im: self.re * other.im + self.im * other.re,
        }
    }

    pub(super) fn div(self, other: Self) -> Option<Self> {
        let size = other.re * other.re + other.im * other.im;
        let top = self.mul(Self {
            re: other.re,
            im: -other.im,
        });
        (size > 0.0).then(|| Self {
            re: top.re / size,
            im: top.im / size,
        })
    }

    pub(super) fn size(self) -> f64 {
        self.re.hypot(self.im)
    }

    fn ln(self) -> Option<Self> {
        (self.size() > 0.0).then(|| Self {
            re: self.size().ln(),
            im: self.im.atan2(self.re),
        })
    }

    fn exp(self) -> Self {
        let size = self.re.exp();
        Self {
            re: size * self.im.cos(),
            im: size * self.im.sin(),
        }
    }

    fn pow(self, power: Self) -> Option<Self> {
        if self.size() == 0.0 {
            return (power.re > 0.0).then_some(Self::real(0.0));
        }
        if power.im == 0.0 {
            let whole = power.re.round();
            if (power.re - whole).abs() < f64::EPSILON && whole.abs() <= 64.0 {
                let mut product = Self::real(1.0);
                for _ in 0..whole.abs() as u32 {
                    product = product.mul(self);
                }
                return if whole < 0.0 {
                    Self::real(1.0).div(product)
                } else {
                    Some(product)
                };
            }
            if self.im == 0.0 && self.re > 0.0 {
                return Some(Self::real(self.re.powf(power.re)));
            }
        }
        Some(self.ln()?.mul(power).exp())
    }

    pub(super) fn finite(self) -> Option<Self> {
        (self.re.is_finite() && self.im.is_finite() && self.size() < 1e150).then_some(self)
    }
}

/// Whether two values agree within [`TOLERANCE`].
pub(super) fn close(a: Complex, b: Complex) -> bool {
    let scale = a.size().max(b.size());
    a.sub(b).size() <= TOLERANCE * scale.max(1e-6)
}

/// The value of `node` at sample `sample`; `None` where it is undefined or not a number.
pub(super) fn value(node: &Node, sample: u32) -> Option<Complex> {
    let at = |n: &Node| value(n, sample);
    let result = match node {
        Node::Num { value, .. } => Complex::real(value.to_f64()?),
        Node::Sym(name) => match name.as_str() {
            "pi" => Complex::real(std::f64::consts::PI),
            "e" => Complex::real(std::f64::consts::E),
            "i" => Complex { re: 0.0, im: 1.0 },
            "infty" | "ldots" => return None,
            name => sampled(name, sample),
        },
        Node::Sub(..) => opaque(node, sample)?,
        Node::Add(terms) => {
            let mut sum = Complex::real(0.0);
            for term in terms {
                sum = sum.add(at(term)?);
            }
            sum
        }
        Node::Mul(factors) => {
            let mut product = Complex::real(1.0);
            for factor in factors {
                product = product.mul(at(factor)?);
            }
            product
        }
        Node::Pow(base, exponent) => match (odd_root(exponent), at(base)?) {
            (Some(degree), base) if base.im == 0.0 && base.re < 0.0 => real_root(base.re, degree),
            (_, base) => base.pow(at(exponent)?)?,
        },
        Node::Root(of, degree) => {
            let of = at(of)?;
            if of.im == 0.0 && of.re < 0.0 && degree % 2 == 1 {
                real_root(of.re, *degree)
            } else {
                of.pow(Complex::real(1.0 / f64::from(*degree)))?
            }
        }
        Node::Percent(of) | Node::Degree(of) => at(of)?,
        Node::Ratio(parts) if parts.len() == 2 => at(&parts[0])?.div(at(&parts[1])?)?,
        Node::Call(name, arguments) => match called(name, arguments, sample) {
            Known::Value(value) => value?,
            Known::No => opaque(node, sample)?,
        },
        _ => return None,
    };
    result.finite()
}

/// `1/n` with odd `n`, as an exponent.
fn odd_root(exponent: &Node) -> Option<u32> {
    let value: BigRational = form_of(exponent).ok()?.as_rational()?;
    let degree = value.denom().to_u32()?;
    (value.numer() == &1.into() && degree % 2 == 1 && degree > 1).then_some(degree)
}

fn real_root(of: f64, degree: u32) -> Complex {
    Complex::real(-(-of).powf(1.0 / f64::from(degree)))
}

enum Known {
    Value(Option<Complex>),
    /// A function without a formula here: a symbol as far as numbers go.
    No,
}

fn called(name: &str, arguments: &[Node], sample: u32) -> Known {
    if !matches!(
        name,
        "sin"
            | "cos"
            | "tan"
            | "cot"
            | "sec"
            | "csc"
            | "arcsin"
            | "arccos"
            | "arctan"
            | "sinh"
            | "cosh"
            | "tanh"
            | "ln"
            | "log"
            | "exp"
            | "abs"
            | "floor"
            | "ceil"
            | "min"
            | "max"
            | "binom"
            | "factorial"
    ) {
        return Known::No;
    }
    let values: Option<Vec<Complex>> = arguments.iter().map(|a| value(a, sample)).collect();
    let Some(values) = values else {
        return Known::Value(None);
    };
    if matches!(name, "binom" | "factorial") {
        return Known::Value(counting(name, &values));
    }
    if let ("log", [base, x]) = (name, values.as_slice()) {
        return Known::Value(x.ln().zip(base.ln()).and_then(|(x, b)| x.div(b)));
    }
    if matches!(name, "min" | "max") {
        let reals = values.iter().map(|v| v.re);
        let chosen = if name == "min" {
            reals.reduce(f64::min)
        } else {
            reals.reduce(f64::max)
        };
        return Known::Value(chosen.map(Complex::real));
    }
    let [mut x] = values[..] else {
        return Known::Value(None);
    };
    if let [Node::Degree(_)] = arguments {
        x = x.mul(Complex::real(std::f64::consts::PI / 180.0));
    }
    Known::Value(of_one(name, x))
}

/// Factorials and binomials of real numbers, through the gamma function.
fn counting(name: &str, values: &[Complex]) -> Option<Complex> {
    if values.iter().any(|v| v.im != 0.0) {
        return None;
    }
    let result = match (name, values) {
        ("factorial", [n]) => gamma(n.re + 1.0)?,
        ("binom", [n, k]) => gamma(n.re + 1.0)? / (gamma(k.re + 1.0)? * gamma(n.re - k.re + 1.0)?),
        _ => return None,
    };
    Some(Complex::real(result))
}

/// The gamma function by Lanczos' approximation (g = 7, n = 9; relative error below 1e-14 on
/// the right half line), mirrored for numbers below one half.
fn gamma(x: f64) -> Option<f64> {
    const COEFFICIENTS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        // Whole numbers below one are poles.
        let sine = (std::f64::consts::PI * x).sin();
        return (sine.abs() > 1e-12)
            .then_some(())
            .and_then(|()| gamma(1.0 - x))
            .map(|mirrored| std::f64::consts::PI / (sine * mirrored));
    }
    let x = x - 1.0;
    let series: f64 = COEFFICIENTS
        .iter()
        .enumerate()
        .map(|(i, c)| c / (x + i as f64 + 1.0))
        .sum::<f64>()
        + 0.999_999_999_999_809_9;
    let t = x + 7.5;
    Some((2.0 * std::f64::consts::PI).sqrt() * t.powf(x + 0.5) * (-t).exp() * series)
}

fn of_one(name: &str, x: Complex) -> Option<Complex> {
    match name {
        "ln" | "log" => return x.ln(),
        "exp" => return Some(x.exp()),
        "abs" => return Some(Complex::real(x.size())),
        _ => {}
    }
    // Trigonometry of complex numbers is no contest answer.
    if x.im != 0.0 {
        return None;
    }
    let x = x.re;
    let result = match name {
        "sin" => x.sin(),
        "cos" => x.cos(),
        "tan" => x.tan(),
        "cot" => 1.0 / x.tan(),
        "sec" => 1.0 / x.cos(),
        "csc" => 1.0 / x.sin(),
        "arcsin" => x.asin(),
        "arccos" => x.acos(),
        "arctan" => x.atan(),
        "sinh" => x.sinh(),
        "cosh" => x.cosh(),
        "tanh" => x.tanh(),
        // A floor at a jump is decided by rounding errors; exact forms handle those.
        "floor" | "ceil" if (x - x.round()).abs() < 1e-9 => return None,
        "floor" => x.floor(),
        "ceil" => x.ceil(),
        _ => return None,
    };
    Some(Complex::real(result))
}

fn opaque(node: &Node, sample: u32) -> Option<Complex> {
    Some(sampled(&print_form(&form_of(node).ok()?), sample))
}

/// A value between 0.5 and 2.5 in size, with the signs that [`SAMPLES`] tells.
fn sampled(name: &str, sample: u32) -> Complex {
    // FNV-1a, then a multiplicative mix: fixed for ever, and good enough to tell names apart.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ u64::from(sample);
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^= hash >> 29;
    let size = 0.5 + 2.0 * ((hash >> 11) as f64 / (1u64 << 53) as f64);
    let negative = sample + 1 == SAMPLES || sample >= 3 && hash & 1 == 1;
    Complex::real(if negative { -size } else { size })
}
