//! Conditions on the result: `--require "pass@1>=0.3"`.

use anyhow::Result;
use infer::score::Summary;

use crate::fault::Fault;

/// Shares that differ by less are the same: a mean of 19 right ones of 50 is not 0.38 to the last bit.
const ROUNDING: f64 = 1e-9;

/// What a row's score must be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Requirement {
    text: String,
    /// Name of the row; none: every row of the recipe.
    row: Option<String>,
    metric: Metric,
    relation: Relation,
    value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metric {
    PassAtK(usize),
    Vote,
    ShortestMajority,
    NoAnswer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    AtLeast,
    AtMost,
    Above,
    Below,
}

impl Requirement {
    /// Reads `[ROW:]METRIC>=NUMBER`; the metric is `pass@K`, `cons`, `shortest` or `no-answer`, the
    /// relation `>=`, `>`, `<=` or `<`, the number a share from 0 to 1.
    ///
    /// # Errors
    /// If it is nothing of this kind.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Fault::new(
                format!("`{text}` is no requirement: {what}"),
                "write for instance --require \"pass@1>=0.3\" or --require \"leap:cons>0.5\"; \
                 metrics are pass@K, cons, shortest and no-answer, as shares from 0 to 1",
            )
        };
        let relations = [
            (">=", Relation::AtLeast),
            ("<=", Relation::AtMost),
            (">", Relation::Above),
            ("<", Relation::Below),
        ];
        let found = relations.iter().find_map(|(sign, relation)| {
            let (left, right) = text.split_once(sign)?;
            Some((left.trim(), *relation, right.trim()))
        });
        let (left, relation, right) = found.ok_or_else(|| wrong("it has no relation"))?;
        let (row, metric) = match left.split_once(':') {
            Some((row, metric)) => (Some(row.trim().to_owned()), metric.trim()),
            None => (None, left),
        };
        let metric = match metric {
            "cons" => Metric::Vote,
            "shortest" => Metric::ShortestMajority,
            "no-answer" => Metric::NoAnswer,
            other => {
                let k = other.strip_prefix("pass@").and_then(|k| k.parse().ok());
                match k {
                    Some(k) if k > 0 => Metric::PassAtK(k),
                    _ => return Err(wrong(&format!("there is no metric `{other}`")).into()),
                }
            }
        };
        let value: f64 = right.parse().map_err(|_| wrong("it has no number"))?;
        if !(0.0..=1.0).contains(&value) {
            return Err(wrong("shares are from 0 to 1").into());
        }
        Ok(Self {
            text: text.to_owned(),
            row,
            metric,
            relation,
            value,
        })
    }

    /// The name of the row it is about.
    pub(crate) fn row(&self) -> Option<&str> {
        self.row.as_deref()
    }

    /// What misses it, one line each; `rows` are names with their scores.
    ///
    /// # Errors
    /// If the score was not computed for this row.
    pub(crate) fn missed(&self, rows: &[(String, Summary)]) -> Result<Vec<String>> {
        let mut missed = Vec::new();
        let wanted = |name: &str| self.row.as_ref().is_none_or(|row| row == name);
        for (name, summary) in rows.iter().filter(|(name, _)| wanted(name)) {
            let found = self.metric.of(summary).ok_or_else(|| {
                let known = summary
                    .scores
                    .pass_at_k
                    .iter()
                    .map(|pass| pass.k.to_string());
                let known: Vec<String> = known.collect();
                Fault::new(
                    format!(
                        "`{}` cannot be checked: row `{name}` has no such score",
                        self.text
                    ),
                    format!("pass@k is computed for k = {}", known.join(", ")),
                )
            })?;
            if !self.relation.holds(found, self.value) {
                missed.push(format!(
                    "row `{name}` misses `{}`: it has {found:.4}",
                    self.text
                ));
            }
        }
        Ok(missed)
    }
}

impl Relation {
    fn holds(self, found: f64, value: f64) -> bool {
        match self {
            Self::AtLeast => found >= value - ROUNDING,
            Self::AtMost => found <= value + ROUNDING,
            Self::Above => found > value + ROUNDING,
            Self::Below => found < value - ROUNDING,
        }
    }
}

impl Metric {
    fn of(self, row: &Summary) -> Option<f64> {
        let scores = &row.scores;
        Some(match self {
            Self::PassAtK(1) => scores.pass_at_1.over_problems.estimate,
            Self::PassAtK(k) => scores.pass_at_k.iter().find(|pass| pass.k == k)?.value,
            Self::Vote => scores.cons_at_n.over_problems.estimate,
            Self::ShortestMajority => scores.shortest_majority.over_problems.estimate,
            Self::NoAnswer => scores.no_answer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_is_off_by_rounding_is_the_share() {
        let value = 0.38_f64;
        for found in [value.next_down(), value, value.next_up()] {
            assert!(Relation::AtLeast.holds(found, value));
            assert!(Relation::AtMost.holds(found, value));
            assert!(!Relation::Above.holds(found, value));
            assert!(!Relation::Below.holds(found, value));
        }
        assert!(Relation::Above.holds(0.3801, value) && !Relation::AtLeast.holds(0.3799, value));
        assert!(Relation::Below.holds(0.3799, value) && !Relation::AtMost.holds(0.3801, value));
    }
}
