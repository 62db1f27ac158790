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
    /// option, or its number from 0, in one way in the whole column.
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
    let fault = |row: usize, fault| ImportError::Row {
        path: path.to_path_buf(),
        row: row + 1,
        fault,
    };
    let mut read = Vec::with_capacity(records.len());
    for (row, record) in records.iter().enumerate() {
        read.push(reader.row(record).map_err(|error| fault(row, error))?);
    }
    let convention = reader
        .convention(&read)
        .map_err(|(row, error)| fault(row, error))?;
    let mut problems = Vec::with_capacity(records.len());
    for (row, (record, read)) in records.iter().zip(read).enumerate() {
        let problem = reader.problem(row, record, read, convention);
        problems.push(problem.map_err(|error| fault(row, error))?);
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

    /// The answer and the options of a row.
    fn row(&self, record: &Record) -> Result<Row, String> {
        let get = |name: &str| record.get(name).unwrap_or(&Value::Null);
        let choices = self.options(record)?;
        let (answer, integer) = match &self.answer {
            Answers::Column(name) => {
                let value = get(name);
                (text(name, value)?, value.is_i64() || value.is_u64())
            }
            Answers::Solution(name) => {
                let answer = boxed(&text(name, get(name))?)
                    .map(|answer| answer.trim().to_owned())
                    .ok_or_else(|| format!("`{name}` has no \\boxed{{...}} with an answer"))?;
                (answer, false)
            }
        };
        // What tables write where there is nothing.
        if choices.is_empty() && answer.eq_ignore_ascii_case("nan") {
            return Err(format!("the answer is `{answer}`: there is none"));
        }
        let written = match self.choices.as_slice() {
            [one] => match get(one) {
                Value::Array(list) => list.iter().all(Value::is_string),
                _ => true,
            },
            several => several.iter().all(|name| get(name).is_string()),
        };
        Ok(Row {
            index: integer && written,
            answer,
            choices,
        })
    }

    /// How the answers of all rows name options: one convention for the column.
    ///
    /// # Errors
    /// The first row that two conventions read differently, and both of them read all rows.
    fn convention(&self, rows: &[Row]) -> Result<Option<Naming>, (usize, String)> {
        if self.choices.is_empty() {
            return Ok(None);
        }
        // GPQA: the right answer is one of the options' columns.
        if let Answers::Column(name) = &self.answer
            && self.choices.contains(name)
        {
            return Ok(Some(Naming::Text));
        }
        let fits = |naming: &Naming| rows.iter().all(|row| naming.place(row).is_some());
        // A number of JSON beside options that are text is no text.
        if rows.iter().all(|row| row.index) && fits(&Naming::Index) {
            return Ok(Some(Naming::Index));
        }
        let all = [Naming::Text, Naming::Letter, Naming::Index];
        let fitting: Vec<Naming> = all.into_iter().filter(fits).collect();
        let Some((first, others)) = fitting.split_first() else {
            return Ok(None);
        };
        for (at, row) in rows.iter().enumerate() {
            let place = first.place(row);
            let other = others.iter().find(|other| other.place(row) != place);
            if let Some(other) = other {
                return Err((at, ambiguous(row, *first, *other)));
            }
        }
        Ok(Some(*first))
    }

    fn problem(
        &self,
        row: usize,
        record: &Record,
        read: Row,
        convention: Option<Naming>,
    ) -> Result<Problem, String> {
        let value = |name: &str| text(name, record.get(name).unwrap_or(&Value::Null));
        let (kind, answer) = match read.choices.is_empty() {
            true => (self.kind.unwrap_or(AnswerKind::Math), read.answer),
            false => (AnswerKind::Choice, letter(&read, convention)?),
        };
        let choices = read.choices;
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

/// From here on numbers that are no integers of 64 bits are not exact.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A value as text, without blanks around it.
fn text(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.trim().to_owned()),
        // Behind 2^53 not every whole number can be told from its neighbours.
        Value::Number(number)
            if number.is_f64() && number.as_f64().is_none_or(|n| n.abs() >= EXACT) =>
        {
            Err(format!(
                "`{name}` holds the number {number}, which is too large to be read exactly: write it as text"
            ))
        }
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Err(format!("`{name}` is empty")),
        _ => Err(format!("`{name}` holds neither text nor a number")),
    }
}

/// What a row says of its answer.
struct Row {
    answer: String,
    choices: Vec<String>,
    /// Whether the answer is a number and the options are text, so that it can only be a place.
    index: bool,
}

/// How an answer names an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    /// By its text.
    Text,
    /// By its letter.
    Letter,
    /// By its number from 0.
    Index,
}

impl Naming {
    /// The place of the option that the answer of `row` names.
    fn place(self, row: &Row) -> Option<usize> {
        let place = match (self, row.answer.as_bytes()) {
            (Self::Text, _) => row.choices.iter().position(|choice| *choice == row.answer),
            (Self::Letter, [letter @ b'A'..=b'J']) => Some(usize::from(letter - b'A')),
            (Self::Letter, [letter @ b'a'..=b'j']) => Some(usize::from(letter - b'a')),
            (Self::Letter, _) => None,
            (Self::Index, _) => row.answer.parse().ok(),
        };
        place.filter(|place| *place < row.choices.len())
    }

    fn words(self) -> &'static str {
        match self {
            Self::Text => "the text of an option",
            Self::Letter => "the letter of one",
            Self::Index => "the number of one from 0",
        }
    }
}

fn ambiguous(row: &Row, one: Naming, other: Naming) -> String {
    format!(
        "the answer `{}` is {} as well as {}, and all rows can be read either way: write letters",
        row.answer,
        one.words(),
        other.words()
    )
}

/// The letter of the right option. Where no convention fits all rows, each row is read by the one that
/// fits it.
fn letter(row: &Row, convention: Option<Naming>) -> Result<String, String> {
    let choices = &row.choices;
    if choices.len() > 10 {
        return Err(format!(
            "there are {} options, and at most 10 letters",
            choices.len()
        ));
    }
    let place = match convention {
        Some(naming) => naming.place(row),
        None => {
            let all = [Naming::Text, Naming::Letter, Naming::Index];
            let mut read = all
                .into_iter()
                .filter_map(|naming| Some((naming, naming.place(row)?)));
            let first = read.next();
            if let Some((one, place)) = first
                && let Some((other, _)) = read.find(|(_, other)| *other != place)
            {
                return Err(ambiguous(row, one, other));
            }
            first.map(|(_, place)| place)
        }
    };
    match place {
        // Wrong options may be alike; a right one that is also wrong cannot be graded.
        Some(place) if choices.iter().filter(|c| **c == choices[place]).count() > 1 => Err(
            format!("two options are `{}`, the right one", choices[place]),
        ),
        Some(place) => Ok(char::from(b'A' + place as u8).to_string()),
        None => Err(format!(
            "`{}` is none of its {} options",
            row.answer,
            choices.len()
        )),
    }
}
