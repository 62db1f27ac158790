//! The tensors of a trainer state as one safetensors file, written and read as a stream.
//!
//! The header is a function of names and shapes, so a reader that knows what it wants compares
//! bytes and need not parse.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::{StateError, hex, io_error};

/// Names and shapes of f32 tensors, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    names: Vec<String>,
    shapes: Vec<Vec<usize>>,
}

/// Values converted at a time.
const BLOCK: usize = 1 << 16;

impl Table {
    /// Adds a tensor.
    pub(crate) fn push(&mut self, name: String, shape: &[usize]) {
        self.names.push(name);
        self.shapes.push(shape.to_vec());
    }

    fn elements(&self, index: usize) -> usize {
        self.shapes[index].iter().product()
    }

    /// Length and JSON of a safetensors header.
    fn header(&self) -> Vec<u8> {
        let (mut entries, mut offset) = (Vec::new(), 0);
        for (index, name) in self.names.iter().enumerate() {
            let end = offset + 4 * self.elements(index);
            let (name, shape) = (json!(name), json!(self.shapes[index]));
            entries.push(format!(
                r#"{name}:{{"dtype":"F32","shape":{shape},"data_offsets":[{offset},{end}]}}"#
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
        values: &dyn Fn(usize) -> Cow<'a, [f32]>,
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
        let mut bytes = Vec::with_capacity(4 * BLOCK);
        for index in 0..self.names.len() {
            let values = values(index);
            assert_eq!(values.len(), self.elements(index), "values fit their shape");
            for block in values.chunks(BLOCK) {
                // Small tensors share a write call.
                if bytes.len() + 4 * block.len() > 4 * BLOCK {
                    put(&bytes)?;
                    bytes.clear();
                }
                bytes.extend(block.iter().flat_map(|value| value.to_le_bytes()));
            }
        }
        put(&bytes)?;
        at("sync", path)?;
        file.sync_all().map_err(io_error("sync", path))?;
        Ok(hex(&hash.finalize()))
    }

    /// The values of each tensor of a file that must hold these tensors and have this hash.
    pub(super) fn read(&self, path: &Path, sha256: &str) -> Result<Vec<Vec<f32>>, StateError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::UnexpectedEof => StateError::Tensors {
                path: path.to_owned(),
            },
            _ => io_error("read", path)(source),
        };
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
        let mut bytes = vec![0; 4 * BLOCK];
        let mut all = Vec::with_capacity(self.names.len());
        for index in 0..self.names.len() {
            let elements = self.elements(index);
            let mut values = Vec::with_capacity(elements);
            while values.len() < elements {
                let bytes = &mut bytes[..4 * BLOCK.min(elements - values.len())];
                file.read_exact(bytes).map_err(failed)?;
                hash.update(&*bytes);
                let (words, _) = bytes.as_chunks::<4>();
                values.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
            }
            all.push(values);
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
        Ok(all)
    }
}
