//! Traces of a file, a batch at a time: memory holds one batch, however long the file is.

use std::io::{self, BufRead};

use protocol::Trace;
use rayon::prelude::*;

/// Bytes of a batch: enough for all cores, little beside what else a machine holds.
const BATCH_BYTES: usize = 4 << 20;
/// Most lines of a batch.
const BATCH_LINES: usize = 1024;

/// A line that is no trace, or a file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The reader failed.
    #[error("cannot read line {line}")]
    Io {
        /// Number of the line, from 1.
        line: usize,
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// The line is no trace.
    #[error("line {line} is no trace")]
    Parse {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong, and in which column.
        #[source]
        source: serde_json::Error,
    },
    /// The trace contradicts itself, or has another version.
    #[error("line {line}: {fault}")]
    Broken {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong.
        fault: String,
    },
}

/// Traces with what was worked out of them, in file order.
pub struct Batches<R> {
    from: R,
    line: usize,
}

/// What came of a line.
pub struct Worked<T> {
    /// Number of the line, from 1.
    pub line: usize,
    /// Bytes of the line.
    pub bytes: usize,
    /// What was worked out.
    pub result: T,
}

impl<R: BufRead> Batches<R> {
    /// Traces out of `from`, a JSON object a line; blank lines are passed over.
    pub fn new(from: R) -> Self {
        Self { from, line: 0 }
    }

    /// Reads the next batch, and works on its traces on all cores. Empty at the end.
    ///
    /// # Errors
    /// The first line that is no sound trace.
    pub fn next<T: Send>(
        &mut self,
        work: impl Fn(Trace) -> T + Sync,
    ) -> Result<Vec<Worked<T>>, StreamError> {
        let lines = self.lines()?;
        let read = |(line, text): (usize, String)| {
            let trace: Trace = serde_json::from_str(&text)
                .map_err(|source| StreamError::Parse { line, source })?;
            trace
                .check()
                .map_err(|fault| StreamError::Broken { line, fault })?;
            Ok(Worked {
                line,
                bytes: text.len(),
                result: work(trace),
            })
        };
        // Not the first error in time, but in the file.
        let all: Vec<Result<Worked<T>, StreamError>> = lines.into_par_iter().map(read).collect();
        all.into_iter().collect()
    }

    fn lines(&mut self) -> Result<Vec<(usize, String)>, StreamError> {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES && lines.len() < BATCH_LINES {
            let line = self.line + 1;
            let mut text = String::new();
            let read = self.from.read_line(&mut text);
            if read.map_err(|source| StreamError::Io { line, source })? == 0 {
                break;
            }
            self.line = line;
            bytes += text.len();
            if !text.trim().is_empty() {
                lines.push((line, text));
            }
        }
        Ok(lines)
    }
}
