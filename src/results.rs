//! What a finished (or half finished) folder of `leap run` or `leap eval` shows: its rows, what
//! they are compared with, and the groups behind them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use infer::report::{self, Example, Fact, Report};
use infer::score::{Comparison, Summary, compare};
use protocol::stats::Interval;
use protocol::trap::Outcome;
use protocol::{Problem, Trace};
use toml::Table;

use crate::fault::Fault;
use crate::ledger::{self, Ledger};
use crate::road::read_records;

/// The report in its three written forms.
pub(crate) const FILES: [&str; 3] = ["report.html", "report.md", "report.json"];

/// A folder's rows.
pub(crate) struct Results {
    folder: PathBuf,
    finished: bool,
    title: String,
    facts: Vec<Fact>,
    problems: Vec<Problem>,
    /// Folder names of the rows with their scores, in the order of the table.
    rows: Vec<(String, Summary)>,
}

impl Results {
    /// Reads the folder of a run or an evaluation.
    ///
    /// # Errors
    /// If it is none, or holds no scores yet.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let name = folder.display();
        let Some(ledger) = Ledger::read(folder)? else {
            return Err(Fault::new(
                format!("`{name}` holds no run"),
                "give a folder that `leap eval` or `leap run` wrote; `leap runs` lists them",
            )
            .into());
        };
        let recipe: Table = fs::read_to_string(folder.join("recipe.toml"))
            .with_context(|| format!("`{name}` has no recipe.toml"))?
            .parse()
            .with_context(|| format!("`{name}/recipe.toml`"))?;
        let text = |key: &str| recipe.get(key).and_then(|value| value.as_str());
        if text("job") == Some("study") {
            return Err(Fault::new(
                format!("`{name}` is a study: its report is report.html and report.md there"),
                format!("`leap report {name}/seed-N/rows` shows the rows of one seed"),
            )
            .into());
        }
        let mut rows = Vec::new();
        for row in row_names(folder, &recipe)? {
            let summary = read_summary(&folder.join("reports").join(&row).join("summary.json"))?;
            rows.push((row, summary));
        }
        if rows.is_empty() {
            return Err(Fault::new(
                format!("`{name}` has no scores yet"),
                "the command that began it continues it",
            )
            .into());
        }
        let mut facts = vec![Fact::new(
            "Recipe",
            ledger.recipe.get(..12).unwrap_or_default(),
        )];
        if let Some(seed) = recipe.get("seed") {
            facts.push(Fact::new("Seed", seed.to_string()));
        }
        facts.push(Fact::new("Device", ledger.device.clone()));
        if let Some(benchmark) = recipe
            .get("problems")
            .and_then(|problems| problems.get("benchmark"))
            .and_then(|value| value.as_str())
        {
            facts.push(Fact::new("Benchmark", benchmark));
        }
        if let Some(preset) = recipe
            .get("protocol")
            .and_then(|protocol| protocol.get("preset"))
            .and_then(|value| value.as_str())
        {
            facts.push(Fact::new("Preset", preset));
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            finished: ledger.finished,
            title: text("title").unwrap_or("a run").to_owned(),
            facts,
            problems: read_records(&folder.join("problems.jsonl"))?,
            rows,
        })
    }

    /// Everything beside each other; with `against`, its rows of the same names as baselines.
    ///
    /// # Errors
    /// If groups cannot be read, or rows have other answers to the same problems.
    pub(crate) fn report(&self, against: Option<&Self>) -> Result<Report> {
        let mut rows: Vec<Summary> = self.rows.iter().map(|(_, row)| row.clone()).collect();
        let mut comparisons = self.own_comparisons()?;
        let (mut title, mut facts, mut notes) =
            (self.title.clone(), self.facts.clone(), Vec::new());
        if let Some(other) = against {
            let pairs = self.pairs(other);
            if pairs.is_empty() {
                return Err(Fault::new(
                    format!(
                        "`{}` and `{}` have no row of the same name",
                        self.folder.display(),
                        other.folder.display()
                    ),
                    format!(
                        "rows are {} and {}",
                        self.names().join(", "),
                        other.names().join(", ")
                    ),
                )
                .into());
            }
            self.same_questions(other)?;
            comparisons.clear();
            for (mine, theirs) in pairs {
                let mut baseline = other.rows[theirs].1.clone();
                baseline.name += " (against)";
                comparisons.push(compare(&self.rows[mine].1, &baseline)?);
                rows.push(baseline);
            }
            title += &format!(" against {}", other.title);
            let about = |fact: &Fact| Fact::new(format!("{} (against)", fact.name), &fact.value);
            facts.extend(other.facts.iter().map(about));
            notes.push("Differences are between the two runs, problem by problem.".to_owned());
        }
        notes.extend(self.traps()?);
        Ok(Report {
            title,
            facts,
            examples: self.examples()?,
            rows,
            comparisons,
            trainings: Vec::new(),
            notes,
        })
    }

    /// Whether all of the run is done.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    fn names(&self) -> Vec<&str> {
        self.rows.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Refuses two runs that ask something else under the same id.
    fn same_questions(&self, other: &Self) -> Result<()> {
        for mine in &self.problems {
            let same = |theirs: &&Problem| theirs.id == mine.id;
            let Some(theirs) = other.problems.iter().find(same) else {
                continue;
            };
            if theirs.question.text != mine.question.text {
                return Err(Fault::new(
                    format!(
                        "problem `{}` of `{}` is another one in `{}`",
                        mine.id,
                        self.folder.display(),
                        other.folder.display()
                    ),
                    "runs are compared problem by problem: both need the same problems",
                )
                .into());
            }
        }
        Ok(())
    }

    /// Rows of both with the same name, or the only ones of each.
    fn pairs(&self, other: &Self) -> Vec<(usize, usize)> {
        let same = |name: &str| other.rows.iter().position(|(theirs, _)| theirs == name);
        let pairs: Vec<(usize, usize)> = self
            .rows
            .iter()
            .enumerate()
            .filter_map(|(mine, (name, _))| Some((mine, same(name)?)))
            .collect();
        match (pairs.is_empty(), self.rows.len(), other.rows.len()) {
            (true, 1, 1) => vec![(0, 0)],
            _ => pairs,
        }
    }

    /// Every row with the first, and with the baseline of its own tokens.
    fn own_comparisons(&self) -> Result<Vec<Comparison>> {
        let mut comparisons = Vec::new();
        let shares = |a: &Summary, b: &Summary| {
            let ids: BTreeSet<&str> = b.by_problem.iter().map(|p| p.id.as_str()).collect();
            a.by_problem
                .iter()
                .any(|problem| ids.contains(problem.id.as_str()))
        };
        for (index, (name, row)) in self.rows.iter().enumerate() {
            let matched = format!("{name}-matched");
            let baselines = self
                .rows
                .iter()
                .enumerate()
                // A baseline is there for its own row.
                .filter(|(at, (other, _))| {
                    (*at == 0 && index > 0 && !name.ends_with("-matched")) || *other == matched
                });
            for (_, (_, baseline)) in baselines.filter(|(_, (_, other))| shares(row, other)) {
                comparisons.push(compare(row, baseline)?);
            }
        }
        Ok(comparisons)
    }

    /// What traps came to, in a sentence each.
    fn traps(&self) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let reports = fs::read_dir(self.folder.join("reports"))?;
        let mut files = reports
            .map(|entry| entry.map(|entry| entry.path().join("trap.json")))
            .collect::<Result<Vec<_>, _>>()?;
        files.sort();
        for file in files.into_iter().filter(|file| file.is_file()) {
            let name = || format!("`{}`", file.display());
            let text = fs::read_to_string(&file).with_context(name)?;
            let found: Outcome = serde_json::from_str(&text).with_context(name)?;
            let points = |it: &Interval| {
                let [middle, low, high] = [it.estimate, it.low, it.high].map(|it| 100.0 * it);
                format!("{middle:.1} [{low:.1}, {high:.1}]")
            };
            notes.push(format!(
                "Beginnings over {} problems: unconstrained {}, going on alone {} (a gap of {}), \
                 with peers {} (a gap of {}); peers repair {} points.",
                found.by_problem.len(),
                points(&found.unconstrained),
                points(&found.independent),
                points(&found.gap_independent),
                points(&found.with_peers),
                points(&found.gap_with_peers),
                points(&found.repaired),
            ));
        }
        Ok(notes)
    }

    /// One group of each row in which paths heard each other.
    fn examples(&self) -> Result<Vec<Example>> {
        let mut examples = Vec::new();
        for (name, row) in self.rows.iter().filter(|(_, row)| row.method.exchanges()) {
            if examples.len() == Report::MOST_EXAMPLES {
                break;
            }
            let Some((id, group)) = report::example_group(row) else {
                continue;
            };
            let file = self.folder.join("reports").join(name).join("groups.jsonl");
            let traces: Vec<Trace> = read_records(&file)?;
            let mut traces = traces.into_iter();
            let trace = traces.find(|trace| trace.problem == id && trace.group == group);
            let problem = self.problems.iter().find(|problem| problem.id == id);
            if let (Some(trace), Some(problem)) = (trace, problem) {
                examples.extend(Example::new(row, problem, trace));
            }
        }
        Ok(examples)
    }
}

/// Rows of a folder that have scores: those of the recipe first, baselines behind theirs.
fn row_names(folder: &Path, recipe: &Table) -> Result<Vec<String>> {
    let reports = folder.join("reports");
    let mut there = BTreeSet::new();
    match fs::read_dir(&reports) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry?;
                if entry.path().join("summary.json").is_file() {
                    there.insert(entry.file_name().to_string_lossy().into_owned());
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read `{}`", reports.display()));
        }
    }
    let rows = recipe.get("eval").and_then(|eval| eval.get("rows"));
    let rows = rows
        .and_then(|rows| rows.as_array())
        .cloned()
        .unwrap_or_default();
    let mut names = Vec::new();
    let named = rows
        .iter()
        .filter_map(|row| row.get("name").and_then(|name| name.as_str()));
    for name in named {
        for ending in ["", "-alone", "-peers", "-matched"] {
            names.extend(there.take(&format!("{name}{ending}")));
        }
    }
    names.extend(there);
    Ok(names)
}

/// The scores of a row.
///
/// # Errors
/// If the file is not there or no summary.
pub(crate) fn read_summary(path: &Path) -> Result<Summary> {
    let name = || format!("`{}`", path.display());
    let file = File::open(path).with_context(name)?;
    serde_json::from_reader(BufReader::new(file)).with_context(name)
}

/// Writes a report as page, Markdown and JSON into `folder`.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn write_all(folder: &Path, report: &Report) -> Result<()> {
    let json = report::json(&report.rows, &report.comparisons);
    for (name, text) in FILES
        .iter()
        .zip([report::html(report), report::document(report), json])
    {
        ledger::write_whole(&folder.join(name), text.as_bytes())?;
    }
    Ok(())
}
