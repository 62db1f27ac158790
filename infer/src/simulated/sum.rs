//! The problem family `sum`: easy for a small language model, and still in need of steps.

use std::fmt;

use protocol::{SUMMARY_CLOSE, SUMMARY_OPEN, THINK_CLOSE};

use super::reasoner::{Draws, Habits};

/// A problem of the family: the sum of a few numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// What is added, in order; at least two.
    pub terms: Vec<u32>,
}

impl Sum {
    /// Finds and reads a problem anywhere in `text`; the last one, because a prompt may show a
    /// worked example first.
    pub fn find_in(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once("What is ")?;
        let (terms, _) = rest.split_once('?')?;
        let terms: Option<Vec<u32>> = terms.split(" + ").map(|term| term.parse().ok()).collect();
        terms
            .filter(|terms| terms.len() >= 2)
            .map(|terms| Self { terms })
    }

    /// The answer.
    pub fn total(&self) -> u64 {
        self.terms.iter().map(|&term| u64::from(term)).sum()
    }

    /// The next piece of text behind `written`; `true` if the text ends with it.
    pub(super) fn next(
        &self,
        written: &str,
        habits: Habits,
        draws: &mut Draws<'_>,
    ) -> (String, bool) {
        let open = written.rfind(SUMMARY_OPEN) > written.rfind(SUMMARY_CLOSE);
        let (steps, sum) = self.steps(written);
        if open {
            return (
                format!(" I have added {steps} terms and get {sum}. {SUMMARY_CLOSE}"),
                false,
            );
        }
        match written.rfind(THINK_CLOSE) {
            _ if written.ends_with("\\boxed{") => return (format!("{sum}}}."), true),
            Some(_) => return (format!("\n\nThe answer is \\boxed{{{sum}}}."), true),
            None => {}
        }
        let break_before = if written.is_empty() || written.ends_with('\n') {
            ""
        } else {
            "\n\n"
        };
        if steps == self.terms.len() {
            // Without an open thought there is nothing to close: the answer follows at once.
            return (format!("{break_before}{THINK_CLOSE}"), false);
        }
        let term = self.terms[steps];
        let slip = u64::from(draws.chance(habits.slip));
        (
            format!(
                "{break_before}{sum} + {term} = {}\n\n",
                sum + u64::from(term) + slip
            ),
            false,
        )
    }

    /// Terms added so far and their sum, from its own lines `42 + 8 = 50`.
    fn steps(&self, written: &str) -> (usize, u64) {
        let mut done = (1, self.terms.first().map_or(0, |&term| u64::from(term)));
        for line in written.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let ["=", value] = words[words.len().saturating_sub(2)..] else {
                continue;
            };
            let [sum, "+", term, ..] = words[..] else {
                continue;
            };
            let next = self.terms.get(done.0).map(u32::to_string);
            if sum == done.1.to_string() && next.as_deref() == Some(term) {
                done = (done.0 + 1, value.parse().unwrap_or(done.1));
            }
        }
        done
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms: Vec<String> = self.terms.iter().map(u32::to_string).collect();
        write!(f, "What is {}?", terms.join(" + "))
    }
}
