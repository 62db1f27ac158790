//! Problems from files of others: JSON, JSONL, CSV, TSV and Parquet, columns by name or guessed.
//!
//! Nothing is dropped or repaired in silence: a row that is no problem is an error that names it.

mod columns;
mod pages;
mod table;
mod year;

use std::path::{Path, PathBuf};

use protocol::Problem;

use crate::problems::{self, ProblemsError};

pub use self::columns::Columns;
pub use self::table::TableError;

/// Why files cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read as a table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A column that is named is not there, or one that is needed cannot be guessed.
    #[error("`{}` has no column {wanted}; it has: {}", path.display(), there.join(", "))]
    Column {
        /// The file.
        path: PathBuf,
        /// What is missing, in words.
        wanted: String,
        /// Its columns.
        there: Vec<String>,
    },
    /// A value that is of no use.
    #[error("`{}`, row {row}: {fault}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Number of the row, from 1.
        row: usize,
        /// What is wrong.
        fault: String,
    },
    /// Problems that cannot be asked or graded.
    #[error(transparent)]
    Problems(#[from] ProblemsError),
    /// There is no file.
    #[error("there is no file to read problems from")]
    NoFile,
}

/// A problem as it stands in a file, with what else its row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The problem.
    pub problem: Problem,
    /// Whether the file names it; otherwise its id is the file's name and the row's number.
    pub id_given: bool,
    /// The year it is from, if the row or the name of its file tells.
    pub year: Option<u32>,
}

/// Reads the problems of one or several files, in this order, checked as [`problems::read`] checks.
///
/// A problems file of ours is read as it is. Of other files the columns are those that `columns`
/// names, or the usual names. Without a column of ids the id is the file's name and the row's
/// number.
///
/// # Errors
/// The first thing that cannot be read, with file, row or problem.
pub fn read(files: &[PathBuf], columns: &Columns) -> Result<Vec<Problem>, ImportError> {
    let first = files.first().ok_or(ImportError::NoFile)?;
    let all = rows(files, columns)?;
    let all: Vec<Problem> = all.into_iter().map(|row| row.problem).collect();
    problems::check(&all, first)?;
    Ok(all)
}

/// As [`read`], row by row with what else is known, and not checked as a whole: the same id may be
/// there twice.
///
/// # Errors
/// The first thing that cannot be read, with file, row or problem.
pub fn rows(files: &[PathBuf], columns: &Columns) -> Result<Vec<Imported>, ImportError> {
    let mut all = Vec::new();
    for file in files {
        let of_file = year::of_file(&file.file_stem().unwrap_or_default().to_string_lossy());
        let rows = read_one(file, columns)?.into_iter();
        all.extend(rows.map(|row| Imported {
            year: row.year.or(of_file),
            ..row
        }));
    }
    Ok(all)
}

fn read_one(file: &Path, columns: &Columns) -> Result<Vec<Imported>, ImportError> {
    let records = table::records(file)?;
    let ours = |record: &table::Record| {
        let text = |key| record.get(key).is_some_and(serde_json::Value::is_string);
        text("id") && text("problem") && record.contains_key("answer")
    };
    let jsonl = file.extension().is_some_and(|ending| ending == "jsonl");
    if *columns == Columns::default() && jsonl && records.iter().all(ours) {
        let problems = problems::read(file)?.into_iter().zip(&records);
        let imported = problems.map(|(problem, record)| Imported {
            problem,
            id_given: true,
            year: year::of_record(record),
        });
        return Ok(imported.collect());
    }
    columns::problems(file, &records, columns)
}
