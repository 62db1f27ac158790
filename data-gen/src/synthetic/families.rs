//! Families of contest-like problems: seeded, each with one answer that is computed, from 0 to 999.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use protocol::grade::AnswerKind;
use protocol::{Gold, Problem, Question, Stream};

use super::{FamilyError, SearchFamily, SumFamily};
use crate::identity;

/// A family of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// The remainder of a power.
    Remainder,
    /// The number of divisors of a number.
    Divisors,
    /// The number of lattice paths through a point.
    Lattice,
    /// Two linear equations.
    System,
    /// A sequence modulo a number.
    Recurrence,
    /// Multiples of one number that are none of another.
    Multiples,
    /// One `x` of a range that a chain of operations maps to a target; the simulated reasoner can
    /// solve it.
    Search,
    /// A sum; the simulated reasoner can solve it.
    Sum,
}

/// So many problems of a family, as `divisors=200` or, with four options each,
/// `divisors-choice=200`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which family.
    pub family: Family,
    /// Whether every problem has four options.
    pub choice: bool,
    /// How many problems.
    pub count: usize,
}

/// An order that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no order for problems: write FAMILY=COUNT, such as divisors=200 or divisors-choice=200; \
     families are {}",
    Family::ALL.map(Family::name).join(", ")
)]
pub struct OrderError {
    text: String,
}

impl FromStr for Order {
    type Err = OrderError;

    fn from_str(text: &str) -> Result<Self, OrderError> {
        let read = || {
            let (name, count) = text.split_once('=')?;
            let plain = name.strip_suffix("-choice");
            let wanted = plain.unwrap_or(name);
            let family = Family::ALL
                .into_iter()
                .find(|family| family.name() == wanted)?;
            let count = count.parse().ok().filter(|count| *count > 0)?;
            Some(Self {
                family,
                choice: plain.is_some(),
                count,
            })
        };
        read().ok_or_else(|| OrderError { text: text.into() })
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let choice = if self.choice { "-choice" } else { "" };
        write!(f, "{}{choice}={}", self.family.name(), self.count)
    }
}

/// Options of a multiple-choice problem.
const OPTIONS: usize = 4;
/// Draws for one new statement before a family counts as used up.
const TRIES: u64 = 2000;

impl Family {
    /// Every family.
    pub const ALL: [Self; 8] = [
        Self::Remainder,
        Self::Divisors,
        Self::Lattice,
        Self::System,
        Self::Recurrence,
        Self::Multiples,
        Self::Search,
        Self::Sum,
    ];

    /// Its name in orders and ids.
    pub fn name(self) -> &'static str {
        match self {
            Self::Remainder => "remainder",
            Self::Divisors => "divisors",
            Self::Lattice => "lattice",
            Self::System => "system",
            Self::Recurrence => "recurrence",
            Self::Multiples => "multiples",
            Self::Search => "search",
            Self::Sum => "sum",
        }
    }

    /// A statement and its answer, or none if this draw gives no good one.
    fn draw(self, lot: &mut Lot) -> Option<(String, u64)> {
        let (text, answer) = match self {
            Self::Remainder => remainder(lot),
            Self::Divisors => divisors(lot),
            Self::Lattice => lattice(lot),
            Self::System => system(lot),
            Self::Recurrence => recurrence(lot),
            Self::Multiples => multiples(lot),
            Self::Search | Self::Sum => return None,
        };
        (answer <= 999).then_some((text, answer))
    }
}

impl Order {
    /// The problems: different statements, a function of the seed alone.
    ///
    /// # Errors
    /// If the family has fewer problems.
    pub fn problems(&self, seed: u64) -> Result<Vec<Problem>, FamilyError> {
        let stream = Stream::of_run(seed)
            .named("family")
            .named(self.family.name());
        let splits = [("", self.count)];
        let mut problems = match self.family {
            Family::Search => SearchFamily::usual().splits(&splits, &stream)?.remove(0),
            Family::Sum => SumFamily::usual().splits(&splits, &stream)?.remove(0),
            _ => self.drawn(&stream)?,
        };
        for problem in &mut problems {
            if self.choice {
                with_options(
                    problem,
                    &stream.named("options").named(&problem.question.text),
                );
            }
            let name = if self.choice { "-choice" } else { "" };
            problem.id = identity::of(&format!("{}{name}", self.family.name()), &problem.question);
            problem.source = Some(format!("synthetic family {}", self.family.name()));
        }
        Ok(problems)
    }

    fn drawn(&self, stream: &Stream) -> Result<Vec<Problem>, FamilyError> {
        let mut seen = BTreeSet::new();
        let mut problems = Vec::with_capacity(self.count);
        let mut draws = 0;
        let mut idle = 0;
        while problems.len() < self.count {
            if idle == TRIES {
                return Err(FamilyError::TooFew {
                    found: problems.len(),
                    wanted: self.count,
                });
            }
            let mut lot = Lot {
                stream: stream.indexed(draws),
                next: 0,
            };
            draws += 1;
            idle += 1;
            let Some((text, answer)) = self.family.draw(&mut lot) else {
                continue;
            };
            if !seen.insert(text.clone()) {
                continue;
            }
            idle = 0;
            problems.push(Problem {
                id: String::new(),
                question: Question {
                    text,
                    kind: AnswerKind::Integer,
                    choices: Vec::new(),
                },
                gold: Gold::new(answer.to_string()),
                source: None,
                split: None,
            });
        }
        Ok(problems)
    }
}

/// Numbers drawn one after the other.
struct Lot {
    stream: Stream,
    next: u64,
}

impl Lot {
    /// A number from `low` to `high`, both included.
    fn from(&mut self, low: u64, high: u64) -> u64 {
        self.next += 1;
        low + self.stream.below(self.next, (high - low + 1) as usize) as u64
    }
}

/// Gives a problem four options: the answer, and what slips and guesses come to.
fn with_options(problem: &mut Problem, stream: &Stream) {
    let Ok(right) = problem.gold.as_str().parse::<i64>() else {
        return;
    };
    let mut lot = Lot {
        stream: stream.clone(),
        next: 0,
    };
    let mut options = vec![right];
    while options.len() < OPTIONS {
        let step = lot.from(1, 12) as i64;
        let wrong = match lot.from(0, 3) {
            0 => right + step,
            1 => right - step,
            2 => right * 2 + step % 3,
            _ => right / 2 + step % 3,
        };
        if wrong >= 0 && !options.contains(&wrong) {
            options.push(wrong);
        }
    }
    stream.named("order").shuffle(&mut options);
    let place = options
        .iter()
        .position(|option| *option == right)
        .unwrap_or(0);
    let question = &mut problem.question;
    question.kind = AnswerKind::Choice;
    question.choices = options.iter().map(i64::to_string).collect();
    problem.gold = Gold::new(char::from(b'A' + place as u8).to_string());
}

fn remainder(lot: &mut Lot) -> (String, u64) {
    let (base, exponent) = (lot.from(2, 99), lot.from(10, 2500));
    let (more, modulus) = (lot.from(1, 999), lot.from(7, 1000));
    let power = (0..exponent).fold(1, |power, _| power * base % modulus);
    let text = format!(
        "Find the remainder when ${base}^{{{exponent}}} + {more}$ is divided by ${modulus}$."
    );
    (text, (power + more) % modulus)
}

fn divisors(lot: &mut Lot) -> (String, u64) {
    const PRIMES: [u64; 8] = [2, 3, 5, 7, 11, 13, 17, 19];
    let (mut number, mut count) = (1u64, 1);
    let mut first = 0;
    for _ in 0..lot.from(2, 4) {
        let at = lot.from(first, (first + 2).min(7)) as usize;
        let most = if PRIMES[at] < 6 { 7 } else { 3 };
        let power = lot.from(1, most);
        number = number.saturating_mul(PRIMES[at].pow(power as u32));
        count *= power + 1;
        first = at as u64 + 1;
        if first > 7 {
            break;
        }
    }
    match number < 1_000_000_000 {
        true => (
            format!("How many positive divisors does ${number}$ have?"),
            count,
        ),
        // Too long to factor by hand.
        false => (String::new(), u64::MAX),
    }
}

/// `n` over `k`; small numbers only.
fn choose(n: u64, k: u64) -> u64 {
    (1..=k).fold(1, |value, step| value * (n - k + step) / step)
}

fn lattice(lot: &mut Lot) -> (String, u64) {
    let (x, y) = (lot.from(1, 5), lot.from(1, 5));
    let (right, up) = (lot.from(1, 6), lot.from(1, 6));
    let (a, b) = (x + right, y + up);
    let text = format!(
        "A path on the lattice goes from $(0,0)$ to $({a},{b})$, one unit to the right or one unit up at \
         each step. How many of these paths pass through the point $({x},{y})$?"
    );
    (text, choose(x + y, x) * choose(right + up, up))
}

fn system(lot: &mut Lot) -> (String, u64) {
    let (x, y) = (lot.from(1, 400), lot.from(1, 400));
    let [a, b, c, d] = [0; 4].map(|_| lot.from(2, 19));
    if a * d == b * c {
        // The equations would not determine the numbers.
        return (String::new(), u64::MAX);
    }
    let (first, second) = (a * x + b * y, c * x + d * y);
    let text = format!(
        "The numbers $x$ and $y$ satisfy ${a}x + {b}y = {first}$ and ${c}x + {d}y = {second}$. Find $x + y$."
    );
    (text, x + y)
}

fn recurrence(lot: &mut Lot) -> (String, u64) {
    let (first, second) = (lot.from(1, 20), lot.from(1, 20));
    let (p, q) = (lot.from(1, 9), lot.from(1, 9));
    let (modulus, index) = (lot.from(11, 1000), lot.from(8, 40));
    let (mut before, mut value) = (first % modulus, second % modulus);
    for _ in 2..index {
        (before, value) = (value, (p * value + q * before) % modulus);
    }
    let times = |factor: u64| {
        if factor == 1 {
            String::new()
        } else {
            factor.to_string()
        }
    };
    let text = format!(
        "A sequence begins with $a_1 = {first}$ and $a_2 = {second}$, and $a_n = {}a_{{n-1}} + {}a_{{n-2}}$ \
         for $n \\ge 3$. Find the remainder when $a_{{{index}}}$ is divided by ${modulus}$.",
        times(p),
        times(q)
    );
    (text, value)
}

fn multiples(lot: &mut Lot) -> (String, u64) {
    let most = lot.from(50, 5000);
    let (of, not) = (lot.from(2, 15), lot.from(2, 15));
    let count = (1..=most / of).filter(|k| (k * of) % not != 0).count();
    if of % not == 0 {
        return (String::new(), u64::MAX);
    }
    let text = format!(
        "How many integers from $1$ to ${most}$ are multiples of ${of}$ but not of ${not}$?"
    );
    (text, count as u64)
}
