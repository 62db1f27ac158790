//! Groups that are shown word by word.

use protocol::grade::Grade;
use protocol::{Problem, Trace};
use serde::{Deserialize, Serialize};

use crate::score::{GroupScore, PathScore, Summary};

/// A group with its question, its right answer and its verdicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Name of the row it belongs to.
    pub row: String,
    /// The statement of its problem.
    pub question: String,
    /// The right answer.
    pub gold: String,
    /// What was said.
    pub trace: Trace,
    /// What it was worth.
    pub verdicts: GroupScore,
}

impl Example {
    /// The group `trace` of `row`; `None` if the row has no such group or it is not of `problem`.
    pub fn new(row: &Summary, problem: &Problem, trace: Trace) -> Option<Self> {
        let scored = row
            .by_problem
            .iter()
            .find(|scored| scored.id == trace.problem)?;
        let verdicts = scored
            .groups
            .iter()
            .find(|group| group.group == trace.group)?
            .clone();
        let fits = problem.id == trace.problem && verdicts.paths.len() == trace.counted.len();
        fits.then(|| Self {
            row: row.name.clone(),
            question: problem.question.text.clone(),
            gold: scored.gold.clone(),
            trace,
            verdicts,
        })
    }

    /// The verdict on a path; `None` if its answer does not count.
    pub(super) fn verdict(&self, path: usize) -> Option<&PathScore> {
        let mut counted = self.trace.counted.iter();
        let place = counted.position(|&counted| counted as usize == path)?;
        self.verdicts.paths.get(place)
    }
}

/// The group of `row` that shows most of how it worked: problem id and number of the group.
///
/// The rule is fixed, so that no one picks the example that pleases: groups whose paths read
/// something come first, then those with both right and wrong paths, then the most even split;
/// the first such group in the order of the problems is taken. `None` for a row without groups.
pub fn example_group(row: &Summary) -> Option<(&str, u32)> {
    let groups = row.by_problem.iter().flat_map(|problem| {
        problem
            .groups
            .iter()
            .map(move |group| (problem.id.as_str(), group))
    });
    let tells = |group: &GroupScore| {
        let read = group.paths.iter().any(|path| path.injected > 0);
        let right = group
            .paths
            .iter()
            .filter(|path| path.grade == Grade::Right)
            .count();
        let wrong = group
            .paths
            .iter()
            .filter(|path| path.grade == Grade::Wrong)
            .count();
        (read, right.min(wrong))
    };
    let mut best: Option<(&str, &GroupScore)> = None;
    for (id, group) in groups {
        if best.is_none_or(|(_, other)| tells(group) > tells(other)) {
            best = Some((id, group));
        }
    }
    best.map(|(id, group)| (id, group.group))
}
