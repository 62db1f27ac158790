//! The tensors of a trainer state as one safetensors file, written and read as a stream.
//!
//! The header is a function of names and shapes, so a reader that knows what it wants compares
//! bytes and need not parse.

use std::borrow::Cow;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::{StateError, hex, io_error};

/// Names, formats and shapes of tensors, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    name: String,
    format: Format,
    shape: Vec<usize>,
}

/// What the numbers of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    F32,
    /// Codes of moments in 8 bits.
    U8,
}

/// The numbers of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values<'a> {
    F32(Cow<'a, [f32]>),
    U8(Cow<'a, [u8]>),
}

impl Values<'_> {
    fn format(&self) -> Format {
        match self {
            Self::F32(_) => Format::F32,
            Self::U8(_) => Format::U8,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::U8(values) => values.len(),
        }
    }

    /// The numbers, which are f32.
    ///
    /// # Panics
    /// If they are not: a bug of the caller.
    pub(crate) fn into_f32(self) -> Vec<f32> {
        match self {
            Self::F32(values) => values.into_owned(),
            Self::U8(_) => unreachable!("a state was read by a table with codes in this place"),
        }
    }

    /// The numbers, which are codes.
    ///
    /// # Panics
    /// If they are not: a bug of the caller.
    pub(crate) fn into_codes(self) -> Vec<u8> {
        match self {
            Self::U8(values) => values.into_owned(),
            Self::F32(_) => unreachable!("a state was read by a table with f32 in this place"),
        }
    }
}

impl Entry {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn bytes(&self) -> usize {
        match self.format {
            Format::F32 => 4 * self.elements(),
            Format::U8 => self.elements(),
        }
    }
}

/// Bytes converted at a time.
const BLOCK: usize = 1 << 18;

impl Table {
    /// Adds a tensor.
    pub(crate) fn push(&mut self, name: String, format: Format, shape: &[usize]) {
        let shape = shape.to_vec();
        self.entries.push(Entry {
            name,
            format,
            shape,
        });
    }

    /// Length and JSON of a safetensors header.
    fn header(&self) -> Vec<u8> {
        let (mut entries, mut offset) = (Vec::new(), 0);
        for entry in &self.entries {
            let end = offset + entry.bytes();
            let (name, shape) = (json!(entry.name), json!(entry.shape));
            let format = match entry.format {
                Format::F32 => "F32",
                Format::U8 => "U8",
            };
            entries.push(format!(
                r#"{name}:{{"dtype":"{format}","shape":{shape},"data_offsets":[{offset},{end}]}}"#
            ));
            offset = end;
        }
        let mut text = format!("{{{}}}", entries.join(",")).into_bytes();
        // Spaces at the end, so that the values are aligned.
        text.resize(text.len().next_multiple_of(8), b' ');
        [(text.len() as u64).to_le_bytes().as_slice(), &text].concat()
    }

    /// Writes the file and waits until it is on the disk; returns its SHA-256.
    ///
    /// `values` gives the values of each tensor; they are asked for one tensor at a time.
    pub(super) fn write<'a>(
        &self,
        values: &dyn Fn(usize) -> Values<'a>,
        path: &Path,
        at: &mut dyn FnMut(&'static str, &Path) -> Result<(), StateError>,
    ) -> Result<String, StateError> {
        let failed = || io_error("write", path);
        at("write", path)?;
        let mut file = File::create(path).map_err(failed())?;
        let mut hash = Sha256::new();
        let mut put = |bytes: &[u8]| -> Result<(), StateError> {
            at("write", path)?;
            hash.update(bytes);
            file.write_all(bytes).map_err(failed())
        };
        put(&self.header())?;
        let mut bytes = Vec::with_capacity(BLOCK);
        // Small tensors share a write call.
        let mut add = |more: usize, extend: &dyn Fn(&mut Vec<u8>)| -> Result<(), StateError> {
            if bytes.len() + more > BLOCK {
                put(&bytes)?;
                bytes.clear();
            }
            extend(&mut bytes);
            Ok(())
        };
        for (index, entry) in self.entries.iter().enumerate() {
            let values = values(index);
            let fits = (values.format(), values.len()) == (entry.format, entry.elements());
            assert!(fits, "values fit their format and shape");
            match &values {
                Values::F32(values) => {
                    for block in values.chunks(BLOCK / 4) {
                        let words = || block.iter().flat_map(|value| value.to_le_bytes());
                        add(4 * block.len(), &|bytes| bytes.extend(words()))?;
                    }
                }
                Values::U8(values) => {
                    for block in values.chunks(BLOCK) {
                        add(block.len(), &|bytes| bytes.extend_from_slice(block))?;
                    }
                }
            }
        }
        put(&bytes)?;
        at("sync", path)?;
        file.sync_all().map_err(io_error("sync", path))?;
        Ok(hex(&hash.finalize()))
    }

    /// Opens a file that must hold these tensors and have this hash.
    ///
    /// It is read from end to end, but no more than a block of it is held: what is found to be damaged
    /// must not have taken the place of anything yet.
    pub(super) fn open(self, path: &Path, sha256: &str) -> Result<Stored, StateError> {
        let failed = |source| read_error(path, source);
        let mut file = File::open(path).map_err(failed)?;
        let expected = self.header();
        let mut header = vec![0; expected.len()];
        file.read_exact(&mut header).map_err(failed)?;
        if header != expected {
            return Err(StateError::Tensors {
                path: path.to_owned(),
            });
        }
        let mut hash = Sha256::new();
        hash.update(&header);
        let (mut places, mut offset) = (Vec::new(), header.len() as u64);
        for entry in self.entries {
            let sum =
                blocks(&mut file, entry.bytes(), |bytes| hash.update(bytes)).map_err(failed)?;
            let bytes = entry.bytes() as u64;
            places.push(Stretch { entry, offset, sum });
            offset += bytes;
        }
        if file.read(&mut [0]).map_err(failed)? != 0 {
            return Err(StateError::Tensors {
                path: path.to_owned(),
            });
        }
        let found = hex(&hash.finalize());
        if found != sha256 {
            let (path, expected) = (path.to_owned(), sha256.to_owned());
            return Err(StateError::Damaged {
                path,
                found,
                expected,
            });
        }
        Ok(Stored {
            path: path.to_owned(),
            file,
            places,
        })
    }
}

/// The tensors of a file that is whole, read one at a time: all of them together are as large as what a
/// training holds.
#[derive(Debug)]
pub(crate) struct Stored {
    path: PathBuf,
    file: File,
    places: Vec<Stretch>,
}

/// Where a tensor stands in the file.
#[derive(Debug)]
struct Stretch {
    entry: Entry,
    /// Bytes before it.
    offset: u64,
    /// Of its bytes, when their SHA-256 was made.
    sum: u64,
}

impl Stored {
    /// The values of the tensor at `index` of the table.
    ///
    /// # Errors
    /// If the disk refuses, or gives other bytes than when their SHA-256 was made.
    pub(crate) fn read(&mut self, index: usize) -> Result<Values<'static>, StateError> {
        let Self { path, file, places } = self;
        let failed = |source| read_error(path, source);
        let Stretch { entry, offset, sum } = &places[index];
        file.seek(SeekFrom::Start(*offset)).map_err(failed)?;
        let elements = entry.elements();
        let (values, found) = match entry.format {
            Format::F32 => {
                let mut values = Vec::with_capacity(elements);
                let found = blocks(file, entry.bytes(), |bytes| {
                    let (words, _) = bytes.as_chunks::<4>();
                    values.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
                });
                (Values::F32(values.into()), found)
            }
            Format::U8 => {
                let mut values = Vec::with_capacity(elements);
                let found = blocks(file, entry.bytes(), |bytes| values.extend_from_slice(bytes));
                (Values::U8(values.into()), found)
            }
        };
        if found.map_err(failed)? != *sum {
            return Err(StateError::Unsteady { path: path.clone() });
        }
        Ok(values)
    }
}

/// Reads the next `count` bytes block by block; returns a sum of them, by which two readings of the same
/// stretch in one process are told apart. It costs a part of what SHA-256 does.
fn blocks(file: &mut File, count: usize, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
    let (mut bytes, mut left, mut sum) = (vec![0; BLOCK.min(count)], count, DefaultHasher::new());
    while left > 0 {
        let bytes = &mut bytes[..BLOCK.min(left)];
        left -= bytes.len();
        file.read_exact(bytes)?;
        sum.write(bytes);
        take(bytes);
    }
    Ok(sum.finish())
}

/// A file that ends too early holds other tensors.
fn read_error(path: &Path, source: io::Error) -> StateError {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => StateError::Tensors {
            path: path.to_owned(),
        },
        _ => io_error("read", path)(source),
    }
}
