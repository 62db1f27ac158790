//! Reading problems from a file, checked.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use protocol::grade::AnswerKind;
use protocol::jsonl::{self, JsonlError};
use protocol::{Gold, Problem};

/// What the answer of a problem must be whose line names no kind.
pub const INTEGER: &str = "integer";

/// Why a problems file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProblemsError {
    /// The file cannot be opened.
    #[error("cannot open `{}`", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line is no problem.
    #[error("`{}`", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line and fault.
        #[source]
        source: JsonlError,
    },
    /// The file holds no problem.
    #[error("`{}` holds no problem", .0.display())]
    Empty(PathBuf),
    /// A problem that cannot be asked or graded.
    #[error("`{}`: problem `{id}` {fault}", path.display())]
    Fault {
        /// The file.
        path: PathBuf,
        /// Id of the problem.
        id: String,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with a problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Two problems have this id.
    #[error("appears twice: every id must be unique")]
    Doubled,
    /// There is no text.
    #[error("has an empty `problem` text")]
    NoText,
    /// There is no answer.
    #[error("has an empty `answer`")]
    NoAnswer,
    /// The answer is not of the problem's kind.
    #[error("has the answer `{answer}`, which is no {wanted}")]
    Answer {
        /// What is there.
        answer: String,
        /// What its kind asks for.
        wanted: &'static str,
    },
    /// A multiple-choice problem needs options, and other kinds have none.
    #[error("is of kind `choice` and needs at least two `choices`")]
    Choices,
}

/// Reads a problems file: one JSON object a line with `id`, `problem`, `answer` and, where they
/// differ from an integer answer, `kind` (`integer`, `math`, `choice`) and `choices`.
///
/// # Errors
/// If the file cannot be read, or a problem cannot be asked or graded; with line or id.
pub fn read(path: &Path) -> Result<Vec<Problem>, ProblemsError> {
    let file = File::open(path).map_err(|source| ProblemsError::Open {
        path: path.to_path_buf(),
        source,
    })?;
    let problems: Vec<Problem> =
        jsonl::read(BufReader::new(file)).map_err(|source| ProblemsError::Line {
            path: path.to_path_buf(),
            source,
        })?;
    check(&problems, path)?;
    Ok(problems)
}

/// Checks problems that came from the file `path`, or from several of which it is the first.
///
/// # Errors
/// If there is none, or one cannot be asked or graded; with its id.
pub fn check(problems: &[Problem], path: &Path) -> Result<(), ProblemsError> {
    if problems.is_empty() {
        return Err(ProblemsError::Empty(path.to_path_buf()));
    }
    let mut ids = BTreeSet::new();
    for problem in problems {
        let fault = if ids.insert(&problem.id) {
            fault(problem)
        } else {
            Some(Fault::Doubled)
        };
        if let Some(fault) = fault {
            let id = problem.id.clone();
            return Err(ProblemsError::Fault {
                path: path.to_path_buf(),
                id,
                fault,
            });
        }
    }
    Ok(())
}

fn fault(problem: &Problem) -> Option<Fault> {
    let answer = problem.gold.as_str().trim();
    if problem.question.text.trim().is_empty() {
        return Some(Fault::NoText);
    }
    if answer.is_empty() {
        return Some(Fault::NoAnswer);
    }
    let wanted = |wanted| {
        Some(Fault::Answer {
            answer: answer.to_string(),
            wanted,
        })
    };
    match problem.question.kind {
        AnswerKind::Integer if answer.parse::<i64>().is_err() => wanted(INTEGER),
        AnswerKind::Choice if problem.question.choices.len() < 2 => Some(Fault::Choices),
        AnswerKind::Choice if !is_option(answer, problem.question.choices.len()) => {
            wanted("letter of one of its choices")
        }
        _ => None,
    }
}

fn is_option(answer: &str, choices: usize) -> bool {
    let mut letters = answer.chars();
    match (letters.next(), letters.next()) {
        (Some(letter @ 'A'..='Z'), None) => (letter as usize - 'A' as usize) < choices,
        _ => false,
    }
}

/// `problems` with other golds, for tests that show that a gold reaches no engine.
pub fn with_gold(problems: &[Problem], gold: &str) -> Vec<Problem> {
    problems
        .iter()
        .map(|problem| Problem {
            gold: Gold::new(gold),
            ..problem.clone()
        })
        .collect()
}
