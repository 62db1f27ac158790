//! Rows of a file as records, whatever the format.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use infer::foreign::caught;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Map, Value};

use super::pages;

/// One row: values by column.
pub(super) type Record = Map<String, Value>;

/// Why a file cannot be read as a table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be opened or read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The ending tells no format.
    #[error(
        "`{}` is of no format that is known: .jsonl, .json, .csv, .tsv or .parquet",
        .0.display()
    )]
    Format(PathBuf),
    /// The content is not what the ending says.
    #[error("`{}` cannot be read as {format}: {fault}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The format.
        format: &'static str,
        /// What is wrong, and where.
        fault: String,
    },
}

/// The rows of a file, in order.
pub(super) fn records(path: &Path) -> Result<Vec<Record>, TableError> {
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    match ending.to_ascii_lowercase().as_str() {
        "jsonl" | "ndjson" => jsonl(path),
        "json" => json(path),
        "csv" => csv(path, &text(path)?, b',', "CSV", Quotes::Hold),
        "tsv" => tsv(path),
        "parquet" => parquet(path),
        _ => Err(TableError::Format(path.to_path_buf())),
    }
}

fn text(path: &Path) -> Result<String, TableError> {
    let text = fs::read_to_string(path).map_err(|source| TableError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    // Spreadsheets and editors put a byte order mark before their files.
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn content(path: &Path, format: &'static str, fault: impl ToString) -> TableError {
    TableError::Content {
        path: path.to_path_buf(),
        format,
        fault: fault.to_string(),
    }
}

fn jsonl(path: &Path) -> Result<Vec<Record>, TableError> {
    let text = text(path)?;
    let mut records = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let record = serde_json::from_str(line)
            .map_err(|error| content(path, "JSONL", format!("line {}: {error}", number + 1)))?;
        records.push(record);
    }
    Ok(records)
}

/// A list of objects, or an object with one list of objects in it.
fn json(path: &Path) -> Result<Vec<Record>, TableError> {
    let value: Value =
        serde_json::from_str(&text(path)?).map_err(|error| content(path, "JSON", error))?;
    let list = match value {
        Value::Array(list) => list,
        Value::Object(object) => {
            let mut lists: Vec<Vec<Value>> = object
                .into_iter()
                .filter_map(|(_, value)| match value {
                    Value::Array(list) if list.iter().all(Value::is_object) => Some(list),
                    _ => None,
                })
                .collect();
            match (lists.pop(), lists.pop()) {
                (Some(list), None) => list,
                _ => return Err(content(path, "JSON", "it holds no list of objects")),
            }
        }
        _ => return Err(content(path, "JSON", "it holds no list of objects")),
    };
    let record = |(number, value): (usize, Value)| match value {
        Value::Object(record) => Ok(record),
        _ => Err(content(
            path,
            "JSON",
            format!("entry {} is no object", number + 1),
        )),
    };
    list.into_iter().enumerate().map(record).collect()
}

/// Whether quotes hold values together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Hold,
    Mean,
}

/// Most files with tabs have no quotes that hold values together, and a quote at the beginning of a value
/// is one. Where every line has as many values as the first, lines are rows.
fn tsv(path: &Path) -> Result<Vec<Record>, TableError> {
    let text = text(path)?;
    let held = csv(path, &text, b'\t', "TSV", Quotes::Hold);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let values = |line: &&str| line.matches('\t').count();
    let even = lines
        .windows(2)
        .all(|pair| values(&pair[0]) == values(&pair[1]));
    match held {
        Ok(records) if records.len() + 1 >= lines.len() => Ok(records),
        _ if even => csv(path, &text, b'\t', "TSV", Quotes::Mean),
        held => held,
    }
}

fn csv(
    path: &Path,
    text: &str,
    delimiter: u8,
    format: &'static str,
    quotes: Quotes,
) -> Result<Vec<Record>, TableError> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(quotes == Quotes::Hold)
        .from_reader(text.as_bytes());
    let fault = |error: csv::Error| content(path, format, error);
    let header = reader.headers().map_err(fault)?.clone();
    let mut doubled: Vec<&str> = header.iter().collect();
    doubled.sort_unstable();
    if let Some(pair) = doubled.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(content(
            path,
            format,
            format!("two columns are named `{}`", pair[0]),
        ));
    }
    let mut records = Vec::new();
    for row in reader.records() {
        let row = row.map_err(fault)?;
        let values = row.iter().map(|value| Value::String(value.to_owned()));
        records.push(header.iter().map(str::to_owned).zip(values).collect());
    }
    Ok(records)
}

fn parquet(path: &Path) -> Result<Vec<Record>, TableError> {
    let file = File::open(path).map_err(|source| TableError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    // Its reader panics on tables that contradict themselves.
    let read = || {
        let bytes = file.metadata()?.len() as usize;
        let reader = SerializedFileReader::new(file.try_clone()?)?;
        pages::check(&file, reader.metadata())?;
        let (mut records, mut held) = (Vec::new(), 0);
        for row in reader.get_row_iter(None)? {
            let record = object(&row?);
            held += record
                .iter()
                .map(|(name, value)| name.len() + weight(value))
                .sum::<usize>();
            // Rows that repeat a value a million times take nearly nothing in a file.
            if records.len() >= bytes || held > HELD + HELD_OF_ONE.saturating_mul(bytes) {
                let rows = records.len() + 1;
                return Err(ParquetError::General(format!(
                    "row {rows} makes more of its {bytes} bytes than a table of problems can be"
                )));
            }
            records.push(record);
        }
        Ok(records)
    };
    caught::<_, ParquetError>(read).map_err(|fault| content(path, "Parquet", fault))
}

/// What the rows of a Parquet file may hold whatever its size, and for each of its bytes.
const HELD: usize = 64 << 20;
const HELD_OF_ONE: usize = 200;

/// About what a value holds.
fn weight(value: &Value) -> usize {
    64 + match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(weight).sum(),
        Value::Object(record) => record.values().map(weight).sum(),
        _ => 0,
    }
}

fn object(row: &Row) -> Record {
    let columns = row.get_column_iter();
    columns
        .map(|(name, field)| (name.clone(), value(field)))
        .collect()
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(bool) => (*bool).into(),
        Field::Byte(n) => (*n).into(),
        Field::Short(n) => (*n).into(),
        Field::Int(n) => (*n).into(),
        Field::Long(n) => (*n).into(),
        Field::UByte(n) => (*n).into(),
        Field::UShort(n) => (*n).into(),
        Field::UInt(n) => (*n).into(),
        Field::ULong(n) => (*n).into(),
        Field::Float(n) => number(f64::from(*n)),
        Field::Double(n) => number(*n),
        Field::Str(text) => text.clone().into(),
        Field::Group(row) => Value::Object(object(row)),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        // Dates, bytes and the like are no part of a problem; their text tells what is there.
        other => other.to_string().into(),
    }
}

/// Tables without an integer type hold `204.0`.
fn number(value: f64) -> Value {
    match value.fract() == 0.0 && value.abs() < 9e15 {
        true => (value as i64).into(),
        false => value.into(),
    }
}
