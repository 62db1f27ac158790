//! The tensors of a folder, in one safetensors file or in several with an index.
//!
//! Files are mapped, not read: a tensor is mapped when it is asked for and given back after its use,
//! so that memory holds one tensor of the file at a time.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use memmap2::{Mmap, MmapOptions};
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::{CheckpointError, files, io};

/// The file that holds all weights of a small model.
pub(super) const SINGLE: &str = "model.safetensors";
/// The file that says which file holds which tensor.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// Real headers have some hundred kilobytes; parsing takes several times their size.
const HEADER_LIMIT: u64 = 16 << 20;

/// How the numbers of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats with 5 bits of exponent.
    F16,
    /// 16-bit floats with 8 bits of exponent.
    Bf16,
}

impl TensorType {
    /// The name in safetensors headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// What is known of a tensor without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// How its numbers are stored.
    pub stored: TensorType,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// The weights of a checkpoint folder. No tensor is held in memory.
#[derive(Debug)]
pub struct Weights {
    files: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, Place>,
}

#[derive(Debug)]
struct Place {
    info: TensorInfo,
    file: usize,
    offset: u64,
    bytes: usize,
}

/// Which file holds which tensor, as the index says.
#[derive(Deserialize)]
pub(super) struct Index {
    pub(super) weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Reads the index of a folder, if it has one.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, CheckpointError> {
        let Some(text) = files::read(dir, INDEX)? else {
            return Ok(None);
        };
        let broken = |problem| CheckpointError::Json {
            path: dir.join(INDEX),
            problem,
        };
        serde_json::from_slice(&text).map(Some).map_err(broken)
    }
}

impl Weights {
    /// Finds the tensors of a folder: those of `model.safetensors`, else those that
    /// `model.safetensors.index.json` lists.
    ///
    /// # Errors
    /// No weights, a broken or hostile file, numbers of another kind than f32, f16 and bf16, or an
    /// index that disagrees with its files.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let (weights, problems) = Self::survey(dir)?;
        match problems.into_iter().next() {
            Some((_, problem)) => Err(problem),
            None => Ok(weights),
        }
    }

    /// Finds the tensors as [`Weights::open`] does, and all that is wrong with the files, each with
    /// the file's name: what is sound can be looked at all the same.
    ///
    /// # Errors
    /// Neither weights nor an index that can be read.
    pub(super) fn survey(
        dir: &Path,
    ) -> Result<(Self, Vec<(String, CheckpointError)>), CheckpointError> {
        files::check_folder(dir)?;
        let mut weights = Self {
            files: Vec::new(),
            tensors: BTreeMap::new(),
        };
        let mut problems = Vec::new();
        if let Some(path) = files::inside(dir, SINGLE)? {
            weights.add(path, SINGLE, &mut problems);
            return Ok((weights, problems));
        }
        let Some(index) = Index::read(dir)? else {
            return Err(CheckpointError::NoWeights {
                path: dir.to_owned(),
            });
        };
        let mut shards: Vec<&String> = index.weight_map.values().collect();
        shards.sort_unstable();
        shards.dedup();
        for name in shards {
            match files::inside(dir, name) {
                Ok(Some(path)) => weights.add(path, name, &mut problems),
                Ok(None) => {
                    let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
                    problems.push((name.clone(), io(&dir.join(name))(missing)));
                }
                Err(problem) => problems.push((name.clone(), problem)),
            }
        }
        weights.check_index(dir, &index, &mut problems);
        Ok((weights, problems))
    }

    /// Files that hold tensors.
    pub(super) fn file_count(&self) -> usize {
        self.files.len()
    }

    /// Name of the file that holds a tensor.
    pub(super) fn file_of(&self, name: &str) -> Option<String> {
        let (path, _) = &self.files[self.tensors.get(name)?.file];
        Some(path.file_name()?.to_string_lossy().into_owned())
    }

    /// Names and shapes, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors
            .iter()
            .map(|(name, place)| (name.as_str(), &place.info))
    }

    /// What is known of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|place| &place.info)
    }

    /// The values of a tensor, in row-major order. Widening to f32 is exact. None if there is no
    /// such tensor.
    ///
    /// # Errors
    /// A file that cannot be mapped, or a value that is not finite.
    pub fn read(&self, name: &str) -> Result<Option<Vec<f32>>, CheckpointError> {
        let Some(place) = self.tensors.get(name) else {
            return Ok(None);
        };
        let bytes = self.map(place)?;
        let values = widen(place.info.stored, &bytes);
        values.map(Some).map_err(not_finite(name))
    }

    /// The values of a tensor that is stored in bf16, as they are. None if there is no such tensor.
    ///
    /// # Errors
    /// Those of [`Weights::read`].
    ///
    /// # Panics
    /// If it is stored in another format.
    pub(super) fn read_bf16(&self, name: &str) -> Result<Option<Vec<bf16>>, CheckpointError> {
        let Some(place) = self.tensors.get(name) else {
            return Ok(None);
        };
        assert_eq!(place.info.stored, TensorType::Bf16, "`{name}`");
        let number = |bits| bf16::from_bits(bits).to_f32();
        let bits = each(&self.map(place)?, u16::from_le_bytes, number);
        let bits = bits.map_err(not_finite(name))?;
        Ok(Some(bits.reinterpret_into()))
    }

    /// Hands the stored bytes of a tensor to `reader`.
    pub(super) fn with_bytes<T>(
        &self,
        name: &str,
        reader: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, CheckpointError> {
        let Some(place) = self.tensors.get(name) else {
            return Ok(None);
        };
        Ok(Some(reader(&self.map(place)?)))
    }

    /// Takes in the tensors of a file, and what is wrong with it.
    fn add(&mut self, path: PathBuf, called: &str, problems: &mut Vec<(String, CheckpointError)>) {
        let opened = files::open(&path).and_then(|file| Ok((header(&path, &file)?, file)));
        let (header, file) = match opened {
            Ok(opened) => opened,
            Err(problem) => return problems.push((called.to_owned(), problem)),
        };
        let index = self.files.len();
        for (name, tensor) in header.tensors {
            let stored = match stored(&name, tensor.dtype) {
                Ok(stored) => stored,
                Err(problem) => {
                    problems.push((called.to_owned(), problem));
                    continue;
                }
            };
            let place = Place {
                info: TensorInfo {
                    stored,
                    shape: tensor.shape,
                },
                file: index,
                offset: header.end + tensor.data_offsets.0 as u64,
                bytes: tensor.data_offsets.1 - tensor.data_offsets.0,
            };
            if self.tensors.insert(name.clone(), place).is_some() {
                let path = path.clone();
                problems.push((called.to_owned(), CheckpointError::Index { path, name }));
            }
        }
        self.files.push((path, file));
    }

    /// A tensor must be where the index says, and a file must hold no tensor that it keeps quiet.
    /// Of a file that has a problem already, nothing more is said.
    fn check_index(
        &self,
        dir: &Path,
        index: &Index,
        problems: &mut Vec<(String, CheckpointError)>,
    ) {
        let known: BTreeSet<String> = problems.iter().map(|(file, _)| file.clone()).collect();
        let mut disagree = |file: &str, name: &str| {
            if !known.contains(file) {
                let (path, name) = (dir.join(file), name.to_owned());
                problems.push((file.to_owned(), CheckpointError::Index { path, name }));
            }
        };
        for name in self.tensors.keys() {
            let file = self.file_of(name).unwrap_or_default();
            if index.weight_map.get(name) != Some(&file) {
                disagree(&file, name);
            }
        }
        for (name, file) in &index.weight_map {
            if !self.tensors.contains_key(name) {
                disagree(file, name);
            }
        }
    }

    fn map(&self, place: &Place) -> Result<Mmap, CheckpointError> {
        let (path, file) = &self.files[place.file];
        map(file, place.offset, place.bytes).map_err(io(path))
    }
}

#[expect(
    unsafe_code,
    reason = "a map of a file is unsafe because another process may change or cut the file; \
              checkpoints are written once under another name and renamed, and the map is only \
              read and lives for one tensor"
)]
fn map(file: &File, offset: u64, bytes: usize) -> std::io::Result<Mmap> {
    // SAFETY: see the reason above; the length was checked against the file when it was opened.
    unsafe { MmapOptions::new().offset(offset).len(bytes).map(file) }
}

struct Header {
    tensors: Vec<(String, safetensors::tensor::TensorInfo)>,
    /// Where the first tensor begins.
    end: u64,
}

fn header(path: &Path, file: &File) -> Result<Header, CheckpointError> {
    let unsound = |problem| CheckpointError::Safetensors {
        path: path.to_owned(),
        problem,
    };
    let length = file.metadata().map_err(io(path))?.len();
    let mut first = [0; 8];
    let mut reader = file;
    match reader.read_exact(&mut first) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(unsound(safetensors::SafeTensorError::HeaderTooSmall));
        }
        Err(error) => return Err(io(path)(error)),
    }
    let bytes = u64::from_le_bytes(first);
    if bytes > HEADER_LIMIT {
        let limit = HEADER_LIMIT;
        return Err(CheckpointError::HeaderTooLarge {
            path: path.to_owned(),
            bytes,
            limit,
        });
    }
    let whole = usize::try_from(length).map_err(|_| {
        io(path)(std::io::Error::other(
            "larger than this machine's address space",
        ))
    })?;
    let mapped = map(file, 0, whole).map_err(io(path))?;
    let (_, metadata) = SafeTensors::read_metadata(&mapped).map_err(unsound)?;
    if let Some(name) = twice(&mapped) {
        let path = path.to_owned();
        return Err(CheckpointError::Twice { path, name });
    }
    let tensors = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| (name, info.clone()));
    Ok(Header {
        tensors: tensors.collect(),
        end: 8 + bytes,
    })
}

/// A name that the header of a sound file has twice: of such tensors the parser takes the last one.
pub(super) fn twice(file: &[u8]) -> Option<String> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Option<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a header")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut names, mut twice) = (HashSet::new(), None);
            while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                if !names.insert(name.clone()) {
                    twice.get_or_insert(name);
                }
            }
            Ok(twice)
        }
    }
    let (first, rest) = file.split_first_chunk::<8>()?;
    let header = rest.get(..usize::try_from(u64::from_le_bytes(*first)).ok()?)?;
    let mut reader = serde_json::Deserializer::from_slice(header);
    serde::Deserializer::deserialize_map(&mut reader, Names).ok()?
}

fn stored(name: &str, dtype: Dtype) -> Result<TensorType, CheckpointError> {
    match dtype {
        Dtype::F32 => Ok(TensorType::F32),
        Dtype::F16 => Ok(TensorType::F16),
        Dtype::BF16 => Ok(TensorType::Bf16),
        other => Err(CheckpointError::NumberType {
            name: name.to_owned(),
            found: format!("{other:?}"),
        }),
    }
}

/// The error for the value of an element, which is not finite.
fn not_finite(name: &str) -> impl FnOnce((usize, f32)) -> CheckpointError {
    move |(element, value)| CheckpointError::NotFinite {
        name: name.to_owned(),
        element,
        value,
    }
}

/// All values as f32, or the first one that is not finite and its index.
fn widen(stored: TensorType, bytes: &[u8]) -> Result<Vec<f32>, (usize, f32)> {
    let same = |value| value;
    match stored {
        TensorType::F32 => each(bytes, f32::from_le_bytes, same),
        TensorType::F16 => each(bytes, |two| f16::from_le_bytes(two).to_f32(), same),
        TensorType::Bf16 => each(bytes, |two| bf16::from_le_bytes(two).to_f32(), same),
    }
}

/// Values converted at a time: few enough to stay in a core's cache for the check.
const CHUNK: usize = 1 << 14;

/// All values as `kept`, or the first one that is not finite as `number` and its index. Zeros of `T` are memory
/// that nobody has touched yet, so it is all processors that do.
fn each<const N: usize, T: Copy + Default + Send + Sync>(
    bytes: &[u8],
    kept: impl Fn([u8; N]) -> T + Sync,
    number: impl Fn(T) -> f32 + Sync,
) -> Result<Vec<T>, (usize, f32)> {
    let (stored, _) = bytes.as_chunks::<N>();
    let mut values = vec![T::default(); stored.len()];
    let parts = values.par_chunks_mut(CHUNK).zip(stored.par_chunks(CHUNK));
    let broken = parts.enumerate().filter_map(|(part, (values, stored))| {
        // Without a branch, several values are converted and checked at once.
        let mut finite = true;
        for (slot, bytes) in values.iter_mut().zip(stored) {
            *slot = kept(*bytes);
            finite &= number(*slot).is_finite();
        }
        let broken = |value: &T| !number(*value).is_finite();
        let first = (!finite).then(|| values.iter().position(broken))??;
        Some((part * CHUNK + first, number(values[first])))
    });
    match broken.min_by_key(|(element, _)| *element) {
        Some(broken) => Err(broken),
        None => Ok(values),
    }
}
