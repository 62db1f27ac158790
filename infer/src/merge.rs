//! Files of groups put together: every group, and each once, in the order of a run.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};

use crate::journal::{Head, Stretch};

/// Why files of groups cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A file cannot be read or written.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is no group, or one that nobody asked for.
    #[error("line {line} of `{}` is {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A group is in no file.
    #[error("group {group} of problem `{problem}` is in none of the files")]
    Missing {
        /// Id of the problem.
        problem: String,
        /// Which of its groups.
        group: u32,
    },
    /// Ids went to and fro in different ways: what is trained on would be of two kinds.
    #[error(
        "`{}` has groups of `{device}`, but `{}` of `{other_device}`", path.display(),
        other.display()
    )]
    Unlike {
        /// A file.
        path: PathBuf,
        /// Where its groups were computed.
        device: String,
        /// Another file.
        other: PathBuf,
        /// Where the other's were.
        other_device: String,
    },
    /// A group is there twice.
    #[error("group {group} of problem `{problem}` is there twice")]
    Twice {
        /// Id of the problem.
        problem: String,
        /// Which of its groups.
        group: u32,
    },
}

/// Writes the groups of `files` into `to` in the order of `units`: every one, and each once.
///
/// No line is changed; `to` has its name when it is whole. Of a group only its place is held in
/// memory.
///
/// # Errors
/// If a line is none of the groups that were made under `key`, or a group is missing or there twice.
pub fn merge_files<'a>(
    files: &[PathBuf],
    units: impl Iterator<Item = (&'a str, u32)>,
    key: &str,
    to: &Path,
) -> Result<(), MergeError> {
    let units: Vec<(&str, u32)> = units.collect();
    let known: BTreeMap<(&str, u32), usize> = units
        .iter()
        .enumerate()
        .map(|(at, unit)| (*unit, at))
        .collect();
    let mut places: Vec<Option<(usize, Stretch)>> = vec![None; units.len()];
    let mut first: Option<(&Path, String)> = None;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| MergeError::Io { path, source }
    };
    for (number, path) in files.iter().enumerate() {
        let file = File::open(path).map_err(io(path))?;
        let mut lines = BufReader::with_capacity(1 << 20, file);
        let (mut line, mut from) = (Vec::new(), 0);
        for count in 1.. {
            line.clear();
            let bytes = lines.read_until(b'\n', &mut line).map_err(io(path))? as u64;
            if bytes == 0 {
                break;
            }
            let wrong = |problem: &str| MergeError::Line {
                path: path.clone(),
                line: count,
                problem: problem.to_owned(),
            };
            let head: Head = serde_json::from_slice(&line).map_err(|_| wrong("no group"))?;
            if head.origin.recipe != key {
                return Err(wrong("a group of another run"));
            }
            let (other, other_device) =
                first.get_or_insert_with(|| (path.as_path(), head.origin.device.clone()));
            if exchange(other_device) != exchange(&head.origin.device) {
                return Err(MergeError::Unlike {
                    path: path.clone(),
                    device: head.origin.device,
                    other: other.to_owned(),
                    other_device: other_device.clone(),
                });
            }
            let unit = known.get(&(head.problem.as_str(), head.group));
            let unit = *unit.ok_or_else(|| wrong("a group that is not asked for"))?;
            let place = &mut places[unit];
            if place.is_some() {
                let Head { problem, group, .. } = head;
                return Err(MergeError::Twice { problem, group });
            }
            *place = Some((number, Stretch { from, bytes }));
            from += bytes;
        }
    }
    let mut stretches = Vec::with_capacity(units.len());
    for ((problem, group), place) in units.iter().zip(places) {
        stretches.push(place.ok_or_else(|| MergeError::Missing {
            problem: (*problem).to_owned(),
            group: *group,
        })?);
    }
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let temporary = to.with_file_name(format!(".{name}.tmp"));
    let write = || -> io::Result<()> {
        let opened = files
            .iter()
            .map(|path| Ok((BufReader::new(File::open(path)?), 0)));
        let mut opened: Vec<(BufReader<File>, u64)> = opened.collect::<io::Result<_>>()?;
        let mut lines = BufWriter::with_capacity(1 << 20, File::create(&temporary)?);
        for (number, stretch) in stretches {
            let (from, at) = &mut opened[number];
            from.seek_relative(stretch.from as i64 - *at as i64)?;
            io::copy(&mut from.take(stretch.bytes), &mut lines)?;
            *at = stretch.from + stretch.bytes;
        }
        let file = lines.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_data()?;
        fs::rename(&temporary, to)
    };
    write().map_err(io(to))
}

/// How ids went to and fro, where traces say it: `remote KIND, EXCHANGE`.
fn exchange(device: &str) -> Option<&str> {
    let (_, exchange) = device.strip_prefix("remote ")?.split_once(", ")?;
    Some(exchange)
}
