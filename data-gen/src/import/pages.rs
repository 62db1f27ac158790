//! Pages of Parquet files, looked at before the library reads them: it reserves what their headers
//! claim, and a file of a kilobyte can claim more than a machine has.
//!
//! Headers are Thrift's compact protocol. What is checked is what memory depends on.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

/// Snappy makes at most 21 bytes of one.
const MOST_OF_ONE: u64 = 64;
/// What a page may take whatever its size.
const ALWAYS: u64 = 64 << 10;
/// Structures inside of each other in a header.
const DEPTH: usize = 16;

fn wrong(problem: impl Into<String>) -> ParquetError {
    ParquetError::General(problem.into())
}

/// Checks the headers of all pages of a file.
///
/// # Errors
/// The first column with a page that claims what cannot be.
pub(super) fn check(file: &File, metadata: &ParquetMetaData) -> Result<(), ParquetError> {
    let length = file.metadata()?.len();
    let mut file = file;
    for group in metadata.row_groups() {
        for column in group.columns() {
            let name = || column.column_path().string();
            let (start, bytes) = column.byte_range();
            if start.checked_add(bytes).is_none_or(|end| end > length) {
                return Err(wrong(format!("column `{}` is not in the file", name())));
            }
            let mut chunk = Vec::new();
            file.seek(SeekFrom::Start(start))?;
            file.take(bytes).read_to_end(&mut chunk)?;
            let mut rest = Header { bytes: &chunk };
            while !rest.bytes.is_empty() {
                rest.page().ok_or_else(|| {
                    wrong(format!(
                        "a page of column `{}` claims what cannot be",
                        name()
                    ))
                })?;
            }
        }
    }
    Ok(())
}

/// What is left of a column's pages.
struct Header<'a> {
    bytes: &'a [u8],
}

impl Header<'_> {
    /// Reads a header, and passes over its page; None if it is unsound.
    fn page(&mut self) -> Option<()> {
        let (mut full, mut stored, mut entries) = (None, None, 0);
        self.fields(|header, id, kind| {
            match (id, kind) {
                (2, 5) => full = Some(header.number()?),
                (3, 5) => stored = Some(header.number()?),
                // Of a dictionary.
                (7, 12) => header.fields(|header, id, kind| {
                    match (id, kind) {
                        (1, 5) => entries = header.number()?,
                        _ => header.skip(kind, DEPTH)?,
                    }
                    Some(())
                })?,
                _ => header.skip(kind, DEPTH)?,
            }
            Some(())
        })?;
        let (full, stored) = (full?, stored?);
        // An entry takes a byte at least, and is held in sixteen.
        let fits = full <= ALWAYS.max(stored.checked_mul(MOST_OF_ONE)?) && entries <= full;
        self.take(usize::try_from(stored).ok()?)?;
        fits.then_some(())
    }

    /// Hands out the fields of a structure: number and kind.
    fn fields(&mut self, mut each: impl FnMut(&mut Self, u64, u8) -> Option<()>) -> Option<()> {
        let mut last = 0;
        loop {
            let first = self.take(1)?[0];
            if first == 0 {
                return Some(());
            }
            last = match first >> 4 {
                0 => self.number()?,
                step => last + u64::from(step),
            };
            each(self, last, first & 15)?;
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            // The kind is the value.
            1 | 2 => {}
            3 => drop(self.take(1)?),
            4..=6 => drop(self.varint()?),
            7 => drop(self.take(8)?),
            8 => {
                let length = usize::try_from(self.varint()?).ok()?;
                self.take(length)?;
            }
            9 | 10 => {
                let first = self.take(1)?[0];
                let count = match first >> 4 {
                    15 => self.varint()?,
                    count => u64::from(count),
                };
                for _ in 0..count {
                    // In a list, a truth value takes a byte.
                    match first & 15 {
                        1 | 2 => drop(self.take(1)?),
                        kind => self.skip(kind, depth)?,
                    }
                }
            }
            12 => self.fields(|header, _, kind| header.skip(kind, depth))?,
            _ => return None,
        }
        Some(())
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(value);
            }
        }
        None
    }

    /// A number that is not negative.
    fn number(&mut self) -> Option<u64> {
        let coded = self.varint()?;
        (coded & 1 == 0).then_some(coded >> 1)
    }
}
