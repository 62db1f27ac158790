//! From records to problems: which column is what, and what its values mean.

use std::path::Path;

use protocol::grade::{AnswerKind, boxed};
use protocol::{Gold, Problem, Question};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::table::Record;
use super::{ImportError, Imported, year};

/// Which column is what; what is not named is guessed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// Column of ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Column of statements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Column of right answers. Of a multiple-choice question: a letter, the text of the right
    /// option, or its number from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// One column with a list of options, or a column for each option.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// How answers are read; guessed from the answers if it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<AnswerKind>,
}

const IDS: &[&str] = &[
    "id",
    "ID",
    "Id",
    "problem_id",
    "unique_id",
    "Record ID",
    "question_id",
];
const PROBLEMS: &[&str] = &[
    "problem",
    "Problem",
    "question",
    "Question",
    "statement",
    "prompt",
];
const ANSWERS: &[&str] = &[
    "answer",
    "Answer",
    "expected_answer",
    "final_answer",
    "Correct Answer",
    "correct_answer",
    "gold",
];
/// Columns of worked solutions, whose last box is the answer where no column has it (MATH).
const SOLUTIONS: &[&str] = &["solution", "Solution"];
/// Options in one list, or one column each.
const CHOICES: &[&[&str]] = &[
    &["choices"],
    &["options"],
    &[
        "Correct Answer",
        "Incorrect Answer 1",
        "Incorrect Answer 2",
        "Incorrect Answer 3",
    ],
    &["A", "B", "C", "D"],
];

/// Reads records of one file as problems.
pub(super) fn problems(
    path: &Path,
    records: &[Record],
    columns: &Columns,
) -> Result<Vec<Imported>, ImportError> {
    let Some(first) = records.first() else {
        return Ok(Vec::new());
    };
    let reader = Reader::new(path, first, columns)?;
    let mut problems = Vec::with_capacity(records.len());
    for (row, record) in records.iter().enumerate() {
        let fault = |fault| ImportError::Row {
            path: path.to_path_buf(),
            row: row + 1,
            fault,
        };
        problems.push(reader.problem(row, record).map_err(fault)?);
    }
    if columns.kind.is_none() && reader.choices.is_empty() {
        guess_kind(&mut problems);
    }
    let imported = problems.into_iter().zip(records);
    let imported = imported.map(|(problem, record)| Imported {
        problem,
        id_given: reader.id.is_some(),
        year: year::of_record(record),
    });
    Ok(imported.collect())
}

/// Whole numbers, if all answers are; their leading zeros mean nothing.
fn guess_kind(problems: &mut [Problem]) {
    let whole = |problem: &Problem| problem.gold.as_str().parse::<i64>();
    let values: Result<Vec<i64>, _> = problems.iter().map(whole).collect();
    match values {
        Ok(values) => {
            for (problem, value) in problems.iter_mut().zip(values) {
                problem.gold = Gold::new(value.to_string());
                problem.question.kind = AnswerKind::Integer;
            }
        }
        Err(_) => {
            for problem in problems {
                problem.question.kind = AnswerKind::Math;
            }
        }
    }
}

struct Reader {
    /// The file's name without ending: what ids begin with.
    stem: String,
    id: Option<String>,
    problem: String,
    answer: Answers,
    choices: Vec<String>,
    kind: Option<AnswerKind>,
}

/// Where answers stand.
enum Answers {
    /// In a column of their own.
    Column(String),
    /// In the last box of a solution.
    Solution(String),
}

impl Reader {
    fn new(path: &Path, first: &Record, columns: &Columns) -> Result<Self, ImportError> {
        let missing = |wanted: String| ImportError::Column {
            path: path.to_path_buf(),
            wanted,
            there: first.keys().map(|key| format!("`{key}`")).collect(),
        };
        let there = |name: &str| first.contains_key(name);
        let choose = |named: &Option<String>, usual: &[&str], what: &str| match named {
            Some(name) if there(name) => Ok(Some(name.clone())),
            Some(name) => Err(missing(format!("`{name}` ({what})"))),
            None => Ok(usual
                .iter()
                .find(|name| there(name))
                .map(|n| (*n).to_owned())),
        };
        let unknown = |what: &str| missing(format!("that is known to hold {what}: name it"));
        let choices = if columns.choices.is_empty() {
            let usual = CHOICES
                .iter()
                .find(|set| set.iter().all(|name| there(name)));
            let usual = usual.copied().unwrap_or_default();
            usual.iter().map(|name| (*name).to_owned()).collect()
        } else {
            columns.choices.clone()
        };
        if let Some(name) = choices.iter().find(|name| !there(name)) {
            return Err(missing(format!("`{name}` (options)")));
        }
        let problem = choose(&columns.problem, PROBLEMS, "statements")?;
        let answer = choose(&columns.answer, ANSWERS, "answers")?.map(Answers::Column);
        let solution = || {
            let there = SOLUTIONS.iter().find(|name| there(name));
            there.map(|name| Answers::Solution((*name).to_owned()))
        };
        Ok(Self {
            stem: path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            id: choose(&columns.id, IDS, "ids")?,
            problem: problem.ok_or_else(|| unknown("the statement"))?,
            answer: answer
                .or_else(solution)
                .ok_or_else(|| unknown("the answer"))?,
            choices: match columns.kind {
                Some(AnswerKind::Integer | AnswerKind::Math) => Vec::new(),
                _ => choices,
            },
            kind: columns.kind,
        })
    }

    fn problem(&self, row: usize, record: &Record) -> Result<Problem, String> {
        let value = |name: &str| text(name, record.get(name).unwrap_or(&Value::Null));
        let choices = self.options(record)?;
        let answer = match &self.answer {
            Answers::Column(name) => value(name)?,
            Answers::Solution(name) => boxed(&value(name)?)
                .map(|answer| answer.trim().to_owned())
                .ok_or_else(|| format!("`{name}` has no \\boxed{{...}} with an answer"))?,
        };
        let (kind, answer) = match choices.is_empty() {
            true => (self.kind.unwrap_or(AnswerKind::Math), answer),
            false => (AnswerKind::Choice, letter(&answer, &choices)?),
        };
        let id = match &self.id {
            Some(name) => value(name)?,
            None => format!("{}-{:04}", self.stem, row + 1),
        };
        Ok(Problem {
            id,
            question: Question {
                text: value(&self.problem)?,
                kind,
                choices,
            },
            gold: Gold::new(answer),
            source: None,
            split: None,
        })
    }

    fn options(&self, record: &Record) -> Result<Vec<String>, String> {
        let get = |name: &String| record.get(name).unwrap_or(&Value::Null);
        match self.choices.as_slice() {
            [] => Ok(Vec::new()),
            [one] => match get(one) {
                Value::Array(list) => list.iter().map(|value| text(one, value)).collect(),
                // `{"text": [...], "label": [...]}`
                Value::Object(object) => match object.get("text") {
                    Some(Value::Array(list)) => list.iter().map(|v| text(one, v)).collect(),
                    _ => Err(format!("`{one}` holds no list of options")),
                },
                _ => Err(format!("`{one}` holds no list of options")),
            },
            several => several.iter().map(|name| text(name, get(name))).collect(),
        }
    }
}

/// A value as text, without blanks around it.
fn text(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.trim().to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Err(format!("`{name}` is empty")),
        _ => Err(format!("`{name}` holds neither text nor a number")),
    }
}

/// The letter of the right option: `answer` is its text, a letter, or its number from 0.
fn letter(answer: &str, choices: &[String]) -> Result<String, String> {
    if choices.len() > 10 {
        return Err(format!(
            "there are {} options, and at most 10 letters",
            choices.len()
        ));
    }
    let place = choices.iter().position(|choice| choice == answer);
    let place = place.or_else(|| match answer.as_bytes() {
        [letter @ b'A'..=b'J'] => Some(usize::from(letter - b'A')),
        [letter @ b'a'..=b'j'] => Some(usize::from(letter - b'a')),
        _ => answer.parse().ok(),
    });
    match place.filter(|place| *place < choices.len()) {
        // Wrong options may be alike; a right one that is also wrong cannot be graded.
        Some(place) if choices.iter().filter(|c| **c == choices[place]).count() > 1 => Err(
            format!("two options are `{}`, the right one", choices[place]),
        ),
        Some(place) => Ok(char::from(b'A' + place as u8).to_string()),
        None => Err(format!(
            "`{answer}` is none of its {} options",
            choices.len()
        )),
    }
}
