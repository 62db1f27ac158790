//! Ids with labels in Parquet: exactly the tokens and the loss of a training here.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use protocol::{Sample, SpanKind};

use super::ExportError;

/// The label of a token without loss, in torch and all that is made with it.
pub const IGNORED: i32 = -100;

/// Tokens of a row group: what a reader holds at once.
const GROUP: usize = 1 << 20;

const SCHEMA: &str = "message sample {
    required binary id (STRING);
    required binary problem (STRING);
    required group input_ids (LIST) { repeated group list { required int32 element; } }
    required group labels (LIST) { repeated group list { required int32 element; } }
}";

/// Writes samples one after the other; memory holds one row group.
pub struct TokenWriter {
    path: PathBuf,
    tokenizer: String,
    to: SerializedFileWriter<File>,
    rows: Rows,
}

#[derive(Default)]
struct Rows {
    ids: Vec<ByteArray>,
    problems: Vec<ByteArray>,
    input_ids: Vec<i32>,
    labels: Vec<i32>,
    /// 0 where a row begins, 1 where it goes on.
    repeats: Vec<i16>,
}

impl TokenWriter {
    /// A file that holds no sample, for ids of this tokenizer.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(path: &Path, tokenizer: &str) -> Result<Self, ExportError> {
        let fault = |source| ExportError::Parquet {
            path: path.to_owned(),
            source,
        };
        let file = File::create(path).map_err(|source| ExportError::Write {
            path: path.to_owned(),
            source,
        })?;
        let schema = parse_message_type(SCHEMA).map_err(fault)?;
        let snappy = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .build();
        let to =
            SerializedFileWriter::new(file, Arc::new(schema), Arc::new(snappy)).map_err(fault)?;
        Ok(Self {
            path: path.to_owned(),
            tokenizer: tokenizer.to_owned(),
            to,
            rows: Rows::default(),
        })
    }

    /// Adds a sample; kinds that `trained` accepts get their ids as labels. A trainer shifts labels
    /// by itself.
    ///
    /// # Errors
    /// If it is of another tokenizer, no token carries loss, an id is too large, or the file cannot be written.
    pub fn write(
        &mut self,
        sample: &Sample,
        trained: &dyn Fn(SpanKind) -> bool,
    ) -> Result<(), ExportError> {
        if sample.tokenizer != self.tokenizer {
            return Err(ExportError::Tokenizer {
                id: sample.id.clone(),
                found: sample.tokenizer.clone(),
                expected: self.tokenizer.clone(),
            });
        }
        let begin = self.rows.input_ids.len();
        for span in &sample.spans {
            let carries = trained(span.kind);
            for &token in &span.ids {
                let id = i32::try_from(token).map_err(|_| ExportError::Token {
                    id: sample.id.clone(),
                    token,
                })?;
                let first = self.rows.input_ids.len() == begin;
                self.rows.input_ids.push(id);
                self.rows
                    .labels
                    .push(if carries && !first { id } else { IGNORED });
                self.rows.repeats.push(i16::from(!first));
            }
        }
        if self.rows.labels[begin..]
            .iter()
            .all(|label| *label == IGNORED)
        {
            return Err(ExportError::Untrained {
                id: sample.id.clone(),
            });
        }
        self.rows.ids.push(sample.id.as_str().into());
        self.rows.problems.push(sample.problem.as_str().into());
        if self.rows.input_ids.len() >= GROUP {
            self.flush()?;
        }
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> Result<(), ExportError> {
        self.flush()?;
        let path = self.path;
        let ended = self.to.close();
        ended
            .map(drop)
            .map_err(|source| ExportError::Parquet { path, source })
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        let rows = std::mem::take(&mut self.rows);
        if rows.ids.is_empty() {
            return Ok(());
        }
        put(&mut self.to, &rows).map_err(|source| ExportError::Parquet {
            path: self.path.clone(),
            source,
        })
    }
}

fn put(to: &mut SerializedFileWriter<File>, rows: &Rows) -> Result<(), ParquetError> {
    let mut group = to.next_row_group()?;
    for texts in [&rows.ids, &rows.problems] {
        let mut column = group.next_column()?.ok_or_else(no_column)?;
        column
            .typed::<ByteArrayType>()
            .write_batch(texts, None, None)?;
        column.close()?;
    }
    // Every element is there, and lists are never empty.
    let there = vec![1; rows.repeats.len()];
    for values in [&rows.input_ids, &rows.labels] {
        let mut column = group.next_column()?.ok_or_else(no_column)?;
        column
            .typed::<Int32Type>()
            .write_batch(values, Some(&there), Some(&rows.repeats))?;
        column.close()?;
    }
    group.close()?;
    Ok(())
}

fn no_column() -> ParquetError {
    ParquetError::General("the schema has fewer columns than are written".into())
}
