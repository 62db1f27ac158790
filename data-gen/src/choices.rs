//! The order of options: shuffled from a seed, and whether the right ones are spread at all.
//!
//! Where every right answer is the same letter, a model that likes the letter looks clever: the
//! GPQA file of the authors' code has the right answer at A, always.

use protocol::grade::AnswerKind;
use protocol::{Gold, Problem, Stream};

/// Right answers that stand at one letter too often for chance.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "{count} of {of} right options stand at {letter}: chance does not do that, so a model that \
     likes this letter would be scored for it"
)]
pub struct NotSpread {
    /// The most frequent letter.
    pub letter: char,
    /// How often it is right.
    pub count: usize,
    /// Multiple-choice problems in all.
    pub of: usize,
}

/// Puts the options of every multiple-choice problem in an order of its own.
///
/// The order is drawn from `seed` and the problem's id, so that it does not depend on what else is
/// in the file, and differs from problem to problem.
pub fn shuffle(problems: &mut [Problem], seed: u64) {
    let run = Stream::of_run(seed).named("options");
    for problem in problems {
        let question = &mut problem.question;
        if question.kind != AnswerKind::Choice {
            continue;
        }
        let Some(right) = place(problem.gold.as_str()) else {
            continue;
        };
        let mut order: Vec<usize> = (0..question.choices.len()).collect();
        run.named(&problem.id).shuffle(&mut order);
        let shuffled = order.iter().map(|old| question.choices[*old].clone());
        question.choices = shuffled.collect();
        let new = order.iter().position(|old| *old == right).unwrap_or(right);
        problem.gold = Gold::new(char::from(b'A' + new as u8).to_string());
    }
}

/// Refuses multiple-choice problems whose right options are not spread over the letters.
///
/// Pearson's chi-squared against even letters; refused is what chance does less than once in a
/// million sets. Fewer than about a dozen problems can never be refused.
///
/// # Errors
/// With the most frequent letter.
pub fn check_spread(problems: &[Problem]) -> Result<(), NotSpread> {
    let (mut found, mut expected) = ([0usize; 26], [0f64; 26]);
    let mut of = 0;
    for problem in problems {
        let choices = problem.question.choices.len().min(26);
        if problem.question.kind != AnswerKind::Choice || choices == 0 {
            continue;
        }
        let Some(right) = place(problem.gold.as_str()) else {
            continue;
        };
        of += 1;
        found[right] += 1;
        for letter in &mut expected[..choices] {
            *letter += 1.0 / choices as f64;
        }
    }
    let letters: Vec<usize> = (0..26).filter(|l| expected[*l] > 0.0).collect();
    let terms = letters.iter().map(|&l| {
        let off = found[l] as f64 - expected[l];
        off * off / expected[l]
    });
    let Some(&most) = letters.iter().max_by_key(|l| found[**l]) else {
        return Ok(());
    };
    match terms.sum::<f64>() > unlikely(letters.len().saturating_sub(1)) {
        false => Ok(()),
        true => Err(NotSpread {
            letter: char::from(b'A' + most as u8),
            count: found[most],
            of,
        }),
    }
}

/// What chi-squared exceeds once in a million times (Wilson and Hilferty's approximation).
fn unlikely(freedom: usize) -> f64 {
    const Z: f64 = 4.753;
    let k = freedom.max(1) as f64;
    let part = 2.0 / (9.0 * k);
    k * (1.0 - part + Z * part.sqrt()).powi(3)
}

fn place(letter: &str) -> Option<usize> {
    match letter.as_bytes() {
        [letter @ b'A'..=b'Z'] => Some(usize::from(letter - b'A')),
        _ => None,
    }
}
